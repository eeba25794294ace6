//! Virtual services.

use neli::{genl::Nlattr, types::Buffer};

use super::{
    Attribute, DecodeError, EncodeError,
    attributes::{
        Parsed, address, address_bytes, attribute, exactly, family, family_number, find, nest, optional,
        parse, required, text, text_attribute,
    },
    statistics,
    wire::{FLAG_PERSISTENT, ServiceAttribute, TopAttribute},
};
use crate::{
    ipvs::{
        statistics::Statistics,
        table::{SchedulerName, Service, ServiceFlags},
    },
    model::{AddressFamily, Netmask, Persistence, Protocol, ServiceKey},
};

type Attributes<'a> = Parsed<'a, ServiceAttribute>;

/// What names a service: enough to read or delete it, and to say whose destination is meant.
pub fn pack_service_key(key: &ServiceKey) -> Result<Attribute, EncodeError> {
    nest(TopAttribute::Service, &key_attributes(key)?)
}

/// A whole service: enough to add or set it.
pub fn pack_service(service: &Service) -> Result<Attribute, EncodeError> {
    let mut attributes = key_attributes(&service.key)?;
    attributes.push(text_attribute(ServiceAttribute::SchedName, service.scheduler.as_str())?);
    let persistent = if service.persistence.is_some() { FLAG_PERSISTENT } else { 0 };
    let flags = (service.flags.bits() | persistent).to_ne_bytes();
    // Flags outside the mask stay as the kernel has them: its own, and those that this program doesn't know.
    let mask = (ServiceFlags::ALL.bits() | FLAG_PERSISTENT).to_ne_bytes();
    attributes.push(attribute(ServiceAttribute::Flags, &[flags, mask].concat())?);
    let seconds = service.persistence.map_or(0, |persistence| persistence.seconds());
    attributes.push(attribute(ServiceAttribute::Timeout, &seconds.to_ne_bytes())?);
    // The kernel insists on a netmask without persistence, too, and on a valid one under IPv6.
    let everyone = Netmask::whole_address(service.key.family());
    let netmask = service.persistence.map_or(everyone, |persistence| persistence.netmask());
    attributes.push(attribute(ServiceAttribute::Netmask, &netmask_bytes(netmask))?);
    if let Some(engine) = &service.persistence_engine {
        attributes.push(text_attribute(ServiceAttribute::PeName, engine)?);
    }
    nest(TopAttribute::Service, &attributes)
}

/// Reads the payload of a service attribute.
pub fn unpack_service(bytes: &[u8]) -> Result<(Service, Statistics), DecodeError> {
    let attributes: Attributes<'_> = parse(bytes)?;
    let key = unpack_key(&attributes)?;
    let scheduler = text(required(&attributes, ServiceAttribute::SchedName)?, ServiceAttribute::SchedName)?;
    let flags = find(&attributes, ServiceAttribute::Flags).unwrap_or_default();
    // The second half is a mask that says nothing in an answer.
    let flags = flags.first_chunk::<4>().ok_or_else(|| DecodeError::Length {
        attribute: format!("{:?}", ServiceAttribute::Flags),
        found: flags.len(),
    })?;
    let flags = u32::from_ne_bytes(*flags);
    let persistence = if flags & FLAG_PERSISTENT == 0 {
        None
    } else {
        Some(unpack_persistence(&attributes, key.family())?)
    };
    let engine = find(&attributes, ServiceAttribute::PeName)
        .map(|bytes| text(bytes, ServiceAttribute::PeName).map(str::to_owned))
        .transpose()?;
    let service = Service {
        key,
        scheduler: SchedulerName::try_from(scheduler)?,
        flags: ServiceFlags::from_bits(flags),
        persistence,
        persistence_engine: engine.filter(|engine| !engine.is_empty()),
    };
    Ok((service, statistics::unpack(find(&attributes, ServiceAttribute::Stats64))?))
}

