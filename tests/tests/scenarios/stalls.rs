//! A server that stops as a whole for a moment: a short stall costs a suspicion at most, a longer one nothing but
//! itself.

use std::time::Duration;

use anyhow::Result;
use lvs_tests::{
    lab::{
        agent::log::{AgentEvent, EventKind},
        director::{table::ChangeKind, table_watcher::changes},
        faults::stall::Stall,
        layout::Method,
    },
    say,
    testbed::{Setup, Testbed},
};

use crate::expect_failover::HEALTHY;

/// How often a server stalls in each test.
const STALLS: usize = 3;
/// From the end of a stall to the return.
const BACK_WITHIN: Duration = Duration::from_millis(100);

fn setup(method: Method) -> Setup {
    let mut setup = Setup::new(method).rate(200.0).distance(Duration::from_millis(1));
    let service = &mut setup.config.service[0];
    // A slow start would show.
    service.slow_start = Some("4s".to_owned());
    "wrr".clone_into(&mut service.scheduler);
    service.server.iter_mut().for_each(|server| server.weight = 10);
    setup
}

fn arm(testbed: &Testbed, length: Duration) -> Result<Stall> {
    Stall::arm(&testbed.lab.network.switch, &testbed.lab.servers[0], length)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_stall_of_100_ms_takes_nobody_out() -> Result<()> {
    for method in Method::ALL {
        let mut testbed = Testbed::start(&setup(method))?;
        for _ in 0..STALLS {
            testbed.run_for(HEALTHY)?;
            let stall = arm(&testbed, Duration::from_millis(100))?;
            testbed.wait_until_serving()?;
            stall.strike()?;
        }
        testbed.run_for(HEALTHY)?;
        assert_eq!(changes(&testbed.history_since_healthy()?), [], "{}", testbed.diagnosis());
        let events = testbed.agent.events();
        let is_suspicion = |event: &&AgentEvent| matches!(event.kind, EventKind::Suspicion { .. });
        let suspicions = events.iter().filter(is_suspicion).count();
        say(&format!("{method}: {STALLS} stalls of 100 ms, {suspicions} suspicions, nobody was taken out"));
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn after_a_stall_of_300_ms_a_server_is_back_within_100_ms_without_a_penalty() -> Result<()> {
    for method in Method::ALL {
        let mut testbed = Testbed::start(&setup(method))?;
        let server = testbed.lab.servers[0].address();
        for _ in 0..STALLS {
            testbed.reset_healthy_since();
            testbed.run_for(HEALTHY)?;
            let stall = arm(&testbed, Duration::from_millis(300))?;
            testbed.wait_until_serving()?;
            testbed.reset_healthy_since();
            let (begin, end) = stall.strike()?;
            testbed.run_for(HEALTHY)?;
            let seen = changes(&testbed.history_since_healthy()?);
            let kinds: Vec<_> =
                seen.iter().map(|seen| (seen.change.server == server, seen.change.kind)).collect();
            if kinds.is_empty() {
                say(&format!("{method}: a stall of 300 ms took nobody out"));
                continue;
            }
            let out_and_back = [(true, ChangeKind::Weight(10, 0)), (true, ChangeKind::Weight(0, 10))];
            assert_eq!(kinds, out_and_back, "{}", testbed.diagnosis());
            let (out, back) = (seen[0].at.ms_after(begin), seen[1].at.ms_after(end));
            say(&format!(
                "{method}: a stall of 300 ms: out {out:.0} ms after its begin, back {back:.0} ms after its end"
            ));
            assert!(back <= BACK_WITHIN.as_secs_f64() * 1e3, "{back} ms, {}", testbed.diagnosis());
        }
        let damped = |event: &AgentEvent| matches!(event.kind, EventKind::Damped {});
        assert!(!testbed.agent.events().iter().any(damped), "{}", testbed.diagnosis());
    }
    Ok(())
}
