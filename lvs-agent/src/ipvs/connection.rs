//! Questions to the `IPVS` family over a socket of their own, without a runtime.

use std::{io::Cursor, time::Duration};

use neli::{
    FromBytesWithInput as _, ToBytes,
    consts::genl::CtrlAttr,
    types::{Buffer, GenlBuffer},
};
use nix::errno::Errno;

use super::{
    codec::{self, AttributeList, Command, EncodeError},
    error::{IpvsError, Operation},
    family,
    socket::Socket,
};
use crate::netlink::NetlinkError;

/// `GENL_ID_CTRL` of `linux/genetlink.h`: who knows the numbers of all families.
const CONTROL: u16 = 0x10;

/// A connection to the IPVS of the network namespace of the thread that asks first. It blocks for as long as the kernel
/// takes.
///
/// After a failure it may be used again: it opens a new socket when it must, and notices when the module was loaded anew.
pub(super) struct Connection {
    timeout: Duration,
    /// Size of the socket's buffer, in bytes.
    buffer: usize,
    /// `None`: not known yet, or no longer.
    family: Option<u16>,
    socket: Option<Socket>,
}

impl Connection {
    /// The kernel has `timeout` for each answer, which may take `buffer` bytes. Nothing is opened before the first question.
    pub(super) fn new(timeout: Duration, buffer: usize) -> Self {
        Self { timeout, buffer, family: None, socket: None }
    }

    /// Asks a question made by [`question`], and shows `each` the attributes of every answer; gives the number of datagrams
    /// that had any. "No such entry" is also what the kernel says to an old family number, so then the number is asked for
    /// again, and if it has changed, so is the question.
    pub(super) fn ask(
        &mut self,
        flags: u16,
        question: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<u32, Failure> {
        let family = self.family()?;
        let outcome = self.exchange(family, flags, question, &mut each);
        if !matches!(outcome, Err(NetlinkError::Kernel(Errno::ENOENT))) {
            return outcome.map_err(Failure::Netlink);
        }
        self.family = None;
        let now = self.family()?;
        if now == family {
            return outcome.map_err(Failure::Netlink);
        }
        self.exchange(now, flags, question, &mut each).map_err(Failure::Netlink)
    }

    /// The family's number, and a socket that has seen the size of its buffer.
    fn family(&mut self) -> Result<u16, Failure> {
        if let (Some(family), Some(_)) = (self.family, &self.socket) {
            return Ok(family);
        }
        let mut number = None;
        let question = family::question().and_then(|message| bytes(&message)).map_err(Failure::Question)?;
        let read = &mut |attributes: &[u8]| number = family_number(attributes);
        match self.exchange(CONTROL, 0, &question, read) {
            Ok(_) => {}
            Err(NetlinkError::Kernel(Errno::ENOENT)) => return Err(Failure::NoIpvs),
            Err(error) => return Err(Failure::Netlink(error)),
        }
        self.family = number;
        number.ok_or(Failure::NoIpvs)
    }

    fn exchange(
        &mut self,
        family: u16,
        flags: u16,
        question: &[u8],
        each: &mut impl FnMut(&[u8]),
    ) -> Result<u32, NetlinkError> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            None => self.socket.insert(Socket::open(self.timeout, self.buffer)?),
        };
        let outcome = socket.ask(family, flags, question, each);
        if !matches!(outcome, Ok(_) | Err(NetlinkError::Kernel(_))) {
            self.socket = None;
        }
        outcome
    }
}

/// Why a question brought no answer, before it is said which.
pub(super) enum Failure {
    NoIpvs,
    Netlink(NetlinkError),
    Question(EncodeError),
}

impl Failure {
    pub(super) fn of(self, operation: Operation) -> IpvsError {
        match self {
            Self::NoIpvs => IpvsError::NoIpvs,
            Self::Netlink(error) => IpvsError::new(operation, error),
            Self::Question(source) => IpvsError::Question { operation, source },
        }
    }
}

/// A question to the family, as it is sent.
pub(super) fn question(command: Command, attributes: AttributeList) -> Result<Vec<u8>, EncodeError> {
    bytes(&codec::message(command, attributes)?)
}

/// What it means that a question couldn't be made.
pub(super) fn unbuilt(operation: &Operation) -> impl FnOnce(EncodeError) -> IpvsError {
    let operation = operation.clone();
    move |source| IpvsError::Question { operation, source }
}

fn bytes(message: &impl ToBytes) -> Result<Vec<u8>, EncodeError> {
    let mut cursor = Cursor::new(Vec::new());
    message.to_bytes(&mut cursor)?;
    Ok(cursor.into_inner())
}

fn family_number(attributes: &[u8]) -> Option<u16> {
    let mut cursor = Cursor::new(attributes);
    let all = GenlBuffer::<CtrlAttr, Buffer>::from_bytes_with_input(&mut cursor, attributes.len()).ok()?;
    all.get_attr_handle().get_attr_payload_as::<u16>(CtrlAttr::FamilyId).ok()
}
