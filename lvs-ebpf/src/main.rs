//! The eBPF programs: two tc classifiers that watch the traffic to and from the real servers.
//!
//! They only watch. Neither drops, redirects or changes a packet: both return `TC_ACT_UNSPEC`, which leaves the verdict
//! to whatever else is attached. (Where a service has a second chance, those of `with_second_chance.rs` are loaded in
//! their place.) Work is bounded: no loops but over a fixed number of headers, a fixed number of map
//! look-ups. A packet that can't be attributed to a server is counted as such, by reason, and nothing else happens.
//!
//! | file | what is in it |
//! |---|---|
//! | `egress.rs` | packets out of the director, requests to real servers among them |
//! | `ingress.rs` | packets into the director, replies of masqueraded servers among them |
//! | `nothing_further.rs` | what else is done with packets out of the director: nothing, in these programs |
//! | `plain.rs` | the quick path: plain IPv4 packets, which are nearly all on a busy director |
//! | `packet.rs` | headers: Ethernet, VLAN tags, IPv4, IPv6 and its extensions, TCP, UDP, SCTP |
//! | `tunnel.rs` | the packet inside IPIP, GRE and GUE |
//! | `unreachable.rs` | ICMP and ICMPv6 messages that report a server as unreachable |
//! | `server.rs` | which server a packet belongs to: look-ups in the endpoint maps and their filter |
//! | `client.rs` | a client's address and port, its network, its handshake's key |
//! | `handshake.rs` | open handshakes: SYN, SYN-ACK, the completing ACK, refusals |
//! | `datagram.rs` | UDP of masqueraded servers |
//! | `sample.rs` | sampled established flows: requests, responses, retransmissions |
//! | `signal.rs` | what is written per server: counters, [`ServerState`](lvs_common::ServerState), edges |
//! | `unattributed.rs` | why a packet belongs to no server, and counting that |
//! | `maps.rs` | all maps and load-time constants |
//! | `clock.rs` | exact and coarse time |
//! | `opaque.rs` | what the compiler and the verifier may know about a number, and zeroes |
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![cfg_attr(
    not(target_arch = "bpf"),
    expect(dead_code, reason = "for the host it is compiled only to be linted, with an empty main")
)]
#![expect(
    clippy::inline_always,
    reason = "a call costs the verifier's state and five registers; what every packet needs is wanted as one function"
)]
#![expect(clippy::many_single_char_names, reason = "bytes and halves of words, in their order")]

mod client;
mod clock;
mod datagram;
mod egress;
mod handshake;
mod ingress;
mod maps;
mod nothing_further;
mod opaque;
mod packet;
mod plain;
mod sample;
mod server;
mod signal;
mod tunnel;
mod unattributed;
mod unreachable;

use aya_ebpf::{bindings::TC_ACT_UNSPEC, macros::classifier, programs::TcContext};

use crate::{nothing_further::Nothing, unattributed::Unattributed};

/// Watches packets out of the director, requests to real servers among them.
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context over")]
#[classifier]
pub(crate) fn lvs_egress(ctx: TcContext) -> i32 {
    conclude(&ctx, egress::observe::<Nothing>(&ctx))
}

/// Watches packets into the director, replies of masqueraded servers among them.
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context over")]
#[classifier]
pub(crate) fn lvs_ingress(ctx: TcContext) -> i32 {
    conclude(&ctx, ingress::observe(&ctx))
}

#[inline(always)]
fn conclude(ctx: &TcContext, outcome: Result<(), Unattributed>) -> i32 {
    match outcome {
        Ok(()) => {}
        Err(Unattributed::NoServer) => unattributed::count_here(Unattributed::NoServer as usize),
        Err(reason) => count_unattributed(ctx, reason),
    }
    TC_ACT_UNSPEC
}

// A function of its own, so that the quick path has next to nothing to save and restore.
#[inline(never)]
fn count_unattributed(ctx: &TcContext, reason: Unattributed) {
    unattributed::count(reason);
    if reason == Unattributed::Malformed || reason == Unattributed::BadServerId {
        unattributed::log(ctx, reason);
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program that could get here.
    loop {}
}

/// Some helpers that the programs call are only for programs under a licence compatible with the GPL.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
