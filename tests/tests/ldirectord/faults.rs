//! ldirectord's faults, one test each: it has them, and the agent doesn't.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use lvs_agent::{
    config::{self, Strictness},
    ipvs::Table,
    probe::{BaselineCheck, CheckId, ProbeTarget, Prober, Scheduler},
};
use lvs_tests::ldirectord::fake_ipvsadm::rules;
use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    compare_runs::{AgentRun, MOST_FAILURES},
    fixture::{Fixture, with_fixture},
    package,
};

const HEAD: &str = "checktimeout=1\nnegotiatetimeout=1\ncheckinterval=1\n";

fn web(address: &str, lines: &[&str]) -> String {
    let lines = lines.iter().map(|line| format!("    {line}\n")).collect::<Vec<_>>().concat();
    format!("virtual={address}\n    checktype=connect\n{lines}")
}

/// Whether the table has a destination whose line begins so.
fn has(table: &Table, rule: &str) -> bool {
    rules(table).iter().any(|line| line.starts_with(rule))
}

fn down(fixture: &mut Fixture, hosts: &[u8]) -> Result<()> {
    fixture.set_down(&hosts.iter().copied().collect::<BTreeSet<_>>())
}

#[test]
fn fault_a_server_that_nobody_has_checked_gets_traffic_at_the_start() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    with_fixture(async |fixture| {
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &["real=10.0.0.1:80 masq 7", "quiescent=yes"]);
        down(fixture, &[1])?;
        let mut ldirectord = fixture.start_ldirectord(&package, &text)?;
        ldirectord.rounds(1).await?;
        let calls = ldirectord.call_log.calls()?;
        let added =
            calls.iter().any(|call| call.starts_with("-a") && call.ends_with("-r 10.0.0.1:80 -m -w 7"));
        assert!(added, "ldirectord adds the dead server at its full weight: {calls:#?}");
        let agent = AgentRun::start(&text)?;
        assert!(has(agent.dry_run.table(), "tcp 192.0.2.80:80 -> 10.0.0.1:80 masquerade 0"));
        Ok(())
    })
}

#[test]
fn fault_failures_of_a_server_in_two_services_are_counted_together() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    with_fixture(async |fixture| {
        let both =
            ["192.0.2.80:80", "192.0.2.81:80"].map(|vip| web(vip, &["real=10.0.0.1:80 masq"])).concat();
        let text = format!("{HEAD}failurecount=4\n{both}");
        let mut ldirectord = fixture.start_ldirectord(&package, &text)?;
        ldirectord.rounds(2).await?;
        let mut agent = AgentRun::start(&text)?;
        agent.round().await?;
        down(fixture, &[1])?;
        // The first of these may have begun before.
        ldirectord.rounds(3).await?;
        let table = ldirectord.call_log.table()?;
        let second = "tcp 192.0.2.81:80 -> 10.0.0.1:80";
        assert!(!has(&table, second), "ldirectord has it out by the second of four failures");
        for round in 1..=4 {
            agent.round().await?;
            for service in ["tcp 192.0.2.80:80 -> 10.0.0.1:80", second] {
                assert_eq!(has(agent.dry_run.table(), service), round < 4, "{service} after round {round}");
            }
        }
        Ok(())
    })
}

#[test]
fn fault_the_global_fallback_breaks_services_by_firewall_mark() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    with_fixture(async |fixture| {
        let lines = ["real=10.0.0.1:80 masq", "checkport=80", "protocol=fwm"];
        let text = format!("{HEAD}fallback=127.0.0.1:80 masq\n{}", web("7", &lines));
        down(fixture, &[1])?;
        let mut ldirectord = fixture.start_ldirectord(&package, &text)?;
        // It may as well end.
        ldirectord.rounds(MOST_FAILURES).await.ok();
        let fallback = "mark 7 -> 127.0.0.1:80 masquerade 1";
        assert!(!has(&ldirectord.call_log.table()?, fallback), "ldirectord has no fallback there");
        let mut agent = AgentRun::start(&text)?;
        agent.round().await?;
        assert!(has(agent.dry_run.table(), fallback), "{:#?}", rules(agent.dry_run.table()));
        Ok(())
    })
}

#[test]
fn fault_a_routed_server_at_another_port_stays_quiescent() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    with_fixture(async |fixture| {
        let lines = ["real=10.0.0.1:8000 gate 3", "quiescent=yes"];
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &lines);
        let mut ldirectord = fixture.start_ldirectord(&package, &text)?;
        ldirectord.rounds(MOST_FAILURES).await?;
        let rule = "tcp 192.0.2.80:80 -> 10.0.0.1:80 direct-route";
        assert!(has(&ldirectord.call_log.table()?, &format!("{rule} 0")), "ldirectord never raises it");
        let mut agent = AgentRun::start(&text)?;
        agent.round().await?;
        assert!(has(agent.dry_run.table(), &format!("{rule} 3")), "{:#?}", rules(agent.dry_run.table()));
        Ok(())
    })
}

