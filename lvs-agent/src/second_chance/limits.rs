//! How many SYNs are sent again: a cap a second, and none in a flood. Pure.

use std::collections::HashMap;

use crate::{model::DestinationKey, passive::KeptBrief};

/// SYNs that are sent again for one destination within a second: as many as a server of 5,000 new connections a second
/// has open when it has been silent for 100 ms.
pub(super) const PER_DESTINATION: u32 = 500;
/// The same for all destinations: four such servers at once.
pub(super) const IN_ALL: u32 = 2_000;

/// Handshakes with living servers that are so old should be completed, however far away the client is; in ns.
const GROWN: u64 = 300_000_000;
/// Younger ones than that are looked at; in ns.
const YOUNG: u64 = 1_300_000_000;
/// So many of them make a flood, if most clients never complete them.
const MANY: usize = 200;

const SECOND: u64 = 1_000_000_000;

/// What may still be sent again within a second.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    since_ns: u64,
    total: u32,
    destinations: HashMap<DestinationKey, u32>,
}

impl Allowance {
    /// Takes one for a destination; `false`: the cap is reached.
    pub(super) fn take(&mut self, destination: &DestinationKey, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.since_ns) >= SECOND {
            *self = Self { since_ns: now_ns, ..Self::default() };
        }
        let taken = self.destinations.entry(*destination).or_default();
        if *taken >= PER_DESTINATION || self.total >= IN_ALL {
            return false;
        }
        *taken += 1;
        self.total += 1;
        true
    }
}

/// Tells a flood by what clients make of living servers' answers: those of a flood with forged addresses never complete
/// a handshake.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FloodGauge {
    begun: usize,
    completed: usize,
}

impl FloodGauge {
    /// Takes in one SYN to a server that is not out.
    pub(super) fn add(&mut self, brief: &KeptBrief, now_ns: u64) {
        let age = now_ns.saturating_sub(brief.since_ns);
        if (GROWN..YOUNG).contains(&age) {
            self.begun += 1;
            self.completed += usize::from(brief.is_ended);
        }
    }

    /// Whether most of many handshakes were never completed.
    pub(super) fn is_flood(self) -> bool {
        self.begun >= MANY && self.completed * 2 < self.begun
    }
}

#[cfg(test)]
mod tests {
    use lvs_common::KeptSyn;

    use super::*;
    use crate::second_chance::testing::kept;

    fn destination(port: u16) -> DestinationKey {
        let address = format!("192.0.2.1:{port}").parse().unwrap();
        let service = crate::model::ServiceKey::Address { protocol: crate::model::Protocol::Tcp, address };
        DestinationKey { service, server: "10.0.0.1:80".parse().unwrap() }
    }

    #[test]
    fn caps_hold_within_a_second() {
        let mut allowance = Allowance::default();
        let mut take = |ports: std::ops::Range<u16>, each: u32, now_ns| {
            let all = ports.flat_map(|port| (0..each).map(move |_| port));
            all.filter(|port| allowance.take(&destination(*port), now_ns)).count()
        };
        assert_eq!(take(1..2, 10_000, 5 * SECOND), PER_DESTINATION as usize);
        assert_eq!(take(2..20, 10_000, 5 * SECOND + 1), (IN_ALL - PER_DESTINATION) as usize);
        assert_eq!(take(1..2, 1, 6 * SECOND), 1, "another second");
    }

    #[test]
    fn a_flood_is_what_nobody_completes() {
        let now = 10 * SECOND;
        let gauge = |begun: usize, completed: usize, age: u64| {
            let mut gauge = FloodGauge::default();
            for number in 0..begun {
                let ended_ns = u64::from(number < completed);
                let since_ns = now - age;
                let kept = KeptSyn { since_ns, ended_ns, ..kept("198.51.100.7:1", "10.0.0.1:80") };
                gauge.add(&KeptBrief::of(&kept), now);
            }
            gauge.is_flood()
        };
        assert!(gauge(1000, 100, GROWN));
        assert!(!gauge(1000, 990, GROWN), "clients complete them");
        assert!(!gauge(100, 0, GROWN), "few");
        assert!(!gauge(1000, 0, GROWN / 2), "too young to tell");
    }
}
