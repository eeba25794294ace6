//! The command line, and what stands around a run: the log and the runtime.

mod announce;
mod arguments;
mod check;
mod check_config;
mod details;
mod events;
mod exit_code;
mod healthy;
mod names_at_start;
mod rights;
mod role;
mod servers;
mod start_log;
mod status;
mod terminal;
mod top;

use std::{
    collections::BTreeSet,
    env,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand, ValueEnum};
use nix::sys::resource::{Resource, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use self::{
    announce::AnnounceCommand,
    arguments::{ControlArguments, small_runtime, unexpected},
    check::CheckArguments,
    check_config::Secrets,
    events::EventsArguments,
    healthy::HealthyArguments,
    rights::Privileges,
    role::RoleArguments,
    servers::{DrainArguments, MaintenanceArguments, ServerArguments},
    start_log::{LogFormat, StartedLog},
    status::StatusArguments,
    top::TopArguments,
};
use crate::{
    agent::{self, InstanceRole, Part},
    config::{Source, Strictness},
    control::{Reply, Request, escaped_json},
    event::{ConfigNotice, Event},
    log::LogThread,
    model::{
        Config, LogTarget, Mode,
        defaults::{CONTROL, METRICS, STATE},
    },
    supervision::Failure,
};

/// Health checker for LVS directors: a server's own traffic raises a suspicion, active probes confirm it, and only then
/// is the kernel's IPVS table changed.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// Format of the log lines; without it, `short` on a terminal and `text` elsewhere.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", help_heading = "Log options")]
    log_format: Option<LogFormat>,
    /// What is logged, as `LEVEL` or `TARGET=LEVEL,…` with a level of error, warn, info, debug or trace.
    #[arg(
        long,
        global = true,
        env = "LVS_LOG",
        value_name = "FILTER",
        default_value = "info",
        help_heading = "Log options"
    )]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent: check the real servers and update the kernel's IPVS table, until SIGTERM or SIGINT.
    #[command(after_help = exit_code::OF_RUN)]
    Run(RunArguments),
    /// Validate a configuration file and print a summary of its services and checks; nothing is changed.
    #[command(after_help = exit_code::OF_CHECK_CONFIG)]
    CheckConfig(CheckConfigArguments),
    /// Show the services and servers of a running agent, their states and why they are so; the exit code says how it
    /// goes.
    #[command(after_help = exit_code::OF_STATUS)]
    Status(StatusArguments),
    /// Tell by the exit code whether services are healthy, within a moment: for keepalived's `vrrp_script`, exabgp,
    /// Consul and Kubernetes' exec probes.
    #[command(after_help = exit_code::OF_HEALTHY)]
    Healthy(HealthyArguments),
    /// Tell another program which addresses are to be announced, as long as it listens.
    #[command(subcommand, after_help = exit_code::OF_OTHERS)]
    Announce(AnnounceCommand),
    /// Show services and servers on the terminal, with keys for what an operator does.
    #[command(after_help = exit_code::OF_OTHERS)]
    Top(TopArguments),
    /// Probe a server now, and show each step with its time; nothing changes by it.
    #[command(after_help = exit_code::OF_CHECK)]
    Check(CheckArguments),
    /// Show what has happened and what happens: the events that a running agent remembers, each failover with its
    /// timeline.
    #[command(after_help = exit_code::OF_OTHERS)]
    Events(EventsArguments),
    /// Show what a running agent logs, or have it log something else until it ends.
    #[command(after_help = exit_code::OF_OTHERS)]
    LogLevel(LogLevelArguments),
    /// Make a running agent reload its configuration, and print what has changed.
    #[command(after_help = exit_code::OF_RELOAD)]
    Reload(ControlArguments),
    /// Stop new connections to a server, and optionally wait until it has none.
    #[command(after_help = exit_code::OF_DRAIN)]
    Drain(DrainArguments),
    /// End the drain of a server: it gets new connections again.
    #[command(after_help = exit_code::OF_OTHERS)]
    Undrain(ServerArguments),
    /// Put a server into maintenance, as if it had failed, or end its maintenance.
    #[command(after_help = exit_code::OF_OTHERS)]
    Maintenance(MaintenanceArguments),
    /// Show whether this director is active or standby and why, or order it.
    #[command(after_help = exit_code::OF_OTHERS)]
    Role(RoleArguments),
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
    /// Refuse a configuration in ldirectord's format that ldirectord itself would refuse.
    #[arg(long, requires = "config")]
    strict: bool,
    /// Keep all capabilities instead of dropping what is not needed: for files that only the rights to read and write
    /// everybody's files reach.
    #[arg(long)]
    keep_capabilities: bool,
    /// Folder of the control socket and the state file, where the configuration names no others, and of the lock, where
    /// the usual folder can't be written to; the agent's user must be able to write to it.
    #[arg(long, env = "RUNTIME_DIRECTORY", value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
    /// Another agent has started this one for its `execute`: it has no control socket, metrics or state file where
    /// these are the default ones, which belong to that agent.
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
struct LogLevelArguments {
    /// `LEVEL` or `TARGET=LEVEL,…`, as for --log; without it the present one is printed.
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    #[command(flatten)]
    control: ControlArguments,
}

