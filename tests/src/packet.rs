//! Frames, built to read like their header stack: `ethernet(mac).ipv4(from, to).tcp(…)`.
//!
//! The builder sets lengths and leaves checksums at zero (nothing that is tested looks at them); a test that wants a
//! frame to lie changes its bytes afterwards.
#![expect(clippy::expect_used, reason = "a frame that can't be is a mistake in the test that builds it")]

use std::net::SocketAddrV4;

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

/// An IPv4 TCP segment in an Ethernet frame.
#[derive(Clone, Debug)]
pub struct Segment {
    mac: [u8; 6],
    from: SocketAddrV4,
    to: SocketAddrV4,
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
    ip_options: Vec<u8>,
    payload: Vec<u8>,
    vlan_tags: usize,
}

impl Segment {
    /// A segment with these flags, sequence number 0 and nothing else.
    #[must_use]
    pub fn new(from: SocketAddrV4, to: SocketAddrV4, flags: u8) -> Self {
        Self {
            mac: [0x02, 0, 0, 0, 0, 0xff],
            from,
            to,
            flags,
            sequence: 0,
            acknowledgement: 0,
            ip_options: Vec::new(),
            payload: Vec::new(),
            vlan_tags: 0,
        }
    }

    /// Sent to this link-layer address.
    #[must_use]
    pub fn to_mac(mut self, mac: [u8; 6]) -> Self {
        self.mac = mac;
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

    /// With IPv4 options: a multiple of 4 bytes, at most 40.
    #[must_use]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip_options = options.to_vec();
        self
    }

    /// With data.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// With this many VLAN tags in the frame.
    #[must_use]
    pub fn vlan_tags(mut self, tags: usize) -> Self {
        self.vlan_tags = tags;
        self
    }

    /// The frame's bytes.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(128);
        frame.extend_from_slice(&self.mac);
        frame.extend_from_slice(&[0x02, 0, 0, 0, 0, 0xfe]);
        for _ in 0..self.vlan_tags {
            frame.extend_from_slice(&[0x81, 0x00, 0x00, 0x05]);
        }
        frame.extend_from_slice(&[0x08, 0x00]);
        self.push_ipv4(&mut frame);
        self.push_tcp(&mut frame);
        frame.extend_from_slice(&self.payload);
        frame
    }

    fn push_ipv4(&self, frame: &mut Vec<u8>) {
        let header = 20 + self.ip_options.len();
        let total = u16::try_from(header + 20 + self.payload.len()).expect("a test's frame is short");
        let words = u8::try_from(header / 4).expect("at most 40 bytes of options");
        frame.extend_from_slice(&[0x40 | words, 0]);
        frame.extend_from_slice(&total.to_be_bytes());
        frame.extend_from_slice(&[0, 1, 0x40, 0, 64, 6, 0, 0]);
        frame.extend_from_slice(&self.from.ip().octets());
        frame.extend_from_slice(&self.to.ip().octets());
        frame.extend_from_slice(&self.ip_options);
    }

    fn push_tcp(&self, frame: &mut Vec<u8>) {
        frame.extend_from_slice(&self.from.port().to_be_bytes());
        frame.extend_from_slice(&self.to.port().to_be_bytes());
        frame.extend_from_slice(&self.sequence.to_be_bytes());
        frame.extend_from_slice(&self.acknowledgement.to_be_bytes());
        frame.extend_from_slice(&[0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
    }
}
