//! Addresses of the director that the agent itself adds and removes: VIPs that are announced by being on a device.
//!
//! What the agent has added has a mark that the kernel keeps, so that the next agent knows it after a crash: the
//! protocol of the address (`IFA_PROTO`, from Linux 5.18 on) and its metric (`IFA_RT_PRIORITY`, from 4.18 on), which
//! older kernels keep alone. Neither has any other meaning: an address of one host has no route but its own.

use std::{net::IpAddr, time::Duration};

use neli::{
    consts::{
        nl::NlmF,
        rtnl::{Ifa, IfaF, Ifla, IflaInfo, RtAddrFamily, RtScope, Rtm},
    },
    rtnl::{Ifaddrmsg, IfaddrmsgBuilder, IfinfomsgBuilder},
    types::RtBuffer,
};
use nix::errno::Errno;

use super::{
    attributes::{address, address_bytes, attribute, family, find, number},
    error::NetworkError,
    link::{Link, Links},
    netlink::{Netlink, unbuildable},
};
use crate::netlink::NetlinkError;

/// `IFA_RT_PRIORITY` and `IFA_PROTO` of `linux/if_addr.h`, which neli has no names for.
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;
/// The agent's own protocol of addresses: one that nobody else is known to use (`IFAPROT_*` go from 0 to 3).
const OWN_PROTOCOL: u8 = 0x4c;
/// The agent's own metric of addresses: the port of its metrics, as good as any.
const OWN_METRIC: u32 = 9747;
/// A lifetime without an end (`INFINITY_LIFE_TIME`).
const FOR_EVER: u32 = u32::MAX;
/// The kind of device that addresses are put on which belong to no network.
const DUMMY: &[u8] = b"dummy";

/// An address of a single host on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The index of the device.
    pub device: u32,
    /// The address.
    pub address: IpAddr,
    /// Whether the agent has added it, this one or one before it.
    pub is_own: bool,
}

/// What became of an address that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there now.
    New,
    /// It was there.
    WasThere,
}

/// Adds addresses to devices and removes them.
pub struct Addresses {
    netlink: Netlink,
    links: Links,
}

impl Addresses {
    /// Those of the calling thread's network namespace. The kernel has `timeout` for each answer.
    pub async fn connect(timeout: Duration) -> Result<Self, NetworkError> {
        let netlink = Netlink::connect(timeout).await;
        let netlink = netlink.map_err(NetworkError::netlink("connect to rtnetlink"))?;
        Ok(Self { netlink, links: Links::connect(timeout).await? })
    }

    /// All devices.
    pub async fn devices(&mut self) -> Result<Vec<Link>, NetworkError> {
        self.links.list().await
    }

    /// Switches a device on.
    pub async fn switch_on(&mut self, device: u32) -> Result<(), NetworkError> {
        let doing = || format!("switch the device with index {device} on");
        let built =
            i32::try_from(device).map_err(|_| NetlinkError::Kernel(Errno::ENODEV)).and_then(|index| {
                let message =
                    IfinfomsgBuilder::default().ifi_family(RtAddrFamily::Unspecified).ifi_index(index).up();
                message.build().map_err(unbuildable)
            });
        let message = built.map_err(NetworkError::netlink(doing()))?;
        let done = self.netlink.ask(Rtm::Newlink.into(), NlmF::ACK, message, |_| ()).await;
        done.map(drop).map_err(NetworkError::netlink(doing()))
    }

    /// Makes a dummy device of that name, and switches it on.
    pub async fn make_dummy(&mut self, name: &str) -> Result<Link, NetworkError> {
        let doing = || format!("make the device \"{name}\"");
        let message = new_dummy(name).map_err(NetworkError::netlink(doing()))?;
        let flags = NlmF::CREATE | NlmF::EXCL | NlmF::ACK;
        let made = self.netlink.ask(Rtm::Newlink.into(), flags, message, |_| ()).await;
        made.map_err(NetworkError::netlink(doing()))?;
        self.links.by_name(name).await
    }

