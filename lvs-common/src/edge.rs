use bytemuck::{Pod, Zeroable};

use crate::ServerId;

/// A record in the ring buffer: something changed that the agent should look at before its next tick.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Edge {
    /// When.
    pub at_ns: u64,
    /// Which server.
    pub server: ServerId,
    /// What: an [`EdgeKind`] as a number.
    pub kind: u32,
}

/// What changed.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeKind {
    /// The first RST to a SYN since the last proof of life.
    Refused = 1,
    /// The listener's first proof of life after such an RST.
    Accepted = 2,
    /// The first ICMP message since a proof of life that calls the server or its port unreachable.
    Unreachable = 3,
}

impl EdgeKind {
    /// The kind behind the number in a record, if there is one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Refused),
            2 => Some(Self::Accepted),
            3 => Some(Self::Unreachable),
            _ => None,
        }
    }
}
