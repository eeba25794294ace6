//! Commands of an administrator: a server is drained, removed, let in again, put in maintenance.

use std::time::Duration;

use anyhow::Result;
use lvs_tests::{
    lab::{agent::log::EventKind, clients::Pattern, faults::Fault, layout::Method},
    testbed::{Setup, Testbed},
};

use nix::sys::signal::Signal;

use crate::expect_failover::HEALTHY;

/// How long a command may take to show in the table.
const LIMIT: Duration = Duration::from_secs(15);

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_drain_waits_for_the_last_connection() -> Result<()> {
    let pattern = Pattern::LongLived { flows: 9, pause: Duration::from_millis(200) };
    let mut testbed = Testbed::start(&Setup::new(Method::Masquerade).pattern(pattern))?;
    testbed.run_for(HEALTHY)?;
    let server = testbed.lab.servers[0].address();
    let name = server.to_string();

    let output = testbed.agent.command(&["drain", &name, "--until-empty", "--timeout", "3s"])?;
    assert_eq!(output.code, Some(2), "its connections go on: {output}");
    assert!(
        output.stdout.contains("3 active connections") && output.stderr.contains("stays drained"),
        "{output}"
    );
    assert_eq!(testbed.watcher.table()?.weight(server), Some(0));
    let status = testbed.agent.command(&["status"])?;
    let line = status.stdout.lines().find(|line| line.contains(&name)).unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words.get(..4), Some(&["->", &name, "Masq", "0"][..]), "{line}");
    assert!(words.contains(&"up") && line.contains("it is being drained, for"), "{line}");
    assert_eq!(status.code, Some(0), "what people ordered is no fault: {status}");
    let failed = testbed.load.count(|request| !request.outcome.is_success());
    assert_eq!(failed, 0, "connections outlive the drain: {}", testbed.diagnosis());

    testbed.load.stop()?;
    let output = testbed.agent.command(&[
        "drain",
        &name,
        "--service",
        "web",
        "--until-empty",
        "--remove",
        "--timeout",
        "2m",
    ])?;
    assert_eq!(output.code, Some(0), "{output}");
    assert!(
        output.stdout.contains("no connections are left") && output.stdout.contains("out of the table"),
        "{output}"
    );
    testbed
        .wait("the server to go", LIMIT, |testbed| Ok(testbed.watcher.table()?.weight(server).is_none()))?;

    assert_eq!(testbed.agent.command(&["undrain", &server.ip().to_string()])?.code, Some(0));
    testbed.wait("the server to come back", LIMIT, |testbed| {
        Ok(testbed.watcher.table()?.weight(server) == Some(1))
    })
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn maintenance_is_switched_on_and_off_and_unknown_names_are_reported() -> Result<()> {
    let mut testbed = Testbed::start(&Setup::new(Method::Masquerade))?;
    testbed.run_for(HEALTHY)?;
    let server = testbed.lab.servers[0].address();
    let name = server.to_string();
    assert_eq!(testbed.agent.command(&["maintenance", &name, "on"])?.code, Some(0));
    testbed.wait_until_out(0)?;
    let status = testbed.agent.command(&["status"])?;
    assert!(status.stdout.contains("it is in maintenance, for"), "{status}");
    assert_eq!(testbed.agent.command(&["status", "wbe"])?.code, Some(3), "there is no such service");
    survives_the_agent(&mut testbed)?;
    assert_eq!(testbed.agent.command(&["maintenance", &name, "off"])?.code, Some(0));
    testbed.wait_until_back(0)?;
    for (words, expected) in [
        (["drain", "10.0.0.77:80", "--service", "web"], "no service has a server 10.0.0.77:80; there are"),
        (["maintenance", &name, "on", "--service=wbe"], "there is no service \"wbe\"; there are web"),
    ] {
        let output = testbed.agent.command(&words)?;
        assert_eq!(output.code, Some(1), "{output}");
        assert!(output.stderr.contains(expected), "{output}");
    }
    Ok(())
}

