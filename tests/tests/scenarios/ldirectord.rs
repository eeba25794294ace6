//! Debian's ldirectord as the oracle, with the kernel's IPVS and the whole agent: on the same file the table is the same after
//! the start, after a failure, after the return, and after the end. Many more files are run natively, with a stand-in for
//! ipvsadm, which is compared with the real one here.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
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
    oracle::{Ldirectord, ORACLE_VARIABLE, Oracle},
    process,
    recorder::Journal,
    say,
};
use tempfile::TempDir;

/// How long a program may take for a change of the table, on a slow machine.
const CHANGE: Duration = Duration::from_secs(40);
/// How long a table that nobody knows beforehand must stay as it is to have settled: some rounds of checks.
const SETTLED: Duration = Duration::from_secs(4);
/// The same where it is as it must be.
const SAME: Duration = Duration::from_secs(2);

type Rules = BTreeSet<String>;
/// The table after the start, after the failure of the first server, after its return, and after the end.
type Course = [Rules; 4];

#[test]
#[ignore = "needs root, IPVS, ldirectord and the agent: cargo xtask test"]
fn the_table_is_ldirectords_where_servers_are_removed() -> Result<()> {
    compare("removed.cf")
}

#[test]
#[ignore = "needs root, IPVS, ldirectord and the agent: cargo xtask test"]
fn the_table_is_ldirectords_where_servers_are_quiescent() -> Result<()> {
    compare("quiescent.cf")
}

/// What ldirectord may ask of ipvsadm, and some of it twice, too late, or wrong.
const CALLS: &str = "\
    -A -t 192.0.2.80:80 -s wrr
    -A -t 192.0.2.80:80 -s wrr
    -a -t 192.0.2.80:80 -x 0 -y 0 -r 10.0.0.1:80 -m -w 1
    -a -t 192.0.2.80:80 -x 20 -y 10 -r 10.0.0.2:8080 -m -w 3
    -a -t 192.0.2.80:80 -x 0 -y 0 -r 10.0.0.3:8080 -g -w 100
    -a -t 192.0.2.80:80 -x 0 -y 0 -r 10.0.0.3:80 -i -w 1
    -a -t 192.0.2.80:80 -x 0 -y 0 -r 10.0.0.4:0 -m -w 1
    -a -t 192.0.2.80:80 -x 0 -y 0 -r 10.0.0.5:0 -i -w 1
    -e -t 192.0.2.80:80 -r 10.0.0.2:8080 -m -w 0
    -e -t 192.0.2.80:80 -r 10.0.0.9:80 -m -w 0
    -d -t 192.0.2.80:80 -r 10.0.0.3:8080
    -d -t 192.0.2.80:80 -r 10.0.0.3:80
    -E -t 192.0.2.80:80 -s sh -p 300 -M 255.255.255.0 -b sh-port,sh-fallback
    -A -u 192.0.2.80:53 -o -s rr
    -a -u 192.0.2.80:53 -x 0 -y 0 -r 10.0.0.1:53 -m -w 65535
    -A -t 192.0.2.80:81 -s nothing
    -A -t 192.0.2.80:82 -s rr -b flag-1
    -E -t 192.0.2.80:83 -s rr
    -A -f 7 -s lc -p 60
    -a -f 7 -x 0 -y 0 -r 10.0.0.1:8080 -g -w 1
    -a -f 7 -x 0 -y 0 -r 10.0.0.2:0 -i -w 1
    -A -f 7 -6 -s wlc -p 30 -M 64
    -a -f 7 -6 -x 0 -y 0 -r [fd00::1]:80 -m -w 1
    -A -t [2001:db8::80]:80 -s rr
    -a -t [2001:db8::80]:80 -x 0 -y 0 -r [fd00::1]:8080 -m -w 1
    -a -t [2001:db8::80]:80 -x 9 -y 0 -r [fd00::2]:8080 -g -w 2
    -d -f 7 -r 10.0.0.2:0
    -D -f 7
    -D -f 8
    -D -u 192.0.2.80:53";

#[test]
#[ignore = "needs root and IPVS: cargo xtask test"]
fn the_stand_in_for_ipvsadm_answers_as_it_does() -> Result<()> {
    let director = Namespace::create("director")?;
    prepare_ipvs(&director)?;
    // Without any address the kernel takes none for a host's.
    process::run(&director, &["ip", "-batch", "-"], "link set lo up\naddr add 192.0.2.80/32 dev lo\n")?;
    let folder = TempDir::new()?;
    let journal = Journal::at(&folder.path().join("journal"));
    let real = |words: &[String]| -> Result<Option<String>> {
        let output = director.run(|| Ok(Command::new("ipvsadm").args(words).output()?))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(output.status.success().then_some(printed))
    };
    for call in CALLS.lines() {
        for call in [call, "-L -n", "-L -n --thresholds"] {
            let words: Vec<String> = call.split_whitespace().map(str::to_owned).collect();
            let (theirs, ours) = (real(&words)?, journal.perform(&words).ok());
            assert_eq!(ours.as_deref().map(blocks), theirs.as_deref().map(blocks), "{call}");
        }
    }
    Ok(())
}

