//! Requests to the `IPVS` family over a socket of their own, without a runtime.

use std::time::Duration;

use nix::errno::Errno;

use super::{
    codec::{self, DecodeError, EncodeError},
    error::{IpvsError, Operation},
    family::{self, CONTROL},
    socket::{DUMP, Socket},
};
use crate::netlink::NetlinkError;

/// A connection to the IPVS of the network namespace of the thread that first uses it. It blocks for as long as the
/// kernel takes.
///
/// After a failure it can be used again: it opens a new socket when it must, and notices when the module was loaded
/// anew.
pub(super) struct Connection {
    timeout: Duration,
    /// Size of the socket's buffer, in bytes.
    buffer: usize,
    /// `None`: not known yet, or no longer.
    family: Option<u16>,
    socket: Option<Socket>,
}

/// The entries of a dump.
pub(super) struct List<T> {
    pub(super) entries: Vec<T>,
    /// In how many datagrams they came.
    pub(super) datagrams: u32,
}

impl Connection {
    /// The kernel has `timeout` for each answer, which may take `buffer` bytes. Nothing is opened before the first
    /// request.
    pub(super) fn new(timeout: Duration, buffer: usize) -> Self {
        Self { timeout, buffer, family: None, socket: None }
    }

    /// Opens the socket and looks the family up, so that the first request needn't.
    pub(super) fn connect(&mut self) -> Result<(), Failure> {
        self.family().map(drop)
    }

    /// Sends a request made by [`codec::request`], shows `each` the attributes of every answer, and returns the number
    /// of datagrams that had any. The kernel says "no such entry" to an old family number, too: then the family is
    /// looked up again, and if its number has changed, the request is sent again.
    pub(super) fn exchange(
        &mut self,
        flags: u16,
        request: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<u32, Failure> {
        let family = self.family()?;
        let outcome = self.exchange_with(family, flags, request, &mut each);
        if !matches!(outcome, Err(NetlinkError::Kernel(Errno::ENOENT))) {
            return outcome.map_err(Failure::Netlink);
        }
        self.family = None;
        let number = self.family()?;
        if number == family {
            return outcome.map_err(Failure::Netlink);
        }
        self.exchange_with(number, flags, request, &mut each).map_err(Failure::Netlink)
    }

    /// Dumps a list. Entries of a kind that this program doesn't know are left out.
    pub(super) fn dump<T>(
        &mut self,
        request: &[u8],
        operation: &Operation,
        unpack: fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<List<T>, IpvsError> {
        let (mut entries, mut fault) = (Vec::new(), None);
        let datagrams = self
            .exchange(DUMP, request, |attributes| match unpack(codec::first_payload(attributes)) {
                Ok(entry) => entries.push(entry),
                // Whatever it is, this program didn't make it, and it must not keep others from being read.
                Err(error @ DecodeError::Unknown { .. }) => {
                    tracing::debug!(%operation, %error, "entry left out");
                }
                Err(error) => drop(fault.get_or_insert(error)),
            })
            .map_err(|failure| failure.of(operation.clone()))?;
        match fault {
            Some(error) => Err(IpvsError::Answer { operation: operation.clone(), error }),
            None => Ok(List { entries, datagrams }),
        }
    }

    /// The family's number, and a socket that has seen the size of its buffer.
    fn family(&mut self) -> Result<u16, Failure> {
        if let (Some(family), Some(_)) = (self.family, &self.socket) {
            return Ok(family);
        }
        let mut number = None;
        let request = family::request().map_err(Failure::Encode)?;
        let read = &mut |attributes: &[u8]| number = family::number(attributes);
        match self.exchange_with(CONTROL, 0, &request, read) {
            Ok(_) => {}
            Err(NetlinkError::Kernel(Errno::ENOENT)) => return Err(Failure::NoIpvs),
            Err(error) => return Err(Failure::Netlink(error)),
        }
        self.family = number;
        number.ok_or(Failure::NoIpvs)
    }

    fn exchange_with(
        &mut self,
        family: u16,
        flags: u16,
        request: &[u8],
        each: &mut impl FnMut(&[u8]),
    ) -> Result<u32, NetlinkError> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            None => self.socket.insert(Socket::open(self.timeout, self.buffer)?),
        };
        let outcome = socket.exchange(family, flags, request, each);
        if !matches!(outcome, Ok(_) | Err(NetlinkError::Kernel(_))) {
            self.socket = None;
        }
        outcome
    }
}

/// Why a request brought no answer. It becomes an error once the operation is known that it was part of.
pub(super) enum Failure {
    NoIpvs,
    Netlink(NetlinkError),
    Encode(EncodeError),
}

impl Failure {
    pub(super) fn of(self, operation: Operation) -> IpvsError {
        match self {
            Self::NoIpvs => IpvsError::NoIpvs,
            Self::Netlink(error) => IpvsError::new(operation, error),
            Self::Encode(error) => IpvsError::Encode { operation, error },
        }
    }
}

/// The error of an operation whose request couldn't be built.
pub(super) fn unbuilt(operation: &Operation) -> impl FnOnce(EncodeError) -> IpvsError {
    let operation = operation.clone();
    move |error| IpvsError::Encode { operation, error }
}
