//! Destinations.

use std::net::SocketAddr;

use neli::{genl::Nlattr, types::Buffer};

use super::{
    Attribute, DecodeError, EncodeError,
    attributes::{
        Parsed, address, address_bytes, attribute, exactly, family, family_number, find, nest, optional,
        parse, required,
    },
    statistics,
    wire::{DestinationAttribute, TopAttribute},
};
use crate::{
    ipvs::{
        statistics::DestinationStatistics,
        table::{Destination, KernelWeight},
    },
    model::{ForwardingMethod, Tunnel, TunnelFlags},
};

type Attributes<'a> = Parsed<'a, DestinationAttribute>;

/// What names a destination in its service: enough to delete it.
pub fn pack_destination_key(server: SocketAddr) -> Result<Attribute, EncodeError> {
    nest(TopAttribute::Dest, &key_attributes(server)?)
}

/// A whole destination: enough to add or set it.
///
/// The tunnel's attributes are always sent. The kernel takes missing ones for IP in IP, even when it only sets a
/// weight.
pub fn pack_destination(destination: &Destination) -> Result<Attribute, EncodeError> {
    let mut attributes = key_attributes(destination.server)?;
    let numbers = [
        (DestinationAttribute::FwdMethod, method_number(destination.method)),
        (DestinationAttribute::Weight, destination.weight.0.cast_unsigned()),
        (DestinationAttribute::UThresh, destination.upper_threshold),
        (DestinationAttribute::LThresh, destination.lower_threshold),
    ];
    for (kind, number) in numbers {
        attributes.push(attribute(kind, &number.to_ne_bytes())?);
    }
    let (kind, port, flags) = tunnel_numbers(destination.tunnel);
    attributes.push(attribute(DestinationAttribute::TunType, &[kind])?);
    attributes.push(attribute(DestinationAttribute::TunPort, &port.to_be_bytes())?);
    attributes.push(attribute(DestinationAttribute::TunFlags, &flags.0.to_ne_bytes())?);
    nest(TopAttribute::Dest, &attributes)
}

/// Reads the payload of a destination attribute, with what was counted. Whose destination it is isn't in there.
pub fn unpack_counted(bytes: &[u8]) -> Result<(Destination, DestinationStatistics), DecodeError> {
    let attributes = parse(bytes)?;
    Ok((settings(&attributes)?, counted(&attributes)?))
}

/// The same without what was counted.
pub fn unpack_destination(bytes: &[u8]) -> Result<Destination, DecodeError> {
    settings(&parse(bytes)?)
}

fn settings(attributes: &Attributes<'_>) -> Result<Destination, DecodeError> {
    let number = |kind| exactly(attributes, kind).map(u32::from_ne_bytes);
    Ok(Destination {
        server: unpack_server(attributes)?,
        method: method(number(DestinationAttribute::FwdMethod)?)?,
        tunnel: unpack_tunnel(attributes)?,
        weight: KernelWeight(number(DestinationAttribute::Weight)?.cast_signed()),
        upper_threshold: number(DestinationAttribute::UThresh)?,
        lower_threshold: number(DestinationAttribute::LThresh)?,
    })
}

fn counted(attributes: &Attributes<'_>) -> Result<DestinationStatistics, DecodeError> {
    let count = |kind| optional(attributes, kind).map(|bytes| bytes.map_or(0, u32::from_ne_bytes));
    Ok(DestinationStatistics {
        active: count(DestinationAttribute::ActiveConns)?,
        inactive: count(DestinationAttribute::InactConns)?,
        persistent: count(DestinationAttribute::PersistConns)?,
        traffic: statistics::unpack(find(attributes, DestinationAttribute::Stats64))?,
    })
}

fn key_attributes(server: SocketAddr) -> Result<Vec<Nlattr<DestinationAttribute, Buffer>>, EncodeError> {
    let family = family_number(server.ip().into());
    Ok(vec![
        attribute(DestinationAttribute::AddrFamily, &family.to_ne_bytes())?,
        attribute(DestinationAttribute::Addr, &address_bytes(server.ip()))?,
        attribute(DestinationAttribute::Port, &server.port().to_be_bytes())?,
    ])
}

