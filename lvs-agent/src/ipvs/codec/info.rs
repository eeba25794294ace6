//! Version and size of IPVS.

use super::{
    AttributeList, DecodeError, EncodeError,
    attributes::{Parsed, attribute, exactly, parse},
    wire::InfoAttribute,
};

/// Version and size of IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its version: major, minor, patch. 1.2.1 since Linux 2.6.
    pub version: (u8, u8, u8),
    /// How many buckets its connection table has.
    pub connection_table_size: u32,
}

/// What the kernel would send.
pub fn pack_info(info: &Info) -> Result<AttributeList, EncodeError> {
    let (major, minor, patch) = info.version;
    let version = u32::from_be_bytes([0, major, minor, patch]);
    let mut list = AttributeList::new();
    list.push(attribute(u16::from(InfoAttribute::Version), &version.to_ne_bytes())?);
    list.push(attribute(u16::from(InfoAttribute::ConnTabSize), &info.connection_table_size.to_ne_bytes())?);
    Ok(list)
}

/// Reads the attributes of an answer.
pub fn unpack_info(bytes: &[u8]) -> Result<Info, DecodeError> {
    let attributes: Parsed<'_, InfoAttribute> = parse(bytes)?;
    let version = u32::from_ne_bytes(exactly(&attributes, InfoAttribute::Version)?);
    let [_, major, minor, patch] = version.to_be_bytes();
    let size = u32::from_ne_bytes(exactly(&attributes, InfoAttribute::ConnTabSize)?);
    Ok(Info { version: (major, minor, patch), connection_table_size: size })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::bytes, *};

    proptest! {
        #[test]
        fn packed_attributes_unpack_to_the_same_value(version: (u8, u8, u8), connection_table_size: u32) {
            let info = Info { version, connection_table_size };
            let packed = pack_info(&info).unwrap();
            prop_assert_eq!(unpack_info(&bytes(&packed).unwrap()).unwrap(), info);
        }

        #[test]
        fn any_bytes_give_info_or_an_error(bytes: Vec<u8>) {
            if let Ok(info) = unpack_info(&bytes) {
                prop_assert!(pack_info(&info).is_ok());
            }
        }
    }
}
