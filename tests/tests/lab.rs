//! The lab itself, without an agent: traffic flows, and each fault looks to clients as it should. Needs root. Where the
//! kernel has no IPVS, the director spreads connections by address translation and by multipath routes.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Result, bail};
use lvs_tests::{
    lab::{
        Lab,
        clients::{
            Load, LoadPlan, Pattern, Transport,
            requests::{Outcome, Request, Summary, achieved_rate, failures_since},
        },
        clock::Moment,
        director::{edit_table, mark, prepare_ipvs, service_lines, service_option},
        faults::{Fault, disturbance::Disturbance, flood::Flood},
        layout::{Encapsulation, Family, Layout, Link, Method, PORT, SECOND_PORT, network_of},
        leftovers,
        network::{ip, set},
        process,
        servers::RealServer,
        wait,
    },
    say,
};

/// Long enough for a slow machine.
const LIMIT: Duration = Duration::from_secs(30);
const START: Moment = Moment::from_ns(0);

/// A lab whose director spreads connections: by IPVS, or without it by what comes closest.
fn spreading(method: Method) -> Result<Lab> {
    let lab = Lab::build(&Layout::new(method))?;
    let director = &lab.network.director;
    let vip = lab.network.layout.service().ip();
    if prepare_ipvs(director).is_ok() {
        spread(&lab, Transport::Tcp)?;
        return Ok(lab);
    }
    say("no IPVS here: address translation and multipath routes in its place");
    match method {
        Method::Masquerade => {
            let script = format!(
                "table ip lab {{ chain spread {{ type nat hook prerouting priority dstnat; \
                 ip daddr {vip} tcp dport {PORT} dnat to numgen inc mod 3 map \
                 {{ 0 : 10.0.0.1, 1 : 10.0.0.2, 2 : 10.0.0.3 }}; }}; }}\n"
            );
            process::run(director, &["nft", "-f", "-"], &script)?;
        }
        Method::DirectRoute => {
            set(director, &["net/ipv4/fib_multipath_hash_policy=1"])?;
            let hop = |server: &RealServer| format!(" nexthop via {}", server.address().ip());
            let hops = lab.servers.iter().map(hop).collect::<Vec<_>>().concat();
            ip(director, &format!("addr del {vip}/32 dev wan\nroute add {vip}/32{hops}\n"))?;
        }
        Method::Tunnel(_) => bail!("tunnels need IPVS"),
    }
    Ok(lab)
}

/// Lets IPVS spread the first service over all servers.
fn spread(lab: &Lab, transport: Transport) -> Result<()> {
    let layout = &lab.network.layout;
    let service = service_option(layout.service(), transport);
    edit_table(&lab.network.director, &service_lines(&service, layout.method, &lab.addresses()))
}

/// A lab with IPVS.
fn with_ipvs(layout: Layout) -> Result<Lab> {
    let lab = Lab::build(&layout)?;
    prepare_ipvs(&lab.network.director)?;
    Ok(lab)
}

fn plan() -> LoadPlan {
    LoadPlan { patience: Duration::from_millis(1500), ..LoadPlan::paced(100.0) }
}

fn answered_by(name: &str) -> Outcome {
    Outcome::Answered(name.to_owned())
}

/// Brings about `fault` at the first server under load; gives the requests from then to its repair.
fn clients_under(lab: &mut Lab, fault: Fault, plan: LoadPlan) -> Result<Vec<Request>> {
    let mut load = Load::start(&lab.network.clients, plan)?;
    let served = |name: &str| load.count(|request| request.outcome == answered_by(name));
    wait::until_true("answers of every server", LIMIT, || {
        Ok(lab.servers.iter().all(|server| served(&server.name) > 3))
    })?;
    let before = Summary::between(&load.requests(), START, Moment::now());
    assert_eq!(before.failed(), 0, "before the fault: {before}");

    let at = fault.arm(&lab.network.switch, &lab.servers[0])?.inject()?;
    wait::until_true("failures after the fault", LIMIT, || {
        Ok(load.count(|request| request.started > at && !request.outcome.is_success()) > 5)
    })?;
    let healed = fault.repair(&lab.network.switch, &mut lab.servers[0])?;
    wait::until_true("answers after the repair", LIMIT, || {
        Ok(load.count(|request| request.started > healed && request.outcome == answered_by("rs1")) > 3)
    })?;
    let mut requests = load.stop()?;
    let after = Summary::between(&requests, at, healed);
    say(&format!("{fault}: {after}"));
    assert!(after.share("rs2") > 0 && after.share("rs3") > 0, "{fault}: the others must go on: {after}");
    requests.retain(|request| (at..healed).contains(&request.started));
    Ok(requests)
}

