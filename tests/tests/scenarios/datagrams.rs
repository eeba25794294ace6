//! A UDP service: what the director sees of it, and what it doesn't.

use std::time::Duration;

use anyhow::Result;
use lvs_tests::{
    lab::{clients::Transport, faults::Fault, layout::Method},
    testbed::{Setup, Testbed},
};

use crate::expect_failover::{HEALTHY, Limits, edits, expect_failovers, print_times, violations_of};

/// Each datagram is answered by one; servers are asked over TCP whether they are there.
fn setup(method: Method) -> Setup {
    let mut setup = Setup::new(method).rate(200.0).distance(Duration::from_millis(1));
    setup.load.transport = Transport::Udp;
    setup.config = setup.config.check_by_connect().by_udp();
    setup
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn silence_and_icmp_give_a_masqueraded_udp_server_away() -> Result<()> {
    let failures = [(Fault::ProcessKilled, Limits::ms(100, 1000)), (Fault::LinkDown, Limits::ms(250, 1000))];
    expect_failovers(&setup(Method::Masquerade), &failures).map(drop)
}

/// A ping says that the host lives: neither may it clear the suspicion, nor bring the server back.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_closed_port_takes_a_pinged_udp_server_out_until_it_is_open_again() -> Result<()> {
    let mut setup = setup(Method::Masquerade);
    setup.config = setup.config.check_by_ping();
    let mut testbed = Testbed::start(&setup)?;
    testbed.reset_healthy_since();
    testbed.run_for(HEALTHY)?;
    // Long enough for more pings than it takes to bring a server back.
    let (seen, _) = testbed.failover(Fault::ProcessKilled, 0, Duration::from_secs(5))?;
    print_times(&testbed, Fault::ProcessKilled, &seen);
    let violations = violations_of(&seen, Limits::ms(100, 1000));
    assert_eq!(violations, Vec::<String>::new(), "{}", testbed.diagnosis());
    assert_eq!(edits(&seen).len(), 2, "out once and back once: {:?}, {}", edits(&seen), testbed.diagnosis());
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn nothing_is_claimed_of_a_directly_routed_udp_server() -> Result<()> {
    let setup = setup(Method::DirectRoute);
    let seen = expect_failovers(&setup, &[(Fault::ProcessKilled, Limits::BY_CHECK)])?;
    assert_eq!(seen[0].milestones().suspicion, None, "an answer that passes the director can't be missed");
    let testbed = Testbed::start(&setup)?;
    let said =
        testbed.agent.lines().into_iter().find(|line| line.contains("UDP") && line.contains("passive"));
    assert!(said.is_some(), "it says that there is no passive signal: {}", testbed.diagnosis());
    Ok(())
}