#[test]
fn fault_a_server_that_is_down_at_the_start_is_put_into_one_of_its_services() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    with_fixture(async |fixture| {
        // Its weight makes it two servers for what follows a check, but not for what is done at the start.
        let services = ["1", "2"].map(|weight| {
            web(
                &format!("192.0.2.8{weight}:80"),
                &[&format!("real=10.0.0.1:80 masq {weight}"), "quiescent=yes"],
            )
        });
        let text = HEAD.to_owned() + &services.concat();
        down(fixture, &[1])?;
        let mut ldirectord = fixture.start_ldirectord(&package, &text)?;
        ldirectord.rounds(2).await?;
        let mut agent = AgentRun::start(&text)?;
        agent.round().await?;
        let quiescent = |table: &Table| {
            rules(table).iter().filter(|rule| rule.ends_with("10.0.0.1:80 masquerade 0")).count()
        };
        assert_eq!((quiescent(&ldirectord.call_log.table()?), quiescent(agent.dry_run.table())), (1, 2));
        Ok(())
    })
}

#[test]
fn fault_a_quiescent_server_loses_its_thresholds() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    with_fixture(async |fixture| {
        let lines = ["real=10.0.0.1:80 masq 1 l:5 u:9", "quiescent=yes"];
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &lines);
        let limits = |table: &Table| {
            let service = table.services.values().next().context("a service")?;
            let server = service.destinations.values().next().context("a server")?;
            anyhow::Ok((server.weight.0, server.upper_threshold, server.lower_threshold))
        };
        let mut ldirectord = fixture.start_ldirectord(&package, &text)?;
        ldirectord.rounds(1).await?;
        let mut agent = AgentRun::start(&text)?;
        agent.round().await?;
        down(fixture, &[1])?;
        ldirectord.rounds(2).await?;
        agent.round().await?;
        // The service that counts rounds is the last.
        assert_eq!(limits(&ldirectord.call_log.table()?)?, (0, 0, 0));
        assert_eq!(limits(agent.dry_run.table())?, (0, 9, 5));
        Ok(())
    })
}

#[test]
fn fault_the_upper_threshold_before_the_lower_one_is_lost() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    with_fixture(async |fixture| {
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &["real=10.0.0.1:80 masq u:20 l:10"]);
        let mut ldirectord = fixture.start_ldirectord(&package, &text)?;
        ldirectord.rounds(2).await?;
        let asked = ldirectord.call_log.calls()?.iter().any(|call| call.contains("-y 10 -r 10.0.0.1:80"));
        let server = "tcp 192.0.2.80:80 -> 10.0.0.1:80";
        assert!(asked && !has(&ldirectord.call_log.table()?, server), "a server that the kernel refuses");
        let mut agent = AgentRun::start(&text)?;
        agent.round().await?;
        let expected = format!("{server} masquerade 1 u:20 l:10");
        assert!(has(agent.dry_run.table(), &expected), "{:#?}", rules(agent.dry_run.table()));
        Ok(())
    })
}

#[test]
fn fault_an_edit_takes_three_processes() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    with_fixture(async |fixture| {
        let lines = ["real=10.0.0.1:80 masq", "real=10.0.0.2:80 masq"];
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &lines);
        let mut ldirectord = fixture.start_ldirectord(&package, &text)?;
        ldirectord.rounds(2).await?;
        let (before, table) = (ldirectord.call_log.calls()?.len(), ldirectord.call_log.table()?);
        let mut agent = AgentRun::start(&text)?;
        agent.round().await?;
        let was = agent.dry_run.table().clone();
        down(fixture, &[1])?;
        ldirectord.rounds(2).await?;
        agent.round().await?;
        let calls = ldirectord.call_log.calls()?.split_off(before);
        assert_ne!(ldirectord.call_log.table()?, table);
        assert_eq!(calls.len(), 3, "{calls:#?}");
        let other = agent.dry_run.table();
        let gone = other.services.iter().filter(|(key, entry)| was.services.get(key) != Some(entry)).count();
        assert_eq!(gone, 1, "one service is another one, by the one edit that differs");
        Ok(())
    })
}

#[test]
fn fault_a_reload_of_a_broken_file_stops_edits() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    with_fixture(async |fixture| {
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &["real=10.0.0.1:80 masq"]);
        let mut ldirectord = fixture.start_ldirectord(&package, &text)?;
        ldirectord.rounds(2).await?;
        let broken = fixture.counted(&text.replace("virtual=192.0.2.80:80", "virtual=nowhere"));
        fs::write(ldirectord.process.config_file(), &broken)?;
        ldirectord.process.signal(Signal::SIGHUP)?;
        ldirectord.rounds(2).await?;
        down(fixture, &[1])?;
        ldirectord.rounds(MOST_FAILURES).await?;
        let server = "tcp 192.0.2.80:80 -> 10.0.0.1:80";
        assert!(has(&ldirectord.call_log.table()?, server), "ldirectord leaves the dead server in");
        let read = config::read_bytes(broken.as_bytes(), Path::new("ldirectord.cf"), Strictness::Lenient);
        assert!(read.is_err(), "the agent refuses such a file whole, and goes on with the old one");
        Ok(())
    })
}