fn assert_fails_only_as(requests: &[Request], expected: &[&str]) {
    let failures = || failures_since(requests, START);
    let other: Vec<_> = failures().filter(|request| !expected.contains(&request.outcome.kind())).collect();
    assert!(other.is_empty(), "expected only {expected:?}, got {other:?}");
    assert!(failures().count() > 0);
}

#[test]
#[ignore = "makes network namespaces: needs root"]
fn masqueraded_servers_answer_through_the_director_and_refuse_when_killed() -> Result<()> {
    let mut lab = spreading(Method::Masquerade)?;
    assert_fails_only_as(&clients_under(&mut lab, Fault::ProcessKilled, plan())?, &["refused", "reset"]);
    Ok(())
}

#[test]
#[ignore = "makes network namespaces: needs root"]
fn directly_routed_servers_answer_past_the_director_and_refuse_when_killed() -> Result<()> {
    let mut lab = spreading(Method::DirectRoute)?;
    assert_fails_only_as(&clients_under(&mut lab, Fault::ProcessKilled, plan())?, &["refused", "reset"]);
    Ok(())
}

#[test]
#[ignore = "makes network namespaces: needs root"]
fn silent_faults_look_like_silence() -> Result<()> {
    for method in [Method::Masquerade, Method::DirectRoute] {
        for fault in [Fault::LinkDown, Fault::Unplugged, Fault::PortFiltered, Fault::ProcessHung] {
            let mut lab = spreading(method)?;
            let requests = clients_under(&mut lab, fault, plan())?;
            assert_fails_only_as(&requests, &["timed out", "unreachable"]);
            // Those that the fault met in mid-exchange were connected already.
            let connected = failures_since(&requests, START).filter(|request| request.connected.is_some());
            let most = connected.count() * 2 > failures_since(&requests, START).count();
            assert_eq!(most, fault == Fault::ProcessHung, "{fault}: only a hung process's host accepts");
        }
    }
    Ok(())
}

#[test]
#[ignore = "makes network namespaces: needs root"]
fn a_failing_process_answers_with_an_error() -> Result<()> {
    let mut lab = spreading(Method::Masquerade)?;
    assert_fails_only_as(&clients_under(&mut lab, Fault::ProcessFailing, plan())?, &["error status"]);
    Ok(())
}

#[test]
#[ignore = "makes network namespaces: needs root"]
fn long_lived_flows_stay_with_their_server() -> Result<()> {
    let lab = spreading(Method::Masquerade)?;
    let pattern = Pattern::LongLived { flows: 6, pause: Duration::from_millis(5) };
    let mut load = Load::start(&lab.network.clients, LoadPlan { pattern, ..plan() })?;
    wait::until_true("some exchanges on every flow", LIMIT, || Ok(load.count(|_| true) > 100))?;
    let requests = load.stop()?;
    assert_eq!(failures_since(&requests, START).count(), 0);
    for one in &requests {
        let mut same_flow = requests.iter().filter(|other| other.client == one.client);
        assert!(same_flow.all(|other| other.outcome == one.outcome && other.connected == one.connected));
    }
    Ok(())
}

