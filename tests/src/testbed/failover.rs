//! One failure of one server, as clients, agent and kernel saw it, and whether the agent did its work.

use std::{net::SocketAddr, time::Duration};

use serde::Serialize;

use crate::lab::{
    agent::log::{AgentEvent, EventKind},
    clients::requests::{Request, Summary},
    clock::Moment,
    director::{
        table::same_server,
        table_watcher::{TableState, TimedChange, changes},
    },
};

/// Requests that were on their way while the table was edited still count to the time before.
const GRACE: Duration = Duration::from_millis(100);
/// How many of the requests after the edit may fail: one in so many.
const TOLERANCE: usize = 100;

/// Everything that was seen of one failure.
#[derive(Clone, Debug)]
pub struct Failover {
    /// The server that failed.
    pub faulty: Server,
    /// The servers that did not.
    pub others: Vec<Server>,
    /// Since when everything was as it should be.
    pub healthy_since: Moment,
    /// When the fault was injected.
    pub fault: Moment,
    /// When the watching of the time after the edit ended; the server was repaired afterwards.
    pub watched_until: Moment,
    /// When the server was as before the fault, if it was repaired.
    pub healed: Option<Moment>,
    /// What clients saw.
    pub requests: Vec<Request>,
    /// The events of the agent's log.
    pub events: Vec<AgentEvent>,
    /// What the kernel's table was, over the whole time.
    pub table: Vec<TableState>,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The name it answers with.
    pub name: String,
    /// Its address and port.
    pub address: SocketAddr,
}

/// The times that matter, in ms since the fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Milestones {
    /// The first client learnt that its request had failed, or got a late answer.
    pub first_harm_seen: Option<f64>,
    /// The first of the requests was sent that failed or were answered late.
    pub first_harmed_request: Option<f64>,
    /// The agent suspected the server.
    pub suspicion: Option<f64>,
    /// The server's state became hard.
    pub hard_state: Option<f64>,
    /// The agent had edited the table, by its own log.
    pub edit: Option<f64>,
    /// The kernel's table showed it.
    pub table: Option<f64>,
    /// The last of these requests was sent.
    pub last_harmed_request: Option<f64>,
    /// The server was repaired.
    pub healed: Option<f64>,
    /// The kernel's table had it again.
    pub back: Option<f64>,
}

