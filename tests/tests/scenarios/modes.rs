//! Tables that are somebody else's: only observed, or adopted; and what a killed agent leaves behind.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lvs_tests::{
    lab::{
        Lab,
        agent::{Agent, log::EventKind, metric},
        clock::Moment,
        director::{
            AGENT_STATE, edit_table, prepare_ipvs,
            table_watcher::{SeenChange, TableWatch, changes},
        },
        faults::Fault,
        layout::{Layout, Method},
        process, wait,
    },
    testbed::{EDIT_LIMIT, RETURN_LIMIT},
};
use nix::sys::signal::Signal;

/// A table that was made with ipvsadm, with the weights 5, 6, 7, …, and an agent that was started on it.
struct Stage {
    agent: Agent,
    watch: TableWatch,
    lab: Lab,
    service: SocketAddr,
    config: Option<&'static str>,
}

const ADOPT: &str = "[agent]\nmode = \"adopt\"\n";
const OBSERVE: &str = "[agent]\nmode = \"observe\"\n";
/// The exit code of a second agent.
const SECOND: i32 = 3;
/// Long enough for the agent to look at the table, and to check a server, more than once.
const A_WHILE: Duration = Duration::from_secs(4);

impl Stage {
    /// Starts an agent with this configuration, or without any, on a table with all servers of the lab.
    fn start(config: Option<&'static str>) -> Result<Self> {
        let layout = Layout::new(Method::Masquerade);
        let lab = Lab::build(&layout)?;
        let director = lab.network.director.clone();
        prepare_ipvs(&director)?;
        let service = layout.service();
        let address = service.to_string();
        process::run(&director, &["ipvsadm", "-A", "-t", &address, "-s", "wrr"], "")?;
        for (weight, server) in (5..).zip(lab.addresses()) {
            let (server, weight) = (server.to_string(), weight.to_string());
            process::run(
                &director,
                &["ipvsadm", "-a", "-t", &address, "-r", &server, "-m", "-w", &weight],
                "",
            )?;
        }
        let watch = TableWatch::start(&director)?;
        let agent = start_agent(&lab, config)?;
        Ok(Self { agent, watch, lab, service, config })
    }

    fn address(&self, server: usize) -> SocketAddr {
        self.lab.servers[server].address()
    }

    fn changes_since(&self, since: Moment) -> Result<Vec<SeenChange>> {
        let all = changes(&self.watch.history()?).into_iter();
        Ok(all.filter(|change| change.at >= since).collect())
    }

    /// Sets a server's weight as an administrator does.
    fn set_weight(&self, server: usize, weight: u32) -> Result<()> {
        let (service, server) = (self.service.to_string(), self.address(server).to_string());
        let weight = weight.to_string();
        let command = ["ipvsadm", "-e", "-t", &service, "-r", &server, "-m", "-w", &weight];
        process::run(&self.lab.network.director, &command, "").map(drop)
    }

    fn wait(&mut self, what: &str, limit: Duration, look: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let waited = wait::until_true(what, limit, || {
            self.agent.check_running()?;
            look(self)
        });
        waited.with_context(|| self.agent.diagnosis())
    }

    fn wait_for_weight(&mut self, server: usize, weight: u32) -> Result<()> {
        let address = self.address(server);
        self.wait(&format!("{address} to have weight {weight}"), RETURN_LIMIT, |stage| {
            Ok(stage.watch.table()?.weight(address) == Some(weight))
        })
    }

    /// Waits until the agent has told of a state of a server.
    fn wait_for_state(&mut self, server: usize, state: &str, since: Moment) -> Result<()> {
        self.wait(&format!("server {server} to be {state}"), EDIT_LIMIT, |stage| {
            Ok(stage.states_since(server, since).iter().any(|to| to == state))
        })
    }

    fn states_since(&self, server: usize, since: Moment) -> Vec<String> {
        let address = self.address(server);
        let events = self.agent.events().into_iter();
        let states = events.filter(|event| event.at >= since && event.server == Some(address));
        states
            .filter_map(|event| match event.kind {
                EventKind::State { to, .. } => Some(to),
                _ => None,
            })
            .collect()
    }

    /// The agent goes on for a while.
    fn pass(&mut self) -> Result<()> {
        let end = Moment::now().plus(A_WHILE);
        self.wait("a while to pass", A_WHILE * 2, |_| Ok(Moment::now() >= end))
    }

    fn restart_agent(&mut self) -> Result<()> {
        self.agent = start_agent(&self.lab, self.config)?;
        Ok(())
    }
}

