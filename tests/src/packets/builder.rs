//! Frames, built from the inside: `tcp(from, to, SYN).packet().ipip(near, far).frame()`.
//!
//! The builders set lengths and leave checksums at zero (nothing that is tested looks at them); a test that wants a
//! frame to lie changes its bytes afterwards.
#![expect(clippy::expect_used, reason = "a frame that can't be is a mistake in the test that builds it")]

use std::net::{IpAddr, SocketAddr};

/// Length of the Ethernet header.
pub const ETHERNET: usize = 14;
/// Where the IPv4 header's fields are in a frame.
pub const IPV4_VERSION_AND_LENGTH: usize = ETHERNET;
/// Total length, two bytes.
pub const IPV4_TOTAL_LENGTH: usize = ETHERNET + 2;
/// Flags and fragment offset, two bytes.
pub const IPV4_FRAGMENT: usize = ETHERNET + 6;
/// Protocol, one byte.
pub const IPV4_PROTOCOL: usize = ETHERNET + 9;
/// IPv6 payload length, two bytes.
pub const IPV6_PAYLOAD_LENGTH: usize = ETHERNET + 4;
/// The TCP header's data offset in a frame without IPv4 options.
pub const TCP_OFFSET: usize = ETHERNET + 20 + 12;

/// TCP flags.
pub const FIN: u8 = 0x01;
/// Synchronise.
pub const SYN: u8 = 0x02;
/// Reset.
pub const RST: u8 = 0x04;
/// Acknowledgement field significant.
pub const ACK: u8 = 0x10;

/// IANA protocol numbers.
pub mod protocol {
    /// Of IPv6's extension headers.
    pub const HOP_BY_HOP: u8 = 0;
    /// Control messages of IPv4.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPV4: u8 = 4;
    /// Transmission control.
    pub const TCP: u8 = 6;
    /// Datagrams.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// Of IPv6's extension headers.
    pub const ROUTING: u8 = 43;
    /// Of IPv6's extension headers.
    pub const FRAGMENT: u8 = 44;
    /// Generic routing encapsulation.
    pub const GRE: u8 = 47;
    /// Of IPv6's extension headers, and a protocol over IPv4.
    pub const AUTHENTICATION: u8 = 51;
    /// Control messages of IPv6.
    pub const ICMPV6: u8 = 58;
    /// Of IPv6's extension headers.
    pub const DESTINATION: u8 = 60;
    /// Stream control transmission.
    pub const SCTP: u8 = 132;
}

/// A TCP segment with its addresses.
#[derive(Clone, Debug)]
pub struct Segment {
    from: SocketAddr,
    to: SocketAddr,
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
    payload: Vec<u8>,
}

/// A segment with these flags, sequence number 0 and nothing else.
#[must_use]
pub fn tcp(from: SocketAddr, to: SocketAddr, flags: u8) -> Segment {
    Segment { from, to, flags, sequence: 0, acknowledgement: 0, payload: Vec::new() }
}

impl Segment {
    /// Sent from this address and port.
    #[must_use]
    pub fn from(mut self, from: SocketAddr) -> Self {
        self.from = from;
        self
    }

    /// With this sequence number.
    #[must_use]
    pub fn sequence(mut self, sequence: u32) -> Self {
        self.sequence = sequence;
        self
    }

    /// With this acknowledgement number.
    #[must_use]
    pub fn acknowledging(mut self, acknowledgement: u32) -> Self {
        self.acknowledgement = acknowledgement;
        self
    }

    /// With data.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// In an IP packet.
    #[must_use]
    pub fn packet(&self) -> Packet {
        let mut bytes = ports(self.from, self.to);
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.acknowledgement.to_be_bytes());
        bytes.extend_from_slice(&[0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend_from_slice(&self.payload);
        Packet::new(self.from.ip(), self.to.ip(), protocol::TCP, &bytes)
    }

    /// In an Ethernet frame.
    #[must_use]
    pub fn frame(&self) -> Frame {
        self.packet().frame()
    }
}

/// A datagram.
#[must_use]
pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Packet {
    let mut bytes = ports(from, to);
    bytes.extend_from_slice(&length(8 + payload.len()));
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(payload);
    Packet::new(from.ip(), to.ip(), protocol::UDP, &bytes)
}

/// An SCTP packet without chunks.
#[must_use]
pub fn sctp(from: SocketAddr, to: SocketAddr) -> Packet {
    let mut bytes = ports(from, to);
    bytes.extend_from_slice(&[0; 8]);
    Packet::new(from.ip(), to.ip(), protocol::SCTP, &bytes)
}

/// An ICMP or ICMPv6 message about a packet, as the version of its addresses asks for.
#[must_use]
pub fn icmp(from: IpAddr, to: IpAddr, kind: u8, code: u8, about: &[u8]) -> Packet {
    let mut bytes = vec![kind, code, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(about);
    let protocol = if from.is_ipv6() { protocol::ICMPV6 } else { protocol::ICMP };
    Packet::new(from, to, protocol, &bytes)
}

/// What fills an IPv6 extension header, or what kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop, routing or destination options: the protocol number and how many times 8 bytes there are more.
    Options(u8, u8),
    /// A fragment header with this offset in units of 8 bytes.
    Fragment(u16),
    /// An authentication header with so many words of 4 bytes, less 2.
    Authentication(u8),
}

/// How GUE is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gue {
    /// Variant 0 with so many words of optional fields.
    Header(u8),
    /// Variant 0, a control message.
    Control,
    /// Variant 1: the inner packet follows at once.
    Direct,
}

/// GRE's optional fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gre {
    /// A checksum.
    pub checksum: bool,
    /// A key.
    pub key: bool,
    /// A sequence number.
    pub sequence: bool,
}

