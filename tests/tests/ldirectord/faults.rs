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
    config::{Config, Strictness},
    ipvs::Table,
    probe::{BaselineCheck, CheckId, ProbeTarget, Prober, Scheduler},
};
use lvs_tests::ldirectord::fake_ipvsadm::rules;
use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    course::{MOST_FAILURES, Ours},
    oracle,
    world::{World, in_world},
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

fn down(world: &mut World, hosts: &[u8]) -> Result<()> {
    world.set_down(&hosts.iter().copied().collect::<BTreeSet<_>>())
}

#[test]
fn fault_a_server_that_nobody_has_checked_gets_traffic_at_the_start() -> Result<()> {
    let Some(oracle) = oracle() else { return Ok(()) };
    in_world(async |world| {
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &["real=10.0.0.1:80 masq 7", "quiescent=yes"]);
        down(world, &[1])?;
        let mut theirs = world.start_theirs(&oracle, &text)?;
        theirs.rounds(1).await?;
        let calls = theirs.journal.calls()?;
        let added =
            calls.iter().any(|call| call.starts_with("-a") && call.ends_with("-r 10.0.0.1:80 -m -w 7"));
        assert!(added, "ldirectord adds the dead server at its full weight: {calls:#?}");
        let ours = Ours::start(&text)?;
        assert!(has(ours.rehearsal.table(), "tcp 192.0.2.80:80 -> 10.0.0.1:80 masquerade 0"));
        Ok(())
    })
}

#[test]
fn fault_failures_of_a_server_in_two_services_are_counted_together() -> Result<()> {
    let Some(oracle) = oracle() else { return Ok(()) };
    in_world(async |world| {
        let both =
            ["192.0.2.80:80", "192.0.2.81:80"].map(|vip| web(vip, &["real=10.0.0.1:80 masq"])).concat();
        let text = format!("{HEAD}failurecount=4\n{both}");
        let mut theirs = world.start_theirs(&oracle, &text)?;
        theirs.rounds(2).await?;
        let mut ours = Ours::start(&text)?;
        ours.round().await?;
        down(world, &[1])?;
        // The first of these may have begun before.
        theirs.rounds(3).await?;
        let table = theirs.journal.table()?;
        let second = "tcp 192.0.2.81:80 -> 10.0.0.1:80";
        assert!(!has(&table, second), "ldirectord has it out by the second of four failures");
        for round in 1..=4 {
            ours.round().await?;
            for service in ["tcp 192.0.2.80:80 -> 10.0.0.1:80", second] {
                assert_eq!(has(ours.rehearsal.table(), service), round < 4, "{service} after round {round}");
            }
        }
        Ok(())
    })
}

#[test]
fn fault_the_global_fallback_breaks_services_by_firewall_mark() -> Result<()> {
    let Some(oracle) = oracle() else { return Ok(()) };
    in_world(async |world| {
        let lines = ["real=10.0.0.1:80 masq", "checkport=80", "protocol=fwm"];
        let text = format!("{HEAD}fallback=127.0.0.1:80 masq\n{}", web("7", &lines));
        down(world, &[1])?;
        let mut theirs = world.start_theirs(&oracle, &text)?;
        // It may as well end.
        theirs.rounds(MOST_FAILURES).await.ok();
        let fallback = "mark 7 -> 127.0.0.1:80 masquerade 1";
        assert!(!has(&theirs.journal.table()?, fallback), "ldirectord has no fallback there");
        let mut ours = Ours::start(&text)?;
        ours.round().await?;
        assert!(has(ours.rehearsal.table(), fallback), "{:#?}", rules(ours.rehearsal.table()));
        Ok(())
    })
}

#[test]
fn fault_a_routed_server_at_another_port_stays_quiescent() -> Result<()> {
    let Some(oracle) = oracle() else { return Ok(()) };
    in_world(async |world| {
        let lines = ["real=10.0.0.1:8000 gate 3", "quiescent=yes"];
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &lines);
        let mut theirs = world.start_theirs(&oracle, &text)?;
        theirs.rounds(MOST_FAILURES).await?;
        let rule = "tcp 192.0.2.80:80 -> 10.0.0.1:80 direct-route";
        assert!(has(&theirs.journal.table()?, &format!("{rule} 0")), "ldirectord never raises it");
        let mut ours = Ours::start(&text)?;
        ours.round().await?;
        assert!(has(ours.rehearsal.table(), &format!("{rule} 3")), "{:#?}", rules(ours.rehearsal.table()));
        Ok(())
    })
}

