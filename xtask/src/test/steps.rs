//! The steps of a test run.

use std::env;
use std::ffi::OsString;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::TestOptions;
use super::beside::Beside;
use super::shares;
use super::summary::Counts;
use super::tee::Tee;
use crate::build::{self, AGENT_VARIABLE, OBJECT_VARIABLE};
use crate::cache::Cache;
use crate::peers::{BIRD, KEEPALIVED};
use crate::vm::{self, Clock, Streams, VmOptions, kernel};
use crate::{apt, dist, mixin, paths, process, scripts, supply, tidy, tools};

/// The package with the tests that need more than one process.
const TESTS: &str = "lvs-tests";

/// How long a VM's share of the scenarios may take. Alone on its core it takes some ten minutes; a machine that is busy
/// with other things has needed five times as long.
const VM_TIMEOUT: Duration = Duration::from_hours(2);

/// The scenarios whose subject is the agent, not what it asks of the kernel: with [`kernel::DEFAULT`] alone. A name
/// that ends in `::` is a whole module's. Whatever watches packets or reads and writes the kernel's table is tested on
/// all kernels.
const ON_DEFAULT_KERNEL_ONLY: &[&str] = &[
    "admin_commands::",
    "announce::a_stuck_controller_is_noticed",
    "announce::a_thousand_services_make_healthy_no_slower",
    "bad_input::",
    // The other tests of `ipvs_table` make one edit of each kind, on all kernels.
    "ipvs_table::random_edits::",
    "ldirectord::",
    "modes::",
    "names_at_start::",
    "notifications::",
    "policy::a_server_that_comes_and_goes_is_kept_out",
    "policy::the_weight_of_a_server_that_comes_back_rises_slowly",
    "prometheus::",
    // Writes traces for the detector's tests.
    "record_traces::",
    "reload::",
    "vip_path::a_probe_to_the_vip_costs_little_more_than_one_to_the_server",
];

/// A step, in the order in which they are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// The code is formatted
    Fmt,
    /// The habits of the code base are kept
    Tidy,
    /// The crates' sources and licences are those that may be, and none is there that must not
    Supply,
    /// Both halves build
    Build,
    /// No lint has anything to say
    Clippy,
    /// The mixin's alerts fire when they should, and what is made of it is up to date
    Mixin,
    /// shellcheck has nothing to say of the shell scripts
    Scripts,
    /// Unit and property tests, and tests of the command line
    Unit,
    /// Each check against a real server of its protocol
    Checks,
    /// Debian's ldirectord beside the agent's decisions, on the same files
    Ldirectord,
    /// The eBPF programs on built packets, in this machine's kernel and in the VM's
    KernelSide,
    /// The lab itself, in the VM
    Lab,
    /// The agent in the lab, in the VM
    Scenarios,
    /// The Debian package in a bare Debian 12 under systemd: installed, used, upgraded, purged
    Package,
}

/// One run of a step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Run {
    Fmt,
    Tidy,
    Supply,
    Build,
    Clippy { package: &'static [&'static str] },
    Mixin,
    Scripts,
    Unit,
    Checks,
    Ldirectord,
    KernelSide,
    Package,
    InVm { test: &'static str, kernel: kernel::Line },
}

/// The asked-for steps, with the build that they need; all if none is asked for.
pub(super) fn chosen(only: &[Step]) -> Vec<Step> {
    let all = Step::value_variants();
    let asked = |step: Step| only.is_empty() || only.contains(&step);
    let build = all.iter().any(|&step| asked(step) && step.needs_build());
    all.iter().copied().filter(|&step| asked(step) || (build && step == Step::Build)).collect()
}

impl Step {
    /// Whether the step needs more than the Rust toolchain that runs this.
    pub(super) fn needs_setup(self) -> bool {
        !matches!(self, Self::Fmt | Self::Tidy | Self::Supply | Self::Clippy)
    }

    fn needs_build(self) -> bool {
        matches!(
            self,
            Self::Unit
                | Self::Checks
                | Self::Ldirectord
                | Self::KernelSide
                | Self::Lab
                | Self::Scenarios
                | Self::Package
        )
    }
}

/// What the steps share.
pub(super) struct Session<'a> {
    cache: &'a Cache,
    options: &'a TestOptions,
    /// The tools for tests; none as long as they aren't needed.
    tools: Vec<(&'static str, OsString)>,
    /// What `Build` has built.
    built: Option<Built>,
    /// The step `Package`, if it has begun.
    package: Option<Beside>,
}

struct Built {
    object: PathBuf,
    agent: PathBuf,
}

