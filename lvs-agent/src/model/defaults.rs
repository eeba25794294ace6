//! What holds where the operator says nothing, and why.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

/// Metrics are served, but only to the director itself: they would show strangers what is behind the VIP.
pub const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9747);

/// Made for the agent's user alone, who is also the only one that can lock anything in it.
pub const RUNTIME: &str = "/run/lvs-agent";

/// The group of the package's own user: whoever is in it was put there to operate the agent. Where the agent doesn't
/// run with it, there are no operators but root.
pub const OPERATORS: &str = "lvs-agent";

/// In the folder for what lasts as long as the machine is up (file-hierarchy(7)), where only root can write.
pub const CONTROL: &str = "/run/lvs-agent/control";

/// Intended weights outlive a killed agent, but not the kernel's table: the folder is emptied when the machine starts.
pub const STATE: &str = "/run/lvs-agent/state.json";

/// How often the counters are evaluated: well below [`SILENCE`], so that the tick adds little to it.
pub const TICK: Duration = Duration::from_millis(10);

/// Before those whose priority the kernel chooses (from 49152 down). The bytes spell `LV`.
pub const CLSACT_PRIORITY: NonZeroU16 = NonZeroU16::new(0x4c56).unwrap();

/// A server may be busy or its host preempted for some tens of milliseconds, all its clients wait then. At 50 SYNs a
/// second it takes longer than this anyway until [`CLIENTS`] networks wait.
pub const SILENCE: Duration = Duration::from_millis(50);
/// Applications pause for longer than kernels do: garbage collection, a disk that is waited for.
pub const SILENCE_APPLICATION: Duration = Duration::from_millis(200);
/// Fewer than three networks may all be behind the same broken path.
pub const CLIENTS: u32 = 3;
/// A false suspicion costs one probe: one in three hours is bearable, and simulated servers have far fewer
/// (docs/detector.md).
pub const FALSE_ALARMS: f64 = 0.3;
/// About what phi-accrual detectors take (Hayashibara et al., SRDS 2004: 8), so that four networks at [`LOSS`] are
/// enough.
pub const PHI: f64 = 7.5;
/// About what a healthy path loses. Three networks that wait make a weak suspicion then, up to 80 answers a second;
/// four make a strong one. Where more is lost more are needed: that is learned.
pub const LOSS: f64 = 0.01;
/// Long enough for a server of one answer a second, short enough to follow the day.
pub const MEMORY: Duration = Duration::from_mins(2);
/// A quarter of [`RESENT_SHARE`] of the flows that are sampled at most, each from another network.
pub const RESENT_CLIENTS: u32 = 8;
/// More than half of the flows, within 800 ms: Blink (Holterbach et al., NSDI 2019, section 4.2).
pub const RESENT_SHARE: f64 = 0.5;
/// See [`RESENT_SHARE`].
pub const RESENT_WITHIN: Duration = Duration::from_millis(800);
/// One refusal may be a restart of the server's process, three in a row say more.
pub const REFUSALS: u32 = 3;
/// Short enough that a fault right after a false alarm is still found within a second.
pub const BACKOFF: Duration = Duration::from_millis(250);
/// A signal that was wrong five times running may wait; the baseline check goes on all the time.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Long enough that one short stall doesn't swallow all confirming probes.
pub const BURST_GAP: Duration = Duration::from_millis(20);
/// Generous for a LAN, and well below the client's first retransmission after a second. A live migration or an
/// overcommitted hypervisor stops a host for so long now and then: that is to cost a suspicion at most.
pub const BURST_TIMEOUT: Duration = Duration::from_millis(100);
/// Bursts a second for one server: no stream of forged packets can make the director flood its own server.
pub const SERVER_RATE: NonZeroU32 = NonZeroU32::new(5).unwrap();
/// Bursts a second in all.
pub const TOTAL_RATE: NonZeroU32 = NonZeroU32::new(200).unwrap();
/// Hints a second in all: healthy servers give a few an hour each, so that 10,000 of them stay below a fifth of it.
pub const HINT_RATE: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// The first firewall mark of probes to VIPs.
pub const VIP_MARKS: u32 = lvs_common::VIP_MARKS;

/// From one baseline check to the next.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a baseline check may take; never more than its interval.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// While a state is soft a server is checked four times as often: `fall` failures of a server that answers at once then
/// take less than two intervals, and only servers in doubt cost more.
pub const SOFT_PART: u32 = 4;
/// A server in doubt may be one that is short of time: no more than ten checks a second by themselves.
pub const SOFT_LEAST: Duration = Duration::from_millis(100);
/// Failures in a row: one lost packet is none, two are seldom.
pub const FALL: NonZeroU32 = NonZeroU32::new(3).unwrap();
/// Successes in a row.
pub const RISE: NonZeroU32 = NonZeroU32::new(2).unwrap();

/// One server of any weight is a service.
pub const QUORUM: NonZeroU32 = NonZeroU32::MIN;
/// If more than half look dead at once, it is the director's own network that is to be suspected first.
pub const FAST_SHARE: f64 = 0.5;
/// A server that comes back and fails again at once must be well for some seconds first …
pub const FLAP_PENALTY: Duration = Duration::from_secs(2);
/// … and in the end for a minute: it carries traffic for at most half of the time even then.
pub const FLAP_PENALTY_MAX: Duration = Duration::from_mins(1);
/// A server that has been well for so long is as good as any other.
pub const FLAP_MEMORY: Duration = Duration::from_mins(5);

/// A VIP whose services have just become well is announced again after a second: who comes and goes within it would
/// move traffic twice.
pub const ANNOUNCE_UP_AFTER: Duration = Duration::from_secs(1);
/// Each withdrawal makes routers and clients turn to another director; the next one is not before some seconds …
pub const HOLD_DOWN: Duration = Duration::from_secs(5);
/// … and in the end not before some minutes.
pub const HOLD_DOWN_MAX: Duration = Duration::from_mins(2);
