use bytemuck::{Pod, Zeroable};

/// Which real server a packet belongs to: an index into the counter and state arrays, given by the agent.
///
/// One id is one *endpoint as seen on the wire*. A real server that is in several services at the same address and
/// port under masquerade has one id; under direct route it has one id for each VIP and port.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct ServerId(pub u32);

/// A masqueraded server as its packets show it: its own IPv4 address and TCP port, both in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct MasqueradeKey {
    /// The server's address, as the four bytes on the wire.
    pub address: [u8; 4],
    /// The server's port, as the two bytes on the wire.
    pub port: [u8; 2],
    /// Always zero: the kernel hashes keys by their bytes.
    pub zero: [u8; 2],
}

impl MasqueradeKey {
    /// The key of a server at `address` and `port`, both as the bytes on the wire.
    #[must_use]
    #[inline]
    pub fn new(address: [u8; 4], port: [u8; 2]) -> Self {
        Self { address, port, zero: [0; 2] }
    }
}

/// A directly routed server as its packets show it: the destination is still the VIP, only the MAC address tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct DirectRouteKey {
    /// The virtual address, as the four bytes on the wire.
    pub vip: [u8; 4],
    /// The virtual port, as the two bytes on the wire.
    pub port: [u8; 2],
    /// The server's link-layer address, from the neighbour table.
    pub mac: [u8; 6],
}

impl DirectRouteKey {
    /// The key of the server behind `mac` for packets to `vip` and `port`, all as the bytes on the wire.
    #[must_use]
    #[inline]
    pub fn new(vip: [u8; 4], port: [u8; 2], mac: [u8; 6]) -> Self {
        Self { vip, port, mac }
    }
}

/// A handshake that is not completed yet: one client's address and port towards one server.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct HandshakeKey {
    /// The server the SYN went to.
    pub server: ServerId,
    /// The client's address, as the four bytes on the wire.
    pub client: [u8; 4],
    /// The client's port, as the two bytes on the wire.
    pub port: [u8; 2],
    /// Always zero: the kernel hashes keys by their bytes.
    pub zero: [u8; 2],
}

impl HandshakeKey {
    /// The key of the handshake that `client` and `port` (bytes on the wire) has open with `server`.
    #[must_use]
    #[inline]
    pub fn new(server: ServerId, client: [u8; 4], port: [u8; 2]) -> Self {
        Self { server, client, port, zero: [0; 2] }
    }
}