impl<'a> Session<'a> {
    pub(super) fn new(cache: &'a Cache, options: &'a TestOptions) -> Result<Self> {
        let tools =
            if tools::are_there(cache) { tools::for_tests(cache)?.environment()? } else { Vec::new() };
        Ok(Self { cache, options, tools, built: None, package: None })
    }

    /// The runs that a step stands for, and their names.
    pub(super) fn runs_of(&self, step: Step) -> Vec<(String, Run)> {
        let named = |name: &str, run| vec![(name.to_owned(), run)];
        let in_vm = |test: &'static str, kernel| (format!("{test} on {kernel}"), Run::InVm { test, kernel });
        let kernels = self.options.kernels.iter().copied();
        match step {
            Step::Fmt => named("fmt", Run::Fmt),
            Step::Tidy => named("tidy", Run::Tidy),
            Step::Supply => named("supply", Run::Supply),
            Step::Build => named("build", Run::Build),
            Step::Clippy => vec![
                ("clippy".to_owned(), Run::Clippy { package: &["--all-targets"] }),
                (
                    "clippy of kernel side".to_owned(),
                    Run::Clippy { package: &["--package", build::KERNEL_SIDE] },
                ),
            ],
            Step::Mixin => named("mixin", Run::Mixin),
            Step::Scripts => named("scripts", Run::Scripts),
            Step::Unit => named("unit", Run::Unit),
            Step::Checks => named("checks", Run::Checks),
            Step::Ldirectord => named("ldirectord", Run::Ldirectord),
            Step::KernelSide => {
                let vms =
                    kernels.flat_map(|kernel| ["kernel_side", "loading"].map(|test| in_vm(test, kernel)));
                named("kernel_side", Run::KernelSide).into_iter().chain(vms).collect()
            }
            Step::Lab => vec![in_vm("lab", kernel::DEFAULT)],
            Step::Package => named("package", Run::Package),
            Step::Scenarios => kernels.map(|kernel| in_vm("scenarios", kernel)).collect(),
        }
    }

    /// Performs one run.
    pub(super) fn perform(&mut self, run: Run) -> Result<Counts> {
        match run {
            Run::Fmt => plain(process::cargo().args(["fmt", "--all", "--check"])),
            Run::Tidy => Ok(Counts::one(tidy::tidy(paths::repository())?)),
            Run::Supply => Ok(Counts::one(supply::check()?)),
            Run::Build => self.build(),
            Run::Clippy { package } => {
                plain(process::cargo().arg("clippy").args(package).args(["--", "--deny", "warnings"]))
            }
            Run::Mixin => Ok(mixin::check(self.cache)?.into_iter().map(Counts::one).sum()),
            Run::Scripts => Ok(Counts::one(scripts::check(self.cache)?)),
            Run::Unit => self.unit(),
            Run::Checks => self.checks(),
            Run::Ldirectord => self.ldirectord(),
            Run::KernelSide => self.kernel_side(),
            Run::Package => self.package(),
            Run::InVm { test, kernel } => self.in_vm(test, kernel),
        }
    }

    fn build(&mut self) -> Result<Counts> {
        let object = build::kernel_side(self.cache)?;
        let agent = build::agent_with(&object, build::Profile::Release)?;
        self.built = Some(Built { object, agent });
        Ok(Counts::one(true))
    }

    fn built(&self) -> Result<&Built> {
        self.built.as_ref().context("not run, because the build failed")
    }

    /// `cargo test`, with what tests may need to know.
    fn cargo_test(&self) -> Result<Command> {
        let built = self.built()?;
        let mut cargo = process::cargo();
        cargo.arg("test").env(OBJECT_VARIABLE, &built.object).env(AGENT_VARIABLE, &built.agent);
        cargo.envs(self.tools.iter().cloned()).envs(self.long());
        Ok(cargo)
    }

    /// The variables that ask tests to take more time.
    fn long(&self) -> Vec<(&'static str, OsString)> {
        if !self.options.long {
            return Vec::new();
        }
        let cases = env::var_os("PROPTEST_CASES").unwrap_or_else(|| "5000".into());
        vec![("LVS_LONG", "1".into()), ("PROPTEST_CASES", cases)]
    }