#[test]
#[ignore = "makes network namespaces: needs root"]
fn the_rate_does_not_depend_on_what_becomes_of_the_requests() -> Result<()> {
    let lab = spreading(Method::Masquerade)?;
    let rate = |pattern| -> Result<f64> {
        let mut load = Load::start(&lab.network.clients, LoadPlan { pattern, limit: 300, ..plan() })?;
        wait::until_true("every outcome", LIMIT, || Ok(load.count(|_| true) == 300))?;
        Ok(achieved_rate(&load.stop()?))
    };
    let patterns = [Pattern::Paced(200.0), Pattern::Poisson(200.0)];
    let alive = [rate(patterns[0])?, rate(patterns[1])?];
    Fault::LinkDown.arm(&lab.network.switch, &lab.servers[0])?.inject()?;
    for (pattern, alive) in patterns.into_iter().zip(alive) {
        let dead = rate(pattern)?;
        say(&format!("{pattern:?}: {alive:.0}/s, with a dead server {dead:.0}/s"));
        // Clients that waited for their answers would be down to 2/s.
        assert!(dead > alive / 2.0, "{pattern:?}: {alive}/s, with a dead server {dead}/s");
    }
    Ok(())
}

#[test]
#[ignore = "makes network namespaces: needs root"]
fn what_a_killed_run_left_behind_is_removed() -> Result<()> {
    let mut dead = Command::new("true").spawn()?;
    dead.wait()?;
    let name = format!("lvs-lab-{}-0-server", dead.id());
    let mut orphan = Command::new("ip")
        .args(["netns", "add", &name])
        .status()
        .and_then(|_| Command::new("ip").args(["netns", "exec", &name, "sleep", "600"]).spawn())?;
    let namespace = format!("/run/netns/{name}");
    wait::until_true("the orphan to be in its namespace", LIMIT, || {
        let own = fs::metadata(format!("/proc/{}/ns/net", orphan.id()))?;
        Ok(own.ino() == fs::metadata(&namespace)?.ino())
    })?;

    leftovers::remove_of_dead_runs()?;
    assert!(!Path::new(&namespace).exists());
    assert_eq!(orphan.wait()?.signal(), Some(9));
    Ok(())
}

#[test]
#[ignore = "makes network namespaces: needs root"]
fn a_flood_of_forged_syns_leaves_clients_served() -> Result<()> {
    let lab = spreading(Method::Masquerade)?;
    let mut load = Load::start(&lab.network.clients, plan())?;
    let mut flood = Flood::start(&lab.network.clients, 300.0)?;
    wait::until_true("a flood", LIMIT, || Ok(flood.sent() > 500))?;
    flood.stop()?;
    let half_open = process::run(lab.servers[0].namespace(), &["ss", "-Htn", "state", "syn-recv"], "")?;
    let summary = Summary::between(&load.stop()?, START, Moment::now());
    say(&format!("{} SYNs, {} half-open at one server; {summary}", flood.sent(), half_open.lines().count()));
    assert!(half_open.lines().count() > 50, "{half_open}");
    assert!(summary.requests > 0 && summary.failed() == 0, "{summary}");
    Ok(())
}

#[test]
#[ignore = "makes network namespaces: needs root"]
fn disturbances_harm_clients_of_every_server_alike() -> Result<()> {
    for (disturbance, least) in [(Disturbance::Loss(30), 30), (Disturbance::BlackHole, 2)] {
        let lab = spreading(Method::Masquerade)?;
        let mut load = Load::start(&lab.network.clients, plan())?;
        let disturbed = disturbance.begin(&lab.network.clients, Family::V4)?;
        wait::until_true(
            "requests under disturbance",
            LIMIT,
            || Ok(load.count(Request::is_harmed) >= least),
        )?;
        drop(disturbed);
        let requests = load.stop()?;
        let harmed: Vec<_> = requests.iter().filter(|request| request.is_harmed()).collect();
        say(&format!("{disturbance:?}: {} of {} requests harmed", harmed.len(), requests.len()));
        if disturbance == Disturbance::BlackHole {
            assert!(harmed.iter().all(|request| network_of(request.client) == network_of(harmed[0].client)));
        }
    }
    Ok(())
}

