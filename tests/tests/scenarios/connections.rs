//! What becomes of clients whose server is dead: they reach the other one.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use anyhow::Result;
use lvs_tests::{
    lab::{
        Lab,
        clock::Moment,
        director::prepare_ipvs,
        faults::Fault,
        layout::{Layout, Method},
        network::set,
    },
    say,
    testbed::{Setup, Testbed},
};

use crate::expect_failover::HEALTHY;

/// How long clients go on after the dead server is out: the SYN is sent again after 1 s and after 3 s.
const AFTER: Duration = Duration::from_secs(5);

/// Two servers, and the kernel's own settings, under which clients would stay with a dead one; and more settings.
fn start(setup: &Setup, more: &[&str]) -> Result<Testbed> {
    let lab = Lab::build(&setup.layout)?;
    prepare_ipvs(&lab.network.director)?;
    let own = ["net/ipv4/vs/expire_nodest_conn=0", "net/ipv4/vs/expire_quiescent_template=0"];
    set(&lab.network.director, &[&own, more].concat())?;
    let mut testbed = Testbed::in_lab(lab, setup)?;
    testbed.run_for(HEALTHY)?;
    let status = testbed.agent.command(&["status"])?;
    assert!(
        status.stdout.contains("expire_nodest_conn = 1, expire_quiescent_template = 1"),
        "the agent has set them: {status}"
    );
    assert!(!status.stdout.contains("warning"), "{status}");
    Ok(testbed)
}

fn two_servers(method: Method) -> Setup {
    let mut setup = Setup::of(Layout::new(method).servers(2));
    setup.load.patience = Duration::from_secs(8);
    setup
}

/// The other scenarios run with the kernel's own `conn_reuse_mode`. Earlier kernels left such a SYN with the dead
/// server where it is 0.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_retried_syn_reaches_the_living_server_whatever_conn_reuse_mode_is() -> Result<()> {
    [Method::Masquerade, Method::DirectRoute].into_iter().try_for_each(retried_syn_under_reuse_mode_0)
}

fn retried_syn_under_reuse_mode_0(method: Method) -> Result<()> {
    let mut testbed = start(&two_servers(method), &["net/ipv4/vs/conn_reuse_mode=0"])?;
    let status = testbed.agent.command(&["status"])?;
    assert!(status.stdout.contains("conn_reuse_mode = 0"), "the agent keeps it: {status}");
    let fault = testbed.inject(Fault::LinkDown, 0)?;
    testbed.wait_until_out(0)?;
    let out = Moment::now();
    testbed.run_for(AFTER)?;
    let requests = testbed.load.stop()?;
    let caught: Vec<_> = requests
        .iter()
        .filter(|request| request.started >= fault && request.started < out && request.is_harmed())
        .collect();
    let waited = caught.iter().map(|request| request.ended.since(request.started)).max().unwrap_or_default();
    let saved = caught.iter().filter(|request| request.outcome.is_success()).count();
    say(&format!(
        "{method}: {saved} of {} SYNs to the dead server got through, at the latest after {waited:?}",
        caught.len()
    ));
    assert!(!caught.is_empty(), "nobody asked the dead server: {}", testbed.diagnosis());
    let lost: Vec<_> = caught.iter().filter(|request| !request.outcome.is_success()).collect();
    // Those that were connected when it died have no SYN to send again.
    assert!(lost.iter().all(|request| request.connected.is_some()), "{lost:?} {}", testbed.diagnosis());
    assert!(saved > 0, "{}", testbed.diagnosis());
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_persistent_clients_next_connection_succeeds() -> Result<()> {
    let mut setup = two_servers(Method::Masquerade);
    setup.load.clients = 20;
    setup.config.service[0].persistent = Some("300s".to_owned());
    let mut testbed = start(&setup, &[])?;
    let dead = testbed.lab.servers[0].name.clone();
    let of_dead: BTreeSet<IpAddr> = testbed
        .load
        .requests()
        .iter()
        .filter(|request| request.outcome.server() == Some(&dead))
        .map(|request| request.client)
        .collect();
    testbed.inject(Fault::LinkDown, 0)?;
    testbed.wait_until_out(0)?;
    let out = Moment::now();
    testbed.run_for(AFTER)?;
    let requests = testbed.load.stop()?;
    let after: Vec<_> = requests
        .iter()
        .filter(|request| request.started >= out && of_dead.contains(&request.client))
        .collect();
    let clients: BTreeSet<IpAddr> = after.iter().map(|request| request.client).collect();
    say(&format!("{} clients of the dead server asked {} times again", clients.len(), after.len()));
    assert!(!of_dead.is_empty() && clients == of_dead, "{of_dead:?} {clients:?}");
    let harmed: Vec<_> = after.iter().filter(|request| request.is_harmed()).collect();
    assert!(harmed.is_empty(), "{harmed:?} {}", testbed.diagnosis());
    Ok(())
}
