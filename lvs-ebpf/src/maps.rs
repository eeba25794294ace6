//! Every map of the kernel side. Sizes are small here and set by the agent when it loads the programs.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use lvs_common::{
    DirectRouteKey, Doubts, Handshake, HandshakeKey, MasqueradeKey, ServerCounters, ServerId, ServerState,
};

/// Lets user space map an array into its memory and read it without system calls
/// (`BPF_F_MMAPABLE`, `include/uapi/linux/bpf.h`).
const MAPPABLE: u32 = 1 << 10;

/// How many server ids there are; the agent overrides it at load time.
#[unsafe(no_mangle)]
pub(crate) static MAX_SERVERS: Global<u32> = Global::new(1);

#[map]
pub(crate) static MASQUERADE: HashMap<MasqueradeKey, ServerId> = HashMap::with_max_entries(1, 0);

#[map]
pub(crate) static DIRECT_ROUTE: HashMap<DirectRouteKey, ServerId> = HashMap::with_max_entries(1, 0);

/// One entry for each CPU and server. A plain array, because per-CPU arrays can't be mapped into memory; no two CPUs
/// write the same entry, and a classifier is not interrupted by another one on its CPU.
#[map]
pub(crate) static COUNTERS: Array<ServerCounters> = Array::with_max_entries(1, MAPPABLE);

#[map]
pub(crate) static STATES: Array<ServerState> = Array::with_max_entries(1, MAPPABLE);

#[map]
pub(crate) static HANDSHAKES: LruHashMap<HandshakeKey, Handshake> = LruHashMap::with_max_entries(1, 0);

#[map]
pub(crate) static DOUBTS: PerCpuArray<Doubts> = PerCpuArray::with_max_entries(1, 0);

/// 4,096 edges of 24 bytes (8 of them the kernel's header). An edge is at most two records a server and change.
#[map]
pub(crate) static EDGES: RingBuf = RingBuf::with_byte_size(128 * 1024, 0);
