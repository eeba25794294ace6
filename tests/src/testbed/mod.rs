//! A testbed: a lab with the agent at work, clients, and an observer of the kernel's table.

pub mod failover;
pub mod takeover;
pub mod timeline;

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    lab::{
        Lab,
        agent::{Agent, config::AgentConfig},
        clients::{Load, LoadPlan, Pattern},
        clock::Moment,
        director::{
            prepare_ipvs, table_text,
            table_watcher::{TableState, TableWatcher},
        },
        faults::Fault,
        layout::{Layout, Method, PORT},
        process::unprivileged::Account,
        wait,
    },
    testbed::failover::{Failover, Server},
};

/// How long a slow machine may take until every server has served.
const SERVING_LIMIT: Duration = Duration::from_mins(1);
/// Answers of each server that show that it serves.
const SERVED: usize = 3;
/// How long the agent may take for what the scenarios want within a second: to see how late it is, not that it is.
pub const EDIT_LIMIT: Duration = Duration::from_secs(15);
/// How long a repaired server may take to come back: its checks, and what flapping costs.
pub const RETURN_LIMIT: Duration = Duration::from_secs(30);

/// A running testbed. Dropping it ends everything in it.
#[derive(Debug)]
pub struct Testbed {
    /// The clients.
    pub load: Load,
    /// The observer of the kernel's table.
    pub watcher: TableWatcher,
    /// The agent.
    pub agent: Agent,
    /// The network and the real servers.
    pub lab: Lab,
    /// Since when everything is as it should be.
    pub healthy_since: Moment,
    config: String,
    account: Account,
    /// Time from a client to the director and back.
    distance: Duration,
    is_long_lived: bool,
    /// How many of the servers, the first ones, are no backups.
    regular: usize,
}

/// How a testbed is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The network, the servers, the forwarding method.
    pub layout: Layout,
    /// What the clients do.
    pub load: LoadPlan,
    /// Time from a client to everybody else and back.
    pub distance: Option<Duration>,
    /// The agent's configuration.
    pub config: AgentConfig,
    /// What the agent runs as.
    pub account: Account,
    /// The words before the agent's, such as `env NAME=VALUE`.
    pub wrapper: Vec<String>,
}

impl Setup {
    /// Three servers, 100 new connections a second, failed servers get weight 0.
    #[must_use]
    pub fn new(method: Method) -> Self {
        Self::of(Layout::new(method))
    }

    /// The same in another layout.
    #[must_use]
    pub fn of(layout: Layout) -> Self {
        let load = LoadPlan::paced(100.0).to(&[layout.service()]);
        let servers: Vec<_> =
            (0..layout.servers).map(|number| SocketAddr::new(layout.server_address(number), PORT)).collect();
        Self {
            layout,
            load,
            distance: None,
            config: AgentConfig::http(&layout, &servers),
            account: Account::usual(),
            wrapper: Vec::new(),
        }
    }

    /// The same with another rate of new connections a second.
    #[must_use]
    pub fn rate(self, rate: f64) -> Self {
        self.pattern(Pattern::Paced(rate))
    }

    /// The same with another pattern of requests.
    #[must_use]
    pub fn pattern(mut self, pattern: Pattern) -> Self {
        self.load.pattern = pattern;
        self
    }

    /// The same with clients that are so far away, there and back.
    #[must_use]
    pub fn distance(self, round_trip: Duration) -> Self {
        Self { distance: Some(round_trip), ..self }
    }

    /// The same with another action on a server in hard state.
    #[must_use]
    pub fn on_failure(self, action: &str) -> Self {
        Self { config: self.config.on_failure(action), ..self }
    }
}

impl Testbed {
    /// Builds the lab, starts the agent and the clients, and waits until every server is in the table and serves.
    pub fn start(setup: &Setup) -> Result<Self> {
        let lab = Lab::build(&setup.layout)?;
        prepare_ipvs(&lab.network.director)?;
        Self::in_lab(lab, setup)
    }

