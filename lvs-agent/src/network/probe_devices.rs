//! Devices for the source addresses of probes to VIPs: an ipvlan each, on the device towards the servers.
//!
//! A server answers such a probe from the VIP, which is an address of the director's own: IPv4 drops what comes from
//! outside with such a source (`fib_validate_source` in `net/ipv4/fib_frontend.c`), unless the device that it comes in
//! by says `accept_local`. What goes to the ipvlan's address comes in by the ipvlan, whose MAC address is that of the
//! device below: so `accept_local` is set there and nowhere else, and no other packet is treated otherwise than before.
//!
//! A device is known as the agent's by its kind and by its name, which is made of its address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use neli::{
    consts::{
        nl::NlmF,
        rtnl::{Ifa, Ifla, IflaInfo, RtAddrFamily, RtScope, Rtm},
    },
    rtnl::{Ifaddrmsg, IfaddrmsgBuilder, Ifinfomsg, IfinfomsgBuilder},
    types::RtBuffer,
};
use nix::errno::Errno;

use super::{
    attributes::{address, attribute, find},
    device_addresses::Addresses,
    error::NetworkError,
    link::{Link, Links},
    netlink::{Netlink, unbuildable},
};
use crate::netlink::NetlinkError;

/// The kind of the devices.
const IPVLAN: &str = "ipvlan";
/// `IFLA_IPVLAN_MODE` and `IPVLAN_MODE_L2` of `linux/if_link.h`.
const IPVLAN_MODE: u16 = 1;
const MODE_L2: u16 = 0;
/// How their names begin; the address in hexadecimal follows.
const NAME: &str = "lvs-vip";
/// Attributes of a device's settings for IPv4: `IFLA_INET_CONF` of `linux/if_link.h`, around numbers of `linux/ip.h`
/// (`IPV4_DEVCONF_*`). By netlink, as `/proc/sys` may be closed to a service.
const AF_INET: u16 = 2;
const INET_CONF: u16 = 1;
const RP_FILTER: u16 = 8;
const ACCEPT_LOCAL: u16 = 23;
/// The settings of each. With `rp_filter` 2 it does not matter what is set for all devices: the greater of the two
/// counts, and 2 asks only for some route back.
const SETTINGS: [(u16, u32); 2] = [(ACCEPT_LOCAL, 1), (RP_FILTER, 2)];

/// Where the source address of probes is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeSource {
    /// On a device that the agent has made, above this one.
    Made {
        /// Its name.
        device: String,
        /// The device below it; `None`: it was there already.
        above: Option<String>,
    },
    /// On a device of the operator's.
    Given {
        /// The device's name.
        device: String,
    },
}

/// Makes and removes the devices.
pub struct ProbeDevices {
    netlink: Netlink,
    links: Links,
    addresses: Addresses,
}

/// An address of a device, and how much of it is its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OnDevice {
    index: u32,
    address: Ipv4Addr,
    prefix: u8,
}

impl ProbeDevices {
    /// Those of the calling thread's network namespace. The kernel has `timeout` for each answer.
    pub async fn connect(timeout: Duration) -> Result<Self, NetworkError> {
        let netlink = Netlink::connect(timeout).await;
        Ok(Self {
            netlink: netlink.map_err(NetworkError::netlink("connect to rtnetlink"))?,
            links: Links::connect(timeout).await?,
            addresses: Addresses::connect(timeout).await?,
        })
    }

    /// Has a device for each of these addresses and no other one, as far as possible; says where each address is.
    pub async fn set(
        &mut self,
        wanted: &BTreeSet<Ipv4Addr>,
    ) -> Result<BTreeMap<Ipv4Addr, Result<ProbeSource, NetworkError>>, NetworkError> {
        let links = self.links.list().await?;
        let addresses = self.list().await?;
        for link in &links {
            if made_for(link).is_some_and(|address| !wanted.contains(&address)) {
                self.remove(link).await?;
            }
        }
        let mut sources = BTreeMap::new();
        for address in wanted {
            sources.insert(*address, self.make(*address, &links, &addresses).await);
        }
        Ok(sources)
    }