#[derive(Debug, clap::Args)]
struct CheckConfigArguments {
    /// Configuration file, in the agent's own format (TOML) or ldirectord's.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Refuse a file in ldirectord's format that ldirectord itself would refuse.
    #[arg(long)]
    strict: bool,
    /// Print the equivalent configuration in this format instead of a summary.
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: Option<check_config::Target>,
    /// Print passwords and other secrets with it; otherwise "(hidden)" stands in their place.
    #[arg(long, requires = "to")]
    with_secrets: bool,
}

/// How exact a file must be.
fn strictness(strict: bool) -> Strictness {
    if strict { Strictness::Strict } else { Strictness::Lenient }
}

/// How long blocking threads may take to end after all tasks have: for what is in memory, they need milliseconds.
const LAST: Duration = Duration::from_secs(1);

/// Does what the command line says. An error is one message on standard error; the exit codes are in the help of each
/// command.
#[must_use]
pub fn main(cli: &Cli) -> ExitCode {
    without_core_dumps();
    match &cli.command {
        Command::Run(arguments) => start(cli, arguments),
        Command::CheckConfig(arguments) => {
            let strictness = strictness(arguments.strict);
            let secrets = if arguments.with_secrets { Secrets::Shown } else { Secrets::Hidden };
            check_config::run(&arguments.file, strictness, arguments.to, secrets)
                .unwrap_or_else(|error| failed(&format_args!("{error:#}"), exit_code::UNUSABLE))
        }
        Command::Status(arguments) => run_client(async { Ok(status::status(arguments).await) }),
        Command::Healthy(arguments) => run_client(async { Ok(healthy::healthy(arguments).await) }),
        Command::Announce(command) => run_client(announce::announce(command)),
        Command::Check(arguments) => run_client(async { Ok(check::check(arguments).await) }),
        Command::Top(arguments) => run_client(top::top(arguments)),
        Command::LogLevel(arguments) => end(log_level(arguments)),
        Command::Events(arguments) => run_client(events::events(arguments)),
        Command::Reload(arguments) => {
            let failed = |error| failed(&format_args!("{error:#}"), exit_code::UNUSABLE);
            reload(arguments).unwrap_or_else(failed)
        }
        Command::Drain(arguments) => run_client(servers::drain(arguments)),
        Command::Undrain(arguments) => run_client(servers::undrain(arguments)),
        Command::Maintenance(arguments) => run_client(servers::maintenance(arguments)),
        Command::Role(arguments) => run_client(role::role(arguments)),
    }
}

/// Keeps passwords out of core dumps, those of programs that are started from here included. A limit of 1 byte, because
/// 0 is no limit where a program takes the dumps (core(5); `do_coredump` in Linux' `fs/coredump.c`).
fn without_core_dumps() {
    // It can't fail: everybody may lower his limits.
    setrlimit(Resource::RLIMIT_CORE, 1, 1).ok();
}

/// Reads the configuration, drops what it doesn't need, and runs the agent.
fn start(cli: &Cli, arguments: &RunArguments) -> ExitCode {
    let privileges = if arguments.keep_capabilities { Privileges::Kept } else { Privileges::Needed };
    let dropped = rights::at_start(privileges);
    let source = source(arguments);
    let reading = match source.as_ref().map(names_at_start::read).transpose() {
        Ok(reading) => reading,
        Err(error) => return failed(&error, exit_code::UNUSABLE),
    };
    if reading.is_none() && arguments.mode == Some(ModeArgument::Manage) {
        return failed(&"--mode manage needs a configuration; add --config FILE", exit_code::UNUSABLE);
    }
    let target = reading.as_ref().map(|reading| reading.config.agent.log.clone()).unwrap_or_default();
    let mut config = reading.as_ref().map_or_else(|| of_table(arguments), |reading| reading.config.clone());
    let format = reading.as_ref().map(|reading| reading.format);
    let rights = match rights::settle(&config, format, privileges, dropped) {
        Ok(rights) => rights,
        Err(error) => {
            return failed(&format_args!("`script-user` in `[agent]`: {error}"), exit_code::UNUSABLE);
        }
    };
    end(start_log::start(cli.log_format, &cli.log, &target).and_then(|log| {
        let events = log.events.clone();
        if let (Some(source), Some(reading)) = (&source, &reading) {
            events.publish_all(ConfigNotice::of_reading(&source.path, reading).map(Event::Config));
        }
        rights.warn();
        let role = if arguments.beside { InstanceRole::Secondary } else { InstanceRole::Primary };
        if role == InstanceRole::Secondary {
            stay_beside(&mut config);
        }
        // Standard error hears of it at the end.
        let names = source.clone().zip(reading.map(|reading| reading.unresolved.names));
        let part = Part { role, runtime_directory: runtime_directory(arguments), run_as: rights.run_as };
        run(config, source, names, part, &log).inspect_err(|error| {
            if target != LogTarget::Standard {
                events.publish(Event::Failed { error: format!("{error:#}") });
            }
        })
    }))
}

