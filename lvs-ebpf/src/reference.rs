//! Classifiers to measure the programs' cost against (`cargo xtask bench ebpf`, `bench director`). The agent never
//! attaches them.
//!
//! What two of them do is what any program of this kind must do at least: one reads the headers of an IPv4 TCP segment,
//! one also looks its destination up in a hash and counts for this CPU. The third does nothing: what it costs is what
//! being attached costs.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    not(target_arch = "bpf"),
    expect(dead_code, reason = "for the host it is compiled only to be linted, with an empty main")
)]
#![expect(clippy::inline_always, reason = "the classifiers are measured as one function each")]

use aya_ebpf::{
    bindings::TC_ACT_UNSPEC,
    macros::{classifier, map},
    maps::{HashMap, PerCpuArray},
    programs::TcContext,
};
use lvs_common::{EndpointKey4, ServerId};

const ETHERNET: usize = 14;

#[map]
static REFERENCE_ENDPOINTS: HashMap<EndpointKey4, ServerId> = HashMap::with_max_entries(1024, 0);

#[map]
static REFERENCE_COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1024, 0);

#[repr(C)]
#[derive(Clone, Copy)]
struct Ethernet {
    addresses: [u16; 6],
    ethertype: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv4 {
    version_and_length: u8,
    service: u8,
    length_to_fragment: [u16; 3],
    time_to_live: u8,
    protocol: u8,
    checksum: u16,
    source: [u16; 2],
    destination: [u16; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Tcp {
    source: [u8; 2],
    destination: [u8; 2],
    sequence: [u16; 2],
    acknowledgement: [u16; 2],
    offset: u8,
    flags: u8,
    rest: [u16; 3],
}

/// What the headers say.
struct Segment {
    destination: [u16; 2],
    port: [u8; 2],
    flags: u8,
}

/// Does nothing.
#[classifier]
pub(crate) fn reference_empty(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// Reads Ethernet, IPv4 and TCP headers.
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context over")]
#[classifier]
pub(crate) fn reference_parse(ctx: TcContext) -> i32 {
    // No segment has all flags; what is read must decide something, or it would not be read.
    if parse(&ctx).is_some_and(|segment| segment.flags == 0xff) { 1 } else { TC_ACT_UNSPEC }
}

/// Reads the headers, looks the destination up, counts.
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context over")]
#[classifier]
pub(crate) fn reference_count(ctx: TcContext) -> i32 {
    if let Some(segment) = parse(&ctx) {
        count(&segment);
    }
    TC_ACT_UNSPEC
}

#[inline(always)]
fn count(segment: &Segment) {
    let [a, b] = segment.destination[0].to_ne_bytes();
    let [c, d] = segment.destination[1].to_ne_bytes();
    let key = EndpointKey4 { address: [a, b, c, d], port: segment.port, protocol: 6, kind: 1, link: [0; 8] };
    let Some(id) = REFERENCE_ENDPOINTS.get_ptr(key) else { return };
    // SAFETY: a number that is written once, before the entry is there.
    let Some(counter) = REFERENCE_COUNTERS.get_ptr_mut(unsafe { (*id).0 }) else { return };
    // SAFETY: this CPU's own entry of an array that lives as long as the program.
    unsafe { *counter += 1 };
}

#[inline(always)]
fn parse(ctx: &TcContext) -> Option<Segment> {
    let ethernet: Ethernet = header(ctx, 0)?;
    if ethernet.ethertype != 0x0800_u16.to_be() {
        return None;
    }
    let ip: Ipv4 = header(ctx, ETHERNET)?;
    if ip.protocol != 6 {
        return None;
    }
    let tcp: Tcp = header(ctx, ETHERNET + usize::from(ip.version_and_length & 0x0f) * 4)?;
    Some(Segment { destination: ip.destination, port: tcp.destination, flags: tcp.flags })
}

#[inline(always)]
fn header<T: Copy>(ctx: &TcContext, offset: usize) -> Option<T> {
    let start = ctx.data() + offset;
    if start + size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the comparison proves to the verifier that the bytes are there; the headers are made of bytes and pairs
    // of bytes, and begin at even addresses.
    Some(unsafe { (start as *const T).read() })
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program that could get here.
    loop {}
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