    async fn make(
        &mut self,
        address: Ipv4Addr,
        links: &[Link],
        addresses: &[OnDevice],
    ) -> Result<ProbeSource, NetworkError> {
        let mut holders = addresses.iter().filter(|one| one.address == address);
        let holder = holders.find_map(|one| links.iter().find(|link| link.index == one.index));
        match holder {
            Some(link) if made_for(link).is_some() && link.up => {
                return Ok(ProbeSource::Made { device: link.name.clone(), above: None });
            }
            Some(link) if made_for(link).is_none() => {
                return Ok(ProbeSource::Given { device: link.name.clone() });
            }
            _ => {}
        }
        // One that an earlier agent has not finished.
        if let Some(link) = links.iter().find(|link| made_for(link) == Some(address)) {
            self.remove(link).await?;
        }
        let below = below(address, links, addresses).ok_or(NetworkError::NoNetworkOf(address.into()))?;
        let made = self.make_on(address, below).await;
        if made.is_err() {
            self.undo(address).await;
        }
        made.map(|()| ProbeSource::Made { device: name_of(address), above: Some(below.name.clone()) })
    }

    async fn make_on(&mut self, address: Ipv4Addr, below: &Link) -> Result<(), NetworkError> {
        let name = name_of(address);
        let doing = || format!("make the device \"{name}\" on \"{}\"", below.name);
        let message = new_ipvlan(&name, below.index).map_err(NetworkError::netlink(doing()))?;
        let flags = NlmF::CREATE | NlmF::EXCL | NlmF::ACK;
        let made = self.netlink.ask(Rtm::Newlink.into(), flags, message, |_| ()).await;
        made.map_err(NetworkError::netlink(doing()))?;
        let link = self.links.by_name(&name).await?;
        let doing = || format!("have \"{name}\" take answers from VIPs");
        let message = settings(link.index).map_err(NetworkError::netlink(doing()))?;
        let set = self.netlink.ask(Rtm::Newlink.into(), NlmF::ACK, message, |_| ()).await;
        set.map_err(NetworkError::netlink(doing()))?;
        self.addresses.add_to_own(link.index, IpAddr::V4(address)).await?;
        self.addresses.switch_on(link.index).await
    }

    /// Takes half a device away. Why it is only half is told by whoever has found that out.
    async fn undo(&mut self, address: Ipv4Addr) {
        if let Ok(link) = self.links.by_name(&name_of(address)).await
            && let Err(error) = self.remove(&link).await
        {
            tracing::warn!("{error}");
        }
    }

    async fn remove(&mut self, link: &Link) -> Result<(), NetworkError> {
        let doing = || format!("remove the device \"{}\"", link.name);
        let message = about(link.index, RtBuffer::new()).map_err(NetworkError::netlink(doing()))?;
        match self.netlink.ask(Rtm::Dellink.into(), NlmF::ACK, message, |_| ()).await {
            Ok(_) | Err(NetlinkError::Kernel(Errno::ENODEV)) => Ok(()),
            Err(error) => Err(NetworkError::netlink(doing())(error)),
        }
    }

    async fn list(&mut self) -> Result<Vec<OnDevice>, NetworkError> {
        let addresses = self.netlink.dump(Rtm::Getaddr.into(), question, read).await;
        let addresses = addresses.map_err(NetworkError::netlink("read the addresses of devices"))?;
        Ok(addresses.into_iter().flatten().collect())
    }
}

/// The name of the device for an address: 15 bytes, as many as there may be.
fn name_of(address: Ipv4Addr) -> String {
    format!("{NAME}{:08x}", address.to_bits())
}

/// For which address the agent has made a device; `None`: it is somebody else's.
fn made_for(link: &Link) -> Option<Ipv4Addr> {
    let digits = link.name.strip_prefix(NAME).filter(|digits| digits.len() == 8)?;
    let address = Ipv4Addr::from_bits(u32::from_str_radix(digits, 16).ok()?);
    (link.kind.as_deref() == Some(IPVLAN)).then_some(address)
}

/// The device whose network an address is in; of several that with the smallest network.
fn below<'a>(address: Ipv4Addr, links: &'a [Link], addresses: &[OnDevice]) -> Option<&'a Link> {
    let is_network = |one: &&OnDevice| {
        let differ = one.address.to_bits() ^ address.to_bits();
        one.prefix < 32 && differ.leading_zeros() >= u32::from(one.prefix)
    };
    let mut networks: Vec<&OnDevice> = addresses.iter().filter(is_network).collect();
    networks.sort_by_key(|one| std::cmp::Reverse(one.prefix));
    // The loopback has no MAC address.
    let device = |one: &OnDevice| links.iter().find(|link| link.index == one.index && link.mac.is_some());
    networks.into_iter().filter_map(device).find(|link| made_for(link).is_none())
}

