//! The address or firewall mark of a virtual service.

use std::net::{IpAddr, SocketAddr};

use toml::Spanned;

use super::{section::Section, value};
use crate::{
    config::diagnostics::{Contradiction, FaultList},
    model::{AddressFamily, Protocol, ServiceKey},
};

/// What clients' packets are recognised by.
#[derive(Clone, Copy)]
pub(super) enum VirtualAddress {
    /// A VIP; without a port every one.
    Address { ip: IpAddr, port: Option<u16> },
    /// A firewall mark.
    Mark { mark: u32, family: AddressFamily },
}

impl VirtualAddress {
    /// The IP version of the clients' packets.
    pub(super) fn family(self) -> AddressFamily {
        match self {
            Self::Address { ip, .. } => ip.into(),
            Self::Mark { family, .. } => family,
        }
    }

    /// The service's own port, where it has one.
    pub(super) fn port(self) -> Option<u16> {
        match self {
            Self::Address { port, .. } => port,
            Self::Mark { .. } => None,
        }
    }

    /// The key of the service for this protocol, which a mark has none of.
    pub(super) fn key(self, protocol: Protocol) -> ServiceKey {
        match self {
            Self::Address { ip, port } => {
                ServiceKey::Address { protocol, address: SocketAddr::new(ip, port.unwrap_or(0)) }
            }
            Self::Mark { mark, family } => ServiceKey::Mark { mark, family },
        }
    }
}

/// The service's address or mark; notes if there is none, or both.
pub(super) fn read(section: &mut Section<'_>, faults: &mut FaultList) -> Option<Spanned<VirtualAddress>> {
    const FAMILIES: [(&str, AddressFamily); 2] = [("ipv4", AddressFamily::V4), ("ipv6", AddressFamily::V6)];
    let (has_address, has_mark) = (section.has("address"), section.has("mark"));
    if has_address && let Some(mark) = section.drop_key("mark") {
        faults.add(mark, Contradiction::AddressAndMark);
    }
    let mark = section.read("mark", faults, value::mark);
    if (has_address || !has_mark)
        && let Some(family) = section.drop_key("family")
    {
        faults.add(family, Contradiction::FamilyWithoutMark);
    }
    let family = section.plain("family", faults, |value| value::word(value, &FAMILIES));
    if !has_address && !has_mark {
        section.missing("address", "address = \"192.0.2.80:80\", or mark = 1", faults);
    }
    let address = section.read("address", faults, value::vip);
    if let Some(address) = address {
        let place = address.span();
        let (ip, port) = address.into_inner();
        return Some(Spanned::new(place, VirtualAddress::Address { ip, port }));
    }
    let mark = mark?;
    let family = family.unwrap_or(AddressFamily::V4);
    Some(Spanned::new(mark.span(), VirtualAddress::Mark { mark: *mark.get_ref(), family }))
}
