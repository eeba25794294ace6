//! A UDP service: what the director sees of it, and what it doesn't.

use std::time::Duration;

use anyhow::Result;
use lvs_tests::{
    lab::{clients::Transport, faults::Fault, layout::Method},
    testbed::{Scene, Setting},
};

use crate::failing::{HEALTHY, Limits, each_fails, edits, objections_to, tell};

/// Each datagram is answered by one; servers are asked over TCP whether they are there.
fn setting(method: Method) -> Setting {
    let mut setting = Setting::new(method).rate(200.0).distance(Duration::from_millis(1));
    setting.load.transport = Transport::Udp;
    setting.config = setting.config.check_by_connect().by_udp();
    setting
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn silence_and_icmp_give_a_masqueraded_udp_server_away() -> Result<()> {
    let failures = [(Fault::ProcessKilled, Limits::ms(100, 1000)), (Fault::LinkDown, Limits::ms(250, 1000))];
    each_fails(&setting(Method::Masquerade), &failures).map(drop)
}

/// A ping says that the host lives: neither may it clear the suspicion, nor bring the server back.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_closed_port_takes_a_pinged_udp_server_out_until_it_is_open_again() -> Result<()> {
    let mut setting = setting(Method::Masquerade);
    setting.config = setting.config.check_by_ping();
    let mut scene = Scene::start(&setting)?;
    scene.forget();
    scene.pass(HEALTHY)?;
    // Long enough for more pings than it takes to bring a server back.
    let (seen, _) = scene.failover(Fault::ProcessKilled, 0, Duration::from_secs(5))?;
    tell(&scene, Fault::ProcessKilled, &seen);
    let objections = objections_to(&seen, Limits::ms(100, 1000));
    assert_eq!(objections, Vec::<String>::new(), "{}", scene.diagnosis());
    assert_eq!(edits(&seen).len(), 2, "out once and back once: {:?}, {}", edits(&seen), scene.diagnosis());
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn nothing_is_claimed_of_a_directly_routed_udp_server() -> Result<()> {
    let setting = setting(Method::DirectRoute);
    let seen = each_fails(&setting, &[(Fault::ProcessKilled, Limits::BY_CHECK)])?;
    assert_eq!(seen[0].milestones().suspicion, None, "an answer that passes the director can't be missed");
    let scene = Scene::start(&setting)?;
    let said = scene.agent.lines().into_iter().find(|line| line.contains("UDP") && line.contains("passive"));
    assert!(said.is_some(), "it says that there is no passive signal: {}", scene.diagnosis());
    Ok(())
}