/// The services of a list, each with its servers, in no order. (The first line has the size of the kernel's hash table.)
fn blocks(list: &str) -> BTreeSet<BTreeSet<&str>> {
    let mut blocks: Vec<BTreeSet<&str>> = Vec::new();
    for line in list.lines().skip(1) {
        if !line.starts_with("  ") || blocks.is_empty() {
            blocks.push(BTreeSet::new());
        }
        if let Some(block) = blocks.last_mut() {
            block.insert(line);
        }
    }
    blocks.into_iter().collect()
}

fn compare(name: &str) -> Result<()> {
    let oracle = Oracle::find()?.with_context(|| format!("{ORACLE_VARIABLE} names no ldirectord"))?;
    let mut lab = Lab::build(&Layout::new(Method::Masquerade))?;
    prepare_ipvs(&lab.network.director)?;
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/ldirectord").join(name))?;
    say("ldirectord");
    let theirs = course(&mut lab, None, |director| oracle.start(director, &text, &ipvsadm()?, &[]))
        .context("ldirectord")?;
    process::run(&lab.network.director, &["ipvsadm", "-C"], "")?;
    say("the agent");
    let ours =
        course(&mut lab, Some(&theirs), |director| Agent::start(director, &text)).context("the agent")?;
    for (when, (theirs, ours)) in ["start", "failure", "return", "end"].iter().zip(theirs.iter().zip(&ours)) {
        assert_eq!(ours, theirs, "ours (left) and ldirectord's (right) after the {when}");
    }
    Ok(())
}

fn ipvsadm() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join("ipvsadm")).find(|path| path.is_file());
    found.context("no ipvsadm")
}

/// Something that keeps the table by a file of ldirectord's.
trait Checker {
    fn check_running(&mut self) -> Result<()>;
    fn stop(&mut self) -> Result<()>;
}

impl Checker for Agent {
    fn check_running(&mut self) -> Result<()> {
        Agent::check_running(self).with_context(|| self.diagnosis())
    }

    fn stop(&mut self) -> Result<()> {
        Agent::stop(self).map(drop)
    }
}

impl Checker for Ldirectord {
    fn check_running(&mut self) -> Result<()> {
        Ldirectord::check_running(self)
    }

    fn stop(&mut self) -> Result<()> {
        Ldirectord::stop(self)
    }
}

/// Lets a program run its course. Where the tables are known that it must come to, it is known when it has.
fn course<C: Checker>(
    lab: &mut Lab,
    known: Option<&Course>,
    start: impl FnOnce(&Namespace) -> Result<C>,
) -> Result<Course> {
    let director = lab.network.director.clone();
    let known = |step: usize| known.map(|known| &known[step]);
    let mut checker = start(&director)?;
    let up = settled(&director, &mut checker, &table(&director)?, known(0))?;
    Fault::ProcessKilled.arm(&lab.network.switch, &lab.servers[0])?.strike()?;
    let down = settled(&director, &mut checker, &up, known(1))?;
    Fault::ProcessKilled.heal(&lab.network.switch, &mut lab.servers[0])?;
    let back = settled(&director, &mut checker, &down, known(2))?;
    checker.stop()?;
    Ok([up, down, back, table(&director)?])
}

/// The table when it is another one than `before`, or the one that is known, and stays so.
fn settled(
    director: &Namespace,
    checker: &mut impl Checker,
    before: &Rules,
    known: Option<&Rules>,
) -> Result<Rules> {
    let start = Moment::now();
    let (mut last, mut since) = (table(director)?, Moment::now());
    loop {
        checker.check_running()?;
        thread::sleep(Duration::from_millis(100));
        let now = table(director)?;
        let (there, enough) = match known {
            Some(known) => (last == *known, SAME),
            None => (last != *before, SETTLED),
        };
        if now != last {
            (last, since) = (now, Moment::now());
        } else if there && Moment::now().since(since) >= enough {
            return Ok(last);
        }
        anyhow::ensure!(
            Moment::now().since(start) < CHANGE,
            "the table doesn't settle as it should: {last:#?}, {known:#?}"
        );
    }
}

/// The table as rules, in no order.
fn table(director: &Namespace) -> Result<Rules> {
    let rules = process::run(director, &["ipvsadm", "-Sn"], "")?;
    Ok(rules.lines().map(|line| line.trim_end().to_owned()).collect())
}
