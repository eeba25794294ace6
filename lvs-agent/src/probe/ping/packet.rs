//! ICMP messages as bytes: the echo request that is sent, and the answers to it among all that a raw socket receives.
//!
//! RFC 792 (ICMP) and RFC 4443 (ICMPv6). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{model::AddressFamily, probe::Unreachable};

/// ICMP header and the cookie.
const REQUEST_LENGTH: usize = 16;

/// The numbers of the two ICMP versions.
struct Types {
    request: u8,
    reply: u8,
    unreachable: u8,
}

/// The message types of an IP version.
fn types(family: AddressFamily) -> Types {
    match family {
        AddressFamily::V4 => Types { request: 8, reply: 0, unreachable: 3 },
        AddressFamily::V6 => Types { request: 128, reply: 129, unreachable: 1 },
    }
}

/// What names one echo request of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Echo {
    /// The agent.
    pub(super) identifier: u16,
    /// The request.
    pub(super) sequence: u16,
}

/// A message that answers an echo request of this agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EchoAnswer {
    /// The echo reply.
    Reply {
        /// Who sent it.
        from: IpAddr,
        /// The request that it answers.
        echo: Echo,
        /// What the request carried.
        cookie: u64,
    },
    /// Someone says that the request could not be delivered.
    Unreachable {
        /// Where the request was going.
        to: IpAddr,
        /// The request.
        echo: Echo,
        /// What can't be reached.
        what: Unreachable,
    },
}