#[test]
fn fault_a_server_that_is_down_at_the_start_is_put_into_one_of_its_services() -> Result<()> {
    let Some(oracle) = oracle() else { return Ok(()) };
    in_world(async |world| {
        // Its weight makes it two servers for what follows a check, but not for what is done at the start.
        let services = ["1", "2"].map(|weight| {
            web(
                &format!("192.0.2.8{weight}:80"),
                &[&format!("real=10.0.0.1:80 masq {weight}"), "quiescent=yes"],
            )
        });
        let text = HEAD.to_owned() + &services.concat();
        down(world, &[1])?;
        let mut theirs = world.start_theirs(&oracle, &text)?;
        theirs.rounds(2).await?;
        let mut ours = Ours::start(&text)?;
        ours.round().await?;
        let quiescent = |table: &Table| {
            rules(table).iter().filter(|rule| rule.ends_with("10.0.0.1:80 masquerade 0")).count()
        };
        assert_eq!((quiescent(&theirs.journal.table()?), quiescent(ours.rehearsal.table())), (1, 2));
        Ok(())
    })
}

#[test]
fn fault_a_quiescent_server_loses_its_thresholds() -> Result<()> {
    let Some(oracle) = oracle() else { return Ok(()) };
    in_world(async |world| {
        let lines = ["real=10.0.0.1:80 masq 1 l:5 u:9", "quiescent=yes"];
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &lines);
        let limits = |table: &Table| {
            let service = table.services.values().next().context("a service")?;
            let server = service.destinations.values().next().context("a server")?;
            anyhow::Ok((server.weight.0, server.upper_threshold, server.lower_threshold))
        };
        let mut theirs = world.start_theirs(&oracle, &text)?;
        theirs.rounds(1).await?;
        let mut ours = Ours::start(&text)?;
        ours.round().await?;
        down(world, &[1])?;
        theirs.rounds(2).await?;
        ours.round().await?;
        // The service that counts rounds is the last.
        assert_eq!(limits(&theirs.journal.table()?)?, (0, 0, 0));
        assert_eq!(limits(ours.rehearsal.table())?, (0, 9, 5));
        Ok(())
    })
}

#[test]
fn fault_an_edit_takes_three_processes() -> Result<()> {
    let Some(oracle) = oracle() else { return Ok(()) };
    in_world(async |world| {
        let lines = ["real=10.0.0.1:80 masq", "real=10.0.0.2:80 masq"];
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &lines);
        let mut theirs = world.start_theirs(&oracle, &text)?;
        theirs.rounds(2).await?;
        let (before, table) = (theirs.journal.calls()?.len(), theirs.journal.table()?);
        let mut ours = Ours::start(&text)?;
        ours.round().await?;
        let was = ours.rehearsal.table().clone();
        down(world, &[1])?;
        theirs.rounds(2).await?;
        ours.round().await?;
        let calls = theirs.journal.calls()?.split_off(before);
        assert_ne!(theirs.journal.table()?, table);
        assert_eq!(calls.len(), 3, "{calls:#?}");
        let other = ours.rehearsal.table();
        let gone = other.services.iter().filter(|(key, entry)| was.services.get(key) != Some(entry)).count();
        assert_eq!(gone, 1, "one service is another one, by the one edit that differs");
        Ok(())
    })
}

