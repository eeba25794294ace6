//! Which bits of the kernel side's coarse filter are set, and by how many keys each. Pure.

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

use super::WireKey;

/// Counts the keys behind each bit, so that one that goes takes no bit that another needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Interest {
    keys: HashSet<WireKey>,
    counts: HashMap<(usize, u8), u32>,
}

impl Interest {
    /// Takes note of a key; the place and the new value of the byte that has changed, if one has.
    pub(super) fn add(&mut self, key: &WireKey) -> Option<(usize, u8)> {
        let (index, bit) = place(key)?;
        if !self.keys.insert(*key) {
            return None;
        }
        let count = self.counts.entry((index, bit)).or_default();
        *count += 1;
        (*count == 1).then(|| (index, self.byte(index)))
    }

    /// Takes note that a key is gone; the place and the new value of the byte that has changed, if one has.
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
