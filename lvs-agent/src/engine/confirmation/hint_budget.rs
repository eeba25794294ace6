//! How often hints may ask. Pure: the time is an argument.
//!
//! Hints are cheap to bring about, by misfortune and by forged packets, so they have a budget of their own, counted in
//! packets that the director sends. Four bounds:
//!
//! - **Each kind of evidence** against a layer of a server: after a hint that was refuted the next one waits for a
//!   second, and twice as long each time; each half minute without one is one doubling less, so that it comes to two a
//!   minute in the long run. So what
//!   forged SYNs are made to look like doesn't mute what an idle connection shows.
//! - **Each real server**, whatever its services and layers: [`SERVER_RATE`] packets a second. With an HTTP check each
//!   second (SYN, ACK, request, ACK, RST) that makes 6, with a connection each second (SYN, RST) 3.
//! - **All servers together**: `hint-rate` a second. The first half of it is anybody's.
//! - **Each service, and each client network** whose connections are the reason: once that half is used, its share.
//!
//! Attackers choose whose address they forge, and whom they send to, but not who was left in peace. So of the second
//! half, and of its service's share of that, the more is a hint's the higher its [`Priority`]: whether its server was
//! asked because of a hint lately, and whether its client network has used its share. One network alone, whatever
//! servers it plays with, leaves an eighth of all to the hints of others; and whoever is forged, servers that are asked
//! again and again leave a quarter to those that are not. All of that is counted in places that are there from the
//! beginning, or go with the servers and services of the configuration.

use std::{
    mem::{self, Discriminant},
    net::SocketAddr,
    time::{Duration, Instant},
};

use lvs_common::{ServerId, Sketch};

use crate::{
    backoff::Backoff,
    keyed::KeyMap,
    model::{BurstSettings, CheckKind, ServiceKey},
    passive::{Evidence, Hint, HintSource, Layer},
};

/// Packets a second to one real server, for hints alone.
const SERVER_RATE: f64 = 1.0;
/// Packets that one real server may be sent at once after a calm time: a page, or three connections.
const SERVER_MOST: f64 = 6.0;
/// The part of all that one service has for itself, an eighth.
const SHARE: f64 = 0.125;
/// The same of one client network, or of all hints that connections of several networks are the reason for: less, so
/// that no network uses up the share of a service.
const SOURCE_SHARE: f64 = 0.031_25;
/// The part of all that is anybody's.
const ANYBODYS: f64 = 0.5;
/// A server that no hint has asked for so long is rested. As long as the longest pause after refuted hints: who is
/// played with can't be so much longer than that.
const RESTED: Duration = Duration::from_secs(32);
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
    /// The client network has used its share.
    #[error("the client network's share of the probes for hints is used up")]
    Source,
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
    servers: KeyMap<SocketAddr, ServerAllowance>,
    services: KeyMap<ServiceKey, Allowance>,
    sources: Sources,
    total: Allowance,
}

/// What one real server may be sent.
#[derive(Clone, Copy, Debug, Default)]
struct ServerAllowance {
    packets: Allowance,
    /// The last hint that was followed.
    asked: Option<Instant>,
}

impl ServerAllowance {
    fn is_rested(&self, now: Instant) -> bool {
        self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= RESTED)
    }
}

/// What client networks have used of their shares.
#[derive(Debug)]
struct Sources {
    /// By the networks' bit numbers.
    networks: Box<[Allowance; Sketch::BITS]>,
    /// Hints of several networks' connections.
    several: Allowance,
}

impl Sources {
    fn of(&mut self, source: HintSource) -> &mut Allowance {
        match source {
            HintSource::Network(network) => &mut self.networks[usize::from(network)],
            HintSource::Several => &mut self.several,
        }
    }
}

/// What a hint may use of the budget beyond the part that is [`ANYBODYS`].
#[derive(Clone, Copy, Debug)]
struct Priority {
    /// Its server was not asked because of a hint lately.
    is_rested: bool,
    /// Its client network has not used its share. So has no network that it isn't about.
    is_within_share: bool,
}

impl Priority {
    /// The part of all, and of its service's share, that may be used when it is followed.
    fn part(self) -> f64 {
        match (self.is_rested, self.is_within_share) {
            (true, true) => 1.0,
            (true, false) => 0.875,
            (false, true) => 0.75,
            (false, false) => ANYBODYS,
        }
    }
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

    /// Takes one, where no more than `most` counts: what was taken beyond it is not to be made up for.
    fn take_up_to(&mut self, most: f64, rate: f64, now: Instant) {
        let used = self.used(rate, now);
        self.used = Some((used.max((used + 1.0).min(most)), now));
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
            sources: Sources {
                networks: Box::new([Allowance::default(); Sketch::BITS]),
                several: Allowance::default(),
            },
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
        if server.packets.used(SERVER_RATE, now) + packets.min(SERVER_MOST) > SERVER_MOST {
            return Err(Exhausted::Server);
        }
        let at_least_one = |hints: f64| hints.max(1.0);
        let (rate, service) = (self.rate, self.services.entry(of.service).or_default());
        let (share, source_share) = (at_least_one(rate * SHARE), at_least_one(rate * SOURCE_SHARE));
        let source = hint.source.map(|source| self.sources.of(source));
        let has_left = |allowance: &Allowance| allowance.used(source_share, now) + 1.0 <= source_share;
        let is_within_share = source.as_deref().is_none_or(has_left);
        let part = Priority { is_rested: server.is_rested(now), is_within_share }.part();
        let used = self.total.used(rate, now) + 1.0;
        let of_service = at_least_one(share * part);
        if used > rate {
            return Err(Exhausted::Total);
        }
        if used > at_least_one(rate * ANYBODYS) {
            if service.used(share, now) + 1.0 > of_service {
                return Err(Exhausted::Service);
            }
            if used > rate * part {
                return Err(if is_within_share { Exhausted::Total } else { Exhausted::Source });
            }
        }
        server.packets.take(packets, SERVER_RATE, now);
        server.asked = Some(now);
        service.take_up_to(of_service, share, now);
        if let Some(source) = source {
            source.take_up_to(source_share, source_share, now);
        }
        self.total.take(1.0, rate, now);
        Ok(())
    }

    /// A hint was refuted, after so many more packets than it was to take.
    pub(super) fn refuted(&mut self, hint: &Hint, of: Option<Doubted>, more: u32, now: Instant) {
        let before = self.kinds.get(&kind(hint)).map_or(0, |refuted| refuted.remembered(now));
        let times = before.saturating_add(1).min(MOST_REFUTED + 1);
        self.kinds.insert(kind(hint), Refuted { times, last: now });
        if let Some(server) = of.and_then(|of| self.servers.get_mut(&of.server)) {
            server.packets.take(more.into(), SERVER_RATE, now);
        }
    }

    /// Forgets what is as good as new. Worth calling now and then where servers come and go.
    pub(super) fn forget_full(&mut self, now: Instant) {
        let share = (self.rate * SHARE).max(1.0);
        self.kinds.retain(|_, refuted| refuted.remembered(now) > 0);
        self.servers
            .retain(|_, server| !server.is_rested(now) || server.packets.used(SERVER_RATE, now) > 0.0);
        self.services.retain(|_, allowance| allowance.used(share, now) > 0.0);
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
mod tests;
