//! Single attributes: making them, finding them, and taking their payloads apart.

use std::{
    fmt,
    marker::PhantomData,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use neli::{
    consts::genl::NlAttrType,
    genl::{AttrTypeBuilder, Nlattr, NlattrBuilder},
    types::Buffer,
};

use super::{Attribute, EncodeError, wire};
use crate::{ipvs::table::InvalidSchedulerName, model::AddressFamily};

/// The kernel's answer can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes aren't a list of attributes.
    #[error("the attributes can't be told apart: {0}")]
    Malformed(String),
    /// An attribute that is always there isn't.
    #[error("attribute {0} is missing")]
    Missing(String),
    /// An attribute has not the length that its type has.
    #[error("attribute {attribute} has {found} bytes")]
    Length {
        /// Which one.
        attribute: String,
        /// How many bytes it has.
        found: usize,
    },
    /// A text isn't one.
    #[error("attribute {0} is no text")]
    Text(String),
    /// The scheduler's name can't be one.
    #[error(transparent)]
    Scheduler(#[from] InvalidSchedulerName),
    /// Well-formed, but of a kind that this program doesn't know, so that it can't have set it.
    #[error("unknown {what} {value}")]
    Unknown {
        /// What it is a kind of.
        what: &'static str,
        /// The number that stands for it.
        value: u32,
    },
}

/// `struct nlattr` of `linux/netlink.h`: length and type.
const HEADER: usize = 4;
/// `NLA_TYPE_MASK`: the type without its flags.
const TYPE: u16 = 0x3fff;

/// One more than the highest number of a kind of attribute in [`wire`].
const KINDS: usize = 16;

/// A list of attributes where it was read: a long table has hundreds of thousands of them, of which none is copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parsed<'a, T> {
    /// The payload of the first attribute of each kind, by its number.
    payloads: [Option<&'a [u8]>; KINDS],
    kind: PhantomData<T>,
}

/// Reads the attributes of a message, or those in the payload of one of them.
pub(super) fn parse<T: NlAttrType>(bytes: &[u8]) -> Result<Parsed<'_, T>, DecodeError> {
    let (mut rest, mut payloads) = (bytes, [None; KINDS]);
    while !rest.is_empty() {
        let Some((kind, payload, after)) = first(rest) else {
            let at = bytes.len() - rest.len();
            return Err(DecodeError::Malformed(format!("the one at byte {at} has no end")));
        };
        if let Some(place @ None) = payloads.get_mut(usize::from(kind)) {
            *place = Some(payload);
        }
        rest = after;
    }
    Ok(Parsed { payloads, kind: PhantomData })
}

/// Type and payload of the first attribute, and what comes after it.
fn first(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let [l0, l1, k0, k1] = *bytes.first_chunk::<HEADER>()?;
    let length = usize::from(u16::from_ne_bytes([l0, l1]));
    let payload = bytes.get(HEADER..length)?;
    // The last one may come without what fills it up.
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_ne_bytes([k0, k1]) & TYPE, payload, after))
}

/// The payload of the first of these attributes; empty if there is none. A dump's answers have one each.
pub(crate) fn first_payload(attributes: &[u8]) -> &[u8] {
    first(attributes).map(|(_, payload, _)| payload).unwrap_or_default()
}

/// The payload of the first attribute of that kind.
pub(super) fn find<'a, T: NlAttrType>(attributes: &Parsed<'a, T>, kind: T) -> Option<&'a [u8]> {
    let kind: u16 = kind.into();
    attributes.payloads.get(usize::from(kind)).copied().flatten()
}

/// The payload of an attribute that must be there.
pub(super) fn required<'a, T: NlAttrType>(
    attributes: &Parsed<'a, T>,
    kind: T,
) -> Result<&'a [u8], DecodeError> {
    find(attributes, kind).ok_or_else(|| DecodeError::Missing(name(kind)))
}

/// A payload of exactly `N` bytes.
pub(super) fn sized<const N: usize>(bytes: &[u8], kind: impl fmt::Debug) -> Result<[u8; N], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::Length { attribute: name(kind), found: bytes.len() })
}

/// The exact payload of an attribute that must be there.
pub(super) fn exactly<const N: usize, T: NlAttrType>(
    attributes: &Parsed<'_, T>,
    kind: T,
) -> Result<[u8; N], DecodeError> {
    sized(required(attributes, kind)?, kind)
}

/// The exact payload of an attribute that may be missing.
pub(super) fn optional<const N: usize, T: NlAttrType>(
    attributes: &Parsed<'_, T>,
    kind: T,
) -> Result<Option<[u8; N]>, DecodeError> {
    find(attributes, kind).map(|bytes| sized(bytes, kind)).transpose()
}

/// A text up to its closing NUL.
pub(super) fn text(bytes: &[u8], kind: impl fmt::Debug) -> Result<&str, DecodeError> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).map_err(|_| DecodeError::Text(name(kind)))
}

/// IP version of a service or a server.
pub(super) fn family(number: u16) -> Result<AddressFamily, DecodeError> {
    match number {
        wire::AF_INET => Ok(AddressFamily::V4),
        wire::AF_INET6 => Ok(AddressFamily::V6),
        other => Err(DecodeError::Unknown { what: "address family", value: other.into() }),
    }
}

/// The number of an IP version.
pub(super) fn family_number(family: AddressFamily) -> u16 {
    match family {
        AddressFamily::V4 => wire::AF_INET,
        AddressFamily::V6 => wire::AF_INET6,
    }
}

/// An address as the kernel gives it: 16 bytes, of which IPv4 uses the first four.
pub(super) fn address(
    family: AddressFamily,
    bytes: &[u8],
    kind: impl fmt::Debug,
) -> Result<IpAddr, DecodeError> {
    match family {
        AddressFamily::V4 => {
            let four = bytes.first_chunk::<4>().filter(|_| matches!(bytes.len(), 4 | 16));
            let wrong = DecodeError::Length { attribute: name(kind), found: bytes.len() };
            four.map(|four| Ipv4Addr::from(*four).into()).ok_or(wrong)
        }
        AddressFamily::V6 => Ok(Ipv6Addr::from(sized::<16>(bytes, kind)?).into()),
    }
}

/// An address as the kernel takes it.
pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An attribute with these bytes.
pub(super) fn attribute<T: NlAttrType>(kind: T, bytes: &[u8]) -> Result<Nlattr<T, Buffer>, EncodeError> {
    let kind = AttrTypeBuilder::default().nla_type(kind).build()?;
    Ok(NlattrBuilder::default().nla_type(kind).nla_payload(bytes).build()?)
}

/// An attribute with a text and its closing NUL. The text ends before the first NUL in it.
pub(super) fn text_attribute<T: NlAttrType>(kind: T, text: &str) -> Result<Nlattr<T, Buffer>, EncodeError> {
    let text = text.split('\0').next().unwrap_or_default();
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

/// An attribute of a message, made of others.
pub(super) fn nest<T: NlAttrType>(
    kind: wire::TopAttribute,
    inner: &[Nlattr<T, Buffer>],
) -> Result<Attribute, EncodeError> {
    let mut outer = attribute(u16::from(kind), &[])?;
    for attribute in inner {
        outer = outer.nest(attribute)?;
    }
    Ok(outer)
}

fn name(kind: impl fmt::Debug) -> String {
    format!("{kind:?}")
}
