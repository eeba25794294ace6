//! Two directors behind a router with ECMP, booted from the recipe's own files.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use lvs_tests::{
    lab::{
        clients::{
            Load, LoadPlan, Pattern,
            requests::{Request, Summary, served_again, servers_of},
        },
        clock::Moment,
        pair::ecmp::{EcmpPair, VIP},
        wait,
    },
    say,
};

/// How long anything may take that is not measured.
const LIMIT: Duration = Duration::from_mins(1);
/// How long everything is watched after a change.
const AFTER: Duration = Duration::from_secs(2);
/// What BFD takes to notice: three intervals of 100 ms (RFC 5880, 6.8.4).
const BFD: Duration = Duration::from_millis(300);
/// What the routing daemon and the kernel may take besides.
const BESIDES: Duration = Duration::from_millis(100);
/// New connections a second, and connections that stay.
const RATE: f64 = 100.0;
const FLOWS: u32 = 50;
/// The server that dies.
const DEAD: (u8, &str) = (3, "10.0.0.3:80");

fn plan() -> LoadPlan {
    LoadPlan { patience: Duration::from_secs(8), ..LoadPlan::paced(RATE).to(&[VIP]) }
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn connections_go_on_whichever_director_the_router_chooses() -> Result<()> {
    if !lvs_tests::lab::bird::is_there() {
        say("without bird");
        return Ok(());
    }
    let mut pair = EcmpPair::start()?;
    let pattern = Pattern::LongLived { flows: FLOWS, pause: Duration::from_millis(200) };
    let mut staying = Load::start(&pair.network.clients, LoadPlan { pattern, ..plan() })?;
    let mut new = Load::start(&pair.network.clients, plan())?;
    wait_until_both_serve(&pair, &staying)?;

    standby_moves_everybody(&pair, [&new, &staying])?;
    let before = servers_of(&staying.requests());
    let off = pair.power_off(0)?;
    pair.wait_for_ways(&[1])?;
    thread::sleep(AFTER);
    let again = served_again(&new.requests(), off).context("new connections are served again")?;
    say(&format!(
        "{:>9.1} ms after the director's power went new ones are served again",
        again.ms_after(off)
    ));
    assert_same_servers(&before, &staying.requests(), again);

    let died = pair.network.kill_server(DEAD.0)?;
    wait::until_true("the dead server to be out", LIMIT, || {
        Ok(pair.directors[1].table()?.is_out(DEAD.1.parse()?))
    })?;
    say(&format!("{:>9.1} ms after its link went a server is out", Moment::now().ms_after(died)));
    let since = Moment::now();
    thread::sleep(AFTER);
    let summary = Summary::between(&new.requests(), since, Moment::now());
    assert!(summary.requests > 50 && summary.failed() == 0 && summary.late == 0, "{summary}");
    new.stop()?;
    staying.stop()?;
    assert!(again.since(off) <= BFD + BESIDES, "{:?}", again.since(off));
    Ok(())
}

/// Waits until all connections are there, and both directors have some.
fn wait_until_both_serve(pair: &EcmpPair, staying: &Load) -> Result<()> {
    wait::until_true("both directors to have connections", LIMIT, || {
        let counts = pair.directors.each_ref().map(|director| director.established().map(|all| all.len()));
        let asking: BTreeSet<IpAddr> = staying.requests().iter().map(|one| one.client).collect();
        let [a, b] = counts;
        Ok(a? > 5 && b? > 5 && asking.len() >= FLOWS as usize)
    })
    .with_context(|| pair.directors.each_ref().map(|director| director.agent.diagnosis()).join("\n"))
}

/// One that is ordered to stand by loses its clients to the other one, and nobody notices; likewise on the way back.
fn standby_moves_everybody(pair: &EcmpPair, loads: [&Load; 2]) -> Result<()> {
    let begin = Moment::now();
    let before = servers_of(&loads[1].requests());
    for (role, ways) in [("standby", &[1][..]), ("auto", &[0, 1][..])] {
        pair.directors[0].order(role)?;
        pair.wait_for_ways(ways)?;
        thread::sleep(AFTER);
    }
    for load in loads {
        let summary = Summary::between(&load.requests(), begin, Moment::now());
        say(&format!("to standby and back: {summary}"));
        assert!(summary.requests > 50 && summary.failed() == 0 && summary.late == 0, "{summary}");
    }
    assert_same_servers(&before, &loads[1].requests(), begin);
    Ok(())
}

/// Each connection is still there, and with the same server.
fn assert_same_servers(before: &BTreeMap<IpAddr, String>, staying: &[Request], since: Moment) {
    let later: Vec<_> = staying.iter().filter(|one| one.started >= since).collect();
    let after = |client: &IpAddr| later.iter().filter(|one| one.client == *client).collect::<Vec<_>>();
    let survived = before.iter().filter(|(client, server)| {
        let after = after(client);
        !after.is_empty() && after.iter().all(|one| one.outcome.server() == Some(server.as_str()))
    });
    let survived = survived.count();
    say(&format!("established connections: {survived} of {} go on", before.len()));
    assert!(before.len() >= FLOWS as usize, "{before:?}");
    assert_eq!(survived, before.len(), "{before:?}");
}
