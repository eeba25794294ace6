//! What IPVS has besides its table: version, timeouts of connections, synchronisation daemons.

use std::time::Duration;

use super::{
    codec::{self, AttributeList, Command, Daemon, DecodeError, Info, Timeouts},
    connection::{Connection, unbuilt},
    error::{IpvsError, Operation},
    socket::ACKNOWLEDGE,
};

/// More than any of the answers takes.
const BUFFER: usize = 8 << 10;

/// Reads and changes what is set for the whole of IPVS, in the network namespace of the thread that asks first. It
/// blocks for as long as the kernel takes.
pub(super) struct Settings {
    connection: Connection,
}

impl Settings {
    /// The kernel has `timeout` for each answer. Nothing is opened before the first request.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { connection: Connection::new(timeout, BUFFER) }
    }

    pub(super) fn info(&mut self) -> Result<Info, IpvsError> {
        self.single(Command::GetInfo, &Operation::ReadInfo, codec::unpack_info)
    }

    pub(super) fn timeouts(&mut self) -> Result<Timeouts, IpvsError> {
        self.single(Command::GetConfig, &Operation::ReadTimeouts, codec::unpack_timeouts)
    }

    pub(super) fn set_timeouts(&mut self, timeouts: &Timeouts) -> Result<(), IpvsError> {
        let operation = Operation::SetTimeouts;
        let attributes = codec::pack_timeouts(timeouts).map_err(unbuilt(&operation))?;
        let request = codec::request(Command::SetConfig, attributes).map_err(unbuilt(&operation))?;
        let outcome = self.connection.exchange(ACKNOWLEDGE, &request, |_| {});
        outcome.map(drop).map_err(|failure| failure.of(operation))
    }

    pub(super) fn daemons(&mut self) -> Result<Vec<Daemon>, IpvsError> {
        let operation = Operation::ReadDaemons;
        let request =
            codec::request(Command::GetDaemon, AttributeList::new()).map_err(unbuilt(&operation))?;
        Ok(self.connection.dump(&request, &operation, codec::unpack_daemon)?.entries)
    }

    /// A request with one answer.
    fn single<T>(
        &mut self,
        command: Command,
        operation: &Operation,
        unpack: fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T, IpvsError> {
        let request = codec::request(command, AttributeList::new()).map_err(unbuilt(operation))?;
        let mut answer = None;
        self.connection
            .exchange(0, &request, |attributes| {
                answer.get_or_insert_with(|| unpack(attributes));
            })
            .map_err(|failure| failure.of(operation.clone()))?;
        let answer = answer.ok_or_else(|| IpvsError::NoAnswer(operation.clone()))?;
        answer.map_err(|error| IpvsError::Answer { operation: operation.clone(), error })
    }
}