fn start_agent(lab: &Lab, config: Option<&str>) -> Result<Agent> {
    let director = &lab.network.director;
    let mut agent = match config {
        Some(config) => Agent::start(director, config)?,
        None => Agent::start_without_config(director)?,
    };
    agent.wait_until_ready()?;
    Ok(agent)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn an_administrators_weight_0_is_respected() -> Result<()> {
    let mut stage = Stage::start(Some(ADOPT))?;
    stage.set_weight(0, 0)?;
    stage.pass()?;
    let since = Moment::now();
    // Whatever happens to the server: it is neither raised nor called failed.
    stage.lab.servers[0].signal(Signal::SIGKILL)?;
    stage.pass()?;
    Fault::ProcessKilled.heal(&stage.lab.network.switch, &mut stage.lab.servers[0])?;
    stage.pass()?;
    assert_eq!(stage.states_since(0, since), [] as [&str; 0]);
    assert_eq!(stage.watch.table()?.weight(stage.address(0)), Some(0));
    assert!(!stage.agent.events().iter().any(lvs_tests::lab::agent::log::AgentEvent::is_edit));
    // The administrator gives it another weight than before: from now on that is its own.
    stage.set_weight(0, 9)?;
    stage.pass()?;
    assert_eq!(stage.watch.table()?.weight(stage.address(0)), Some(9));
    stage.lab.servers[0].signal(Signal::SIGKILL)?;
    stage.wait_for_weight(0, 0)?;
    Fault::ProcessKilled.heal(&stage.lab.network.switch, &mut stage.lab.servers[0])?;
    stage.wait_for_weight(0, 9)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_killed_agents_weight_0_goes_back_to_the_servers_own() -> Result<()> {
    let mut stage = Stage::start(Some(ADOPT))?;
    let before = stage.watch.table()?;
    stage.lab.servers[1].signal(Signal::SIGKILL)?;
    stage.wait_for_weight(1, 0)?;
    let drained = stage.address(2).to_string();
    assert_eq!(stage.agent.command(&["drain", &drained])?.code, Some(0));
    stage.wait_for_weight(2, 0)?;
    stage.agent.signal(Signal::SIGKILL)?;
    stage.agent.wait_for_end()?;
    let orphaned = Moment::now();
    stage.restart_agent()?;
    stage.pass()?;
    assert_eq!(stage.changes_since(orphaned)?, [], "no superfluous edit");
    Fault::ProcessKilled.heal(&stage.lab.network.switch, &mut stage.lab.servers[1])?;
    stage.wait_for_weight(1, 6)?;
    assert_eq!(stage.watch.table()?.weight(stage.address(2)), Some(0), "it is drained still");
    assert_eq!(stage.agent.command(&["undrain", &drained])?.code, Some(0));
    stage.wait_for_weight(2, 7)?;
    assert_eq!(stage.watch.table()?, before);
    stage.agent.stop()?;
    let left = fs::read_to_string(AGENT_STATE)?;
    assert!(left.contains("\"held\":[],\"orders\":[]"), "nothing is left behind: {left}");
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn what_others_make_of_an_adopted_table_is_followed() -> Result<()> {
    let mut stage = Stage::start(Some(ADOPT))?;
    let director = stage.lab.network.director.clone();
    follows_the_table(&mut stage)?;
    // Flushed while a server is held out: nothing of it is made again, and nothing is held against the server.
    stage.lab.servers[0].signal(Signal::SIGKILL)?;
    stage.wait_for_weight(0, 0)?;
    let flushed = Moment::now();
    edit_table(&director, "-C\n")?;
    stage.wait("the services to be missed", EDIT_LIMIT, |stage| Ok(adoptions(&stage.agent) == 3))?;
    stage.pass()?;
    let gone = stage.changes_since(flushed)?;
    assert_eq!(gone.len(), stage.lab.servers.len(), "{gone:?}");
    Fault::ProcessKilled.heal(&stage.lab.network.switch, &mut stage.lab.servers[0])?;
    let (service, servers) = (stage.service, [0, 1].map(|server| stage.address(server)));
    let lines = servers.map(|server| format!("-a -t {service} -r {server} -m -w 3\n")).concat();
    edit_table(&director, &format!("-A -t {service} -s wrr\n{lines}"))?;
    stage.wait("the new table to be noticed", EDIT_LIMIT, |stage| Ok(adoptions(&stage.agent) >= 4))?;
    stage.lab.servers[1].signal(Signal::SIGKILL)?;
    stage.wait_for_weight(1, 0)?;
    assert_eq!(stage.watch.table()?.weight(servers[0]), Some(3));
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn observing_writes_nothing_and_tells_what_it_would_have_written() -> Result<()> {
    for config in [None, Some(OBSERVE)] {
        let mut stage = Stage::start(config)?;
        let before = stage.watch.table()?;
        let since = Moment::now();
        stage.lab.servers[2].signal(Signal::SIGKILL)?;
        stage.wait_for_state(2, "down", since)?;
        stage.pass()?;
        let told = observed(&stage.agent);
        let expected = format!("set server tcp {} -> {} weight 0", stage.service, stage.address(2));
        assert_eq!(told, [expected], "once, not each second");
        let count = metric(&stage.agent.metrics()?, "lvs_table_edits_total", &["result=\"observed\""]);
        assert_eq!(count, Some(1.0));
        Fault::ProcessKilled.heal(&stage.lab.network.switch, &mut stage.lab.servers[2])?;
        stage.wait_for_state(2, "up", since)?;
        stage.wait("the edit back to be told", EDIT_LIMIT, |stage| Ok(observed(&stage.agent).len() == 2))?;
        assert_eq!(stage.changes_since(since)?, [], "the table is untouched");
        follows_the_table(&mut stage)?;
        assert!(stage.agent.stop()?.success());
        assert_eq!(stage.watch.table()?, before);
    }
    Ok(())
}

/// Servers that an administrator takes out and adds are noticed.
fn follows_the_table(stage: &mut Stage) -> Result<()> {
    let (service, server) = (stage.service.to_string(), stage.address(2).to_string());
    let director = stage.lab.network.director.clone();
    process::run(&director, &["ipvsadm", "-d", "-t", &service, "-r", &server], "")?;
    stage.wait("the server to be missed", EDIT_LIMIT, |stage| Ok(adoptions(&stage.agent) == 1))?;
    process::run(&director, &["ipvsadm", "-a", "-t", &service, "-r", &server, "-m", "-w", "7"], "")?;
    stage.wait("the server to be noticed", EDIT_LIMIT, |stage| Ok(adoptions(&stage.agent) == 2))
}

/// How often the agent has told that others have changed the table.
fn adoptions(agent: &Agent) -> usize {
    agent.lines().iter().filter(|line| line.contains("\"event\":\"adopted-change\"")).count()
}

/// The edits that would have been made.
fn observed(agent: &Agent) -> Vec<String> {
    let lines = agent.lines();
    let edits = lines.iter().filter(|line| line.contains("\"event\":\"observed\""));
    edits
        .filter_map(|line| {
            let from = line.split_once("\"edit\":\"")?.1;
            Some(from.split_once('"')?.0.to_owned())
        })
        .collect()
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn an_empty_table_is_waited_for() -> Result<()> {
    let layout = Layout::new(Method::Masquerade);
    let lab = Lab::build(&layout)?;
    let director = lab.network.director.clone();
    prepare_ipvs(&director)?;
    let mut agent = start_agent(&lab, None)?;
    let told = |agent: &Agent, text: &str| agent.lines().iter().any(|line| line.contains(text));
    ensure!(told(&agent, "waiting for some"), "{}", agent.diagnosis());
    let (service, server) = (layout.service().to_string(), lab.addresses()[0].to_string());
    process::run(&director, &["ipvsadm", "-A", "-t", &service], "")?;
    process::run(&director, &["ipvsadm", "-a", "-t", &service, "-r", &server, "-m"], "")?;
    wait::until_true("the new server to be checked", EDIT_LIMIT, || {
        agent.check_running()?;
        Ok(told(&agent, "was unknown, is up"))
    })
    .with_context(|| agent.diagnosis())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_second_agent_is_refused() -> Result<()> {
    let mut stage = Stage::start(Some(ADOPT))?;
    for second in [Some("[agent]\nmode = \"adopt\"\ncontrol = \"off\"\nmetrics = \"off\"\n"), None] {
        let director = &stage.lab.network.director;
        let mut agent = match second {
            Some(config) => Agent::start(director, config)?,
            None => Agent::start_without_config(director)?,
        };
        let status = agent.wait_for_end()?;
        assert_eq!(status.code(), Some(SECOND), "{}", agent.diagnosis());
        let words = format!("another lvs-agent (process {}) is at work", stage.agent.pid());
        assert!(agent.lines().iter().any(|line| line.contains(&words)), "{}", agent.diagnosis());
    }
    stage.pass()?;
    assert_eq!(stage.watch.history()?.len(), 1);
    Ok(())
}
