//! What is decided about each kept SYN: sent again, refused after all, or left alone. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lvs_common::{KeptSyn, ServerId};

use super::{
    failover::{Cause, Failover, Outcome},
    limits::{Allowance, FloodGauge},
    servers::{News, Servers},
    ways::{To, Way},
};
use crate::{event::GivenUp, model::DestinationKey, passive::KeptBrief};

/// A SYN that is older is left to its client, which has tried again itself by then; in ns.
const OLD: u64 = 3_000_000_000;
/// How long a RST is held back at most, in ns: half of what the client's own retry takes.
const HELD: u64 = 500_000_000;
/// How often it is looked at what is held back, in ns.
const HELD_LOOK: u64 = 25_000_000;
/// So long after the last RST that was held back nothing can be left, in ns.
const HELD_LAST: u64 = HELD + 500_000_000;
/// How often it is looked whether a flood goes on, in ns.
const FLOOD_LOOK: u64 = 1_000_000_000;

/// The kept SYNs, as they are now.
pub(super) trait KeptTable {
    /// Calls `f` with the main things of each that was stored since then, and its place.
    fn each(&self, since_ns: u64, f: &mut dyn FnMut(usize, &KeptBrief));
    /// The one in a place.
    fn get(&self, place: usize) -> Option<KeptSyn>;
    /// Whether it was announced that it is sent again, and the programs haven't seen it since.
    fn is_announced(&self, place: usize) -> bool;
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Send it again, to there.
    Retry { place: usize, kept: KeptSyn, to: To, destination: DestinationKey },
    /// Send its client the RST that was held back.
    Refuse { kept: KeptSyn },
}

/// What is known, and what is under way.
#[derive(Debug, Default)]
pub(super) struct Book {
    ways: BTreeMap<ServerId, Way>,
    /// Which of them lead to a destination.
    ids: HashMap<DestinationKey, Vec<ServerId>>,
    /// Whether IPVS has conntrack entries, which cost the first attempt.
    conntrack: bool,
    servers: Servers,
    /// The servers that are dead and out in all of their services: looked up for every kept SYN.
    dead: BTreeSet<ServerId>,
    /// When servers were last shown to live.
    cleared: HashMap<DestinationKey, u64>,
    failovers: Vec<Failover>,
    allowance: Allowance,
    /// When a RST was last known to be held back.
    held_ns: Option<u64>,
    held_look: u64,
    /// When there was last seen to be a flood.
    flood_ns: Option<u64>,
}

impl Book {
    /// Takes new ways.
    pub(super) fn set_ways(&mut self, ways: BTreeMap<ServerId, Way>, conntrack: bool) {
        self.ids = HashMap::new();
        for (id, way) in &ways {
            way.destinations().for_each(|key| self.ids.entry(*key).or_default().push(*id));
        }
        self.dead = ways
            .iter()
            .filter(|(_, way)| self.servers.are_dead(way.destinations()))
            .map(|(id, _)| *id)
            .collect();
        self.ways = ways;
        self.conntrack = conntrack;
    }

    /// Takes news in.
    pub(super) fn take(&mut self, news: &News, now_ns: u64) {
        if let News::Cleared(keys) = news {
            let known = keys.iter().filter(|key| self.ids.contains_key(key));
            self.cleared.extend(known.map(|key| (*key, now_ns)));
            self.held_look = self.held_look.min(now_ns);
        }
        let has_died = self.servers.take(news);
        let Some(key) = news.destination() else { return };
        let ids = self.ids.get(&key).into_iter().flatten();
        for (id, way) in ids.clone().filter_map(|id| Some((id, self.ways.get(id)?))) {
            if self.servers.are_dead(way.destinations()) {
                self.dead.insert(*id);
            } else {
                self.dead.remove(id);
            }
        }
        let dead = ids.filter(|id| has_died && self.dead.contains(id)).find_map(|id| self.ways.get(id));
        if let Some(way) = dead {
            self.failovers.push(Failover::new(way.destination, Cause::Out, now_ns));
        }
    }

    /// Whether a server was shown to live since then, and is in.
    fn lives_since(&self, way: &Way, since_ns: u64) -> bool {
        let cleared = |destination| self.cleared.get(destination).is_some_and(|at| *at >= since_ns);
        way.destinations().any(cleared)
            && way.destinations().all(|destination| self.servers.is_in(destination))
    }

    /// RSTs were held back.
    pub(super) fn held(&mut self, now_ns: u64) {
        if self.held_ns.is_none() {
            self.held_look = now_ns;
        }
        self.held_ns = Some(now_ns);
    }

    /// Whether RSTs may be held back: not in a flood, where nothing would be sent for them.
    pub(super) fn may_hold_back(&self) -> bool {
        self.flood_ns.is_none()
    }

    /// When to look next, if there is anything to look for.
    pub(super) fn next_look(&self) -> Option<u64> {
        let failovers = self.failovers.iter().map(Failover::next_look);
        let held = self.held_ns.map(|_| self.held_look);
        let flood = self.flood_ns.map(|at| at + FLOOD_LOOK);
        failovers.chain(held).chain(flood).min()
    }