#[test]
fn fault_an_address_without_a_port_is_taken_for_a_firewall_mark() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    with_fixture(async |fixture| {
        let text = HEAD.to_owned() + &web("192.168.1.1", &["real=10.0.0.1:80 masq"]);
        let mut ldirectord = fixture.start_ldirectord(&package, &text)?;
        ldirectord.rounds(1).await?;
        assert!(has(&ldirectord.call_log.table()?, "FWM  192 "));
        let read = config::read_bytes(text.as_bytes(), Path::new("ldirectord.cf"), Strictness::Lenient);
        let error = read.err().context("the agent refuses it")?.to_string();
        assert!(error.contains("192"), "{error}");
        Ok(())
    })
}

#[test]
fn difference_a_masqueraded_server_without_a_port_has_the_services() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    with_fixture(async |fixture| {
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &["real=10.0.0.1 masq", "checkport=80"]);
        let mut ldirectord = fixture.start_ldirectord(&package, &text)?;
        ldirectord.rounds(1).await?;
        let mut agent = AgentRun::start(&text)?;
        agent.round().await?;
        assert!(has(&ldirectord.call_log.table()?, "tcp 192.0.2.80:80 -> 10.0.0.1:0 masquerade 1"));
        assert!(has(agent.dry_run.table(), "tcp 192.0.2.80:80 -> 10.0.0.1:80 masquerade 1"));
        Ok(())
    })
}

#[test]
fn difference_a_fallback_stands_in_for_servers_of_weight_0() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    with_fixture(async |fixture| {
        let lines = ["real=10.0.0.1:80 masq 0", "fallback=127.0.0.1:80 masq"];
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &lines);
        let mut ldirectord = fixture.start_ldirectord(&package, &text)?;
        ldirectord.rounds(2).await?;
        let mut agent = AgentRun::start(&text)?;
        agent.round().await?;
        let fallback = "tcp 192.0.2.80:80 -> 127.0.0.1:80 masquerade 1";
        assert!(!has(&ldirectord.call_log.table()?, fallback), "with ldirectord nobody serves");
        assert!(has(agent.dry_run.table(), fallback), "{:#?}", rules(agent.dry_run.table()));
        Ok(())
    })
}

/// Hung servers in the file of the next test.
const HUNG: usize = 3;

#[test]
fn fault_hung_servers_delay_the_checks_of_others() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    with_fixture(async |fixture| {
        let hung = (1..=HUNG).map(|host| format!("    real=10.0.0.{host}:7001 masq\n"));
        let hung = hung.collect::<Vec<_>>().concat();
        let text =
            format!("{HEAD}virtual=192.0.2.80:80\n    service=http\n{hung}    real=10.0.0.6:80 masq\n");
        let mut ldirectord = fixture.start_ldirectord(&package, &text)?;
        ldirectord.rounds(1).await?;
        let start = Instant::now();
        ldirectord.rounds(1).await?;
        let round = start.elapsed();
        ldirectord.process.stop()?;
        assert!(
            round >= Duration::from_secs(3),
            "{HUNG} hung servers make ldirectord's round last {round:?}"
        );
        let config =
            config::read_bytes(text.as_bytes(), Path::new("ldirectord.cf"), Strictness::Strict)?.config;
        let (results, mut heard) = mpsc::channel(64);
        let service = &config.services[0];
        let checks = service.servers.iter().enumerate().map(|(number, server)| BaselineCheck {
            id: CheckId(u32::try_from(number).unwrap_or(u32::MAX)),
            target: ProbeTarget::of_check(server.address, &service.check),
            check: Arc::new(service.check.clone()),
        });
        let stop = CancellationToken::new();
        let limit = Scheduler::DEFAULT_LIMIT;
        let scheduler =
            Scheduler::spawn(checks.collect::<Vec<_>>(), Prober::new(), limit, results, stop.clone());
        let well = CheckId(HUNG.try_into()?);
        let mut times = Vec::new();
        while times.len() < 3 {
            let result = heard.recv().await.context("the checks have ended")?;
            if result.id == well {
                assert!(result.outcome.is_ok(), "{:?}", result.outcome);
                times.push(Instant::now());
            }
        }
        stop.cancel();
        scheduler.stopped().await?;
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().context("two")?;
        assert!(
            longest < Duration::from_millis(1500),
            "with us the fourth is asked every second: {longest:?}"
        );
        Ok(())
    })
}
