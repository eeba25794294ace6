//! How patient a confirming burst is, from how long the server's checks have taken lately. Pure.
//!
//! The kernel's own answers (SYN-ACK, RST, ICMP echo) take what they usually take, within narrow bounds. An application
//! is given the time that the operator gave it: the first probe has its check's whole timeout, and the others what is
//! left of it, but no less than they usually take. Slowness within the timeout is no failure, and a hung application is
//! known after one timeout.
//!
//! A host may stall as a whole, by a live migration or an overcommitted hypervisor, and answers all at once when it
//! goes on. A burst whose answers count for [`BurstSettings::timeout`] and [`BurstSettings::gap`] from its first probe
//! on (120 ms) outlasts a stall of 100 ms, as no suspicion comes before the stall; a longer one can't be told from a
//! lost power in time.

use std::time::Duration;

use super::subscriptions::Subscriber;
use crate::{
    keyed::KeyMap,
    model::{BurstSettings, Check, CheckKind},
    probe::{Patience, Success},
};

/// Times longer than nearly all that a kernel took for a handshake: it was not the network's whim.
const CONNECT_FACTOR: u32 = 10;
/// Times longer than nearly all that an application took for its answer, whose times scatter less than they are long.
const ANSWER_FACTOR: u32 = 5;
/// Nobody is given less for a handshake: timers and schedulers on both sides take their part.
const CONNECT_LEAST: Duration = Duration::from_millis(50);
/// Nobody is given less for an answer.
const ANSWER_LEAST: Duration = Duration::from_millis(100);
/// Times longer than nearly all answers took: this one is late, and it is worth asking again beside it.
const LATE_FACTOR: u32 = 2;
/// No answer is called late sooner: ten milliseconds are a scheduler's whim.
const LATE_LEAST: Duration = Duration::from_millis(10);
/// However slow a server usually is, it is asked again after this time, so that a dead one is known in little more than
/// one timeout.
const LATE_MOST: Duration = Duration::from_millis(100);
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

    /// How patient to be with a probe with this question, for a suspicion that `check` settles.
    ///
    /// `settings` has what the operator gives a confirming connection or ping of a server that isn't known yet; nobody
    /// is given more than the baseline check is, or than that where that is more. An application that is asked by
    /// `check` itself is given `own`, or the check's own timeout, from the first probe on.
    pub(crate) fn patience(
        &self,
        of: Subscriber,
        check: &Check,
        question: &CheckKind,
        own: Option<Duration>,
        settings: &BurstSettings,
    ) -> Patience {
        let pace = self.latencies.get(&of);
        match question {
            CheckKind::Connect | CheckKind::Ping => {
                let of_kind = |pace: &'_ Pace| match (question, &check.kind) {
                    (CheckKind::Ping, CheckKind::Ping) => pace.answer.nearly_all(),
                    _ => pace.connect.nearly_all(),
                };
                let known = pace.and_then(of_kind);
                let usually = settings.timeout;
                let probe = known.map_or(usually, |(longest, answers)| {
                    let least = if answers < ENOUGH { usually } else { CONNECT_LEAST.min(usually) };
                    (longest * CONNECT_FACTOR).max(least).min(check.timeout.max(usually))
                });
                Patience { usual: late(known), probe, burst: usually + settings.gap }
            }
            _ => {
                let known = pace.and_then(|pace| pace.answer.nearly_all());
                let is_own = *question == check.kind;
                let limit = own.filter(|_| is_own).unwrap_or(check.timeout);
                // The first probe of a burst has all of it, so that the last one needs no more while nothing is known.
                let unknown = if is_own { ANSWER_LEAST } else { limit };
                let wanted = known.map_or(unknown, |(longest, _)| longest * ANSWER_FACTOR);
                let probe = wanted.max(ANSWER_LEAST).min(limit);
                if is_own {
                    Patience { usual: late(known), probe, burst: limit }
                } else {
                    // A port whose silence is its answer: asking again sooner tells nothing.
                    Patience { usual: probe, probe, burst: Duration::ZERO }
                }
            }
        }
    }
}

