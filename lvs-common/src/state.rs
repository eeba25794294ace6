use bytemuck::{Pod, Zeroable};

/// Signs of life of one server's listening socket, shared by all CPUs and rewritten in place.
///
/// Updates race between CPUs. What can be lost is a bit of `waiting_clients` or a `refusals`: the agent's detector
/// works with thresholds on several of them, and only ever asks for a probe.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServerState {
    /// When the server last proved that it accepts connections (SYN-ACK seen, or handshake completed); 0: never.
    pub progress_ns: u64,
    /// When the first SYN after that proof was sent; 0: none is waiting.
    pub waiting_since_ns: u64,
    /// When the newest SYN was sent.
    pub last_syn_ns: u64,
    /// Which client networks (/24) sent SYNs since the proof: bit `hash % 64` for each.
    pub waiting_clients: u64,
    /// How many SYNs were sent since the proof, those sent again included.
    pub waiting_syns: u32,
    /// RSTs in answer to SYNs since the proof.
    pub refusals: u32,
    /// When the first of those RSTs came; 0: none.
    pub refused_since_ns: u64,
    /// When the newest of those RSTs came.
    pub refused_last_ns: u64,
    /// Not used: the value fills a cache line of its own.
    pub spare: u64,
}

/// One open handshake.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Handshake {
    /// When the first SYN was sent.
    pub since_ns: u64,
    /// The client's initial sequence number, host byte order.
    pub sequence: u32,
    /// How far it got and whose it is: [`Handshake::ANSWERED`], [`Handshake::PROBE`].
    pub flags: u32,
}

impl Handshake {
    /// The server's SYN-ACK was seen.
    pub const ANSWERED: u32 = 1;
    /// It belongs to one of the agent's own probes.
    pub const PROBE: u32 = 2;
}
