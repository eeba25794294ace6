//! What people order: a server is drained, removed, let in again, put in maintenance.

use std::time::Duration;

use anyhow::Result;
use lvs_tests::{
    lab::{agent::log::EventKind, clients::Pattern, layout::Method},
    testbed::{Scene, Setting},
};

use nix::sys::signal::Signal;

use crate::failing::HEALTHY;

/// How long an order may take to show in the table.
const LIMIT: Duration = Duration::from_secs(15);

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_drain_waits_for_the_last_connection() -> Result<()> {
    let pattern = Pattern::LongLived { flows: 9, pause: Duration::from_millis(200) };
    let mut scene = Scene::start(&Setting::new(Method::Masquerade).pattern(pattern))?;
    scene.pass(HEALTHY)?;
    let server = scene.lab.servers[0].address();
    let name = server.to_string();

    let told = scene.agent.command(&["drain", &name, "--until-empty", "--timeout", "3s"])?;
    assert_eq!(told.code, Some(2), "its connections go on: {told}");
    assert!(told.text.contains("3 active connections") && told.errors.contains("stays drained"), "{told}");
    assert_eq!(scene.watch.table()?.weight(server), Some(0));
    let status = scene.agent.command(&["status"])?;
    let line = status.text.lines().find(|line| line.contains(&name)).unwrap_or_default();
    assert!(line.contains("weight 0  up") && line.contains("it is being drained, for"), "{line}");
    let failed = scene.load.count(|request| !request.outcome.is_success());
    assert_eq!(failed, 0, "connections outlive the drain: {}", scene.diagnosis());

    scene.load.stop()?;
    let told = scene.agent.command(&[
        "drain",
        &name,
        "--service",
        "web",
        "--until-empty",
        "--remove",
        "--timeout",
        "2m",
    ])?;
    assert_eq!(told.code, Some(0), "{told}");
    assert!(
        told.text.contains("no connections are left") && told.text.contains("out of the table"),
        "{told}"
    );
    scene.wait("the server to go", LIMIT, |scene| Ok(scene.watch.table()?.weight(server).is_none()))?;

    assert_eq!(scene.agent.command(&["undrain", &server.ip().to_string()])?.code, Some(0));
    scene.wait("the server to come back", LIMIT, |scene| Ok(scene.watch.table()?.weight(server) == Some(1)))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn maintenance_is_switched_on_and_off_and_who_is_unknown_is_told() -> Result<()> {
    let mut scene = Scene::start(&Setting::new(Method::Masquerade))?;
    scene.pass(HEALTHY)?;
    let server = scene.lab.servers[0].address();
    let name = server.to_string();
    assert_eq!(scene.agent.command(&["maintenance", &name, "on"])?.code, Some(0));
    scene.wait_until_out(0)?;
    let status = scene.agent.command(&["status"])?;
    assert!(status.text.contains("it is in maintenance, for"), "{status}");
    survives_the_agent(&mut scene)?;
    assert_eq!(scene.agent.command(&["maintenance", &name, "off"])?.code, Some(0));
    scene.wait_until_back(0)?;
    for (words, expected) in [
        (["drain", "10.0.0.77:80", "--service", "web"], "no service has a server 10.0.0.77:80; there are"),
        (["maintenance", &name, "on", "--service=wbe"], "there is no service \"wbe\"; there are web"),
    ] {
        let told = scene.agent.command(&words)?;
        assert_eq!(told.code, Some(1), "{told}");
        assert!(told.errors.contains(expected), "{told}");
    }
    Ok(())
}

/// The order holds for the next agent, which finds the table as it wants it.
fn survives_the_agent(scene: &mut Scene) -> Result<()> {
    scene.agent.signal(Signal::SIGKILL)?;
    scene.agent.wait_for_end()?;
    let before = scene.watch.history()?.len();
    scene.restart_agent()?;
    let server = Some(scene.lab.servers[0].address());
    scene.wait("the server to be found well", LIMIT, |scene| {
        let mut events = scene.agent.events().into_iter().filter(|event| event.server == server);
        Ok(events.any(|event| matches!(event.kind, EventKind::State { to, .. } if to == "up")))
    })?;
    let told = "it is in maintenance, as was ordered before this agent was started";
    assert!(scene.agent.lines().iter().any(|line| line.contains(told)), "{}", scene.diagnosis());
    assert_eq!(scene.watch.history()?.len(), before, "no superfluous edit: {}", scene.diagnosis());
    Ok(())
}
