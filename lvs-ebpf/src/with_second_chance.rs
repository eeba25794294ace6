//! The same classifiers as in `main.rs` for directors where a service has a second chance: SYNs are kept for the agent
//! to send them again, and a RST that answers one may be held back. Nothing else is dropped, redirected or changed.
//!
//! An object of its own, so that whoever doesn't want it has not one instruction of it.
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
mod opaque;
mod packet;
mod plain;
mod sample;
mod second_chance;
mod server;
mod signal;
mod tunnel;
mod unattributed;
mod unreachable;

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC},
    macros::classifier,
    programs::TcContext,
};

use crate::{
    second_chance::{SecondChance, Verdict},
    unattributed::Unattributed,
};

/// Watches packets out of the director, and keeps SYNs.
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context over")]
#[classifier]
pub(crate) fn lvs_egress_2nd(ctx: TcContext) -> i32 {
    conclude(&ctx, egress::observe::<SecondChance>(&ctx));
    TC_ACT_UNSPEC
}

/// Watches packets into the director, and may hold back RSTs that answer SYNs.
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context over")]
#[classifier]
pub(crate) fn lvs_ingress_2nd(ctx: TcContext) -> i32 {
    let verdict = second_chance::received(&ctx);
    if verdict == Verdict::Decided {
        return TC_ACT_UNSPEC;
    }
    conclude(&ctx, ingress::observe(&ctx));
    if verdict == Verdict::Hold { TC_ACT_SHOT } else { TC_ACT_UNSPEC }
}

/// Puts a packet that the agent has built into the ingress of the device whose index stands first in the context's
/// `cb`. Never attached: run by `BPF_PROG_TEST_RUN`, once for each packet.
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context over")]
#[classifier]
pub(crate) fn lvs_inject(ctx: TcContext) -> i32 {
    // SAFETY: `skb` is the program's own context.
    let device = unsafe { (*ctx.skb.skb).cb[0] };
    match ctx.clone_redirect(device, u64::from(BPF_F_INGRESS)) {
        Ok(()) => TC_ACT_OK,
        Err(_) => TC_ACT_SHOT,
    }
}

#[inline(always)]
fn conclude(ctx: &TcContext, outcome: Result<(), Unattributed>) {
    match outcome {
        Ok(()) => {}
        Err(Unattributed::NoServer) => unattributed::count_here(Unattributed::NoServer as usize),
        Err(reason) => count_unattributed(ctx, reason),
    }
}

// As in `main.rs`.
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
