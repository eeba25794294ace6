//! Two directors with keepalived, booted from the recipe's own files: the active one loses its power.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
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
        pair::{DIRECT, Director, MASQUERADED, Pair},
        wait,
    },
    say,
};

/// How long anything may take that is not measured.
const LIMIT: Duration = Duration::from_mins(1);
/// What VRRP itself takes from the last advertisement on: three intervals of 200 ms, and the skew of priority 100
/// (RFC 5798, 6.1).
const VRRP: Duration = Duration::from_millis(600 + 200 * (256 - 100) / 256);
/// What a takeover may take besides.
const BESIDES: Duration = Duration::from_millis(100);
/// How long before its director a server dies.
const BEFORE: Duration = Duration::from_secs(1);
/// How long everything is watched after a takeover, and while the agent is gone.
const AFTER: Duration = Duration::from_secs(2);
/// New connections a second, and connections that stay.
const RATE: f64 = 100.0;
const FLOWS: u32 = 50;
/// The server that dies, and the address that both services know it by.
const DEAD: (u8, &str) = (3, "10.0.0.3:80");

/// New connections: half of them to each service.
fn plan() -> LoadPlan {
    LoadPlan { patience: Duration::from_secs(8), ..LoadPlan::paced(RATE).to(&[MASQUERADED, DIRECT]) }
}

/// The role that an agent says it has.
fn role(director: &Director) -> Result<String> {
    let control = director.control();
    let output = director.agent.command(&["role", "--control", &control.to_string_lossy()])?;
    assert_eq!(output.code, Some(0), "{output}");
    Ok(output.stdout.trim().to_owned())
}

fn wait_for_role(director: &Director, role: &str) -> Result<Moment> {
    wait::until(&format!("{} to be {role}", director.name), LIMIT, || {
        let last = director.last_event("role").filter(|(_, fields)| fields["role"] == role);
        Ok(last.map(|(at, _)| at))
    })
    .with_context(|| director.agent.diagnosis())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_standby_takes_over_with_the_connections_and_without_the_dead_server() -> Result<()> {
    let mut pair = Pair::start()?;
    roles_follow_the_addresses(&pair)?;
    both_active_at_once(&pair)?;
    let pattern = Pattern::LongLived { flows: FLOWS, pause: Duration::from_millis(200) };
    let mut staying = Load::start(&pair.network.clients, LoadPlan { pattern, ..plan() })?;
    let known = wait_until_known(&pair.directors[1], &staying)?;
    let mut new = Load::start(&pair.network.clients, plan())?;

    let died = pair.network.kill_server(DEAD.0)?;
    // Not a wait for anything: so long before its director the server dies.
    thread::sleep(BEFORE.saturating_sub(Moment::now().since(died)));
    let before = servers_of(&staying.requests());
    let off = pair.power_off(0)?;
    let active = wait_for_role(&pair.directors[1], "active")?;
    thread::sleep(AFTER);
    assert_dead_server_is_out(&pair.directors[1])?;
    agent_alone_dies(&mut pair, &new)?;
    let (new, staying) = (new.stop()?, staying.stop()?);

    report_and_judge(&pair, (died, off, active), &new)?;
    let name = format!("rs{}", DEAD.0);
    let of_living: BTreeSet<IpAddr> = known
        .iter()
        .map(SocketAddr::ip)
        .filter(|client| before.get(client).is_some_and(|server| *server != name))
        .collect();
    let survived = of_living.iter().filter(|client| {
        let after = |one: &&Request| one.client == **client && one.started >= active;
        let mut later = staying.iter().filter(after).peekable();
        later.peek().is_some() && later.all(|one| one.outcome.is_success())
    });
    let survived = survived.count();
    say(&format!("established connections: {survived} of {} with living servers go on", of_living.len()));
    assert!(of_living.len() >= 25, "{before:?}");
    assert_eq!(survived, of_living.len(), "{}", pair.directors[1].agent.diagnosis());
    Ok(())
}

/// One has the addresses and is active, the other one stands ready; the kernel's daemons run on both.
fn roles_follow_the_addresses(pair: &Pair) -> Result<()> {
    for (director, role_is) in pair.directors.iter().zip(["active", "standby"]) {
        wait_for_role(director, role_is)?;
        assert!(role(director)?.starts_with(role_is), "{}", director.name);
        let daemons = lvs_tests::lab::process::run(&director.namespace, &["ipvsadm", "-L", "--daemon"], "")?;
        for role in ["master", "backup"] {
            let line = format!("{role} sync daemon (mcast=lan, syncid=51");
            assert!(daemons.contains(&line), "{}: {daemons}", director.name);
        }
    }
    Ok(())
}

/// The directors don't hear each other: both take the addresses, and their tables stay right.
fn both_active_at_once(pair: &Pair) -> Result<()> {
    let [a, b] = &pair.directors;
    pair.set_vrrp(false)?;
    wait_for_role(b, "active")?;
    assert!(a.has_vips()? && b.has_vips()?);
    for director in [a, b] {
        let table = director.table()?;
        for server in ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"] {
            assert_eq!(table.weight(server.parse()?), Some(1), "{server}");
        }
    }
    pair.set_vrrp(true)?;
    wait_for_role(b, "standby").map(drop)
}

