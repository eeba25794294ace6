//! Whether the programs see what IPVS balances: what the kernel has counted, against what they have. Pure.
//!
//! A program of somebody else that ends the chain before them, or redirects packets, leaves them attached and blind:
//! nothing is seen, and that looks like calm. IPVS counts by itself, so that the two are held against each other, by
//! device and direction.

use std::{collections::BTreeMap, fmt, hash::Hash};

use lvs_common::ServerId;

use crate::model::DestinationKey;

/// Packets between two looks that a comparison needs: fewer may be under way, or still uncounted by the kernel.
const ENOUGH: u64 = 50;
/// Blind is who sees less than this part of what the kernel balances, …
const BLIND: u64 = 10;
/// … and sees again who sees this part. The programs count segments, of which the kernel may count several as one.
const SEES: u64 = 2;
/// Looks in a row that must agree.
const LOOKS: u32 = 2;

/// A direction of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Out of the director, to servers.
    Out,
    /// Into the director, from masqueraded servers.
    In,
}

impl Way {
    /// Both, in the order in which they are listed everywhere.
    pub const ALL: [Self; 2] = [Self::Out, Self::In];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Out => "egress",
            Self::In => "ingress",
        })
    }
}

/// Packets that were counted since any time: to a server, and from it, where these pass the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packets {
    /// To the server.
    pub out: u64,
    /// From it; `None`: they don't pass.
    pub into: Option<u64>,
}

/// What was counted at one time, with the device that leads to each server.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// By IPVS.
    pub kernel: BTreeMap<DestinationKey, (String, Packets)>,
    /// By the programs.
    pub seen: BTreeMap<ServerId, (String, Packets)>,
}

/// What was counted on a device in one direction between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// By IPVS.
    pub kernel: u64,
    /// By the programs.
    pub seen: u64,
}

/// A change, once for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindnessChange {
    /// Where.
    pub device: String,
    /// In which direction.
    pub way: Way,
    /// Whether the programs are blind there from now on.
    pub is_blind: bool,
    /// What shows it.
    pub counted: Counted,
}

/// Which devices the programs are blind on.
#[derive(Clone, Debug, Default)]
pub struct Blindness {
    last: Option<Look>,
    places: BTreeMap<(String, Way), Place>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    is_blind: bool,
    /// Looks in a row that say otherwise.
    otherwise: u32,
    counted: Counted,
}

impl Blindness {
    /// Compares what was counted since the last look.
    pub fn compare(&mut self, look: Look) -> Vec<BlindnessChange> {
        let Some(last) = self.last.replace(look) else { return Vec::new() };
        let Some(now) = &self.last else { return Vec::new() };
        let mut counted: BTreeMap<(String, Way), Counted> = BTreeMap::new();
        add(&last.kernel, &now.kernel, &mut counted, |counted| &mut counted.kernel);
        add(&last.seen, &now.seen, &mut counted, |counted| &mut counted.seen);
        // Where nothing leads any more there is nothing to be blind to.
        self.places.retain(|place, _| counted.contains_key(place));
        let changes = counted.into_iter().filter_map(|((device, way), counted)| {
            let place = self.places.entry((device.clone(), way)).or_default();
            place.take_in(counted).then_some(BlindnessChange {
                device,
                way,
                is_blind: place.is_blind,
                counted,
            })
        });
        changes.collect()
    }

    /// What shows that the programs are blind there; `None`: they are not, as far as is known.
    #[must_use]
    pub fn at(&self, device: &str, way: Way) -> Option<Counted> {
        let place = self.places.get(&(device.to_owned(), way))?;
        place.is_blind.then_some(place.counted)
    }
}

impl Place {
    /// Takes in what was counted; whether that changes anything.
    fn take_in(&mut self, counted: Counted) -> bool {
        let Counted { kernel, seen } = counted;
        if kernel < ENOUGH {
            return false;
        }
        let is_otherwise = if self.is_blind {
            seen.saturating_mul(SEES) >= kernel
        } else {
            seen.saturating_mul(BLIND) < kernel
        };
        self.otherwise = if is_otherwise { self.otherwise + 1 } else { 0 };
        if self.is_blind != is_otherwise {
            self.counted = counted;
        }
        if self.otherwise < LOOKS {
            return false;
        }
        *self = Self { is_blind: !self.is_blind, otherwise: 0, counted };
        true
    }
}

