//! Nothing fails: the agent must leave the table alone.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use lvs_tests::{
    lab::{
        agent::{log::AgentEvent, metric},
        clients::requests::{Request, Summary},
        clock::Moment,
        director::{packet_counter::PacketCounter, table_watcher::changes},
        layout::Method,
        wait,
    },
    say,
    testbed::{Setup, Testbed},
};

/// Traffic without a fault, with either check.
const HEALTHY: Duration = Duration::from_secs(30);
/// Packets a second from the director to a server, idle connection and hints included, at most: with an HTTP check each
/// second, and with a connection each second.
const PAGES: f64 = 6.0;
const CONNECTIONS: f64 = 4.0;

/// How long the metrics may lag behind.
const COUNTING: Duration = Duration::from_secs(15);

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn healthy_traffic_changes_nothing() -> Result<()> {
    for method in Method::ALL {
        let setup = Setup::new(method);
        let mut testbed = Testbed::start(&setup)?;
        let servers = testbed.lab.servers.iter();
        let counters: Vec<PacketCounter> =
            servers.map(|server| PacketCounter::from_director(server.namespace())).collect::<Result<_>>()?;
        assert_few_packets(&mut testbed, &counters, PAGES)?;
        // The same servers are asked for less: by which way packets go changes nothing of how many.
        if method == Method::Masquerade {
            let config = setup.config.clone().check_by_connect();
            fs::write(testbed.agent.config_file(), config.to_toml()?)?;
            let output = testbed.agent.command(&["reload"])?;
            assert_eq!(output.code, Some(0), "{output}");
            assert_few_packets(&mut testbed, &counters, CONNECTIONS)?;
        }
        assert_eq!(changes(&testbed.history_since_healthy()?), []);
        let edits = testbed.agent.events().into_iter().filter(|event| event.at >= testbed.healthy_since);
        assert_eq!(edits.filter(AgentEvent::is_edit).collect::<Vec<_>>(), []);

        let requests = testbed.load.stop()?;
        let summary = Summary::between(&requests, testbed.healthy_since, Moment::now());
        say(&format!("{method}: {summary}"));
        assert_eq!(summary.failed(), 0);
        assert_counted(&testbed, &requests)?;
        assert_watched_as(&testbed, method)?;
    }
    Ok(())
}

/// While all is well, each server gets at least a packet a second from the director, and at most so many.
fn assert_few_packets(testbed: &mut Testbed, counters: &[PacketCounter], most: f64) -> Result<()> {
    let read = || counters.iter().map(PacketCounter::read).collect::<Result<Vec<_>>>();
    let (before, since) = (read()?, Moment::now());
    testbed.run_for(HEALTHY)?;
    let (after, seconds) = (read()?, Moment::now().since(since).as_secs_f64());
    let rates: Vec<f64> =
        before.iter().zip(after).map(|(before, after)| (after - before) / seconds).collect();
    let method = testbed.lab.network.layout.method;
    say(&format!("{method}: {rates:.2?} packets a second from the director to each server, at most {most}"));
    for rate in rates {
        assert!((1.0..=most).contains(&rate), "{rate} packets a second: {}", testbed.diagnosis());
    }
    Ok(())
}

/// The agent's metrics count exactly the connections that clients had with each server.
fn assert_counted(testbed: &Testbed, requests: &[Request]) -> Result<()> {
    let all = Summary::of(requests);
    for server in &testbed.lab.servers {
        let (label, wanted) =
            (format!("server=\"{}\"", server.address()), all.share(&server.name).to_string());
        for name in ["lvs_passive_syn_total", "lvs_passive_handshakes_total", "lvs_passive_client_fin_total"]
        {
            let counted = || -> Result<_> { Ok(metric(&testbed.agent.metrics()?, name, &[&label])) };
            let found = wait::until_true(&format!("{name}{{{label}}} to be {wanted}"), COUNTING, || {
                Ok(counted()?.is_some_and(|count| count.to_string() == wanted))
            });
            found.with_context(|| format!("it is {:?}", counted()))?;
        }
    }
    Ok(())
}

/// Answers are seen under masquerade only; every server is up, and suspicions that arose were cleared.
fn assert_watched_as(testbed: &Testbed, method: Method) -> Result<()> {
    let text = testbed.agent.metrics()?;
    let sum = |name| metric(&text, name, &[]).unwrap_or(f64::NAN);
    let answers = sum("lvs_passive_syn_ack_total");
    match method {
        Method::Masquerade => assert!(answers >= sum("lvs_passive_syn_total"), "{text}"),
        Method::DirectRoute | Method::Tunnel(_) => assert!(answers.abs() < 0.5, "{text}"),
    }
    assert!((sum("lvs_server_up") - 3.0).abs() < 0.5, "{text}");
    // These are in none of the numbers above.
    assert!((sum("lvs_idle_connections") - 3.0).abs() < 0.5, "{text}");
    assert!(sum("lvs_passive_refused_total").abs() < 0.5, "{text}");
    Ok(())
}