    /// The same in a lab that is there.
    pub fn in_lab(lab: Lab, setup: &Setup) -> Result<Self> {
        let mut testbed = Self::in_lab_unserved(lab, setup)?;
        testbed.wait_until_serving()?;
        testbed.healthy_since = Moment::now();
        Ok(testbed)
    }

    /// The same where not every server serves: waits until all of them are in the table.
    pub fn in_lab_unserved(lab: Lab, setup: &Setup) -> Result<Self> {
        let config = setup.config.to_toml()?;
        let backups: usize = setup.config.service.iter().map(|service| service.backup.len()).sum();
        let regular = lab.servers.len() - backups;
        let director = &lab.network.director;
        if let Some(distance) = setup.distance {
            lab.network.set_distance(distance)?;
        }
        let mut agent = Agent::start_with(director, Some(&config), &setup.wrapper, setup.account)?;
        agent.wait_until_ready()?;
        let watcher = TableWatcher::start(director)?;
        // Long-lived flows spread over the servers that are there when they begin.
        wait::until_true("every server to be in the table", SERVING_LIMIT, || {
            let table = watcher.table()?;
            Ok(lab.addresses().into_iter().take(regular).all(|server| table.is_in_everywhere(server)))
        })
        .with_context(|| agent.diagnosis())?;
        let load = Load::start(&lab.network.clients, setup.load.clone())?;
        let is_long_lived = matches!(setup.load.pattern, Pattern::LongLived { .. });
        let distance = setup.distance.unwrap_or_default();
        let healthy_since = Moment::now();
        let account = setup.account;
        Ok(Self {
            load,
            watcher,
            agent,
            lab,
            healthy_since,
            config,
            account,
            distance,
            is_long_lived,
            regular,
        })
    }

    /// Starts the agent anew with the same configuration, after its end.
    pub fn restart_agent(&mut self) -> Result<()> {
        self.agent = Agent::start_as(self.account, &self.lab.network.director, &self.config)?;
        self.agent.wait_until_ready()
    }

    /// Waits until every server that is no backup is in the table and has served clients since this was asked.
    pub fn wait_until_serving(&mut self) -> Result<()> {
        let since = Moment::now();
        self.wait("every server to be in the table and to serve", SERVING_LIMIT, |testbed| {
            let table = testbed.watcher.table()?;
            Ok(testbed.lab.servers.iter().take(testbed.regular).all(|server| {
                table.is_in_everywhere(server.address())
                    && testbed.served_since(&server.name, since) >= SERVED
            }))
        })
    }

    /// How many requests, sent since then, the server of this name has answered.
    #[must_use]
    pub fn served_since(&self, server: &str, since: Moment) -> usize {
        self.load.served_since(server, since)
    }

