//! The synchronisation daemons that are to run, and how those that do differ from them. Pure.

use std::{fmt, net::IpAddr};

use super::codec::{Daemon, DaemonRole};
use crate::model::{SyncGroup, SyncLength, SyncRole, SyncSettings};

impl DaemonRole {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Master, Self::Backup];
}

impl fmt::Display for DaemonRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Backup => "backup",
        })
    }
}

/// A daemon as it is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedDaemon {
    /// Whether it sends or receives.
    pub role: DaemonRole,
    /// The device that it uses.
    pub device: String,
    /// Daemons with the same number belong together.
    pub sync_id: u8,
    /// The multicast group.
    pub group: SyncGroup,
    /// The UDP port.
    pub port: u16,
    /// The messages' time to live.
    pub ttl: u8,
    /// The longest message; `None`: whatever the kernel takes.
    pub longest_message: Option<SyncLength>,
}

impl WantedDaemon {
    /// Those that a configuration asks for, one of each role at most.
    #[must_use]
    pub fn of(settings: &SyncSettings) -> Vec<Self> {
        let roles: &[DaemonRole] = match settings.role {
            SyncRole::Master => &[DaemonRole::Master],
            SyncRole::Backup => &[DaemonRole::Backup],
            SyncRole::Both => &DaemonRole::ALL,
        };
        let daemon = |role: &DaemonRole| Self {
            role: *role,
            device: settings.interface.clone(),
            sync_id: settings.id,
            group: settings.group,
            port: settings.port.get(),
            ttl: settings.ttl.get(),
            longest_message: settings.maxlen,
        };
        roles.iter().map(daemon).collect()
    }

    /// As the kernel is asked for it.
    #[must_use]
    pub fn to_daemon(&self) -> Daemon {
        Daemon {
            role: self.role,
            device: self.device.clone(),
            sync_id: self.sync_id.into(),
            longest_message: self.longest_message.map_or(0, SyncLength::bytes),
            group: Some(self.group.address()),
            port: self.port,
            ttl: self.ttl,
        }
    }

    /// What is otherwise about a daemon that runs, in words; none: it is as wanted.
    #[must_use]
    pub fn differences(&self, running: &Daemon) -> Vec<String> {
        let group = |group: Option<IpAddr>| group.unwrap_or(SyncGroup::USUAL.address());
        let length = self.longest_message.map_or(running.longest_message, SyncLength::bytes);
        let one = |what: &str, is: &dyn fmt::Display, wanted: &dyn fmt::Display| {
            let (is, wanted) = (is.to_string(), wanted.to_string());
            (is != wanted).then(|| format!("its {what} is {is}, not {wanted}"))
        };
        let all = [
            one("interface", &running.device, &self.device),
            one("id", &running.sync_id, &self.sync_id),
            one("group", &group(running.group), &self.group),
            one("port", &running.port, &self.port),
            one("ttl", &running.ttl, &self.ttl),
            one("maxlen", &running.longest_message, &length),
        ];
        all.into_iter().flatten().collect()
    }
}

/// One change of the daemons: one message to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DaemonEdit {
    /// One starts.
    Start(Daemon),
    /// The one of that role stops.
    Stop(DaemonRole),
}

impl DaemonEdit {
    /// Which daemon it is about.
    #[must_use]
    pub fn role(&self) -> DaemonRole {
        match self {
            Self::Start(daemon) => daemon.role,
            Self::Stop(role) => *role,
        }
    }
}

impl fmt::Display for DaemonEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(Daemon { role, device, sync_id, .. }) => {
                write!(f, "start sync daemon {role} on {device} with id {sync_id}")
            }
            Self::Stop(role) => write!(f, "stop sync daemon {role}"),
        }
    }
}

/// The edits that make the daemon of this role as wanted: the kernel can't change one that runs.
#[must_use]
pub fn daemon_difference(
    role: DaemonRole,
    running: &[Daemon],
    wanted: Option<&WantedDaemon>,
) -> Vec<DaemonEdit> {
    let running = running.iter().find(|daemon| daemon.role == role);
    let is_right = match (running, wanted) {
        (None, None) => true,
        (Some(running), Some(wanted)) => wanted.differences(running).is_empty(),
        _ => false,
    };
    if is_right {
        return Vec::new();
    }
    let stop = running.map(|_| DaemonEdit::Stop(role));
    stop.into_iter().chain(wanted.map(|wanted| DaemonEdit::Start(wanted.to_daemon()))).collect()
}

