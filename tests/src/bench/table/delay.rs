//! From a hard state to the edit that the kernel has acknowledged, by the log of an agent with many services.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::TableCostOptions;
use crate::{
    lab::{
        agent::{
            Agent,
            log::{AgentEvent, EventKind},
        },
        clock::Moment,
        namespace::Namespace,
        network::ip,
        wait,
    },
    say,
};

/// The longest delay, but for one in a hundred.
const LONGEST: Duration = Duration::from_millis(5);
/// How many of the services lose a server and get it back, in turn.
const VICTIMS: u16 = 20;
/// How long a change of state and its edit may take, to see how late it is.
const LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 80;

/// Measures and prints; returns whether it is soon enough, both with a table of the agent's own and with an adopted
/// one.
pub(super) fn measure(director: &Namespace, options: &TableCostOptions) -> Result<bool> {
    ip(director, "link set lo up\n")?;
    let victims = VICTIMS.min(options.services);
    let mut listeners: BTreeMap<u16, TcpListener> = BTreeMap::new();
    for number in 0..victims {
        listeners.insert(number, listen(director, victim(number))?);
    }
    let mut agent = Agent::start(director, &managing(options, victims))?;
    agent.wait_until_ready()?;
    // Once all victims are in, the table is made.
    for number in 0..victims {
        await_edit(&mut agent, victim(number), &mut 0)?;
    }
    let managed = time_states(director, &mut agent, &mut listeners, options.states)?;
    agent.stop()?;
    let mut agent = Agent::start(director, &adopting(victims))?;
    agent.wait_until_ready()?;
    for number in 0..victims {
        await_state(&mut agent, victim(number))?;
    }
    let adopted = time_states(director, &mut agent, &mut listeners, options.states)?;
    agent.stop()?;
    let managed = print("manage", managed);
    Ok(print("adopt, with its state file", adopted) && managed)
}

/// Lets so many servers fail and come back, and gives how long after each the table was changed.
fn time_states(
    director: &Namespace,
    agent: &mut Agent,
    listeners: &mut BTreeMap<u16, TcpListener>,
    states: u16,
) -> Result<Vec<Duration>> {
    let victims: Vec<u16> = listeners.keys().copied().collect();
    let mut from = agent.lines().len();
    let mut delays = Vec::new();
    for number in victims.into_iter().cycle().take(usize::from(states.div_ceil(2))) {
        let server = victim(number);
        drop(listeners.remove(&number));
        delays.push(await_edit(agent, server, &mut from)?);
        listeners.insert(number, listen(director, server)?);
        delays.push(await_edit(agent, server, &mut from)?);
    }
    Ok(delays)
}

fn print(mode: &str, mut delays: Vec<Duration>) -> bool {
    delays.sort_unstable();
    let at = |share: usize| delays.get((delays.len() * share).div_ceil(100).saturating_sub(1)).copied();
    let [median, late, last] = [50, 99, 100].map(|share| at(share).unwrap_or_default());
    let words = if late <= LONGEST { "" } else { ": TOO LATE" };
    say(&format!(
        "from a hard state to the acknowledged edit ({mode}), {} times: median {median:.2?}, 99 of 100 within {late:.2?}, \
         the longest {last:.2?}; at most {LONGEST:?} for 99 of 100{words}",
        delays.len()
    ));
    late <= LONGEST
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

/// A server that one of the services has for itself.
fn victim(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    (Ipv4Addr::new(127, 2, high, low), PORT).into()
}

fn listen(director: &Namespace, server: SocketAddr) -> Result<TcpListener> {
    director.run(|| TcpListener::bind(server).with_context(|| format!("listening on {server}")))
}

/// Services of which the first ones are asked for often. The servers of the others, the same for all of them, are not
/// there.
fn managing(options: &TableCostOptions, victims: u16) -> String {
    let mut text = agent("manage");
    for number in 0..options.services {
        text += &service(number, if number < victims { "100ms" } else { "10m" });
        let first = (number < victims).then(|| victim(number));
        let others = (1..=options.servers).map(|server| ([127, 3, 0, server], PORT).into());
        let servers = first.into_iter().chain(others).take(options.servers.into());
        text.extend(
            servers.map(|server: SocketAddr| format!("[[service.server]]\naddress = \"{server}\"\n")),
        );
    }
    text
}

/// The table that such an agent has left, as if it were an administrator's: without its state file. All other services
/// are always well.
fn adopting(victims: u16) -> String {
    let others = "[defaults]\ncheck = { type = \"on\", interval = \"10m\" }\n".to_owned();
    let services: String = (0..victims).map(|number| service(number, "100ms")).collect();
    agent("adopt") + &others + &services
}

fn agent(mode: &str) -> String {
    format!(
        "[agent]\nmode = \"{mode}\"\nstate = \"/run/lvs-agent/{mode}.json\"\nmetrics = \"off\"\ncontrol = \"off\"\n[passive]\nenabled = false\n"
    )
}

fn service(number: u16, interval: &str) -> String {
    let [high, low] = number.to_be_bytes();
    format!(
        "[[service]]\naddress = \"198.18.{high}.{low}:80\"\nfall = 1\nrise = 1\nforward = \"masquerade\"\n\
         flap = {{ penalty = \"off\" }}\n\
         check = {{ type = \"connect\", interval = \"{interval}\", timeout = \"100ms\" }}\n"
    )
}
