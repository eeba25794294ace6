//! Names of the eBPF programs, their maps and load-time constants.

/// The classifier on the way out of the director, towards the real servers.
pub const EGRESS: &str = "lvs_egress";
/// The classifier on the way in, for what masqueraded servers answer.
pub const INGRESS: &str = "lvs_ingress";
/// [`EGRESS`] with second chance: it also keeps SYNs. (Names have at most 15 characters in the kernel.)
pub const EGRESS_CHANCE: &str = "lvs_egress_2nd";
/// [`INGRESS`] with second chance: it may hold back RSTs that answer SYNs.
pub const INGRESS_CHANCE: &str = "lvs_ingress_2nd";
/// Never attached: run once for each packet that the agent puts into a device's ingress.
pub const INJECT: &str = "lvs_inject";

/// Load-time constant (`u32`): how many server ids there are; the arrays hold this many for each CPU.
pub const MAX_SERVERS: &str = "MAX_SERVERS";
/// Load-time constant (`u32`): the mark on the agent's own probes, [`PROBE_MARK`] unless it is set.
pub const PROBE_MARK_NAME: &str = "OWN_MARK";
/// Mark on the agent's own probes: what they send is no client's traffic and must not look like it. The programs skip
/// packets and handshakes with this mark.
///
/// Bits 6 and 12, which few others use: not Kubernetes (`0xc000`), Cilium (`0x0f00` and the upper half), Calico
/// (`0xffff0000`), container networks' port mappings (`0x2000`), Amazon's (`0x80`), Tailscale (`0xff0000`). Two of
/// them, because a mark that somebody else has thought of is more likely a round number.
pub const PROBE_MARK: u32 = 0x1040;

/// Load-time constant (`u32`): the first mark on the agent's probes to VIPs, [`VIP_MARKS`] unless it is set.
pub const VIP_MARKS_NAME: &str = "OWN_VIP_MARKS";
/// The first of 65,536 marks on the agent's probes to VIPs, one for each server: the programs skip these as well. Its
/// upper half is [`PROBE_MARK`]'s bits and another one.
pub const VIP_MARKS: u32 = 0x1041_0000;

/// Load-time constant (`u8`): not 0 where the kernel has `bpf_ktime_get_coarse_ns` (Linux 5.11 and later), whose time
/// is the last timer tick's, for what needs no better.
pub const COARSE_CLOCK: &str = "COARSE_CLOCK";

/// Names of the maps.
pub mod map {
    /// Hash: [`EndpointKey4`](crate::EndpointKey4) to [`ServerId`](crate::ServerId).
    pub const ENDPOINTS4: &str = "ENDPOINTS4";
    /// Hash: [`EndpointKey6`](crate::EndpointKey6) to [`ServerId`](crate::ServerId).
    pub const ENDPOINTS6: &str = "ENDPOINTS6";
    /// Memory-mapped array of [`Shortcut`](crate::Shortcut), by place.
    pub const SHORTCUTS: &str = "SHORTCUTS";
    /// Memory-mapped array with one filter of [`INTERESTS`](crate::interest::INTERESTS) bytes.
    pub const INTEREST: &str = "INTEREST";
    /// Memory-mapped array of [`ServerCounters`](crate::ServerCounters): entry `cpu * MAX_SERVERS + id`.
    pub const COUNTERS: &str = "COUNTERS";
    /// Memory-mapped array of [`ServerState`](crate::ServerState), by id.
    pub const STATES: &str = "STATES";
    /// Memory-mapped array of [`ServerWaiting`](crate::ServerWaiting), by id.
    pub const WAITING: &str = "WAITING";
    /// Memory-mapped array of [`ServerAnswered`](crate::ServerAnswered), by id.
    pub const ANSWERED: &str = "ANSWERED";
    /// LRU hash: [`HandshakeKey`](crate::HandshakeKey) to [`Handshake`](crate::Handshake).
    pub const HANDSHAKES: &str = "HANDSHAKES";
    /// Memory-mapped array of [`Flow`](crate::Flow): entry `id * Flow::EACH + slot`.
    pub const FLOWS: &str = "FLOWS";
    /// Memory-mapped array of [`UnattributedCounters`](crate::UnattributedCounters), by CPU.
    pub const DOUBTS: &str = "DOUBTS";
    /// Memory-mapped array of [`KeptSyn`](crate::KeptSyn), by place.
    pub const KEPT_SYNS: &str = "KEPT_SYNS";
    /// Memory-mapped array of `u64`, by place: when the agent has sent the kept SYN again; 0 once that has passed.
    pub const RETRIED: &str = "RETRIED";
    /// Memory-mapped array of `u64`, by id: see [`chance`](crate::chance).
    pub const CHANCES: &str = "CHANCES";
    /// Memory-mapped array with one [`HoldBack`](crate::HoldBack).
    pub const HOLD_BACK: &str = "HOLD_BACK";
    /// Ring buffer of [`Edge`](crate::Edge).
    pub const EDGES: &str = "EDGES";
}
