//! Changes the table, one acknowledged message for each edit.

use std::time::Duration;

use super::{
    codec::{self, Attribute, AttributeList, Command, EncodeError},
    connection::{Connection, unbuilt},
    edit::Edit,
    error::{IpvsError, Operation},
    socket::ACKNOWLEDGE,
};
use crate::model::ServiceKey;

/// More than an acknowledgement takes: the kernel sends the refused request back.
const BUFFER: usize = 8 << 10;

/// Changes the table of the network namespace of the thread that edits first. It blocks for as long as the kernel
/// takes: a few microseconds, or more where it has to load a scheduler first.
pub struct TableEditor {
    connection: Connection,
}

impl TableEditor {
    /// The kernel has `timeout` for each answer. Nothing is opened before the first edit.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { connection: Connection::new(timeout, BUFFER) }
    }

    /// Opens the socket and looks IPVS up, so that the first edit needn't.
    pub(super) fn connect(&mut self) -> Result<(), IpvsError> {
        self.connection.connect().map_err(|failure| failure.of(Operation::Connect))
    }

    /// Makes one edit: one request and one answer; nothing is read before or after. An edit that timed out may have
    /// been made all the same.
    pub fn apply(&mut self, edit: &Edit) -> Result<(), IpvsError> {
        let operation = || Operation::Edit(Box::new(edit.clone()));
        let (command, attributes) = command(edit).map_err(|error| unbuilt(&operation())(error))?;
        let request = codec::request(command, attributes).map_err(|error| unbuilt(&operation())(error))?;
        let outcome = self.connection.exchange(ACKNOWLEDGE, &request, |_| {});
        outcome.map(drop).map_err(|failure| failure.of(operation()))
    }
}

fn command(edit: &Edit) -> Result<(Command, AttributeList), EncodeError> {
    Ok(match edit {
        Edit::AddService(service) => (Command::NewService, list([codec::pack_service(service)?])),
        Edit::SetService(service) => (Command::SetService, list([codec::pack_service(service)?])),
        Edit::DeleteService(key) => (Command::DelService, list([codec::pack_service_key(key)?])),
        Edit::AddDestination { service, destination } => {
            (Command::NewDest, destination_list(service, codec::pack_destination(destination)?)?)
        }
        Edit::SetDestination { service, destination } => {
            (Command::SetDest, destination_list(service, codec::pack_destination(destination)?)?)
        }
        Edit::DeleteDestination(key) => {
            (Command::DelDest, destination_list(&key.service, codec::pack_destination_key(key.server)?)?)
        }
    })
}

fn list<const N: usize>(attributes: [Attribute; N]) -> AttributeList {
    attributes.into_iter().collect()
}

fn destination_list(service: &ServiceKey, destination: Attribute) -> Result<AttributeList, EncodeError> {
    Ok(list([codec::pack_service_key(service)?, destination]))
}
