//! Connections that have just begun when their server dies: with a second chance nobody notices.

use std::time::Duration;

use anyhow::{Result, ensure};
use lvs_tests::{
    lab::{
        Lab,
        agent::metric,
        clients::requests::Request,
        clock::Moment,
        director::{connection_table, mark, prepare_ipvs},
        faults::Fault,
        layout::{Family, Layout, Method, PORT, SECOND_PORT},
        network::{LAN, Network, WAN, set},
        process,
    },
    say,
    testbed::{Setup, Testbed, failover::Failover},
};

use crate::expect_failover::{AFTER, HEALTHY, ms};

/// The mark of a service.
const MARK: u32 = 7;
/// New connections a second, over four servers.
const RATE: f64 = 200.0;

/// How long the last client may have waited that was connected at last.
const REFUSED: Duration = Duration::from_millis(120);
/// The same where the dead server is silent.
const SILENT: Duration = Duration::from_millis(400);

fn setup(layout: Layout) -> Setup {
    let mut setup = Setup::of(layout.servers(4)).rate(RATE).distance(Duration::from_millis(1));
    setup.config = setup.config.second_chance();
    setup
}

/// The requests that second chance is for: those whose connection was not there yet when the server died.
fn begun(failover: &Failover) -> impl Iterator<Item = &Request> {
    let Failover { fault, watched_until, .. } = *failover;
    failover.requests.iter().filter(move |request| request.had_no_connection(fault, watched_until))
}

/// Each fault at another server, one after the other. Nobody fails or is late.
fn expect_nobody_harmed(setup: &Setup, faults: &[(Fault, Duration)]) -> Result<()> {
    expect_nobody_harmed_in(setup, |_| Ok(()), faults)
}

/// The same in a network that was prepared.
fn expect_nobody_harmed_in(
    setup: &Setup,
    prepare: impl FnOnce(&Network) -> Result<()>,
    faults: &[(Fault, Duration)],
) -> Result<()> {
    let lab = Lab::build(&setup.layout)?;
    prepare_ipvs(&lab.network.director)?;
    prepare(&lab.network)?;
    let mut testbed = Testbed::in_lab(lab, setup)?;
    let mut violations = Vec::new();
    for (server, (fault, limit)) in faults.iter().enumerate() {
        testbed.reset_healthy_since();
        testbed.run_for(HEALTHY)?;
        let (failover, _) = testbed.failover(*fault, server, AFTER)?;
        let took = |request: &Request| request.ended.since(request.started);
        let worst = begun(&failover).map(took).max().unwrap_or_default();
        let harmed: Vec<&Request> = begun(&failover).filter(|request| request.is_harmed()).collect();
        let all = failover.harmed().count();
        say(&format!(
            "{}, {fault}: {} of {all} harmed requests had no connection yet, the worst took {:.0} ms",
            setup.layout,
            harmed.len(),
            ms(worst)
        ));
        if !harmed.is_empty() || worst > *limit {
            violations.push(format!("{fault}: worst {:.0} ms, {harmed:?}", ms(worst)));
        }
    }
    ensure!(violations.is_empty(), "{violations:#?}\n{}", testbed.diagnosis());
    Ok(())
}

