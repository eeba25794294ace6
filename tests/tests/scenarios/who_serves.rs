//! Who serves, when: a restart while a backup does, the director's own link, and schedulers that choose by a hash.

use std::time::Duration;

use anyhow::Result;
use lvs_tests::{
    lab::{
        agent::log::EventKind, clients::requests::Summary, clock::Moment, director::table_watcher::changes,
        faults::Fault, layout::Method, process,
    },
    say,
    testbed::{Setup, Testbed},
};
use nix::sys::signal::Signal;

use crate::expect_failover::{BY_CHECK, HEALTHY};

/// How long the link is down: long enough for the regular checks to agree.
const OUTAGE: Duration = Duration::from_secs(7);
/// How long it is up in between.
const BETWEEN: Duration = Duration::from_secs(5);
/// Until all servers have been asked again, each second, and the edits are made.
const BACK: Duration = Duration::from_secs(2);

/// What stands in for the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backup {
    Checked,
    /// It is not checked.
    SaysSorry,
}

/// Two servers and a backup.
fn backed(backup: Backup) -> Setup {
    let mut setup = Setup::new(Method::Masquerade);
    setup.config = setup.config.backups(1);
    if backup == Backup::SaysSorry {
        setup.config = setup.config.unchecked_backups();
    }
    setup
}

/// Cuts the servers off from the director, all at once.
fn cut_off(testbed: &Testbed, servers: usize) -> Result<()> {
    let switch = &testbed.lab.network.switch;
    let armed: Result<Vec<_>> =
        testbed.lab.servers[..servers].iter().map(|server| Fault::Unplugged.arm(switch, server)).collect();
    for fault in armed? {
        fault.inject()?;
    }
    Ok(())
}

