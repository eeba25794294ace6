//! A coarse filter before any exact look-up: most packets of a busy director belong to no server, and those must cost
//! next to nothing.
//!
//! The filter is an array of bytes. An address (or mark) leads to one of them; its bits say which kinds of keys exist
//! for addresses that lead there. Two addresses may share a byte, so that a bit means "worth looking up", never
//! "found".

/// How many bytes the filter has; a power of two.
pub const INTERESTS: usize = 1 << 16;

/// A masqueraded server of exactly one port is at this address.
pub const ADDRESS: u8 = 1 << 0;
/// A masqueraded server of every port is at this address.
pub const ADDRESS_ANY_PORT: u8 = 1 << 1;
/// A masqueraded server of a firewall-mark service is at this address (keys with a mark, or for its answers).
pub const ADDRESS_MARK: u8 = 1 << 2;
/// This is the VIP of a directly routed service with a port.
pub const LINK: u8 = 1 << 3;
/// This is the VIP of a directly routed service without a port.
pub const LINK_ANY_PORT: u8 = 1 << 4;
/// This mark, not address, is that of a directly routed service.
pub const LINK_MARK: u8 = 1 << 5;
/// Tunnels end at this address.
pub const TUNNEL: u8 = 1 << 6;

/// Where an IPv4 address's byte is.
#[must_use]
#[inline]
pub const fn of_ipv4(address: [u8; 4]) -> usize {
    spread(u32::from_be_bytes(address))
}

/// Where an IPv6 address's byte is: that of its four words, folded into one by exclusive or.
#[must_use]
#[inline]
pub const fn of_ipv6(address: [u8; 16]) -> usize {
    let words = u128::from_be_bytes(address);
    let pairs = words ^ (words >> 64);
    let word = pairs ^ (pairs >> 32);
    spread((word & 0xffff_ffff) as u32)
}

/// Where a firewall mark's byte is.
#[must_use]
#[inline]
pub const fn of_mark(mark: u32) -> usize {
    spread(mark)
}

/// The upper bits of the product with 2^32 / golden ratio: neighbours lie far apart (Knuth, The Art of Computer
/// Programming 3, section 6.4).
#[inline]
const fn spread(word: u32) -> usize {
    (word.wrapping_mul(0x9e37_79b9) >> 16) as usize
}
