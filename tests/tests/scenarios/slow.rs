//! A server that answers late, or not always: visible, but no reason to take it out.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lvs_tests::{
    lab::{
        Lab,
        agent::{log::EventKind, metric},
        director::{prepare_ipvs, table_watcher::changes},
        faults::Fault,
        layout::Method,
    },
    say,
    testbed::{Setup, Testbed},
};

use crate::expect_failover::HEALTHY;

/// Long enough for several suspicions, if there were any.
const TIME: Duration = Duration::from_secs(8);

/// A testbed whose first server has had this fault all the time.
fn from_the_start(method: Method, fault: Fault) -> Result<Testbed> {
    let mut setup = Setup::new(method).distance(Duration::from_millis(1));
    // An HTTP check of such a server takes longer than it may, and rightly fails.
    setup.config = setup.config.check_by_connect();
    let lab = Lab::build(&setup.layout)?;
    prepare_ipvs(&lab.network.director)?;
    fault.arm(&lab.network.switch, &lab.servers[0])?.inject()?;
    Testbed::in_lab(lab, &setup)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_slow_server_stays_and_its_slowness_is_in_the_metrics() -> Result<()> {
    for method in Method::ALL {
        let mut testbed = from_the_start(method, Fault::Slow)?;
        testbed.run_for(TIME)?;
        assert_eq!(changes(&testbed.history_since_healthy()?), [], "{}", testbed.diagnosis());
        let text = testbed.agent.metrics()?;
        let mean = |server: usize| -> Result<f64> {
            let label = format!("server=\"{}\"", testbed.lab.servers[server].address());
            let value = |part: &str| {
                metric(&text, &format!("lvs_passive_handshake_seconds_{part}"), &[&label])
                    .with_context(|| format!("no {part} of handshake times"))
            };
            Ok(value("sum")? / value("count")?)
        };
        let (slow, other) = (mean(0)?, mean(1)?);
        say(&format!("{method}: mean handshake of the slow server {slow:.3} s, of another {other:.3} s"));
        // The histogram's buckets are a third wide.
        assert!(slow > 0.3 && other < 0.1, "{slow} s and {other} s");
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn an_application_that_becomes_slow_at_once_has_the_time_of_its_check() -> Result<()> {
    for method in Method::ALL {
        let mut testbed = Testbed::start(&Setup::new(method).rate(200.0).distance(Duration::from_millis(1)))?;
        testbed.run_for(HEALTHY)?;
        testbed.reset_healthy_since();
        testbed.inject(Fault::AnswersSlow, 0)?;
        testbed.run_for(TIME)?;
        assert_eq!(changes(&testbed.history_since_healthy()?), [], "{}", testbed.diagnosis());
        let events = testbed.agent.events();
        let suspected =
            events.iter().filter(|event| matches!(event.kind, EventKind::Suspicion { .. })).count();
        say(&format!("{method}: slow by 500 ms at one blow, {suspected} suspicions, nobody was taken out"));
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_loses_a_tenth_of_its_packets_stays() -> Result<()> {
    for method in Method::ALL {
        let mut testbed = from_the_start(method, Fault::Lossy)?;
        testbed.run_for(TIME)?;
        assert_eq!(changes(&testbed.history_since_healthy()?), [], "{}", testbed.diagnosis());
        let text = testbed.agent.metrics()?;
        let label = format!("server=\"{}\"", testbed.lab.servers[0].address());
        let again = metric(&text, "lvs_passive_syn_again_total", &[&label]).context("no SYNs sent again")?;
        say(&format!("{method}: {again} SYNs to the lossy server were sent again, nobody was taken out"));
        assert!(again > 0.0, "the loss is in the metrics");
    }
    Ok(())
}