/// The same with masquerade and with direct route, under which the refusals of a killed server bypass the director.
fn expect_nobody_harmed_in_both(prepare: impl Fn(&Network) -> Result<()>) -> Result<()> {
    let faults = [(Fault::ProcessKilled, REFUSED), (Fault::PortFiltered, SILENT)];
    expect_nobody_harmed_in(&setup(Layout::new(Method::Masquerade)), &prepare, &faults)?;
    expect_nobody_harmed_in(&setup(Layout::new(Method::DirectRoute)), &prepare, &faults[1..])
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn clients_of_a_masqueraded_server_that_dies_notice_nothing() -> Result<()> {
    let faults = [(Fault::ProcessKilled, REFUSED), (Fault::PortFiltered, SILENT), (Fault::LinkDown, SILENT)];
    expect_nobody_harmed(&setup(Layout::new(Method::Masquerade)), &faults)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn clients_of_a_directly_routed_server_that_falls_silent_notice_nothing() -> Result<()> {
    let faults = [(Fault::PortFiltered, SILENT), (Fault::LinkDown, SILENT)];
    expect_nobody_harmed(&setup(Layout::new(Method::DirectRoute)), &faults)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn clients_of_a_tunnelled_server_that_falls_silent_notice_nothing() -> Result<()> {
    expect_nobody_harmed(&setup(Layout::new(Method::ALL[2])), &[(Fault::PortFiltered, SILENT)])
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn clients_of_an_ipv6_server_that_dies_notice_nothing() -> Result<()> {
    let layout = Layout::new(Method::Masquerade).families(Family::V6, Family::V6);
    let faults = [(Fault::ProcessKilled, REFUSED), (Fault::PortFiltered, SILENT)];
    expect_nobody_harmed(&setup(layout), &faults)
}

/// Where IPVS has rewritten the address of a SYN, and several lead to the server.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn clients_of_a_server_that_several_addresses_lead_to_notice_nothing() -> Result<()> {
    let layout = Layout::new(Method::Masquerade);
    let faults = [(Fault::ProcessKilled, REFUSED), (Fault::PortFiltered, SILENT)];
    let mut by_mark = setup(layout);
    by_mark.load = by_mark.load.to(&[layout.service(), layout.second_service()]);
    by_mark.config = by_mark.config.by_mark(MARK, &layout);
    let marks = |network: &Network| mark(&network.director, &layout, &[PORT, SECOND_PORT], MARK);
    expect_nobody_harmed_in(&by_mark, marks, &faults[..1])?;
    let mut two = setup(layout);
    two.load = two.load.to(&[layout.service(), layout.second_service()]);
    let mut second = two.config.service[0].clone();
    second.name = "second".to_owned();
    second.address = Some(layout.second_service().to_string());
    two.config.service.push(second);
    expect_nobody_harmed(&two, &faults)
}

/// What decides in IPVS where a SYN goes that is sent again.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn removal_persistence_and_conntrack_are_no_hindrance() -> Result<()> {
    let masquerade = Layout::new(Method::Masquerade);
    let killed = [(Fault::ProcessKilled, REFUSED)];
    let removed = setup(masquerade).on_failure("remove");
    expect_nobody_harmed(&removed, &[killed[0], (Fault::PortFiltered, SILENT)])?;
    let mut persistent = setup(masquerade);
    persistent.config.service[0].persistent = Some("300s".to_owned());
    let templates = |network: &Network| set(&network.director, &["net/ipv4/vs/expire_quiescent_template=1"]);
    expect_nobody_harmed_in(&persistent, templates, &killed)?;
    // Without a rule that asks for the state of connections the kernel keeps none.
    let states = |network: &Network| {
        set(&network.director, &["net/ipv4/vs/conntrack=1"])?;
        let rules = "table ip lab { chain states { type filter hook forward priority 0; ct state invalid counter; }; \
                     chain input { type filter hook input priority 0; ct state new counter; }; }\n";
        process::run(&network.director, &["nft", "-f", "-"], rules).map(drop)
    };
    expect_nobody_harmed_in(&setup(masquerade), states, &killed)
}

/// What operators set against floods and for takeovers.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn cookies_reverse_path_filters_and_settings_of_ipvs_are_no_hindrance() -> Result<()> {
    let settings = |network: &Network| {
        let strict = ["all", "default", WAN, LAN].map(|device| format!("net/ipv4/conf/{device}/rp_filter=1"));
        set(&network.director, &strict.each_ref().map(String::as_str))?;
        set(&network.director, &["net/ipv4/vs/sloppy_tcp=1", "net/ipv4/vs/conn_reuse_mode=0"])?;
        network.servers.iter().try_for_each(|server| set(server, &["net/ipv4/tcp_syncookies=2"]))
    };
    expect_nobody_harmed_in_both(settings)
}

/// Nothing can be put into the ingress of such a device as a frame: a raw socket sends.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn clients_behind_a_device_without_ethernet_notice_nothing() -> Result<()> {
    expect_nobody_harmed_in_both(Network::lead_clients_through_gre)
}

/// A server that is taken for dead, and answers the first SYN after another server has answered the second.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_answers_after_another_one_has_harms_nobody() -> Result<()> {
    for method in Method::ALL {
        let setup = setup(Layout::new(method));
        let mut testbed = Testbed::start(&setup)?;
        testbed.run_for(HEALTHY)?;
        let fault = testbed.inject(Fault::Late, 0)?;
        testbed.wait_until_out(0)?;
        // What waits for the server has reached it by then, and its answers whoever they are for.
        testbed.run_for(Duration::from_secs(3))?;
        let until = Moment::now();
        let requests = testbed.load.stop()?;
        let begun = requests.iter().filter(|request| request.had_no_connection(fault, until));
        let (mut count, mut worst, mut harmed) = (0, Duration::ZERO, Vec::new());
        for request in begun {
            count += 1;
            worst = worst.max(request.ended.since(request.started));
            harmed.extend(request.is_harmed().then_some(request));
        }
        let moved =
            metric(&testbed.agent.metrics()?, "lvs_second_chance_completed_total", &[]).unwrap_or(0.0);
        say(&format!("{method}: {moved} of {count} went elsewhere, the worst took {:.0} ms", ms(worst)));
        ensure!(harmed.is_empty() && moved > 0.0, "{harmed:#?}\n{}", testbed.diagnosis());
        // All clients have closed their connections: none is left half open.
        testbed.wait("no connection to be left", Duration::from_secs(5), |testbed| {
            let table = connection_table(&testbed.lab.network.director)?;
            Ok(!table.lines().any(|line| line.contains("ESTABLISHED") || line.contains("SYN_RECV")))
        })?;
    }
    Ok(())
}
