//! Packets from a seed: valid ones, and what can be done to them.

use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;
use lvs_common::PROBE_MARK;
use lvs_tests::packets::{
    attribution::Direction,
    builder::{Extension, Frame, Gre, Gue, Packet, icmp, protocol, sctp, tcp, udp},
};

use crate::fixture::{
    GUE_PORT, MAC, MARK, OTHER_MAC, OTHER_MARK, address, far, far6, near, near6, server, server6, vip, vip6,
};

/// The kernel's test run takes no shorter frame of a protocol.
const SHORTEST: [(u16, usize); 2] = [(0x0800, 14 + 20), (0x86dd, 14 + 40)];
const SHORTEST_OF_OTHERS: usize = 15;

pub(super) struct Generator {
    random: Rng,
    probes: bool,
}

impl Generator {
    pub(super) fn new(seed: u64, probes: bool) -> Self {
        Self { random: Rng::with_seed(seed), probes }
    }

    /// One packet, and which direction it passes.
    pub(super) fn packet(&mut self) -> (Direction, Frame) {
        let frame = if self.one_in(12) { self.noise() } else { self.built() };
        let frame = self.damaged(frame);
        (self.direction(), long_enough(frame))
    }

    fn one_in(&mut self, times: u32) -> bool {
        self.random.u32(0..times) == 0
    }

