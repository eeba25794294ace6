//! The filter before the endpoint maps: which of its bits are set, and by how many keys each. Pure.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
};

use lvs_common::{
    EndpointKind,
    interest::{
        ADDRESS, ADDRESS_ANY_PORT, ADDRESS_MARK, LINK, LINK_ANY_PORT, LINK_MARK, TUNNEL, of_ipv4, of_ipv6,
        of_mark,
    },
};

use super::wire_key::WireKey;

/// Counts the keys behind each bit, so that removing a key clears no bit that another one needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Interest {
    keys: HashSet<WireKey>,
    counts: HashMap<(usize, u8), u32>,
}

impl Interest {
    /// Adds a key; the index and the new value of the byte that has changed, if one has.
    pub(super) fn add(&mut self, key: &WireKey) -> Option<(usize, u8)> {
        let (index, bit) = place(key)?;
        if !self.keys.insert(*key) {
            return None;
        }
        let count = self.counts.entry((index, bit)).or_default();
        *count += 1;
        (*count == 1).then(|| (index, self.byte(index)))
    }

    /// Removes a key; the index and the new value of the byte that has changed, if one has.
    pub(super) fn remove(&mut self, key: &WireKey) -> Option<(usize, u8)> {
        let (index, bit) = place(key)?;
        if !self.keys.remove(key) {
            return None;
        }
        let count = self.counts.get_mut(&(index, bit))?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.counts.remove(&(index, bit));
        Some((index, self.byte(index)))
    }

    /// The filter's byte at `index`.
    fn byte(&self, index: usize) -> u8 {
        let bits = (0..u8::BITS).map(|shift| 1 << shift);
        bits.filter(|bit| self.counts.contains_key(&(index, *bit))).fold(0, |byte, bit| byte | bit)
    }
}

/// The byte and the bit that let packets with this key pass; `None` for a key of no known kind.
fn place(key: &WireKey) -> Option<(usize, u8)> {
    let (address, link, any_port) = match key {
        WireKey::V4(key) => {
            let [a, b, c, d, ..] = key.link;
            (IpAddr::from(key.address), IpAddr::from([a, b, c, d]), key.port == [0, 0])
        }
        WireKey::V6(key) => {
            let ip = |bytes| IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical();
            (ip(key.address), ip(key.link), key.port == [0, 0])
        }
    };
    Some(match key.kind()? {
        EndpointKind::Address => (of(address), if any_port { ADDRESS_ANY_PORT } else { ADDRESS }),
        EndpointKind::AddressMark => (of(address), ADDRESS_MARK),
        EndpointKind::Link => (of(address), if any_port { LINK_ANY_PORT } else { LINK }),
        EndpointKind::LinkMark => (of_mark(key.mark()), LINK_MARK),
        EndpointKind::Tunnel | EndpointKind::TunnelMark => (of(link), TUNNEL),
        EndpointKind::Gue => (of(address), TUNNEL),
    })
}

fn of(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(address) => of_ipv4(address.octets()),
        IpAddr::V6(address) => of_ipv6(address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lvs_common::interest::INTERESTS;
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::model::{AddressFamily, Protocol};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn at(text: &str) -> std::net::SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_kind_of_key_has_its_bit_at_the_address_that_packets_show() {
        let (tcp, four, six) = (Protocol::Tcp, at("192.0.2.1:80"), at("[2001:db8::1]:80"));
        let (end4, end6) = (at("10.0.0.1:6080"), at("[2001:db8::2]:6080"));
        let any_port = at("192.0.2.1:0");
        let (v4, v6) = (AddressFamily::V4, AddressFamily::V6);
        let cases = [
            (WireKey::address(tcp, four), of(four.ip()), ADDRESS),
            (WireKey::address(tcp, six), of(six.ip()), ADDRESS),
            (WireKey::address(tcp, any_port), of(four.ip()), ADDRESS_ANY_PORT),
            (WireKey::address_mark(tcp, four.ip(), 7), of(four.ip()), ADDRESS_MARK),
            (WireKey::address_mark(tcp, six.ip(), 0), of(six.ip()), ADDRESS_MARK),
            (WireKey::link(tcp, four, MAC), of(four.ip()), LINK),
            (WireKey::link(tcp, six, MAC), of(six.ip()), LINK),
            (WireKey::link(tcp, any_port, MAC), of(four.ip()), LINK_ANY_PORT),
            (WireKey::link_mark(tcp, 7, v4, MAC), of_mark(7), LINK_MARK),
            (WireKey::link_mark(tcp, 7, v6, MAC), of_mark(7), LINK_MARK),
            // The outer packet's version decides, whatever is inside.
            (WireKey::tunnel(tcp, four, end4.ip()), of(end4.ip()), TUNNEL),
            (WireKey::tunnel(tcp, six, end4.ip()), of(end4.ip()), TUNNEL),
            (WireKey::tunnel(tcp, four, end6.ip()), of(end6.ip()), TUNNEL),
            (WireKey::tunnel_mark(tcp, 7, v4, end4.ip()), of(end4.ip()), TUNNEL),
            (WireKey::tunnel_mark(tcp, 7, v6, end4.ip()), of(end4.ip()), TUNNEL),
            (WireKey::tunnel_mark(tcp, 7, v4, end6.ip()), of(end6.ip()), TUNNEL),
            (WireKey::gue(end4), of(end4.ip()), TUNNEL),
            (WireKey::gue(end6), of(end6.ip()), TUNNEL),
        ];
        for (key, index, bit) in cases {
            assert_eq!(place(&key), Some((index, bit)), "{key:?}");
            assert!(index < INTERESTS);
            assert_eq!(Interest::default().add(&key), Some((index, bit)));
        }
    }

    /// Few addresses and marks, some of which share their byte.
    fn any_key() -> impl Strategy<Value = WireKey> {
        let address = select(vec![at("10.0.0.1:80"), at("10.0.0.1:81"), at("10.0.0.1:0"), at("10.0.0.2:80")]);
        (address, 0..5_u8).prop_map(|(address, kind)| match kind {
            0 => WireKey::address(Protocol::Tcp, address),
            1 => WireKey::address(Protocol::Udp, address),
            2 => WireKey::link(Protocol::Tcp, address, MAC),
            3 => WireKey::tunnel(Protocol::Tcp, address, address.ip()),
            // This mark leads to the same byte as 10.0.0.1.
            _ => WireKey::link_mark(Protocol::Tcp, 0x0a00_0001, AddressFamily::V4, MAC),
        })
    }

    proptest! {
        /// The changes, applied in order, give the filter of the keys that are there.
        #[test]
        fn changes_applied_in_order_give_the_filter_of_the_remaining_keys(steps in vec((any_key(), any::<bool>()), 0..40)) {
            let mut interest = Interest::default();
            let mut filter: BTreeMap<usize, u8> = BTreeMap::new();
            let mut left = HashSet::new();
            for (key, is_added) in steps {
                let change = if is_added {
                    left.insert(key);
                    interest.add(&key)
                } else {
                    left.remove(&key);
                    interest.remove(&key)
                };
                if let Some((index, byte)) = change {
                    filter.insert(index, byte);
                }
                let mut wanted: BTreeMap<usize, u8> = BTreeMap::new();
                for (index, bit) in left.iter().filter_map(place) {
                    *wanted.entry(index).or_default() |= bit;
                }
                filter.retain(|_, byte| *byte != 0);
                prop_assert_eq!(&filter, &wanted);
            }
        }
    }
}
