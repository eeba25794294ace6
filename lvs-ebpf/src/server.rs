//! Which server a packet belongs to: an exact entry in a map, or none. Never a guess.

use lvs_common::{
    EndpointKey4, EndpointKey6, EndpointKind, ServerId, Shortcut,
    interest::{self, INTERESTS},
};

use crate::{
    maps::{ENDPOINTS4, ENDPOINTS6, INTEREST, OWN_MARK, OWN_VIP_MARKS, SHORTCUTS},
    packet::{Address, Ip, protocol},
};

/// The kinds of keys under which answers of servers are found, as bits of interest.
pub(crate) const ANSWERS: u8 = interest::ADDRESS | interest::ADDRESS_ANY_PORT | interest::ADDRESS_MARK;

/// A real server, and how much of its traffic passes here.
#[derive(Clone, Copy)]
pub(crate) struct Server {
    pub(crate) id: ServerId,
    /// Whether its answers pass the director: masquerade.
    pub(crate) answers: bool,
}

/// What is left of the link layer for telling servers apart.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    /// Link-layer destination.
    pub(crate) mac: [u16; 3],
    /// The firewall mark; 0: none.
    pub(crate) mark: u32,
}

impl Link {
    /// Whether the agent itself sent the packet.
    #[inline(always)]
    pub(crate) fn probe(&self) -> bool {
        is_own(self.mark)
    }

    /// The mark in a masqueraded server's key, if there can be one. A probe's own mark hides the service's.
    #[inline(always)]
    fn service_mark(&self) -> Option<u32> {
        match self.mark {
            0 => None,
            mark if is_own(mark) => Some(0),
            mark => Some(mark),
        }
    }
}

/// Whether a mark is that of the agent's own probes, or one of those to VIPs.
#[inline(always)]
pub(crate) fn is_own(mark: u32) -> bool {
    mark == OWN_MARK.load() || mark & 0xffff_0000 == OWN_VIP_MARKS.load()
}

/// Which kinds of keys are worth looking up for an address.
#[inline(always)]
pub(crate) fn interest_in(address: &Address) -> u8 {
    let [a, b, c, d] = *address;
    // An IPv4 address must fall where `of_ipv4` puts it, whatever it is mapped to.
    interest_at(interest::of_ipv4((a ^ b ^ c ^ d).to_ne_bytes()))
}

/// As [`interest_in`] for an IPv4 address in the order of the wire: a mapped one's other words are constant.
#[inline(always)]
pub(crate) fn interest_in_ipv4(address: u32) -> u8 {
    interest_at(interest::of_ipv4(address.to_ne_bytes()))
}

#[inline(always)]
fn interest_at(index: usize) -> u8 {
    let Some(filter) = INTEREST.get_ptr(0) else { return 0 };
    // SAFETY: the mask keeps the index inside the array, which lives as long as the program; the agent changes its
    // bytes at any time, each of them whole.
    unsafe { filter.cast::<u8>().add(index & (INTERESTS - 1)).read_volatile() }
}

/// Which kinds of keys are worth looking up for a packet out of the director.
#[inline(always)]
pub(crate) fn interest(ip: &Ip, link: &Link) -> u8 {
    let address = if ip.six { interest_in(&ip.destination) } else { interest_in_ipv4(ip.destination[3]) };
    let by_address = address & !interest::LINK_MARK;
    if link.mark == 0 {
        return by_address;
    }
    by_address | (interest_at(interest::of_mark(link.mark)) & interest::LINK_MARK)
}

/// An address and port that may be a server's.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    /// Whether the address is IPv6.
    pub(crate) six: bool,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
}

impl Endpoint {
    /// Where a packet goes.
    #[inline(always)]
    pub(crate) fn at_destination(ip: &Ip, port: u16) -> Self {
        Self { address: ip.destination, six: ip.six, protocol: ip.protocol, port }
    }

