//! The look-up of the number under which generic netlink knows IPVS. The kernel gives a new one each time that the
//! module is loaded.

use std::io::Cursor;

use neli::{
    FromBytesWithInput as _,
    consts::genl::{CtrlAttr, CtrlCmd},
    genl::{AttrTypeBuilder, Genlmsghdr, GenlmsghdrBuilder, NlattrBuilder},
    types::{Buffer, GenlBuffer},
};

use super::codec::{self, EncodeError};

/// `GENL_ID_CTRL` of `linux/genetlink.h`: the family that knows the numbers of all families.
pub(super) const CONTROL: u16 = 0x10;

/// The name of the family (`IPVS_GENL_NAME`).
const NAME: &str = "IPVS";

/// Version of the control family's protocol, as `genl-ctrl-list` speaks it.
const CONTROL_VERSION: u8 = 2;

/// The request to [`CONTROL`] for the number of the family. "No such entry" is the answer where IPVS isn't loaded.
pub(super) fn request() -> Result<Vec<u8>, EncodeError> {
    let kind = AttrTypeBuilder::default().nla_type(CtrlAttr::FamilyName).build()?;
    let mut attributes = GenlBuffer::new();
    attributes.push(NlattrBuilder::default().nla_type(kind).nla_payload(NAME).build()?);
    let message: Genlmsghdr<CtrlCmd, CtrlAttr> = GenlmsghdrBuilder::default()
        .cmd(CtrlCmd::Getfamily)
        .version(CONTROL_VERSION)
        .attrs(attributes)
        .build()?;
    codec::bytes(&message)
}

/// The number among the attributes of the answer.
pub(super) fn number(attributes: &[u8]) -> Option<u16> {
    let mut cursor = Cursor::new(attributes);
    let all = GenlBuffer::<CtrlAttr, Buffer>::from_bytes_with_input(&mut cursor, attributes.len()).ok()?;
    all.get_attr_handle().get_attr_payload_as::<u16>(CtrlAttr::FamilyId).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(kind: CtrlAttr, payload: &[u8]) -> Vec<u8> {
        let kind = AttrTypeBuilder::default().nla_type(kind).build().unwrap();
        codec::bytes(&NlattrBuilder::default().nla_type(kind).nla_payload(payload).build().unwrap()).unwrap()
    }

    #[test]
    fn the_number_is_found_among_the_other_attributes() {
        let name = answer(CtrlAttr::FamilyName, b"IPVS\0");
        let id = answer(CtrlAttr::FamilyId, &34_u16.to_ne_bytes());
        let mut padded = name.clone();
        padded.resize(name.len().next_multiple_of(4), 0);
        assert_eq!(number(&[padded, id].concat()), Some(34));
        assert_eq!(number(&name), None);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_number_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _number: Option<u16> = number(&bytes);
        }
    }
}
