use bytemuck::{Pod, Zeroable};

use crate::{EndpointKey4, EndpointKind, ServerId};

/// One place in a table beside the hash of endpoints, which has most of those that plain packets are looked up by.
/// Reading it costs a few instructions, and the hash a call and the hashing.
///
/// A key whose place is taken by another one is in the hash alone. The agent writes `server` before `key`, and begins
/// with `key[1]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Shortcut {
    /// The words of an [`EndpointKey4`]; the first is 0 where the place is free.
    pub key: [u64; 2],
    /// The server.
    pub server: ServerId,
    /// Not used: a place has a size that is a power of two.
    pub spare: [u32; 3],
}

impl Shortcut {
    /// How many places there are; a power of two.
    pub const PLACES: usize = 1 << 12;

    /// Which place a key has, by its words.
    #[must_use]
    #[inline]
    pub const fn place([first, second]: [u64; 2]) -> usize {
        // The upper bits of the product with 2^64 / golden ratio, as in `interest`.
        ((first ^ second).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize
    }

    /// A key as it is kept here, if it is of a kind that is looked up here: TCP by address, or by VIP and MAC address.
    #[must_use]
    pub fn words(key: &EndpointKey4) -> Option<[u64; 2]> {
        const TCP: u8 = 6;
        let plain = [EndpointKind::Address as u8, EndpointKind::Link as u8].contains(&key.kind);
        (plain && key.protocol == TCP).then(|| bytemuck::cast(*key))
    }
}
