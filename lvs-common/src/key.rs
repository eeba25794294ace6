use bytemuck::{Pod, Zeroable};

/// Which real server a packet belongs to: an index into the counter and state arrays, given by the agent.
///
/// One id is one *endpoint as seen on the wire*. A real server that is in several services at the same address and
/// port under masquerade has one id; under direct route and tunnel it has one id for each VIP and port.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct ServerId(pub u32);

/// What the parts of an endpoint's key stand for.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointKind {
    /// Masquerade: `address` and `port` are the real server's, as IPVS has rewritten them. `link` is zero.
    Address = 1,
    /// Masquerade in a firewall-mark service whose servers have no port of their own: `address` is the real server's,
    /// `port` is 0, `link` begins with the mark.
    ///
    /// What the server answers bears no mark: it is found under mark 0, which no service can have. The agent adds that
    /// key where the address belongs to one server of one firewall-mark service only. Out of the director it is looked
    /// up for the agent's own probes alone, whose mark is their own.
    AddressMark = 2,
    /// Direct route: `address` and `port` are the virtual ones, `link` begins with the server's MAC address.
    Link = 3,
    /// Direct route in a firewall-mark service: `address` begins with the mark, `port` is 0, `link` begins with the
    /// server's MAC address.
    LinkMark = 4,
    /// Tunnel: `address` and `port` are the virtual ones in the inner packet, `link` is the outer destination.
    Tunnel = 5,
    /// Tunnel in a firewall-mark service: `address` begins with the mark, `port` is 0, `link` is the outer destination.
    ///
    /// Where the outer destination is IPv6 nothing tells the version of the inner packet: services of one mark for both
    /// versions can't have the same tunnel's end.
    TunnelMark = 6,
    /// Not a server: UDP packets to this `address` and `port` are GUE. The id behind it means nothing.
    Gue = 7,
}

/// How packets of one server look, where all addresses in them are IPv4.
///
/// Bytes are in network order as on the wire, marks in host order. A `port` of 0 stands for every port (a persistent
/// service without a port). What is not used is zero: the kernel hashes keys by their bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct EndpointKey4 {
    /// See [`EndpointKind`].
    pub address: [u8; 4],
    /// See [`EndpointKind`].
    pub port: [u8; 2],
    /// IANA protocol number of the (inner) packet.
    pub protocol: u8,
    /// An [`EndpointKind`] as a number.
    pub kind: u8,
    /// See [`EndpointKind`].
    pub link: [u8; 8],
}

/// As [`EndpointKey4`], where any address is IPv6. An IPv4 address among them is mapped (`::ffff:a.b.c.d`, RFC 4291,
/// section 2.5.5.2); a mark or a MAC address stands in the first bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct EndpointKey6 {
    /// See [`EndpointKind`].
    pub address: [u8; 16],
    /// See [`EndpointKind`].
    pub port: [u8; 2],
    /// IANA protocol number of the (inner) packet.
    pub protocol: u8,
    /// An [`EndpointKind`] as a number.
    pub kind: u8,
    /// Always zero.
    pub zero: [u8; 4],
    /// See [`EndpointKind`].
    pub link: [u8; 16],
}

/// A handshake that is not completed yet, or under masquerade a UDP datagram that had no answer yet: one client's
/// address and port towards one server.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct HandshakeKey {
    /// The client's address; IPv4 mapped.
    pub client: [u8; 16],
    /// The server the SYN or datagram went to.
    pub server: ServerId,
    /// The client's port, as the two bytes on the wire.
    pub port: [u8; 2],
    /// IANA protocol number: TCP or UDP.
    pub protocol: u8,
    /// Always zero: the kernel hashes keys by their bytes.
    pub zero: u8,
}

/// An IPv4 address as IPv6 writes it.
#[must_use]
#[inline]
pub const fn mapped(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}