    fn any<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.usize(0..of.len())]
    }

    fn direction(&mut self) -> Direction {
        if self.random.u8(0..5) < 2 {
            return Direction::In;
        }
        let own = if self.probes { PROBE_MARK } else { 0 };
        let other = self.random.u32(..) & !PROBE_MARK;
        Direction::Out(self.any(&[0, 0, 0, MARK, MARK, OTHER_MARK, own, other]))
    }

    /// Random bytes that call themselves IP.
    fn noise(&mut self) -> Frame {
        let length = self.random.usize(0..120);
        let bytes = std::iter::repeat_with(|| self.random.u8(..)).take(length).collect::<Vec<_>>();
        let mut frame = Packet::new(vip().ip(), vip().ip(), 6, &[]).frame().cut(14);
        frame.bytes.extend(bytes);
        let ethertype = self.random.u16(..).to_be_bytes();
        let ethertype = self.any(&[[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x88, 0xa8], ethertype]);
        let first = if ethertype == [0x86, 0xdd] { 0x60 } else { 0x45 };
        if frame.bytes.len() > 14 && self.random.bool() {
            frame.bytes[14] = first;
        }
        frame.changed(12, &ethertype)
    }

    fn built(&mut self) -> Frame {
        let six = self.one_in(3);
        let mut packet = self.plain(six);
        if self.one_in(5) {
            packet = self.message(&packet);
        }
        for _ in 0..self.any(&[0, 0, 0, 1, 1, 1, 2, 3]) {
            packet = self.tunnelled(&packet);
            if self.one_in(8) {
                packet = self.message(&packet);
            }
        }
        let mac = self.any(&[MAC, MAC, OTHER_MAC, [2, 0, 0, 0, 0, 9]]);
        let tags = self.any(&[0, 0, 0, 0, 1, 2, 3]);
        let frame = packet.frame().to_mac(mac).vlan_tags(tags);
        if tags > 0 && self.random.bool() { frame.changed(12, &[0x88, 0xa8]) } else { frame }
    }

    /// A packet between two ends, one of which may be a server's.
    fn plain(&mut self, six: bool) -> Packet {
        let (one, other) = (self.end(six), self.end(six));
        let data = vec![0x55; self.random.usize(0..24)];
        let packet = match self.random.u8(0..10) {
            0..6 => self.segment(one, other, &data),
            6 | 7 => udp(one, other, &data),
            8 => sctp(one, other),
            _ => Packet::new(one.ip(), other.ip(), self.random.u8(..), &data),
        };
        self.with_options(packet, six)
    }

    fn with_options(&mut self, packet: Packet, six: bool) -> Packet {
        if !self.one_in(3) {
            packet
        } else if six {
            let count = self.random.usize(0..9);
            let extensions = std::iter::repeat_with(|| self.extension()).take(count).collect::<Vec<_>>();
            packet.extensions(&extensions)
        } else {
            packet.ip_options(&vec![1; 4 * self.random.usize(0..11)])
        }
    }

    fn segment(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) -> Packet {
        let numbers = [0, 1, 100, 101, 200, u32::MAX, self.random.u32(..)];
        let segment = tcp(from, to, self.random.u8(..)).sequence(self.any(&numbers));
        segment.acknowledging(self.any(&numbers)).payload(data).packet()
    }

    fn extension(&mut self) -> Extension {
        let number = self.any(&[protocol::HOP_BY_HOP, protocol::ROUTING, protocol::DESTINATION]);
        match self.random.u8(0..8) {
            0 => Extension::Fragment(0),
            1 => Extension::Authentication(self.random.u8(0..12)),
            2 if self.one_in(4) => Extension::Fragment(self.random.u16(1..8192)),
            _ => Extension::Options(number, self.any(&[0, 0, 0, 1, 2, 30])),
        }
    }

    fn end(&mut self, six: bool) -> SocketAddr {
        let random = self.random.u32(..);
        let text: &[&str] = if six {
            &["fd00::1", "fd00::1", "fd00::3", "2001:db8::80", "2001:db8::81", "2001:db8:7::7", "fd00:1::1"]
        } else {
            &[
                "10.0.0.1",
                "10.0.0.1",
                "10.0.0.2",
                "10.0.0.3",
                "10.0.0.4",
                "192.0.2.80",
                "192.0.2.81",
                "198.51.100.7",
                "10.0.1.1",
            ]
        };
        let mut ip = address(self.any(text));
        if !six && self.one_in(10) {
            ip = IpAddr::V4(random.into());
        }
        let port = self.random.u16(..);
        SocketAddr::new(ip, self.any(&[80, 80, 80, 53, 53, 81, GUE_PORT, port]))
    }

    fn tunnelled(&mut self, inside: &Packet) -> Packet {
        let six = self.one_in(3);
        let (from, to) = if six { (near6(), far6()) } else { (near(), far()) };
        let elsewhere = if six { server6().ip() } else { server().ip() };
        let to = self.any(&[to, to, to, to, elsewhere]);
        let fields =
            Gre { checksum: self.random.bool(), key: self.random.bool(), sequence: self.random.bool() };
        let packet = match self.random.u8(0..4) {
            0 | 1 => inside.ipip(from, to),
            2 => inside.gre(from, to, fields),
            _ => {
                let words = self.random.u8(0..32);
                let form = self.any(&[
                    Gue::Header(0),
                    Gue::Header(1),
                    Gue::Header(words),
                    Gue::Direct,
                    Gue::Control,
                ]);
                let port = self.any(&[GUE_PORT, GUE_PORT, GUE_PORT, 5556]);
                inside.gue((from, 61000).into(), (to, port).into(), form)
            }
        };
        self.with_options(packet, six)
    }

    /// A message about a packet, of which it quotes anything from nothing to all.
    fn message(&mut self, about: &Packet) -> Packet {
        let six = about.bytes()[0] >> 4 == 6;
        let (from, to) = if six { (vip6().ip(), near6()) } else { (vip().ip(), near()) };
        let whole = about.bytes().len();
        let length = self.random.usize(0..=whole);
        let length = self.any(&[whole, whole, length]);
        let (kind, code) = (self.random.u8(0..14), self.random.u8(0..16));
        let kind = self.any(&[if six { 1 } else { 3 }, if six { 1 } else { 3 }, kind]);
        icmp(from, to, kind, self.any(&[0, 1, 3, code]), &about.bytes()[..length])
    }

    /// Cut, or with some of its bytes changed.
    fn damaged(&mut self, mut frame: Frame) -> Frame {
        let length = frame.bytes.len();
        if self.one_in(5) {
            frame = frame.cut(self.random.usize(0..=length));
        }
        if self.one_in(4) {
            for _ in 0..self.random.usize(1..4) {
                // Most headers are near the beginning.
                let end = if self.random.bool() { 80 } else { usize::MAX };
                let at = self.random.usize(0..frame.bytes.len().clamp(1, end));
                let byte = self.random.u8(..);
                if let Some(place) = frame.bytes.get_mut(at) {
                    *place = self.any(&[byte, 0, 0xff, *place ^ 1, *place ^ 0x80]);
                }
            }
        }
        frame
    }
}

/// Filled up to what the test run takes.
fn long_enough(mut frame: Frame) -> Frame {
    let shortest = |bytes: &[u8]| {
        let ethertype = bytes.get(12..14).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
        let known = SHORTEST.iter().find(|(number, _)| *number == ethertype);
        known.map_or(SHORTEST_OF_OTHERS, |(_, shortest)| *shortest)
    };
    // Filling up an ethertype may make it one of those.
    for _ in 0..2 {
        let least = shortest(&frame.bytes).max(frame.bytes.len());
        frame.bytes.resize(least, 0);
    }
    frame
}
