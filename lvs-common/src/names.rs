//! Names of the kernel side's programs, maps and load-time constants.

/// The classifier on the way out of the director, towards the real servers.
pub const EGRESS: &str = "lvs_egress";
/// The classifier on the way in, for what masqueraded servers answer.
pub const INGRESS: &str = "lvs_ingress";

/// Load-time constant (`u32`): how many server ids there are; the arrays hold this many for each CPU.
pub const MAX_SERVERS: &str = "MAX_SERVERS";
/// Mark on the agent's own probes: what they send is no client's traffic and must not look like it.
///
/// The bytes spell `LVSp`. The kernel side skips packets and handshakes with this mark.
pub const PROBE_MARK: u32 = 0x4c56_5370;

/// Names of the maps.
pub mod map {
    /// Hash: [`MasqueradeKey`](crate::MasqueradeKey) to [`ServerId`](crate::ServerId).
    pub const MASQUERADE: &str = "MASQUERADE";
    /// Hash: [`DirectRouteKey`](crate::DirectRouteKey) to [`ServerId`](crate::ServerId).
    pub const DIRECT_ROUTE: &str = "DIRECT_ROUTE";
    /// Memory-mapped array of [`ServerCounters`](crate::ServerCounters): entry `cpu * MAX_SERVERS + id`.
    pub const COUNTERS: &str = "COUNTERS";
    /// Memory-mapped array of [`ServerState`](crate::ServerState), by id.
    pub const STATES: &str = "STATES";
    /// LRU hash: [`HandshakeKey`](crate::HandshakeKey) to [`Handshake`](crate::Handshake).
    pub const HANDSHAKES: &str = "HANDSHAKES";
    /// Per-CPU array with one [`Doubts`](crate::Doubts).
    pub const DOUBTS: &str = "DOUBTS";
    /// Ring buffer of [`Edge`](crate::Edge).
    pub const EDGES: &str = "EDGES";
}
