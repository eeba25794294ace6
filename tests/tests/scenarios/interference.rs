//! Others edit the table while the agent keeps it: what is its own is restored and logged, what is not is left alone.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use lvs_tests::{
    lab::{
        agent::{Agent, config::AgentConfig, metric},
        clock::Moment,
        director::{
            edit_table, prepare_ipvs,
            table::{Service, Table},
            table_text,
        },
        faults::Fault,
        layout::{Layout, Method, PORT},
        network::Network,
        process::{
            load_module,
            privileges::{Privileges, set_privileges},
            processor_time,
        },
        wait,
    },
    say,
    testbed::{Setup, Testbed},
};
use nix::sys::signal::Signal;

use crate::ipvs_table::{LOADER, unload_ipvs};

/// Within this time others' edits must be undone.
const RESTORED: Duration = Duration::from_secs(1);
/// How long it is waited for that, to see how late it is.
const LIMIT: Duration = Duration::from_secs(30);
/// After so long a time without interference the repairs are no longer counted as being in a row.
const QUIET: Duration = Duration::from_secs(11);
/// A service that the agent knows nothing of.
const FOREIGN: &str = "192.0.2.99:443";

/// A service as it is, whatever the kernel's order.
fn service(table: &Table, address: &str) -> Option<Service> {
    let mut found = table.services.iter().find(|service| service.name.ends_with(address))?.clone();
    found.destinations.sort_by_key(|destination| destination.server);
    Some(found)
}

