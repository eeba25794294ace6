//! The neighbour table: the MAC address of each address on each device.

mod mirror;
mod watch;

use std::{net::IpAddr, time::Duration};

use neli::{
    consts::{
        nl::NlmF,
        rtnl::{Nda, Ntf, Nud, RtAddrFamily, Rtm, Rtn},
    },
    rtnl::{Ndmsg, NdmsgBuilder},
    types::RtBuffer,
};
use nix::errno::Errno;

use super::{
    Mac,
    attributes::{address, address_bytes, attribute, family, find, mac},
    error::NetworkError,
    netlink::{Netlink, unbuildable},
};
use crate::netlink::NetlinkError;

pub use watch::NeighbourWatch;

/// An entry of the neighbour table, as it is from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourChange {
    /// Index of the device.
    pub device: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// How sure the kernel is of it.
    pub state: NeighbourState,
    /// The neighbour's MAC address, where it has one.
    pub mac: Option<Mac>,
}

/// How sure the kernel is of a neighbour (`NUD_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NeighbourState {
    /// New and unused.
    None,
    /// Asked for, not yet answered.
    Incomplete,
    /// Has answered not long ago.
    Reachable,
    /// Has answered some time ago. Packets are still sent to it.
    Stale,
    /// Stale and in use: will be asked again in some seconds.
    Delay,
    /// Is being asked again.
    Probe,
    /// Doesn't answer: packets to it are dropped.
    Failed,
    /// Needs no asking: the device has no link-layer addresses.
    NoArp,
    /// Set by hand.
    Permanent,
    /// No longer in the table.
    Gone,
}

impl NeighbourState {
    /// Whether packets are sent to its MAC address (`NUD_VALID`).
    #[must_use]
    pub fn is_usable(self) -> bool {
        match self {
            Self::Reachable | Self::Stale | Self::Delay | Self::Probe | Self::NoArp | Self::Permanent => true,
            Self::None | Self::Incomplete | Self::Failed | Self::Gone => false,
        }
    }

    fn of(bits: Nud) -> Self {
        let states = [
            (Nud::PERMANENT, Self::Permanent),
            (Nud::NOARP, Self::NoArp),
            (Nud::REACHABLE, Self::Reachable),
            (Nud::PROBE, Self::Probe),
            (Nud::DELAY, Self::Delay),
            (Nud::STALE, Self::Stale),
            (Nud::INCOMPLETE, Self::Incomplete),
            (Nud::FAILED, Self::Failed),
        ];
        states.iter().find(|(bit, _)| bits.contains(*bit)).map_or(Self::None, |(_, state)| *state)
    }
}

/// Reads the neighbour table, and makes the kernel resolve neighbours.
pub struct Neighbours {
    netlink: Netlink,
}

impl Neighbours {
    /// The neighbours of the calling thread's network namespace. The kernel has `timeout` for each answer.
    pub async fn connect(timeout: Duration) -> Result<Self, NetworkError> {
        let netlink = Netlink::connect(timeout).await;
        Ok(Self { netlink: netlink.map_err(NetworkError::netlink("connect to rtnetlink"))? })
    }

    /// The whole table, both IP versions, all devices.
    pub async fn dump(&mut self) -> Result<Vec<NeighbourChange>, NetworkError> {
        let question = || message(RtAddrFamily::Unspecified, 0, Ntf::empty(), RtBuffer::new());
        let entries = self.netlink.dump(Rtm::Getneigh.into(), question, read).await;
        let entries = entries.map_err(NetworkError::netlink("read the neighbour table"))?;
        Ok(entries.into_iter().flatten().collect())
    }

    /// One entry, if there is one.
    pub async fn entry(
        &mut self,
        device: u32,
        address: IpAddr,
    ) -> Result<Option<NeighbourChange>, NetworkError> {
        let doing = || format!("read the neighbour {address}");
        let question = about(device, address, Ntf::empty()).map_err(NetworkError::netlink(doing()))?;
        match self.netlink.ask(Rtm::Getneigh.into(), NlmF::empty(), question, read).await {
            Ok(entries) => Ok(entries.into_iter().flatten().next()),
            Err(NetlinkError::Kernel(Errno::ENOENT)) => Ok(None),
            Err(NetlinkError::Kernel(Errno::ENODEV)) => Err(NetworkError::NoDeviceIndex(device)),
            Err(error) => Err(NetworkError::netlink(doing())(error)),
        }
    }