/// What people and programs see of a failover: the status with its exit code, and the events with the timeline.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_failover_is_seen_with_its_reason_and_its_timeline() -> Result<()> {
    let mut testbed = Testbed::start(&Setup::new(Method::Masquerade))?;
    testbed.run_for(HEALTHY)?;
    let server = testbed.lab.servers[0].address().to_string();
    let healthy = testbed.agent.command(&["status", "web"])?;
    assert_eq!(healthy.code, Some(0), "{healthy}");
    let answered = testbed.agent.command(&["check", &server])?;
    assert_eq!(answered.code, Some(0), "{answered}");
    testbed.inject(Fault::ProcessKilled, 0)?;
    testbed.wait_until_out(0)?;
    let refused = testbed.agent.command(&["check", &server, "--service", "web", "--json"])?;
    let checked: serde_json::Value = serde_json::from_str(&refused.stdout)?;
    let check = &checked["servers"][0]["checks"][0];
    assert_eq!((refused.code, &check["text"]), (Some(1), &"connection refused".into()), "{refused}");
    assert_eq!(check["steps"][0]["step"], "connection", "{refused}");
    // What the kernel counts may be half a second old in a status.
    testbed.run_for(Duration::from_secs(1))?;

    let status = testbed.agent.command(&["status"])?;
    let line = status.stdout.lines().find(|line| line.contains(&server)).unwrap_or_default();
    assert!(line.contains(" down ") && line.contains("connection refused"), "{status}");
    assert_eq!(status.code, Some(1), "{status}");
    let json: serde_json::Value = serde_json::from_str(&testbed.agent.ask(&["status", "--json"])?.stdout)?;
    let seen = &json["services"][0]["servers"][0];
    assert_eq!((&json["version"], &json["health"]), (&1.into(), &"degraded".into()), "{json}");
    assert_eq!((&seen["table_weight"], &seen["state"]), (&0.into(), &"down".into()), "{json}");
    assert!(seen["traffic"]["connections"].as_u64().is_some_and(|count| count > 0), "{json}");

    let events = testbed.agent.command(&["events", "--json", "--since", "1m", "--service", "web"])?;
    let lines: Vec<serde_json::Value> =
        events.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let timelines: Vec<_> = lines.iter().filter_map(|line| line.get("timeline")).collect();
    let [timeline] = timelines[..] else { anyhow::bail!("not one failover: {events}") };
    assert_eq!(timeline["server"], server.as_str());
    assert!(timeline["total_ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 1000.0), "{timeline}");
    let steps: Vec<_> = timeline["steps"].as_array().into_iter().flatten().collect();
    let kinds: Vec<_> = steps.iter().filter_map(|step| step["step"].as_str()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"evidence"), Some(&"edit")), "{timeline}");
    assert!(kinds.contains(&"probe") && kinds.contains(&"state"), "{timeline}");
    let text = testbed.agent.command(&["events"])?;
    assert!(text.stdout.contains(&format!("failover of {server} in web, ")), "{text}");

    assert_eq!(testbed.agent.command(&["log-level", "debug"])?.stdout, "debug\n");
    assert_eq!(testbed.agent.command(&["log-level", "loud"])?.code, Some(1));
    Ok(())
}

/// The command holds for the next agent, which finds the table as it wants it.
fn survives_the_agent(testbed: &mut Testbed) -> Result<()> {
    testbed.agent.signal(Signal::SIGKILL)?;
    testbed.agent.wait_for_end()?;
    let before = testbed.watcher.history()?.len();
    testbed.restart_agent()?;
    let server = Some(testbed.lab.servers[0].address());
    testbed.wait("the server to be found well", LIMIT, |testbed| {
        let mut events = testbed.agent.events().into_iter().filter(|event| event.server == server);
        Ok(events.any(|event| matches!(event.kind, EventKind::State { to, .. } if to == "up")))
    })?;
    let expected = "it is in maintenance, by a command from before this agent was started";
    assert!(testbed.agent.lines().iter().any(|line| line.contains(expected)), "{}", testbed.diagnosis());
    assert_eq!(testbed.watcher.history()?.len(), before, "no superfluous edit: {}", testbed.diagnosis());
    Ok(())
}