impl Failover {
    /// The requests that the fault made fail or wait: sent before the repair, ended after the fault.
    pub fn harmed(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|request| {
            request.is_harmed() && request.ended >= self.fault && request.started < self.watched_until
        })
    }

    /// What the clients saw whose requests began and ended between the start of the healthy time and the fault.
    #[must_use]
    pub fn before(&self) -> Summary {
        let before = |request: &&Request| request.started >= self.healthy_since && request.ended < self.fault;
        Summary::of(self.requests.iter().filter(before))
    }

    /// What the clients saw whose requests were on their way when the fault was injected, or were sent between
    /// the fault and the change of the table.
    #[must_use]
    pub fn during(&self) -> Summary {
        let out = self.table_out().unwrap_or(self.watched_until);
        let during = |request: &&Request| {
            request.started >= self.healthy_since && request.ended >= self.fault && request.started < out
        };
        Summary::of(self.requests.iter().filter(during))
    }

    /// What the clients saw whose requests were sent after the change of the table.
    #[must_use]
    pub fn after(&self) -> Summary {
        let from = self.table_out().unwrap_or(self.watched_until);
        Summary::between(&self.requests, from, self.watched_until)
    }

    /// When the kernel's table first kept new connections away from the faulty server.
    #[must_use]
    pub fn table_out(&self) -> Option<Moment> {
        self.table_since(self.fault, true)
    }

    /// When the kernel's table let new connections to the repaired server again.
    #[must_use]
    pub fn table_back(&self) -> Option<Moment> {
        self.table_since(self.healed?.min(self.watched_until), false)
    }

    fn table_since(&self, from: Moment, out: bool) -> Option<Moment> {
        let wanted = |state: &&TableState| state.at >= from && state.table.is_out(self.faulty.address) == out;
        self.table.iter().find(wanted).map(|state| state.at)
    }

    /// The changes of the kernel's table that must not be: all of other servers, and any before the fault.
    #[must_use]
    pub fn unexpected_changes(&self) -> Vec<TimedChange> {
        let wrong = |state: &TimedChange| {
            state.at >= self.healthy_since
                && (state.at < self.fault || !same_server(state.change.server, self.faulty.address))
        };
        changes(&self.table).into_iter().filter(wrong).collect()
    }

    /// The events about the faulty server since the fault.
    pub fn events_of_faulty(&self) -> impl Iterator<Item = &AgentEvent> {
        let of_faulty =
            |event: &AgentEvent| event.server.is_some_and(|server| same_server(server, self.faulty.address));
        self.events.iter().filter(move |event| event.at >= self.fault && of_faulty(event))
    }

    /// The times that matter.
    #[must_use]
    pub fn milestones(&self) -> Milestones {
        let ms = |moment: Moment| moment.ms_after(self.fault);
        let first = |wanted: fn(&EventKind) -> bool| {
            self.events_of_faulty().find(|event| wanted(&event.kind)).map(|event| ms(event.at))
        };
        Milestones {
            first_harm_seen: self.harmed().map(|request| request.ended).min().map(ms),
            first_harmed_request: self.harmed().map(|request| request.started).min().map(ms),
            suspicion: first(|kind| matches!(kind, EventKind::Suspicion { .. })),
            hard_state: first(|kind| matches!(kind, EventKind::State { to, .. } if to == "down")),
            edit: first(|kind| matches!(kind, EventKind::Edit { .. })),
            table: self.table_out().map(ms),
            last_harmed_request: self.harmed().map(|request| request.started).max().map(ms),
            healed: self.healed.map(ms),
            back: self.table_back().map(ms),
        }
    }

    /// Everything that is not as it should be; empty: the agent did its work.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let mut violations: Vec<_> = self
            .unexpected_changes()
            .iter()
            .map(|state| {
                let ms = state.at.ms_after(self.fault);
                format!("an edit that must not be, {ms:.1} ms after the fault: {}", state.change)
            })
            .collect();
        if self.table_out().is_none() {
            violations.push(format!("{} was never taken out of the kernel's table", self.faulty.name));
        }
        if self.healed.is_some() && self.table_back().is_none() {
            violations.push(format!("{} never came back into the kernel's table", self.faulty.name));
        }
        violations.extend(self.violations_seen_by_clients());
        violations
    }

    fn violations_seen_by_clients(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let before = self.before();
        if before.failed() > 0 || before.requests == 0 {
            violations.push(format!("before the fault not all was well: {before}"));
        }
        let Some(out) = self.table_out() else { return violations };
        let after = Summary::between(&self.requests, out.plus(GRACE), self.watched_until);
        if after.failed() * TOLERANCE > after.requests {
            violations.push(format!("after the edit requests still failed: {after}"));
        }
        if after.share(&self.faulty.name) > 0 {
            violations.push(format!("after the edit {} still got new connections", self.faulty.name));
        }
        let idle = self.others.iter().filter(|other| after.share(&other.name) == 0);
        violations.extend(idle.map(|other| format!("after the edit {} served nobody", other.name)));
        violations
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::lab::{clients::requests::Outcome, director::table::Table};

    pub(crate) fn ms(ms: u64) -> Moment {
        Moment::from_ns(ms * 1_000_000)
    }

    pub(crate) fn target(number: u8) -> Server {
        Server { name: format!("rs{number}"), address: SocketAddr::from(([10, 0, 0, number], 80)) }
    }

    fn table(weights: [u32; 2]) -> Table {
        let lines = weights
            .iter()
            .zip(1..)
            .map(|(weight, number)| format!("  -> 0A0000{number:02X}:0050 Masq {weight} 0 0\n"));
        let lines = lines.collect::<Vec<_>>().concat();
        Table::parse(&format!("IPVS\nProt\n  -> Remote\nTCP  C0000250:0050 rr\n{lines}")).unwrap()
    }

    fn request(started: u64, ended: u64, outcome: Outcome) -> Request {
        Request {
            client: Ipv4Addr::LOCALHOST.into(),
            started: ms(started),
            connected: None,
            ended: ms(ended),
            outcome,
        }
    }

    fn event(at: u64, server: u8, words: &str) -> AgentEvent {
        let line = format!(r#"{{"at_ns":{at}000000,"service":"web","server":"10.0.0.{server}:80",{words}}}"#);
        AgentEvent::parse(&line).unwrap()
    }

    /// The first of two servers fails at 1000 ms, is out at 1050 ms, repaired at 2000 ms and back at 2500 ms.
    pub(crate) fn good() -> Failover {
        let ok = |number: u64| Outcome::Answered(format!("rs{}", number / 10 % 2 + 1));
        let mut requests: Vec<_> = (500..1000).step_by(10).map(|at| request(at, at + 1, ok(at))).collect();
        requests.push(request(1010, 1012, Outcome::Refused));
        requests.push(request(1020, 1021, Outcome::Answered("rs2".into())));
        requests.push(request(1030, 1031, Outcome::Refused));
        requests
            .extend((1060..2000).step_by(10).map(|at| request(at, at + 1, Outcome::Answered("rs2".into()))));
        Failover {
            faulty: target(1),
            others: vec![target(2)],
            healthy_since: ms(500),
            fault: ms(1000),
            watched_until: ms(2000),
            healed: Some(ms(2000)),
            requests,
            events: vec![
                event(900, 1, r#""event":"probe","kind":"baseline","outcome":"status 200""#),
                event(1013, 1, r#""event":"suspicion","strength":"strong","evidence":"refused""#),
                event(1014, 1, r#""event":"probe","kind":"confirm","index":1,"outcome":"refused""#),
                event(1040, 2, r#""event":"probe","kind":"baseline","outcome":"status 200""#),
                event(1044, 1, r#""event":"state","from":"up","to":"down""#),
                event(1045, 1, r#""event":"edit","edit":"weight 1 -> 0","took_us":90"#),
            ],
            table: vec![
                TableState { at: ms(400), table: table([1, 1]) },
                TableState { at: ms(1050), table: table([0, 1]) },
                TableState { at: ms(2500), table: table([1, 1]) },
            ],
        }
    }

    #[test]
    fn milestones_are_those_of_the_faulty_server_since_the_fault() {
        let milestones = good().milestones();
        let expected = Milestones {
            first_harm_seen: Some(12.0),
            first_harmed_request: Some(10.0),
            suspicion: Some(13.0),
            hard_state: Some(44.0),
            edit: Some(45.0),
            table: Some(50.0),
            last_harmed_request: Some(30.0),
            healed: Some(1000.0),
            back: Some(1500.0),
        };
        assert_eq!(milestones, expected);
    }

    #[test]
    fn clients_are_counted_before_during_and_after() {
        let failover = good();
        assert_eq!((failover.before().requests, failover.before().failed()), (50, 0));
        assert_eq!((failover.during().requests, failover.during().failed()), (3, 2));
        assert_eq!((failover.after().share("rs1"), failover.after().share("rs2")), (0, 94));
    }

    #[test]
    fn a_good_run_has_no_violations() {
        assert_eq!(good().violations(), [] as [&str; 0]);
    }

    #[test]
    fn each_violation_is_reported() {
        type Spoil = fn(&mut Failover);
        let cases: [(&str, Spoil); 9] = [
            ("never taken out", |failover| failover.table.truncate(1)),
            ("never came back", |failover| failover.table.truncate(2)),
            ("must not be", |failover| {
                failover.table.insert(1, TableState { at: ms(700), table: table([1, 0]) });
                failover.table.insert(2, TableState { at: ms(800), table: table([1, 1]) });
            }),
            ("must not be", |failover| failover.table[1].at = ms(990)),
            ("must not be", |failover| failover.table[1].table = table([0, 5])),
            ("not all was well", |failover| failover.requests[3].outcome = Outcome::TimedOut),
            ("still failed", |failover| {
                failover
                    .requests
                    .extend([request(1500, 1501, Outcome::Refused), request(1510, 1511, Outcome::Refused)]);
            }),
            ("still got new", |failover| {
                failover.requests.push(request(1500, 1501, Outcome::Answered("rs1".into())));
            }),
            ("served nobody", |failover| failover.others.push(target(3))),
        ];
        for (words, spoil) in cases {
            let mut failover = good();
            spoil(&mut failover);
            let violations = failover.violations();
            assert!(violations.iter().any(|violation| violation.contains(words)), "{words}: {violations:?}");
        }
    }
}
