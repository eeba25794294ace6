//! Between the values of this module's parent and the attributes of the `IPVS` generic netlink family.
//!
//! `pack_…` makes the attributes of a message, `unpack_…` reads those of an answer. Reading takes any bytes and
//! never panics; what is read needn't be something that this program would write.

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
pub use daemon::{Daemon, DaemonRole, pack_daemon, unpack_daemon};
pub use destination::{pack_destination, pack_destination_key, unpack_counted, unpack_destination};
pub use info::{Info, pack_info, unpack_info};
pub use service::{pack_service, pack_service_key, unpack_service};
pub(super) use wire::Command;
use wire::VERSION;

use neli::{
    err::SerError,
    genl::{
        AttrTypeBuilderError, Genlmsghdr, GenlmsghdrBuilder, GenlmsghdrBuilderError, Nlattr,
        NlattrBuilderError,
    },
    types::{Buffer, GenlBuffer},
};

/// A message of the family. The meaning of its attributes depends on the command.
pub(super) type Message = Genlmsghdr<Command, u16>;

/// Puts a message together.
pub(super) fn message(command: Command, attributes: AttributeList) -> Result<Message, EncodeError> {
    Ok(GenlmsghdrBuilder::default().cmd(command).version(VERSION).attrs(attributes).build()?)
}

/// An attribute of a message.
pub type Attribute = Nlattr<u16, Buffer>;

/// The attributes of a message.
pub type AttributeList = GenlBuffer<u16, Buffer>;

/// A message can't be put together. Happens only if netlink's limits on sizes are exceeded.
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