    /// Where a packet comes from.
    #[inline(always)]
    pub(crate) fn at_source(ip: &Ip, port: u16) -> Self {
        Self { address: ip.source, six: ip.six, protocol: ip.protocol, port }
    }
}

/// The server that a packet goes to without a tunnel: by address and port where IPVS has rewritten them, else by MAC
/// address and the virtual address and port that direct route leaves in place.
#[inline(always)]
pub(crate) fn destination(interest: u8, ip: &Ip, port: u16, link: &Link) -> Option<Server> {
    let to = Endpoint::at_destination(ip, port);
    if interest & ANSWERS != 0
        && let Some(id) = masqueraded(interest, &to, link.service_mark())
    {
        return Some(Server { id, answers: true });
    }
    let id = if to.six { routed6(interest, &to, link) } else { routed4(interest, &to, link) };
    id.map(|id| Server { id, answers: false })
}

/// As [`destination`] for an IPv4 TCP segment without mark to this address and port.
#[inline(always)]
pub(crate) fn plain_destination(interest: u8, to: (u32, u16), mac: [u16; 3]) -> Option<Server> {
    if let Some(id) = plain_address(interest, to) {
        return Some(Server { id, answers: true });
    }
    let (address, port) = to;
    let find = |port| find_plain(EndpointKind::Link, address, port, mac4(mac));
    let mut id = None;
    if interest & interest::LINK != 0 {
        id = find(port);
    }
    if id.is_none() && interest & interest::LINK_ANY_PORT != 0 {
        id = find(0);
    }
    id.map(|id| Server { id, answers: false })
}

/// As [`answering`] for an IPv4 TCP segment from this address and port, at which no service has a mark.
#[inline(always)]
pub(crate) fn plain_source(interest: u8, from: (u32, u16)) -> Option<Server> {
    plain_address(interest, from).map(|id| Server { id, answers: true })
}

#[inline(always)]
fn plain_address(interest: u8, (address, port): (u32, u16)) -> Option<ServerId> {
    let mut id = None;
    if interest & interest::ADDRESS != 0 {
        id = find_plain(EndpointKind::Address, address, port, 0);
    }
    if id.is_none() && interest & interest::ADDRESS_ANY_PORT != 0 {
        id = find_hashed(head(address, 0, protocol::TCP, EndpointKind::Address), 0);
    }
    id
}

/// The masqueraded server at one end of a packet that can't have its service's mark.
#[inline(always)]
pub(crate) fn answering(interest: u8, end: &Endpoint) -> Option<ServerId> {
    masqueraded(interest, end, Some(0))
}

#[inline(always)]
fn masqueraded(interest: u8, end: &Endpoint, mark: Option<u32>) -> Option<ServerId> {
    if end.six { masqueraded6(interest, end, mark) } else { masqueraded4(interest, end, mark) }
}

#[inline(always)]
fn masqueraded4(interest: u8, end: &Endpoint, mark: Option<u32>) -> Option<ServerId> {
    let find = |kind, port, link| find4(kind, end.protocol, end.address[3], port, link);
    let mut id = None;
    if interest & interest::ADDRESS != 0 {
        id = find(EndpointKind::Address, end.port, 0);
    }
    if id.is_none()
        && interest & interest::ADDRESS_MARK != 0
        && let Some(mark) = mark
    {
        id = find(EndpointKind::AddressMark, 0, words(mark, 0));
    }
    if id.is_none() && interest & interest::ADDRESS_ANY_PORT != 0 {
        id = find(EndpointKind::Address, 0, 0);
    }
    id
}

#[inline(never)]
fn masqueraded6(interest: u8, end: &Endpoint, mark: Option<u32>) -> Option<ServerId> {
    let find = |kind, port, link| find6(kind, end.protocol, end.address, port, link);
    let mut id = None;
    if interest & interest::ADDRESS != 0 {
        id = find(EndpointKind::Address, end.port, [0; 4]);
    }
    if id.is_none()
        && interest & interest::ADDRESS_MARK != 0
        && let Some(mark) = mark
    {
        id = find(EndpointKind::AddressMark, 0, [mark, 0, 0, 0]);
    }
    if id.is_none() && interest & interest::ADDRESS_ANY_PORT != 0 {
        id = find(EndpointKind::Address, 0, [0; 4]);
    }
    id
}