/// Everything that the scenarios are laid out in.
fn layouts() -> Vec<Layout> {
    use Family::{V4, V6};
    let tunnel = |encapsulation| Layout::new(Method::Tunnel(encapsulation));
    let [masquerade, direct] = [Method::Masquerade, Method::DirectRoute].map(Layout::new);
    vec![
        tunnel(Encapsulation::Ipip),
        tunnel(Encapsulation::Gre),
        tunnel(Encapsulation::Gue),
        masquerade.families(V6, V6),
        direct.families(V6, V6),
        tunnel(Encapsulation::Ipip).families(V6, V6),
        tunnel(Encapsulation::Ipip).families(V6, V4),
        tunnel(Encapsulation::Ipip).families(V4, V6),
        tunnel(Encapsulation::Gre).families(V6, V4),
        tunnel(Encapsulation::Gue).families(V6, V4),
        direct.link(Link::Vlan),
        masquerade.link(Link::StackedVlans),
        direct.link(Link::Bond),
        masquerade.link(Link::Bridge),
        direct.link(Link::Router),
    ]
}

#[test]
#[ignore = "makes network namespaces and needs IPVS: cargo xtask test"]
fn every_layout_serves_and_a_killed_server_refuses() -> Result<()> {
    for layout in layouts() {
        say(&layout.to_string());
        let mut lab = with_ipvs(layout)?;
        spread(&lab, Transport::Tcp)?;
        let plan = plan().to(&[layout.service()]);
        assert_fails_only_as(&clients_under(&mut lab, Fault::ProcessKilled, plan)?, &["refused", "reset"]);
    }
    Ok(())
}

#[test]
#[ignore = "makes network namespaces and needs IPVS: cargo xtask test"]
fn tunnelled_servers_fall_silent_as_others_do() -> Result<()> {
    let layout = Layout::new(Method::Tunnel(Encapsulation::Gre)).families(Family::V6, Family::V4);
    for fault in [Fault::LinkDown, Fault::PortFiltered] {
        let mut lab = with_ipvs(layout)?;
        spread(&lab, Transport::Tcp)?;
        let requests = clients_under(&mut lab, fault, plan().to(&[layout.service()]))?;
        assert_fails_only_as(&requests, &["timed out", "unreachable"]);
    }
    Ok(())
}

#[test]
#[ignore = "makes network namespaces and needs IPVS: cargo xtask test"]
fn datagrams_are_answered_until_the_server_is_killed() -> Result<()> {
    for (method, seen) in [(Method::Masquerade, "refused"), (Method::DirectRoute, "refused")] {
        let layout = Layout::new(method);
        let mut lab = with_ipvs(layout)?;
        spread(&lab, Transport::Udp)?;
        let plan = LoadPlan { transport: Transport::Udp, ..plan() };
        assert_fails_only_as(&clients_under(&mut lab, Fault::ProcessKilled, plan)?, &[seen]);
    }
    Ok(())
}

#[test]
#[ignore = "makes network namespaces and needs IPVS: cargo xtask test"]
fn a_firewall_mark_makes_one_service_of_two_ports() -> Result<()> {
    for layout in
        [Layout::new(Method::Masquerade), Layout::new(Method::DirectRoute).families(Family::V6, Family::V6)]
    {
        let mut lab = with_ipvs(layout)?;
        mark(&lab.network.director, &layout, &[PORT, SECOND_PORT], 1)?;
        let servers: Vec<_> = lab
            .addresses()
            .into_iter()
            .map(|mut server| {
                server.set_port(0);
                server
            })
            .collect();
        let service = if layout.family == Family::V4 { "-f 1" } else { "-f 1 -6" };
        edit_table(&lab.network.director, &service_lines(service, layout.method, &servers))?;
        let plan = plan().to(&[layout.service(), layout.second_service()]);
        assert_fails_only_as(&clients_under(&mut lab, Fault::ProcessKilled, plan)?, &["refused", "reset"]);
    }
    Ok(())
}

