//! Strangers: forged messages about servers while one of them dies, and a program of somebody else that hides all
//! packets from the agent's.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use aya::util::KernelVersion;
use lvs_tests::{
    forged::Forged,
    lab::{
        agent::metric,
        clock::Moment,
        faults::{Fault, flood::Flood},
        layout::{Layout, Method, PORT, SECOND_PORT, forged_address},
        namespace::Namespace,
        process,
    },
    packets::builder::{SYN, tcp},
    say,
    testbed::{Setup, Testbed},
};
use socket2::{Domain, Protocol, Socket, Type};

/// Forged messages a second: enough to have every server suspected all the time, if they were believed.
const RATE: f64 = 600.0;
/// How long an attack goes on before a server dies.
const ATTACK: Duration = Duration::from_secs(3);
/// Lines of the log a second that an attack may cause.
const LINES: f64 = 10.0;
/// What a run without an attack may be lucky by.
const LUCK: f64 = 100.0;
/// Two looks at what the kernel has counted, and one that may have just been, on a slow machine.
const BLIND_LIMIT: Duration = Duration::from_secs(40);

/// How many lines the agent has logged that are seen without looking for them.
fn lines(testbed: &Testbed) -> usize {
    testbed.agent.lines().iter().filter(|line| !line.contains("\"level\":\"DEBUG\"")).count()
}

fn count(testbed: &Testbed, name: &str) -> Result<f64> {
    Ok(metric(&testbed.agent.metrics()?, name, &[]).unwrap_or(0.0))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn forged_messages_neither_take_a_server_out_nor_keep_a_dead_one_in() -> Result<()> {
    let mut testbed = Testbed::start(&Setup::new(Method::Masquerade).rate(100.0))?;
    let (calm, _) = testbed.failover(Fault::ProcessKilled, 0, Duration::from_millis(500))?;
    let calm = calm.milestones().table.context("a killed server is taken out")?;
    testbed.reset_healthy_since();

    let (before, begin) = (lines(&testbed), Moment::now());
    let mut attack = Forged::Unreachable.flood(&testbed.lab, RATE)?;
    testbed.run_for(ATTACK)?;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let logged = (lines(&testbed) - before) as f64 / Moment::now().since(begin).as_secs_f64();
    assert!(logged <= LINES, "{logged:.1} lines a second: {}", testbed.diagnosis());
    let doubted = count(&testbed, "lvs_passive_unreachable_doubted_total")?;
    let believed = count(&testbed, "lvs_passive_unreachable_total")?;
    let sent = attack.sent();
    say(&format!(
        "{sent} forged messages: {doubted} doubted, {believed} believed, {logged:.1} lines a second"
    ));
    let metrics = testbed.agent.metrics()?;
    let passive: Vec<_> = metrics.lines().filter(|line| line.starts_with("lvs_passive_un")).collect();
    assert!(doubted * 2.0 > f64::from(sent), "they don't arrive: {doubted} of {sent}: {passive:#?}");
    assert!(believed <= 0.0, "{believed} believed");

    let (attacked, _) = testbed.failover(Fault::ProcessKilled, 1, Duration::from_millis(500))?;
    attack.stop()?;
    assert_eq!(attacked.unexpected_changes(), []);
    let out = attacked.milestones().table.context("a killed server is taken out under attack")?;
    say(&format!("out after {calm:.0} ms without an attack, {out:.0} ms with it"));
    assert!(out <= 2.0 * calm.max(LUCK), "out after {out:.0} ms, {calm:.0} ms without an attack");
    Ok(())
}

/// What the agent says of the first server's signal.
fn status(testbed: &Testbed) -> Result<String> {
    Ok(testbed.agent.command(&["status"])?.stdout)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn programs_that_others_keep_all_packets_from_say_that_they_are_blind() -> Result<()> {
    // On tcx they come before all filters: there `loading` tests what comes first.
    if KernelVersion::current()? >= KernelVersion::new(6, 6, 0) {
        return Ok(());
    }
    let mut testbed = Testbed::start(&Setup::new(Method::Masquerade).rate(100.0))?;
    let servers_count = testbed.lab.servers.len();
    // Of each server in the table.
    let seen = |text: &str, word: &str| text.matches(word).count() == servers_count;
    assert!(seen(&status(&testbed)?, " whole "), "{}", status(&testbed)?);
    let director = testbed.lab.network.director.clone();
    let tc = |words: &str| {
        let words: Vec<&str> = std::iter::once("tc").chain(words.split(' ')).collect();
        process::run(&director, &words, "")
    };
    // It lets all packets pass, and no other filter see them.
    tc("filter add dev lan egress protocol all prio 1 matchall action ok")?;
    let blind = |text: &str| seen(text, " none ") && text.contains("blind on lan");
    testbed
        .wait("the agent to notice that it is blind", BLIND_LIMIT, |testbed| Ok(blind(&status(testbed)?)))?;
    let text = status(&testbed)?;
    assert!(text.contains("matchall") && text.contains("clsact-priority"), "{text}");
    let labels = ["device=\"lan\"", "direction=\"egress\""];
    let gauge = |testbed: &Testbed, name: &str| -> Result<Option<f64>> {
        Ok(metric(&testbed.agent.metrics()?, name, &labels))
    };
    assert_eq!(gauge(&testbed, "lvs_passive_blind")?, Some(1.0));
    assert_eq!(gauge(&testbed, "lvs_passive_in_front")?, Some(1.0));
    let told = |testbed: &Testbed, event: &str| {
        let wanted = format!("\"event\":\"{event}\"");
        testbed.agent.lines().iter().filter(|line| line.contains(&wanted)).count()
    };
    assert_eq!((told(&testbed, "signal-blind"), told(&testbed, "signal-behind")), (1, 1));
    // The regular checks go on.
    testbed.inject(Fault::ProcessKilled, 1)?;
    testbed.wait_until_out(1)?;

    tc("filter del dev lan egress prio 1")?;
    testbed.wait("the agent to see again", BLIND_LIMIT, |testbed| {
        let text = status(testbed)?;
        Ok(seen(&text, " whole ") && !text.contains("blind"))
    })?;
    assert_eq!(gauge(&testbed, "lvs_passive_blind")?, Some(0.0));
    assert_eq!(told(&testbed, "signal-back"), 1);
    Ok(())
}

/// Whose addresses forged SYNs bear.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Anybody,
    OneNetwork,
    OneAddress,
}

/// SYNs to the first service that nobody stands behind, from beside the clients.
fn forge_syns(from: &Namespace, service: SocketAddr, whose: Whose) -> Result<Flood> {
    let socket =
        from.run(|| Ok(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(nix::libc::IPPROTO_RAW)))?))?;
    Flood::of(from, RATE, move |number| {
        let address = match whose {
            Whose::Anybody => forged_address(number),
            Whose::OneNetwork => forged_address(number % 256),
            Whose::OneAddress => forged_address(1),
        };
        let [.., high, low] = number.to_be_bytes();
        let client = SocketAddr::from((address, u16::from_be_bytes([high, low]) | 1024));
        let syn = tcp(client, service, SYN).sequence(number).packet();
        socket.send_to(syn.bytes(), &SocketAddr::new(service.ip(), 0).into()).map(drop)
    })
}

