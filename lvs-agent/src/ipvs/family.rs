//! The number under which generic netlink knows IPVS. It is given anew each time that the module is loaded.

use neli::{
    consts::{
        genl::{CtrlAttr, CtrlCmd},
        nl::{GenlId, NlmF},
    },
    genl::{AttrTypeBuilder, Genlmsghdr, GenlmsghdrBuilder, NlattrBuilder},
    types::GenlBuffer,
};
use nix::errno::Errno;

use super::{
    codec::EncodeError,
    error::{IpvsError, Operation},
};
use crate::netlink::{Netlink, NetlinkError};

/// The family's name (`IPVS_GENL_NAME`).
const NAME: &str = "IPVS";

/// Version of the protocol by which families are looked up, as `genl-ctrl-list` speaks it.
const CONTROL_VERSION: u8 = 2;

/// Asks the kernel for the family's number.
pub(super) async fn resolve(netlink: &mut Netlink) -> Result<u16, IpvsError> {
    let question =
        question().map_err(|source| IpvsError::Question { operation: Operation::Connect, source })?;
    let number = |answer: &Genlmsghdr<CtrlCmd, CtrlAttr>| {
        answer.attrs().get_attr_handle().get_attr_payload_as::<u16>(CtrlAttr::FamilyId).ok()
    };
    match netlink.ask(GenlId::Ctrl.into(), NlmF::empty(), question, number).await {
        Ok(numbers) => numbers.into_iter().flatten().next().ok_or(IpvsError::NoAnswer(Operation::Connect)),
        Err(NetlinkError::Kernel(Errno::ENOENT)) => Err(IpvsError::NoIpvs),
        Err(error) => Err(IpvsError::new(Operation::Connect, error)),
    }
}

/// What the family is asked for by.
pub(super) fn question() -> Result<Genlmsghdr<CtrlCmd, CtrlAttr>, EncodeError> {
    let kind = AttrTypeBuilder::default().nla_type(CtrlAttr::FamilyName).build()?;
    let mut attributes = GenlBuffer::new();
    attributes.push(NlattrBuilder::default().nla_type(kind).nla_payload(NAME).build()?);
    Ok(GenlmsghdrBuilder::default()
        .cmd(CtrlCmd::Getfamily)
        .version(CONTROL_VERSION)
        .attrs(attributes)
        .build()?)
}