    /// All tests that need no other kernel than this machine's.
    fn unit(&self) -> Result<Counts> {
        let mut most = self.cargo_test()?;
        most.args(["--no-fail-fast", "--workspace", "--exclude", build::KERNEL_SIDE, "--exclude", TESTS]);
        let promtool = tools::promtool(self.cache).context("promtool is not there to check the metrics");
        let browser = tools::browser(self.cache).context("no browser is there to look at the status page");
        match promtool.and_then(|promtool| Ok((promtool, browser?))) {
            // The tests that are ignored elsewhere.
            Ok((promtool, browser)) => {
                most.env(tools::PROMTOOL_VARIABLE, promtool).env(tools::BROWSER_VARIABLE, browser.root());
                most.args(["--", "--include-ignored"]);
            }
            Err(error) if is_continuous_integration() => return Err(error),
            // The tests are counted as ignored.
            Err(error) => println!("skipped: {error:#}"),
        }
        let mut rest = self.cargo_test()?;
        rest.args(["--no-fail-fast", "--package", TESTS, "--lib", "--bins", "--test", "command_line"]);
        // Hours of simulated traffic: with optimisation.
        let mut detector = self.cargo_test()?;
        detector.args(["--no-fail-fast", "--package", TESTS, "--release", "--test", "detector"]);
        Ok([tests(&mut most)?, tests(&mut rest)?, tests(&mut detector)?].into_iter().sum())
    }

    /// The checks against real servers, which are run in mount namespaces of their own.
    fn checks(&self) -> Result<Counts> {
        if !apt::is_root() {
            println!("skipped: mounting the servers' files needs root");
            return Ok(Counts::one_skipped());
        }
        let servers = tools::servers(self.cache)?;
        let mut cargo = self.cargo_test()?;
        cargo.env(tools::SERVERS_VARIABLE, servers.root());
        tests(cargo.args(["--package", TESTS, "--test", "checks"]))
    }

    /// ldirectord with a stand-in for ipvsadm, in network namespaces of its own.
    fn ldirectord(&self) -> Result<Counts> {
        if !apt::is_root() {
            println!("skipped: making network namespaces needs root");
            return Ok(Counts::one_skipped());
        }
        let oracle = tools::ldirectord(self.cache)?;
        let mut cargo = self.cargo_test()?;
        cargo.env(tools::LDIRECTORD_VARIABLE, oracle.root());
        tests(cargo.args(["--package", TESTS, "--test", "ldirectord"]))
    }

    fn kernel_side(&self) -> Result<Counts> {
        if !apt::is_root() {
            if is_continuous_integration() {
                bail!("loading eBPF programs needs root");
            }
            println!("skipped: loading eBPF programs needs root");
            return Ok(Counts::one_skipped());
        }
        tests(self.cargo_test()?.args(["--package", TESTS, "--test", "kernel_side", "--test", "loading"]))
    }

    /// Begins with the package on trial. If that can't be, it is tried when it is its turn.
    pub(super) fn begin_package(&mut self) {
        if self.built.is_some() && apt::is_root() {
            match Beside::start("package") {
                Ok(begun) => self.package = Some(begun),
                Err(error) => println!("{error:#}"),
            }
        }
    }

    /// The package on trial. It is made of what `Build` has built; `cargo xtask dist` leaves paths of this machine out,
    /// which would take another build.
    fn package(&mut self) -> Result<Counts> {
        if let Some(begun) = self.package.take() {
            return begun.end();
        }
        let built = self.built()?;
        if !apt::is_root() {
            if is_continuous_integration() {
                bail!("making a Debian to try the package in needs root");
            }
            println!("skipped: making a Debian to try the package in needs root");
            return Ok(Counts::one_skipped());
        }
        let manual = build::package(dist::MANUAL, dist::MANUAL, &built.object, build::Profile::Release)?;
        Ok(Counts::one(dist::try_build(self.cache, &built.agent, &manual)?))
    }

