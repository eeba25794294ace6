//! Socket filters that let only answers to this agent's pings through.
//!
//! A raw ICMP socket gets a copy of every ICMP message that reaches the host. Without a filter whoever floods the
//! director with pings would fill the socket's buffer, the replies would be lost, and healthy servers look dead.
//!
//! Classic BPF, as in the kernel's `Documentation/networking/filter.rst`. Loads beyond the end of a packet reject it.

use socket2::SockFilter;

/// Loads a byte at a fixed offset.
const LOAD_BYTE: u16 = 0x30;
/// Loads two bytes at a fixed offset.
const LOAD_HALF: u16 = 0x28;
/// Loads a byte at an offset from the index register.
const LOAD_BYTE_INDEXED: u16 = 0x50;
/// Loads two bytes at an offset from the index register.
const LOAD_HALF_INDEXED: u16 = 0x48;
/// Loads the length of the IPv4 header at a fixed offset into the index register.
const LOAD_HEADER_LENGTH: u16 = 0xb1;
/// Bitwise and with a constant.
const AND: u16 = 0x54;
/// Shift left by a constant.
const SHIFT_LEFT: u16 = 0x64;
/// Add the index register.
const ADD_INDEX: u16 = 0x0c;
/// Copy the accumulator into the index register.
const TO_INDEX: u16 = 0x07;
/// Jump by one of two distances, as the accumulator is equal to a constant or not.
const JUMP_EQUAL: u16 = 0x15;
/// End, and keep so many bytes.
const RETURN: u16 = 0x06;

/// Keep the whole packet.
const WHOLE: u32 = u32::MAX;

/// An instruction that doesn't jump.
fn step(code: u16, constant: u32) -> SockFilter {
    SockFilter::new(code, 0, 0, constant)
}

/// Jumps over `equal` or `different` instructions.
fn compare(constant: u32, equal: u8, different: u8) -> SockFilter {
    SockFilter::new(JUMP_EQUAL, equal, different, constant)
}

/// For a raw ICMPv4 socket, whose packets start with the IP header.
pub(super) fn for_v4(identifier: u16) -> [SockFilter; 19] {
    let identifier = identifier.into();
    [
        step(LOAD_HEADER_LENGTH, 0),
        step(LOAD_BYTE_INDEXED, 0),
        // 2: an echo reply …
        compare(0, 0, 2),
        step(LOAD_HALF_INDEXED, 4),
        compare(identifier, 12, 13),
        // 5: … or "unreachable", about an ICMP packet …
        compare(3, 0, 12),
        step(LOAD_BYTE_INDEXED, 8 + 9),
        compare(1, 0, 10),
        // 8: … that is, behind its IP header, an echo request.
        step(LOAD_BYTE_INDEXED, 8),
        step(AND, 0x0f),
        step(SHIFT_LEFT, 2),
        step(ADD_INDEX, 0),
        step(TO_INDEX, 0),
        step(LOAD_BYTE_INDEXED, 8),
        compare(8, 0, 3),
        step(LOAD_HALF_INDEXED, 8 + 4),
        compare(identifier, 0, 1),
        step(RETURN, WHOLE),
        step(RETURN, 0),
    ]
}

/// For a raw ICMPv6 socket, whose packets start with the ICMPv6 header.
pub(super) fn for_v6(identifier: u16) -> [SockFilter; 13] {
    let identifier = identifier.into();
    [
        step(LOAD_BYTE, 0),
        // 1: an echo reply …
        compare(129, 0, 2),
        step(LOAD_HALF, 4),
        compare(identifier, 7, 8),
        // 4: … or "unreachable", about an ICMPv6 packet that is an echo request.
        compare(1, 0, 7),
        step(LOAD_BYTE, 8 + 6),
        compare(58, 0, 5),
        step(LOAD_BYTE, 8 + 40),
        compare(128, 0, 3),
        step(LOAD_HALF, 8 + 40 + 4),
        compare(identifier, 0, 1),
        step(RETURN, WHOLE),
        step(RETURN, 0),
    ]
}

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, os::unix::net::UnixDatagram};

    use socket2::SockRef;

    use super::*;
    use crate::probe::ping::packet::{
        Echo,
        tests::{reply_v4, reply_v6, unreachable_v4, unreachable_v6},
    };

    const OURS: Echo = Echo { identifier: 0xabcd, sequence: 7 };
    const OTHERS: Echo = Echo { identifier: 0xabce, sequence: 7 };

    /// Which of `packets` the kernel lets through `filter`: a Unix socket runs it on the bytes as they are sent.
    fn passed(filter: &[SockFilter], packets: &[Vec<u8>]) -> Vec<bool> {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        SockRef::from(&receiver).attach_filter(filter).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let passes = |packet: &Vec<u8>| {
            sender.send(packet).unwrap();
            match receiver.recv(&mut [0; 200]) {
                Ok(length) => {
                    assert_eq!(length, packet.len());
                    true
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    false
                }
            }
        };
        packets.iter().map(passes).collect()
    }

    /// `packet` with one byte changed.
    fn with(mut packet: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
        packet[at] = value;
        packet
    }

    #[test]
    fn only_replies_to_this_agents_pings_pass_v4() {
        let packets = [
            reply_v4(OURS, 1),
            unreachable_v4(1, OURS),
            reply_v4(OTHERS, 1),
            unreachable_v4(1, OTHERS),
            // Behind an IP header of 24 bytes: a request instead of a reply, and time exceeded.
            with(reply_v4(OURS, 1), 24, 8),
            with(reply_v4(OURS, 1), 24, 11),
            // Unreachable, about TCP, and about a reply.
            with(unreachable_v4(1, OURS), 20 + 8 + 9, 6),
            with(unreachable_v4(1, OURS), 20 + 8 + 28, 0),
            reply_v4(OURS, 1)[..28].to_vec(),
            vec![0x45],
        ];
        let expected = [true, true, false, false, false, false, false, false, false, false];
        assert_eq!(passed(&for_v4(OURS.identifier), &packets), expected);
    }

    #[test]
    fn only_replies_to_this_agents_pings_pass_v6() {
        let packets = [
            reply_v6(OURS, 1),
            unreachable_v6(3, OURS),
            reply_v6(OTHERS, 1),
            unreachable_v6(3, OTHERS),
            with(reply_v6(OURS, 1), 0, 128),
            with(unreachable_v6(3, OURS), 8 + 6, 6),
            with(unreachable_v6(3, OURS), 8 + 40, 129),
            vec![129],
        ];
        let expected = [true, true, false, false, false, false, false, false];
        assert_eq!(passed(&for_v6(OURS.identifier), &packets), expected);
    }
}