    /// The addresses of single hosts (/32, /128) on all devices.
    pub async fn list(&mut self) -> Result<Vec<HostAddress>, NetworkError> {
        let question = || message(RtAddrFamily::Unspecified, 0, 0, &[]);
        let addresses = self.netlink.dump(Rtm::Getaddr.into(), question, read).await;
        let addresses = addresses.map_err(NetworkError::netlink("read the addresses of devices"))?;
        Ok(addresses.into_iter().flatten().collect())
    }

    /// Adds an address to the device with that index. `lifetime`: how long the kernel keeps it, unless it is renewed.
    pub async fn add(
        &mut self,
        device: u32,
        address: IpAddr,
        lifetime: Option<Duration>,
    ) -> Result<Added, NetworkError> {
        match self.set(device, address, lifetime, NlmF::CREATE | NlmF::EXCL).await {
            Ok(()) => Ok(Added::New),
            Err(NetlinkError::Kernel(Errno::EEXIST)) => Ok(Added::WasThere),
            Err(error) => Err(refused(error, device, format!("add {address}"))),
        }
    }

    /// Adds an address to a device of the agent's own, which goes with the device: without the marks, by which it would
    /// be taken for a VIP that is announced.
    pub(super) async fn add_to_own(&mut self, device: u32, address: IpAddr) -> Result<(), NetworkError> {
        let doing = || format!("add {address}");
        let message = about(device, address, &[]).map_err(NetworkError::netlink(doing()))?;
        let flags = NlmF::CREATE | NlmF::EXCL | NlmF::ACK;
        let added = self.netlink.ask(Rtm::Newaddr.into(), flags, message, |_| ()).await;
        added.map(drop).map_err(NetworkError::netlink(doing()))
    }

    /// Has the kernel keep an address of the agent's own for `lifetime` from now on.
    pub async fn renew(
        &mut self,
        device: u32,
        address: IpAddr,
        lifetime: Option<Duration>,
    ) -> Result<(), NetworkError> {
        let set = self.set(device, address, lifetime, NlmF::CREATE | NlmF::REPLACE).await;
        set.map_err(|error| refused(error, device, format!("renew {address}")))
    }

    /// Removes an address, unless it is gone.
    pub async fn remove(&mut self, device: u32, address: IpAddr) -> Result<(), NetworkError> {
        let doing = || format!("remove {address}");
        let message = about(device, address, &[]).map_err(NetworkError::netlink(doing()))?;
        match self.netlink.ask(Rtm::Deladdr.into(), NlmF::ACK, message, |_| ()).await {
            Ok(_) | Err(NetlinkError::Kernel(Errno::EADDRNOTAVAIL | Errno::ENODEV)) => Ok(()),
            Err(error) => Err(NetworkError::netlink(doing())(error)),
        }
    }

    async fn set(
        &mut self,
        device: u32,
        address: IpAddr,
        lifetime: Option<Duration>,
        flags: NlmF,
    ) -> Result<(), NetlinkError> {
        let seconds = lifetime.map_or(FOR_EVER, |lifetime| lifetime.as_secs().try_into().unwrap_or(FOR_EVER));
        // `struct ifa_cacheinfo`: preferred, valid, and two times that only the kernel says.
        let life = [seconds, seconds, 0, 0].map(u32::to_ne_bytes).concat();
        let attributes = [
            (Ifa::Cacheinfo, life),
            (Ifa::from(IFA_RT_PRIORITY), OWN_METRIC.to_ne_bytes().to_vec()),
            (Ifa::from(IFA_PROTO), vec![OWN_PROTOCOL]),
        ];
        let message = about(device, address, &attributes)?;
        self.netlink.ask(Rtm::Newaddr.into(), flags | NlmF::ACK, message, |_| ()).await.map(drop)
    }
}

fn refused(error: NetlinkError, device: u32, doing: String) -> NetworkError {
    match error {
        NetlinkError::Kernel(Errno::ENODEV) => NetworkError::NoDeviceIndex(device),
        error => NetworkError::netlink(doing)(error),
    }
}

/// A message about an address of a single host on a device.
fn about(device: u32, address: IpAddr, attributes: &[(Ifa, Vec<u8>)]) -> Result<Ifaddrmsg, NetlinkError> {
    let bytes = address_bytes(address);
    let length = if address.is_ipv4() { 32 } else { 128 };
    let own = [(Ifa::Local, bytes.clone()), (Ifa::Address, bytes)];
    message(family(address), device, length, &[&own[..], attributes].concat())
}

