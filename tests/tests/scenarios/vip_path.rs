//! Checks that go to the VIP as clients do: what only they find, and what they leave in the kernel's table.

use std::time::Duration;

use anyhow::{Result, ensure};
use lvs_tests::{
    lab::{
        Lab,
        agent::{Agent, config::AgentConfig, log::EventKind, metric},
        director::{prepare_ipvs, table_text},
        layout::{Encapsulation, Family, Layout, Method},
        namespace::Namespace,
        network::{DIRECT_TABLE, LAN, ip, set},
        wait,
    },
    say,
    testbed::{Setup, Testbed},
};
use nix::sys::signal::Signal;

use crate::expect_failover::{BY_CHECK, HEALTHY};

/// The ways of forwarding whose servers have the VIP.
const METHODS: [Method; 2] = [Method::DirectRoute, Method::Tunnel(Encapsulation::Ipip)];
/// An address of the servers' network that nobody has.
const SOURCE: &str = "10.0.0.250";
/// The device that the agent makes for it.
const DEVICE: &str = "lvs-vip0a0000fa";
/// What a clean stop and a start have to do.
const SOON: Duration = Duration::from_secs(5);

/// A lab whose servers answer neighbours directly from the VIP too, as servers elsewhere do: those of the lab send all
/// that goes to clients over the clients' second leg.
fn lab(layout: Layout) -> Result<Lab> {
    let lab = Lab::build(&layout)?;
    let neighbour = match layout.family {
        Family::V4 => SOURCE.to_owned(),
        Family::V6 => layout.director().to_string(),
    };
    for server in &lab.servers {
        ip(server.namespace(), &format!("route add {neighbour} dev {LAN} table {DIRECT_TABLE}\n"))?;
    }
    prepare_ipvs(&lab.network.director)?;
    Ok(lab)
}

fn start(setup: &Setup) -> Result<Testbed> {
    Testbed::in_lab(lab(setup.layout)?, setup)
}

/// Has the checks go to the VIP.
fn to_vip(mut config: AgentConfig) -> AgentConfig {
    let other = &mut config.service[0].check.other;
    other.insert("via".to_owned(), "vip".into());
    other.insert("source".to_owned(), SOURCE.into());
    config
}

fn setup(method: Method) -> Setup {
    let mut setup = Setup::new(method);
    setup.config = to_vip(setup.config);
    setup
}

/// What the agent has for probes to VIPs: services by firewall mark, and devices.
fn private(director: &Namespace) -> Result<(usize, bool)> {
    let services = table_text(director)?.lines().filter(|line| line.starts_with("FWM")).count();
    Ok((services, ip(director, "link show\n")?.contains(DEVICE)))
}

