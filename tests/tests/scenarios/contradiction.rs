//! Clients fail at a server whose checks succeed: what no prober can see.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lvs_tests::{
    lab::{
        Lab,
        agent::{
            log::{AgentEvent, EventKind},
            metric,
        },
        clock::Moment,
        director::{prepare_ipvs, table_watcher::changes},
        faults::{Fault, disturbance::Disturbance, flood::Flood},
        layout::{Encapsulation, Family, Layout, Method},
    },
    say,
    testbed::{Setup, Testbed},
};

/// A contradiction lasts for 10 s before it is one; here until it must be told of.
const TOLD: Duration = Duration::from_secs(25);
/// Until it is over once clients are served.
const OVER: Duration = Duration::from_secs(25);
/// How long a trouble lasts that must not be called a contradiction: well above the time that one takes.
const TROUBLE: Duration = Duration::from_secs(40);
/// Connections a second, to three servers. A contradiction takes 20 attempts in 10 s; what more of them would cost is
/// time of the machine, as the guest's clock counts instructions.
const RATE: f64 = 30.0;

/// All events about a contradiction at the server with this number, since then.
fn contradictions(testbed: &Testbed, server: usize, since: Moment) -> Vec<AgentEvent> {
    let address = testbed.lab.servers[server].address();
    let about = |event: &AgentEvent| {
        matches!(
            event.kind,
            EventKind::Contradiction { .. }
                | EventKind::ContradictionOut {}
                | EventKind::ContradictionTrial {}
                | EventKind::ContradictionOver { .. }
        )
    };
    let events = testbed.agent.events().into_iter();
    events.filter(|event| event.at >= since && event.server == Some(address) && about(event)).collect()
}

fn gauge(testbed: &Testbed, server: usize) -> Result<f64> {
    let label = format!("server=\"{}\"", testbed.lab.servers[server].address());
    metric(&testbed.agent.metrics()?, "lvs_server_contradiction", &[&label]).context("a gauge")
}

fn is_begun(events: &[AgentEvent]) -> bool {
    events.iter().any(|event| matches!(event.kind, EventKind::Contradiction { .. }))
}

/// A fault at the first server is told of, with its likely causes; after the repair that is over. Nobody is taken out.
fn expect_report(setup: &Setup, fault: Fault, missing: &str, cause: &str) -> Result<()> {
    let mut testbed = Testbed::start(setup)?;
    let at = testbed.inject(fault, 0)?;
    testbed.wait(&format!("{fault} to be told of"), TOLD, |testbed| {
        Ok(is_begun(&contradictions(testbed, 0, at)))
    })?;
    let method = testbed.lab.network.layout.method;
    let told = contradictions(&testbed, 0, at);
    say(&format!("{method}, {fault}: {} after {:.1} s", told[0].kind, told[0].at.ms_after(at) / 1000.0));
    let EventKind::Contradiction { missing: found, action, .. } = &told[0].kind else {
        bail!("not its beginning: {told:?}");
    };
    assert_eq!((found.as_str(), action.as_str()), (missing, "reported"));
    let status = testbed.agent.command(&["status"])?.stdout;
    assert!(status.contains("contradiction: ") && status.contains(cause), "{status}");
    assert!((gauge(&testbed, 0)? - 1.0).abs() < f64::EPSILON);
    testbed.repair(fault, 0)?;
    testbed
        .wait("the end of the contradiction", OVER, |testbed| Ok(contradictions(testbed, 0, at).len() > 1))?;
    testbed.run_for(Duration::from_secs(2))?;
    let kinds: Vec<_> = contradictions(&testbed, 0, at).into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds.len(), 2, "each once: {kinds:?}");
    assert_eq!(kinds[1], EventKind::ContradictionOver { reason: "served".to_owned() });
    assert!(gauge(&testbed, 0)?.abs() < f64::EPSILON);
    for other in 1..testbed.lab.servers.len() {
        assert_eq!(contradictions(&testbed, other, at), [], "{}", testbed.diagnosis());
    }
    assert_eq!(changes(&testbed.history_since_healthy()?), [], "{}", testbed.diagnosis());
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_loses_the_vip_is_told_of() -> Result<()> {
    let setup = Setup::new(Method::DirectRoute).rate(RATE);
    expect_report(&setup, Fault::VipLost, "handshake", "the VIP is not on the server's loopback")?;
    let setup = Setup::new(Method::Tunnel(Encapsulation::Ipip)).rate(RATE);
    expect_report(&setup, Fault::VipLost, "handshake", "tunnel device")
}