    /// Decides about all SYNs.
    pub(super) fn look(&mut self, table: &impl KeptTable, now_ns: u64) -> (Vec<Action>, Vec<Outcome>) {
        let mut actions = Vec::new();
        let is_search_due = self.is_search_due(now_ns);
        if is_search_due || self.flood_ns.is_some_and(|at| at + FLOOD_LOOK <= now_ns) {
            let (candidates, flood) = self.candidates(table, now_ns);
            self.flood_ns = flood.then_some(now_ns);
            for (place, kept) in candidates.into_iter().filter(|_| is_search_due) {
                actions.extend(self.decide(table, place, kept, flood, now_ns));
            }
        }
        if self.held_look <= now_ns {
            self.held_look = now_ns + HELD_LOOK;
            if self.held_ns.is_some_and(|held_ns| now_ns.saturating_sub(held_ns) > HELD_LAST) {
                self.held_ns = None;
                self.cleared.clear();
            }
        }
        let outcomes = self.follow(table, now_ns);
        (actions, outcomes)
    }

    /// Whether SYNs are to be searched for: that is much work, and not needed to follow the known ones.
    fn is_search_due(&self, now_ns: u64) -> bool {
        let searches = |failover: &Failover| failover.searches() && failover.next_look() <= now_ns;
        self.held_ns.is_some_and(|_| self.held_look <= now_ns) || self.failovers.iter().any(searches)
    }

    /// What became of all that were sent again.
    fn follow(&mut self, table: &impl KeptTable, now_ns: u64) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for failover in &mut self.failovers {
            if failover.next_look() <= now_ns {
                failover.looked();
            }
            failover.follow(|place| table.get(place), now_ns);
        }
        self.failovers.retain(|failover| {
            let outcome = failover.outcome();
            let is_over = outcome.is_some();
            outcomes.extend(outcome);
            !is_over
        });
        outcomes
    }

    /// A SYN could not be sent, for this reason.
    pub(super) fn not_sent(&mut self, destination: &DestinationKey, place: usize, reason: GivenUp) {
        let of = self.failovers.iter_mut().filter(|failover| failover.destination == *destination);
        of.for_each(|failover| failover.not_sent(place, reason));
    }

    /// The SYNs of open handshakes with dead servers, and those whose RST is held back; whether there is a flood.
    fn candidates(&self, table: &impl KeptTable, now_ns: u64) -> (Vec<(usize, KeptSyn)>, bool) {
        let mut candidates = Vec::new();
        let mut gauge = FloodGauge::default();
        table.each(now_ns.saturating_sub(OLD), &mut |place, brief| {
            if !self.ways.contains_key(&brief.server) {
                return;
            }
            let is_dead = self.dead.contains(&brief.server);
            if !is_dead {
                gauge.add(brief, now_ns);
            }
            if brief.is_open() && (is_dead || brief.held_ns != 0) {
                // It may have been answered since its main things were read.
                let kept = table.get(place).filter(|kept| KeptBrief::of(kept).is_open());
                candidates.extend(kept.map(|kept| (place, kept)));
            }
        });
        (candidates, gauge.is_flood())
    }

    fn decide(
        &mut self,
        table: &impl KeptTable,
        place: usize,
        kept: KeptSyn,
        flood: bool,
        now_ns: u64,
    ) -> Option<Action> {
        let way = self.ways.get(&kept.server)?;
        let (destination, to) = (way.destination, way.to);
        let is_held = kept.held_ns != 0;
        let refusal = is_held.then_some(Action::Refuse { kept });
        if is_held && (flood || now_ns.saturating_sub(kept.held_ns) >= HELD) {
            return refusal;
        }
        let cause = if self.dead.contains(&kept.server) {
            Cause::Out
        } else if is_held && self.lives_since(way, kept.held_ns) {
            Cause::Cleared
        } else {
            return None;
        };
        let conntrack = self.conntrack;
        let failover = self.failover(destination, cause, now_ns);
        if failover.is_fresh(place, &kept, now_ns) || (table.is_announced(place) && !conntrack) {
            return None;
        }
        if let Some(reason) = hindrance(&kept, flood, now_ns) {
            failover.give_up(place, &kept, reason);
            return refusal;
        }
        if !self.allowance.take(&destination, now_ns) {
            self.failover(destination, cause, now_ns).give_up(place, &kept, GivenUp::Cap);
            return refusal;
        }
        self.failover(destination, cause, now_ns).send(place, &kept, now_ns);
        Some(Action::Retry { place, kept, to, destination })
    }

    /// The failover of a destination that is under way.
    fn failover(&mut self, destination: DestinationKey, cause: Cause, now_ns: u64) -> &mut Failover {
        let is = |failover: &Failover| failover.destination == destination && failover.cause == cause;
        let index = self.failovers.iter().position(is).unwrap_or_else(|| {
            self.failovers.push(Failover::new(destination, cause, now_ns));
            self.failovers.len() - 1
        });
        &mut self.failovers[index]
    }
}

/// Why a SYN is not sent again.
fn hindrance(kept: &KeptSyn, flood: bool, now_ns: u64) -> Option<GivenUp> {
    if kept.device == 0 {
        Some(GivenUp::Local)
    } else if flood {
        Some(GivenUp::Flood)
    } else if kept.retries >= KeptSyn::RETRIES {
        Some(GivenUp::Repeated)
    } else {
        (now_ns.saturating_sub(kept.since_ns) > OLD).then_some(GivenUp::Old)
    }
}

#[cfg(test)]
mod tests;
