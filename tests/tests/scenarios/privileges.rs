//! The agent with no more rights than it needs: as an ordinary user with four capabilities, and as root without those
//! that it has no use for.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lvs_tests::{
    lab::{
        Lab,
        agent::{
            Agent,
            config::{AgentConfig, METRICS},
            metric,
        },
        director::{prepare_ipvs, table_watcher::TableWatcher},
        faults::Fault,
        layout::{Layout, Method},
        process::{
            programs,
            unprivileged::{Account, CAPABILITY_BITS, USER},
        },
        wait,
    },
    testbed::{EDIT_LIMIT, Setup, Testbed},
};
use nix::unistd::Pid;

use crate::expect_failover::{AFTER, Limits, violations_of};

/// `CAP_DAC_OVERRIDE`, `CAP_SYS_PTRACE`, `CAP_SYS_ADMIN` and `CAP_SYS_MODULE` (`linux/capability.h`).
const OF_NO_USE: u64 = 1 << 1 | 1 << 19 | 1 << 21 | 1 << 16;
/// `CAP_DAC_READ_SEARCH`: to read what another user keeps to itself.
const FOR_FILES: u64 = 1 << 2;
/// `CAP_SETUID`, `CAP_SETGID` and `CAP_KILL`: for commands of checks.
const FOR_COMMANDS: u64 = 1 << 7 | 1 << 6 | 1 << 5;

/// A line with a set of capabilities, such as `CapEff`, of each thread of a process.
fn capabilities(process: Pid, set: &str) -> Result<Vec<u64>> {
    let threads = fs::read_dir(format!("/proc/{process}/task"))?;
    let of_thread = |path: std::path::PathBuf| {
        let status = fs::read_to_string(path.join("status"))?;
        capabilities_in(&status, set).with_context(|| format!("{set} in {status}"))
    };
    threads.map(|thread| of_thread(thread?.path())).collect()
}

fn capabilities_in(status: &str, set: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(set)?.strip_prefix(':'))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// With four capabilities everything works: the table, the passive signal and its metrics, sysctls, the control socket.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn an_ordinary_user_with_four_capabilities_does_everything() -> Result<()> {
    let mut setup = Setup::new(Method::Masquerade).rate(200.0);
    setup.account = Account::Unprivileged;
    let mut testbed = Testbed::start(&setup)?;
    let pid = testbed.agent.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let is_user = |line: &str| line.starts_with("Uid:") && line.contains(&USER.to_string());
    assert!(status.lines().any(is_user), "{status}");
    for (set, expected) in [("CapEff", CAPABILITY_BITS), ("CapPrm", CAPABILITY_BITS), ("CapAmb", 0)] {
        let found = capabilities(pid, set)?;
        assert!(found.iter().all(|one| *one == expected), "{set}: {found:x?}");
    }
    // As fast as a privileged one: the refusals' edges are seen.
    let (failover, _) = testbed.failover(Fault::ProcessKilled, 0, AFTER)?;
    let wrong = violations_of(&failover, Limits::ms(60, 120));
    ensure!(wrong.is_empty(), "{wrong:#?}\n{}", testbed.diagnosis());
    let metrics = testbed.agent.metrics()?;
    assert!(metric(&metrics, "lvs_passive_maps_bytes", &[]).is_some_and(|bytes| bytes > 1e6), "{metrics}");
    let drained = testbed.agent.command(&["drain", "10.0.0.2"])?;
    let status = testbed.agent.command(&["status"])?;
    assert!(status.stdout.contains("whole"), "{drained} {status}");
    let complaints: Vec<_> = testbed.agent.lines().into_iter().filter(|line| is_complaint(line)).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    Ok(())
}

fn is_complaint(line: &str) -> bool {
    ["CAP_", "ermission denied", "not permitted", "missing"].iter().any(|word| line.contains(word))
}

/// Commands of checks run as `nobody` without rights and with an environment of their own, and no thread of the agent
/// keeps what it has no use for.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn root_drops_what_it_does_not_need_and_runs_commands_as_nobody() -> Result<()> {
    let layout = Layout::new(Method::Masquerade);
    let lab = Lab::build(&layout)?;
    let director = &lab.network.director;
    prepare_ipvs(director)?;
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    let (script, said) = (folder.path().join("check"), folder.path().join("said"));
    let text = format!(
        "#!/bin/sh\n{{ id; env; cat /proc/self/status; }} > {said}.new && mv {said}.new {said}\n",
        said = said.display()
    );
    programs::write_script(&script, &text)?;
    let address = lab.addresses()[0];
    let config = format!(
        "[[service]]\naddress = \"{}\"\nforward = \"masquerade\"\ncheck = {{ type = \"command\", command = \
         [\"{}\"] }}\n[[service.server]]\naddress = \"{address}\"\n",
        layout.service(),
        script.display(),
    );
    let mut agent = Agent::start_as(Account::Root, director, &config)?;
    agent.wait_until_ready()?;
    wait::until_true("the command to have run", EDIT_LIMIT, || {
        agent.check_running()?;
        Ok(said.exists())
    })
    .with_context(|| agent.diagnosis())?;
    let seen = fs::read_to_string(&said)?;
    assert!(seen.contains("uid=65534(nobody)"), "{seen}");
    assert!(seen.contains("PATH=/usr/local/sbin:") && !seen.contains("LVS_"), "{seen}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(capabilities_in(&seen, set), Some(0), "{set}: {seen}");
    }
    let threads = capabilities(agent.pid(), "CapPrm")?;
    assert!(threads.len() > 2, "{threads:x?}");
    for kept in threads {
        assert_eq!(kept, CAPABILITY_BITS | FOR_COMMANDS | FOR_FILES, "{kept:x}");
        assert_eq!(kept & OF_NO_USE, 0, "{kept:x}");
    }
    Ok(())
}

