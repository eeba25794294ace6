//! Build, run and test the workspace, on this machine or in a test VM.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]

mod apt;
mod bench;
mod build;
mod cache;
mod demo;
mod dist;
mod doctor;
mod dpkg;
mod linker;
mod mixin;
mod packages;
mod paths;
mod peers;
mod process;
mod progress;
mod run;
mod scripts;
mod setup;
mod supply;
mod test;
mod tidy;
mod toolchain;
mod tools;
mod vm;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::bench::Bench;
use crate::build::Profile;
use crate::cache::Cache;
use crate::demo::{DIRECTORS, Place};
use crate::dist::DistOptions;
use crate::test::{Step, TestOptions};
use crate::vm::{Clock, VmOptions, kernel};

/// Build, run and test the workspace, on this machine or in a test VM.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Find or install the tools for building and testing
    Setup,
    /// Report which tools are present or missing, and what this machine's kernel supports
    Doctor,
    /// Build the eBPF programs, then the agent that contains them
    Build {
        /// Build the agent without optimisation
        #[arg(long)]
        debug: bool,
    },
    /// Build the Debian package and the tarball
    Dist {
        /// The folder for the files; without it: dist-files in cargo's target directory
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Pack this program, which has lvs-manual beside it, instead of building both
        #[arg(long, value_name = "FILE")]
        agent: Option<PathBuf>,
        /// Then build the commit again in another folder, and compare the bytes
        #[arg(long, conflicts_with = "agent")]
        verify: bool,
        /// Then try the package: install it in a bare Debian under systemd, in the VM, upgrade and purge it
        #[arg(long)]
        trial: bool,
    },
    /// Build, then start the agent
    Run {
        /// Arguments for `lvs-agent run`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Demonstrate the agent: a server fails under load and is taken out of the table
    Demo {
        /// Run on this machine instead of in a VM; needs root and a kernel with IPVS
        #[arg(long)]
        native: bool,
        /// Show each failure twice, without and with a second chance for connections that have just begun
        #[arg(long, conflicts_with = "directors")]
        second_chance: bool,
        /// Show instead how one director takes over from another
        #[arg(long)]
        directors: bool,
        #[command(flatten)]
        machine: MachineArguments,
        /// Arguments for the demonstration; list them with `-- --help`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Run a command in a VM whose kernel has IPVS, with this machine's files
    Vm {
        #[command(flatten)]
        machine: MachineArguments,
        /// The command, run at the repository's root
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Run benchmarks and print tables
    Bench {
        #[command(subcommand)]
        bench: Bench,
    },
    /// Check the habits of the code base: who imports whom, what is pure, what is documented, how wide lines are
    Tidy,
    /// Make the mixin's rules and dashboards anew from its sources
    Mixin,
    /// Run all checks and tests; the last line is a summary
    Test {
        /// Run more cases of each property test and scenario
        #[arg(long)]
        long: bool,
        /// Kernels for the tests in the VM: a list such as 5.10,6.1, or all
        #[arg(long, default_value_t = kernel::DEFAULT.to_string(), value_name = "LIST")]
        kernels: String,
        /// Run only this step, and the build that it needs; can be given several times
        #[arg(long, value_name = "STEP")]
        only: Vec<Step>,
    },
}

#[derive(Debug, Args)]
struct MachineArguments {
    /// The VM's kernel: 6.1, 5.10, 6.12 or 7.2
    #[arg(long, default_value_t = kernel::DEFAULT)]
    kernel: kernel::Line,
    /// Measure time by counting instructions: repeatable, on one CPU
    #[arg(long)]
    icount: bool,
    /// The VM's memory in MiB
    #[arg(long, default_value_t = VmOptions::default().memory_mib, value_name = "MB")]
    memory: u32,
    /// The VM's number of CPUs
    #[arg(long, default_value_t = VmOptions::default().cpus, value_name = "N")]
    cpus: u32,
    /// How long the VM may run
    #[arg(long, default_value_t = VmOptions::default().timeout.as_secs(), value_name = "SECONDS")]
    timeout: u64,
    /// A directory for results, which the command sees as `$LVS_OUT`
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Show the VM's kernel log
    #[arg(long)]
    verbose: bool,
}

impl MachineArguments {
    fn options(&self) -> Result<VmOptions> {
        let out = self.out.as_ref().map(|directory| {
            std::fs::create_dir_all(directory)
                .and_then(|()| directory.canonicalize())
                .with_context(|| format!("cannot make {}", directory.display()))
        });
        Ok(VmOptions {
            kernel: self.kernel,
            clock: if self.icount { Clock::Instructions } else { Clock::Host },
            memory_mib: self.memory,
            cpus: self.cpus,
            timeout: Duration::from_secs(self.timeout),
            out: out.transpose()?,
            verbose: self.verbose,
            environment: Vec::new(),
        })
    }
}

fn main() -> ExitCode {
    perform(Arguments::parse().task).unwrap_or_else(|error| {
        // Without the backtrace, which says nothing to whoever typed the command.
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn perform(task: Task) -> Result<ExitCode> {
    let cache = Cache::locate()?;
    match task {
        Task::Setup => setup::setup(&cache)?,
        Task::Doctor => {
            return Ok(succeeded(doctor::doctor(&cache)));
        }
        Task::Build { debug } => build::build(&cache, if debug { Profile::Debug } else { Profile::Release })?,
        Task::Dist { out, agent, verify, trial } => {
            let out = out.map_or_else(|| Ok(paths::target().join("dist-files")), std::path::absolute)?;
            return dist::dist(&cache, &DistOptions { out, agent, verify, trial }).map(succeeded);
        }
        Task::Run { arguments } => run::run(&cache, &arguments)?,
        Task::Demo { native, second_chance, directors, machine, mut arguments } => {
            // What is shown are times: they must be the guest's, whatever else this machine does meanwhile.
            let options = VmOptions { clock: Clock::Instructions, ..machine.options()? };
            let place = if native { Place::Native } else { Place::Vm(Box::new(options)) };
            arguments.extend(second_chance.then(|| "--second-chance".into()));
            arguments.extend(directors.then(|| DIRECTORS.into()));
            return demo::demo(&cache, place, &arguments).map(exit_code);
        }
        Task::Vm { machine, command } => {
            return vm::run_on_terminal(&cache, &machine.options()?, &command).map(exit_code);
        }
        Task::Bench { bench } => return bench::bench(&cache, &bench).map(exit_code),
        Task::Mixin => mixin::generate(&cache)?,
        Task::Tidy => return tidy::tidy(paths::repository()).map(succeeded),
        Task::Test { long, kernels, only } => {
            let kernels = kernel::list(&kernels)?;
            return test::test(&cache, &TestOptions { long, kernels, only }).map(succeeded);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn succeeded(has_succeeded: bool) -> ExitCode {
    if has_succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn exit_code(status: i32) -> ExitCode {
    u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from)
}
