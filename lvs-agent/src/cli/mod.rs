//! The command line, and what stands around a run: the log and the runtime.

mod arguments;
mod check_config;
mod servers;

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{EnvFilter, fmt::writer::BoxMakeWriter};

use self::{
    arguments::{ControlArguments, small_runtime},
    servers::{DrainArguments, MaintenanceArguments, ServerArguments},
};
use crate::{
    agent::{self, InstanceRole},
    config::{Source, Strictness},
    control::{self, Reply, Request},
    event::{ConfigNotice, Event, Publisher},
    log::{self, LogThread},
    model::{
        Config, LogTarget, Mode,
        defaults::{CONTROL, METRICS, STATE},
    },
    telemetry::log::EventLog,
};

/// A health checker for LVS directors: the traffic itself raises a suspicion, active probes confirm it, and only then
/// the kernel's IPVS table is changed.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// Format of the log lines; `json` writes one object a line.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Log filter, as `LEVEL` or `TARGET=LEVEL,…` (error, warn, info, debug, trace).
    #[arg(long, global = true, env = "LVS_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent: check the real servers and update the kernel's IPVS table, until SIGTERM or SIGINT.
    Run(RunArguments),
    /// Validate a configuration file and print what the agent understands; nothing is changed. Exit code 1: there are
    /// warnings, 2: the file is faulty.
    CheckConfig(CheckArguments),
    /// Show the services and servers of a running agent, and how much of their traffic it sees.
    Status(StatusArguments),
    /// Make a running agent reload its configuration. Exit code 1: there are warnings, 2: the old configuration stays
    /// in force.
    Reload(ControlArguments),
    /// Stop new connections to a server, and optionally wait until it has none. Exit code 2: connections were left at
    /// the timeout.
    Drain(DrainArguments),
    /// End the drain of a server: it gets new connections again.
    Undrain(ServerArguments),
    /// Put a server into maintenance, as if it had failed (`on`), or end its maintenance (`off`).
    Maintenance(MaintenanceArguments),
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// Configuration file, in the agent's own format (TOML) or ldirectord's. Without one the agent observes the
    /// kernel's table and writes nothing to it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What the agent may change in the kernel's table; overrides `mode` in the configuration.
    #[arg(long, value_enum, value_name = "MODE")]
    mode: Option<ModeArgument>,
    /// Refuse a file that ldirectord would refuse.
    #[arg(long, requires = "config")]
    strict: bool,
    /// Another agent has started this one for its `execute`: where the control socket and the metrics are those of every
    /// agent, there are none.
    #[arg(long, hide = true)]
    beside: bool,
}

/// The modes, as `mode` in `[agent]` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModeArgument {
    /// Make the table match the configuration.
    Manage,
    /// Take services and servers from the table; change only weights, or remove servers and add them again.
    Adopt,
    /// Write nothing.
    Observe,
}

impl From<ModeArgument> for Mode {
    fn from(argument: ModeArgument) -> Self {
        match argument {
            ModeArgument::Manage => Self::Manage,
            ModeArgument::Adopt => Self::Adopt,
            ModeArgument::Observe => Self::Observe,
        }
    }
}

#[derive(Debug, clap::Args)]
struct CheckArguments {
    /// Configuration file, in the agent's own format (TOML) or ldirectord's.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Refuse a file that ldirectord would refuse.
    #[arg(long)]
    strict: bool,
    /// Print the equivalent configuration in this format instead of a summary.
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: Option<check_config::Target>,
}

/// How exact a file must be.
fn strictness(strict: bool) -> Strictness {
    if strict { Strictness::Strict } else { Strictness::Lenient }
}

#[derive(Debug, clap::Args)]
struct StatusArguments {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: ControlArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Does what the command line says. An error is one message on standard error and exit code 1; a configuration that
/// can't be used is exit code 2, a second agent on the same table is 3.
#[must_use]
pub fn main(cli: &Cli) -> ExitCode {
    match &cli.command {
        Command::Run(arguments) => {
            let source = source(arguments);
            let reading = match source.as_ref().map(Source::read).transpose() {
                Ok(reading) => reading,
                Err(error) => return failed(&error, 2),
            };
            if reading.is_none() && arguments.mode == Some(ModeArgument::Manage) {
                return failed(&"--mode manage needs a configuration; add --config FILE", 2);
            }
            let target = reading.as_ref().map(|reading| reading.config.agent.log.clone());
            end(start_log(cli, &target.unwrap_or_default()).and_then(|(log, events)| {
                if let (Some(source), Some(reading)) = (&source, &reading) {
                    events.publish_all(ConfigNotice::of_reading(&source.path, reading).map(Event::Config));
                }
                let mode = arguments.mode.map_or(Mode::Observe, Mode::from);
                let mut config = reading.map_or_else(|| Config::of_table(mode), |reading| reading.config);
                let role = if arguments.beside { InstanceRole::Secondary } else { InstanceRole::Primary };
                if role == InstanceRole::Secondary {
                    stay_beside(&mut config);
                }
                // Standard error hears of it at the end.
                run(config, source, role, log.as_ref(), &events).inspect_err(|error| {
                    if log.is_some() {
                        events.publish(Event::Failed { error: format!("{error:#}") });
                    }
                })
            }))
        }
        Command::CheckConfig(arguments) => {
            let strictness = strictness(arguments.strict);
            check_config::run(&arguments.file, strictness, arguments.to)
                .unwrap_or_else(|error| failed(&format_args!("{error:#}"), 2))
        }
        Command::Status(arguments) => end(status(arguments)),
        Command::Reload(arguments) => {
            reload(arguments).unwrap_or_else(|error| failed(&format_args!("{error:#}"), 2))
        }
        Command::Drain(arguments) => order(servers::drain(arguments)),
        Command::Undrain(arguments) => order(servers::undrain(arguments)),
        Command::Maintenance(arguments) => order(servers::maintenance(arguments)),
    }
}

/// Where the configuration comes from, if from anywhere.
fn source(arguments: &RunArguments) -> Option<Source> {
    let path = arguments.config.clone()?;
    let mode = arguments.mode.map(Mode::from);
    Some(Source { path, strictness: strictness(arguments.strict), mode })
}

fn end(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = if error.is::<agent::AlreadyRunning>() { 3 } else { 1 };
            failed(&format_args!("{error:#}"), code)
        }
    }
}