#[test]
#[ignore = "makes network namespaces: needs root"]
fn a_full_accept_queue_lets_old_connections_go_on_and_new_ones_wait() -> Result<()> {
    let mut lab = spreading(Method::Masquerade)?;
    let pattern = Pattern::LongLived { flows: 6, pause: Duration::from_millis(20) };
    let mut old = Load::start(&lab.network.clients, LoadPlan { pattern, ..plan() })?;
    wait::until_true("some exchanges on every flow", LIMIT, || Ok(old.count(|_| true) > 30))?;
    let requests = clients_under(&mut lab, Fault::AcceptQueueFull, plan())?;
    assert_fails_only_as(&requests, &["timed out"]);
    let old = old.stop()?;
    let by_first = |request: &&Request| request.outcome == answered_by("rs1");
    assert!(old.iter().filter(by_first).count() > 10, "the first server has old connections");
    assert_eq!(failures_since(&old, START).count(), 0);
    Ok(())
}

#[test]
#[ignore = "makes network namespaces: needs root"]
fn a_slow_server_answers_late_and_a_lossy_one_sometimes() -> Result<()> {
    for fault in [Fault::Slow, Fault::Lossy] {
        let mut lab = spreading(Method::DirectRoute)?;
        let armed = fault.arm(&lab.network.switch, &lab.servers[0])?;
        armed.inject()?;
        let mut load = Load::start(&lab.network.clients, LoadPlan { limit: 300, ..LoadPlan::paced(100.0) })?;
        wait::until_true("every outcome", LIMIT, || Ok(load.count(|_| true) == 300))?;
        let requests = load.stop()?;
        let harmed = requests.iter().filter(|request| request.is_harmed()).count();
        say(&format!("{fault}: {harmed} of {} requests harmed", requests.len()));
        // A third of the requests are the first server's: all of them, or those that lost a packet. Each of those loses
        // its SYN with a tenth's chance: of a hundred none in 26 of a million runs.
        let expected = if fault == Fault::Slow { 95..=105 } else { 1..=60 };
        assert!(expected.contains(&harmed), "{fault}: {harmed}");
        fault.repair(&lab.network.switch, &mut lab.servers[0])?;
    }
    Ok(())
}

#[test]
#[ignore = "makes network namespaces: needs root"]
fn clients_are_as_far_away_as_they_should_be() -> Result<()> {
    for distance in [1, 50].map(Duration::from_millis) {
        let lab = spreading(Method::DirectRoute)?;
        lab.network.set_distance(distance)?;
        let mut load = Load::start(&lab.network.clients, LoadPlan { limit: 100, ..plan() })?;
        wait::until_true("every outcome", LIMIT, || Ok(load.count(|_| true) == 100))?;
        let requests = load.stop()?;
        let took = |request: &Request| request.connected.map(|at| at.since(request.started));
        let times: BTreeSet<_> = requests.iter().filter_map(took).collect();
        let (Some(least), Some(most)) = (times.first(), times.last()) else { bail!("no connections") };
        say(&format!("{distance:?} away: connected after {least:?} to {most:?}"));
        assert!(*least >= distance && *least < distance * 2, "{least:?}");
    }
    Ok(())
}

#[test]
#[ignore = "makes network namespaces: needs root"]
fn a_fault_takes_effect_when_it_says() -> Result<()> {
    for fault in [Fault::LinkDown, Fault::Unplugged, Fault::PortFiltered] {
        let mut lab = spreading(Method::DirectRoute)?;
        let mut load = Load::start(
            &lab.network.clients,
            LoadPlan { patience: Duration::from_millis(400), ..LoadPlan::paced(1500.0) },
        )?;
        wait::until_true("answers", LIMIT, || Ok(load.count(|_| true) > 300))?;
        let armed = fault.arm(&lab.network.switch, &lab.servers[0])?;
        let at = armed.inject()?;
        wait::until_true("failures", LIMIT, || Ok(load.count(|request| !request.outcome.is_success()) > 5))?;
        fault.repair(&lab.network.switch, &mut lab.servers[0])?;
        let requests = load.stop()?;
        let answered = requests.iter().filter(|request| request.outcome == answered_by("rs1"));
        let last = answered.filter(|request| request.started < at.plus(Duration::from_millis(200)));
        let late =
            last.filter_map(|request| request.connected).max().map_or(f64::NAN, |last| last.ms_after(at));
        say(&format!("{fault}: the last connection was made {late:.2} ms after the fault"));
        assert!(late < 2.0, "{fault}: {late} ms");
    }
    Ok(())
}
