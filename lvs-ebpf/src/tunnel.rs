//! Tunnels to real servers: IPIP, GRE and GUE, each with IPv4 or IPv6 outside and inside.

use core::mem::MaybeUninit;

use aya_ebpf::programs::TcContext;

use crate::{
    opaque::forget_bounds,
    packet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ip, header, headers, protocol},
    unattributed::Unattributed,
};

/// UDP's header, which GUE follows.
const UDP: usize = 8;

/// GRE flags (RFC 2784, RFC 2890): each stands for a field of 4 bytes.
const GRE_CHECKSUM: u8 = 0x80;
const GRE_KEY: u8 = 0x20;
const GRE_SEQUENCE: u8 = 0x10;
/// GRE version 0 without source routing (RFC 1701).
const GRE_KNOWN: u8 = GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE;

/// GUE variant 0 (draft-ietf-intarea-gue): two bits of variant, one that says the message is for the tunnel itself.
const GUE_VARIANT: u8 = 0xc0;
const GUE_CONTROL: u8 = 0x20;
const GUE_LENGTH: u8 = 0x1f;
/// Variant 1: no header at all, an IP packet whose version's first bits are the variant.
const GUE_DIRECT: u8 = 0x40;

#[repr(C)]
#[derive(Clone, Copy)]
struct Gre {
    flags: u8,
    version: u8,
    ethertype: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Gue {
    variant_and_length: u8,
    protocol: u8,
}

headers!(Gre, Gue);

/// Whether a protocol is a tunnel by itself; GUE is UDP, and only its port tells.
#[inline(always)]
pub(crate) fn is_tunnel(number: u8) -> bool {
    matches!(number, protocol::IPV4 | protocol::IPV6 | protocol::GRE)
}

/// Reads the network layer's headers of the packet in a tunnel into `ip`. UDP is taken for GUE.
#[inline(always)]
pub(crate) fn inner(ctx: &TcContext, outer: &Ip, ip: &mut MaybeUninit<Ip>) -> Result<(), Unattributed> {
    let (ethertype, offset) = start(ctx, outer.protocol, outer.transport())?;
    let offset = forget_bounds(offset);
    match ethertype {
        ETHERTYPE_IPV4 => packet::inner_ipv4(ctx, offset, outer.end(), ip),
        ETHERTYPE_IPV6 => packet::ipv6(ctx, offset, outer.end(), ip),
        _ => Err(Unattributed::UnknownTunnel),
    }
}

/// What is in a tunnel, and where it begins.
#[inline(never)]
fn start(ctx: &TcContext, number: u8, offset: usize) -> Result<(u16, usize), Unattributed> {
    match number {
        protocol::IPV4 => Ok((ETHERTYPE_IPV4, offset)),
        protocol::IPV6 => Ok((ETHERTYPE_IPV6, offset)),
        protocol::GRE => gre(ctx, offset),
        _ => gue(ctx, offset + UDP),
    }
}

#[inline(always)]
fn gre(ctx: &TcContext, start: usize) -> Result<(u16, usize), Unattributed> {
    let gre: Gre = header(ctx, start)?;
    if gre.flags & !GRE_KNOWN != 0 || gre.version != 0 {
        return Err(Unattributed::UnknownTunnel);
    }
    let mut length = 4;
    for flag in [GRE_CHECKSUM, GRE_KEY, GRE_SEQUENCE] {
        if gre.flags & flag != 0 {
            length += 4;
        }
    }
    Ok((gre.ethertype, start + length))
}

#[inline(always)]
fn gue(ctx: &TcContext, start: usize) -> Result<(u16, usize), Unattributed> {
    let gue: Gue = header(ctx, start)?;
    match gue.variant_and_length & GUE_VARIANT {
        0 if gue.variant_and_length & GUE_CONTROL == 0 => {
            let inside = start + 4 + usize::from(gue.variant_and_length & GUE_LENGTH) * 4;
            match gue.protocol {
                protocol::IPV4 => Ok((ETHERTYPE_IPV4, inside)),
                protocol::IPV6 => Ok((ETHERTYPE_IPV6, inside)),
                _ => Err(Unattributed::UnknownTunnel),
            }
        }
        GUE_DIRECT if gue.variant_and_length >> 4 == 6 => Ok((ETHERTYPE_IPV6, start)),
        GUE_DIRECT if gue.variant_and_length >> 4 == 4 => Ok((ETHERTYPE_IPV4, start)),
        _ => Err(Unattributed::UnknownTunnel),
    }
}
