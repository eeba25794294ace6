//! Network devices.

use std::time::Duration;

use neli::{
    consts::{
        nl::NlmF,
        rtnl::{Iff, Ifla, IflaInfo, RtAddrFamily, Rtm},
    },
    rtnl::{Ifinfomsg, IfinfomsgBuilder},
    types::{Buffer, RtBuffer},
};
use nix::errno::Errno;

use super::{
    Mac,
    attributes::{find, mac, nested, text},
    error::NetworkError,
    netlink::{Netlink, unbuildable},
};
use crate::netlink::NetlinkError;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in its network namespace, never 0.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address; `None` where its link layer has none, or another kind of address.
    pub mac: Option<Mac>,
    /// Whether it was switched on (`ip link set up`).
    pub up: bool,
    /// Whether something is at the other end.
    pub carrier: bool,
    /// What kind of virtual device it is (`veth`, `bond`, `vlan`, …); `None` for hardware and the loopback.
    pub kind: Option<String>,
}

/// Reads network devices.
pub struct Links {
    netlink: Netlink,
}

impl Links {
    /// The devices of the calling thread's network namespace. The kernel has `timeout` for each answer.
    pub async fn connect(timeout: Duration) -> Result<Self, NetworkError> {
        let netlink = Netlink::connect(timeout).await;
        Ok(Self { netlink: netlink.map_err(NetworkError::netlink("connect to rtnetlink"))? })
    }

    /// All devices, by index.
    pub async fn list(&mut self) -> Result<Vec<Link>, NetworkError> {
        let links = self.netlink.dump(Rtm::Getlink.into(), || question(0), read).await;
        let links = links.map_err(NetworkError::netlink("read the network devices"))?;
        let mut links: Vec<Link> = links.into_iter().flatten().collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// The device of that name; the error names those that there are.
    pub async fn by_name(&mut self, name: &str) -> Result<Link, NetworkError> {
        let links = self.list().await?;
        match links.iter().find(|link| link.name == name) {
            Some(link) => Ok(link.clone()),
            None => Err(NetworkError::NoDevice {
                name: name.to_owned(),
                present: links.into_iter().map(|link| link.name).collect(),
            }),
        }
    }

    /// The device of that index.
    pub async fn by_index(&mut self, index: u32) -> Result<Link, NetworkError> {
        by_index(&mut self.netlink, index).await
    }
}

/// The device of that index, asked for over a connection that is there already.
pub(super) async fn by_index(netlink: &mut Netlink, index: u32) -> Result<Link, NetworkError> {
    let doing = || format!("read the network device with index {index}");
    let Ok(number) = i32::try_from(index) else { return Err(NetworkError::NoDeviceIndex(index)) };
    let question = question(number).map_err(NetworkError::netlink(doing()))?;
    match netlink.ask(Rtm::Getlink.into(), NlmF::empty(), question, read).await {
        Ok(links) => links.into_iter().flatten().next().ok_or_else(|| NetworkError::answer(doing())),
        // The kernel takes 0 and negative numbers for a missing question.
        Err(NetlinkError::Kernel(Errno::ENODEV | Errno::EINVAL)) => Err(NetworkError::NoDeviceIndex(index)),
        Err(error) => Err(NetworkError::netlink(doing())(error)),
    }
}

/// The question for one device, or with 0 for all.
fn question(index: i32) -> Result<Ifinfomsg, NetlinkError> {
    IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(index)
        .build()
        .map_err(unbuildable)
}

fn read(message: &Ifinfomsg) -> Option<Link> {
    let attributes = message.rtattrs();
    let info: Option<RtBuffer<IflaInfo, Buffer>> = nested(attributes, Ifla::Linkinfo);
    Some(Link {
        index: u32::try_from(*message.ifi_index()).ok()?,
        name: text(attributes, Ifla::Ifname)?,
        mac: find(attributes, Ifla::Address).and_then(mac),
        up: message.ifi_flags().contains(Iff::UP),
        carrier: message.ifi_flags().contains(Iff::LOWERUP),
        kind: info.and_then(|info| text(&info, IflaInfo::Kind)),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use neli::FromBytesWithInput;
    use proptest::prelude::*;

    use super::*;
    use crate::network::attributes::attribute;

    fn message(index: i32, flags: Iff, attributes: &[(Ifla, Vec<u8>)]) -> Ifinfomsg {
        IfinfomsgBuilder::default()
            .ifi_family(RtAddrFamily::Unspecified)
            .ifi_index(index)
            .ifi_flags(flags)
            .rtattrs(attributes.iter().map(|(kind, bytes)| attribute(*kind, bytes).unwrap()).collect())
            .build()
            .unwrap()
    }

    #[test]
    fn a_device_is_read_from_its_attributes() {
        // IFLA_INFO_KIND, 1: length, kind, text with NUL, filler.
        let kind = [&9_u16.to_ne_bytes()[..], &1_u16.to_ne_bytes(), b"veth\0\0\0\0"].concat();
        let attributes = vec![
            (Ifla::Ifname, b"eth7\0".to_vec()),
            (Ifla::Address, vec![2, 0, 0, 0, 0, 7]),
            (Ifla::Linkinfo, kind),
        ];
        let link = read(&message(7, Iff::UP, &attributes)).unwrap();
        let wanted = Link {
            index: 7,
            name: "eth7".to_owned(),
            mac: Some([2, 0, 0, 0, 0, 7]),
            up: true,
            carrier: false,
            kind: Some("veth".to_owned()),
        };
        assert_eq!(link, wanted);
    }

    #[test]
    fn a_device_without_a_name_is_none() {
        assert_eq!(read(&message(1, Iff::empty(), &[])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_device_or_none(bytes: Vec<u8>) {
            if let Ok(message) = Ifinfomsg::from_bytes_with_input(&mut Cursor::new(&bytes), bytes.len()) {
                prop_assert!(read(&message).is_none_or(|link| !link.name.contains('\0')));
            }
        }

        #[test]
        fn any_attributes_give_a_device_or_none(
            attributes in prop::collection::vec((0..60_u16, any::<Vec<u8>>()), 0..6),
        ) {
            let attributes: Vec<_> =
                attributes.into_iter().map(|(kind, bytes)| (Ifla::from(kind), bytes)).collect();
            let link = read(&message(1, Iff::empty(), &attributes));
            prop_assert!(link.is_none_or(|link| !link.name.contains('\0')));
        }
    }
}
