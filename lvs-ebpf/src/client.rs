//! Clients: where they are, and one of their connections or ports.

use lvs_common::{HandshakeKey, ServerId};

use crate::{
    packet::{self, Address, Ip},
    signal::Origin,
};

/// A client's end of a flow.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    pub(crate) address: Address,
    /// Whether the address is IPv6.
    pub(crate) six: bool,
    pub(crate) port: u16,
    pub(crate) protocol: u8,
}

impl Client {
    /// The one that has sent a packet from this port.
    #[inline(always)]
    pub(crate) fn of(ip: &Ip, port: u16) -> Self {
        Self { address: ip.source, six: ip.six, port, protocol: ip.protocol }
    }

    /// The one at this IPv4 address.
    #[inline(always)]
    pub(crate) fn at_ipv4(address: u32, port: u16, protocol: u8) -> Self {
        Self { address: packet::mapped(address), six: false, port, protocol }
    }

    /// The one that a packet to this port is for.
    #[inline(always)]
    pub(crate) fn at_destination(ip: &Ip, port: u16) -> Self {
        Self { address: ip.destination, six: ip.six, port, protocol: ip.protocol }
    }

    /// Which of the 256 bits of a sketch stands for the client's network, a /24 or a /64. Multiplication by 2^32 /
    /// golden ratio spreads neighbours apart (Knuth, The Art of Computer Programming 3, section 6.4).
    #[inline(always)]
    pub(crate) fn network(&self) -> u32 {
        let [first, second, _, last] = self.address;
        let network =
            if self.six { u32::from_be(first) ^ u32::from_be(second) } else { u32::from_be(last) >> 8 };
        network.wrapping_mul(0x9e37_79b9) >> 24
    }

    /// A hash of address and port: products with 2^64 / golden ratio, their upper halves folded into the lower ones.
    #[inline(always)]
    pub(crate) fn hash(&self) -> u64 {
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let [a, b, c, d] = self.address;
        let upper = (u64::from(a) << 32 | u64::from(b)).wrapping_mul(SPREAD);
        let lower = u64::from(c) << 32 | u64::from(d);
        let mixed = (upper ^ lower ^ u64::from(self.port) << 32).wrapping_mul(SPREAD);
        (mixed ^ mixed >> 32).wrapping_mul(SPREAD) ^ mixed >> 29
    }

    /// As demand is counted.
    #[inline(always)]
    pub(crate) fn origin(&self) -> Origin {
        // Of the other half the lowest bits choose a sampled flow's slot.
        let connection = (self.hash() >> 32) as u32;
        Origin { network: self.network(), connection }
    }

    /// The key of a handshake with a server.
    #[inline(always)]
    pub(crate) fn handshake(&self, server: ServerId) -> HandshakeKey {
        let [a, b, c, d] = self.address.map(u32::to_ne_bytes);
        let port = self.port.to_ne_bytes();
        let mut client = [0; 16];
        client[..4].copy_from_slice(&a);
        client[4..8].copy_from_slice(&b);
        client[8..12].copy_from_slice(&c);
        client[12..].copy_from_slice(&d);
        HandshakeKey { client, server, port, protocol: self.protocol, zero: 0 }
    }
}
