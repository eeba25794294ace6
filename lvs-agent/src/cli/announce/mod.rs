//! `lvs-agent announce`: tells another program which VIPs are to be announced.

mod exabgp;
mod lines;

use std::process::ExitCode;

use clap::Subcommand;

/// Whom to tell.
#[derive(Debug, Subcommand)]
pub(super) enum AnnounceCommand {
    /// Be a process of exabgp (`process lvs { run …; encoder text; }`): announce the VIPs whose services are healthy,
    /// withdraw the others, and all of them when the agent is gone or stuck.
    #[command(after_help = super::exit_code::OF_OTHERS)]
    Exabgp(exabgp::ExabgpArguments),
}

/// Tells until nobody listens any more.
pub(super) async fn announce(command: &AnnounceCommand) -> anyhow::Result<ExitCode> {
    match command {
        AnnounceCommand::Exabgp(arguments) => exabgp::follow(arguments).await,
    }
}
