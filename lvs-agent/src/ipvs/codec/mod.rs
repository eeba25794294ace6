//! The attributes of the `IPVS` generic netlink family, to and from the values of this module's parent.
//!
//! `pack_…` makes the attributes of a request, `unpack_…` reads those of an answer. Any bytes can be read without a
//! panic. The kernel may hold values that this program would never write; they can be read as well.

mod attributes;
mod config;
mod daemon;
mod destination;
mod info;
mod service;
mod statistics;
mod wire;

pub use attributes::DecodeError;
pub(super) use attributes::first_payload;
pub use config::{Timeouts, pack_timeouts, unpack_timeouts};
pub use daemon::{Daemon, DaemonRole, pack_daemon, pack_daemon_role, unpack_daemon};
pub use destination::{pack_destination, pack_destination_key, unpack_counted, unpack_destination};
pub use info::{Info, pack_info, unpack_info};
pub use service::{pack_service, pack_service_key, unpack_service};
pub(super) use wire::Command;
use wire::VERSION;

use std::io::Cursor;

use neli::{
    ToBytes,
    err::SerError,
    genl::{
        AttrTypeBuilderError, Genlmsghdr, GenlmsghdrBuilder, GenlmsghdrBuilderError, Nlattr,
        NlattrBuilderError,
    },
    types::{Buffer, GenlBuffer},
};

/// A request to the family, as it is sent after netlink's own header. The meaning of the attributes depends on the
/// command.
pub(super) fn request(command: Command, attributes: AttributeList) -> Result<Vec<u8>, EncodeError> {
    let message: Genlmsghdr<Command, u16> =
        GenlmsghdrBuilder::default().cmd(command).version(VERSION).attrs(attributes).build()?;
    bytes(&message)
}

/// A message, or a part of one, as it is sent.
pub(super) fn bytes(message: &impl ToBytes) -> Result<Vec<u8>, EncodeError> {
    let mut cursor = Cursor::new(Vec::new());
    message.to_bytes(&mut cursor)?;
    Ok(cursor.into_inner())
}

/// An attribute of a message.
pub type Attribute = Nlattr<u16, Buffer>;

/// The attributes of a message.
pub type AttributeList = GenlBuffer<u16, Buffer>;

/// A message can't be built: it would exceed netlink's limits on sizes.
#[derive(Debug, thiserror::Error)]
#[error("message to the kernel can't be built: {0}")]
pub struct EncodeError(String);

impl From<NlattrBuilderError> for EncodeError {
    fn from(error: NlattrBuilderError) -> Self {
        Self(error.to_string())
    }
}

impl From<AttrTypeBuilderError> for EncodeError {
    fn from(error: AttrTypeBuilderError) -> Self {
        Self(error.to_string())
    }
}

impl From<GenlmsghdrBuilderError> for EncodeError {
    fn from(error: GenlmsghdrBuilderError) -> Self {
        Self(error.to_string())
    }
}

impl From<SerError> for EncodeError {
    fn from(error: SerError) -> Self {
        Self(error.to_string())
    }
}
