//! A generic netlink socket without a runtime: the kernel has answered a request to IPVS when `send` returns, so that
//! there is nothing to wait for, and a dump's datagrams can be told apart.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
            setsockopt, socket, sockopt,
        },
        time::TimeVal,
    },
};

use crate::netlink::NetlinkError;

/// `struct nlmsghdr` of `linux/netlink.h`: length, type, flags, sequence number, sender.
const HEADER: usize = 16;
/// `struct genlmsghdr` of `linux/genetlink.h`.
const GENERIC_HEADER: usize = 4;
/// `NLMSG_ERROR`: an error number, 0 for an acknowledgement.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
const DONE: u16 = 3;
/// `NLM_F_MULTI`: more answers follow, up to one of type `NLMSG_DONE`.
const MULTI: u16 = 0x02;
/// `NLM_F_DUMP_INTR`: what is dumped has changed meanwhile.
const INTERRUPTED: u16 = 0x10;
/// `NLM_F_REQUEST`, which every request has.
const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`: the kernel says that it is done.
pub(super) const ACKNOWLEDGE: u16 = 0x04;
/// `NLM_F_DUMP`: all entries.
pub(super) const DUMP: u16 = 0x300;

/// An open socket with one request under way at a time. After an error other than [`NetlinkError::Kernel`] it must not
/// be used again: a late answer may still come.
pub(super) struct Socket {
    descriptor: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
    timeout: Duration,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace. The kernel makes a dump's datagrams as large as the
    /// reader's buffer, up to 32 KiB, once it has seen one (`netlink_dump` in `net/netlink/af_netlink.c`).
    pub(super) fn open(timeout: Duration, buffer: usize) -> Result<Self, NetlinkError> {
        let failed = |errno: Errno| NetlinkError::Socket(errno.desc().to_owned());
        let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
        let descriptor =
            socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkGeneric).map_err(failed)?;
        bind(descriptor.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed)?;
        let limit =
            TimeVal::new(timeout.as_secs().try_into().unwrap_or(i64::MAX), timeout.subsec_micros().into());
        setsockopt(&descriptor, sockopt::ReceiveTimeout, &limit).map_err(failed)?;
        Ok(Self { descriptor, buffer: vec![0; buffer], sequence: 0, timeout })
    }

    /// Sends a request, a generic netlink message without its first header, and shows `each` the attributes of every
    /// answer. Gives the number of datagrams that had any.
    pub(super) fn exchange(
        &mut self,
        kind: u16,
        flags: u16,
        request: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<u32, NetlinkError> {
        self.send(kind, flags, request)?;
        let (mut datagrams, mut steady) = (0, true);
        loop {
            let length = self.receive()?;
            let (mut had_entries, mut ended) = (false, false);
            for message in Messages(&self.buffer[..length]) {
                if message.sequence != self.sequence {
                    continue;
                }
                steady &= message.flags & INTERRUPTED == 0;
                match message.kind {
                    ERROR | DONE => {
                        check(message.payload)?;
                        ended = true;
                    }
                    _ => {
                        had_entries = true;
                        each(message.payload.get(GENERIC_HEADER..).unwrap_or_default());
                        ended |= message.flags & MULTI == 0 && flags & ACKNOWLEDGE == 0;
                    }
                }
            }
            datagrams += u32::from(had_entries);
            if ended {
                return if steady { Ok(datagrams) } else { Err(NetlinkError::Unsteady) };
            }
        }
    }

    fn send(&mut self, kind: u16, flags: u16, request: &[u8]) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = HEADER + request.len();
        let mut message = Vec::with_capacity(length);
        message.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | REQUEST).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(request);
        let sent = send(self.descriptor.as_raw_fd(), &message, MsgFlags::empty());
        sent.map(drop).map_err(|errno| NetlinkError::Socket(errno.desc().to_owned()))
    }

    fn receive(&mut self) -> Result<usize, NetlinkError> {
        loop {
            match recv(self.descriptor.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) if length <= self.buffer.len() => return Ok(length),
                Ok(_) => return Err(NetlinkError::Socket("an answer is larger than the buffer".to_owned())),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(NetlinkError::Timeout(self.timeout)),
                Err(errno) => return Err(NetlinkError::Socket(errno.desc().to_owned())),
            }
        }
    }
}

/// The error number in an error message or at the end of a dump: negative, or 0.
fn check(payload: &[u8]) -> Result<(), NetlinkError> {
    match payload.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes)) {
        None | Some(0) => Ok(()),
        Some(code) => Err(NetlinkError::Kernel(Errno::from_raw(code.saturating_neg()))),
    }
}

/// A message of a datagram.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// The messages of a datagram; ends where they stop to make sense.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.first_chunk::<HEADER>()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let payload = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + payload.len()).unwrap();
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes()].concat();
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn messages_of_a_datagram_are_split() {
        let datagram = [message(30, MULTI, b"12345"), message(DONE, MULTI, &[0; 4])].concat();
        let read: Vec<_> =
            Messages(&datagram).map(|one| (one.kind, one.flags, one.payload.to_vec())).collect();
        assert_eq!(read, [(30, MULTI, b"12345".to_vec()), (DONE, MULTI, vec![0; 4])]);
    }

    #[test]
    fn error_numbers_are_negative() {
        assert_eq!(check(&0_i32.to_ne_bytes()), Ok(()));
        assert_eq!(check(&(-3_i32).to_ne_bytes()), Err(NetlinkError::Kernel(Errno::ESRCH)));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let read: usize = Messages(&bytes).map(|message| message.payload.len() + HEADER).sum();
            prop_assert!(read <= bytes.len());
        }
    }
}
