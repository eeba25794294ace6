//! What leads a probe to the VIP to one real server: a firewall mark of its own, for which the kernel's table has a
//! private service with that server alone.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use super::{AddressFamily, ForwardingMethod, ServiceKey};

/// The way of a probe to the VIP that ends at one real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VipLane {
    /// The VIP and the service's port: what is connected to.
    pub vip: SocketAddr,
    /// The firewall mark that leads to the server.
    pub mark: u32,
    /// The real server.
    pub server: SocketAddr,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// Its own source ports.
    pub ports: PortBlock,
}

impl VipLane {
    /// What names its private service in the kernel's table.
    #[must_use]
    pub fn service(&self) -> ServiceKey {
        ServiceKey::Mark { mark: self.mark, family: AddressFamily::from(self.vip.ip()) }
    }

    /// Whether the kernel takes the answers for forged unless they come to an address made for it: they come from the
    /// VIP, an address of the director's own, and IPv4 looks at that (`fib_validate_source` in
    /// `net/ipv4/fib_frontend.c`). Answers of masqueraded servers come from the server.
    #[must_use]
    pub fn needs_own_source(&self) -> bool {
        needs_own_source(self.vip.ip(), self.method)
    }
}

/// As [`VipLane::needs_own_source`], of a server that has no lane yet.
#[must_use]
pub fn needs_own_source(vip: IpAddr, method: ForwardingMethod) -> bool {
    vip.is_ipv4() && matches!(method, ForwardingMethod::DirectRoute | ForwardingMethod::Tunnel)
}

/// Source ports that probes of one server use, and those of no other server of the same service.
///
/// An entry of the connection table outlives the probe, and whoever uses its addresses and ports again is led by it: a
/// probe of another server that did would be answered by the first one (`ip_vs_in` in
/// `net/netfilter/ipvs/ip_vs_core.c`). For a minute after a SYN that nobody has answered that holds whatever
/// `conn_reuse_mode` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortBlock(u8);

impl PortBlock {
    /// How many blocks there are: servers of a service beyond that share some.
    pub const COUNT: u16 = 256;
    /// The ports of each. All of them lie in the kernel's usual range for ports that nobody asks for (32768-60999,
    /// `inet_sk_set_default_port_range` in `net/ipv4/af_inet.c`).
    const EACH: u16 = 110;
    const FIRST: u16 = 32768;

    /// The block with this number.
    #[must_use]
    pub fn new(number: u8) -> Self {
        Self(number)
    }

    /// Its ports.
    #[must_use]
    pub fn ports(self) -> RangeInclusive<u16> {
        let first = Self::FIRST + u16::from(self.0) * Self::EACH;
        first..=first + Self::EACH - 1
    }
}