/// As ldirectord's, a configuration may be another user's who keeps it to itself: it is read at the start, when it is
/// reloaded, and where it names a password in a file.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn root_reads_a_configuration_that_another_user_keeps_to_itself() -> Result<()> {
    let layout = Layout::new(Method::Masquerade);
    let lab = Lab::build(&layout)?;
    let director = &lab.network.director;
    prepare_ipvs(director)?;
    let folder = tempfile::tempdir()?;
    let (file, password) = (folder.path().join("ldirectord.cf"), folder.path().join("password"));
    let own = |path: &Path, mode: u32| -> Result<()> {
        chown(path, Some(USER), Some(USER))?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
    };
    let text = |weight: u16| {
        format!(
            "checkinterval=1\nvirtual={}\n    real={} masq {weight}\n    checktype=connect\n",
            layout.service(),
            lab.addresses()[0]
        )
    };
    fs::write(&file, text(3))?;
    own(&file, 0o600)?;
    own(folder.path(), 0o700)?;
    // In place of the lab's own file.
    let script = format!("exec \"$1\" --log-format json run --config {}", file.display());
    let wrapper = ["sh", "-c", &script, "sh"];
    let mut agent = Agent::start_with(director, Some(""), &wrapper, Account::Root)?;
    agent.wait_until_ready()?;
    let watcher = TableWatcher::start(director)?;
    let weight = |agent: &mut Agent, expected: u32| {
        wait::until_true("the weight of the configuration", EDIT_LIMIT, || {
            agent.check_running()?;
            Ok(watcher.table()?.weight(lab.addresses()[0]) == Some(expected))
        })
        .with_context(|| agent.diagnosis())
    };
    weight(&mut agent, 3)?;
    fs::write(&file, text(5))?;
    let reloaded = agent.command(&["reload"])?;
    assert_eq!(reloaded.code, Some(0), "{reloaded}");
    weight(&mut agent, 5)?;

    // The same for a secret in a file: that of a check which nobody has to answer.
    fs::write(&password, "hidden\n")?;
    own(&password, 0o600)?;
    let native = format!(
        "[[service]]\naddress = \"{}\"\nforward = \"masquerade\"\n[[service.server]]\naddress = \"{}\"\ncheck = {{ type = \
         \"imaps\", user = \"u\", password = {{ file = \"{}\" }} }}\n",
        layout.service(),
        lab.addresses()[1],
        password.display()
    );
    agent.stop()?;
    let mut agent = Agent::start_as(Account::Root, director, &native)?;
    agent.wait_until_ready()?;
    // To write to others' files is another thing.
    let threads = capabilities(agent.pid(), "CapEff")?;
    assert!(threads.iter().all(|one| one & (1 << 1) == 0), "{threads:x?}");
    agent.stop()?;
    Ok(())
}

/// What can't be had fails alone, and is said once with what it takes.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn each_missing_capability_is_named_with_what_is_lost() -> Result<()> {
    let layout = Layout::new(Method::Masquerade);
    let lab = Lab::build(&layout)?;
    let director = &lab.network.director;
    prepare_ipvs(director)?;
    let config = AgentConfig::http(&layout, &lab.addresses()).to_toml()?;
    for (lacking, words) in [("net_raw", "no ping can be sent"), ("bpf", "no passive detection")] {
        let set = format!("-{lacking}");
        let wrapper = ["setpriv", "--bounding-set", &set, "--inh-caps", &set];
        let mut agent = Agent::start_under(director, &config, &wrapper)?;
        agent.wait_until_ready()?;
        let said = |agent: &Agent| {
            let name = format!("CAP_{}", lacking.to_uppercase());
            agent.lines().iter().filter(|line| line.contains(words) && line.contains(&name)).count()
        };
        assert_eq!(said(&agent), 1, "{lacking}: {}", agent.diagnosis());
        agent.stop()?;
    }
    // The port is free again.
    wait::until_true("the metrics' port to be free", Duration::from_secs(5), || {
        Ok(director.run(|| Ok(TcpListener::bind(METRICS)?)).is_ok())
    })
}
