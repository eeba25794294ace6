//! What holds where the operator says nothing, and why.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    time::Duration,
};

use super::{AgentSettings, BurstSettings, Check, DetectorSettings, OnExit, PassiveSettings, Question, Via};

/// Metrics are served, but only to the director itself: they tell a stranger what stands behind the VIP.
pub const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9747);

/// How often the signs of life are looked at: well below [`SILENCE_MASQUERADE`], so that the tick adds little to it.
pub const TICK: Duration = Duration::from_millis(10);

/// A masqueraded server answers a SYN itself, within the round trip of a LAN. 60 ms leaves room for a busy one.
pub const SILENCE_MASQUERADE: Duration = Duration::from_millis(60);
/// Under direct route the client's ACK is the proof, and clients are further away than servers.
pub const SILENCE_HALF_SEEN: Duration = Duration::from_millis(150);
/// Eight times the usual wait is seldom a server that is well.
pub const SILENCE_FACTOR: f64 = 8.0;
/// Fewer than four networks may all be behind the same broken path.
pub const CLIENTS: u32 = 4;
/// One refusal may be a restart of the server's process, three in a row say more.
pub const REFUSALS: u32 = 3;
/// Short enough that a fault right after a false alarm is still found within a second.
pub const BACKOFF: Duration = Duration::from_millis(250);
/// A signal that was wrong five times running may wait; the baseline check goes on all the time.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Long enough that one short stall doesn't swallow all confirming probes.
pub const BURST_GAP: Duration = Duration::from_millis(20);
/// Generous for a LAN, and well below the client's first retransmission after a second.
pub const BURST_TIMEOUT: Duration = Duration::from_millis(100);
/// Bursts a second for one server: no stream of forged packets can make the director flood its own server.
pub const SERVER_RATE: NonZeroU32 = NonZeroU32::new(5).unwrap();
/// Bursts a second in all.
pub const TOTAL_RATE: NonZeroU32 = NonZeroU32::new(200).unwrap();

/// From one baseline check to the next.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a baseline check may take; never more than its interval.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// Failures in a row: one lost packet is none, two are seldom.
pub const FALL: NonZeroU32 = NonZeroU32::new(3).unwrap();
/// Successes in a row.
pub const RISE: NonZeroU32 = NonZeroU32::new(2).unwrap();

impl Default for AgentSettings {
    fn default() -> Self {
        Self { metrics: Some(METRICS), on_exit: OnExit::default() }
    }
}

impl Default for PassiveSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            devices: Vec::new(),
            log_faults: false,
            tick: TICK,
            detector: DetectorSettings::default(),
            burst: BurstSettings::default(),
        }
    }
}

impl Default for DetectorSettings {
    fn default() -> Self {
        Self {
            silence_masquerade: SILENCE_MASQUERADE,
            silence_half_seen: SILENCE_HALF_SEEN,
            silence_factor: SILENCE_FACTOR,
            clients: CLIENTS,
            refusals: REFUSALS,
            backoff: BACKOFF,
            backoff_max: BACKOFF_MAX,
        }
    }
}

impl Default for BurstSettings {
    fn default() -> Self {
        Self { gap: BURST_GAP, timeout: BURST_TIMEOUT, server_rate: SERVER_RATE, total_rate: TOTAL_RATE }
    }
}

impl Default for Check {
    /// A TCP connect to the real server's own port.
    fn default() -> Self {
        Self {
            question: Question::Connect,
            interval: CHECK_INTERVAL,
            timeout: CHECK_TIMEOUT,
            port: None,
            via: Via::default(),
        }
    }
}
