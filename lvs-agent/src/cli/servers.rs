//! `lvs-agent drain`, `undrain` and `maintenance`: the client's side. It is the client that waits for connections to
//! end, so that it may be stopped at any time: the server stays drained.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use humantime::{format_duration, parse_duration};
use tokio::time::{Instant, sleep};

use super::{
    arguments::{ControlArguments, unexpected},
    exit_code,
};
use crate::control::{self, AffectedServer, Reply, Request, ServerName, escaped};

/// How often the agent is asked how many connections are left, …
const EVERY: Duration = Duration::from_secs(1);
/// … and at most one part in so many of the time is spent on asking.
const SHARE: u32 = 10;

/// Which servers a command is about.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServerArguments {
    /// The real server; without a port, all its ports.
    #[arg(value_name = "ADDRESS[:PORT]")]
    pub(super) server: ServerName,
    /// Only in this service, given by name or address.
    #[arg(long, value_name = "SERVICE")]
    pub(super) service: Option<String>,
    #[command(flatten)]
    pub(super) control: ControlArguments,
}

/// Which servers are drained, and whether their connections are waited for.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DrainArguments {
    #[command(flatten)]
    servers: ServerArguments,
    /// Wait until the server has no active connections.
    #[arg(long)]
    until_empty: bool,
    /// Stop waiting after this time, such as 5m; the server stays drained.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Remove the server from the table once it has no active connections.
    #[arg(long)]
    remove: bool,
}

/// Which servers are put into maintenance, or no longer.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct MaintenanceArguments {
    #[command(flatten)]
    servers: ServerArguments,
    /// `on` puts the server into maintenance, `off` ends its maintenance.
    #[arg(value_enum, value_name = "on|off", hide_possible_values = true)]
    switch: Switch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// Drains servers, and waits if the arguments say so.
pub(super) async fn drain(arguments: &DrainArguments) -> anyhow::Result<ExitCode> {
    let DrainArguments { servers, until_empty, timeout, remove } = arguments;
    let drain = |remove| {
        let ServerArguments { server, service, .. } = servers.clone();
        Request::Drain { server, service, remove }
    };
    let drained = servers.ask(&drain(false)).await?;
    print(&drained)?;
    if !(*until_empty || *remove || timeout.is_some()) {
        return Ok(ExitCode::SUCCESS);
    }
    if drained.iter().all(|server| server.observed) {
        bail!("not waiting: in mode observe the kernel goes on giving it connections");
    }
    if !servers.wait_until_empty(*timeout).await? {
        return Ok(ExitCode::from(exit_code::CONNECTIONS_LEFT));
    }
    if *remove {
        print(&servers.ask(&drain(true)).await?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets servers have new connections again.
pub(super) async fn undrain(arguments: &ServerArguments) -> anyhow::Result<ExitCode> {
    let ServerArguments { server, service, .. } = arguments.clone();
    print(&arguments.ask(&Request::Undrain { server, service }).await?)?;
    Ok(ExitCode::SUCCESS)
}

/// Takes servers out as if they had failed, or lets their health decide again.
pub(super) async fn maintenance(arguments: &MaintenanceArguments) -> anyhow::Result<ExitCode> {
    let ServerArguments { server, service, .. } = arguments.servers.clone();
    let on = arguments.switch == Switch::On;
    print(&arguments.servers.ask(&Request::Maintenance { server, service, on }).await?)?;
    Ok(ExitCode::SUCCESS)
}

impl ServerArguments {
    async fn ask(&self, request: &Request) -> anyhow::Result<Vec<AffectedServer>> {
        match control::ask(self.control.path(), request).await? {
            Reply::Servers(servers) => Ok(servers),
            _ => Err(unexpected()),
        }
    }

    /// Waits until the servers have no active connections; `false` if some are left after `patience`.
    async fn wait_until_empty(&self, patience: Option<Duration>) -> anyhow::Result<bool> {
        let begun = Instant::now();
        let ServerArguments { server, service, .. } = self.clone();
        let request = Request::Connections { server, service };
        let mut printed = None;
        loop {
            let request_start = Instant::now();
            let servers = self.ask(&request).await?;
            let left: u64 =
                servers.iter().filter_map(|one| one.connections).map(|one| u64::from(one.active)).sum();
            if left == 0 {
                writeln!(io::stdout(), "no connections are left").context("writing to standard output")?;
                return Ok(true);
            }
            if printed.replace(left) != Some(left) {
                let plural = if left == 1 { "" } else { "s" };
                writeln!(io::stdout(), "{left} active connection{plural}")
                    .context("writing to standard output")?;
            }
            let pause = EVERY.max(request_start.elapsed() * SHARE);
            if let Some(patience) = patience
                && begun.elapsed() + pause > patience
            {
                sleep(patience.saturating_sub(begun.elapsed())).await;
                writeln!(
                    io::stderr(),
                    "lvs-agent: connections are left after {}; the server stays drained",
                    format_duration(patience)
                )
                .context("writing to standard error")?;
                return Ok(false);
            }
            sleep(pause).await;
        }
    }
}

fn print(servers: &[AffectedServer]) -> anyhow::Result<()> {
    for server in servers {
        writeln!(io::stdout(), "{}", escaped(&server.to_string())).context("writing to standard output")?;
    }
    // It is the same for all. In `observe` nothing is in effect that could be kept.
    let mut in_effect = servers.iter().filter(|server| !server.observed);
    if let Some(reason) = in_effect.find_map(|server| server.not_kept.as_ref()) {
        writeln!(
            io::stderr(),
            "lvs-agent: this is in effect, but not kept: {reason}; it is lost when the agent stops, unless it can be \
             saved until then"
        )
        .context("writing to standard error")?;
    }
    Ok(())
}