/// Its siblings answer within milliseconds: hardly ever does a look at them see anybody wait.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_loses_the_vip_is_told_of_with_one_client_network() -> Result<()> {
    let mut setup = Setup::new(Method::DirectRoute).rate(RATE);
    setup.load.clients = 1;
    expect_report(&setup, Fault::VipLost, "handshake", "the VIP is not on the server's loopback")
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_masqueraded_server_whose_answers_bypass_the_director_is_told_of() -> Result<()> {
    let setup = Setup::new(Method::Masquerade).rate(RATE);
    expect_report(&setup, Fault::RouteElsewhere, "syn-ack", "default route leads past this director")
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_whose_large_packets_are_lost_is_told_of() -> Result<()> {
    for method in [Method::Masquerade, Method::DirectRoute] {
        let mut setup = Setup::new(method).rate(RATE);
        // A check whose packets are all small.
        setup.config = setup.config.check_by_connect();
        expect_report(&setup, Fault::LargePacketsLost, "response", "large packets are dropped")?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_never_had_the_vip_is_taken_out_and_tried_again_where_that_is_wanted() -> Result<()> {
    let mut setup = Setup::of(Layout::new(Method::DirectRoute)).rate(RATE);
    setup.config = setup.config.on_contradiction("remove");
    let lab = Lab::build(&setup.layout)?;
    prepare_ipvs(&lab.network.director)?;
    Fault::VipLost.arm(&lab.network.switch, &lab.servers[0])?.inject()?;
    let since = Moment::now();
    // It serves nobody, ever.
    let mut testbed = Testbed::in_lab_unserved(lab, &setup)?;
    let address = testbed.lab.servers[0].address();
    testbed.wait("it to be taken out", TOLD, |testbed| Ok(testbed.watcher.table()?.is_out(address)))?;
    let EventKind::Contradiction { action, .. } = &contradictions(&testbed, 0, since)[0].kind else {
        bail!("not its beginning: {}", testbed.diagnosis());
    };
    assert_eq!(action, "removed");
    for other in 1..testbed.lab.servers.len() {
        assert!(!testbed.watcher.table()?.is_out(testbed.lab.servers[other].address()));
    }
    testbed.repair(Fault::VipLost, 0)?;
    testbed.wait("its trial", Duration::from_secs(75), |testbed| {
        Ok(testbed.watcher.table()?.is_in_everywhere(address))
    })?;
    testbed.wait("the end of the contradiction", OVER, |testbed| {
        let last = contradictions(testbed, 0, since).pop();
        Ok(last.is_some_and(|event| matches!(event.kind, EventKind::ContradictionOver { .. })))
    })?;
    testbed.wait_until_serving()
}

/// Nothing is called a contradiction, and nobody is taken out.
fn expect_nothing(testbed: &mut Testbed) -> Result<()> {
    let since = Moment::now();
    testbed.run_for(TROUBLE)?;
    for server in 0..testbed.lab.servers.len() {
        assert_eq!(contradictions(testbed, server, since), [], "{}", testbed.diagnosis());
    }
    assert_eq!(changes(&testbed.history_since_healthy()?), [], "{}", testbed.diagnosis());
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn one_bad_client_network_is_no_contradiction() -> Result<()> {
    for method in [Method::Masquerade, Method::DirectRoute] {
        let mut setup = Setup::new(method).rate(RATE);
        setup.config = setup.config.on_contradiction("remove");
        // Of nine networks it is a ninth of all clients.
        setup.load.clients = 9;
        let mut testbed = Testbed::start(&setup)?;
        let disturbed = Disturbance::BlackHole.begin(&testbed.lab.network.clients, Family::V4)?;
        expect_nothing(&mut testbed)?;
        drop(disturbed);
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_flood_is_no_contradiction() -> Result<()> {
    for method in [Method::Masquerade, Method::DirectRoute] {
        let mut setup = Setup::new(method).rate(RATE);
        setup.config = setup.config.on_contradiction("remove");
        let mut testbed = Testbed::start(&setup)?;
        // Six times as much as clients ask.
        let mut flood = Flood::start(&testbed.lab.network.clients, 6.0 * RATE)?;
        expect_nothing(&mut testbed)?;
        flood.stop()?;
    }
    Ok(())
}
