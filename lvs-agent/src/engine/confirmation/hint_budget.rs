//! How often hints may ask. Pure: the time is an argument.
//!
//! Hints are cheap to bring about, by misfortune and by forged packets, so they have a budget of their own, counted in
//! packets that the director sends. Three bounds:
//!
//! - **Each kind of evidence** against a layer of a server: after a hint that was refuted the next one waits for a
//!   second, and twice as long each time; each half minute without one is one doubling less, so that it comes to two a
//!   minute in the long run. So what
//!   forged SYNs are made to look like doesn't mute what an idle connection shows.
//! - **Each real server**, whatever its services and layers: [`SERVER_RATE`] packets a second. With an HTTP check each
//!   second (SYN, ACK, request, ACK, RST) that makes 6, with a connection each second (SYN, RST) 3.
//! - **All servers together**: `hint-rate` a second. Once half of the second's are used, each service has only its
//!   [`SHARE`] of them: spoofed traffic to one service leaves the others theirs.

use std::{
    mem::{self, Discriminant},
    net::SocketAddr,
    time::{Duration, Instant},
};

use lvs_common::ServerId;

use crate::{
    backoff::Backoff,
    keyed::KeyMap,
    model::{BurstSettings, CheckKind, ServiceKey},
    passive::{Evidence, Hint, Layer},
};

/// Packets a second to one real server, for hints alone.
const SERVER_RATE: f64 = 1.0;
/// Packets that one real server may be sent at once after a calm time: a page, or three connections.
const SERVER_MOST: f64 = 6.0;
/// The part of all that one service has for itself, an eighth.
const SHARE: f64 = 0.125;
/// The pauses after hints that were refuted.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(32));
/// A calm that makes up for one refuted hint.
const FORGIVEN_AFTER: Duration = Duration::from_secs(30);
/// More refuted hints in a row than this change nothing any more.
const MOST_REFUTED: u32 = 6;

/// Why a hint is not followed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exhausted {
    /// Such hints at this server were refuted lately.
    #[error("such a hint was refuted lately")]
    Refuted,
    /// This server was sent enough.
    #[error("the server's budget of probes for hints is used up")]
    Server,
    /// This service has used its share.
    #[error("the service's share of the probes for hints is used up")]
    Service,
    /// All servers together were.
    #[error("the budget of probes for hints is used up")]
    Total,
}

/// What speaks against what.
type Kind = (ServerId, Layer, Discriminant<Evidence>);

/// Whom a hint is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubted {
    pub(super) server: SocketAddr,
    pub(super) service: ServiceKey,
}

/// What hints may still cost.
#[derive(Debug)]
pub(super) struct HintBudget {
    /// Hints a second in all.
    rate: f64,
    kinds: KeyMap<Kind, Refuted>,
    servers: KeyMap<SocketAddr, Allowance>,
    services: KeyMap<ServiceKey, Allowance>,
    total: Allowance,
}

/// How often hints of one kind were refuted lately.
#[derive(Clone, Copy, Debug)]
struct Refuted {
    times: u32,
    last: Instant,
}

impl Refuted {
    /// Those that are not forgiven yet.
    fn remembered(&self, now: Instant) -> u32 {
        let calm = now.saturating_duration_since(self.last).as_secs() / FORGIVEN_AFTER.as_secs();
        self.times.saturating_sub(u32::try_from(calm).unwrap_or(u32::MAX))
    }

    fn is_pausing(&self, now: Instant) -> bool {
        let times = self.remembered(now).checked_sub(1);
        times.is_some_and(|times| now.saturating_duration_since(self.last) < PAUSES.delay(times))
    }
}

/// What is left of something that comes back with time.
#[derive(Clone, Copy, Debug, Default)]
struct Allowance {
    /// `None`: it was never used.
    used: Option<(f64, Instant)>,
}

impl Allowance {
    /// What is used of it, where so much comes back each second.
    fn used(&self, rate: f64, now: Instant) -> f64 {
        let left = |(used, at): (f64, Instant)| used - rate * now.saturating_duration_since(at).as_secs_f64();
        self.used.map_or(0.0, |used| left(used).max(0.0))
    }

    fn take(&mut self, amount: f64, rate: f64, now: Instant) {
        self.used = Some((self.used(rate, now) + amount, now));
    }
}

impl HintBudget {
    /// A full budget.
    pub(super) fn new(settings: &BurstSettings) -> Self {
        Self {
            rate: settings.hint_rate.get().into(),
            kinds: KeyMap::default(),
            servers: KeyMap::default(),
            services: KeyMap::default(),
            total: Allowance::default(),
        }
    }

