//! Siblings as witnesses: a client network that they have answered since a server's clients began to fail is fine, and
//! so is its way here.

use std::time::Duration;

use lvs_common::{ServerAnswered, ServerId, Sketch};

use super::groups::{Group, Spread};
use crate::passive::detector::{Layer, Readings};

/// What siblings answered within this time from when a server fell silent proves nothing of its clients: their way may
/// have broken since. Longer than clients wait before they send a SYN again twice (1 s and 3 s, RFC 6298).
const SETTLED: Duration = Duration::from_secs(5);
/// What they answered longer ago is old. Within this time the short form of a time can be compared.
const LATEST: Duration = Duration::from_hours(24);

/// What a sibling must have answered to be a witness.
#[derive(Clone, Copy, Debug)]
pub(super) struct Witnesses {
    /// Whose clients fail.
    of: ServerId,
    layer: Layer,
    /// Not before.
    from_ns: u64,
}

impl Witnesses {
    /// The witnesses of clients that have failed since `since_ns`.
    pub(super) fn since(of: ServerId, layer: Layer, since_ns: u64, now_ns: u64) -> Self {
        let settled = since_ns.saturating_add(nanos(SETTLED));
        Self { of, layer, from_ns: settled.max(now_ns.saturating_sub(nanos(LATEST))) }
    }
}

impl Group {
    /// Whether siblings have answered each of these networks, of which there must be some.
    pub(super) fn has_answered(
        &self,
        witnesses: Witnesses,
        networks: Sketch,
        readings: &impl Readings,
    ) -> bool {
        if self.spread == Spread::Pinned || networks == Sketch::NONE {
            return false;
        }
        let Witnesses { of, layer, from_ns } = witnesses;
        let is_fine = |network| {
            let mut siblings = self.compared(of);
            siblings.any(|one| answered_after(readings, one, layer, network, from_ns))
        };
        (0..=u8::MAX).filter(|network| networks.has(*network)).all(is_fine)
    }
}

/// Whether a layer of a server has answered a network after that.
pub(super) fn answered_after(
    readings: &impl Readings,
    id: ServerId,
    layer: Layer,
    network: u8,
    ns: u64,
) -> bool {
    ServerAnswered::is_after(readings.answered(id, layer, network), ns)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
