//! Attributes of rtnetlink messages.

use std::{
    io::Cursor,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use neli::{
    FromBytesWithInput,
    consts::rtnl::{RtAddrFamily, RtaType},
    rtnl::{Rtattr, RtattrBuilder},
    types::{Buffer, RtBuffer},
};

use super::{Mac, netlink::unbuildable};
use crate::netlink::NetlinkError;

/// The payload of the first attribute of that kind.
pub(super) fn find<T: RtaType>(attributes: &RtBuffer<T, Buffer>, kind: T) -> Option<&[u8]> {
    attributes.iter().find(|one| *one.rta_type() == kind).map(|one| one.rta_payload().as_ref())
}

/// A number in the machine's byte order.
pub(super) fn number<T: RtaType>(attributes: &RtBuffer<T, Buffer>, kind: T) -> Option<u32> {
    find(attributes, kind)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A text up to its closing NUL. Names that aren't UTF-8 are possible: they get replacement characters.
pub(super) fn text<T: RtaType>(attributes: &RtBuffer<T, Buffer>, kind: T) -> Option<String> {
    let bytes = find(attributes, kind)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// The attributes in an attribute.
pub(super) fn nested<T: RtaType, U: RtaType>(
    attributes: &RtBuffer<T, Buffer>,
    kind: T,
) -> Option<RtBuffer<U, Buffer>> {
    let bytes = find(attributes, kind)?;
    RtBuffer::from_bytes_with_input(&mut Cursor::new(bytes), bytes.len()).ok()
}

/// An address; its length says which.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).into()),
        16 => bytes.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes).into()),
        _ => None,
    }
}

/// A MAC address; devices of other kinds have link-layer addresses of other lengths.
pub(super) fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok()
}

/// The bytes of an address.
pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The number of an address's IP version.
pub(super) fn family(address: IpAddr) -> RtAddrFamily {
    if address.is_ipv4() { RtAddrFamily::Inet } else { RtAddrFamily::Inet6 }
}

/// An attribute with these bytes.
pub(super) fn attribute<T: RtaType>(kind: T, bytes: &[u8]) -> Result<Rtattr<T, Buffer>, NetlinkError> {
    RtattrBuilder::default().rta_type(kind).rta_payload(bytes).build().map_err(unbuildable)
}