    /// Waits for a condition. An error has the agent's log and the kernel's table.
    pub fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let found = wait::until_true(what, limit, || {
            self.agent.check_running()?;
            condition(self)
        });
        found.with_context(|| self.diagnosis())
    }

    /// Brings a fault about at the server with this number (from 0) and gives the moment just before.
    pub fn inject(&mut self, fault: Fault, server: usize) -> Result<Moment> {
        let armed = fault.arm(&self.lab.network.switch, &self.lab.servers[server])?;
        // What arming cost the machine is over.
        self.wait_until_serving()?;
        armed.inject()
    }

    /// Waits until the kernel's table keeps new connections away from the server with this number.
    pub fn wait_until_out(&mut self, server: usize) -> Result<()> {
        let address = self.lab.servers[server].address();
        self.wait(&format!("{address} to be taken out"), EDIT_LIMIT, |testbed| {
            Ok(testbed.watcher.table()?.is_out(address))
        })
    }

    /// Repairs the server with this number and gives the moment when it was as before.
    pub fn repair(&mut self, fault: Fault, server: usize) -> Result<Moment> {
        fault.repair(&self.lab.network.switch, &mut self.lab.servers[server])
    }

    /// Waits until the repaired server is in the table and, where clients open new connections, serves again.
    pub fn wait_until_back(&mut self, server: usize) -> Result<()> {
        let address = self.lab.servers[server].address();
        self.wait(&format!("{address} to come back"), RETURN_LIMIT, |testbed| {
            Ok(testbed.watcher.table()?.is_in_everywhere(address))
        })?;
        if self.is_long_lived { Ok(()) } else { self.wait_until_serving() }
    }

    /// Goes on for this time; an error if the agent ends meanwhile.
    pub fn run_for(&mut self, time: Duration) -> Result<()> {
        let end = Moment::now().plus(time);
        while Moment::now() < end {
            self.agent.check_running().with_context(|| self.diagnosis())?;
            thread::sleep(Duration::from_millis(50).min(end.since(Moment::now())));
        }
        Ok(())
    }

    /// A whole failure: the fault, the edit, `after` of time, the repair and the return. Clients go on.
    pub fn failover(
        &mut self,
        fault: Fault,
        server: usize,
        after: Duration,
    ) -> Result<(Failover, TableTexts)> {
        let before = self.table_text()?;
        let at = self.inject(fault, server)?;
        self.wait_until_out(server)?;
        self.run_for(after)?;
        let watched_until = Moment::now();
        // What distant clients have sent by now is still on its way, and must not meet the server when it is back.
        self.run_for(self.distance)?;
        let texts = TableTexts { before, after: self.table_text()? };
        let healed = self.repair(fault, server)?;
        self.wait_until_back(server)?;
        let failover = self.record(server, at, watched_until, Some(healed))?;
        Ok((failover, texts))
    }

    /// What was seen so far of the failure of the server with this number.
    pub fn record(
        &self,
        server: usize,
        fault: Moment,
        watched_until: Moment,
        healed: Option<Moment>,
    ) -> Result<Failover> {
        let target = |number: usize| {
            let server = &self.lab.servers[number];
            Server { name: server.name.clone(), address: server.address() }
        };
        let others = (0..self.lab.servers.len()).filter(|number| *number != server).map(target).collect();
        Ok(Failover {
            faulty: target(server),
            others,
            healthy_since: self.healthy_since,
            fault,
            watched_until,
            healed,
            requests: self.load.requests(),
            events: self.agent.events(),
            table: self.watcher.history()?,
        })
    }

    /// What happened until now no longer counts: everything is as it should be from here on.
    pub fn reset_healthy_since(&mut self) {
        self.healthy_since = Moment::now();
    }

    /// The states of the table since everything was as it should be; the first is that of then.
    pub fn history_since_healthy(&self) -> Result<Vec<TableState>> {
        let history = self.watcher.history()?;
        let first = history.iter().rposition(|seen| seen.at <= self.healthy_since).unwrap_or(0);
        Ok(history[first..].to_vec())
    }

    /// The table as `ipvsadm -Ln` prints it.
    pub fn table_text(&self) -> Result<String> {
        table_text(&self.lab.network.director)
    }

    /// The agent's log and the kernel's table, for errors.
    #[must_use]
    pub fn diagnosis(&self) -> String {
        let table = self.table_text().unwrap_or_else(|error| format!("{error:#}"));
        let layout = &self.lab.network.layout;
        format!("{layout}\n{}\nthe kernel's table:\n{table}", self.agent.diagnosis())
    }
}

impl Drop for Testbed {
    /// After a failed assertion what the agent did is wanted.
    fn drop(&mut self) {
        if thread::panicking() {
            crate::warn(&self.diagnosis());
        }
    }
}

/// The table as `ipvsadm -Ln` printed it.
#[derive(Clone, Debug)]
pub struct TableTexts {
    /// Before the fault.
    pub before: String,
    /// After the edit.
    pub after: String,
}