    /// One test program of `lvs-tests`, in a VM with IPVS.
    fn in_vm(&self, test: &str, kernel: kernel::Line) -> Result<Counts> {
        let program = self.test_program(test)?;
        let built = self.built()?;
        let mut environment: Vec<(OsString, OsString)> = vec![
            (AGENT_VARIABLE.into(), built.agent.clone().into()),
            (OBJECT_VARIABLE.into(), built.object.clone().into()),
        ];
        if test == "scenarios" {
            let oracle = tools::ldirectord(self.cache)?;
            environment.push((tools::LDIRECTORD_VARIABLE.into(), oracle.root().into()));
            let monitoring = tools::monitoring(self.cache)?;
            environment.push((tools::MONITORING_VARIABLE.into(), monitoring.root().into()));
            for peer in [KEEPALIVED, BIRD] {
                environment.extend(peer.environment(self.cache)?);
            }
        }
        environment.extend(self.long().into_iter().map(|(name, value)| (name.into(), value)));
        // Times in these tests are those of the guest, which must not depend on what else the host does.
        let clock = Clock::Instructions;
        let options = VmOptions { kernel, clock, timeout: VM_TIMEOUT, environment, ..VmOptions::default() };
        let run = |share: &[String], streams: Streams<'_>| {
            let mut command: Vec<OsString> = vec![program.clone().into()];
            command.extend(["--include-ignored", "--test-threads=1", "--exact"].map(Into::into));
            command.extend(share.iter().map(Into::into));
            vm::run(self.cache, &options, &command, streams)
        };
        // Such a VM keeps one core busy: as many at once as there are cores.
        let (tests, left_out) = of_kernel(listed(&program)?, kernel);
        for test in &left_out {
            println!("skipped on {kernel}, because it is the same on every kernel: {test}");
        }
        let shares = shares::dealt(&tests, thread::available_parallelism().map_or(1, NonZero::get));
        let skipped = Counts::skipped(left_out.len());
        Ok(shares::side_by_side(&shares, run).into_iter().chain([skipped]).sum())
    }

    /// Builds a test program of `lvs-tests` and returns its path. With optimisation: clients and servers share the
    /// emulated VM with what they are to test.
    fn test_program(&self, test: &str) -> Result<PathBuf> {
        let mut cargo = self.cargo_test()?;
        cargo.args([
            "--package",
            TESTS,
            "--test",
            test,
            "--release",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ]);
        let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
        let built = output.status.success();
        let program = executable(&String::from_utf8_lossy(&output.stdout), test);
        program.filter(|_| built).with_context(|| format!("cannot build the test program {test}"))
    }
}

/// Whether nothing may be left out.
fn is_continuous_integration() -> bool {
    env::var("CI").is_ok_and(|ci| ci == "true")
}

/// The names of a test program's tests.
fn listed(program: &Path) -> Result<Vec<String>> {
    let mut list = process::command(program);
    list.args(["--list", "--include-ignored", "--format=terse"]);
    let names = process::output(&mut list)?;
    Ok(names.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// The tests that are run with a kernel, and those that are not.
fn of_kernel(tests: Vec<String>, kernel: kernel::Line) -> (Vec<String>, Vec<String>) {
    let is_everywhere = |test: &String| !ON_DEFAULT_KERNEL_ONLY.iter().any(|name| test.starts_with(name));
    tests.into_iter().partition(|test| kernel == kernel::DEFAULT || is_everywhere(test))
}

/// Runs a command that is one test itself.
fn plain(command: &mut Command) -> Result<Counts> {
    Ok(Counts::one(process::status(command)?.success()))
}

/// Runs a command that prints test results.
fn tests(command: &mut Command) -> Result<Counts> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut out = Tee::new(io::stdout());
    if let Some(mut from) = child.stdout.take() {
        out.copy_from(&mut from)?;
    }
    let status = child.wait()?;
    Ok(Counts::of_tests(&out.into_text(), status.success()))
}

/// The program that cargo says it has made of a test target.
fn executable(messages: &str, test: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let of_test = message["target"]["name"] == test && message["profile"]["test"] == true;
        let path = message["executable"].as_str().filter(|_| of_test)?;
        Some(Path::new(path).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_program_is_found_among_cargos_messages() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"name":"scenarios","kind":["lib"]},"profile":{"test":false},"executable":null}
not json
{"reason":"compiler-artifact","target":{"name":"lab"},"profile":{"test":true},"executable":"/t/lab-1"}
{"reason":"compiler-artifact","target":{"name":"scenarios"},"profile":{"test":true},"executable":"/t/scenarios-2"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "scenarios"), Some("/t/scenarios-2".into()));
        assert_eq!(executable(messages, "kernel_side"), None);
    }

    #[test]
    fn what_no_kernel_changes_is_tested_with_one() {
        let [oldest, .., newest] = kernel::TESTED.map(|(line, _)| line);
        let [of_agent, of_kernels] = ["reload::x", "failover::x"].map(str::to_owned);
        let tests = vec![of_agent.clone(), of_kernels.clone()];
        for other in [oldest, newest] {
            assert_eq!(of_kernel(tests.clone(), other), (vec![of_kernels.clone()], vec![of_agent.clone()]));
        }
        assert_eq!(of_kernel(tests.clone(), kernel::DEFAULT), (tests, Vec::new()));
    }

    #[test]
    fn chosen_steps_bring_the_build_they_need() {
        assert_eq!(chosen(&[]), Step::value_variants());
        assert_eq!(chosen(&[Step::Clippy, Step::Fmt]), [Step::Fmt, Step::Clippy]);
        assert_eq!(chosen(&[Step::Scenarios]), [Step::Build, Step::Scenarios]);
    }
}
