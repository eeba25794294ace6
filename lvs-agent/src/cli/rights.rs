//! What a run of the agent may do: capabilities that it doesn't need are dropped before there are other threads, and
//! what it lacks is said once.

use std::io;

use tracing::warn;

use crate::{
    config::Format,
    model::{CheckKind, Config, VirtualService},
    privileges::{self, AccountError, Needs, RunAs},
};

/// Whether capabilities are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privileges {
    /// What isn't needed is dropped.
    Needed,
    /// The process keeps what it was started with.
    Kept,
}

/// Whom commands run as, and what is to be said of the process's rights once there is a log.
pub(super) struct Rights {
    /// Whom commands of checks run as.
    pub(super) run_as: RunAs,
    warnings: Vec<String>,
}

/// Drops what no configuration needs; before the configuration is read, so that a reload can read what was read now.
pub(super) fn at_start(privileges: Privileges) -> io::Result<()> {
    match privileges {
        Privileges::Needed => privileges::drop_at_start(),
        Privileges::Kept => Ok(()),
    }
}

/// Drops what this configuration doesn't need, and finds out whom commands run as. `dropped` is what became of the
/// first drop.
pub(super) fn settle(
    config: &Config,
    format: Option<Format>,
    privileges: Privileges,
    dropped: io::Result<()>,
) -> Result<Rights, AccountError> {
    let wanted = config.agent.script_user.as_ref();
    let (run_as, shortfall) =
        RunAs::for_commands(wanted.map(|user| (user.user.as_str(), user.group.as_deref())))?;
    let needs = Needs {
        passive: config.passive.enabled,
        listens_on: config.agent.metrics.map(|address| address.port()),
        other_users: run_as.is_other_user(),
    };
    let narrowed = match privileges {
        Privileges::Needed => privileges::drop_unneeded(needs),
        Privileges::Kept => Ok(()),
    };
    let mut warnings = Vec::new();
    if let Err(error) = dropped.and(narrowed) {
        warnings.push(format!("capabilities that aren't needed can't be dropped: {error}"));
    }
    if has_commands(config) {
        warnings.extend(shortfall.map(|shortfall| shortfall.to_string()));
        if format == Some(Format::Ldirectord) && run_as.is_root() {
            warnings.push(
                "commands of checks run as root, as ldirectord runs them; `script-user` in the agent's own format \
                 (check-config --to toml) names another user"
                    .to_owned(),
            );
        }
    }
    if !privileges::has_raw_sockets() {
        warnings.push(
            "without CAP_NET_RAW no ping can be sent: `ping` checks, and probes of servers without a TCP port, can't \
             be made"
                .to_owned(),
        );
    }
    Ok(Rights { run_as, warnings })
}

impl Rights {
    /// Says what is to be said. Once.
    pub(super) fn warn(&self) {
        for warning in &self.warnings {
            warn!("{warning}");
        }
    }
}

/// Whether a check of any server runs a command. Those that a reload adds are not known yet.
fn has_commands(config: &Config) -> bool {
    let mut checks = config.services.iter().flat_map(VirtualService::all_checks);
    checks.any(|(_, _, check)| matches!(check.kind, CheckKind::Command(_)))
        || matches!(config.unlisted.check.kind, CheckKind::Command(_))
}
