//! The lab itself, without an agent: traffic flows, and each fault looks to clients as it should. Needs root. Where the
//! kernel has no IPVS, the director spreads connections by address translation and by multipath routes.

use std::{
    fs,
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::Result;
use lvs_tests::{
    client::{Load, LoadPlan, Pattern},
    clock::Moment,
    director::{Method, edit_table, prepare_ipvs, service_lines},
    disturbance::Disturbance,
    fault::Fault,
    flood::Flood,
    lab::Lab,
    leftovers,
    network::{PORT, VIP, ip, set},
    process,
    requests::{Outcome, Request, Summary, achieved_rate, failures_since},
    say,
    server::RealServer,
    wait,
};

/// Long enough for a slow machine.
const LIMIT: Duration = Duration::from_secs(30);
const START: Moment = Moment::from_ns(0);

/// A lab whose director spreads connections: by IPVS, or without it by what comes closest.
fn spreading(method: Method) -> Result<Lab> {
    let lab = Lab::build(3)?;
    let director = &lab.network.director;
    if prepare_ipvs(director).is_ok() {
        edit_table(director, &service_lines(method, &lab.addresses()))?;
        return Ok(lab);
    }
    say("no IPVS here: address translation and multipath routes in its place");
    match method {
        Method::Masquerade => {
            let script = format!(
                "table ip lab {{ chain spread {{ type nat hook prerouting priority dstnat; \
                 ip daddr {VIP} tcp dport {PORT} dnat to numgen inc mod 3 map \
                 {{ 0 : 10.0.0.1, 1 : 10.0.0.2, 2 : 10.0.0.3 }}; }}; }}\n"
            );
            process::run(director, &["nft", "-f", "-"], &script)?;
        }
        Method::DirectRoute => {
            set(director, &["net/ipv4/fib_multipath_hash_policy=1"])?;
            let hop = |server: &RealServer| format!(" nexthop via {}", server.address().ip());
            let hops = lab.servers.iter().map(hop).collect::<Vec<_>>().concat();
            ip(director, &format!("addr del {VIP}/32 dev wan\nroute add {VIP}/32{hops}\n"))?;
        }
    }
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

    let at = fault.arm(&lab.network.switch, &lab.servers[0])?.strike()?;
    wait::until_true("failures after the fault", LIMIT, || {
        Ok(load.count(|request| request.started > at && !request.outcome.is_success()) > 5)
    })?;
    let healed = fault.heal(&lab.network.switch, &mut lab.servers[0])?;
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
fn a_sick_server_answers_with_an_error() -> Result<()> {
    let mut lab = spreading(Method::Masquerade)?;
    assert_fails_only_as(&clients_under(&mut lab, Fault::ProcessSick, plan())?, &["error status"]);
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
    Fault::LinkDown.arm(&lab.network.switch, &lab.servers[0])?.strike()?;
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
        let disturbed = disturbance.begin(&lab.network.clients)?;
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
            assert!(harmed.iter().all(|request| request.client.octets()[2] == harmed[0].client.octets()[2]));
        }
    }
    Ok(())
}