fn unpack_server(attributes: &Attributes<'_>) -> Result<SocketAddr, DecodeError> {
    let family = family(u16::from_ne_bytes(exactly(attributes, DestinationAttribute::AddrFamily)?))?;
    let bytes = required(attributes, DestinationAttribute::Addr)?;
    let address = address(family, bytes, DestinationAttribute::Addr)?;
    let port = u16::from_be_bytes(exactly(attributes, DestinationAttribute::Port)?);
    Ok((address, port).into())
}

fn unpack_tunnel(attributes: &Attributes<'_>) -> Result<Tunnel, DecodeError> {
    let [kind] = optional(attributes, DestinationAttribute::TunType)?.unwrap_or([0]);
    let port = optional(attributes, DestinationAttribute::TunPort)?.map_or(0, u16::from_be_bytes);
    let flags = optional(attributes, DestinationAttribute::TunFlags)?.map_or(0, u16::from_ne_bytes);
    let flags = TunnelFlags(flags);
    Ok(match kind {
        0 => Tunnel::Ipip,
        1 => Tunnel::Gue { port, flags },
        2 => Tunnel::Gre { flags },
        kind => Tunnel::Other { kind, port, flags },
    })
}

fn tunnel_numbers(tunnel: Tunnel) -> (u8, u16, TunnelFlags) {
    match tunnel {
        Tunnel::Ipip => (0, 0, TunnelFlags::default()),
        Tunnel::Gue { port, flags } => (1, port, flags),
        Tunnel::Gre { flags } => (2, 0, flags),
        Tunnel::Other { kind, port, flags } => (kind, port, flags),
    }
}

fn method(number: u32) -> Result<ForwardingMethod, DecodeError> {
    Ok(match number {
        0 => ForwardingMethod::Masquerade,
        1 => ForwardingMethod::Local,
        2 => ForwardingMethod::Tunnel,
        3 => ForwardingMethod::DirectRoute,
        4 => ForwardingMethod::Bypass,
        value => return Err(DecodeError::Unknown { what: "forwarding method", value }),
    })
}

fn method_number(method: ForwardingMethod) -> u32 {
    match method {
        ForwardingMethod::Masquerade => 0,
        ForwardingMethod::Local => 1,
        ForwardingMethod::Tunnel => 2,
        ForwardingMethod::DirectRoute => 3,
        ForwardingMethod::Bypass => 4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipvs::arbitrary;

    /// What the kernel answers: a destination with its counters.
    fn answer(destination: &Destination, counted: &DestinationStatistics) -> Vec<u8> {
        let mut packed = pack_destination(destination).unwrap();
        let counters = [
            (DestinationAttribute::ActiveConns, counted.active),
            (DestinationAttribute::InactConns, counted.inactive),
            (DestinationAttribute::PersistConns, counted.persistent),
        ];
        for (kind, number) in counters {
            packed = packed.nest(&attribute(kind, &number.to_ne_bytes()).unwrap()).unwrap();
        }
        let traffic = statistics::pack(&counted.traffic);
        let traffic = attribute(DestinationAttribute::Stats64, &traffic).unwrap();
        packed.nest(&traffic).unwrap().nla_payload().as_ref().to_vec()
    }

    proptest! {
        #[test]
        fn packed_attributes_unpack_to_the_same_value(
            destination in arbitrary::destination(), counted in arbitrary::destination_statistics(),
        ) {
            let answer = answer(&destination, &counted);
            prop_assert_eq!(unpack_counted(&answer).unwrap(), (destination, counted));
            prop_assert_eq!(unpack_destination(&answer).unwrap(), destination);
        }

        #[test]
        fn a_packed_key_names_the_server(destination in arbitrary::destination()) {
            let packed = pack_destination_key(destination.server).unwrap();
            let attributes = parse(packed.nla_payload().as_ref()).unwrap();
            prop_assert_eq!(unpack_server(&attributes).unwrap(), destination.server);
        }

        #[test]
        fn any_bytes_give_a_destination_or_an_error(bytes: Vec<u8>) {
            if let Ok((destination, _)) = unpack_counted(&bytes) {
                prop_assert!(pack_destination(&destination).is_ok());
            }
        }

        #[test]
        fn a_damaged_destination_gives_a_destination_or_an_error(
            destination in arbitrary::destination(), place: prop::sample::Index, byte: u8,
        ) {
            let mut bytes = answer(&destination, &DestinationStatistics::default());
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if let Ok((destination, _)) = unpack_counted(&bytes) {
                prop_assert!(pack_destination(&destination).is_ok());
            }
        }
    }
}
