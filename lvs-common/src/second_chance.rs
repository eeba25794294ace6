use bytemuck::{Pod, Zeroable};

use crate::ServerId;

/// The newest SYN of a client that had this place: what it takes to send it again. One table for all servers, each
/// client's place by a hash of its address and port; a younger SYN takes the place of an older one.
///
/// A program that writes a place sets `stored_ns` to 0 first, and to the time last.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct KeptSyn {
    /// When it was stored; 0: it is being written, or the place is free.
    pub stored_ns: u64,
    /// When the client's first SYN came, whichever server that went to.
    pub since_ns: u64,
    /// When the client sent anything else, which ends the handshake; 0: it hasn't.
    pub ended_ns: u64,
    /// When the server's RST in answer to it was held back; 0: none was.
    pub held_ns: u64,
    /// The client's address in the order of the wire; IPv4 mapped.
    pub client: [u32; 4],
    /// Where the packet went, as it left the director; inside a tunnel. As the client's address.
    pub destination: [u32; 4],
    /// The server it went to.
    pub server: ServerId,
    /// The client's initial sequence number, host byte order.
    pub sequence: u32,
    /// The index of the device by which it came in; 0: from the director itself.
    pub device: u32,
    /// The index of the device by which the RST came in that was held back.
    pub reply_device: u32,
    /// Its firewall mark.
    pub mark: u32,
    /// How often it was sent again for the client.
    pub retries: u8,
    /// See [`KeptSyn::ANSWERED`], [`KeptSyn::RESET`], [`KeptSyn::IPV6`], [`KeptSyn::REFUSED`].
    pub flags: u8,
    /// How many bytes of `tcp` are the header.
    pub length: u8,
    /// Not used.
    pub zero: u8,
    /// The TCP header with its options, as it left the director.
    pub tcp: [u8; 64],
}

impl KeptSyn {
    /// How many places there are; a power of two. With 10,000 SYNs a second one in 33 is overwritten within 100 ms.
    pub const PLACES: usize = 1 << 15;
    /// The server has accepted.
    pub const ANSWERED: u8 = 1;
    /// The client has given up, by RST.
    pub const RESET: u8 = 2;
    /// The packet is IPv6's.
    pub const IPV6: u8 = 4;
    /// The server's RST was let through to the client.
    pub const REFUSED: u8 = 8;
    /// So often is one SYN sent again.
    pub const RETRIES: u8 = 2;
    /// The shortest and the longest TCP header (RFC 9293, section 3.1).
    pub const SHORTEST: usize = 20;
    /// See [`KeptSyn::SHORTEST`].
    pub const LONGEST: usize = 60;

    /// Which place a client has, by the hash of its address and port. Their lowest bits choose sampled flows.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "one of 32,768")]
    pub const fn place(hash: u64) -> u32 {
        (hash >> 24) as u32 & (Self::PLACES as u32 - 1)
    }
}

/// What the agent allows the programs to hold back. The agent writes it word by word.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct HoldBack {
    /// When the agent last showed life: older than [`HoldBack::LIFE_NS`], and everything passes.
    pub alive_ns: u64,
    /// How many RSTs may still be held back; each sign of life renews it.
    pub left: u64,
    /// How many were. Monotonic.
    pub held: u64,
}

impl HoldBack {
    /// For how long a sign of life counts, in ns.
    pub const LIFE_NS: u64 = 1_000_000_000;
}

/// What second chance does for a server, by id.
pub mod chance {
    /// Nothing.
    pub const OFF: u64 = 0;
    /// SYNs are kept.
    pub const KEEP: u64 = 1;
    /// SYNs are kept, and RSTs that answer them are held back.
    pub const HOLD: u64 = 3;
}