#[test]
fn fault_a_reload_of_a_broken_file_stops_edits() -> Result<()> {
    let Some(oracle) = oracle() else { return Ok(()) };
    in_world(async |world| {
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &["real=10.0.0.1:80 masq"]);
        let mut theirs = world.start_theirs(&oracle, &text)?;
        theirs.rounds(2).await?;
        let broken = world.counted(&text.replace("virtual=192.0.2.80:80", "virtual=nowhere"));
        fs::write(theirs.process.config_file(), &broken)?;
        theirs.process.signal(Signal::SIGHUP)?;
        theirs.rounds(2).await?;
        down(world, &[1])?;
        theirs.rounds(MOST_FAILURES).await?;
        let server = "tcp 192.0.2.80:80 -> 10.0.0.1:80";
        assert!(has(&theirs.journal.table()?, server), "ldirectord leaves the dead server in");
        let read = Config::read_bytes(broken.as_bytes(), Path::new("ldirectord.cf"), Strictness::Lenient);
        assert!(read.is_err(), "the agent refuses such a file whole, and goes on with the old one");
        Ok(())
    })
}

#[test]
fn fault_an_address_without_a_port_is_taken_for_a_firewall_mark() -> Result<()> {
    let Some(oracle) = oracle() else { return Ok(()) };
    in_world(async |world| {
        let text = HEAD.to_owned() + &web("192.168.1.1", &["real=10.0.0.1:80 masq"]);
        let mut theirs = world.start_theirs(&oracle, &text)?;
        theirs.rounds(1).await?;
        assert!(has(&theirs.journal.table()?, "FWM  192 "));
        let read = Config::read_bytes(text.as_bytes(), Path::new("ldirectord.cf"), Strictness::Lenient);
        let error = read.err().context("the agent refuses it")?.to_string();
        assert!(error.contains("192"), "{error}");
        Ok(())
    })
}

#[test]
fn difference_a_masqueraded_server_without_a_port_has_the_services() -> Result<()> {
    let Some(oracle) = oracle() else { return Ok(()) };
    in_world(async |world| {
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &["real=10.0.0.1 masq", "checkport=80"]);
        let mut theirs = world.start_theirs(&oracle, &text)?;
        theirs.rounds(1).await?;
        let mut ours = Ours::start(&text)?;
        ours.round().await?;
        assert!(has(&theirs.journal.table()?, "tcp 192.0.2.80:80 -> 10.0.0.1:0 masquerade 1"));
        assert!(has(ours.rehearsal.table(), "tcp 192.0.2.80:80 -> 10.0.0.1:80 masquerade 1"));
        Ok(())
    })
}

#[test]
fn difference_a_fallback_stands_in_for_servers_of_weight_0() -> Result<()> {
    let Some(oracle) = oracle() else { return Ok(()) };
    in_world(async |world| {
        let lines = ["real=10.0.0.1:80 masq 0", "fallback=127.0.0.1:80 masq"];
        let text = HEAD.to_owned() + &web("192.0.2.80:80", &lines);
        let mut theirs = world.start_theirs(&oracle, &text)?;
        theirs.rounds(2).await?;
        let mut ours = Ours::start(&text)?;
        ours.round().await?;
        let fallback = "tcp 192.0.2.80:80 -> 127.0.0.1:80 masquerade 1";
        assert!(!has(&theirs.journal.table()?, fallback), "with ldirectord nobody serves");
        assert!(has(ours.rehearsal.table(), fallback), "{:#?}", rules(ours.rehearsal.table()));
        Ok(())
    })
}

/// Hung servers in the file of the next test.
const HUNG: usize = 3;

#[test]
fn fault_hung_servers_delay_the_checks_of_others() -> Result<()> {
    let Some(oracle) = oracle() else { return Ok(()) };
    in_world(async |world| {
        let hung = (1..=HUNG).map(|host| format!("    real=10.0.0.{host}:7001 masq\n"));
        let hung = hung.collect::<Vec<_>>().concat();
        let text =
            format!("{HEAD}virtual=192.0.2.80:80\n    service=http\n{hung}    real=10.0.0.6:80 masq\n");
        let mut theirs = world.start_theirs(&oracle, &text)?;
        theirs.rounds(1).await?;
        let start = Instant::now();
        theirs.rounds(1).await?;
        let round = start.elapsed();
        theirs.process.stop()?;
        assert!(
            round >= Duration::from_secs(3),
            "{HUNG} hung servers make ldirectord's round last {round:?}"
        );
        let config =
            Config::read_bytes(text.as_bytes(), Path::new("ldirectord.cf"), Strictness::Strict)?.config;
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
