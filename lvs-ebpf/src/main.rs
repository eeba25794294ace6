//! The kernel side: two tc classifiers that watch the traffic to and from the real servers.
//!
//! They only watch. Neither drops, redirects or changes a packet: both return `TC_ACT_UNSPEC`, which leaves the verdict
//! to whatever else is attached. Work is bounded: no loops but over a fixed number of headers, a fixed number of map
//! look-ups. On any doubt they count the doubt and do nothing.
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
mod doubt;
mod egress;
mod handshake;
mod ingress;
mod maps;
mod opaque;
mod packet;
mod plain;
mod sample;
mod server;
mod signal;
mod tunnel;
mod unreachable;

use aya_ebpf::{bindings::TC_ACT_UNSPEC, macros::classifier, programs::TcContext};

use crate::doubt::Doubt;

/// Sees what leaves the director, requests to real servers among it.
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context over")]
#[classifier]
pub(crate) fn lvs_egress(ctx: TcContext) -> i32 {
    conclude(&ctx, egress::see(&ctx))
}

/// Sees what enters the director, answers of masqueraded servers among it.
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context over")]
#[classifier]
pub(crate) fn lvs_ingress(ctx: TcContext) -> i32 {
    conclude(&ctx, ingress::see(&ctx))
}

#[inline(always)]
fn conclude(ctx: &TcContext, seen: Result<(), Doubt>) -> i32 {
    match seen {
        Ok(()) => {}
        Err(Doubt::NoServer) => doubt::count_here(Doubt::NoServer as usize),
        Err(doubt) => doubted(ctx, doubt),
    }
    TC_ACT_UNSPEC
}

// A function of its own, so that the short way out has next to nothing to save and restore.
#[inline(never)]
fn doubted(ctx: &TcContext, doubt: Doubt) {
    doubt::count(doubt);
    if doubt == Doubt::Malformed || doubt == Doubt::BadServerId {
        doubt::complain(ctx, doubt);
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