fn new_ipvlan(name: &str, below: u32) -> Result<Ifinfomsg, NetlinkError> {
    let mode = nested(IPVLAN_MODE, &MODE_L2.to_ne_bytes());
    let info = attribute(Ifla::Linkinfo, &[])?
        .nest(&attribute(IflaInfo::Kind, IPVLAN.as_bytes())?)
        .map_err(unbuildable)?
        .nest(&attribute(IflaInfo::Data, &mode)?)
        .map_err(unbuildable)?;
    let mut list = RtBuffer::new();
    list.push(attribute(Ifla::Ifname, &[name.as_bytes(), b"\0"].concat())?);
    list.push(attribute(Ifla::Link, &below.to_ne_bytes())?);
    list.push(info);
    about(0, list)
}

/// The message that makes the settings of a device.
fn settings(index: u32) -> Result<Ifinfomsg, NetlinkError> {
    let each = SETTINGS.map(|(number, value)| nested(number, &value.to_ne_bytes())).concat();
    let of_ipv4 = nested(AF_INET, &nested(INET_CONF, &each));
    let mut list = RtBuffer::new();
    list.push(attribute(Ifla::AfSpec, &of_ipv4)?);
    about(index, list)
}

/// The bytes of an attribute in an attribute (`struct nlattr` in `linux/netlink.h`).
fn nested(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + payload.len()).unwrap_or(u16::MAX);
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), payload].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn about(index: u32, attributes: RtBuffer<Ifla, neli::types::Buffer>) -> Result<Ifinfomsg, NetlinkError> {
    let index = i32::try_from(index).map_err(|_| NetlinkError::Kernel(Errno::ENODEV))?;
    IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(index)
        .rtattrs(attributes)
        .build()
        .map_err(unbuildable)
}

fn question() -> Result<Ifaddrmsg, NetlinkError> {
    IfaddrmsgBuilder::default()
        .ifa_family(RtAddrFamily::Inet)
        .ifa_prefixlen(0)
        .ifa_scope(RtScope::Universe)
        .ifa_index(0)
        .build()
        .map_err(unbuildable)
}

fn read(message: &Ifaddrmsg) -> Option<OnDevice> {
    let bytes = find(message.rtattrs(), Ifa::Local)?;
    let IpAddr::V4(address) = address(bytes)? else { return None };
    Some(OnDevice { index: *message.ifa_index(), address, prefix: *message.ifa_prefixlen() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
        let kind = kind.map(str::to_owned);
        let mac = (name != "lo").then_some([2; 6]);
        Link { index, name: name.to_owned(), mac, up: true, carrier: true, kind }
    }

    #[test]
    fn a_device_is_known_by_its_name_and_kind() {
        let address = Ipv4Addr::new(10, 1, 0, 250);
        let name = name_of(address);
        assert_eq!(name, "lvs-vip0a0100fa");
        assert_eq!(made_for(&link(7, &name, Some("ipvlan"))), Some(address));
        for (name, kind) in [(name.as_str(), Some("dummy")), ("lvs-vip0", Some("ipvlan")), ("eth0", None)] {
            assert_eq!(made_for(&link(7, name, kind)), None, "{name} {kind:?}");
        }
    }

    #[test]
    fn the_device_below_is_the_one_with_the_smallest_network_of_the_address() {
        let links = [link(1, "lo", None), link(2, "eth0", None), link(3, "eth1", Some("vlan"))];
        let on = |index, octets: [u8; 4], prefix| OnDevice { index, address: octets.into(), prefix };
        let addresses = [on(1, [10, 1, 0, 80], 24), on(2, [10, 0, 0, 1], 8), on(3, [10, 1, 0, 1], 24)];
        let name = |octets: [u8; 4]| below(octets.into(), &links, &addresses).map(|link| link.name.as_str());
        assert_eq!(name([10, 1, 0, 250]), Some("eth1"));
        assert_eq!(name([10, 2, 0, 250]), Some("eth0"));
        assert_eq!(name([192, 0, 2, 1]), None);
    }
}
