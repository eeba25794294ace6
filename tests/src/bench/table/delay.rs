//! From a hard state to the edit that the kernel has acknowledged, by the log of an agent with many services.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;

use super::TableCostOptions;
use crate::{
    bench::failing::{FailingServers, PORT, server, service},
    lab::{agent::Agent, namespace::Namespace, network::ip},
    say,
};

/// The longest delay, but for one in a hundred.
const LONGEST: Duration = Duration::from_millis(5);
/// How many of the services lose a server and get it back, in turn.
const FAILING: u16 = 20;

/// Measures and prints; returns whether it is soon enough, both with a table of the agent's own and with an adopted
/// one.
pub(super) fn measure(director: &Namespace, options: &TableCostOptions) -> Result<bool> {
    ip(director, "link set lo up\n")?;
    let count = FAILING.min(options.services);
    let mut failing = FailingServers::listen(director, count)?;
    let mut agent = Agent::start(director, &managing(options, count))?;
    agent.wait_until_ready()?;
    // Once all of them are in, the table is made.
    failing.await_edits(&mut agent)?;
    let managed = failing.time_states(&mut agent, options.states)?;
    agent.stop()?;
    let mut agent = Agent::start(director, &adopting(count))?;
    agent.wait_until_ready()?;
    failing.await_states(&mut agent)?;
    let adopted = failing.time_states(&mut agent, options.states)?;
    agent.stop()?;
    let managed = print("manage", managed);
    Ok(print("adopt, with its state file", adopted) && managed)
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

/// Services of which the first ones are asked for often. The servers of the others, the same for all of them, are not
/// there.
fn managing(options: &TableCostOptions, failing: u16) -> String {
    let mut text = agent("manage");
    for number in 0..options.services {
        text += &service(number, if number < failing { "100ms" } else { "10m" });
        let first = (number < failing).then(|| server(number));
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
fn adopting(failing: u16) -> String {
    let others = "[defaults]\ncheck = { type = \"on\", interval = \"10m\" }\n".to_owned();
    let services: String = (0..failing).map(|number| service(number, "100ms")).collect();
    agent("adopt") + &others + &services
}

fn agent(mode: &str) -> String {
    format!(
        "[agent]\nmode = \"{mode}\"\nstate = \"/run/lvs-agent/{mode}.json\"\nmetrics = \"off\"\ncontrol = \"off\"\n[passive]\nenabled = false\n"
    )
}
