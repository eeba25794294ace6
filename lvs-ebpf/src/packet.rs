//! Headers: from a frame to the few fields that the rest needs, or the reason why not.
//!
//! Addresses and ports stay as they are on the wire; they are kept in words for speed, whose numeric value means
//! nothing. All other numbers are in host byte order.

use core::mem::{MaybeUninit, size_of};

use aya_ebpf::programs::TcContext;

use crate::{
    opaque::{forget_bounds, opaque},
    unattributed::Unattributed,
};

/// How many VLAN tags in the packet are looked behind: a provider's and a customer's (IEEE 802.1ad). The outermost is
/// usually not in the packet at all but beside it, in the kernel's metadata.
const TAGS: usize = 2;
/// How many IPv6 extension headers are looked behind.
const EXTENSIONS: usize = 6;

const ETHERNET: usize = 14;
const VLAN_TAG: usize = 4;
/// The shortest IPv4 header (RFC 791, section 3.1).
const IPV4: usize = 20;
/// The 13 bits of the fragment offset, in units of 8 bytes.
const FRAGMENT_OFFSET: u16 = 0x1fff_u16.to_be();
/// The fixed part of the IPv6 header (RFC 8200, section 3).
const IPV6: usize = 40;
/// The longest payload that an IP header can claim.
const LONGEST: usize = 0xffff;
/// No header that matters begins behind this: two tags, an IPv6 header with [`EXTENSIONS`] of the longest ones, a
/// tunnel's headers and the same again are less. The verifier wants a bound.
const FAR: usize = 0x7fff;

/// Ethernet's name for IPv4, as loaded from the wire; GRE uses the same.
pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
/// Ethernet's name for IPv6.
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();
const ETHERTYPE_VLAN: u16 = 0x8100_u16.to_be();
const ETHERTYPE_PROVIDER_VLAN: u16 = 0x88a8_u16.to_be();

/// IANA protocol numbers.
pub(crate) mod protocol {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const IPV4: u8 = 4;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const IPV6: u8 = 41;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const GRE: u8 = 47;
    pub(crate) const AUTHENTICATION: u8 = 51;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const DESTINATION: u8 = 60;
    pub(crate) const SCTP: u8 = 132;
}

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// An address; IPv4 mapped (`::ffff:a.b.c.d`).
pub(crate) type Address = [u32; 4];

/// The word before the address in a mapped one.
const MAPPED: u32 = 0xffff_u32.to_be();

/// The link layer: what is inside.
pub(crate) struct Frame {
    ethertype: u16,
    /// Where the network layer's header begins.
    network: usize,
}

/// The network layer. It is read into its place: the stack is too small for copies, and clearing it first costs too
/// much.
#[derive(Clone, Copy)]
pub(crate) struct Ip {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    /// Whether it is IPv6.
    pub(crate) six: bool,
    /// What is inside, behind extension headers.
    pub(crate) protocol: u8,
    /// Where the transport layer's header begins.
    transport: u32,
    /// Where the packet ends by its own claim.
    end: u32,
}

impl Ip {
    /// Where the transport layer's header begins.
    #[inline(always)]
    pub(crate) fn transport(&self) -> usize {
        self.transport as usize
    }

    /// Where the packet ends by its own claim.
    #[inline(always)]
    pub(crate) fn end(&self) -> usize {
        self.end as usize
    }
}

/// As a number of the kind that is stored: packets are shorter than 4 GiB.
#[expect(clippy::cast_possible_truncation, reason = "as above")]
#[inline(always)]
fn short(number: usize) -> u32 {
    number as u32
}

/// The transport layer. What a protocol doesn't have is 0.
#[derive(Clone, Copy)]
pub(crate) struct Transport {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    /// Bytes of data.
    pub(crate) payload: u32,
}