    /// Takes what a hint costs whose probes take so many packets, or nothing of it.
    pub(super) fn take(
        &mut self,
        hint: &Hint,
        of: Doubted,
        packets: u32,
        now: Instant,
    ) -> Result<(), Exhausted> {
        if self.kinds.get(&kind(hint)).is_some_and(|refuted| refuted.is_pausing(now)) {
            return Err(Exhausted::Refuted);
        }
        let packets = f64::from(packets);
        let server = self.servers.entry(of.server).or_default();
        if server.used(SERVER_RATE, now) + packets.min(SERVER_MOST) > SERVER_MOST {
            return Err(Exhausted::Server);
        }
        let used = self.total.used(self.rate, now) + 1.0;
        if used > self.rate {
            return Err(Exhausted::Total);
        }
        let (share, service) = ((self.rate * SHARE).max(1.0), self.services.entry(of.service).or_default());
        if used * 2.0 > self.rate && service.used(share, now) + 1.0 > share {
            return Err(Exhausted::Service);
        }
        server.take(packets, SERVER_RATE, now);
        service.take(1.0, share, now);
        self.total.take(1.0, self.rate, now);
        Ok(())
    }

    /// A hint was refuted, after so many more packets than it was to take.
    pub(super) fn refuted(&mut self, hint: &Hint, of: Option<Doubted>, more: u32, now: Instant) {
        let before = self.kinds.get(&kind(hint)).map_or(0, |refuted| refuted.remembered(now));
        let times = before.saturating_add(1).min(MOST_REFUTED + 1);
        self.kinds.insert(kind(hint), Refuted { times, last: now });
        if let Some(server) = of.and_then(|of| self.servers.get_mut(&of.server)) {
            server.take(more.into(), SERVER_RATE, now);
        }
    }

    /// Forgets what is as good as new. Worth calling now and then where servers come and go.
    pub(super) fn forget_full(&mut self, now: Instant) {
        let rate = self.rate * SHARE;
        self.kinds.retain(|_, refuted| refuted.remembered(now) > 0);
        self.servers.retain(|_, allowance| allowance.used(SERVER_RATE, now) > 0.0);
        self.services.retain(|_, allowance| allowance.used(rate, now) > 0.0);
    }
}

fn kind(hint: &Hint) -> Kind {
    (hint.id, hint.layer, mem::discriminant(&hint.evidence))
}