/// An echo request. Over IPv6 the kernel fills in the checksum.
pub(super) fn request(family: AddressFamily, echo: Echo, cookie: u64) -> [u8; REQUEST_LENGTH] {
    let mut message = [0; REQUEST_LENGTH];
    message[0] = types(family).request;
    message[4..6].copy_from_slice(&echo.identifier.to_be_bytes());
    message[6..8].copy_from_slice(&echo.sequence.to_be_bytes());
    message[8..].copy_from_slice(&cookie.to_be_bytes());
    if family == AddressFamily::V4 {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// Parses a packet of a raw ICMPv4 socket, which starts with the IP header. `None`: it answers no echo request.
pub(super) fn parse_v4(packet: &[u8], from: Ipv4Addr) -> Option<EchoAnswer> {
    let message = behind_ipv4_header(packet)?;
    // A raw socket gets ICMP messages before the kernel has looked at their checksum.
    if checksum(message) != 0 {
        return None;
    }
    let types = types(AddressFamily::V4);
    if *message.first()? == types.reply {
        return parse_reply(message, from.into());
    }
    if *message.first()? != types.unreachable {
        return None;
    }
    let original = message.get(8..)?;
    let is_icmp = *original.get(9)? == 1;
    let to = Ipv4Addr::from(<[u8; 4]>::try_from(original.get(16..20)?).ok()?);
    let request = behind_ipv4_header(original)?;
    let is_request = is_icmp && *request.first()? == types.request;
    // Codes 0, 6, 9 and 11 speak of the network, as `icmp_err_convert` in the kernel's `net/ipv4/icmp.c` has it.
    let what = match message[1] {
        0 | 6 | 9 | 11 => Unreachable::Network,
        2 => Unreachable::Protocol,
        _ => Unreachable::Host,
    };
    is_request.then_some(EchoAnswer::Unreachable { to: to.into(), echo: echo(request)?, what })
}

/// The same for a raw ICMPv6 socket, where the message comes without the IP header and the kernel has checked the sum.
pub(super) fn parse_v6(message: &[u8], from: Ipv6Addr) -> Option<EchoAnswer> {
    let types = types(AddressFamily::V6);
    if *message.first()? == types.reply {
        return parse_reply(message, from.into());
    }
    if *message.first()? != types.unreachable {
        return None;
    }
    let original = message.get(8..)?;
    let to = Ipv6Addr::from(<[u8; 16]>::try_from(original.get(24..40)?).ok()?);
    let request = original.get(40..)?;
    let is_request = *original.get(6)? == 58 && *request.first()? == types.request;
    // Code 0: no route to the destination; 1, 5 and 6: prohibited, as `icmpv6_err_convert` in `net/ipv6/icmp.c` has it.
    let what = match message[1] {
        0 => Unreachable::Network,
        1 | 5 | 6 => Unreachable::Prohibited,
        _ => Unreachable::Host,
    };
    is_request.then_some(EchoAnswer::Unreachable { to: to.into(), echo: echo(request)?, what })
}

/// What an echo reply says.
fn parse_reply(message: &[u8], from: IpAddr) -> Option<EchoAnswer> {
    let cookie = u64::from_be_bytes(message.get(8..REQUEST_LENGTH)?.try_into().ok()?);
    Some(EchoAnswer::Reply { from, echo: echo(message)?, cookie })
}

/// Identifier and sequence of an echo request or reply.
fn echo(message: &[u8]) -> Option<Echo> {
    let number = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    Some(Echo { identifier: number(4)?, sequence: number(6)? })
}

/// What follows an IPv4 header, options included.
fn behind_ipv4_header(packet: &[u8]) -> Option<&[u8]> {
    let words = usize::from(packet.first()? & 0x0f);
    packet.get(words * 4..).filter(|_| words >= 5)
}

/// The Internet checksum (RFC 1071); 0 for a message that carries the right one.
fn checksum(message: &[u8]) -> u16 {
    let sum: u32 = message
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

    /// An IPv4 header of `words` words for an ICMP packet to [`SERVER`].
    fn ipv4_header(words: u8) -> Vec<u8> {
        let mut header = vec![0; usize::from(words) * 4];
        (header[0], header[9]) = (0x40 | words, 1);
        header[16..20].copy_from_slice(&SERVER.octets());
        header
    }

    fn with_checksum(mut message: Vec<u8>) -> Vec<u8> {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    /// The reply to a request, as a raw ICMPv4 socket receives it.
    pub(crate) fn reply_v4(echo: Echo, cookie: u64) -> Vec<u8> {
        let mut message = request(AddressFamily::V4, echo, cookie).to_vec();
        (message[0], message[2], message[3]) = (0, 0, 0);
        [ipv4_header(6), with_checksum(message)].concat()
    }

    /// "Unreachable" in answer to a request, as a raw ICMPv4 socket receives it.
    pub(crate) fn unreachable_v4(code: u8, echo: Echo) -> Vec<u8> {
        let request = request(AddressFamily::V4, echo, 0);
        let message = [vec![3, code, 0, 0, 0, 0, 0, 0], ipv4_header(7), request.to_vec()].concat();
        [ipv4_header(5), with_checksum(message)].concat()
    }

    /// The reply to a request, as a raw ICMPv6 socket receives it.
    pub(crate) fn reply_v6(echo: Echo, cookie: u64) -> Vec<u8> {
        let mut message = request(AddressFamily::V6, echo, cookie).to_vec();
        message[0] = 129;
        message
    }

    /// "Unreachable" in answer to a request, as a raw ICMPv6 socket receives it.
    pub(crate) fn unreachable_v6(code: u8, echo: Echo) -> Vec<u8> {
        let mut header = vec![0; 40];
        header[6] = 58;
        header[24..40].copy_from_slice(&SERVER_V6.octets());
        let request = request(AddressFamily::V6, echo, 0);
        [vec![1, code, 0, 0, 0, 0, 0, 0], header, request.to_vec()].concat()
    }

    const ECHO: Echo = Echo { identifier: 0x1234, sequence: 0xfffe };

    #[test]
    fn replies_and_unreachables_are_parsed() {
        let reply = |from| Some(EchoAnswer::Reply { from, echo: ECHO, cookie: 77 });
        assert_eq!(parse_v4(&reply_v4(ECHO, 77), SERVER), reply(SERVER.into()));
        assert_eq!(parse_v6(&reply_v6(ECHO, 77), SERVER_V6), reply(SERVER_V6.into()));
        let router = Ipv4Addr::new(192, 0, 2, 1);
        for (code, what) in [
            (0, Unreachable::Network),
            (1, Unreachable::Host),
            (2, Unreachable::Protocol),
            (13, Unreachable::Host),
        ] {
            let expected = Some(EchoAnswer::Unreachable { to: SERVER.into(), echo: ECHO, what });
            assert_eq!(parse_v4(&unreachable_v4(code, ECHO), router), expected);
        }
        for (code, what) in [
            (0, Unreachable::Network),
            (1, Unreachable::Prohibited),
            (3, Unreachable::Host),
            (5, Unreachable::Prohibited),
        ] {
            let expected = Some(EchoAnswer::Unreachable { to: SERVER_V6.into(), echo: ECHO, what });
            assert_eq!(parse_v6(&unreachable_v6(code, ECHO), Ipv6Addr::LOCALHOST), expected);
        }
    }

    #[test]
    fn other_messages_are_ignored() {
        let mut corrupt = reply_v4(ECHO, 77);
        *corrupt.last_mut().unwrap() ^= 1;
        assert_eq!(parse_v4(&corrupt, SERVER), None, "a wrong checksum");
        let request_v4 = request(AddressFamily::V4, ECHO, 77);
        assert_eq!(parse_v4(&[&ipv4_header(5)[..], &request_v4].concat(), SERVER), None, "a request");
        assert_eq!(parse_v6(&request(AddressFamily::V6, ECHO, 77), SERVER_V6), None, "a request");
        let mut udp = unreachable_v6(4, ECHO);
        udp[8 + 6] = 17;
        assert_eq!(parse_v6(&udp, SERVER_V6), None, "about UDP");
    }

    #[test]
    fn a_known_message_has_a_known_checksum() {
        // Echo request, identifier 1, sequence 1, no data: 0x0800 + 0x0001 + 0x0001 = 0x0802.
        assert_eq!(checksum(&[8, 0, 0, 0, 0, 1, 0, 1]), !0x0802);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(packet in proptest::collection::vec(any::<u8>(), 0..100)) {
            parse_v4(&packet, SERVER);
            parse_v6(&packet, SERVER_V6);
        }

        #[test]
        fn truncated_packets_are_parsed(length in 0_usize..80) {
            for packet in [reply_v4(ECHO, 1), unreachable_v4(1, ECHO)] {
                parse_v4(&packet[..length.min(packet.len())], SERVER);
            }
            for packet in [reply_v6(ECHO, 1), unreachable_v6(1, ECHO)] {
                parse_v6(&packet[..length.min(packet.len())], SERVER_V6);
            }
        }

        #[test]
        fn requests_have_a_valid_checksum(identifier: u16, sequence: u16, cookie: u64) {
            prop_assert_eq!(checksum(&request(AddressFamily::V4, Echo { identifier, sequence }, cookie)), 0);
        }
    }
}