/// Does to these daemons what the kernel does to its own; `false`: it would refuse.
pub fn apply_daemon_edit(daemons: &mut Vec<Daemon>, edit: &DaemonEdit) -> bool {
    let running = daemons.iter().position(|daemon| daemon.role == edit.role());
    match (edit, running) {
        (DaemonEdit::Start(daemon), None) => daemons.push(daemon.clone()),
        (DaemonEdit::Stop(_), Some(index)) => drop(daemons.remove(index)),
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*, sample::select};

    use super::*;

    prop_compose! {
        fn settings()(
            role in select(&[SyncRole::Master, SyncRole::Backup, SyncRole::Both][..]),
            (interface, id, port) in ("eth[01]", 0_u8..3, 8848_u16..8850),
            group in select(&["224.0.0.81", "239.0.0.1", "ff02::81"][..]),
            maxlen in option::of(1024_u16..1026),
        ) -> SyncSettings {
            SyncSettings {
                role,
                id,
                group: SyncGroup::new(group.parse().unwrap()).unwrap(),
                port: port.try_into().unwrap(),
                maxlen: maxlen.and_then(SyncLength::new),
                ..SyncSettings::on(interface)
            }
        }
    }

    /// Whatever others may have started: at most one of each role.
    fn running() -> impl Strategy<Value = Vec<Daemon>> {
        let one = |role| {
            option::of((settings(), any::<bool>()).prop_map(move |(settings, usual)| {
                let wanted = WantedDaemon { role, ..WantedDaemon::of(&settings)[0].clone() };
                let daemon = wanted.to_daemon();
                if usual { Daemon { group: None, longest_message: 1472, ..daemon } } else { daemon }
            }))
        };
        (one(DaemonRole::Master), one(DaemonRole::Backup))
            .prop_map(|(master, backup)| master.into_iter().chain(backup).collect())
    }

    fn difference(running: &[Daemon], wanted: &[WantedDaemon]) -> Vec<DaemonEdit> {
        let of = |role| {
            let wanted = wanted.iter().find(|daemon| daemon.role == role);
            daemon_difference(role, running, wanted)
        };
        DaemonRole::ALL.into_iter().flat_map(of).collect()
    }

    proptest! {
        #[test]
        fn the_edits_make_the_daemons_as_wanted_and_twice_changes_nothing(
            mut running in running(),
            settings in option::of(settings()),
        ) {
            let wanted = settings.as_ref().map(WantedDaemon::of).unwrap_or_default();
            for edit in difference(&running, &wanted) {
                prop_assert!(apply_daemon_edit(&mut running, &edit), "{} of {:?}", edit, running);
            }
            prop_assert_eq!(running.len(), wanted.len());
            for daemon in &wanted {
                let found = running.iter().find(|one| one.role == daemon.role).unwrap();
                prop_assert_eq!(daemon.differences(found), Vec::<String>::new());
            }
            prop_assert_eq!(difference(&running, &wanted), []);
        }

        #[test]
        fn a_daemon_that_is_right_is_left_alone(settings in settings()) {
            let wanted = WantedDaemon::of(&settings);
            // What the kernel tells of a daemon where nothing was said.
            let running: Vec<Daemon> = wanted.iter().map(|daemon| {
                let daemon = daemon.to_daemon();
                if daemon.longest_message == 0 { Daemon { longest_message: 1472, ..daemon } } else { daemon }
            }).collect();
            prop_assert_eq!(difference(&running, &wanted), []);
        }
    }

    #[test]
    fn differences_are_told_in_words() {
        let wanted = &WantedDaemon::of(&SyncSettings::on("eth1"))[0];
        let running = Daemon { device: "eth0".to_owned(), sync_id: 7, ..wanted.to_daemon() };
        assert_eq!(wanted.differences(&running), ["its interface is eth0, not eth1", "its id is 7, not 0"]);
        let start = DaemonEdit::Start(running).to_string();
        assert_eq!(start, "start sync daemon master on eth0 with id 7");
    }
}
