use bytemuck::{Pod, Zeroable};

use crate::{LayerState, Sketch};

/// Which clients of one server wait, connection by connection: beside [`ServerState`](crate::ServerState), and read
/// only where that shows that somebody waits for long. Shared by all CPUs, with the same races.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServerWaiting {
    /// Connections that wait for the listening socket.
    pub listener: WaitingConnections,
    /// Sampled flows that wait for a response.
    pub application: WaitingConnections,
}

/// The connections that have waited for a layer since its last proof of life.
///
/// It means something only while [`LayerState::attempts`] is not 0: the first demand after a proof of life begins it
/// anew, so that a proof of life need not.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct WaitingConnections {
    /// All of them, by a hash of the client's address and port.
    pub connections: Sketch,
    /// When each connection began to wait whose network waited already. The first one of each network is in
    /// [`LayerState::since_ns`], so that one network's connections never push out another network.
    pub since_ns: [u64; LayerState::REMEMBERED],
    /// The networks of these connections, as bit numbers of [`LayerState::networks`].
    pub networks: [u8; LayerState::REMEMBERED],
    /// The networks of those in [`LayerState::since_ns`].
    pub first: [u8; LayerState::REMEMBERED],
    /// How many of `since_ns` are set; further connections are only in the sketch.
    pub waiting: u32,
    /// Not used.
    pub spare: u32,
    /// Not used: the value fills whole cache lines.
    pub rest: [u64; 7],
}

impl WaitingConnections {
    /// When the connections that wait beside the first ones of their networks began to, and their networks; the first
    /// one first.
    pub fn further(&self) -> impl Iterator<Item = (u64, u8)> + '_ {
        let set = (self.waiting as usize).min(LayerState::REMEMBERED);
        self.since_ns[..set].iter().copied().zip(self.networks)
    }
}

/// When each client network was last answered by one server. Written once for each handshake and each response of a
/// sampled flow.
///
/// Times are those of [`ServerAnswered::time_of`]; 0: never.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ServerAnswered {
    /// By the listening socket, by bit number of [`LayerState::networks`].
    pub listener: [u32; Sketch::BITS],
    /// By the application.
    pub application: [u32; Sketch::BITS],
}

impl ServerAnswered {
    /// A time of `CLOCK_MONOTONIC` in units of 2^20 ns (1.05 ms), rounded down. It begins anew after 52 days: a network
    /// that was last answered just so long ago looks as if it was answered now.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "begins anew on purpose")]
    pub const fn time_of(ns: u64) -> u32 {
        (ns >> 20) as u32
    }

    /// Whether a network was answered after `ns`, by more than the unit.
    #[must_use]
    pub const fn is_after(time: u32, ns: u64) -> bool {
        time != 0 && time.wrapping_sub(Self::time_of(ns)).cast_signed() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: u64 = 1 << 20;

    #[test]
    fn answers_are_compared_across_the_end_of_the_numbers() {
        let end = u64::from(u32::MAX) * UNIT;
        for (answered, since, expected) in [
            (7 * UNIT, 6 * UNIT, true),
            (7 * UNIT + 5, 7 * UNIT, false),
            (6 * UNIT, 7 * UNIT, false),
            (end + 3 * UNIT, end - 3 * UNIT, true),
            (end - 3 * UNIT, end + 3 * UNIT, false),
        ] {
            let time = ServerAnswered::time_of(answered);
            assert_eq!(ServerAnswered::is_after(time, since), expected, "{answered} after {since}");
        }
        assert!(!ServerAnswered::is_after(0, end), "never answered");
    }
}
