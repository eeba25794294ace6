//! Debian's ldirectord, unpacked: what the agent is compared with.

pub mod fake_ipvsadm;

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::lab::{
    namespace::Namespace,
    process::{Process, programs},
    wait,
};

/// Where ldirectord's package is unpacked, with the Perl modules that it needs.
pub const PACKAGE_VARIABLE: &str = "LVS_LDIRECTORD";
/// Perl's own modules, on a machine that has more of Perl than its interpreter. Elsewhere the package's are used.
const OWN_MODULES: &str = "/usr/share/perl";
/// How long it may take to stop.
const STOP: Duration = Duration::from_mins(1);
/// Lines of its log that an error quotes.
const QUOTED_LINES: usize = 20;

/// Tells the commands of checks that ldirectord has called them.
pub const CALLER_VARIABLE: &str = "LVS_LAB_CALLER";
/// How long it may take for a round of checks, on a slow machine. The modules for some are read in the first.
pub const ROUND: Duration = Duration::from_mins(1);

/// Counts the rounds of ldirectord's checks: by a service, the last one, that is checked by a command.
#[derive(Clone, Debug)]
pub struct RoundCounter {
    folder: PathBuf,
}

impl RoundCounter {
    /// The address of the service that counts.
    pub const ADDRESS: &str = "192.0.2.250";

    /// One that keeps its files in this folder.
    pub fn new(folder: &Path) -> Result<Self> {
        let (script, rounds) = (folder.join("round"), folder.join("rounds"));
        let text =
            format!("#!/bin/sh\ntest \"${CALLER_VARIABLE}\" != ldirectord || echo >> {}\n", rounds.display());
        programs::write_script(&script, &text)?;
        fs::write(rounds, "")?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// These services and that one.
    #[must_use]
    pub fn add_to(&self, text: &str) -> String {
        let script = self.folder.join("round");
        format!(
            "{text}\nvirtual={}:9\n    real=10.9.9.9:9 masq\n    checktype=external\n    checkcommand={}\n",
            Self::ADDRESS,
            script.display()
        )
    }

    /// How many rounds there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        fs::metadata(self.folder.join("rounds")).map_or(0, |rounds| rounds.len())
    }
}

/// The unpacked package.
#[derive(Clone, Debug)]
pub struct LdirectordPackage {
    program: PathBuf,
    modules: OsString,
}

impl LdirectordPackage {
    /// The one that the environment names, if it does.
    pub fn find() -> Result<Option<Self>> {
        let Some(root) = env::var_os(PACKAGE_VARIABLE).map(PathBuf::from) else { return Ok(None) };
        let library = root.join("usr/lib").join(format!("{}-linux-gnu", env::consts::ARCH));
        let versions = |folder: &Path| {
            let versions = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
            versions.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()
        };
        let mut modules = versions(&library.join("perl5"))?;
        modules.push(root.join("usr/share/perl5"));
        if !Path::new(OWN_MODULES).exists() {
            modules.extend(versions(&library.join("perl"))?);
            modules.extend(versions(&root.join("usr/share/perl"))?);
        }
        let modules = env::join_paths(modules)?;
        Ok(Some(Self { program: root.join("usr/sbin/ldirectord"), modules }))
    }

    /// Starts it in the foreground with the text of a configuration file, an ipvsadm, and more environment.
    pub fn start(
        &self,
        namespace: &Namespace,
        text: &str,
        ipvsadm: &Path,
        environment: &[(&str, &Path)],
    ) -> Result<Ldirectord> {
        let folder = tempfile::Builder::new().prefix("lvs-lab-").tempdir()?;
        let config = folder.path().join("ldirectord.cf");
        fs::write(&config, text)?;
        // In its debug mode it takes the one in its own folder.
        symlink(ipvsadm, folder.path().join("ipvsadm"))?;
        let log = fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new("perl");
        command.arg(&self.program).arg("-d").arg(&config).arg("start");
        command.env("PERL5LIB", &self.modules).envs(environment.iter().copied()).current_dir(folder.path());
        command.env(CALLER_VARIABLE, "ldirectord").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(Ldirectord { process: Process::start(namespace, "ldirectord", &mut command)?, folder })
    }
}

/// A running (or ended) ldirectord. Dropping it kills it.
#[derive(Debug)]
pub struct Ldirectord {
    process: Process,
    folder: TempDir,
}

impl Ldirectord {
    /// Its configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("ldirectord.cf")
    }

    /// An error if it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        let Some(status) = self.process.status()? else { return Ok(()) };
        bail!("ldirectord has ended: {status}; its log ended with:\n{}", self.log_end())
    }

    /// The end of its log.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
    }

    /// Ends its pause between two rounds of checks, if that is where it is: by a signal that it takes for the end of
    /// one of its own children.
    pub fn wake(&mut self) -> Result<()> {
        let place = fs::read_to_string(format!("/proc/{}/wchan", self.process.pid())).unwrap_or_default();
        if place.contains("nanosleep") { self.process.signal(Signal::SIGCHLD) } else { Ok(()) }
    }

    /// Waits until it has gone through all services so many times.
    pub fn wait_for_rounds(&mut self, counter: &RoundCounter, rounds: u64) -> Result<()> {
        let goal = counter.count() + rounds;
        let done = wait::until_true("ldirectord's checks", ROUND, || {
            self.check_running()?;
            self.wake()?;
            Ok(counter.count() >= goal)
        });
        done.with_context(|| format!("its log ended with:\n{}", self.log_end()))
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Asks it to stop with SIGTERM and waits for its end.
    pub fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        let ended = self.process.wait(STOP).map(drop);
        ended.with_context(|| format!("its log ended with:\n{}", self.log_end()))
    }
}
