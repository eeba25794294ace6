//! The route to an address.

use std::{net::IpAddr, time::Duration};

use neli::{
    consts::{
        nl::NlmF,
        rtnl::{RtScope, RtTable, Rta, Rtm, Rtn, Rtprot},
    },
    rtnl::{Rtmsg, RtmsgBuilder},
    types::{Buffer, RtBuffer},
};
use nix::errno::Errno;

use super::{
    attributes::{address, address_bytes, attribute, family, find, number},
    error::NetworkError,
    link,
    netlink::{Netlink, unbuildable},
};
use crate::netlink::NetlinkError;

/// `RTA_VIA`: a gateway of the other IP version. neli only names it for some C libraries.
const RTA_VIA: u16 = 18;

/// What else than the address selects the route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteQuery {
    /// The packets' firewall mark.
    pub mark: Option<u32>,
    /// The index of the device that they are bound to.
    pub device: Option<u32>,
}

/// The route to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The address.
    pub address: IpAddr,
    /// Index of the device that they leave through.
    pub device: u32,
    /// Its name.
    pub device_name: String,
    /// Who gets them next.
    pub next_hop: NextHop,
    /// The address that the director uses for packets of its own, where the kernel says so.
    pub source: Option<IpAddr>,
}

impl Route {
    /// The address whose MAC address the packets are sent to; `None` where they never leave the director.
    #[must_use]
    pub fn neighbour(&self) -> Option<IpAddr> {
        match self.next_hop {
            NextHop::Local => None,
            NextHop::Direct => Some(self.address),
            NextHop::Gateway(gateway) => Some(gateway),
        }
    }
}

/// Who gets a packet next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// The director itself: the address is one of its own.
    Local,
    /// The address itself, on the same link.
    Direct,
    /// A router, not necessarily of the same IP version.
    Gateway(IpAddr),
}

/// Looks up routes.
pub struct RouteLookup {
    netlink: Netlink,
}

impl RouteLookup {
    /// The routes of the calling thread's network namespace. The kernel has `timeout` for each answer.
    pub async fn connect(timeout: Duration) -> Result<Self, NetworkError> {
        let netlink = Netlink::connect(timeout).await;
        Ok(Self { netlink: netlink.map_err(NetworkError::netlink("connect to rtnetlink"))? })
    }

    /// The route to `address` right now. Where several are equally good, one of them.
    pub async fn lookup(&mut self, address: IpAddr, query: RouteQuery) -> Result<Route, NetworkError> {
        let KernelRoute { device, next_hop, source } = self.ask(address, query).await?;
        let link = link::by_index(&mut self.netlink, device).await?;
        Ok(Route { address, device, device_name: link.name, next_hop, source })
    }

    /// The same without the name of the device, which takes another request.
    pub(super) async fn next_hop(
        &mut self,
        address: IpAddr,
        query: RouteQuery,
    ) -> Result<(u32, NextHop), NetworkError> {
        self.ask(address, query).await.map(|route| (route.device, route.next_hop))
    }

    async fn ask(&mut self, address: IpAddr, query: RouteQuery) -> Result<KernelRoute, NetworkError> {
        let doing = || format!("look up the route to {address}");
        let question = question(address, query).map_err(NetworkError::netlink(doing()))?;
        let routes =
            self.netlink.ask(Rtm::Getroute.into(), NlmF::empty(), question, |answer| read(address, answer));
        match routes.await {
            Ok(routes) => routes.into_iter().next().ok_or_else(|| NetworkError::answer(doing()))?,
            Err(NetlinkError::Kernel(errno)) if forbids(errno) => {
                Err(NetworkError::NoRoute { address, errno })
            }
            Err(error) => Err(NetworkError::netlink(doing())(error)),
        }
    }
}

/// A route as the kernel answers: without the name of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KernelRoute {
    device: u32,
    next_hop: NextHop,
    source: Option<IpAddr>,
}

/// The errors that a route itself stands for (`fib_props` in `net/ipv4/fib_semantics.c`; `ip6_null_entry` and its
/// like).
fn forbids(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL | Errno::ENETDOWN
    )
}

fn question(address: IpAddr, query: RouteQuery) -> Result<Rtmsg, NetlinkError> {
    let mut attributes = RtBuffer::new();
    attributes.push(attribute(Rta::Dst, &address_bytes(address))?);
    let numbers = [(Rta::Mark, query.mark), (Rta::Oif, query.device)];
    for (kind, number) in numbers {
        if let Some(number) = number {
            attributes.push(attribute(kind, &number.to_ne_bytes())?);
        }
    }
    RtmsgBuilder::default()
        .rtm_family(family(address))
        .rtm_dst_len(if address.is_ipv4() { 32 } else { 128 })
        .rtm_src_len(0)
        .rtm_tos(0)
        .rtm_table(RtTable::Unspec)
        .rtm_protocol(Rtprot::Unspec)
        .rtm_scope(RtScope::Universe)
        .rtm_type(Rtn::Unspec)
        .rtattrs(attributes)
        .build()
        .map_err(unbuildable)
}

