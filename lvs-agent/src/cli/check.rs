//! `lvs-agent check`: probes servers now, and shows each step.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;

use super::{
    arguments::unexpected,
    exit_code,
    rights::{self, Privileges},
    servers::ServerArguments,
    status::print,
    terminal::Terminal,
};
use crate::{
    admin::check::check_now,
    config::{Strictness, read_file},
    control::{self, Checked, Reply, Request, escaped_json},
    engine::selection::ServerSelector,
    probe::Prober,
};

/// Which servers are probed, and by whom.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    servers: ServerArguments,
    /// Probe from this program, as this configuration file says; without it the running agent probes.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Probes, and prints what has come of it.
pub(super) async fn check(arguments: &CheckArguments) -> ExitCode {
    let shown = async {
        let checked = match &arguments.config {
            Some(file) => arguments.probe_here(file.clone()).await?,
            None => arguments.ask_agent().await?,
        };
        print(&arguments.text(&checked)?)?;
        Ok(ExitCode::from(if checked.all_answered() { 0 } else { exit_code::CHECK_FAILED }))
    };
    let failed = |error| super::failed(&format_args!("{error:#}"), exit_code::NOT_CHECKED);
    shown.await.unwrap_or_else(|error: anyhow::Error| failed(error))
}

impl CheckArguments {
    /// The agent's probes, with its rights and from its place in the network.
    async fn ask_agent(&self) -> anyhow::Result<Checked> {
        let ServerArguments { server, service, control } = self.servers.clone();
        let asked = control::ask(control.path(), &Request::Check { server, service }).await;
        match asked.context("to probe without an agent, name its configuration with --config")? {
            Reply::Checked(checked) => Ok(checked),
            _ => Err(unexpected()),
        }
    }

    /// Probes of this program's own.
    async fn probe_here(&self, file: PathBuf) -> anyhow::Result<Checked> {
        let reading = read_file(&file, Strictness::Lenient)?;
        let rights = rights::settle(&reading.config, Some(reading.format), Privileges::Kept, Ok(()))
            .context("`script-user` in `[agent]`")?;
        let prober = Prober::new().marked(reading.config.agent.probe_mark).with_commands_as(rights.run_as);
        let ServerArguments { server, service, .. } = self.servers.clone();
        let selector = ServerSelector { server, service };
        Ok(check_now(&reading.config.services, &selector, &prober).await?)
    }

    fn text(&self, checked: &Checked) -> anyhow::Result<String> {
        if !self.json {
            return Ok(checked.text(Terminal::of_stdout().map(Terminal::style).unwrap_or_default()));
        }
        let json = serde_json::to_string(checked).context("writing JSON")?;
        Ok(escaped_json(&json).into_owned() + "\n")
    }
}