// A function of its own for the stack's sake: its keys are not beside all else.
#[inline(never)]
fn routed4(interest: u8, to: &Endpoint, link: &Link) -> Option<ServerId> {
    let mac = mac4(link.mac);
    let find = |kind, address, port| find4(kind, to.protocol, address, port, mac);
    let mut id = None;
    if interest & interest::LINK != 0 {
        id = find(EndpointKind::Link, to.address[3], to.port);
    }
    if id.is_none() && interest & interest::LINK_MARK != 0 {
        id = find(EndpointKind::LinkMark, link.mark, 0);
    }
    if id.is_none() && interest & interest::LINK_ANY_PORT != 0 {
        id = find(EndpointKind::Link, to.address[3], 0);
    }
    id
}

#[inline(never)]
fn routed6(interest: u8, to: &Endpoint, link: &Link) -> Option<ServerId> {
    let mac = mac6(link.mac);
    let find = |kind, address, port| find6(kind, to.protocol, address, port, mac);
    let mut id = None;
    if interest & interest::LINK != 0 {
        id = find(EndpointKind::Link, to.address, to.port);
    }
    if id.is_none() && interest & interest::LINK_MARK != 0 {
        id = find(EndpointKind::LinkMark, [link.mark, 0, 0, 0], 0);
    }
    if id.is_none() && interest & interest::LINK_ANY_PORT != 0 {
        id = find(EndpointKind::Link, to.address, 0);
    }
    id
}

/// The server behind a tunnel: by the tunnel's end and the inner packet's address and port, which are virtual.
#[inline(always)]
pub(crate) fn tunnelled(outer: &Ip, inner: &Ip, port: u16, mark: u32) -> Option<ServerId> {
    if outer.six || inner.six {
        tunnelled6(outer, inner, port, mark)
    } else {
        tunnelled4(outer, inner, port, mark)
    }
}

#[inline(never)]
fn tunnelled4(outer: &Ip, inner: &Ip, port: u16, mark: u32) -> Option<ServerId> {
    let end = words(outer.destination[3], 0);
    let address = inner.destination[3];
    find4(EndpointKind::Tunnel, inner.protocol, address, port, end)
        .or_else(|| find4(EndpointKind::Tunnel, inner.protocol, address, 0, end))
        .or_else(
            || {
                if mark == 0 { None } else { find4(EndpointKind::TunnelMark, inner.protocol, mark, 0, end) }
            },
        )
}

#[inline(never)]
fn tunnelled6(outer: &Ip, inner: &Ip, port: u16, mark: u32) -> Option<ServerId> {
    let end = outer.destination;
    let address = inner.destination;
    find6(EndpointKind::Tunnel, inner.protocol, address, port, end)
        .or_else(|| find6(EndpointKind::Tunnel, inner.protocol, address, 0, end))
        .or_else(|| {
            if mark == 0 {
                None
            } else {
                find6(EndpointKind::TunnelMark, inner.protocol, [mark, 0, 0, 0], 0, end)
            }
        })
}

/// Whether UDP to this address and port is GUE.
#[inline(never)]
pub(crate) fn is_gue(outer: &Ip, port: u16) -> bool {
    let id = if outer.six {
        find6(EndpointKind::Gue, protocol::UDP, outer.destination, port, [0; 4])
    } else {
        find4(EndpointKind::Gue, protocol::UDP, outer.destination[3], port, 0)
    };
    id.is_some()
}

