//! Two directors with keepalived, booted from the recipe's own files: the active one loses its power.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use lvs_tests::{
    lab::{
        clients::requests::Summary,
        clock::Moment,
        pair::{Director, Pair},
        process,
    },
    say,
    testbed::takeover::{Traffic, wait_for_role},
};

/// How long everything is watched after a takeover, and while the agent is gone.
const AFTER: Duration = Duration::from_secs(2);
/// The role that an agent says it has.
fn role(director: &Director) -> Result<String> {
    let control = director.control();
    let output = director.agent.command(&["role", "--control", &control.to_string_lossy()])?;
    assert_eq!(output.code, Some(0), "{output}");
    Ok(output.stdout.trim().to_owned())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_standby_takes_over_with_the_connections_and_without_the_dead_server() -> Result<()> {
    let mut pair = Pair::start()?;
    roles_follow_the_addresses(&pair)?;
    both_active_at_once(&pair)?;
    let traffic = Traffic::start(&pair)?;
    let loss = traffic.lose_director(&mut pair)?;
    thread::sleep(AFTER);
    agent_alone_dies(&mut pair, &traffic)?;
    let takeover = traffic.end(&pair, loss)?;
    say(&takeover.to_string());
    let violations = takeover.violations();
    ensure!(violations.is_empty(), "{violations:#?}\n{}", pair.directors[1].agent.diagnosis());
    Ok(())
}

/// One has the addresses and is active, the other one stands ready; the kernel's daemons run on both.
fn roles_follow_the_addresses(pair: &Pair) -> Result<()> {
    for (director, role_is) in pair.directors.iter().zip(["active", "standby"]) {
        wait_for_role(director, role_is)?;
        assert!(role(director)?.starts_with(role_is), "{}", director.name);
        let daemons = process::run(&director.namespace, &["ipvsadm", "-L", "--daemon"], "")?;
        for role in ["master", "backup"] {
            let line = format!("{role} sync daemon (mcast=lan, syncid=51");
            assert!(daemons.contains(&line), "{}: {daemons}", director.name);
        }
    }
    Ok(())
}

/// The directors don't hear each other: both take the addresses, and their tables stay right.
fn both_active_at_once(pair: &Pair) -> Result<()> {
    let [a, b] = &pair.directors;
    pair.set_vrrp(false)?;
    wait_for_role(b, "active")?;
    assert!(a.has_vips()? && b.has_vips()?);
    for director in [a, b] {
        let table = director.table()?;
        for server in ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"] {
            assert_eq!(table.weight(server.parse()?), Some(1), "{server}");
        }
    }
    pair.set_vrrp(true)?;
    wait_for_role(b, "standby").map(drop)
}

/// The agent of the active director is killed: clients notice nothing, and the addresses stay.
fn agent_alone_dies(pair: &mut Pair, traffic: &Traffic) -> Result<()> {
    let since = Moment::now();
    pair.directors[1].kill_agent()?;
    thread::sleep(AFTER);
    let summary = Summary::between(&traffic.new_requests(), since, Moment::now());
    assert!(
        summary.requests > 50 && summary.failed() == 0 && summary.late == 0,
        "without the agent: {summary}"
    );
    assert!(pair.directors[1].has_vips()?, "VRRP does not move");
    Ok(())
}