/// Waits until the backup knows all connections that stay, and gives them.
fn wait_until_known(backup: &Director, staying: &Load) -> Result<Vec<SocketAddr>> {
    let asking = || staying.requests().iter().map(|one| one.client).collect::<BTreeSet<_>>();
    wait::until("the backup to know the connections", LIMIT, || {
        let asking = asking();
        let known: Vec<_> =
            backup.established()?.into_iter().filter(|client| asking.contains(&client.ip())).collect();
        let of: BTreeSet<_> = known.iter().map(SocketAddr::ip).collect();
        Ok((asking.len() >= FLOWS as usize && of.len() == asking.len()).then_some(known))
    })
}

fn assert_dead_server_is_out(director: &Director) -> Result<()> {
    let table = director.table()?;
    assert!(table.is_out(DEAD.1.parse()?), "{table:?}\n{}", director.agent.diagnosis());
    Ok(())
}

/// The agent of the active director is killed: clients notice nothing, and the addresses stay.
fn agent_alone_dies(pair: &mut Pair, new: &Load) -> Result<()> {
    let since = Moment::now();
    pair.directors[1].kill_agent()?;
    thread::sleep(AFTER);
    let summary = Summary::between(&new.requests(), since, Moment::now());
    assert!(
        summary.requests > 50 && summary.failed() == 0 && summary.late == 0,
        "without the agent: {summary}"
    );
    assert!(pair.directors[1].has_vips()?, "VRRP does not move");
    Ok(())
}

/// The timeline, and what it must be.
fn report_and_judge(
    pair: &Pair,
    (died, off, active): (Moment, Moment, Moment),
    new: &[Request],
) -> Result<()> {
    let b = &pair.directors[1];
    let again = served_again(new, off).context("new connections are served again")?;
    let (_, role) = b.last_event("role").context("the role")?;
    let edits: Vec<Moment> = b
        .agent
        .events()
        .into_iter()
        .filter_map(|event| {
            let is_edit = event.kind.to_string().starts_with("edit: set server");
            (is_edit && event.server == DEAD.1.parse().ok() && event.at >= died).then_some(event.at)
        })
        .collect();
    say(&format!("{:>9.1} ms: the server dies", died.ms_after(off)));
    for at in &edits {
        say(&format!("{:>9.1} ms: it is out of the standby's table", at.ms_after(off)));
    }
    say(&format!("{:>9.1} ms: the active director loses its power", 0.0));
    say(&format!("{:>9.1} ms: the other one is active ({})", active.ms_after(off), role["message"]));
    say(&format!("{:>9.1} ms: new connections are served again", again.ms_after(off)));
    let lost =
        new.iter().filter(|one| one.started >= off && one.started < again && !one.outcome.is_success());
    say(&format!(
        "of those begun meanwhile {} got no answer, the others after their SYN was sent again",
        lost.count()
    ));
    assert!(
        edits.len() == 2 && edits.iter().all(|at| *at <= active),
        "out in both services before it takes over"
    );
    assert!(again.since(off) <= VRRP + BESIDES, "{:?}", again.since(off));
    assert_eq!(
        (&role["reason"], &role["servers"], &role["down"]),
        (&"vip-here".into(), &6.into(), &2.into())
    );
    Ok(())
}
