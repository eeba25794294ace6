//! Exit codes, as numbers and as each command's help has them. Arguments that clap refuses are [`UNUSABLE`], too.

/// The command could not be carried out.
pub(super) const FAILED: u8 = 1;
/// It was done, and there are warnings (`check-config`, `reload`).
pub(super) const WARNINGS: u8 = 1;
/// The configuration can't be used, or no answer says that it is in force (`run`, `check-config`, `reload`).
pub(super) const UNUSABLE: u8 = 2;
/// Connections were left when the time to wait was over (`drain`).
pub(super) const CONNECTIONS_LEFT: u8 = 2;
/// Another agent runs in this network namespace (`run`).
pub(super) const ALREADY_RUNNING: u8 = 3;

/// A task that the agent can't do without has ended (`run`).
pub(super) const TASK_ENDED: u8 = 4;

/// The codes of `run`.
pub(super) const OF_RUN: &str = "\
Exit codes:
  0  The agent was stopped
  1  The agent could not start
  2  The configuration cannot be used
  3  Another agent runs in this network namespace
  4  The agent had to end itself: an internal error, told in the log; the kernel's table stays as it was";

/// The codes of `check-config`.
pub(super) const OF_CHECK_CONFIG: &str = "\
Exit codes:
  0  The configuration is valid
  1  The configuration is valid, with warnings
  2  The configuration cannot be used";

/// The codes of `reload`.
pub(super) const OF_RELOAD: &str = "\
Exit codes:
  0  The new configuration is in force
  1  The new configuration is in force, with warnings
  2  The old configuration stays in force, or no agent answers";

/// The codes of `drain`.
pub(super) const OF_DRAIN: &str = "\
Exit codes:
  0  The server is drained; after waiting, it has no active connections
  1  The server could not be drained
  2  Connections were left at the timeout; the server stays drained";

/// A server is not up, or its clients fail (`status`).
pub(super) const DEGRADED: u8 = 1;
/// A service has no server (`status`).
pub(super) const NO_SERVER: u8 = 2;
/// No agent answers, or it doesn't know (`status`).
pub(super) const NO_STATUS: u8 = 3;

/// The codes of `status`.
pub(super) const OF_STATUS: &str = "\
Exit codes:
  0  All servers are up, but those that people hold out
  1  Degraded: a server is not up, or its clients fail, or the quorum is lost
  2  A service has no server (or the arguments are wrong)
  3  No agent answers, or it has no such service";

/// A service isn't healthy (`healthy`).
pub(super) const UNHEALTHY: u8 = 1;
/// A service isn't known yet to be healthy (`healthy`).
pub(super) const NOT_KNOWN: u8 = 2;
/// No agent answers, or it has no such service (`healthy`).
pub(super) const NO_AGENT: u8 = 3;
/// The agent doesn't answer in time: it is stopped or stuck (`healthy`).
pub(super) const STUCK: u8 = 4;

/// The codes of `healthy`.
pub(super) const OF_HEALTHY: &str = "\
Exit codes:
  0  All services that were asked about are healthy
  1  At least one is not: it has no quorum, or too small a share of it is up
  2  At least one is not known yet (or the arguments are wrong)
  3  No agent answers, or it has no such service
  4  The agent is stopped or stuck: it gave no answer in time";

/// A check failed or could not be made (`check`).
pub(super) const CHECK_FAILED: u8 = 1;
/// There is no such server, no agent answers, or the configuration can't be used (`check`).
pub(super) const NOT_CHECKED: u8 = 2;

/// The codes of `check`.
pub(super) const OF_CHECK: &str = "\
Exit codes:
  0  All checks succeeded
  1  A check failed, or could not be made
  2  There is no such server, no agent answers, or the configuration cannot be used";

/// The codes of the commands that are done or not: `events`, `undrain`, `maintenance`.
pub(super) const OF_OTHERS: &str = "\
Exit codes:
  0  Done
  1  Failed";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::cli::Cli;

    /// The table of all codes.
    const DOCUMENT: &str = include_str!("../../../docs/troubleshooting.md");

    #[test]
    fn the_document_has_the_codes_of_every_command() {
        for command in Cli::command().get_subcommands() {
            let name = format!("`{}`", command.get_name());
            let mut rows = DOCUMENT.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
            let row = rows.find(|row| row.get(1).is_some_and(|commands| commands.contains(&name)));
            let row = row.unwrap_or_else(|| panic!("{name} has no row"));
            let documented: Vec<_> = (0..5).filter(|code| !row[code + 2].is_empty()).collect();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let code = |line: &str| line.split_once("  ")?.0.parse().ok();
            let told: Vec<usize> = help.lines().filter_map(|line| code(line.trim_start())).collect();
            assert_eq!(documented, told, "{name}");
        }
    }
}