fn wait_for_backup(testbed: &mut Testbed) -> Result<()> {
    let since = Moment::now();
    let name = testbed.lab.servers[2].name.clone();
    testbed.wait("the backup to serve alone", BY_CHECK * 2, |testbed| {
        let (table, servers) = (testbed.watcher.table()?, &testbed.lab.servers);
        Ok(table.is_out(servers[0].address())
            && table.is_out(servers[1].address())
            && testbed.served_since(&name, since) >= 3)
    })
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_restart_while_a_backup_serves_changes_nothing() -> Result<()> {
    for (action, signal, interval, backup) in [
        ("quiesce", Signal::SIGTERM, "1s", Backup::Checked),
        ("remove", Signal::SIGTERM, "1s", Backup::SaysSorry),
        ("quiesce", Signal::SIGKILL, "5s", Backup::SaysSorry),
        ("remove", Signal::SIGKILL, "1s", Backup::Checked),
    ] {
        let mut setup = backed(backup).on_failure(action);
        interval.clone_into(&mut setup.config.service[0].check.interval);
        let mut testbed = Testbed::start(&setup)?;
        testbed.run_for(HEALTHY)?;
        cut_off(&testbed, 2)?;
        wait_for_backup(&mut testbed)?;
        // Those that are on their way to a dead server have failed by then.
        testbed.run_for(Duration::from_secs(4))?;
        testbed.reset_healthy_since();
        let since = Moment::now();
        testbed.agent.signal(signal)?;
        testbed.agent.wait_for_end()?;
        testbed.restart_agent()?;
        testbed.run_for(if interval == "5s" { 2 * OUTAGE } else { OUTAGE })?;
        let summary = Summary::between(&testbed.load.requests(), since, Moment::now());
        say(&format!("{signal}, {action}, a check each {interval}, {backup:?}: {summary}"));
        assert!(summary.requests > 0 && summary.failed() == 0, "{summary} {}", testbed.diagnosis());
        assert_eq!(changes(&testbed.history_since_healthy()?), [], "{}", testbed.diagnosis());
        for server in 0..2 {
            testbed.repair(Fault::Unplugged, server)?;
        }
        (0..2).try_for_each(|server| testbed.wait_until_back(server))?;
        let backup = testbed.lab.servers[2].address();
        assert!(testbed.watcher.table()?.is_out(backup), "{}", testbed.diagnosis());
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn the_directors_own_link_costs_no_server_a_penalty() -> Result<()> {
    for (backup, flaps) in [(Backup::Checked, 4), (Backup::SaysSorry, 2)] {
        let mut setup = backed(backup);
        setup.config.service[0].slow_start = Some("30s".to_owned());
        let mut testbed = Testbed::start(&setup)?;
        testbed.run_for(HEALTHY)?;
        let mut took = Vec::new();
        for _ in 0..flaps {
            took.push(flap(&mut testbed)?);
        }
        say(&format!("{backup:?}: all serve again after {took:.0?}"));
        // At the next check of each, the last time as the first.
        assert!(took.iter().all(|took| *took <= BACK), "{took:?} {}", testbed.diagnosis());
        let damped = testbed.agent.events().iter().any(|event| matches!(event.kind, EventKind::Damped {}));
        assert!(!damped, "{}", testbed.diagnosis());
    }
    Ok(())
}

/// The link goes and comes back. Returns how long after that both servers serve again and the backup doesn't. Nobody
/// fails once the backup serves, nor afterwards.
fn flap(testbed: &mut Testbed) -> Result<Duration> {
    let backup = testbed.lab.servers[2].address();
    cut_off(testbed, 2)?;
    wait_for_backup(testbed)?;
    // Those that are on their way to a dead server have failed by then.
    testbed.run_for(Duration::from_secs(4))?;
    let since = Moment::now();
    for server in 0..2 {
        testbed.repair(Fault::Unplugged, server)?;
    }
    let up = Moment::now();
    testbed.wait("all to serve again", BY_CHECK, |testbed| {
        let (table, servers) = (testbed.watcher.table()?, &testbed.lab.servers);
        Ok(table.is_in_everywhere(servers[0].address())
            && table.is_in_everywhere(servers[1].address())
            && table.is_out(backup))
    })?;
    let took = Moment::now().since(up);
    testbed.run_for(BETWEEN)?;
    let summary = Summary::between(&testbed.load.requests(), since, Moment::now());
    assert!(summary.requests > 0 && summary.failed() == 0, "{summary} {}", testbed.diagnosis());
    Ok(took)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_is_down_or_drained_under_source_hashing_leaves_its_clients_to_the_others() -> Result<()> {
    for scheduler in ["sh", "mh"] {
        let mut setup = Setup::new(Method::Masquerade);
        scheduler.clone_into(&mut setup.config.service[0].scheduler);
        let mut testbed = Testbed::start(&setup)?;
        testbed.run_for(HEALTHY)?;
        let director = testbed.lab.network.director.clone();
        let flags = process::run(&director, &["ipvsadm", "-Ln"], "")?;
        assert!(flags.contains("fallback") || flags.contains("flag-1"), "{flags}");
        testbed.inject(Fault::ProcessKilled, 0)?;
        testbed.wait_until_out(0)?;
        let since = Moment::now();
        testbed.run_for(Duration::from_secs(3))?;
        assert_none_failed(&testbed, scheduler, since);
        testbed.repair(Fault::ProcessKilled, 0)?;
        testbed.wait_until_back(0)?;

        let drained = testbed.lab.servers[1].address();
        let output = testbed.agent.command(&["drain", &drained.to_string()])?;
        assert_eq!(output.code, Some(0), "{output}");
        testbed
            .wait("the drain", BY_CHECK, |testbed| Ok(testbed.watcher.table()?.weight(drained) == Some(0)))?;
        let since = Moment::now();
        testbed.run_for(Duration::from_secs(3))?;
        assert_none_failed(&testbed, scheduler, since);
    }
    Ok(())
}

fn assert_none_failed(testbed: &Testbed, scheduler: &str, since: Moment) {
    let summary = Summary::between(&testbed.load.requests(), since, Moment::now());
    say(&format!("{scheduler}: {summary}"));
    assert!(summary.requests > 0 && summary.failed() == 0, "{summary} {}", testbed.diagnosis());
}