fn key_attributes(key: &ServiceKey) -> Result<Vec<Nlattr<ServiceAttribute, Buffer>>, EncodeError> {
    let family = attribute(ServiceAttribute::Af, &family_number(key.family()).to_ne_bytes())?;
    Ok(match key {
        ServiceKey::Address { protocol, address } => vec![
            family,
            attribute(ServiceAttribute::Protocol, &u16::from(protocol.number()).to_ne_bytes())?,
            attribute(ServiceAttribute::Addr, &address_bytes(address.ip()))?,
            attribute(ServiceAttribute::Port, &address.port().to_be_bytes())?,
        ],
        ServiceKey::Mark { mark, .. } => {
            vec![family, attribute(ServiceAttribute::Fwmark, &mark.to_ne_bytes())?]
        }
    })
}

fn unpack_key(attributes: &Attributes<'_>) -> Result<ServiceKey, DecodeError> {
    let family = family(u16::from_ne_bytes(exactly(attributes, ServiceAttribute::Af)?))?;
    if let Some(mark) = optional(attributes, ServiceAttribute::Fwmark)?.map(u32::from_ne_bytes) {
        return Ok(ServiceKey::Mark { mark, family });
    }
    let number = u16::from_ne_bytes(exactly(attributes, ServiceAttribute::Protocol)?);
    let protocol = Protocol::from_number(number)
        .ok_or(DecodeError::Unknown { what: "transport protocol", value: number.into() })?;
    let bytes = required(attributes, ServiceAttribute::Addr)?;
    let address = address(family, bytes, ServiceAttribute::Addr)?;
    let port = u16::from_be_bytes(exactly(attributes, ServiceAttribute::Port)?);
    Ok(ServiceKey::Address { protocol, address: (address, port).into() })
}

fn unpack_persistence(
    attributes: &Attributes<'_>,
    family: AddressFamily,
) -> Result<Persistence, DecodeError> {
    let seconds = u32::from_ne_bytes(exactly(attributes, ServiceAttribute::Timeout)?);
    let netmask = exactly::<4, _>(attributes, ServiceAttribute::Netmask)?;
    let netmask = match family {
        AddressFamily::V4 => Netmask::V4(netmask.into()),
        AddressFamily::V6 => Netmask::V6(u32::from_ne_bytes(netmask)),
    };
    Ok(Persistence::new(std::time::Duration::from_secs(seconds.into()), netmask))
}

fn netmask_bytes(netmask: Netmask) -> [u8; 4] {
    match netmask {
        Netmask::V4(mask) => mask.octets(),
        Netmask::V6(prefix) => prefix.to_ne_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipvs::arbitrary;

    proptest! {
        #[test]
        fn packed_attributes_unpack_to_the_same_value(service in arbitrary::service()) {
            let packed = pack_service(&service).unwrap();
            let unpacked = unpack_service(packed.nla_payload().as_ref()).unwrap();
            prop_assert_eq!(unpacked, (service, Statistics::default()));
        }

        #[test]
        fn a_packed_key_names_the_service(key in arbitrary::key()) {
            let packed = pack_service_key(&key).unwrap();
            let attributes: Attributes<'_> = parse(packed.nla_payload().as_ref()).unwrap();
            prop_assert_eq!(unpack_key(&attributes).unwrap(), key);
        }

        #[test]
        fn any_bytes_give_a_service_or_an_error(bytes: Vec<u8>) {
            if let Ok((service, _)) = unpack_service(&bytes) {
                prop_assert!(pack_service(&service).is_ok());
            }
        }

        #[test]
        fn a_damaged_service_gives_a_service_or_an_error(
            service in arbitrary::service(), place: prop::sample::Index, byte: u8,
        ) {
            let mut bytes = pack_service(&service).unwrap().nla_payload().as_ref().to_vec();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if let Ok((service, _)) = unpack_service(&bytes) {
                prop_assert!(pack_service(&service).is_ok());
            }
        }
    }

    #[test]
    fn an_unsupported_protocol_is_unknown() {
        let key = [
            attribute(ServiceAttribute::Af, &2_u16.to_ne_bytes()).unwrap(),
            attribute(ServiceAttribute::Protocol, &47_u16.to_ne_bytes()).unwrap(),
        ];
        let packed = nest(TopAttribute::Service, &key).unwrap();
        let error = unpack_service(packed.nla_payload().as_ref()).unwrap_err();
        assert_eq!(error, DecodeError::Unknown { what: "transport protocol", value: 47 });
    }
}
