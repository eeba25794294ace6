//! The agent's end, wanted or not: traffic goes on, nothing is left behind that the next start doesn't clean up.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result};
use lvs_tests::{
    lab::{
        Lab,
        agent::{Agent, config::AgentConfig},
        clients::requests::Summary,
        clock::Moment,
        director::{
            prepare_ipvs,
            table::Table,
            table_watcher::{TableWatcher, changes},
        },
        faults::Fault,
        layout::{Layout, Method},
        namespace::Namespace,
        network::{LAN, WAN},
        process, wait,
    },
    testbed::{Setup, Testbed},
};
use nix::sys::signal::Signal;

/// Traffic without an agent.
const ORPHANED: Duration = Duration::from_secs(2);

/// The filters of tc on the director's devices. Programs attached by tcx (Linux 6.6 and later) are not among them.
fn filters(director: &Namespace) -> Result<String> {
    let show =
        |device: &str, side: &str| process::run(director, &["tc", "filter", "show", "dev", device, side], "");
    let mut filters = String::new();
    for device in [LAN, WAN] {
        filters += &(show(device, "ingress")? + &show(device, "egress")?);
    }
    Ok(filters)
}

/// Whether the kernel attaches programs by tc's filters, for want of tcx.
fn has_filters() -> Result<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().context("a kernel version")?, numbers.next().context("a kernel version")?);
    Ok(version < (6, 6))
}

fn assert_attached(director: &Namespace) -> Result<()> {
    let filters = filters(director)?;
    assert_eq!(filters.contains("lvs_"), has_filters()?, "while it runs: {filters}");
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_clean_stop_detaches_the_programs_and_keeps_the_table() -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut testbed = Testbed::start(&Setup::new(Method::Masquerade))?;
        let director = testbed.lab.network.director.clone();
        assert_attached(&director)?;
        testbed.agent.signal(signal)?;
        let status = testbed.agent.wait_for_end()?;
        assert!(status.success(), "{signal}: {status}");
        assert_eq!(filters(&director)?, "", "{signal}");
        assert_serves_without_agent(&mut testbed)?;
    }
    Ok(())
}

/// The table is as it was, and clients are served.
fn assert_serves_without_agent(testbed: &mut Testbed) -> Result<()> {
    let since = Moment::now();
    thread::sleep(ORPHANED);
    assert_eq!(changes(&testbed.history_since_healthy()?), []);
    let summary = Summary::between(&testbed.load.stop()?, since, Moment::now());
    assert!(summary.requests > 0 && summary.failed() == 0, "without the agent: {summary}");
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_clean_stop_removes_the_table_where_the_operator_wants_that() -> Result<()> {
    let mut setup = Setup::new(Method::Masquerade);
    setup.config = setup.config.on_exit("remove");
    let mut testbed = Testbed::start(&setup)?;
    testbed.load.stop()?;
    let status = testbed.agent.stop()?;
    assert!(status.success(), "{status}");
    wait::until_true("an empty table", Duration::from_secs(5), || {
        Ok(testbed.watcher.table()? == Table::default())
    })
}

/// An operator's command at a clean stop: the one that is in force, after the last edit, and not if the agent is
/// killed.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_command_runs_at_a_clean_stop_and_finds_the_table_as_it_is_left() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // Whoever the command runs as may write there.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    let [old, new] = ["old", "new"].map(|name| folder.path().join(name));
    let mut setup = Setup::new(Method::Masquerade);
    setup.config = setup.config.on_exit("remove");
    let mut write_to = |file: &Path| {
        let command = ["/bin/cp", "/proc/net/ip_vs", &file.to_string_lossy()].map(toml::Value::from);
        setup.config.agent.other.insert("on-shutdown".to_owned(), command.to_vec().into());
        setup.clone()
    };
    let mut testbed = Testbed::start(&write_to(&old))?;
    testbed.agent.signal(Signal::SIGKILL)?;
    testbed.agent.wait_for_end()?;
    assert!(!old.exists(), "it was no clean stop");
    testbed.restart_agent()?;
    fs::write(testbed.agent.config_file(), write_to(&new).config.to_toml()?)?;
    let output = testbed.agent.command(&["reload"])?;
    assert_eq!(output.code, Some(0), "{output}");
    testbed.load.stop()?;
    let status = testbed.agent.stop()?;
    assert!(status.success(), "{status}");
    assert!(!old.exists(), "another one was in force");
    let left = fs::read_to_string(&new).with_context(|| testbed.diagnosis())?;
    assert_eq!(Table::parse(&left)?, Table::default(), "{left}");
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_killed_agent_leaves_traffic_alone_and_the_next_one_carries_on() -> Result<()> {
    let mut testbed = Testbed::start(&Setup::new(Method::Masquerade))?;
    let director = testbed.lab.network.director.clone();
    let before = filters(&director)?;
    testbed.agent.signal(Signal::SIGKILL)?;
    testbed.agent.wait_for_end()?;
    thread::sleep(ORPHANED);
    testbed.restart_agent()?;
    let after = filters(&director)?;
    assert_eq!(after.matches("lvs_").count(), before.matches("lvs_").count(), "nothing twice: {after}");
    assert!(after != before || !has_filters()?, "still the killed agent's: {after}");
    assert_eq!(changes(&testbed.history_since_healthy()?), [], "a restart is no reason for an edit");

    let (seen, _) = testbed.failover(Fault::ProcessKilled, 1, Duration::from_secs(1))?;
    assert_eq!(seen.violations(), [] as [&str; 0]);
    testbed.agent.stop()?;
    assert_eq!(filters(&director)?, "");
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_held_out_by_a_killed_agent_is_let_in_again_by_the_next() -> Result<()> {
    for action in ["quiesce", "remove"] {
        let mut testbed = Testbed::start(&Setup::new(Method::Masquerade).on_failure(action))?;
        testbed.inject(Fault::ProcessKilled, 2)?;
        testbed.wait_until_out(2)?;
        testbed.agent.signal(Signal::SIGKILL)?;
        testbed.agent.wait_for_end()?;
        testbed.repair(Fault::ProcessKilled, 2)?;
        testbed.restart_agent()?;
        testbed.wait_until_back(2)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_is_down_when_the_agent_starts_does_not_keep_it_from_the_others() -> Result<()> {
    let layout = Layout::new(Method::Masquerade);
    let mut lab = Lab::build(&layout)?;
    prepare_ipvs(&lab.network.director)?;
    lab.servers[0].signal(Signal::SIGKILL)?;
    let config = AgentConfig::http(&layout, &lab.addresses()).to_toml()?;
    let mut agent = Agent::start(&lab.network.director, &config)?;
    agent.wait_until_ready()?;
    let watch = TableWatcher::start(&lab.network.director)?;
    let (down, up) = (lab.servers[0].address(), lab.servers[1].address());
    wait::until_true("the dead server to be out", Duration::from_secs(15), || {
        let table = watch.table()?;
        Ok(table.is_out(down) && !table.is_out(up))
    })
    .with_context(|| agent.diagnosis())?;
    lab.servers[0].restart()?;
    wait::until_true("the server to be in again", Duration::from_secs(30), || {
        Ok(!watch.table()?.is_out(down))
    })
    .with_context(|| agent.diagnosis())
}
