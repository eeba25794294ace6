//! What happened around a failure, as lab, clients, agent and kernel saw it, in the order of time.

use std::fmt;

use crate::{
    lab::{
        agent::log::{AgentEvent, EventKind},
        clients::requests::Request,
        clock::Moment,
        director::table_watcher::changes,
    },
    testbed::failover::Failover,
};

/// The entries, in the order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline(Vec<Entry>);

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When, in ms since the fault.
    pub ms: f64,
    /// Who reports it.
    pub source: Source,
    /// What happened.
    pub text: String,
}

/// Who reports an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The lab itself, which brings the fault about.
    Lab,
    /// A client.
    Client,
    /// The agent's log.
    Agent,
    /// The kernel's table.
    Kernel,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Lab => "lab",
            Self::Client => "client",
            Self::Agent => "agent",
            Self::Kernel => "kernel",
        })
    }
}

impl Timeline {
    /// From the fault, called `fault`, to the return of the server.
    #[must_use]
    pub fn of(failover: &Failover, fault: &str) -> Self {
        let entry = |at: Moment, source, text| Entry { ms: at.ms_after(failover.fault), source, text };
        let mut entries =
            vec![entry(failover.fault, Source::Lab, format!("{}: {fault}", failover.faulty.name))];
        if let Some(healed) = failover.healed {
            entries.push(entry(healed, Source::Lab, format!("{} repaired", failover.faulty.name)));
        }
        entries.extend(clients(failover).map(|(at, text)| entry(at, Source::Client, text)));
        let relevant = failover.events_of_faulty().filter(|event| is_relevant(event, failover));
        entries.extend(relevant.map(|event| entry(event.at, Source::Agent, event.kind.to_string())));
        let changed =
            changes(&failover.table).into_iter().filter(|change| change.at >= failover.healthy_since);
        entries.extend(changed.map(|change| entry(change.at, Source::Kernel, change.change.to_string())));
        entries.sort_by(|one, other| one.ms.total_cmp(&other.ms));
        Self(entries)
    }

    /// The entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }
}

/// Regular probes are listed only where they had a part in it: up to the edit, and from the repair to the return.
fn is_relevant(event: &AgentEvent, failover: &Failover) -> bool {
    let out = failover.table_out().unwrap_or(failover.watched_until);
    let recovering = failover.healed.is_some_and(|healed| event.at >= healed)
        && failover.table_back().is_none_or(|back| event.at <= back);
    match &event.kind {
        EventKind::Probe { .. } => event.at <= out || recovering,
        EventKind::Suspicion { .. } => event.at <= out,
        _ => true,
    }
}

/// The first and the last that clients noticed.
fn clients(failover: &Failover) -> impl Iterator<Item = (Moment, String)> {
    let named = |at, what, request| (at, format!("{what}: {}", harm(request, failover.fault)));
    let first_sent = failover.harmed().min_by_key(|request| request.started);
    let first_seen = failover.harmed().min_by_key(|request| request.ended);
    let last_sent = failover.harmed().max_by_key(|request| request.started);
    let entries = [
        first_sent.map(|request| named(request.started, "first harmed request", request)),
        first_seen.map(|request| named(request.ended, "first harm seen", request)),
        last_sent.map(|request| named(request.started, "last harmed request", request)),
    ];
    entries.into_iter().flatten()
}

/// What became of a request that failed or waited.
fn harm(request: &Request, fault: Moment) -> String {
    let Request { client, outcome, started, ended, .. } = request;
    let (started, ended) = (started.ms_after(fault), ended.ms_after(fault));
    format!("{client} {outcome} (sent {started:+.1}, ended {ended:+.1})")
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Entry { ms, source, text } in &self.0 {
            writeln!(f, "{ms:>+10.1} ms  {source:<6}  {text}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::failover::tests::good;

    #[test]
    fn entries_of_all_sources_are_in_the_order_of_time() {
        let timeline = Timeline::of(&good(), "process killed").to_string();
        let lines: Vec<_> = timeline.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "+0.0 ms  lab     rs1: process killed",
                "+10.0 ms  client  first harmed request: 127.0.0.1 refused (sent +10.0, ended +12.0)",
                "+12.0 ms  client  first harm seen: 127.0.0.1 refused (sent +10.0, ended +12.0)",
                "+13.0 ms  agent   strong suspicion: refused",
                "+14.0 ms  agent   confirm probe 1: refused",
                "+30.0 ms  client  last harmed request: 127.0.0.1 refused (sent +30.0, ended +31.0)",
                "+44.0 ms  agent   state up -> down",
                "+45.0 ms  agent   edit: weight 1 -> 0 (90 µs)",
                "+50.0 ms  kernel  TCP 192.0.2.80:80 -> 10.0.0.1:80: weight 1 -> 0",
                "+1000.0 ms  lab     rs1 repaired",
                "+1500.0 ms  kernel  TCP 192.0.2.80:80 -> 10.0.0.1:80: weight 0 -> 1",
            ]
        );
    }
}
