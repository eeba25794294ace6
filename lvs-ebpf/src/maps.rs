//! All maps of the programs. Sizes are small here and set by the agent when it loads the programs.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, LruHashMap, RingBuf},
};
use lvs_common::{
    EndpointKey4, EndpointKey6, Flow, Handshake, HandshakeKey, PROBE_MARK, ServerAnswered, ServerCounters,
    ServerId, ServerState, ServerWaiting, Shortcut, UnattributedCounters, VIP_MARKS, interest::INTERESTS,
};

/// Lets user space map an array into its memory and read or write it without system calls
/// (`BPF_F_MMAPABLE`, `include/uapi/linux/bpf.h`).
pub(crate) const MAPPABLE: u32 = 1 << 10;

/// How many server ids there are; the agent overrides it at load time.
#[unsafe(no_mangle)]
pub(crate) static MAX_SERVERS: Global<u32> = Global::new(1);

/// Not 0 where the kernel has `bpf_ktime_get_coarse_ns`; the agent overrides it at load time.
#[unsafe(no_mangle)]
pub(crate) static COARSE_CLOCK: Global<u8> = Global::new(0);

/// The mark on the agent's own probes; the agent overrides it at load time.
#[unsafe(no_mangle)]
pub(crate) static OWN_MARK: Global<u32> = Global::new(PROBE_MARK);

/// The first of the marks on the agent's probes to VIPs, a multiple of 65,536; the agent overrides it at load time.
#[unsafe(no_mangle)]
pub(crate) static OWN_VIP_MARKS: Global<u32> = Global::new(VIP_MARKS);

#[map]
pub(crate) static ENDPOINTS4: HashMap<EndpointKey4, ServerId> = HashMap::with_max_entries(1, 0);

#[map]
pub(crate) static ENDPOINTS6: HashMap<EndpointKey6, ServerId> = HashMap::with_max_entries(1, 0);

#[expect(clippy::cast_possible_truncation, reason = "4,096")]
#[map]
pub(crate) static SHORTCUTS: Array<Shortcut> = Array::with_max_entries(Shortcut::PLACES as u32, MAPPABLE);

#[map]
pub(crate) static INTEREST: Array<[u8; INTERESTS]> = Array::with_max_entries(1, MAPPABLE);

/// One entry for each CPU and server. A plain array, because per-CPU arrays can't be mapped into memory; no two CPUs
/// write the same entry, and a classifier is not interrupted by another one on its CPU.
#[map]
pub(crate) static COUNTERS: Array<ServerCounters> = Array::with_max_entries(1, MAPPABLE);

#[map]
pub(crate) static STATES: Array<ServerState> = Array::with_max_entries(1, MAPPABLE);

#[map]
pub(crate) static WAITING: Array<ServerWaiting> = Array::with_max_entries(1, MAPPABLE);

#[map]
pub(crate) static ANSWERED: Array<ServerAnswered> = Array::with_max_entries(1, MAPPABLE);

#[map]
pub(crate) static HANDSHAKES: LruHashMap<HandshakeKey, Handshake> = LruHashMap::with_max_entries(1, 0);

/// [`Flow::EACH`] entries for each server.
#[map]
pub(crate) static FLOWS: Array<Flow> = Array::with_max_entries(1, MAPPABLE);

/// One entry for each CPU; a plain array for the same reason as the counters.
#[map]
pub(crate) static DOUBTS: Array<UnattributedCounters> = Array::with_max_entries(1, MAPPABLE);

/// 5,461 edges of 24 bytes, 8 of them the kernel's header.
#[map]
pub(crate) static EDGES: RingBuf = RingBuf::with_byte_size(128 * 1024, 0);
