//! The hints of one layer of a server: which one is being probed, and what was refuted.
//!
//! Each hint that a probe has refuted makes the next one harder to get for an hour: first for the network whose clients
//! waited. A client network that waits in vain, or only pretends to, soon counts for nothing, and the others still do.

use std::{collections::VecDeque, time::Duration};

use lvs_common::LayerState;

use super::{finding::HintSource, time::nanos};
use crate::backoff::Backoff;

/// How many hints an hour may be refuted before a single connection that waits is no reason any more.
const ODD_AN_HOUR: u32 = 3;
/// How long a refuted hint is held against the next ones.
const HELD: Duration = Duration::from_hours(1);
/// How many refuted hints are remembered: as many as connections of one layer are, so that no number of connections is
/// a reason after so many within an hour.
const REMEMBERED: usize = 2 * LayerState::REMEMBERED;
/// The pause after a refuted hint, or one without an outcome, and the longest one: each further one doubles it.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The hints of one layer of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct HintHistory {
    /// The hint that is being probed: until when an outcome is waited for.
    pending: Option<(u64, HintSource)>,
    quiet_until_ns: u64,
    /// Whoever began to wait before counts no more.
    pub(super) cleared_ns: u64,
    /// How many in a row have come to no outcome: nobody may ask, or it is being asked already.
    unsettled: u32,
    /// How many were refuted in a row.
    in_a_row: u32,
    refuted: VecDeque<(u64, HintSource)>,
}

impl HintHistory {
    /// Whether one may be raised: none is being probed, and the last refuted one was a while ago.
    pub(super) fn may_be_raised(&self, now_ns: u64) -> bool {
        now_ns >= self.quiet_until_ns && self.pending.is_none_or(|(until_ns, _)| now_ns >= until_ns)
    }

    /// Notes a hint.
    pub(super) fn raise(&mut self, source: HintSource, now_ns: u64) {
        let patience = Backoff::new(PAUSE, LONGEST_PAUSE).delay(self.unsettled);
        self.pending = Some((now_ns.saturating_add(nanos(patience)), source));
        self.unsettled = self.unsettled.saturating_add(1);
    }

    /// A probe has been answered: if there was a hint, it is refuted.
    pub(super) fn refute(&mut self, now_ns: u64) {
        self.cleared_ns = now_ns;
        self.unsettled = 0;
        let Some((_, source)) = self.pending.take() else { return };
        if now_ns > self.quiet_until_ns.saturating_add(nanos(LONGEST_PAUSE)) {
            self.in_a_row = 0;
        }
        let pause = Backoff::new(PAUSE, LONGEST_PAUSE).delay(self.in_a_row);
        self.quiet_until_ns = now_ns.saturating_add(nanos(pause));
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.refuted.len() == REMEMBERED {
            self.refuted.pop_front();
        }
        self.refuted.push_back((now_ns, source));
    }

    /// Nobody has asked the server: not before a while.
    pub(super) fn not_probed(&mut self, now_ns: u64) {
        if self.pending.take().is_some() {
            self.quiet_until_ns = now_ns.saturating_add(nanos(PAUSE));
        }
    }

    /// The server is down or up again: what was before doesn't count.
    pub(super) fn restart(&mut self, now_ns: u64) {
        self.pending = None;
        self.cleared_ns = now_ns;
        self.quiet_until_ns = now_ns;
        self.in_a_row = 0;
        self.unsettled = 0;
    }

    fn held(&self, now_ns: u64) -> impl Iterator<Item = HintSource> + '_ {
        let from_ns = now_ns.saturating_sub(nanos(HELD));
        self.refuted.iter().filter(move |(at_ns, _)| *at_ns >= from_ns).map(|(_, source)| *source)
    }

    /// How many of a network's connections count for nothing: one for each hint that it was wrong about.
    pub(super) fn discount(&self, network: u8, now_ns: u64) -> u32 {
        count(self.held(now_ns).filter(|source| *source == HintSource::Network(network)))
    }

    /// How many connections more it takes, whose ever they are.
    pub(super) fn surcharge(&self, now_ns: u64) -> u32 {
        count(self.held(now_ns).filter(|source| *source == HintSource::Several))
    }

    /// Whether a single connection of this network may still be a reason: all that were refuted for this network count,
    /// and of those for any other one the first.
    pub(super) fn trusts(&self, network: u8, now_ns: u64) -> bool {
        let (mut others, mut refuted) = (Vec::new(), 0);
        for source in self.held(now_ns) {
            match source {
                HintSource::Network(other) if other != network => {
                    if others.contains(&other) {
                        continue;
                    }
                    others.push(other);
                }
                HintSource::Network(_) | HintSource::Several => {}
            }
            refuted += 1;
        }
        refuted < ODD_AN_HOUR
    }
}

fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