/// When a server that accepts nothing any more was taken out of the second service, in ms.
fn out_of_shop(testbed: &mut Testbed, server: usize) -> Result<f64> {
    testbed.reset_healthy_since();
    let (seen, _) = testbed.failover(Fault::PortFiltered, server, Duration::from_millis(500))?;
    let faulty = seen.faulty.address.ip();
    let others = seen.unexpected_changes().into_iter().filter(|seen| seen.change.server.ip() != faulty);
    assert_eq!(others.collect::<Vec<_>>(), []);
    let events = testbed.agent.events().into_iter();
    let of_shop = |service: &str| service.ends_with(&format!(":{SECOND_PORT}"));
    let mut edits = events.filter(|event| event.is_edit() && event.service.as_deref().is_some_and(of_shop));
    let out = edits.find(|event| event.at >= seen.fault).context("it is taken out of the shop")?;
    Ok(out.at.ms_after(seen.fault))
}

/// Whoever floods one service, the servers of the other are as soon out of it as ever.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn forged_syns_to_one_service_leave_the_other_its_hints() -> Result<()> {
    let layout = Layout::new(Method::DirectRoute);
    let mut setup = Setup::of(layout).rate(200.0);
    setup.load = setup.load.to(&[layout.service(), layout.second_service()]);
    let mut second = setup.config.service[0].clone();
    "shop".clone_into(&mut second.name);
    second.address = Some(layout.second_service().to_string());
    for server in &mut second.server {
        // A directly routed packet keeps its port.
        server.address = server.address.replace(&format!(":{PORT}"), &format!(":{SECOND_PORT}"));
    }
    setup.config.service.push(second);
    let mut testbed = Testbed::start(&setup)?;
    let calm = out_of_shop(&mut testbed, 0)?;
    for (server, whose) in [Whose::Anybody, Whose::OneNetwork, Whose::OneAddress].into_iter().enumerate() {
        testbed.reset_healthy_since();
        let mut flood = forge_syns(&testbed.lab.network.clients, layout.service(), whose)?;
        testbed.run_for(ATTACK)?;
        let out = out_of_shop(&mut testbed, server)?;
        let sent = flood.sent();
        flood.stop()?;
        let metrics = testbed.agent.metrics()?;
        let hints = |result: &str| metric(&metrics, "lvs_hints_total", &[result]).unwrap_or(0.0);
        let (asked, withheld) = (hints("asked"), hints("withheld"));
        say(&format!(
            "{whose:?}, {sent} SYNs: out after {calm:.0} ms without them, {out:.0} ms with them; so far {asked} hints were \
             followed, {withheld} were not"
        ));
        assert!(out <= 2.0 * calm.max(LUCK), "{whose:?}: out after {out:.0} ms, {calm:.0} ms in calm");
    }
    Ok(())
}