fn message(
    family: RtAddrFamily,
    device: u32,
    length: u8,
    attributes: &[(Ifa, Vec<u8>)],
) -> Result<Ifaddrmsg, NetlinkError> {
    let mut list = RtBuffer::new();
    for (kind, bytes) in attributes {
        list.push(attribute(*kind, bytes)?);
    }
    IfaddrmsgBuilder::default()
        .ifa_family(family)
        .ifa_prefixlen(length)
        // Nobody else on a dummy device could have it.
        .ifa_flags(IfaF::NODAD)
        .ifa_scope(RtScope::Universe)
        .ifa_index(device)
        .rtattrs(list)
        .build()
        .map_err(unbuildable)
}

/// An address of a single host; `None` for all others.
fn read(message: &Ifaddrmsg) -> Option<HostAddress> {
    let attributes = message.rtattrs();
    // Of a connection between two the address is the other end.
    let bytes = find(attributes, Ifa::Local).or_else(|| find(attributes, Ifa::Address))?;
    let address = address(bytes)?;
    let is_host = *message.ifa_prefixlen() == if address.is_ipv4() { 32 } else { 128 };
    if !is_host {
        return None;
    }
    let protocol = find(attributes, Ifa::from(IFA_PROTO)).and_then(|bytes| bytes.first().copied());
    let metric = number(attributes, Ifa::from(IFA_RT_PRIORITY));
    let is_own = match protocol {
        Some(protocol) => protocol == OWN_PROTOCOL,
        // A kernel that keeps no protocol.
        None => metric == Some(OWN_METRIC),
    };
    Some(HostAddress { device: *message.ifa_index(), address, is_own })
}

fn new_dummy(name: &str) -> Result<neli::rtnl::Ifinfomsg, NetlinkError> {
    let text = [name.as_bytes(), b"\0"].concat();
    let kind =
        attribute(Ifla::Linkinfo, &[])?.nest(&attribute(IflaInfo::Kind, DUMMY)?).map_err(unbuildable)?;
    let mut list = RtBuffer::new();
    list.push(attribute(Ifla::Ifname, &text)?);
    list.push(kind);
    IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .up()
        .rtattrs(list)
        .build()
        .map_err(unbuildable)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use neli::FromBytesWithInput;
    use proptest::prelude::*;

    use super::*;

    fn answer(address: &str, length: u8, marks: &[(u16, Vec<u8>)]) -> Option<HostAddress> {
        let address: IpAddr = address.parse().unwrap();
        let own = [(Ifa::Address, address_bytes(address))];
        let marks: Vec<_> = marks.iter().map(|(kind, bytes)| (Ifa::from(*kind), bytes.clone())).collect();
        read(&message(family(address), 7, length, &[&own[..], &marks].concat()).unwrap())
    }

    #[test]
    fn own_addresses_are_known_by_their_marks() {
        let metric = (IFA_RT_PRIORITY, OWN_METRIC.to_ne_bytes().to_vec());
        let protocol = |number| (IFA_PROTO, vec![number]);
        let cases = [
            ("192.0.2.80", 32, vec![], Some(false)),
            ("192.0.2.80", 32, vec![metric.clone()], Some(true)),
            ("192.0.2.80", 32, vec![metric.clone(), protocol(OWN_PROTOCOL)], Some(true)),
            ("192.0.2.80", 32, vec![metric.clone(), protocol(2)], Some(false)),
            ("2001:db8::80", 128, vec![protocol(OWN_PROTOCOL)], Some(true)),
            ("2001:db8::80", 64, vec![protocol(OWN_PROTOCOL)], None),
            ("192.0.2.80", 24, vec![metric], None),
        ];
        for (address, length, marks, expected) in cases {
            let found = answer(address, length, &marks);
            assert_eq!(found.map(|found| found.is_own), expected, "{address}/{length} {marks:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_address_or_none(bytes: Vec<u8>) {
            if let Ok(message) = Ifaddrmsg::from_bytes_with_input(&mut Cursor::new(&bytes), bytes.len()) {
                let is_host = [32, 128].contains(message.ifa_prefixlen());
                prop_assert!(read(&message).is_none() || is_host);
            }
        }
    }
}