fn failed(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    // Nothing is left to tell it to where standard error is closed.
    writeln!(io::stderr(), "lvs-agent: {error}").ok();
    ExitCode::from(code)
}

/// Leaves to the first agent what only one can have.
fn stay_beside(config: &mut Config) {
    let agent = &mut config.agent;
    agent.metrics = agent.metrics.filter(|address| *address != METRICS);
    agent.control = agent.control.take().filter(|path| path != Path::new(CONTROL));
    agent.state = agent.state.take().filter(|path| path != Path::new(STATE));
    // The first agent's programs are on the devices.
    config.passive.enabled = false;
}

/// Starts the log; what it goes to is closed when the thread is dropped. Where it can't be opened, standard error is it.
fn start_log(cli: &Cli, target: &LogTarget) -> anyhow::Result<(Option<LogThread>, Publisher)> {
    let filter = EnvFilter::try_new(&cli.log)
        .with_context(|| format!("--log {:?} is no log filter; try \"info\" or \"debug\"", cli.log))?;
    let (opened, problem) = match log::open(target) {
        Ok(opened) => (opened, None),
        Err(error) => (None, Some(error)),
    };
    let (writer, thread) = opened.unzip();
    let is_terminal = writer.is_none() && io::stderr().is_terminal();
    let writer = writer.map_or_else(|| BoxMakeWriter::new(io::stderr), BoxMakeWriter::new);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match (cli.log_format, target) {
        (LogFormat::Json, _) => log.json().flatten_event(true).init(),
        // The daemon has a time of its own.
        (LogFormat::Text, LogTarget::Syslog(_)) if thread.is_some() => {
            log.with_target(false).with_ansi(false).without_time().init();
        }
        (LogFormat::Text, _) => log.with_target(false).with_ansi(is_terminal).init(),
    }
    let events = Publisher::default();
    events.subscribe(EventLog);
    if let Some(error) = problem {
        let target = match target {
            LogTarget::Standard => "standard error".to_owned(),
            LogTarget::File(path) => path.display().to_string(),
            LogTarget::Syslog(facility) => format!("syslog ({facility})"),
        };
        events.publish(Event::Config(ConfigNotice::NoLog { target, error: error.to_string() }));
    }
    Ok((thread, events))
}

fn run(
    config: Config,
    source: Option<Source>,
    role: InstanceRole,
    log: Option<&LogThread>,
    events: &Publisher,
) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        tokio::select! {
            ended = agent::run(config, source, role, events.clone()) => ended,
            never = reopen_at_hangup(log) => never,
        }
    })
}

/// Opens the log's file anew at each SIGHUP; ends only if it can't listen for it.
async fn reopen_at_hangup(log: Option<&LogThread>) -> anyhow::Result<()> {
    let Some(log) = log else { return std::future::pending().await };
    let mut hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    let reopener = log.reopener();
    while hangup.recv().await.is_some() {
        reopener.reopen();
    }
    std::future::pending().await
}

fn status(arguments: &StatusArguments) -> anyhow::Result<()> {
    let reply = arguments.control.ask(&Request::Status {})?;
    let Reply::Status(status) = reply else {
        bail!("the agent sent an unexpected answer; is it of another version?")
    };
    let text = if arguments.json {
        serde_json::to_string(&status).context("writing JSON")? + "\n"
    } else {
        control::table(&status)
    };
    io::stdout().write_all(text.as_bytes()).context("writing to standard output")
}

/// Prints what has changed on standard output and the warnings on standard error.
fn reload(arguments: &ControlArguments) -> anyhow::Result<ExitCode> {
    let reloaded = match arguments.ask(&Request::Reload {})? {
        Reply::Reloaded(reloaded) => reloaded,
        Reply::NotReloaded(reason) => bail!("the old configuration stays in force: {reason}"),
        _ => bail!("the agent sent an unexpected answer; is it of another version?"),
    };
    writeln!(io::stdout(), "{reloaded}").context("writing to standard output")?;
    for warning in &reloaded.warnings {
        writeln!(io::stderr(), "{warning}").context("writing to standard error")?;
    }
    Ok(ExitCode::from(u8::from(!reloaded.warnings.is_empty())))
}

/// Gives an order, and waits for as long as it does.
fn order(order: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let given = small_runtime().and_then(|runtime| runtime.block_on(order));
    given.unwrap_or_else(|error| failed(&format_args!("{error:#}"), 1))
}