/// Has others do this, and gives how long it took until the agent's own service was as before.
fn restored(testbed: &mut Testbed, own: &str, lines: &str) -> Result<Duration> {
    let before = service(&testbed.watcher.table()?, own).context("the service is there")?;
    let first = testbed.watcher.history()?.len();
    let director = testbed.lab.network.director.clone();
    edit_table(&director, lines)?;
    let restored = |testbed: &Testbed| -> Result<Option<Duration>> {
        let history = testbed.watcher.history()?;
        let mut later = history[first..].iter();
        let is_other = |table: &Table| service(table, own).as_ref() != Some(&before);
        let Some(edited) = later.find(|seen| is_other(&seen.table)) else { return Ok(None) };
        Ok(later.find(|seen| !is_other(&seen.table)).map(|seen| seen.at.since(edited.at)))
    };
    testbed.wait(&format!("the repair of {lines:?}"), LIMIT, |testbed| Ok(restored(testbed)?.is_some()))?;
    restored(testbed)?.context("it was restored")
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn edits_by_others_are_undone_within_a_second_and_logged() -> Result<()> {
    let mut testbed = Testbed::start(&Setup::new(Method::Masquerade))?;
    let director = testbed.lab.network.director.clone();
    let own = testbed.lab.network.layout.service().to_string();
    let server = testbed.lab.servers[0].address();
    edit_table(&director, &format!("-A -t {FOREIGN} -s wlc\n-a -t {FOREIGN} -r 10.0.0.9:443 -m -w 3\n"))?;
    let foreign = || -> Result<Option<String>> {
        let text = table_text(&director)?;
        Ok(text.split_once(FOREIGN).map(|(_, rest)| rest.lines().take(2).collect()))
    };
    let untouched = foreign()?;
    assert!(untouched.is_some());
    let edits = [
        (format!("-e -t {own} -r {server} -m -w 7\n"), format!("server {server} has weight 7, not 1")),
        (format!("-d -t {own} -r {server}\n"), format!("server {server} is gone")),
        (format!("-a -t {own} -r 10.0.0.77:80 -m -w 1\n"), "server 10.0.0.77:80 was added".to_owned()),
        (format!("-E -t {own} -s wlc\n"), "its scheduler is wlc, not rr".to_owned()),
        (format!("-D -t {own}\n"), "it is gone".to_owned()),
    ];
    for (number, (lines, logged)) in edits.iter().enumerate() {
        if number == 3 {
            testbed.run_for(QUIET)?;
        }
        let took = restored(&mut testbed, &own, lines)?;
        say(&format!("{}: undone after {took:.3?}", lines.trim()));
        assert!(took <= RESTORED, "{took:?}: {}", testbed.diagnosis());
        let log = testbed.agent.lines().join("\n");
        assert!(
            log.contains("was changed by others") && log.contains(logged),
            "{logged}: {}",
            testbed.diagnosis()
        );
        assert_eq!(foreign()?, untouched, "{lines}");
    }
    testbed.run_for(QUIET)?;
    let took = restored(&mut testbed, &own, "-C\n")?;
    say(&format!("flushed: restored after {took:.3?}"));
    assert!(took <= RESTORED, "{took:?}: {}", testbed.diagnosis());
    assert_eq!(foreign()?, None, "what others have removed of their own stays removed");
    let seen = metric(&testbed.agent.metrics()?, "lvs_table_interferences_total", &[]);
    assert!(seen.is_some_and(|seen| seen >= 6.0), "{seen:?}");
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn contention_over_a_weight_is_bounded_and_logged() -> Result<()> {
    const CONTENTION: Duration = Duration::from_secs(15);
    let mut testbed = Testbed::start(&Setup::new(Method::Masquerade))?;
    let director = testbed.lab.network.director.clone();
    let own = testbed.lab.network.layout.service();
    let (server, failed) = (testbed.lab.servers[0].address(), testbed.lab.servers[1].address());
    let fault = Fault::ProcessKilled.arm(&testbed.lab.network.switch, &testbed.lab.servers[1])?;
    testbed.reset_healthy_since();
    let begun = Moment::now();
    let (mut foreign_edits, mut injected, mut fault) = (0, None, Some(fault));
    while Moment::now() < begun.plus(CONTENTION) {
        edit_table(&director, &format!("-e -t {own} -r {server} -m -w 7\n"))?;
        foreign_edits += 1;
        testbed.run_for(Duration::from_millis(100))?;
        if Moment::now() > begun.plus(CONTENTION / 2)
            && let Some(fault) = fault.take()
        {
            injected = Some(fault.inject()?);
        }
    }
    let events = testbed.agent.events();
    let repairs = events.iter().filter(|event| event.is_edit() && event.server == Some(server)).count();
    say(&format!("{foreign_edits} edits by the other, {repairs} by the agent in {CONTENTION:?}"));
    // At once three times, then after 1, 2, 4 and 8 s; and one with the edit that takes the other server out.
    assert!(
        (4..=8).contains(&repairs) && foreign_edits > 2 * repairs,
        "{foreign_edits} to {repairs}: {}",
        testbed.diagnosis()
    );
    let log = testbed.agent.lines().join("\n");
    assert!(log.contains("others keep changing service"), "{}", testbed.diagnosis());
    let contended = metric(&testbed.agent.metrics()?, "lvs_table_contended", &[&own.to_string()]);
    assert_eq!(contended, Some(1.0), "{}", testbed.diagnosis());
    // A server that has failed is taken out in the middle of it.
    let injected = injected.context("it was injected")?;
    let out =
        events.iter().find(|event| event.is_edit() && event.server == Some(failed) && event.at >= injected);
    let took = out.with_context(|| testbed.diagnosis())?.at.since(injected);
    say(&format!("a server that failed meanwhile was out after {took:.3?}"));
    assert!(took < RESTORED, "{took:?}: {}", testbed.diagnosis());
    testbed.wait("the weight to be as it should", LIMIT, |testbed| {
        Ok(testbed.watcher.table()?.weight(server) == Some(1))
    })
}

/// Lets the kernel load modules again.
struct ModuleLoading(String);

impl ModuleLoading {
    /// The kernel loads no modules by itself until this is dropped.
    fn disable() -> Result<Self> {
        let loader = fs::read_to_string(LOADER)?;
        fs::write(LOADER, "/nonexistent")?;
        Ok(Self(loader))
    }
}

impl Drop for ModuleLoading {
    fn drop(&mut self) {
        if let Err(error) = fs::write(LOADER, self.0.trim()) {
            lvs_tests::warn(&format!("the kernel loads no modules any more: {error}"));
        }
    }
}

#[test]
#[ignore = "unloads ip_vs, which all other tests need: to be run alone"]
fn the_table_is_made_again_when_the_module_is_back() -> Result<()> {
    let layout = Layout::new(Method::Masquerade);
    let network = Network::build(&layout.servers(0))?;
    let director = &network.director;
    prepare_ipvs(director)?;
    let servers = [0, 1].map(|number| (layout.server_address(number), PORT).into());
    let mut agent = Agent::start(director, &AgentConfig::http(&layout, &servers).to_toml()?)?;
    agent.wait_until_ready()?;
    let is_whole = || -> Result<bool> {
        let text = table_text(director)?;
        Ok(servers.iter().all(|server| text.contains(&format!("{server} "))))
    };
    wait::until_true("the table", LIMIT, is_whole).with_context(|| agent.diagnosis())?;
    // The agent would be quicker than the unloading.
    agent.signal(Signal::SIGSTOP)?;
    edit_table(director, "-C\n")?;
    unload_ipvs();
    let loader = ModuleLoading::disable()?;
    agent.signal(Signal::SIGCONT)?;
    wait::until_true("the agent to miss the module", LIMIT, || {
        agent.check_running()?;
        Ok(agent
            .lines()
            .iter()
            .any(|line| line.contains("table-out-of-reach") && line.contains("modprobe ip_vs")))
    })
    .with_context(|| agent.diagnosis())?;
    assert_eq!(metric(&agent.metrics()?, "lvs_table_reachable", &[]), Some(0.0));
    drop(loader);
    load_module("ip_vs")?;
    let back = Moment::now();
    wait::until_true("the table to be made again", LIMIT, is_whole).with_context(|| agent.diagnosis())?;
    say(&format!("made again {:.1?} after the module was back", Moment::now().since(back)));
    assert_eq!(metric(&agent.metrics()?, "lvs_table_reachable", &[]), Some(1.0));
    let logged = agent.lines().iter().filter(|line| line.contains("table-out-of-reach")).count();
    assert_eq!(logged, 1, "{}", agent.diagnosis());
    assert!(agent.stop()?.success());
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn an_agent_that_loses_its_privileges_goes_on_and_catches_up() -> Result<()> {
    const WITHOUT: Duration = Duration::from_secs(8);
    let mut testbed = Testbed::start(&Setup::new(Method::Masquerade))?;
    let pid = testbed.agent.pid();
    let before = testbed.watcher.history()?.len();
    let told_before = testbed.agent.lines().len();
    set_privileges(pid, Privileges::None)?;
    let fault = Fault::ProcessKilled;
    fault.arm(&testbed.lab.network.switch, &testbed.lab.servers[1])?.inject()?;
    let used = processor_time(pid)?;
    testbed.run_for(WITHOUT)?;
    let used = processor_time(pid)?.saturating_sub(used);
    say(&format!("{used:.1?} of processor time in {WITHOUT:?} without privileges"));
    assert!(used < WITHOUT / 4, "{used:?}: {}", testbed.diagnosis());
    let lines = testbed.agent.lines().split_off(told_before);
    let logged = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    // Of writing and of reading.
    let reasons = logged("table-out-of-reach");
    assert!((1..=2).contains(&reasons), "{}", testbed.diagnosis());
    assert_eq!(logged("needs root or CAP_NET_ADMIN"), reasons, "{}", testbed.diagnosis());
    assert!(lines.len() < 50, "{}", testbed.diagnosis());
    assert_eq!(testbed.watcher.history()?.len(), before, "nothing could be written");
    assert_eq!(metric(&testbed.agent.metrics()?, "lvs_table_reachable", &[]), Some(0.0));
    set_privileges(pid, Privileges::All)?;
    testbed.wait_until_out(1)?;
    assert_eq!(metric(&testbed.agent.metrics()?, "lvs_table_reachable", &[]), Some(1.0));
    testbed.repair(fault, 1)?;
    testbed.wait_until_back(1)?;
    testbed.reset_healthy_since();
    let (seen, _) = testbed.failover(Fault::Unplugged, 2, Duration::from_secs(1))?;
    assert_eq!(seen.violations(), [] as [&str; 0], "the passive signal works as before");
    assert!(testbed.agent.stop()?.success());
    Ok(())
}
