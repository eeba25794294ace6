//! Debian's ldirectord as the reference, with the kernel's IPVS and the whole agent: on the same file the table is the
//! same after the start, after a failure, after the return, and after the end. Many more files are run natively, with a
//! stand-in for ipvsadm, which is compared with the real one here.

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
    lab::{
        Lab,
        agent::Agent,
        clock::Moment,
        director::prepare_ipvs,
        faults::Fault,
        layout::{Layout, Method},
        namespace::Namespace,
        process,
    },
    ldirectord::{LdirectordPackage, PACKAGE_VARIABLE, RoundCounter, fake_ipvsadm::CallLog},
    say,
};
use tempfile::TempDir;

/// How long the agent may take for a change of the table, on a slow machine.
const CHANGE: Duration = Duration::from_secs(40);
/// How long the table must stay as it must be: some checks.
const SAME: Duration = Duration::from_secs(2);
/// After how many rounds of checks ldirectord's table has settled: one more than the most failures in a row that count,
/// and the one in which something happens.
const ROUNDS: u64 = 4;

type Rules = BTreeSet<String>;

#[test]
#[ignore = "needs root, IPVS, ldirectord and the agent: cargo xtask test"]
fn removed_servers_make_the_same_table_as_with_ldirectord() -> Result<()> {
    compare("removed.cf")
}

#[test]
#[ignore = "needs root, IPVS, ldirectord and the agent: cargo xtask test"]
fn quiescent_servers_make_the_same_table_as_with_ldirectord() -> Result<()> {
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
fn the_stand_in_for_ipvsadm_answers_like_ipvsadm() -> Result<()> {
    let director = Namespace::create("director")?;
    prepare_ipvs(&director)?;
    // Without any address the kernel takes none for a host's.
    process::run(&director, &["ip", "-batch", "-"], "link set lo up\naddr add 192.0.2.80/32 dev lo\n")?;
    let folder = TempDir::new()?;
    let call_log = CallLog::at(&folder.path().join("call_log"));
    let real = |words: &[String]| -> Result<Option<String>> {
        let output = director.run(|| Ok(Command::new("ipvsadm").args(words).output()?))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(output.status.success().then_some(printed))
    };
    for call in CALLS.lines() {
        for call in [call, "-L -n", "-L -n --thresholds"] {
            let words: Vec<String> = call.split_whitespace().map(str::to_owned).collect();
            let (theirs, ours) = (real(&words)?, call_log.execute(&words).ok());
            assert_eq!(ours.as_deref().map(blocks), theirs.as_deref().map(blocks), "{call}");
        }
    }
    Ok(())
}

/// The services of a list, each with its servers, in no order. (The first line has the size of the kernel's hash
/// table.)
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
    let package =
        LdirectordPackage::find()?.with_context(|| format!("{PACKAGE_VARIABLE} names no ldirectord"))?;
    let mut lab = Lab::build(&Layout::new(Method::Masquerade))?;
    let director = lab.network.director.clone();
    prepare_ipvs(&director)?;
    let folder = TempDir::new()?;
    let counter = RoundCounter::new(folder.path())?;
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/ldirectord").join(name))?;
    let text = counter.add_to(&text);
    say("ldirectord");
    let mut theirs = package.start(&director, &text, &ipvsadm()?, &[])?;
    let rounds = |_: &'static str| {
        theirs.wait_for_rounds(&counter, ROUNDS)?;
        table(&director)
    };
    let states = tables_of(&mut lab, rounds).context("ldirectord")?;
    theirs.stop()?;
    let end = table(&director)?;
    process::run(&director, &["ipvsadm", "-C"], "")?;
    say("the agent");
    let mut agent = Agent::start(&director, &text)?;
    let same = |when: &'static str| {
        let known = &states.iter().find(|(of, _)| *of == when).context("a moment")?.1;
        becomes(&director, &mut agent, known).with_context(|| format!("after the {when}"))
    };
    tables_of(&mut lab, same).context("the agent")?;
    agent.stop()?;
    assert_eq!(table(&director)?, end, "the agent's (left) and ldirectord's (right) after the end");
    Ok(())
}

fn ipvsadm() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join("ipvsadm")).find(|path| path.is_file());
    found.context("no ipvsadm")
}

/// Lets the first server fail and return, and reads the table after each.
fn tables_of(
    lab: &mut Lab,
    mut look: impl FnMut(&'static str) -> Result<Rules>,
) -> Result<Vec<(&'static str, Rules)>> {
    let up = look("start")?;
    Fault::ProcessKilled.arm(&lab.network.switch, &lab.servers[0])?.inject()?;
    let down = look("failure")?;
    Fault::ProcessKilled.repair(&lab.network.switch, &mut lab.servers[0])?;
    let back = look("return")?;
    Ok(vec![("start", up), ("failure", down), ("return", back)])
}

/// The table when it has become the one that is known, and has stayed so.
fn becomes(director: &Namespace, agent: &mut Agent, known: &Rules) -> Result<Rules> {
    let start = Moment::now();
    let mut since = None;
    loop {
        agent.check_running().with_context(|| agent.diagnosis())?;
        let now = table(director)?;
        if now != *known {
            since = None;
        } else if Moment::now().since(*since.get_or_insert_with(Moment::now)) >= SAME {
            return Ok(now);
        }
        if Moment::now().since(start) >= CHANGE {
            let only = |one: &Rules, other| one.difference(other).cloned().collect::<Vec<_>>();
            let (more, less) = (only(&now, known), only(known, &now));
            anyhow::bail!("only the agent has {more:#?}, only ldirectord {less:#?}; {}", agent.diagnosis());
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The table as rules, in no order.
fn table(director: &Namespace) -> Result<Rules> {
    let rules = process::run(director, &["ipvsadm", "-Sn"], "")?;
    Ok(rules.lines().map(|line| line.trim_end().to_owned()).collect())
}
