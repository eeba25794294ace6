//! What a pool does about its servers: backups, damping, slow start.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use lvs_tests::{
    lab::{
        agent::{log::EventKind, metric},
        clock::Moment,
        director::{table::ChangeKind, table_watcher::changes},
        faults::Fault,
        layout::Method,
    },
    say,
    testbed::{Setup, Testbed},
};

use crate::expect_failover::{BY_CHECK, HEALTHY};

/// How long a flapping server is healthy, and then failed.
const FLAP: Duration = Duration::from_secs(2);
/// How often.
const FLAPS: usize = 8;

/// Whether new connections can go to a server, and whether it is in the table at all.
fn presence(testbed: &Testbed, server: usize) -> Result<(bool, bool)> {
    let (table, address) = (testbed.watcher.table()?, testbed.lab.servers[server].address());
    Ok((!table.is_out(address), table.weight(address).is_some()))
}

/// The table's changes to one server.
fn changes_of(testbed: &Testbed, server: SocketAddr) -> Result<Vec<ChangeKind>> {
    let all = changes(&testbed.history_since_healthy()?).into_iter();
    Ok(all.filter(|change| change.change.server == server).map(|change| change.change.kind).collect())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_sorry_server_takes_over_when_the_regular_checks_agree_that_all_are_dead() -> Result<()> {
    let mut setup = Setup::new(Method::Masquerade).on_failure("remove");
    setup.config = setup.config.backups(1);
    let mut testbed = Testbed::start(&setup)?;
    testbed.run_for(HEALTHY)?;
    assert_eq!(
        presence(&testbed, 2)?,
        (false, false),
        "a backup is not in the table: {}",
        testbed.diagnosis()
    );
    let switch = testbed.lab.network.switch.clone();
    let armed: Result<Vec<_>> =
        testbed.lab.servers[..2].iter().map(|server| Fault::LinkDown.arm(&switch, server)).collect();
    for fault in armed? {
        fault.inject()?;
    }
    // Less than the regular checks take: the fast path leaves the last one in.
    testbed.run_for(Duration::from_secs(1))?;
    assert!(presence(&testbed, 0)?.0 || presence(&testbed, 1)?.0, "{}", testbed.diagnosis());
    testbed.wait("the backup to be alone", BY_CHECK, |testbed| {
        Ok(presence(testbed, 2)?.0 && !presence(testbed, 0)?.1 && !presence(testbed, 1)?.1)
    })?;
    let since = Moment::now();
    let name = testbed.lab.servers[2].name.clone();
    testbed.wait("the backup to serve", BY_CHECK, |testbed| Ok(testbed.served_since(&name, since) >= 3))?;
    for server in 0..2 {
        testbed.repair(Fault::LinkDown, server)?;
    }
    (0..2).try_for_each(|server| testbed.wait_until_back(server))?;
    assert_eq!(presence(&testbed, 2)?, (false, false), "it is out again: {}", testbed.diagnosis());
    let backup = testbed.lab.servers[2].address();
    assert_eq!(changes_of(&testbed, backup)?, [ChangeKind::Added(1), ChangeKind::Removed]);
    for seen in testbed.history_since_healthy()? {
        let serving = testbed.lab.servers.iter().filter(|server| !seen.table.is_out(server.address()));
        assert!(serving.count() > 0, "never without any: {}", testbed.diagnosis());
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_comes_and_goes_is_kept_out() -> Result<()> {
    let mut testbed = Testbed::start(&Setup::new(Method::Masquerade))?;
    testbed.run_for(HEALTHY)?;
    testbed.reset_healthy_since();
    let server = testbed.lab.servers[0].address();
    let mut ill = false;
    for _ in 0..FLAPS {
        if ill {
            testbed.repair(Fault::ProcessFailing, 0)?;
        } else {
            Fault::ProcessFailing.arm(&testbed.lab.network.switch, &testbed.lab.servers[0])?.inject()?;
        }
        ill = !ill;
        testbed.run_for(FLAP)?;
    }
    let moves = changes_of(&testbed, server)?;
    let label = format!("server=\"{server}\"");
    let relapses = metric(&testbed.agent.metrics()?, "lvs_server_relapses", &[&label]).unwrap_or(f64::NAN);
    say(&format!("{FLAPS} spells of {FLAP:?}: {} edits, {relapses} relapses", moves.len()));
    // Out, in, out: then it has to be well for longer than it is. Without damping it would be one edit a spell.
    assert!((1..=5).contains(&moves.len()), "{moves:?} {}", testbed.diagnosis());
    assert!(
        !moves.is_empty() && moves.iter().all(|kind| matches!(kind, ChangeKind::Weight(..))),
        "{moves:?}"
    );
    assert!(relapses >= 1.0, "{relapses} relapses");
    let damped = testbed.agent.events().iter().any(|event| matches!(event.kind, EventKind::Damped {}));
    assert!(damped, "it was not logged: {}", testbed.diagnosis());
    // Once it stays well it is let in.
    testbed.wait_until_back(0)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn the_weight_of_a_server_that_comes_back_rises_slowly() -> Result<()> {
    let mut setup = Setup::new(Method::Masquerade);
    let service = &mut setup.config.service[0];
    service.slow_start = Some("4s".to_owned());
    service.scheduler = "wrr".to_owned();
    service.server.iter_mut().for_each(|server| server.weight = 10);
    let mut testbed = Testbed::start(&setup)?;
    let server = testbed.lab.servers[0].address();
    testbed.run_for(HEALTHY)?;
    testbed.reset_healthy_since();
    testbed.inject(Fault::ProcessKilled, 0)?;
    testbed.wait_until_out(0)?;
    // As long as the regular checks don't agree, its removal is provisional, and costs no slow start.
    testbed.wait("the regular checks to agree", BY_CHECK, |testbed| {
        Ok(testbed.agent.lines().iter().any(|line| line.contains("\"event\":\"agreed\"")))
    })?;
    testbed.repair(Fault::ProcessKilled, 0)?;
    testbed.wait("its whole weight", BY_CHECK, |testbed| {
        Ok(testbed.watcher.table()?.weight(server) == Some(10))
    })?;
    let history = changes(&testbed.history_since_healthy()?);
    let mut moves = history.iter().filter(|change| change.change.server == server);
    let out = moves.next().map(|change| change.change.kind);
    assert_eq!(out, Some(ChangeKind::Weight(10, 0)));
    let rise: Vec<_> = moves.map(|change| (change.at, change.change.kind)).collect();
    let steps: Vec<_> = rise.iter().map(|(_, kind)| *kind).collect();
    let expected: Vec<_> = (0..10).map(|weight| ChangeKind::Weight(weight, weight + 1)).collect();
    assert_eq!(steps, expected);
    // The step to 2 is due at two tenths: from then to the last one are eight.
    let took = rise[9].0.since(rise[1].0).as_secs_f64();
    say(&format!("from weight 2 to 10 in {took:.2} s"));
    assert!((2.9..=3.6).contains(&took), "{took} s");
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_fails_keeps_the_weight_that_the_operator_wants() -> Result<()> {
    let mut setup = Setup::new(Method::Masquerade);
    let service = &mut setup.config.service[0];
    service.on_failure = toml::Table::from_iter([("weight".to_owned(), 2.into())]).into();
    service.scheduler = "wrr".to_owned();
    service.server.iter_mut().for_each(|server| server.weight = 10);
    let mut testbed = Testbed::start(&setup)?;
    let server = testbed.lab.servers[0].address();
    testbed.reset_healthy_since();
    testbed.inject(Fault::ProcessFailing, 0)?;
    let weight_is =
        |weight| move |testbed: &Testbed| Ok(testbed.watcher.table()?.weight(server) == Some(weight));
    testbed.wait("the lower weight", BY_CHECK, weight_is(2))?;
    // It stays as long as the server fails.
    testbed.run_for(Duration::from_secs(3))?;
    testbed.repair(Fault::ProcessFailing, 0)?;
    testbed.wait("its own weight", BY_CHECK, weight_is(10))?;
    assert_eq!(changes_of(&testbed, server)?, [ChangeKind::Weight(10, 2), ChangeKind::Weight(2, 10)]);
    Ok(())
}