/// Adds the differences of those that are in both looks on the same device. Who was reset meanwhile is left out.
fn add<K: Ord + Hash>(
    last: &BTreeMap<K, (String, Packets)>,
    now: &BTreeMap<K, (String, Packets)>,
    counted: &mut BTreeMap<(String, Way), Counted>,
    which: impl Fn(&mut Counted) -> &mut u64,
) {
    for (key, (device, packets)) in now {
        let Some((_, before)) = last.get(key).filter(|(before, _)| before == device) else { continue };
        let ways = [(Way::Out, Some(packets.out), Some(before.out)), (Way::In, packets.into, before.into)];
        for (way, now, before) in ways {
            let (Some(now), Some(before)) = (now, before) else { continue };
            let sum = which(counted.entry((device.clone(), way)).or_default());
            *sum = sum.saturating_add(now.saturating_sub(before));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, ServiceKey};

    const ID: ServerId = ServerId(3);

    fn destination(port: u16) -> DestinationKey {
        let service = ServiceKey::Address { address: ([192, 0, 2, 1], 80).into(), protocol: Protocol::Tcp };
        DestinationKey { service, server: ([10, 0, 0, 1], port).into() }
    }

    /// Looks at one server whose packets were counted so.
    fn look(kernel: (u64, u64), seen: (u64, u64)) -> Look {
        let packets = |(out, into)| ("eth1".to_owned(), Packets { out, into: Some(into) });
        Look { kernel: [(destination(80), packets(kernel))].into(), seen: [(ID, packets(seen))].into() }
    }

    /// What IPVS and the programs count between two looks, each out and in.
    type Step = ((u64, u64), (u64, u64));

    /// The changes of a sequence of counts between two looks: IPVS's and the programs', out and in.
    fn changes(steps: &[Step]) -> Vec<Vec<(Way, bool)>> {
        let mut blindness = Blindness::default();
        let (mut kernel, mut seen) = ((1000, 1000), (7, 7));
        assert_eq!(blindness.compare(look(kernel, seen)), [], "one look says nothing");
        let step = |step: &Step| {
            kernel = (kernel.0 + step.0.0, kernel.1 + step.0.1);
            seen = (seen.0 + step.1.0, seen.1 + step.1.1);
            let changes = blindness.compare(look(kernel, seen));
            changes.into_iter().map(|change| (change.way, change.is_blind)).collect()
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn who_sees_nothing_of_what_ipvs_balances_is_blind_after_two_looks_and_once() {
        let none = || vec![];
        let (well, blind) = (((500, 500), (520, 480)), ((500, 500), (0, 0)));
        let cases = [
            ("well", vec![well, well, well], vec![none(), none(), none()]),
            ("calm", vec![((0, 0), (0, 0)); 3], vec![none(), none(), none()]),
            ("too little to say", vec![((49, 49), (0, 0)); 3], vec![none(), none(), none()]),
            ("one look", vec![blind, well, blind], vec![none(), none(), none()]),
            (
                "both ways",
                vec![blind, blind, blind],
                vec![none(), vec![(Way::Out, true), (Way::In, true)], none()],
            ),
            ("answers alone", vec![((500, 500), (500, 3)); 2], vec![none(), vec![(Way::In, true)]]),
            ("a tenth is seen", vec![((500, 500), (50, 50)); 2], vec![none(), none()]),
            (
                "and again",
                vec![blind, blind, ((500, 500), (200, 200)), well, well],
                vec![
                    none(),
                    vec![(Way::Out, true), (Way::In, true)],
                    none(),
                    none(),
                    vec![(Way::Out, false), (Way::In, false)],
                ],
            ),
            (
                "calm in between",
                vec![blind, ((0, 0), (0, 0)), blind],
                vec![none(), none(), vec![(Way::Out, true), (Way::In, true)]],
            ),
        ];
        for (name, steps, expected) in cases {
            assert_eq!(changes(&steps), expected, "{name}");
        }
    }

    #[test]
    fn counts_that_began_anew_and_servers_that_are_new_say_nothing() {
        let mut blindness = Blindness::default();
        blindness.compare(look((90_000, 0), (0, 0)));
        for _ in 0..3 {
            assert_eq!(blindness.compare(look((100, 0), (0, 0))), []);
        }
        let mut with_another = look((100, 0), (0, 0));
        let packets = ("eth1".to_owned(), Packets { out: 1 << 40, into: None });
        with_another.kernel.insert(destination(81), packets);
        for _ in 0..3 {
            assert_eq!(blindness.compare(with_another.clone()), []);
        }
        assert_eq!(blindness.at("eth1", Way::Out), None);
    }

    #[test]
    fn a_device_that_leads_nowhere_any_more_is_forgotten() {
        let mut blindness = Blindness::default();
        for packets in [0, 500, 1000] {
            blindness.compare(look((packets, 0), (0, 0)));
        }
        assert_eq!(blindness.at("eth1", Way::Out), Some(Counted { kernel: 500, seen: 0 }));
        assert_eq!(blindness.at("eth1", Way::In), None);
        blindness.compare(Look::default());
        assert_eq!(blindness.at("eth1", Way::Out), None);
    }
}
