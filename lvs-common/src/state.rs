use bytemuck::{Pod, Zeroable};

/// Signs of life of one server, shared by all CPUs and rewritten in place.
///
/// Updates race between CPUs. What can be lost is one of several waiting clients, or a count of one: the agent's
/// detector works with thresholds on several of them, and only ever asks for a probe.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServerState {
    /// The listening socket. Demand: a SYN (UDP under masquerade: a datagram). Proof of life: the SYN-ACK where it is
    /// seen, else the client's ACK that completes the handshake (UDP: any reply). By the exact clock.
    pub listener: LayerState,
    /// What serves behind it. Demand: a request, data that a client sends while it waits for nothing. Proof of life:
    /// the client's acknowledgement number advances, which takes data from the server. Sampled flows only. By the
    /// coarse clock.
    pub application: LayerState,
    /// Data sent again while the acknowledgement number stood still, since the last proof of life of any kind (of those
    /// above, or under masquerade any packet from the server). Sampled flows only. By the coarse clock.
    pub again: Retransmissions,
    /// The newest packet from the server, whatever it is but RST (masquerade only). By the coarse clock.
    pub reply_ns: u64,
    /// RSTs in answer to SYNs since the listener's last proof of life.
    pub refusals: u32,
    /// ICMP or ICMPv6 messages that call the server or its port unreachable, since any proof of life.
    pub unreachables: u32,
    /// When the first of those RSTs came; 0: none.
    pub refused_since_ns: u64,
    /// When the newest of those RSTs came.
    pub refused_last_ns: u64,
    /// When the newest of those ICMP messages came.
    pub unreachable_last_ns: u64,
    /// Not used: the value fills whole cache lines.
    pub spare: u64,
}

/// Demand on one layer of a server since its last proof of life there.
///
/// Clients are distinguished by network (/24, /64) in a sketch, so that one bad network counts once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct LayerState {
    /// The last proof of life; 0: never.
    pub progress_ns: u64,
    /// The networks that have waited since then.
    pub networks: Sketch,
    /// When the newest demand was seen.
    pub last_ns: u64,
    /// How many demands there were since the proof, repeated ones included.
    pub attempts: u32,
    /// How many of [`LayerState::since_ns`] are set; further networks are only in the sketch.
    pub waiting: u32,
    /// When the first, second, … network began to wait.
    pub since_ns: [u64; LayerState::REMEMBERED],
}

impl LayerState {
    /// How many networks' beginnings are remembered; a power of two, so that the programs can mask an index.
    pub const REMEMBERED: usize = 16;

    /// When the first waiting client began to wait; `None` if none waits.
    #[must_use]
    pub fn waiting_since(&self) -> Option<u64> {
        (self.waiting > 0).then_some(self.since_ns[0])
    }

    /// When the waiting clients began to wait, the first one first.
    #[must_use]
    pub fn beginnings(&self) -> &[u64] {
        let set = (self.waiting as usize).min(Self::REMEMBERED);
        &self.since_ns[..set]
    }
}

/// A sketch of client networks, or of connections: bit `hash % 256` for each.
///
/// Two that share a bit count as one. Of four that wait, two do in one case of 43; with 64 bits it would be one of 11,
/// and a fifth would have to be waited for.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Sketch(pub [u64; 4]);

impl Sketch {
    /// How many bits there are.
    pub const BITS: usize = 256;
    /// None.
    pub const NONE: Self = Self([0; 4]);

    /// Adds what has this hash; whether its bit was not set before.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the programs want one function of what most packets need")]
    pub const fn add(&mut self, hash: u32) -> bool {
        let word = (hash >> 6) as usize & 3;
        let bit = 1 << (hash & 63);
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    /// Whether a bit is set.
    #[must_use]
    pub const fn has(&self, bit: u8) -> bool {
        self.0[(bit >> 6) as usize] & 1 << (bit & 63) != 0
    }

    /// How many bits are set.
    #[must_use]
    pub const fn count(&self) -> u32 {
        let [a, b, c, d] = self.0;
        a.count_ones() + b.count_ones() + c.count_ones() + d.count_ones()
    }
}

/// Data that clients had to send again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Retransmissions {
    /// The client networks: bit `hash % 64` for each.
    pub networks: u64,
    /// The first time; 0: none.
    pub since_ns: u64,
    /// The newest time.
    pub last_ns: u64,
    /// How many segments.
    pub segments: u32,
    /// How many flows, each counted at its first.
    pub flows: u32,
}

/// One open handshake, or one client's UDP datagrams without an answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Handshake {
    /// When the first SYN or datagram was sent.
    pub since_ns: u64,
    /// The client's initial sequence number, host byte order; 0 for UDP.
    pub sequence: u32,
    /// How far it got and whose it is: [`Handshake::ANSWERED`], [`Handshake::PROBE`], [`Handshake::AGAIN`],
    /// [`Handshake::REPORTED`].
    pub flags: u32,
}

impl Handshake {
    /// The server's SYN-ACK was seen.
    pub const ANSWERED: u32 = 1;
    /// It belongs to one of the agent's own probes.
    pub const PROBE: u32 = 2;
    /// The SYN, or another datagram, was sent since: the answer may be to either, and its time means nothing (Karn's
    /// algorithm, RFC 6298, section 3).
    pub const AGAIN: u32 = 4;
    /// ICMP has called the server unreachable for the newest SYN or datagram. Each is believed once.
    pub const REPORTED: u32 = 8;
}

/// One sampled established flow, in a slot of its server's. A flow whose slot is taken by one that is still active is
/// not sampled. Only flows that have completed a handshake or carry data get a slot: SYNs can't push them out.
///
/// Sequence numbers are in host byte order. Times are by the coarse clock.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Flow {
    /// A hash of the client's address and port, never 0; 0: the slot is free.
    pub tag: u64,
    /// The newest packet from the client.
    pub seen_ns: u64,
    /// When the acknowledgement number last advanced, or the flow got the slot.
    pub progress_ns: u64,
    /// When the client sent what has had no response since; 0: it waits for nothing.
    pub request_ns: u64,
    /// When the client last sent data again without progress in between; 0: it hasn't.
    pub again_ns: u64,
    /// The highest acknowledgement number.
    pub acknowledged: u32,
    /// The highest sequence number that was sent, plus one.
    pub sent: u32,
    /// How many segments were sent again since the last progress.
    pub again: u32,
    /// The client's network, as a bit number of [`LayerState::networks`].
    pub network: u32,
    /// When ICMP last called the server unreachable for this flow; 0: never. Each of the client's packets is believed
    /// once.
    pub reported_ns: u64,
}

impl Flow {
    /// Slots for each server; a power of two. As many flows as Blink samples (Holterbach et al., NSDI 2019, section
    /// 4.1).
    pub const EACH: usize = 64;
    /// A flow that has sent nothing for so long gives its slot to another, in ns; Blink's 2 s.
    pub const IDLE_NS: u64 = 2_000_000_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hash_has_one_of_256_bits() {
        let mut networks = Sketch::NONE;
        for bit in 0..=u8::MAX {
            let hash = u32::from(bit);
            assert!(!networks.has(bit), "{bit}");
            assert!(networks.add(hash), "{bit}");
            assert!(!networks.add(hash + 256), "{bit}");
            assert_eq!(networks.count(), hash + 1);
            assert!(networks.has(bit), "{bit}");
        }
    }
}
