//! Debian's ldirectord as the oracle: on the same file the table is the same after the start, after a failure, after the
//! return, and after the end.

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use lvs_tests::{
    agent::Agent,
    clock::Moment,
    director::prepare_ipvs,
    fault::Fault,
    lab::Lab,
    layout::{Layout, Method},
    namespace::Namespace,
    process::{self, Process},
    say,
};
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// Where ldirectord's package is unpacked, with the Perl modules that it needs.
const ORACLE: &str = "LVS_LDIRECTORD";
/// How long a program may take for a change of the table, on a slow machine.
const CHANGE: Duration = Duration::from_secs(40);
/// How long the table must stay as it is to have settled: some rounds of checks.
const SETTLED: Duration = Duration::from_secs(4);
/// How long a program may take to stop.
const STOP: Duration = Duration::from_secs(30);

/// The table after the start, after the failure of the first server, after its return, and after the end.
type Course = [BTreeSet<String>; 4];

#[test]
#[ignore = "needs root, IPVS, ldirectord and the agent: cargo xtask test"]
fn the_table_is_ldirectords_after_start_failure_return_and_end() -> Result<()> {
    let oracle = PathBuf::from(env::var_os(ORACLE).with_context(|| format!("{ORACLE} names no ldirectord"))?);
    let mut lab = Lab::build(&Layout::new(Method::Masquerade))?;
    prepare_ipvs(&lab.network.director)?;
    for file in files()? {
        let name = file.file_name().context("a file's name")?.to_string_lossy().into_owned();
        let text = fs::read_to_string(&file)?;
        say(&format!("{name}: ldirectord"));
        let theirs = course(&mut lab, |director| Theirs::start(director, &oracle, &text))
            .with_context(|| format!("ldirectord with {name}"))?;
        say(&format!("{name}: the agent"));
        let ours = course(&mut lab, |director| Ours::start(director, &text))
            .with_context(|| format!("the agent with {name}"))?;
        for (when, (theirs, ours)) in
            ["start", "failure", "return", "end"].iter().zip(theirs.iter().zip(&ours))
        {
            assert_eq!(ours, theirs, "{name}: ours (left) and ldirectord's (right) after the {when}");
        }
    }
    Ok(())
}

/// The files of `tests/data/ldirectord`.
fn files() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/ldirectord");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// Something that keeps the table by a file of ldirectord's.
trait Checker {
    fn check_running(&mut self) -> Result<()>;
    fn stop(&mut self) -> Result<()>;
}

fn course<C: Checker>(lab: &mut Lab, start: impl FnOnce(&Namespace) -> Result<C>) -> Result<Course> {
    let director = lab.network.director.clone();
    let mut checker = start(&director)?;
    let up = settled(&director, &mut checker, &table(&director)?)?;
    Fault::ProcessKilled.arm(&lab.network.switch, &lab.servers[0])?.strike()?;
    let down = settled(&director, &mut checker, &up)?;
    Fault::ProcessKilled.heal(&lab.network.switch, &mut lab.servers[0])?;
    let back = settled(&director, &mut checker, &down)?;
    checker.stop()?;
    Ok([up, down, back, table(&director)?])
}

/// The table when it is another one than `before` and stays so.
fn settled(
    director: &Namespace,
    checker: &mut impl Checker,
    before: &BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    let start = Moment::now();
    let (mut last, mut since) = (table(director)?, Moment::now());
    loop {
        checker.check_running()?;
        thread::sleep(Duration::from_millis(100));
        let now = table(director)?;
        if now != last {
            (last, since) = (now, Moment::now());
        } else if last != *before && Moment::now().since(since) >= SETTLED {
            return Ok(last);
        }
        anyhow::ensure!(
            Moment::now().since(start) < CHANGE,
            "the table doesn't settle on another one: {last:#?}"
        );
    }
}

/// The table as rules, in no order.
fn table(director: &Namespace) -> Result<BTreeSet<String>> {
    let rules = process::run(director, &["ipvsadm", "-Sn"], "")?;
    Ok(rules.lines().map(|line| line.trim_end().to_owned()).collect())
}

struct Ours(Agent);

impl Ours {
    fn start(director: &Namespace, text: &str) -> Result<Self> {
        let mut agent = Agent::start(director, text)?;
        agent.check_running()?;
        Ok(Self(agent))
    }
}

impl Checker for Ours {
    fn check_running(&mut self) -> Result<()> {
        self.0.check_running().with_context(|| self.0.diagnosis())
    }

    fn stop(&mut self) -> Result<()> {
        self.0.stop().map(drop)
    }
}

struct Theirs {
    process: Process,
    folder: TempDir,
}

impl Theirs {
    fn start(director: &Namespace, root: &Path, text: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("lvs-lab-").tempdir()?;
        let config = folder.path().join("ldirectord.cf");
        fs::write(&config, text)?;
        // In its debug mode it takes the one in its own folder.
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path).map(|folder| folder.join("ipvsadm")).find(|path| path.is_file());
        symlink(found.context("no ipvsadm")?, folder.path().join("ipvsadm"))?;
        let library = root.join("usr/lib").join(format!("{}-linux-gnu", env::consts::ARCH));
        let versions = fs::read_dir(library.join("perl5"))?.map(|entry| Ok(entry?.path()));
        let versions = versions.collect::<Result<Vec<_>>>()?;
        let modules = env::join_paths(versions.into_iter().chain([root.join("usr/share/perl5")]))?;
        let mut command = Command::new("perl");
        command.arg(root.join("usr/sbin/ldirectord")).arg("-d").arg(&config).arg("start");
        command.env("PERL5LIB", modules).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log(folder.path())?);
        Ok(Self { process: Process::start(director, "ldirectord", &mut command)?, folder })
    }
}

fn log(folder: &Path) -> Result<fs::File> {
    Ok(fs::File::create(folder.join("log"))?)
}

impl Checker for Theirs {
    fn check_running(&mut self) -> Result<()> {
        let Some(status) = self.process.status()? else { return Ok(()) };
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        anyhow::bail!("ldirectord has ended: {status}; its log ended with:\n{last}")
    }

    fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(STOP).map(drop)
    }
}
