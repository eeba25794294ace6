//! One server's SYNs that are sent again: how often it is looked, and what became of each. Pure.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use lvs_common::KeptSyn;

use crate::{event::GivenUp, model::DestinationKey};

/// When it is looked for SYNs again, in ms after the first time: some were under way still, and with IPVS's conntrack
/// the first attempt is lost while the old entry goes.
const LOOKS: [u64; 4] = [10, 30, 60, 100];
/// How long an outcome is waited for, in ms: a client that is far away may lose a packet.
const LAST: u64 = 2_000;
/// How often it is looked for it, in ms.
const PAUSE: u64 = 100;
/// At least so long after a SYN was sent again it may be sent once more, in ns.
const AGAIN: u64 = 8_000_000;

const MS: u64 = 1_000_000;

/// A SYN that was sent again.
#[derive(Clone, Copy, Debug)]
struct Sent {
    place: usize,
    client: [u32; 4],
    port: [u8; 2],
    sequence: u32,
    since_ns: u64,
    /// When it was last sent again.
    again_ns: u64,
}

impl Sent {
    fn of(place: usize, kept: &KeptSyn, again_ns: u64) -> Self {
        let port = [kept.tcp[0], kept.tcp[1]];
        Self { place, client: kept.client, port, sequence: kept.sequence, since_ns: kept.since_ns, again_ns }
    }

    fn is(&self, kept: &KeptSyn) -> bool {
        kept.client == self.client && kept.tcp[..2] == self.port && kept.sequence == self.sequence
    }
}

/// Why SYNs are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Their server is dead and out.
    Out,
    /// Their server lives, and its RSTs were held back.
    Cleared,
}

/// The SYNs of one destination that are sent again.
#[derive(Debug)]
pub(super) struct Failover {
    pub(super) destination: DestinationKey,
    pub(super) cause: Cause,
    begun_ns: u64,
    looks: usize,
    sent: Vec<Sent>,
    /// SYNs that were given up, by place and time: each is counted once.
    known: HashSet<(usize, u64)>,
    retried: usize,
    waits: Vec<Duration>,
    given_up: BTreeMap<GivenUp, usize>,
}

/// What became of the SYNs of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) destination: DestinationKey,
    pub(super) cause: Cause,
    pub(super) retried: usize,
    /// How long those clients have waited whose handshakes were completed, in all.
    pub(super) waits: Vec<Duration>,
    pub(super) given_up: BTreeMap<GivenUp, usize>,
}

impl Failover {
    pub(super) fn new(destination: DestinationKey, cause: Cause, now_ns: u64) -> Self {
        Self {
            destination,
            cause,
            begun_ns: now_ns,
            looks: 0,
            sent: Vec::new(),
            known: HashSet::new(),
            retried: 0,
            waits: Vec::new(),
            given_up: BTreeMap::new(),
        }
    }

    /// When it is to be looked next.
    pub(super) fn next_look(&self) -> u64 {
        let after = match self.looks {
            0 => 0,
            looks => LOOKS.get(looks - 1).copied().unwrap_or_else(|| {
                let further = u64::try_from(looks - LOOKS.len()).unwrap_or(u64::MAX);
                LOOKS[LOOKS.len() - 1] + PAUSE * further
            }),
        };
        self.begun_ns + after * MS
    }

    /// Whether its next look is for further SYNs, not only after those that were sent again.
    pub(super) fn searches(&self) -> bool {
        self.looks <= LOOKS.len()
    }

    pub(super) fn looked(&mut self) {
        self.looks += 1;
    }

    /// Whether a SYN was sent again so lately that its way may still be under way.
    pub(super) fn is_fresh(&self, place: usize, kept: &KeptSyn, now_ns: u64) -> bool {
        let found = self.sent.iter().find(|sent| sent.place == place && sent.is(kept));
        found.is_some_and(|sent| now_ns.saturating_sub(sent.again_ns) < AGAIN)
    }

    /// Notes that a SYN is sent again.
    pub(super) fn send(&mut self, place: usize, kept: &KeptSyn, now_ns: u64) {
        let known = self.sent.iter_mut().find(|sent| sent.place == place && sent.is(kept));
        if let Some(sent) = known {
            sent.again_ns = now_ns;
        } else {
            self.sent.push(Sent::of(place, kept, now_ns));
            self.retried += 1;
        }
    }

    /// Notes that a SYN could not be sent.
    pub(super) fn not_sent(&mut self, place: usize, reason: GivenUp) {
        let before = self.sent.len();
        self.sent.retain(|sent| sent.place != place);
        let lost = before - self.sent.len();
        if lost > 0 {
            self.retried -= lost;
            *self.given_up.entry(reason).or_default() += lost;
        }
    }

    /// Notes that a SYN is not sent again.
    pub(super) fn give_up(&mut self, place: usize, kept: &KeptSyn, reason: GivenUp) {
        if self.known.insert((place, kept.stored_ns)) {
            *self.given_up.entry(reason).or_default() += 1;
        }
    }

    /// Looks what became of those that were sent again.
    pub(super) fn follow(&mut self, get: impl Fn(usize) -> Option<KeptSyn>, now_ns: u64) {
        let is_late = now_ns.saturating_sub(self.begun_ns) >= LAST * MS;
        let mut open = Vec::new();
        for sent in std::mem::take(&mut self.sent) {
            let end = match get(sent.place) {
                Some(kept) if sent.is(&kept) => ended(&kept),
                // A younger SYN has the place.
                _ => Some(Err(GivenUp::Overwritten)),
            };
            match end {
                Some(Ok(ended_ns)) => {
                    self.waits.push(Duration::from_nanos(ended_ns.saturating_sub(sent.since_ns)));
                }
                Some(Err(reason)) => *self.given_up.entry(reason).or_default() += 1,
                None if is_late => *self.given_up.entry(GivenUp::Unanswered).or_default() += 1,
                None => open.push(sent),
            }
        }
        self.sent = open;
    }

    /// What became of all of them, once that is known of each and no other can come.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        (self.looks > LOOKS.len() && self.sent.is_empty()).then(|| Outcome {
            destination: self.destination,
            cause: self.cause,
            retried: self.retried,
            waits: self.waits.clone(),
            given_up: self.given_up.clone(),
        })
    }
}

/// How a handshake has ended: completed then, or not.
fn ended(kept: &KeptSyn) -> Option<Result<u64, GivenUp>> {
    if kept.ended_ns == 0 {
        return None;
    }
    Some(if kept.flags & KeptSyn::REFUSED != 0 {
        Err(GivenUp::Refused)
    } else if kept.flags & KeptSyn::RESET != 0 {
        Err(GivenUp::Reset)
    } else {
        Ok(kept.ended_ns)
    })
}