impl Transport {
    /// Whether all of `flags` are set.
    #[inline(always)]
    pub(crate) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Ethernet {
    destination: [u16; 3],
    source: [u16; 3],
    ethertype: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct VlanTag {
    control: u16,
    ethertype: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv4 {
    version_and_length: u8,
    service: u8,
    total_length: u16,
    identification: u16,
    fragment: u16,
    time_to_live: u8,
    protocol: u8,
    checksum: u16,
    source: [u16; 2],
    destination: [u16; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv6 {
    version: u8,
    class_and_flow: [u8; 3],
    payload_length: u16,
    next: u8,
    hop_limit: u8,
}

/// The two that follow are read one by one, because the stack is small.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv6Address([u16; 8]);

/// What all extension headers begin with; the last two bytes are only the fragment header's.
#[repr(C)]
#[derive(Clone, Copy)]
struct Extension {
    next: u8,
    length: u8,
    fragment: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Tcp {
    source: u16,
    destination: u16,
    sequence: [u16; 2],
    acknowledgement: [u16; 2],
    offset: u8,
    flags: u8,
}

/// The headers of a TCP segment in a [`Plain`] packet.
#[repr(C)]
#[derive(Clone, Copy)]
struct PlainHeaders {
    ethernet: Ethernet,
    ip: Ipv4,
    tcp: Tcp,
}

/// Ports, as TCP, UDP and SCTP begin with them.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) source: u16,
    pub(crate) destination: u16,
}

/// Declares headers.
macro_rules! headers {
    ($($header:ty),*) => {
        $(
            // SAFETY: made of bytes and pairs of bytes, without padding.
            unsafe impl $crate::packet::Header for $header {}
        )*
    };
}
pub(crate) use headers;

headers!(Ethernet, VlanTag, Ipv4, Ipv6, Ipv6Address, Extension, Tcp, PlainHeaders, Ports);

/// Something that can be read out of a packet.
///
/// # Safety
/// Any bytes must be a valid value, and 2 a multiple of its alignment.
pub(crate) unsafe trait Header: Copy {}

/// An unfragmented IPv4 packet, in a frame without tags, whose header has no options and is in the linear part.
pub(crate) struct Plain(Ipv4);

/// Between whom such a packet goes.
pub(crate) struct Ends {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    /// Link-layer destination.
    pub(crate) mac: [u16; 3],
}

impl Plain {
    /// Where the transport layer's header begins.
    pub(crate) const TRANSPORT: usize = ETHERNET + IPV4;

    /// `None` for any other packet, malformed ones among them.
    #[inline(always)]
    pub(crate) fn of(ctx: &TcContext) -> Option<Self> {
        let ethernet: Ethernet = linear(ctx, 0)?;
        let ip: Ipv4 = linear(ctx, ETHERNET)?;
        let claimed = usize::from(u16::from_be(ip.total_length));
        let is_plain = ethernet.ethertype == ETHERTYPE_IPV4
            && usize::from(ip.version_and_length) == 0x40 | (IPV4 / 4)
            && ip.fragment & FRAGMENT_OFFSET == 0
            && claimed >= IPV4
            && ETHERNET + claimed <= ctx.len() as usize;
        is_plain.then_some(Self(ip))
    }

    #[inline(always)]
    pub(crate) fn source(&self) -> u32 {
        word(self.0.source)
    }

    #[inline(always)]
    pub(crate) fn destination(&self) -> u32 {
        word(self.0.destination)
    }

    #[inline(always)]
    pub(crate) fn protocol(&self) -> u8 {
        self.0.protocol
    }

    /// Reads the TCP segment in the packet, if it is one, well-formed and with its header in the linear part.
    // Everything is read anew: what is kept from `of` would be in the way of packets that come no further.
    #[inline(always)]
    pub(crate) fn segment(ctx: &TcContext, into: &mut Transport) -> Option<Ends> {
        let PlainHeaders { ethernet, ip, tcp } = linear(ctx, 0)?;
        if ip.protocol != protocol::TCP {
            return None;
        }
        let end = ETHERNET + usize::from(u16::from_be(ip.total_length));
        *into = segment(&tcp, Self::TRANSPORT, end)?;
        Some(Ends { source: word(ip.source), destination: word(ip.destination), mac: ethernet.destination })
    }
}

/// An IPv4 address as [`Address`].
#[inline(always)]
pub(crate) fn mapped(address: u32) -> Address {
    [0, 0, MAPPED, address]
}

/// The link-layer destination. Wherever classifiers run, the link layer's header is in the linear part.
#[inline(always)]
pub(crate) fn next_hop(ctx: &TcContext) -> Result<[u16; 3], Unattributed> {
    linear::<Ethernet>(ctx, 0).map(|ethernet| ethernet.destination).ok_or(Unattributed::Malformed)
}

/// Reads the link layer's headers.
#[inline(always)]
pub(crate) fn frame(ctx: &TcContext) -> Result<Frame, Unattributed> {
    let ethernet: Ethernet = header(ctx, 0)?;
    let mut frame = Frame { ethertype: ethernet.ethertype, network: ETHERNET };
    for _ in 0..TAGS {
        if !is_tag(frame.ethertype) {
            return Ok(frame);
        }
        frame.ethertype = behind_tag(ctx, frame.network)?;
        frame.network += VLAN_TAG;
    }
    if is_tag(frame.ethertype) { Err(Unattributed::Vlan) } else { Ok(frame) }
}

// A function of its own for the stack's sake.
#[inline(never)]
fn behind_tag(ctx: &TcContext, offset: usize) -> Result<u16, Unattributed> {
    header::<VlanTag>(ctx, offset).map(|tag| tag.ethertype)
}

#[inline(always)]
fn is_tag(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_PROVIDER_VLAN
}

/// Reads the network layer's headers of a frame into `ip`, which is written unless this fails.
#[inline(always)]
pub(crate) fn network(ctx: &TcContext, frame: &Frame, ip: &mut MaybeUninit<Ip>) -> Result<(), Unattributed> {
    let limit = ctx.len() as usize;
    match frame.ethertype {
        ETHERTYPE_IPV4 => ipv4(ctx, frame.network, limit, ip),
        ETHERTYPE_IPV6 => ipv6(ctx, frame.network, limit, ip),
        _ => Err(Unattributed::OtherProtocol),
    }
}

/// Reads the headers of an IPv4 packet which begins at `offset` and must end by `limit`.
///
/// The claim of length 0 is what Linux writes where a segmentation-offloaded packet is longer than 65,535 bytes
/// (`iph_set_totlen`, `include/linux/ip.h`; `ipv6_set_payload_len` alike).
#[inline(always)]
fn ipv4(
    ctx: &TcContext,
    offset: usize,
    limit: usize,
    into: &mut MaybeUninit<Ip>,
) -> Result<(), Unattributed> {
    let ip: Ipv4 = header(ctx, offset)?;
    let length = usize::from(ip.version_and_length & 0x0f) * 4;
    let claimed = usize::from(u16::from_be(ip.total_length));
    let room = limit.wrapping_sub(offset);
    if ip.version_and_length >> 4 != 4 || length < IPV4 || limit < offset {
        return Err(Unattributed::Malformed);
    }
    let end = if claimed == 0 && room > LONGEST { limit } else { offset + claimed };
    if claimed > room || end < offset + length {
        return Err(Unattributed::Malformed);
    }
    if ip.fragment & FRAGMENT_OFFSET != 0 {
        return Err(Unattributed::Fragment);
    }
    into.write(Ip {
        source: mapped(word(ip.source)),
        destination: mapped(word(ip.destination)),
        six: false,
        protocol: ip.protocol,
        transport: short(forget_bounds(offset + length)),
        end: short(end),
    });
    Ok(())
}

/// As [`network`], for an IPv4 packet in another packet.
#[inline(never)]
pub(crate) fn inner_ipv4(
    ctx: &TcContext,
    offset: usize,
    limit: usize,
    into: &mut MaybeUninit<Ip>,
) -> Result<(), Unattributed> {
    ipv4(ctx, offset, limit, into)
}

/// Reads the headers of an IPv6 packet, which begins at `offset` and must end by `limit`.
#[inline(never)]
pub(crate) fn ipv6(
    ctx: &TcContext,
    offset: usize,
    limit: usize,
    into: &mut MaybeUninit<Ip>,
) -> Result<(), Unattributed> {
    let ip: Ipv6 = header(ctx, offset)?;
    let claimed = IPV6 + usize::from(u16::from_be(ip.payload_length));
    let room = limit.wrapping_sub(offset);
    if ip.version >> 4 != 6 || limit < offset || claimed > room {
        return Err(Unattributed::Malformed);
    }
    let end = if claimed == IPV6 && room > IPV6 + LONGEST { limit } else { offset + claimed };
    let source = ipv6_address(ctx, offset + 8)?;
    let into = into.as_mut_ptr();
    // SAFETY: room for an `Ip`, field by field: the stack is too small for all of them beside it.
    unsafe { (*into).source = source };
    let destination = ipv6_address(ctx, offset + 24)?;
    // SAFETY: as above.
    unsafe { (*into).destination = destination };
    let (protocol, transport) = extensions(ctx, ip.next, offset + IPV6)?;
    // SAFETY: as above.
    unsafe { (*into).six = true };
    // SAFETY: as above.
    unsafe { (*into).protocol = protocol };
    // SAFETY: as above.
    unsafe { (*into).transport = short(transport) };
    // SAFETY: as above.
    unsafe { (*into).end = short(end) };
    Ok(())
}

#[inline(always)]
fn ipv6_address(ctx: &TcContext, offset: usize) -> Result<Address, Unattributed> {
    let Ipv6Address([a, b, c, d, e, f, g, h]) = header(ctx, offset)?;
    Ok([word([a, b]), word([c, d]), word([e, f]), word([g, h])])
}

/// Steps over extension headers (RFC 8200, section 4; authentication header: RFC 4302, section 2.2).
#[inline(always)]
fn extensions(ctx: &TcContext, first: u8, start: usize) -> Result<(u8, usize), Unattributed> {
    let mut next = first;
    let mut offset = forget_bounds(start);
    for _ in 0..EXTENSIONS {
        if !is_extension(next) {
            return Ok((next, offset));
        }
        let extension: Extension = header(ctx, offset)?;
        let length = usize::from(extension.length);
        offset += match next {
            protocol::FRAGMENT if extension.fragment & 0xfff8_u16.to_be() != 0 => {
                return Err(Unattributed::Fragment);
            }
            protocol::FRAGMENT => 8,
            protocol::AUTHENTICATION => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        // At most six times 2,048 bytes.
        offset = forget_bounds(offset);
        next = extension.next;
    }
    if is_extension(next) { Err(Unattributed::Extensions) } else { Ok((next, offset)) }
}

#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(
        next,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION
    )
}

/// Reads the transport layer's header of a packet that a service may be for.
#[inline(always)]
pub(crate) fn transport(ctx: &TcContext, ip: &Ip) -> Result<Transport, Unattributed> {
    if ip.protocol == protocol::TCP { tcp(ctx, ip) } else { without_connections(ctx, ip) }
}

/// As [`transport`], for a packet in a tunnel.
#[inline(never)]
pub(crate) fn inner_transport(ctx: &TcContext, ip: &Ip, into: &mut Transport) -> Result<(), Unattributed> {
    *into = transport(ctx, ip).map_err(Unattributed::in_tunnel)?;
    Ok(())
}

#[inline(always)]
fn tcp(ctx: &TcContext, ip: &Ip) -> Result<Transport, Unattributed> {
    let tcp: Tcp = header(ctx, ip.transport())?;
    segment(&tcp, ip.transport(), ip.end()).ok_or(Unattributed::Malformed)
}

/// What a TCP header at `offset` of a packet that ends at `end` says; `None` if it is malformed.
#[inline(always)]
fn segment(tcp: &Tcp, offset: usize, end: usize) -> Option<Transport> {
    let length = usize::from(tcp.offset >> 4) * 4;
    let data = offset + length;
    // The shortest header has 20 bytes (RFC 9293, section 3.1).
    if length < 20 || data > end {
        return None;
    }
    Some(Transport {
        source_port: tcp.source,
        destination_port: tcp.destination,
        sequence: u32::from_be(word(tcp.sequence)),
        acknowledgement: u32::from_be(word(tcp.acknowledgement)),
        flags: tcp.flags,
        payload: short(end - data),
    })
}

#[inline(always)]
fn without_connections(ctx: &TcContext, ip: &Ip) -> Result<Transport, Unattributed> {
    // The headers' lengths: RFC 768; RFC 9260, section 3.1.
    let length = match ip.protocol {
        protocol::UDP => 8,
        protocol::SCTP => 12,
        _ => return Err(Unattributed::OtherProtocol),
    };
    let ports: Ports = header(ctx, ip.transport())?;
    if ip.transport() + length > ip.end() {
        return Err(Unattributed::Malformed);
    }
    Ok(Transport {
        source_port: ports.source,
        destination_port: ports.destination,
        sequence: 0,
        acknowledgement: 0,
        flags: 0,
        payload: 0,
    })
}

/// Two halves in the order of the wire as a number.
#[inline(always)]
pub(crate) fn number(halves: [u16; 2]) -> u32 {
    u32::from_be(word(halves))
}

/// Two halves in the order of the wire as one word.
#[inline(always)]
fn word([first, second]: [u16; 2]) -> u32 {
    let [upper, lower] = if cfg!(target_endian = "little") { [second, first] } else { [first, second] };
    u32::from(upper) << 16 | u32::from(lower)
}

/// One header at `offset`: straight from the packet where it lies in the linear part, else through a helper that
/// gathers it. Neither changes the packet.
#[inline(always)]
pub(crate) fn header<T: Header>(ctx: &TcContext, offset: usize) -> Result<T, Unattributed> {
    let offset = opaque(offset);
    if offset > FAR {
        return Err(Unattributed::Malformed);
    }
    match linear(ctx, offset) {
        Some(header) => Ok(header),
        None => ctx.load(offset).map_err(|_| Unattributed::Malformed),
    }
}

/// One header at a small `offset`, if it lies in the linear part.
#[inline(always)]
fn linear<T: Header>(ctx: &TcContext, offset: usize) -> Option<T> {
    let start = ctx.data() + offset;
    if start + size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the comparison proves to the verifier that the bytes are there, and any bytes are a `T`. Frames begin at
    // even addresses and all headers have even lengths; the kernel's own code relies on no less.
    Some(unsafe { (start as *const T).read() })
}
