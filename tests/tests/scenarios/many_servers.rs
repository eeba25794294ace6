//! More servers than a process may usually have files open, and all of them fall silent.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lvs_tests::{
    lab::{
        Lab,
        agent::{
            Agent,
            config::{AgentConfig, CheckSection, ServerSection},
        },
        clock::Moment,
        daemon::Daemon,
        director::{prepare_ipvs, table::Table, table_watcher::PROC_FILE},
        layout::{Layout, Method},
        namespace::Namespace,
        network::ip,
        process, wait,
    },
    say,
};

/// How many.
const SERVERS: u16 = 1_300;
/// Where they listen.
const LISTENING: u16 = 8100;
/// The usual soft limit of open files.
const LIMIT: &str = "1024";
/// How long three failed checks may take of so many, on a slow machine.
const OUT: Duration = Duration::from_secs(30);
/// How long an answer may take meanwhile.
const ANSWER: Duration = Duration::from_secs(2);

fn address(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    ([10, 9, high, low], LISTENING).into()
}

/// One machine has all the addresses.
fn route_all_to(director: &Namespace, machine: &Namespace, at: IpAddr) -> Result<()> {
    ip(machine, "route add local 10.9.0.0/16 dev lo\n")?;
    ip(director, &format!("route add 10.9.0.0/16 via {at}\n")).map(drop)
}

/// How many of them take connections.
fn serving(director: &Namespace) -> Result<usize> {
    let table = Table::parse(&director.run(|| Ok(fs::read_to_string(PROC_FILE)?))?)?;
    Ok((1..=SERVERS).filter(|number| !table.is_out(address(*number))).count())
}

/// The service with all of them.
fn config(layout: Layout, machine: IpAddr) -> AgentConfig {
    let mut config = AgentConfig::http(&layout, &[SocketAddr::new(machine, LISTENING)]);
    let service = &mut config.service[0];
    service.check = CheckSection::of_type("connect");
    let template = service.server.remove(0);
    let server = |number| ServerSection { address: address(number).to_string(), ..template.clone() };
    service.server = (1..=SERVERS).map(server).collect();
    config
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn more_silent_servers_than_open_files_are_out_and_status_answers() -> Result<()> {
    let layout = Layout::new(Method::Masquerade).servers(1);
    let lab = Lab::build(&layout)?;
    let (director, machine) = (&lab.network.director, lab.servers[0].namespace());
    prepare_ipvs(director)?;
    route_all_to(director, machine, lab.servers[0].address().ip())?;
    let _daemon = Daemon::start(machine, SocketAddr::from(([0, 0, 0, 0], LISTENING)), "well\n")?;
    let config = config(layout, lab.servers[0].address().ip()).to_toml()?;
    let mut agent = Agent::start_under(director, &config, &["prlimit", &format!("--nofile={LIMIT}:")])?;
    agent.wait_until_ready()?;
    let all_in = || Ok(serving(director)? == usize::from(SERVERS));
    wait::until_true("all servers to be in", OUT, all_in).with_context(|| agent.diagnosis())?;

    let silence = format!(
        "table ip silence {{ chain in {{ type filter hook input priority 0; tcp dport {LISTENING} drop; }}; }}\n"
    );
    process::run(machine, &["nft", "-f", "-"], &silence)?;
    let since = Moment::now();
    let mut slowest = Duration::ZERO;
    let all_out = || {
        let asked = Moment::now();
        let role = agent.ask(&["role"])?;
        ensure!(role.code == Some(0), "{role}");
        slowest = slowest.max(Moment::now().since(asked));
        Ok(serving(director)? == 0)
    };
    wait::until_true("all silent servers to be out", OUT, all_out).with_context(|| agent.diagnosis())?;
    let took = Moment::now().since(since);
    let asked = Moment::now();
    let status = agent.ask(&["status", "--json"])?.code;
    let answered = Moment::now().since(asked);
    say(&format!(
        "{SERVERS} silent servers are out after {took:.1?}; meanwhile the agent answered after {slowest:.0?} at most, with \
         the status of all after {answered:.0?}"
    ));
    assert_eq!(status, Some(2), "no server is left");
    assert!(slowest <= ANSWER && answered <= ANSWER, "{slowest:?}, {answered:?}");
    Ok(())
}
