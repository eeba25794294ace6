//! A dump over a netlink socket of any protocol: one request, and all answers.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    libc::{NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR},
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt,
            socket, sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike as _},
    },
};

/// `struct nlmsghdr` (`linux/netlink.h`).
const HEADER: usize = 16;
/// How long the kernel may take for each part of its answer.
const PATIENCE: i64 = 1;
/// The kernel puts at most this much into one datagram of a dump (`netlink_dump` in `net/netlink/af_netlink.c`).
const DATAGRAM: usize = 32 << 10;
/// How many answers are looked at: a director with more rules isn't read to the end.
const MOST: usize = 100_000;

/// Asks for all objects of a kind. `take` gets the payload of each.
pub(super) fn dump(
    protocol: SockProtocol,
    kind: u16,
    question: &[u8],
    mut take: impl FnMut(&[u8]),
) -> io::Result<()> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
    sendto(socket.as_raw_fd(), &request(kind, question), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut seen = 0;
    while seen < MOST {
        match receive(&socket, &mut take)? {
            Part::More(messages) => seen += messages.max(1),
            Part::End => return Ok(()),
        }
    }
    Ok(())
}

fn request(kind: u16, question: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + question.len()).unwrap_or(u32::MAX);
    let flags = u16::try_from(NLM_F_REQUEST | NLM_F_DUMP).unwrap_or_default();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    // Sequence number and port, which one question on one socket doesn't need.
    bytes.extend([0; 8]);
    bytes.extend(question);
    bytes
}

/// What a datagram was.
enum Part {
    /// So many answers, and more will come.
    More(usize),
    /// The last one.
    End,
}

fn receive(socket: &OwnedFd, take: &mut impl FnMut(&[u8])) -> io::Result<Part> {
    let mut buffer = vec![0; DATAGRAM];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    let mut rest = &buffer[..length];
    let mut messages = 0;
    while let Some((kind, payload, after)) = message(rest) {
        match i32::from(kind) {
            NLMSG_DONE => return Ok(Part::End),
            NLMSG_ERROR => {
                let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                return if code == 0 { Ok(Part::End) } else { Err(Errno::from_raw(-code).into()) };
            }
            _ => take(payload),
        }
        messages += 1;
        rest = after;
    }
    Ok(Part::More(messages))
}

/// The first message: its type, its payload, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let payload = bytes.get(HEADER..length)?;
    Some((kind, payload, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}
