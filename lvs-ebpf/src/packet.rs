//! Headers: from a frame to the few fields that the rest needs, or the reason why not.

use core::mem::size_of;

use aya_ebpf::programs::TcContext;

/// Ethernet header: two addresses of 6 bytes and the type (IEEE 802.3).
const ETHERNET: usize = 14;
/// The shortest IPv4 header (RFC 791, section 3.1).
const IPV4: usize = 20;
/// The shortest TCP header (RFC 9293, section 3.1).
const TCP: usize = 20;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
const ETHERTYPE_PROVIDER_VLAN: [u8; 2] = [0x88, 0xa8];
const PROTOCOL_TCP: u8 = 6;
/// The 13 bits of the fragment offset.
const FRAGMENT_OFFSET: u16 = 0x1fff;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// Why a frame is not looked at any further.
#[derive(Clone, Copy)]
pub(crate) enum Doubt {
    OtherProtocol,
    Vlan,
    Fragment,
    Malformed,
}

/// An IPv4 TCP segment. Addresses and ports are the bytes on the wire, numbers are in host byte order.
pub(crate) struct Packet {
    /// Link-layer destination.
    pub(crate) mac: [u8; 6],
    pub(crate) source: [u8; 4],
    pub(crate) destination: [u8; 4],
    pub(crate) source_port: [u8; 2],
    pub(crate) destination_port: [u8; 2],
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
}

impl Packet {
    /// Whether all of `flags` are set.
    #[inline(always)]
    pub(crate) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Ethernet {
    destination: [u8; 6],
    source: [u8; 6],
    ethertype: [u8; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv4 {
    version_and_length: u8,
    service: u8,
    total_length: [u8; 2],
    identification: [u8; 2],
    fragment: [u8; 2],
    time_to_live: u8,
    protocol: u8,
    checksum: [u8; 2],
    source: [u8; 4],
    destination: [u8; 4],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Tcp {
    source: [u8; 2],
    destination: [u8; 2],
    sequence: [u8; 4],
    acknowledgement: [u8; 4],
    offset: u8,
    flags: u8,
    window: [u8; 2],
    checksum: [u8; 2],
    urgent: [u8; 2],
}

/// Reads the headers of a frame that starts with an Ethernet header.
#[inline(always)]
pub(crate) fn parse(ctx: &TcContext) -> Result<Packet, Doubt> {
    let ethernet: Ethernet = header(ctx, 0)?;
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => {}
        ETHERTYPE_VLAN | ETHERTYPE_PROVIDER_VLAN => return Err(Doubt::Vlan),
        _ => return Err(Doubt::OtherProtocol),
    }
    let ip: Ipv4 = header(ctx, ETHERNET)?;
    let ip_header = usize::from(ip.version_and_length & 0x0f) * 4;
    if ip.version_and_length >> 4 != 4 || ip_header < IPV4 {
        return Err(Doubt::Malformed);
    }
    if ip.protocol != PROTOCOL_TCP {
        return Err(Doubt::OtherProtocol);
    }
    if u16::from_be_bytes(ip.fragment) & FRAGMENT_OFFSET != 0 {
        return Err(Doubt::Fragment);
    }
    let tcp: Tcp = header(ctx, ETHERNET + ip_header)?;
    let tcp_header = usize::from(tcp.offset >> 4) * 4;
    if tcp_header < TCP || !length_is_possible(ctx, &ip, ip_header + tcp_header) {
        return Err(Doubt::Malformed);
    }
    Ok(Packet {
        mac: ethernet.destination,
        source: ip.source,
        destination: ip.destination,
        source_port: tcp.source,
        destination_port: tcp.destination,
        sequence: u32::from_be_bytes(tcp.sequence),
        acknowledgement: u32::from_be_bytes(tcp.acknowledgement),
        flags: tcp.flags,
    })
}

/// Whether the headers fit into the length that IP claims, and that into the frame.
///
/// A claim of 0 is what Linux writes where a segmentation-offloaded packet is longer than 65,535 bytes
/// (`iph_set_totlen`, `include/linux/ip.h`).
#[inline(always)]
fn length_is_possible(ctx: &TcContext, ip: &Ipv4, headers: usize) -> bool {
    let claimed = usize::from(u16::from_be_bytes(ip.total_length));
    let frame = ctx.len() as usize;
    let claim_fits = claimed >= headers && ETHERNET + claimed <= frame;
    claim_fits || (claimed == 0 && frame > usize::from(u16::MAX))
}

/// One header at `offset`: straight from the packet where it lies in the linear part, else through a helper that
/// gathers it. Neither changes the packet.
#[inline(always)]
fn header<T: Copy>(ctx: &TcContext, offset: usize) -> Result<T, Doubt> {
    let start = ctx.data() + offset;
    if start + size_of::<T>() <= ctx.data_end() {
        // SAFETY: the comparison proves to the verifier that the bytes are there; the headers are made of bytes, so any
        // bytes are a valid one at any alignment.
        return Ok(unsafe { (start as *const T).read_unaligned() });
    }
    ctx.load(offset).map_err(|_| Doubt::Malformed)
}
