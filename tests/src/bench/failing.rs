//! Servers that fail and come back, and how long after each hard state the kernel has acknowledged the edit, by the
//! agent's log.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::lab::{
    agent::{
        Agent,
        log::{AgentEvent, EventKind},
    },
    clock::Moment,
    namespace::Namespace,
    wait,
};

/// How long a change of state and its edit may take, to see how late it is.
const LIMIT: Duration = Duration::from_secs(20);
/// Their port: 80 may be taken on all addresses.
pub(super) const PORT: u16 = 81;

/// The servers by number, as long as they answer.
pub(super) struct FailingServers {
    director: Namespace,
    listeners: BTreeMap<u16, TcpListener>,
    /// Lines of the log that have been read.
    read: usize,
}

/// A server that one service has for itself, on the director itself.
pub(super) fn server(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    (Ipv4Addr::new(127, 2, high, low), PORT).into()
}

/// A service that is asked so often, and whose states are hard at once; its servers come behind it.
pub(super) fn service(number: u16, interval: &str) -> String {
    let [high, low] = number.to_be_bytes();
    format!(
        "[[service]]\naddress = \"198.18.{high}.{low}:80\"\nfall = 1\nrise = 1\nforward = \"masquerade\"\n\
         flap = {{ penalty = \"off\" }}\n\
         check = {{ type = \"connect\", interval = \"{interval}\", timeout = \"100ms\" }}\n"
    )
}

/// Such a service, and the server that it has.
pub(super) fn service_and_server(number: u16, interval: &str) -> String {
    format!("{}[[service.server]]\naddress = \"{}\"\n", service(number, interval), server(number))
}

impl FailingServers {
    /// Starts them.
    pub(super) fn listen(director: &Namespace, count: u16) -> Result<Self> {
        let mut servers = Self { director: director.clone(), listeners: BTreeMap::new(), read: 0 };
        for number in 0..count {
            servers.come_back(number)?;
        }
        Ok(servers)
    }

    /// Waits until a new agent has all of them in its table.
    pub(super) fn await_edits(&mut self, agent: &mut Agent) -> Result<()> {
        self.read = 0;
        for number in self.numbers() {
            // They become known in any order.
            await_edit(agent, server(number), &mut 0)?;
        }
        self.read = agent.lines().len();
        Ok(())
    }

    /// Waits until all of them are well, as a new agent knows them.
    pub(super) fn await_states(&mut self, agent: &mut Agent) -> Result<()> {
        for number in self.numbers() {
            await_state(agent, server(number))?;
        }
        self.read = agent.lines().len();
        Ok(())
    }

    /// Lets one after another fail and come back until there are so many states, and gives how long after each the
    /// table was changed.
    pub(super) fn time_states(&mut self, agent: &mut Agent, states: u16) -> Result<Vec<Duration>> {
        let mut delays = Vec::new();
        for number in self.numbers().into_iter().cycle().take(usize::from(states.div_ceil(2))) {
            drop(self.listeners.remove(&number));
            delays.push(await_edit(agent, server(number), &mut self.read)?);
            self.come_back(number)?;
            delays.push(await_edit(agent, server(number), &mut self.read)?);
        }
        Ok(delays)
    }

    fn numbers(&self) -> Vec<u16> {
        self.listeners.keys().copied().collect()
    }

    fn come_back(&mut self, number: u16) -> Result<()> {
        let server = server(number);
        let listen = || TcpListener::bind(server).with_context(|| format!("listening on {server}"));
        self.listeners.insert(number, self.director.run(listen)?);
        Ok(())
    }
}

/// Waits until a server is well, as the agent knows it.
fn await_state(agent: &mut Agent, server: SocketAddr) -> Result<()> {
    let mut from = 0;
    wait::until_true("a server to be well", LIMIT, || {
        agent.check_running()?;
        let mut events = agent.events_since(&mut from).into_iter();
        Ok(events.any(|event| {
            event.server == Some(server) && matches!(event.kind, EventKind::State { to, .. } if to == "up")
        }))
    })
    .with_context(|| agent.diagnosis())
}

/// Waits for a state of the server and the edit that follows it: how long it took from one to the other.
fn await_edit(agent: &mut Agent, server: SocketAddr, from: &mut usize) -> Result<Duration> {
    let mut state: Option<Moment> = None;
    wait::until("a change of state and its edit", LIMIT, || {
        agent.check_running()?;
        for event in agent.events_since(from) {
            match event {
                AgentEvent { at, server: Some(other), kind: EventKind::State { .. }, .. }
                    if other == server =>
                {
                    state = Some(at);
                }
                AgentEvent { at, server: Some(other), kind: EventKind::Edit { .. }, .. }
                    if other == server =>
                {
                    if let Some(state) = state {
                        return Ok(Some(at.since(state)));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    })
    .with_context(|| agent.diagnosis())
}