fn read(to: IpAddr, answer: &Rtmsg) -> Result<KernelRoute, NetworkError> {
    let attributes = answer.rtattrs();
    let forbidden = |errno| Err(NetworkError::NoRoute { address: to, errno });
    let no_host = |kind| Err(NetworkError::NotUnicast { address: to, kind });
    let next_hop = match answer.rtm_type() {
        Rtn::Local => NextHop::Local,
        Rtn::Unicast => gateway(attributes).map_or(NextHop::Direct, NextHop::Gateway),
        // IPv6 answers with such a route where IPv4 answers with its error.
        Rtn::Unreachable => return forbidden(Errno::EHOSTUNREACH),
        Rtn::Prohibit => return forbidden(Errno::EACCES),
        Rtn::Blackhole => return forbidden(Errno::EINVAL),
        Rtn::Broadcast => return no_host("broadcast"),
        Rtn::Multicast => return no_host("multicast"),
        Rtn::Anycast => return no_host("anycast"),
        _ => return no_host("unknown"),
    };
    let device = number(attributes, Rta::Oif)
        .ok_or_else(|| NetworkError::answer(format!("look up the route to {to}")))?;
    Ok(KernelRoute { device, next_hop, source: find(attributes, Rta::Prefsrc).and_then(address) })
}

fn gateway(attributes: &RtBuffer<Rta, Buffer>) -> Option<IpAddr> {
    let same_version = find(attributes, Rta::Gateway).and_then(address);
    // After two bytes for the address family, whose meaning the length has as well.
    let other_version = || find(attributes, Rta::from(RTA_VIA))?.get(2..).and_then(address);
    same_version.or_else(other_version)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use neli::FromBytesWithInput;
    use proptest::prelude::*;

    use super::*;

    fn answer(kind: Rtn, attributes: &[(Rta, &[u8])]) -> Rtmsg {
        RtmsgBuilder::default()
            .rtm_family(family(TO))
            .rtm_dst_len(32)
            .rtm_src_len(0)
            .rtm_tos(0)
            .rtm_table(RtTable::Main)
            .rtm_protocol(Rtprot::Static)
            .rtm_scope(RtScope::Universe)
            .rtm_type(kind)
            .rtattrs(attributes.iter().map(|(kind, bytes)| attribute(*kind, bytes).unwrap()).collect())
            .build()
            .unwrap()
    }

    const TO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn the_next_hop_is_the_gateway_the_address_itself_or_the_director() {
        let device = (Rta::Oif, &3_u32.to_ne_bytes()[..]);
        let via: [u8; 18] = *b"\x0a\0\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x01";
        let cases = [
            (Rtn::Unicast, None, NextHop::Direct),
            (Rtn::Unicast, Some((Rta::Gateway, &[10, 9, 0, 1][..])), NextHop::Gateway([10, 9, 0, 1].into())),
            (Rtn::Unicast, Some((Rta::from(RTA_VIA), &via)), NextHop::Gateway("fe80::1".parse().unwrap())),
            (Rtn::Local, None, NextHop::Local),
        ];
        for (kind, gateway, next_hop) in cases {
            let attributes: Vec<_> = gateway.into_iter().chain([device]).collect();
            let route = read(TO, &answer(kind, &attributes));
            assert_eq!(route, Ok(KernelRoute { device: 3, next_hop, source: None }));
        }
    }

    #[test]
    fn routes_that_lead_nowhere_are_errors_that_name_the_address() {
        let kinds = [Rtn::Unreachable, Rtn::Prohibit, Rtn::Blackhole, Rtn::Broadcast, Rtn::Multicast];
        for kind in kinds {
            let error = read(TO, &answer(kind, &[])).unwrap_err().to_string();
            assert!(error.contains("10.0.0.1"), "{kind:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_route_or_an_error(bytes: Vec<u8>) {
            if let Ok(message) = Rtmsg::from_bytes_with_input(&mut Cursor::new(&bytes), bytes.len()) {
                let has_device = number(message.rtattrs(), Rta::Oif).is_some();
                prop_assert!(has_device || read(TO, &message).is_err());
            }
        }

        #[test]
        fn any_attributes_give_a_route_or_an_error(
            attributes in prop::collection::vec((0..32_u16, any::<Vec<u8>>()), 0..6),
        ) {
            let attributes: Vec<_> =
                attributes.iter().map(|(kind, bytes)| (Rta::from(*kind), bytes.as_slice())).collect();
            let message = answer(Rtn::Unicast, &attributes);
            let has_device = number(message.rtattrs(), Rta::Oif).is_some();
            prop_assert_eq!(has_device, read(TO, &message).is_ok());
        }
    }
}