/// What holds without a configuration.
fn of_table(arguments: &RunArguments) -> Config {
    let mut config = Config::of_table(arguments.mode.map_or(Mode::Observe, Mode::from));
    if let Some(folder) = runtime_directory(arguments) {
        config.agent.place_in(&folder);
    }
    config
}

/// The folder for the control socket and the state file; `None`: the usual one. An agent that another one has started
/// has neither there. systemd.exec(5) separates several by colons.
fn runtime_directory(arguments: &RunArguments) -> Option<PathBuf> {
    let folders = arguments.runtime_dir.as_ref().filter(|_| !arguments.beside)?;
    env::split_paths(folders).next().filter(|first| !first.as_os_str().is_empty())
}

/// Where the configuration comes from, if from anywhere.
fn source(arguments: &RunArguments) -> Option<Source> {
    let path = arguments.config.clone()?;
    let mode = arguments.mode.map(Mode::from);
    Some(
        Source::new(path, strictness(arguments.strict), mode)
            .placed_in(runtime_directory(arguments))
            .at_start(),
    )
}

fn end(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = if error.is::<agent::AlreadyRunning>() {
                exit_code::ALREADY_RUNNING
            } else if error.is::<Failure>() {
                exit_code::TASK_ENDED
            } else {
                exit_code::FAILED
            };
            failed(&format_args!("{error:#}"), code)
        }
    }
}

fn failed(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    complain(&error.to_string());
    ExitCode::from(code)
}

/// Says what is wrong on standard error. Names and answers in it are other people's texts.
fn complain(error: &str) {
    /// How long the end of the program waits for whoever reads standard error.
    const PATIENCE: Duration = Duration::from_secs(2);
    let text = format!("lvs-agent: {}\n", escaped_json(error));
    let (said, end) = mpsc::channel();
    thread::spawn(move || {
        // Nothing is left to tell it to where standard error is closed.
        io::stderr().write_all(text.as_bytes()).ok();
        said.send(()).ok();
    });
    end.recv_timeout(PATIENCE).ok();
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

fn run(
    config: Config,
    source: Option<Source>,
    unresolved: Option<(Source, BTreeSet<String>)>,
    part: Part,
    log: &StartedLog,
) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = agent::run(config, source, part, log.thread.lost(), log.filter.clone(), log.events.clone()) => ended,
            never = reopen_at_hangup(&log.thread) => never,
            never = names_at_start::follow(unresolved) => never,
        }
    });
    // A thread that hangs on a file ends with the process.
    runtime.shutdown_timeout(LAST);
    ended
}

/// Opens the log's file anew at each SIGHUP; ends only if it can't listen for it.
async fn reopen_at_hangup(log: &LogThread) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    let reopener = log.reopener();
    while hangup.recv().await.is_some() {
        reopener.reopen();
    }
    std::future::pending().await
}

/// Prints what is logged now.
fn log_level(arguments: &LogLevelArguments) -> anyhow::Result<()> {
    let request = Request::LogLevel { filter: arguments.filter.clone() };
    let Reply::LogLevel(filter) = arguments.control.ask(&request)? else { return Err(unexpected()) };
    writeln!(io::stdout(), "{}", escaped_json(&filter)).context("writing to standard output")
}

/// Prints what has changed on standard output and the warnings on standard error.
fn reload(arguments: &ControlArguments) -> anyhow::Result<ExitCode> {
    let reloaded = match arguments.ask(&Request::Reload {})? {
        Reply::Reloaded(reloaded) => reloaded,
        Reply::NotReloaded(reason) => bail!("the old configuration stays in force: {reason}"),
        _ => return Err(unexpected()),
    };
    writeln!(io::stdout(), "{}", escaped_json(&reloaded.to_string()))
        .context("writing to standard output")?;
    for warning in &reloaded.warnings {
        writeln!(io::stderr(), "{}", escaped_json(warning)).context("writing to standard error")?;
    }
    Ok(if reloaded.warnings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit_code::WARNINGS) })
}

/// Runs a command that asks the agent for something, until it ends.
fn run_client(command: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let ended = small_runtime().and_then(|runtime| runtime.block_on(command));
    ended.unwrap_or_else(|error| failed(&format_args!("{error:#}"), exit_code::FAILED))
}