/// A packet of the network layer.
#[derive(Clone, Debug)]
pub struct Packet {
    bytes: Vec<u8>,
    six: bool,
}

impl Packet {
    /// An IPv4 or IPv6 packet, as its addresses are; both must be of one version.
    #[must_use]
    pub fn new(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(40 + payload.len());
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                bytes.extend_from_slice(&[0x45, 0]);
                bytes.extend_from_slice(&length(20 + payload.len()));
                bytes.extend_from_slice(&[0, 1, 0x40, 0, 64, protocol, 0, 0]);
                bytes.extend_from_slice(&from.octets());
                bytes.extend_from_slice(&to.octets());
            }
            (from, to) => {
                bytes.extend_from_slice(&[0x60, 0, 0, 0]);
                bytes.extend_from_slice(&length(payload.len()));
                bytes.extend_from_slice(&[protocol, 64]);
                bytes.extend_from_slice(&octets(from));
                bytes.extend_from_slice(&octets(to));
            }
        }
        bytes.extend_from_slice(payload);
        Self { bytes, six: from.is_ipv6() }
    }

    /// With IPv4 options: a multiple of 4 bytes.
    ///
    /// # Panics
    /// If they are longer than an IPv4 header can be.
    #[must_use]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.bytes.splice(20..20, options.iter().copied());
        let words = u8::try_from(5 + options.len() / 4).expect("at most 40 bytes of options");
        self.bytes[0] = 0x40 | words;
        let total = length(self.bytes.len());
        self.bytes[2..4].copy_from_slice(&total);
        self
    }

    /// With IPv6 extension headers, the first one first.
    #[must_use]
    pub fn extensions(mut self, extensions: &[Extension]) -> Self {
        for extension in extensions.iter().rev() {
            let next = self.bytes[6];
            let (number, header) = match *extension {
                Extension::Options(number, more) => {
                    let mut header = vec![0; 8 * (usize::from(more) + 1)];
                    header[1] = more;
                    (number, header)
                }
                Extension::Fragment(offset) => {
                    let [high, low] = (offset << 3).to_be_bytes();
                    (protocol::FRAGMENT, vec![0, 0, high, low, 0, 0, 0, 1])
                }
                Extension::Authentication(words) => {
                    let mut header = vec![0; 4 * (usize::from(words) + 2)];
                    header[1] = words;
                    (protocol::AUTHENTICATION, header)
                }
            };
            self.bytes[6] = number;
            self.bytes.splice(40..40, header);
            self.bytes[40] = next;
        }
        let claim = length(self.bytes.len() - 40);
        self.bytes[4..6].copy_from_slice(&claim);
        self
    }

    /// In another IP packet.
    #[must_use]
    pub fn ipip(&self, near: IpAddr, far: IpAddr) -> Self {
        Self::new(near, far, if self.six { protocol::IPV6 } else { protocol::IPV4 }, &self.bytes)
    }

    /// In GRE.
    #[must_use]
    pub fn gre(&self, near: IpAddr, far: IpAddr, fields: Gre) -> Self {
        let with = [(fields.checksum, 0x80), (fields.key, 0x20), (fields.sequence, 0x10)];
        let present = with.iter().filter(|(is, _)| *is);
        let flags = present.clone().map(|(_, flag)| flag).sum();
        let mut bytes = vec![flags, 0];
        bytes.extend_from_slice(&self.ethertype());
        bytes.resize(4 + 4 * present.count(), 0xa5);
        bytes.extend_from_slice(&self.bytes);
        Self::new(near, far, protocol::GRE, &bytes)
    }

    /// In GUE.
    #[must_use]
    pub fn gue(&self, near: SocketAddr, far: SocketAddr, form: Gue) -> Self {
        let inside = if self.six { protocol::IPV6 } else { protocol::IPV4 };
        let mut bytes = match form {
            Gue::Header(words) => {
                let mut header = vec![words, inside, 0, 0];
                header.resize(4 + 4 * usize::from(words), 0xa5);
                header
            }
            Gue::Control => vec![0x20, inside, 0, 0],
            Gue::Direct => Vec::new(),
        };
        bytes.extend_from_slice(&self.bytes);
        udp(near, far, &bytes)
    }

    /// The bytes from the network layer's header on.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// In an Ethernet frame.
    #[must_use]
    pub fn frame(&self) -> Frame {
        let mut bytes = vec![0x02, 0, 0, 0, 0, 0xff, 0x02, 0, 0, 0, 0, 0xfe];
        bytes.extend_from_slice(&self.ethertype());
        bytes.extend_from_slice(&self.bytes);
        Frame { bytes }
    }

    fn ethertype(&self) -> [u8; 2] {
        if self.six { [0x86, 0xdd] } else { [0x08, 0x00] }
    }
}

/// An Ethernet frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// Sent to this link-layer address.
    #[must_use]
    pub fn to_mac(mut self, mac: [u8; 6]) -> Self {
        self.bytes[..6].copy_from_slice(&mac);
        self
    }

    /// With so many VLAN tags in the frame.
    #[must_use]
    pub fn vlan_tags(mut self, tags: usize) -> Self {
        for _ in 0..tags {
            self.bytes.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
        }
        self
    }

    /// With other bytes from an offset on.
    #[must_use]
    pub fn changed(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Only its first bytes.
    #[must_use]
    pub fn cut(mut self, length: usize) -> Self {
        self.bytes.truncate(length);
        self
    }
}

fn ports(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    [from.port().to_be_bytes(), to.port().to_be_bytes()].concat()
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).expect("a test's packet is short").to_be_bytes()
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