/// Adds or removes the VIP of a server.
fn change_vip(testbed: &Testbed, server: usize, change: &str) -> Result<()> {
    let vip = testbed.lab.network.layout.service().ip();
    ip(testbed.lab.servers[server].namespace(), &format!("addr {change} {vip}/32 dev lo\n")).map(drop)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_without_the_vip_is_out_with_the_reason_and_back_with_it() -> Result<()> {
    for method in METHODS {
        let mut testbed = start(&setup(method))?;
        // What many directors have: the reverse path is checked on all devices.
        set(&testbed.lab.network.director, &["net/ipv4/conf/all/rp_filter=1"])?;
        testbed.run_for(HEALTHY)?;
        change_vip(&testbed, 1, "del")?;
        testbed.wait_until_out(1)?;
        let words = "while the server answers at its own address";
        testbed.wait("the reason", BY_CHECK, |testbed| {
            let is_reason = |event: &EventKind| matches!(event, EventKind::State { to, reason: Some(reason), .. } if to == "down" && reason.contains(words));
            let status = testbed.agent.command(&["status"])?;
            Ok(testbed.agent.events().iter().any(|event| is_reason(&event.kind))
                && status.stdout.contains(words))
        })?;
        change_vip(&testbed, 1, "add")?;
        testbed.wait_until_back(1)?;
        let suspected = testbed.agent.events().iter().filter(|event| is_down(&event.kind)).count();
        ensure!(suspected == 1, "{method}: {}", testbed.diagnosis());
    }
    Ok(())
}

fn is_down(event: &EventKind) -> bool {
    matches!(event, EventKind::State { to, .. } if to == "down")
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_without_its_tunnel_device_is_out() -> Result<()> {
    let mut testbed = start(&setup(METHODS[1]))?;
    testbed.run_for(HEALTHY)?;
    ip(testbed.lab.servers[1].namespace(), "link set tun down\n")?;
    testbed.wait_until_out(1)?;
    ip(testbed.lab.servers[1].namespace(), "link set tun up\n")?;
    testbed.wait_until_back(1)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn private_services_are_nobody_elses_affair_and_go_with_the_agent() -> Result<()> {
    let mut testbed = start(&setup(Method::DirectRoute))?;
    let director = testbed.lab.network.director.clone();
    assert_eq!(private(&director)?, (3, true), "{}", table_text(&director)?);
    let status = testbed.agent.ask(&["status", "--json"])?.stdout;
    assert!(status.contains(&format!("from {SOURCE}")), "the way is told: {status}");
    assert!(!status.contains("\"key\":\"mark"), "no private service is shown: {status}");
    let metrics = testbed.agent.metrics()?;
    assert!(!metrics.contains("mark 272"), "{metrics}");

    testbed.agent.signal(Signal::SIGKILL)?;
    testbed.agent.wait_for_end()?;
    assert_eq!(private(&director)?, (3, true), "a killed agent leaves them");
    // The next one has no use for them.
    let addresses = testbed.lab.addresses();
    let plain = AgentConfig::http(&testbed.lab.network.layout, &addresses).to_toml()?;
    testbed.agent = Agent::start(&director, &plain)?;
    testbed.agent.wait_until_ready()?;
    wait::until_true("what was left to be gone", SOON, || Ok(private(&director)? == (0, false)))?;
    let lines = testbed.agent.lines().join("\n");
    assert!(!lines.contains("somebody else"), "{lines}");
    testbed.agent.stop()?;

    testbed.agent = Agent::start(
        &director,
        &to_vip(AgentConfig::http(&testbed.lab.network.layout, &addresses)).to_toml()?,
    )?;
    testbed.agent.wait_until_ready()?;
    testbed.wait_until_serving()?;
    assert_eq!(private(&director)?, (3, true));
    let status = testbed.agent.stop()?;
    assert!(status.success(), "{status}");
    assert_eq!(private(&director)?, (0, false), "{}", table_text(&director)?);
    assert!(
        testbed
            .lab
            .addresses()
            .iter()
            .all(|server| { testbed.watcher.table().is_ok_and(|table| table.is_in_everywhere(*server)) })
    );
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn probes_to_the_vip_are_no_clients_of_the_service() -> Result<()> {
    let lab = lab(Layout::new(Method::DirectRoute))?;
    let director = lab.network.director.clone();
    let config = to_vip(AgentConfig::http(&lab.network.layout, &lab.addresses()));
    let mut agent = Agent::start(&director, &config.to_toml()?)?;
    agent.wait_until_ready()?;
    wait::until_true("three rounds of checks", BY_CHECK, || {
        let text = agent.metrics()?;
        let labels = ["kind=\"baseline\"", "outcome=\"success\""];
        Ok(metric(&text, "lvs_probes_total", &labels).is_some_and(|count| count >= 9.0))
    })?;
    // The kernel sums its counters up every two seconds.
    std::thread::sleep(Duration::from_secs(3));
    let status = agent.ask(&["status", "--json"])?.stdout;
    ensure!(status.contains("\"connections\":0,"), "no client has come: {status}");
    let text = agent.metrics()?;
    for name in ["lvs_passive_syn_total", "lvs_passive_handshakes_total"] {
        let seen = metric(&text, name, &[]);
        ensure!(seen == Some(0.0), "{name}: {seen:?} were taken for clients'");
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn ipv6_and_masquerade_need_no_address_for_it() -> Result<()> {
    let tunnel = Method::Tunnel(Encapsulation::Ipip);
    let layouts = [
        Layout::new(Method::Masquerade),
        Layout::new(Method::Masquerade).families(Family::V6, Family::V6),
        Layout::new(Method::DirectRoute).families(Family::V6, Family::V6),
        Layout::new(tunnel).families(Family::V6, Family::V6),
    ];
    for layout in layouts {
        let mut setup = Setup::of(layout);
        setup.config.service[0].check.other.insert("via".to_owned(), "vip".into());
        let mut testbed = start(&setup)?;
        testbed.run_for(HEALTHY)?;
        assert_eq!(private(&testbed.lab.network.director)?, (3, false), "{layout}");
        let status = testbed.agent.command(&["status"])?.stdout;
        ensure!(status.contains("from this director's own address"), "{layout}: {status}");
        let downs = testbed.agent.events().iter().filter(|event| is_down(&event.kind)).count();
        ensure!(downs == 0, "{layout}: {}", testbed.diagnosis());
    }
    Ok(())
}

/// Checks in each round of the measurement.
const INTERVAL: &str = "20ms";
/// How long a round takes.
const ROUND: Duration = Duration::from_secs(2);
/// Rounds of each way, one after the other in turn. They differ by a few hundredths.
const ROUNDS: usize = 3;
/// What a probe to the VIP may cost, compared with one to the server.
const AT_MOST: f64 = 1.3;

/// What one probe costs.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// The agent's processor time, with what the kernel does in its system calls, in µs.
    processor: f64,
    /// From the start to the answer, the mean, in µs.
    latency: f64,
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_probe_to_the_vip_costs_little_more_than_one_to_the_server() -> Result<()> {
    let lab = lab(Layout::new(Method::DirectRoute))?;
    // One that is there already, so that the making of it is not measured.
    let device =
        format!("link add link {LAN} name given type ipvlan mode l2\naddr add {SOURCE}/32 dev given\n");
    ip(&lab.network.director, &format!("{device}link set given up\n"))?;
    set(&lab.network.director, &["net/ipv4/conf/given/accept_local=1", "net/ipv4/conf/given/rp_filter=2"])?;
    for kind in ["connect", "http"] {
        let mut config = AgentConfig::http(&lab.network.layout, &lab.addresses());
        if kind == "connect" {
            config = config.check_by_connect();
        }
        config.service[0].check.interval = INTERVAL.to_owned();
        config.service[0].check.timeout = INTERVAL.to_owned();
        let ways = [config.clone(), to_vip(config)];
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (config, costs) in ways.iter().zip(&mut costs) {
                costs.push(cost(&lab, config)?);
            }
        }
        let [server, vip] = costs;
        let processor = ratios(&server, &vip, |cost| cost.processor);
        let latency = ratios(&server, &vip, |cost| cost.latency);
        say(&format!(
            "{kind}: to the server {}; to the VIP {}; ratio of processor time {}, of latency {}",
            shown(&server),
            shown(&vip),
            spread(&processor),
            spread(&latency)
        ));
        ensure!(processor[ROUNDS / 2] <= AT_MOST, "{kind}: {processor:?} times the processor time");
        ensure!(latency[ROUNDS / 2] <= AT_MOST, "{kind}: {latency:?} times the latency");
    }
    Ok(())
}

/// What a probe costs with this configuration, on average over a round.
fn cost(lab: &Lab, config: &AgentConfig) -> Result<Cost> {
    let mut agent = Agent::start(&lab.network.director, &config.to_toml()?)?;
    agent.wait_until_ready()?;
    let read = |agent: &Agent| -> Result<[f64; 4]> {
        let text = agent.metrics()?;
        let value = |name: &str, labels: &[&str]| metric(&text, name, labels).unwrap_or_default();
        let baseline = ["kind=\"baseline\"", "outcome=\"success\""];
        Ok([
            processor_time(agent)?,
            value("lvs_probes_total", &baseline),
            value("lvs_check_seconds_sum", &[]),
            value("lvs_check_seconds_count", &[]),
        ])
    };
    let before = read(&agent)?;
    std::thread::sleep(ROUND);
    let after = read(&agent)?;
    agent.stop()?;
    let [processor, probes, seconds, timed] = std::array::from_fn(|index| after[index] - before[index]);
    ensure!(probes > 100.0 && timed > 100.0, "{probes} probes, {timed} timed");
    Ok(Cost { processor: processor / probes, latency: seconds * 1e6 / timed })
}

/// The processor time of all threads of the agent, in µs.
fn processor_time(agent: &Agent) -> Result<f64> {
    let mut sum = 0.0;
    for task in std::fs::read_dir(format!("/proc/{}/task", agent.pid()))? {
        let times = std::fs::read_to_string(task?.path().join("schedstat"))?;
        sum += times.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or_default()
            / 1000.0;
    }
    Ok(sum)
}

/// The ratios of each round, sorted.
fn ratios(server: &[Cost], vip: &[Cost], of: impl Fn(&Cost) -> f64) -> Vec<f64> {
    let mut ratios: Vec<f64> = server.iter().zip(vip).map(|(server, vip)| of(vip) / of(server)).collect();
    ratios.sort_by(f64::total_cmp);
    ratios
}

fn spread(sorted: &[f64]) -> String {
    let [first, .., last] = sorted else { return String::new() };
    format!("{:.2} ({first:.2} to {last:.2})", sorted[sorted.len() / 2])
}

fn shown(costs: &[Cost]) -> String {
    let sorted = |of: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        spread(&values)
    };
    format!(
        "{} µs of the processor, answered after {} µs",
        sorted(|cost| cost.processor),
        sorted(|cost| cost.latency)
    )
}
