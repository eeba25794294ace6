//! Tables of others: only observed, or adopted; and what a killed agent leaves behind.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lvs_tests::{
    lab::{
        Lab,
        agent::{Agent, log::EventKind, metric},
        clock::Moment,
        director::{
            AGENT_STATE, edit_table, prepare_ipvs,
            table_watcher::{TableWatcher, TimedChange, changes},
        },
        faults::Fault,
        layout::{Layout, Method},
        process, wait,
    },
    testbed::{EDIT_LIMIT, RETURN_LIMIT},
};
use nix::sys::signal::Signal;

/// A table that was made with ipvsadm, with the weights 5, 6, 7, …, and an agent that was started on it.
struct AdoptionTest {
    agent: Agent,
    watcher: TableWatcher,
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

impl AdoptionTest {
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
        let watcher = TableWatcher::start(&director)?;
        let agent = start_agent(&lab, config)?;
        Ok(Self { agent, watcher, lab, service, config })
    }

    fn address(&self, server: usize) -> SocketAddr {
        self.lab.servers[server].address()
    }

    fn changes_since(&self, since: Moment) -> Result<Vec<TimedChange>> {
        let all = changes(&self.watcher.history()?).into_iter();
        Ok(all.filter(|change| change.at >= since).collect())
    }

    /// Sets a server's weight as an administrator does.
    fn set_weight(&self, server: usize, weight: u32) -> Result<()> {
        let (service, server) = (self.service.to_string(), self.address(server).to_string());
        let weight = weight.to_string();
        let command = ["ipvsadm", "-e", "-t", &service, "-r", &server, "-m", "-w", &weight];
        process::run(&self.lab.network.director, &command, "").map(drop)
    }

    fn wait(&mut self, what: &str, limit: Duration, condition: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let waited = wait::until_true(what, limit, || {
            self.agent.check_running()?;
            condition(self)
        });
        waited.with_context(|| self.agent.diagnosis())
    }

    fn wait_for_weight(&mut self, server: usize, weight: u32) -> Result<()> {
        let address = self.address(server);
        self.wait(&format!("{address} to have weight {weight}"), RETURN_LIMIT, |test| {
            Ok(test.watcher.table()?.weight(address) == Some(weight))
        })
    }