/// How many packets the director sends for a probe that is answered. A connection is a SYN and a RST
/// (`probe/connect.rs`), a page SYN, ACK, request, ACK and RST; other protocols over TCP have a further exchange or
/// two.
pub(super) fn packets(question: &CheckKind) -> u32 {
    match question {
        CheckKind::Ping | CheckKind::Udp(_) => 1,
        CheckKind::Connect => 2,
        CheckKind::On | CheckKind::Off | CheckKind::File(_) => 0,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn hint(server: u32, evidence: Evidence) -> Hint {
        Hint { id: ServerId(server), layer: Layer::Host, evidence }
    }

    fn neighbour(server: u32) -> Hint {
        hint(server, Evidence::NeighbourFailed)
    }

    fn doubted(server: u32, service: u16) -> Doubted {
        let [_, a, b, c] = server.to_be_bytes();
        let address = ([192, 0, 2, 1], service).into();
        let service = ServiceKey::Address { protocol: crate::model::Protocol::Tcp, address };
        Doubted { server: ([10, a, b, c], 80).into(), service }
    }

    fn budget(rate: u32) -> HintBudget {
        HintBudget::new(&BurstSettings { hint_rate: rate.try_into().unwrap(), ..BurstSettings::default() })
    }

    /// When hints are followed that come all the time and are all refuted.
    fn followed(budget: &mut HintBudget, start: Instant, seconds: u32, packets: u32) -> Vec<Duration> {
        let mut followed = Vec::new();
        for tick in 0..seconds * 10 {
            let at = tick * SECOND / 10;
            if budget.take(&neighbour(1), doubted(1, 80), packets, start + at).is_ok() {
                budget.refuted(&neighbour(1), Some(doubted(1, 80)), 0, start + at);
                followed.push(at);
            }
        }
        followed
    }

    #[test]
    fn hints_that_are_refuted_are_followed_ever_more_rarely() {
        let (mut budget, start) = (budget(100), Instant::now());
        let seconds: Vec<_> = followed(&mut budget, start, 300, 2).iter().map(Duration::as_secs).collect();
        assert_eq!(seconds[..7], [0, 1, 3, 7, 15, 31, 61], "{seconds:?}");
        assert!(seconds.len() <= 16, "{seconds:?}");
        // After a calm it is as at the beginning.
        let later = start + 300 * SECOND + 7 * FORGIVEN_AFTER;
        let seconds: Vec<_> = followed(&mut budget, later, 8, 2).iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [0, 1, 3, 7]);
    }

    #[test]
    fn one_kind_of_evidence_does_not_mute_another() {
        let (mut budget, now) = (budget(100), Instant::now());
        budget.refuted(&neighbour(1), None, 0, now);
        assert_eq!(budget.take(&neighbour(1), doubted(1, 80), 2, now), Err(Exhausted::Refuted));
        let other = hint(1, Evidence::Unreachable { messages: 1 });
        assert_eq!(budget.take(&other, doubted(1, 80), 2, now), Ok(()));
        assert_eq!(budget.take(&neighbour(2), doubted(2, 80), 2, now), Ok(()), "nor another server");
    }

    #[test]
    fn what_a_refuted_hint_took_beyond_its_probe_is_paid_for() {
        let (mut budget, now) = (budget(100), Instant::now());
        budget.take(&neighbour(1), doubted(1, 80), 2, now).unwrap();
        budget.refuted(&neighbour(1), Some(doubted(1, 80)), 5, now);
        let other = hint(1, Evidence::Unreachable { messages: 1 });
        assert_eq!(budget.take(&other, doubted(1, 80), 2, now + 2 * SECOND), Err(Exhausted::Server));
        assert_eq!(budget.take(&other, doubted(1, 80), 2, now + 3 * SECOND), Ok(()));
    }

    #[test]
    fn a_service_under_attack_leaves_the_others_their_share() {
        let (mut budget, now) = (budget(80), Instant::now());
        let attacked = |budget: &mut HintBudget, server| {
            budget.take(&neighbour(server), doubted(server, 1), 2, now).is_ok()
        };
        let given = (0..1000).filter(|server| attacked(&mut budget, *server)).count();
        assert_eq!(given, 40, "half of all, while nobody else wants any");
        for service in 2..6 {
            let mut take = |server| budget.take(&neighbour(server), doubted(server, service), 2, now).is_ok();
            let given = (0..10).filter(|server| take(1000 + 10 * u32::from(service) + server)).count();
            assert_eq!(given, 10, "an eighth each");
        }
        assert_eq!(budget.take(&neighbour(9000), doubted(9000, 7), 2, now), Err(Exhausted::Total));
    }

    proptest! {
        /// Whatever hints come, refuted or not: within any ten seconds a server is sent a packet a second and what it
        /// may be sent at once, and all servers are asked no more often than the rate and one second's worth.
        #[test]
        fn never_more_than_the_rates(
            rate in 1_u32..20,
            hints in proptest::collection::vec((0_u32..4, 0_u32..3, 1_u32..6, any::<bool>(), 0_u64..400), 1..300),
        ) {
            let start = Instant::now();
            let (mut budget, mut now) = (budget(rate), start);
            let mut sent: Vec<(u32, u32, Instant)> = Vec::new();
            for (server, evidence, packets, is_refuted, wait) in hints {
                now += Duration::from_millis(wait);
                let evidence = match evidence {
                    0 => Evidence::NeighbourFailed,
                    1 => Evidence::Unreachable { messages: 1 },
                    _ => Evidence::Refused { refusals: 1, within: Duration::ZERO },
                };
                let hint = hint(server, evidence);
                if budget.take(&hint, doubted(server, 80), packets, now).is_ok() {
                    sent.push((server, packets, now));
                    if is_refuted {
                        budget.refuted(&hint, Some(doubted(server, 80)), 0, now);
                    }
                }
            }
            for (first, (server, _, from)) in sent.iter().enumerate() {
                let (mut own, mut all) = (0.0, 0.0);
                for (other, packets, at) in &sent[first..] {
                    let seconds = (*at - *from).as_secs_f64();
                    all += 1.0;
                    if other == server {
                        own += f64::from(*packets);
                    }
                    prop_assert!(own <= SERVER_MOST + SERVER_RATE * seconds + 1e-6, "{own} packets in {seconds} s");
                    prop_assert!(all <= f64::from(rate) * (1.0 + seconds) + 1e-6, "{all} hints in {seconds} s");
                }
            }
        }
    }
}