/// As [`find4`] for TCP, by the shortcut if there is one.
#[inline(always)]
fn find_plain(kind: EndpointKind, address: u32, port: u16, link: u64) -> Option<ServerId> {
    let words = [head(address, port, protocol::TCP, kind), link];
    #[expect(clippy::cast_possible_truncation, reason = "one of 4,096 places")]
    let place = Shortcut::place(words) as u32;
    if let Some(shortcut) = SHORTCUTS.get_ptr(place) {
        // SAFETY: the array lives as long as the program. The agent changes it at any time, each field of it whole. As
        // with the hash, whose elements are used again at once, a server that is exchanged just now may get one packet
        // of the other's.
        let (first, second, server) = unsafe {
            (
                (&raw const (*shortcut).key[0]).read_volatile(),
                (&raw const (*shortcut).key[1]).read_volatile(),
                (&raw const (*shortcut).server).read_volatile(),
            )
        };
        if first == words[0] && second == words[1] {
            return Some(server);
        }
    }
    find_hashed(words[0], words[1])
}

// A function of its own for the stack's sake: the quick path's frame is below all others.
#[inline(never)]
fn find_hashed(first: u64, second: u64) -> Option<ServerId> {
    find_words([first, second])
}

#[inline(always)]
fn find4(kind: EndpointKind, protocol: u8, address: u32, port: u16, link: u64) -> Option<ServerId> {
    find_words([head(address, port, protocol, kind), link])
}

#[inline(always)]
fn find_words(words: [u64; 2]) -> Option<ServerId> {
    // SAFETY: the same bytes, at least as well aligned.
    let key = unsafe { &*(&raw const words).cast::<EndpointKey4>() };
    // SAFETY: a number that the agent writes once, before the entry is there for anyone to see.
    ENDPOINTS4.get_ptr(key).map(|id| unsafe { *id })
}

#[inline(always)]
fn find6(kind: EndpointKind, protocol: u8, address: Address, port: u16, link: [u32; 4]) -> Option<ServerId> {
    let [a, b, c, d] = address;
    let [e, f, g, h] = link;
    let words =
        [words(a, b), words(c, d), head_without_address(port, protocol, kind), words(e, f), words(g, h)];
    // SAFETY: as in `find4`.
    let key = unsafe { &*(&raw const words).cast::<EndpointKey6>() };
    // SAFETY: as in `find4`.
    ENDPOINTS6.get_ptr(key).map(|id| unsafe { *id })
}

/// The first eight bytes of an [`EndpointKey4`].
#[inline(always)]
fn head(address: u32, port: u16, protocol: u8, kind: EndpointKind) -> u64 {
    words(address, tail(port, protocol, kind))
}

/// The middle eight bytes of an [`EndpointKey6`].
#[inline(always)]
fn head_without_address(port: u16, protocol: u8, kind: EndpointKind) -> u64 {
    words(tail(port, protocol, kind), 0)
}

#[inline(always)]
fn tail(port: u16, protocol: u8, kind: EndpointKind) -> u32 {
    let [a, b] = port.to_ne_bytes();
    u32::from_ne_bytes([a, b, protocol, kind as u8])
}

/// Two words in their order in memory as one.
#[inline(always)]
fn words(first: u32, second: u32) -> u64 {
    let [upper, lower] = if cfg!(target_endian = "little") { [second, first] } else { [first, second] };
    u64::from(upper) << 32 | u64::from(lower)
}

#[inline(always)]
fn mac4([a, b, c]: [u16; 3]) -> u64 {
    let [a, b] = halves(a, b, c);
    words(a, b)
}

#[inline(always)]
fn mac6([a, b, c]: [u16; 3]) -> [u32; 4] {
    let [a, b] = halves(a, b, c);
    [a, b, 0, 0]
}

/// A MAC address and two bytes of zero as two words.
#[inline(always)]
fn halves(first: u16, second: u16, third: u16) -> [u32; 2] {
    let [a, b] = first.to_ne_bytes();
    let [c, d] = second.to_ne_bytes();
    let [e, f] = third.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, 0, 0])]
}