/// After how long an answer is late, where nearly all took so long.
fn late(known: Option<(Duration, usize)>) -> Duration {
    known.map_or(LATE_MOST, |(longest, _)| (longest * LATE_FACTOR).clamp(LATE_LEAST, LATE_MOST))
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
    use std::num::NonZeroU32;

    use super::*;
    use crate::{
        model::{DestinationKey, HttpCheck, Protocol, ServiceKey, UdpCheck},
        probe::Rhythm,
    };

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

    /// The time in ms of a probe with `asked` after checks with `question` that took so many ms.
    fn timeout(kind: CheckKind, asked: &CheckKind, took: &[u64]) -> u128 {
        let check = Check { kind, timeout: Duration::from_millis(800), ..Check::default() };
        let mut latencies = LatencyHistory::default();
        for ms in took {
            let latency = Duration::from_millis(*ms);
            let connect = (check.kind != CheckKind::Ping).then_some(latency / 10);
            latencies.note(subscriber(), &Success { latency, connect, weight: None }, true);
        }
        latencies.patience(subscriber(), &check, asked, None, &BurstSettings::default()).probe.as_millis()
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
            ("page, nothing known", page(), page(), vec![], 100),
            ("page, fast", page(), page(), many(5), 100),
            ("page, slow", page(), page(), many(100), 500),
            ("page, slower", page(), page(), many(400), 800),
            ("datagram, fast", datagram(), datagram(), many(5), 100),
            ("datagram, slow", datagram(), datagram(), many(100), 500),
            ("datagram to a pinged server, fast", Ping, datagram(), many(5), 100),
            ("datagram to a pinged server, slow", Ping, datagram(), many(100), 500),
            ("datagram to a pinged server, slower", Ping, datagram(), many(400), 800),
        ];
        for (name, question, asked, took, expected) in cases {
            assert_eq!(timeout(question, &asked, &took), expected, "{name}");
        }
    }

    #[test]
    fn an_application_has_the_time_that_the_operator_gave_it() {
        let check = Check { kind: page(), timeout: Duration::from_millis(800), ..Check::default() };
        let latencies = LatencyHistory::default();
        for (own, expected) in [(None, 800), (Some(Duration::from_millis(300)), 300)] {
            let settings = BurstSettings::default();
            let patience = |asked| latencies.patience(subscriber(), &check, asked, own, &settings);
            assert_eq!(patience(&check.kind).burst.as_millis(), expected, "from the first probe on");
            assert_eq!(patience(&CheckKind::Connect).probe, settings.timeout, "its kernel has less");
        }
    }

    /// No suspicion comes before the stall, so that a burst begins with it at the earliest.
    #[test]
    fn the_bursts_of_a_fast_host_outlast_a_stall_of_100_ms() {
        let check = Check::default();
        let mut latencies = LatencyHistory::default();
        let latency = Duration::from_micros(200);
        for _ in 0..REMEMBERED {
            latencies.note(subscriber(), &Success { latency, connect: Some(latency), weight: None }, true);
        }
        let settings = BurstSettings::default();
        let patience = latencies.patience(subscriber(), &check, &CheckKind::Connect, None, &settings);
        assert_eq!((patience.usual, patience.probe), (LATE_LEAST, CONNECT_LEAST));
        for count in 1..=3 {
            let count = NonZeroU32::new(count).unwrap();
            let lasts = Rhythm::new(count, patience.usual, settings.gap, patience).lasts;
            assert_eq!(lasts, Duration::from_millis(120));
        }
    }

    #[test]
    fn an_answer_is_late_after_twice_what_nearly_all_took() {
        let late_of = |ms: u64| late(Some((Duration::from_millis(ms), REMEMBERED))).as_millis();
        assert_eq!((late_of(1), late_of(30), late_of(400)), (10, 60, 100));
        assert_eq!(late(None), LATE_MOST);
    }
}