    /// Makes the kernel ask for a neighbour's MAC address as if there were a packet for it. Doesn't wait for the
    /// answer: that comes by [`NeighbourWatch`]. An entry that is usable already is left alone and returned.
    ///
    /// What works from 5.10 to 7.2 is `RTM_NEWNEIGH` with `NTF_USE` and no state. `NUD_PROBE` doesn't: without a
    /// MAC address the kernel refuses it for an entry that isn't valid yet. `NTF_USE` has a trap of its own since
    /// 5.16, which is why the entry is read first: on a permanent one it clears the mark (`__neigh_update`), and
    /// an address set by hand would be lost.
    ///
    /// Over IPv6 a device asks for nobody before its own link-local address has passed duplicate address detection;
    /// until then the neighbour just fails. So try again after a failure.
    pub async fn resolve(
        &mut self,
        device: u32,
        address: IpAddr,
    ) -> Result<Option<NeighbourChange>, NetworkError> {
        let usable = self.entry(device, address).await?.filter(|entry| entry.state.is_usable());
        if usable.is_some() {
            return Ok(usable);
        }
        let doing = || format!("ask for the MAC address of {address}");
        let question = about(device, address, Ntf::USE).map_err(NetworkError::netlink(doing()))?;
        let flags = NlmF::CREATE | NlmF::ACK;
        match self.netlink.ask(Rtm::Newneigh.into(), flags, question, |_| ()).await {
            Ok(_) => Ok(None),
            Err(NetlinkError::Kernel(Errno::ENODEV)) => Err(NetworkError::NoDeviceIndex(device)),
            Err(error) => Err(NetworkError::netlink(doing())(error)),
        }
    }
}

/// A message about one neighbour.
fn about(device: u32, address: IpAddr, flags: Ntf) -> Result<Ndmsg, NetlinkError> {
    let index = i32::try_from(device).map_err(|_| NetlinkError::Kernel(Errno::ENODEV))?;
    let mut attributes = RtBuffer::new();
    attributes.push(attribute(Nda::Dst, &address_bytes(address))?);
    message(family(address), index, flags, attributes)
}

fn message(
    family: RtAddrFamily,
    index: i32,
    flags: Ntf,
    attributes: RtBuffer<Nda, neli::types::Buffer>,
) -> Result<Ndmsg, NetlinkError> {
    NdmsgBuilder::default()
        .ndm_family(family)
        .ndm_index(index)
        .ndm_state(Nud::empty())
        .ndm_flags(flags)
        .ndm_type(Rtn::Unspec)
        .rtattrs(attributes)
        .build()
        .map_err(unbuildable)
}

/// An entry of the table; `None` for what is none: the forwarding tables of bridges and proxied addresses.
fn read(message: &Ndmsg) -> Option<NeighbourChange> {
    let is_ip = matches!(message.ndm_family(), RtAddrFamily::Inet | RtAddrFamily::Inet6);
    if !is_ip || message.ndm_flags().contains(Ntf::PROXY) {
        return None;
    }
    Some(NeighbourChange {
        device: u32::try_from(*message.ndm_index()).ok()?,
        address: find(message.rtattrs(), Nda::Dst).and_then(address)?,
        state: NeighbourState::of(*message.ndm_state()),
        mac: find(message.rtattrs(), Nda::Lladdr).and_then(mac),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use neli::FromBytesWithInput;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_state_of_the_kernel_has_its_own() {
        let states = [
            (0x00, NeighbourState::None, false),
            (0x01, NeighbourState::Incomplete, false),
            (0x02, NeighbourState::Reachable, true),
            (0x04, NeighbourState::Stale, true),
            (0x08, NeighbourState::Delay, true),
            (0x10, NeighbourState::Probe, true),
            (0x20, NeighbourState::Failed, false),
            (0x40, NeighbourState::NoArp, true),
            (0x80, NeighbourState::Permanent, true),
        ];
        for (bits, state, usable) in states {
            assert_eq!(NeighbourState::of(Nud::from(bits)), state, "{bits:#x}");
            assert_eq!(state.is_usable(), usable, "{state:?}");
        }
        assert!(!NeighbourState::Gone.is_usable());
    }

    #[test]
    fn a_request_and_its_answer_name_the_same_neighbour() {
        for address in ["10.0.0.1", "2001:db8::1"] {
            let address = address.parse().unwrap();
            let entry = read(&about(3, address, Ntf::empty()).unwrap());
            assert_eq!(
                entry,
                Some(NeighbourChange { device: 3, address, state: NeighbourState::None, mac: None })
            );
            assert_eq!(read(&about(3, address, Ntf::PROXY).unwrap()), None, "proxied");
        }
    }

    #[test]
    fn entries_of_a_bridge_are_no_neighbours() {
        let mut attributes = RtBuffer::new();
        attributes.push(attribute(Nda::Dst, &[10, 0, 0, 1]).unwrap());
        let bridge = message(RtAddrFamily::from(7), 3, Ntf::empty(), attributes).unwrap();
        assert_eq!(read(&bridge), None);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_neighbour_or_none(bytes: Vec<u8>) {
            if let Ok(message) = Ndmsg::from_bytes_with_input(&mut Cursor::new(&bytes), bytes.len()) {
                let has_address = find(message.rtattrs(), Nda::Dst).is_some();
                prop_assert!(has_address || read(&message).is_none());
            }
        }
    }
}
