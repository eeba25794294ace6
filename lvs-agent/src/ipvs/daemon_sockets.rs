//! The synchronisation daemons over netlink: one who reads them, and one who starts and stops them.

use std::time::Duration;

use super::{
    codec::{self, AttributeList, Command, Daemon},
    connection::{Connection, unbuilt},
    daemons::DaemonEdit,
    error::{IpvsError, Operation},
    socket::ACKNOWLEDGE,
};

/// More than any of the answers takes.
const BUFFER: usize = 8 << 10;

/// Reads the daemons of the network namespace of the thread that asks first, and can do nothing else to them. It blocks
/// for as long as the kernel takes.
pub struct DaemonReader(Connection);

impl DaemonReader {
    /// The kernel has `timeout` for each answer. Nothing is opened before the first request.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self(Connection::new(timeout, BUFFER))
    }

    /// The daemons that run; at most one of each role.
    pub fn daemons(&mut self) -> Result<Vec<Daemon>, IpvsError> {
        let operation = Operation::ReadDaemons;
        let request =
            codec::request(Command::GetDaemon, AttributeList::new()).map_err(unbuilt(&operation))?;
        Ok(self.0.dump(&request, &operation, codec::unpack_daemon)?.entries)
    }
}

/// Starts and stops daemons, in the network namespace of the thread that asks first. It blocks for as long as the
/// kernel takes: it waits for whoever changes devices, and a daemon stops once it has sent what it has gathered.
pub struct DaemonEditor(Connection);

impl DaemonEditor {
    /// The kernel has `timeout` for each answer. Nothing is opened before the first edit.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self(Connection::new(timeout, BUFFER))
    }

    /// Starts or stops one. An edit that timed out may have been made all the same.
    pub fn apply(&mut self, edit: &DaemonEdit) -> Result<(), IpvsError> {
        let operation = Operation::Daemon(edit.clone());
        let (command, attribute) = match edit {
            DaemonEdit::Start(daemon) => (Command::NewDaemon, codec::pack_daemon(daemon)),
            DaemonEdit::Stop(role) => (Command::DelDaemon, codec::pack_daemon_role(*role)),
        };
        let attribute = attribute.map_err(unbuilt(&operation))?;
        let request =
            codec::request(command, [attribute].into_iter().collect()).map_err(unbuilt(&operation))?;
        let outcome = self.0.exchange(ACKNOWLEDGE, &request, |_| {});
        outcome.map(drop).map_err(|failure| failure.of(operation))
    }
}
