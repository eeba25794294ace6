//! How long a confirming probe may take, from how long the server's checks have taken lately. Pure.

use std::time::Duration;

use super::subscriptions::Subscriber;
use crate::{
    keyed::KeyMap,
    model::{Check, CheckKind},
    probe::Success,
};

/// Times longer than nearly all that a kernel took for a handshake: it was not the network's whim.
const CONNECT_FACTOR: u32 = 10;
/// Times longer than nearly all that an application took for its answer, whose times scatter less than they are long.
const ANSWER_FACTOR: u32 = 5;
/// Nobody is given less for a handshake: timers and schedulers on both sides take their part.
const CONNECT_LEAST: Duration = Duration::from_millis(50);
/// Nobody is given less for an answer.
const ANSWER_LEAST: Duration = Duration::from_millis(100);
/// Checks that must have been answered before less than the default is given.
const ENOUGH: usize = 8;
/// Checks that are remembered: at one a second, the last half minute.
const REMEMBERED: usize = 32;

/// How long the checks of all destinations took.
#[derive(Debug, Default)]
pub(crate) struct LatencyHistory {
    latencies: KeyMap<Subscriber, Pace>,
}

/// How long one of a destination's checks took.
#[derive(Debug, Default)]
struct Pace {
    connect: Lately,
    answer: Lately,
}

/// The last times, the oldest ones overwritten.
#[derive(Debug, Default)]
struct Lately {
    micros: Vec<u32>,
    next: usize,
}

impl LatencyHistory {
    /// Takes in a baseline check that was answered; `whole`: its question was asked, and not only for a connection.
    pub(crate) fn note(&mut self, of: Subscriber, success: &Success, whole: bool) {
        let pace = self.latencies.entry(of).or_default();
        if whole {
            pace.answer.note(success.latency);
        }
        if let Some(connect) = success.connect {
            pace.connect.note(connect);
        }
    }

    /// Forgets those that are not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Subscriber) -> bool) {
        self.latencies.retain(|subscriber, _| keep(subscriber));
    }

    /// How long a probe with this question may take. `usually` is what the operator gives a confirming connection or
    /// ping of a server that isn't known yet; nobody is given more than the baseline check is, or `usually` where that
    /// is more.
    pub(crate) fn timeout(
        &self,
        of: Subscriber,
        check: &Check,
        question: &CheckKind,
        usually: Duration,
    ) -> Duration {
        let pace = self.latencies.get(&of);
        match question {
            CheckKind::Connect | CheckKind::Ping => {
                let of_kind = |pace: &'_ Pace| match (question, &check.kind) {
                    (CheckKind::Ping, CheckKind::Ping) => pace.answer.nearly_all(),
                    _ => pace.connect.nearly_all(),
                };
                let Some((longest, answers)) = pace.and_then(of_kind) else { return usually };
                let least = if answers < ENOUGH { usually } else { CONNECT_LEAST.min(usually) };
                (longest * CONNECT_FACTOR).max(least).min(check.timeout.max(usually))
            }
            _ => {
                let known = pace.and_then(|pace| pace.answer.nearly_all());
                let wanted = known.map_or(check.timeout, |(longest, _)| longest * ANSWER_FACTOR);
                wanted.max(ANSWER_LEAST).min(check.timeout)
            }
        }
    }
}

impl Lately {
    fn note(&mut self, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        if self.micros.len() < REMEMBERED {
            self.micros.push(micros);
        } else {
            self.micros[self.next] = micros;
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// What the longest of them took, but for one where there are many: that may have been a lost packet. And how many
    /// there are.
    fn nearly_all(&self) -> Option<(Duration, usize)> {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let spared = usize::from(sorted.len() >= ENOUGH);
        let longest = sorted.iter().rev().nth(spared)?;
        Some((Duration::from_micros((*longest).into()), sorted.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DestinationKey, HttpCheck, Protocol, ServiceKey, UdpCheck};

    fn subscriber() -> Subscriber {
        let service =
            ServiceKey::Address { protocol: Protocol::Tcp, address: "192.0.2.1:80".parse().unwrap() };
        let destination = DestinationKey { service, server: "10.0.0.1:80".parse().unwrap() };
        Subscriber { destination, check: 0 }
    }

    fn datagram() -> CheckKind {
        CheckKind::Udp(UdpCheck { send: vec![], expect: None, reply: true })
    }

    fn page() -> CheckKind {
        CheckKind::Http(HttpCheck::get("/"))
    }

    /// The timeout in ms of a probe with `asked` after checks with `question` that took so many ms.
    fn timeout(kind: CheckKind, asked: &CheckKind, took: &[u64]) -> u128 {
        let check = Check { kind, timeout: Duration::from_millis(800), ..Check::default() };
        let mut latencies = LatencyHistory::default();
        for ms in took {
            let latency = Duration::from_millis(*ms);
            let connect = (check.kind != CheckKind::Ping).then_some(latency / 10);
            latencies.note(subscriber(), &Success { latency, connect, weight: None }, true);
        }
        latencies.timeout(subscriber(), &check, asked, Duration::from_millis(100)).as_millis()
    }

    #[test]
    fn a_probe_may_take_what_its_server_takes() {
        use CheckKind::{Connect, Ping};
        let many = |ms: u64| vec![ms; 2 * REMEMBERED];
        let with = |mut all: Vec<u64>, last: &[u64]| {
            all.extend(last);
            all
        };
        // A connection takes a tenth of what the check takes here.
        let cases = [
            ("nothing known", Connect, Connect, vec![], 100),
            ("few checks, fast", Connect, Connect, vec![5; 3], 100),
            ("few checks, slow", Connect, Connect, vec![500; 3], 500),
            ("fast", Connect, Connect, many(5), 50),
            ("not so fast", Connect, Connect, many(200), 200),
            ("slow", Connect, Connect, many(5000), 800),
            ("fast but once", Connect, Connect, with(many(5), &[5000]), 50),
            ("fast but twice", Connect, Connect, with(many(5), &[3000, 5000]), 800),
            ("slow, fast for half a minute", Connect, Connect, with(many(5000), &[5; REMEMBERED]), 50),
            ("ping by ping", Ping, Ping, many(30), 300),
            ("connection of a page", page(), Connect, many(150), 150),
            ("page, nothing known", page(), page(), vec![], 800),
            ("page, fast", page(), page(), many(5), 100),
            ("page, slow", page(), page(), many(100), 500),
            ("page, slower", page(), page(), many(400), 800),
            ("datagram, fast", datagram(), datagram(), many(5), 100),
            ("datagram, slow", datagram(), datagram(), many(100), 500),
        ];
        for (name, question, asked, took, expected) in cases {
            assert_eq!(timeout(question, &asked, &took), expected, "{name}");
        }
    }
}
