//! What several directors have with each other: the role, and the synchronisation daemons.

use std::net::SocketAddr;

use tokio::sync::{mpsc, watch as latest};

use super::{
    commands::SAVE_TIMEOUT,
    request::{TIMEOUT, request},
};
use crate::{
    control::{Reply, RoleOrder, RoleReply, RoleStatus, SyncDaemonStatus},
    event::RoleState,
    ipvs::{Daemon, DaemonRole, WantedDaemon},
    messages::{RoleAnswer, RoleRequest},
    model::SyncGroup,
    reconcile::sync_daemons::{self, WantedDaemons},
    state_file::Kept,
};

/// Where the role and the daemons are known.
#[derive(Clone, Debug)]
pub(crate) struct DirectorHandle {
    /// The controller, which has the role.
    pub(crate) role: mpsc::Sender<RoleRequest>,
    /// The daemons that are to run.
    pub(crate) wanted: latest::Receiver<WantedDaemons>,
}

impl DirectorHandle {
    /// Orders a role, or only asks for it.
    pub(super) async fn role(&self, order: Option<RoleOrder>) -> Reply {
        let answer = request(&self.role, TIMEOUT, |reply| RoleRequest { order, reply }).await;
        let RoleAnswer { state, is_ordered, saved } = match answer {
            Ok(answer) => answer,
            Err(message) => return Reply::Error(message),
        };
        let is_new = order.is_some();
        let not_kept = match saved.filter(|_| is_new || is_ordered) {
            None if is_new => Some("there is no state file".to_owned()),
            None => None,
            Some(receipt) => match receipt.written(SAVE_TIMEOUT).await {
                Kept::Written => None,
                Kept::Failed(reason) => Some(format!("the state file can't be written: {reason}")),
                Kept::Pending => {
                    Some(format!("the state file took longer than {} s", SAVE_TIMEOUT.as_secs()))
                }
            },
        };
        Reply::Role(RoleReply { status: status_of(state), not_kept })
    }

    /// The role for the status.
    pub(super) async fn role_status(&self) -> Option<RoleStatus> {
        let answer = request(&self.role, TIMEOUT, |reply| RoleRequest { order: None, reply }).await;
        answer.ok().map(|answer| status_of(answer.state))
    }

    /// The daemons for the status, as they are now.
    pub(super) async fn daemons(&self) -> Result<Vec<SyncDaemonStatus>, String> {
        let running = sync_daemons::running().await.map_err(|error| error.to_string())?;
        Ok(daemons(&running, &self.wanted.borrow().clone()))
    }
}

fn status_of(RoleState { role, reason }: RoleState) -> RoleStatus {
    RoleStatus { role: role.to_string(), reason: reason.name().to_owned(), text: reason.to_string() }
}

/// Those that run and those that are to, master first.
fn daemons(running: &[Daemon], wanted: &WantedDaemons) -> Vec<SyncDaemonStatus> {
    let one = |role| {
        let running = running.iter().find(|daemon| daemon.role == role);
        let (daemon, fault) = wanted.iter().find(|(daemon, _)| daemon.role == role).cloned().unzip();
        let shown = running.cloned().or_else(|| daemon.as_ref().map(WantedDaemon::to_daemon))?;
        let fault = fault.flatten();
        let (state, problem) = match (running, daemon) {
            (_, None) if wanted.is_empty() => ("unmanaged", None),
            (_, None) => ("differs", Some("it is not in the configuration".to_owned())),
            (None, Some(_)) => ("missing", fault),
            (Some(running), Some(daemon)) => match daemon.differences(running) {
                differences if differences.is_empty() => ("as-configured", fault),
                differences => ("differs", fault.or_else(|| Some(differences.join(", ")))),
            },
        };
        let group = shown.group.unwrap_or(SyncGroup::USUAL.address());
        Some(SyncDaemonStatus {
            role: role.to_string(),
            state: state.to_owned(),
            interface: shown.device,
            id: shown.sync_id,
            group: SocketAddr::new(group, shown.port),
            problem,
        })
    };
    DaemonRole::ALL.into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SyncSettings;

    #[test]
    fn daemons_are_shown_beside_what_they_are_to_be() {
        let wanted = WantedDaemon::of(&SyncSettings::on("eth1"));
        let [master, backup] = [wanted[0].to_daemon(), wanted[1].to_daemon()];
        let fault = Some("there is no interface eth1".to_owned());
        let both: WantedDaemons = [(wanted[0].clone(), None), (wanted[1].clone(), fault)].into();
        let none = WantedDaemons::from([]);
        let only_backup: WantedDaemons = [(wanted[1].clone(), None)].into();
        let states = |running: &[Daemon], wanted: &WantedDaemons| {
            let shown = daemons(running, wanted);
            shown
                .into_iter()
                .map(|one| (one.role, one.state, one.problem.unwrap_or_default()))
                .collect::<Vec<_>>()
        };
        let of =
            |role: &str, state: &str, problem: &str| (role.to_owned(), state.to_owned(), problem.to_owned());
        assert_eq!(
            states(std::slice::from_ref(&master), &both),
            [of("master", "as-configured", ""), of("backup", "missing", "there is no interface eth1")]
        );
        let other = Daemon { sync_id: 7, ..master.clone() };
        assert_eq!(states(&[other], &both)[0], of("master", "differs", "its id is 7, not 0"));
        assert_eq!(states(&[backup], &none), [of("backup", "unmanaged", "")]);
        assert_eq!(
            states(&[master], &only_backup)[0],
            of("master", "differs", "it is not in the configuration")
        );
        assert_eq!(states(&[], &none), []);
    }
}
