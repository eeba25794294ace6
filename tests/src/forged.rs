//! Packets that a stranger forges: it sees neither the clients' packets nor the probes, and guesses what it can't know.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    lab::{
        Lab,
        faults::flood::Flood,
        layout::{Family, Layout, Method, client_address, forged_address},
        namespace::Namespace,
    },
    packets::builder::{ACK, Packet, RST, SYN, icmp, protocol, tcp, udp},
};

/// Where name servers answer from.
const DNS_PORT: u16 = 53;

/// What is forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forged {
    /// ICMP messages from nowhere to the director that call a server unreachable, about SYNs that nobody has sent.
    Unreachable,
    /// A server refuses a client's connection.
    Reset,
    /// A server accepts a client's connection.
    SynAck,
    /// A client that nobody has ever seen opens a connection, and acknowledges an answer that it can't have got.
    Handshake,
    /// A server answers a ping of the director's.
    EchoReply,
    /// A server answers a question of the director's for a name.
    DnsAnswer,
}

impl Forged {
    /// Sends `rate` of them a second, from beside the servers: only what comes from there is looked at as a server's.
    /// Those of clients come from where clients are.
    pub fn flood(self, lab: &Lab, rate: f64) -> Result<Flood> {
        let from = if self == Self::Handshake {
            &lab.network.clients
        } else if let Some(server) = lab.servers.last() {
            server.namespace()
        } else {
            bail!("a lab without servers");
        };
        let (socket, servers) = (raw(from)?, lab.addresses());
        Flood::of(from, rate, move |number| {
            let packet = self.packet(servers[number as usize % servers.len()], number);
            socket.send_to(packet.bytes(), &SocketAddr::new(destination(&packet), 0).into()).map(drop)
        })
    }

    /// The forged packet with this number, about this server.
    fn packet(self, server: SocketAddr, number: u32) -> Packet {
        let director = Layout::new(Method::Masquerade).director();
        let guess = number.wrapping_mul(0x9e37_79b9);
        let [high, low, ..] = guess.to_be_bytes();
        let port = u16::from_be_bytes([high, low]);
        let nobody: IpAddr = forged_address(number).into();
        // Clients are no secret; their ports and numbers are.
        let client = SocketAddr::new(client_address(Family::V4, number), port);
        match self {
            Self::Unreachable => {
                let quoted = tcp(SocketAddr::new(nobody, port), server, SYN).sequence(guess).packet();
                icmp(forged_address(7).into(), director, 3, 1, &quoted.bytes()[..28])
            }
            Self::Reset => signed(&tcp(server, client, RST | ACK).acknowledging(guess).packet()),
            Self::SynAck => {
                signed(&tcp(server, client, SYN | ACK).sequence(!guess).acknowledging(guess).packet())
            }
            Self::Handshake => {
                // Two packets of one client follow one another.
                let (pair, is_second) = (number / 2, number % 2 == 1);
                let guess = pair.wrapping_mul(0x9e37_79b9);
                let [port_high, port_low, ..] = guess.to_be_bytes();
                let from = SocketAddr::new(
                    forged_address(pair).into(),
                    u16::from_be_bytes([port_high, port_low]) | 1024,
                );
                let vip = Layout::new(Method::DirectRoute).service();
                let flags = if is_second { ACK } else { SYN };
                let sequence = guess.wrapping_add(is_second.into());
                let acknowledged = if is_second { !guess } else { 0 };
                signed(&tcp(from, vip, flags).sequence(sequence).acknowledging(acknowledged).packet())
            }
            Self::EchoReply => icmp(server.ip(), director, 0, 0, &guess.to_be_bytes().repeat(2)),
            Self::DnsAnswer => {
                let header = [high, low, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
                udp(SocketAddr::new(server.ip(), DNS_PORT), SocketAddr::new(director, port), &header)
            }
        }
    }
}

/// A socket for whole IPv4 packets.
fn raw(from: &Namespace) -> Result<Socket> {
    from.run(|| Ok(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(nix::libc::IPPROTO_RAW)))?))
}

/// Where an IPv4 packet goes.
fn destination(packet: &Packet) -> IpAddr {
    address_at(packet, 16)
}

/// The address that is there in an IPv4 packet.
fn address_at(packet: &Packet, offset: usize) -> IpAddr {
    let bytes = packet.bytes();
    IpAddr::from([0, 1, 2, 3].map(|at| bytes[offset + at]))
}

/// A TCP segment in IPv4 with a right checksum (RFC 9293, 3.1): others drop what has none.
fn signed(packet: &Packet) -> Packet {
    let bytes = packet.bytes();
    let (addresses, segment) = (&bytes[12..20], &bytes[20..]);
    let length = u16::try_from(segment.len()).unwrap_or_default();
    let rest = [0, protocol::TCP].into_iter().chain(length.to_be_bytes());
    let all: Vec<u8> = addresses.iter().copied().chain(rest).chain(segment.iter().copied()).collect();
    let words = all.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let sum = u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or_default();
    let mut segment = segment.to_vec();
    segment[16..18].copy_from_slice(&(!sum).to_be_bytes());
    Packet::new(address_at(packet, 12), address_at(packet, 16), protocol::TCP, &segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_segments_have_a_checksum_that_holds() {
        let server = SocketAddr::from(([10, 0, 0, 1], 80));
        for kind in [Forged::Reset, Forged::SynAck, Forged::Handshake] {
            for number in 0..100 {
                let packet = kind.packet(server, number);
                let bytes = packet.bytes();
                let length = u16::try_from(bytes.len() - 20).unwrap().to_be_bytes();
                let all = [&bytes[12..20], &[0, protocol::TCP], &length, &bytes[20..]].concat();
                let sum: u32 = all.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
                let folded = (sum & 0xffff) + (sum >> 16);
                assert_eq!((folded & 0xffff) + (folded >> 16), 0xffff, "{kind:?} {number}");
            }
        }
    }

    #[test]
    fn a_forged_client_sends_two_packets_that_follow_one_another() {
        let server = SocketAddr::from(([10, 0, 0, 1], 80));
        let (first, second) = (Forged::Handshake.packet(server, 6), Forged::Handshake.packet(server, 7));
        let of = |packet: &Packet| (packet.bytes()[12..24].to_vec(), packet.bytes()[24..28].to_vec());
        let ((flow, one), (same, next)) = (of(&first), of(&second));
        assert_eq!(flow, same);
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        assert_eq!(number(&one).wrapping_add(1), number(&next));
    }
}
