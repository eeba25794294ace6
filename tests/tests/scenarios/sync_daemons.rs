//! The kernel's synchronisation daemons, as `ipvsadm` knows them, and the role.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use lvs_tests::lab::{
    Lab,
    agent::{Agent, config::AgentConfig},
    director::prepare_ipvs,
    layout::{Layout, Method},
    namespace::Namespace,
    network::ip,
    process, wait,
};

/// How long a change may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The daemons, one a line, as `master lan 0`.
fn daemons(director: &Namespace) -> Result<Vec<String>> {
    let text = process::run(director, &["ipvsadm", "-L", "--daemon"], "")?;
    let line = |line: &str| {
        let (role, rest) = line.split_once(" sync daemon (mcast=")?;
        let (device, rest) = rest.split_once(", syncid=")?;
        let id = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some(format!("{role} {device} {id}"))
    };
    Ok(text.lines().filter_map(line).collect())
}

fn wait_for(agent: &mut Agent, director: &Namespace, wanted: &[&str]) -> Result<()> {
    wait::until_true(&format!("the daemons {wanted:?}"), LIMIT, || {
        agent.check_running()?;
        Ok(daemons(director)? == wanted)
    })
    .with_context(|| format!("{:?}; {}", daemons(director), agent.diagnosis()))
}

/// How many events of that name there are in its log.
fn count(agent: &Agent, event: &str) -> usize {
    agent.lines().iter().filter(|line| line.contains(&format!("\"event\":\"{event}\""))).count()
}

fn ipvsadm(director: &Namespace, words: &[&str]) -> Result<()> {
    process::run(director, &[&["ipvsadm"], words].concat(), "").map(drop)
}

fn reload(agent: &Agent, text: &str) -> Result<()> {
    fs::write(agent.config_file(), text)?;
    let output = agent.command(&["reload"])?;
    assert!(matches!(output.code, Some(0 | 1)), "{output}");
    Ok(())
}

const OTHERS: [&str; 6] = ["--start-daemon", "backup", "--mcast-interface", "wan", "--syncid", "9"];

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn the_kernels_sync_daemons_are_as_configured_and_repaired() -> Result<()> {
    let layout = Layout::new(Method::Masquerade);
    let lab = Lab::build(&layout)?;
    let director = &lab.network.director;
    prepare_ipvs(director)?;
    let plain = AgentConfig::http(&layout, &lab.addresses()).to_toml()?;
    let with = |keys: &str| format!("[sync]\n{keys}\n{plain}");
    // Without `[sync]` a daemon of others is left alone.
    ipvsadm(director, &OTHERS)?;
    let mut agent = Agent::start(director, &plain)?;
    agent.wait_until_ready()?;
    let status = agent.command(&["status"])?;
    assert!(status.stdout.contains("sync backup: wan, id 9, 224.0.0.81:8848, not this agent's"), "{status}");

    // With it the daemon is replaced, and said so; the sysctls are set.
    reload(&agent, &with("interface = \"lan\"\nthreshold = 5\nports = 2"))?;
    wait_for(&mut agent, director, &["master lan 0", "backup lan 0"])?;
    assert!(
        agent.lines().iter().any(|line| line.contains("its interface is wan, not lan")),
        "{}",
        agent.diagnosis()
    );
    let threshold = process::run(director, &["cat", "/proc/sys/net/ipv4/vs/sync_threshold"], "")?;
    assert_eq!(threshold.split_whitespace().collect::<Vec<_>>(), ["5", "50"]);

    // Others stop one, and start another one in its place.
    ipvsadm(director, &["--stop-daemon", "master"])?;
    wait_for(&mut agent, director, &["master lan 0", "backup lan 0"])?;
    ipvsadm(director, &["--stop-daemon", "backup"])?;
    ipvsadm(director, &OTHERS).ok();
    wait_for(&mut agent, director, &["master lan 0", "backup lan 0"])?;
    assert!(count(&agent, "sync-changed") >= 2, "{}", agent.diagnosis());

    // A reload changes them; a wrong interface is told once, and the right one is taken as soon as it is there.
    reload(
        &agent,
        &with("interface = \"lan\"\nid = 7\nrole = \"master\"\ngroup = \"239.1.2.3\"\nmaxlen = 1200"),
    )?;
    wait_for(&mut agent, director, &["master lan 7"])?;
    reload(&agent, &with("interface = \"sync0\"\nrole = \"backup\""))?;
    wait::until_true("the fault", LIMIT, || Ok(count(&agent, "sync-failed") == 1))?;
    let status = agent.command(&["status"])?;
    assert!(status.stdout.contains("missing") && status.stdout.contains("no interface sync0"), "{status}");
    ip(director, "link add sync0 type dummy\nlink set sync0 up\naddr add 203.0.113.1/24 dev sync0\n")?;
    wait_for(&mut agent, director, &["backup sync0 0"])?;
    assert_eq!(count(&agent, "sync-failed"), 1, "{}", agent.diagnosis());

    // An interface that is made anew: the daemon would be deaf.
    let started = count(&agent, "sync-started");
    ip(
        director,
        "link del sync0\nlink add sync0 type dummy\nlink set sync0 up\naddr add 203.0.113.1/24 dev sync0\n",
    )?;
    wait::until_true("a new start", LIMIT, || Ok(count(&agent, "sync-started") > started))?;
    role_holds_over_a_restart(&mut agent, director, &with("interface = \"lan\"\nid = 3"))?;

    // A clean stop leaves them, unless services go as well.
    assert!(agent.stop()?.success());
    assert_eq!(daemons(director)?, ["master lan 3", "backup lan 3"]);
    let removing =
        with("interface = \"lan\"\nid = 3").replacen("[agent]\n", "[agent]\non-exit = \"remove\"\n", 1);
    let mut agent = Agent::start(director, &removing)?;
    agent.wait_until_ready()?;
    wait::until_true("the daemons to be found", LIMIT, || Ok(count(&agent, "sync-found") == 2))?;
    assert!(agent.stop()?.success());
    assert_eq!(daemons(director)?, [""; 0]);
    Ok(())
}

/// An order holds for the next agent, which has the daemons as its own configuration says.
fn role_holds_over_a_restart(agent: &mut Agent, director: &Namespace, text: &str) -> Result<()> {
    let role = |agent: &Agent, words: &[&str]| -> Result<String> {
        let output = agent.command(&[&["role"], words].concat())?;
        assert_eq!(output.code, Some(0), "{output}");
        Ok(output.stdout.trim().to_owned())
    };
    assert_eq!(role(agent, &[])?, "active: as configured");
    assert_eq!(role(agent, &["standby"])?, "standby: by command");
    assert!(agent.stop()?.success());
    *agent = Agent::start(director, text)?;
    agent.wait_until_ready()?;
    assert_eq!(role(agent, &[])?, "standby: by command");
    let metrics = agent.metrics()?;
    assert!(metrics.contains("\nlvs_director_active 0\n"), "{metrics}");
    assert_eq!(role(agent, &["auto"])?, "active: as configured");
    assert!(
        agent
            .lines()
            .iter()
            .any(|line| line.contains("\"event\":\"role\"") && line.contains("\"servers\":3"))
    );
    wait_for(agent, director, &["master lan 3", "backup lan 3"])
}