    /// Waits until the agent has logged a state of a server.
    fn wait_for_state(&mut self, server: usize, state: &str, since: Moment) -> Result<()> {
        self.wait(&format!("server {server} to be {state}"), EDIT_LIMIT, |test| {
            Ok(test.states_since(server, since).iter().any(|to| to == state))
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
    fn run_a_while(&mut self) -> Result<()> {
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
    let mut test = AdoptionTest::start(Some(ADOPT))?;
    test.set_weight(0, 0)?;
    test.run_a_while()?;
    let since = Moment::now();
    // Whatever happens to the server: it is neither raised nor called failed.
    test.lab.servers[0].signal(Signal::SIGKILL)?;
    test.run_a_while()?;
    Fault::ProcessKilled.repair(&test.lab.network.switch, &mut test.lab.servers[0])?;
    test.run_a_while()?;
    assert_eq!(test.states_since(0, since), [] as [&str; 0]);
    assert_eq!(test.watcher.table()?.weight(test.address(0)), Some(0));
    assert!(!test.agent.events().iter().any(lvs_tests::lab::agent::log::AgentEvent::is_edit));
    // The administrator gives it another weight than before: from now on that is its own.
    test.set_weight(0, 9)?;
    test.run_a_while()?;
    assert_eq!(test.watcher.table()?.weight(test.address(0)), Some(9));
    test.lab.servers[0].signal(Signal::SIGKILL)?;
    test.wait_for_weight(0, 0)?;
    Fault::ProcessKilled.repair(&test.lab.network.switch, &mut test.lab.servers[0])?;
    test.wait_for_weight(0, 9)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_killed_agents_weight_0_goes_back_to_the_servers_own() -> Result<()> {
    let mut test = AdoptionTest::start(Some(ADOPT))?;
    let before = test.watcher.table()?;
    test.lab.servers[1].signal(Signal::SIGKILL)?;
    test.wait_for_weight(1, 0)?;
    let drained = test.address(2).to_string();
    assert_eq!(test.agent.command(&["drain", &drained])?.code, Some(0));
    test.wait_for_weight(2, 0)?;
    test.agent.signal(Signal::SIGKILL)?;
    test.agent.wait_for_end()?;
    let orphaned = Moment::now();
    test.restart_agent()?;
    test.run_a_while()?;
    assert_eq!(test.changes_since(orphaned)?, [], "no superfluous edit");
    Fault::ProcessKilled.repair(&test.lab.network.switch, &mut test.lab.servers[1])?;
    test.wait_for_weight(1, 6)?;
    assert_eq!(test.watcher.table()?.weight(test.address(2)), Some(0), "it is drained still");
    assert_eq!(test.agent.command(&["undrain", &drained])?.code, Some(0));
    test.wait_for_weight(2, 7)?;
    assert_eq!(test.watcher.table()?, before);
    test.agent.stop()?;
    let left = fs::read_to_string(AGENT_STATE)?;
    assert!(left.contains("\"held\":[],\"orders\":[]"), "nothing is left behind: {left}");
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn what_others_make_of_an_adopted_table_is_followed() -> Result<()> {
    let mut test = AdoptionTest::start(Some(ADOPT))?;
    let director = test.lab.network.director.clone();
    follows_the_table(&mut test)?;
    // Flushed while a server is held out: nothing of it is made again, and nothing is held against the server.
    test.lab.servers[0].signal(Signal::SIGKILL)?;
    test.wait_for_weight(0, 0)?;
    let flushed = Moment::now();
    edit_table(&director, "-C\n")?;
    test.wait("the services to be missed", EDIT_LIMIT, |test| Ok(adoptions(&test.agent) == 3))?;
    test.run_a_while()?;
    let gone = test.changes_since(flushed)?;
    assert_eq!(gone.len(), test.lab.servers.len(), "{gone:?}");
    Fault::ProcessKilled.repair(&test.lab.network.switch, &mut test.lab.servers[0])?;
    let (service, servers) = (test.service, [0, 1].map(|server| test.address(server)));
    let lines = servers.map(|server| format!("-a -t {service} -r {server} -m -w 3\n")).concat();
    edit_table(&director, &format!("-A -t {service} -s wrr\n{lines}"))?;
    test.wait("the new table to be noticed", EDIT_LIMIT, |test| Ok(adoptions(&test.agent) >= 4))?;
    test.lab.servers[1].signal(Signal::SIGKILL)?;
    test.wait_for_weight(1, 0)?;
    assert_eq!(test.watcher.table()?.weight(servers[0]), Some(3));
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn observing_writes_nothing_and_logs_what_it_would_have_written() -> Result<()> {
    for config in [None, Some(OBSERVE)] {
        let mut test = AdoptionTest::start(config)?;
        let before = test.watcher.table()?;
        let since = Moment::now();
        test.lab.servers[2].signal(Signal::SIGKILL)?;
        test.wait_for_state(2, "down", since)?;
        test.run_a_while()?;
        let logged = observed(&test.agent);
        let expected = format!("set server tcp {} -> {} weight 0", test.service, test.address(2));
        assert_eq!(logged, [expected], "once, not each second");
        let count = metric(&test.agent.metrics()?, "lvs_table_edits_total", &["result=\"observed\""]);
        assert_eq!(count, Some(1.0));
        Fault::ProcessKilled.repair(&test.lab.network.switch, &mut test.lab.servers[2])?;
        test.wait_for_state(2, "up", since)?;
        test.wait("the edit back to be logged", EDIT_LIMIT, |test| Ok(observed(&test.agent).len() == 2))?;
        assert_eq!(test.changes_since(since)?, [], "the table is untouched");
        follows_the_table(&mut test)?;
        assert!(test.agent.stop()?.success());
        assert_eq!(test.watcher.table()?, before);
    }
    Ok(())
}

/// Servers that an administrator takes out and adds are noticed.
fn follows_the_table(test: &mut AdoptionTest) -> Result<()> {
    let (service, server) = (test.service.to_string(), test.address(2).to_string());
    let director = test.lab.network.director.clone();
    process::run(&director, &["ipvsadm", "-d", "-t", &service, "-r", &server], "")?;
    test.wait("the server to be missed", EDIT_LIMIT, |test| Ok(adoptions(&test.agent) == 1))?;
    process::run(&director, &["ipvsadm", "-a", "-t", &service, "-r", &server, "-m", "-w", "7"], "")?;
    test.wait("the server to be noticed", EDIT_LIMIT, |test| Ok(adoptions(&test.agent) == 2))
}

/// How often the agent has logged that others have changed the table.
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
    let logged = |agent: &Agent, text: &str| agent.lines().iter().any(|line| line.contains(text));
    ensure!(logged(&agent, "waiting for some"), "{}", agent.diagnosis());
    let (service, server) = (layout.service().to_string(), lab.addresses()[0].to_string());
    process::run(&director, &["ipvsadm", "-A", "-t", &service], "")?;
    process::run(&director, &["ipvsadm", "-a", "-t", &service, "-r", &server, "-m"], "")?;
    wait::until_true("the new server to be checked", EDIT_LIMIT, || {
        agent.check_running()?;
        Ok(logged(&agent, "changed from unknown to up"))
    })
    .with_context(|| agent.diagnosis())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_second_agent_is_refused() -> Result<()> {
    let mut test = AdoptionTest::start(Some(ADOPT))?;
    for second in [Some("[agent]\nmode = \"adopt\"\ncontrol = \"off\"\nmetrics = \"off\"\n"), None] {
        let director = &test.lab.network.director;
        let mut agent = match second {
            Some(config) => Agent::start(director, config)?,
            None => Agent::start_without_config(director)?,
        };
        let status = agent.wait_for_end()?;
        assert_eq!(status.code(), Some(SECOND), "{}", agent.diagnosis());
        let words = format!("another lvs-agent (process {}) is running", test.agent.pid());
        assert!(agent.lines().iter().any(|line| line.contains(&words)), "{}", agent.diagnosis());
    }
    test.run_a_while()?;
    assert_eq!(test.watcher.history()?.len(), 1);
    Ok(())
}
