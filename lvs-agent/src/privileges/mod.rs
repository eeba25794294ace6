//! What the process may do beyond an ordinary user: its capabilities (capabilities(7)), and whom programs run as that
//! it starts.
//!
//! Capabilities belong to threads, and a new thread has those of the one that started it. They are therefore dropped
//! in `main`, before any other thread is there.

mod account;

use std::io;

use aya::util::KernelVersion;
use nix::{
    sys::resource::{RLIM_INFINITY, Resource, setrlimit},
    unistd::geteuid,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set, set_capabilities,
};

pub(crate) use self::account::{AccountError, RunAs, own_group};

/// What the agent does itself: IPVS, attaching programs and marking probes; pings; eBPF.
const OWN: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::PERFMON);

/// What it takes to run commands as another user, and to kill them when they take too long.
const OTHER_USERS: CapabilitySet =
    CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::KILL);

/// What it takes to read files of others, which root always could: a configuration that another user keeps to itself,
/// or a password beside it, was read by ldirectord as well, and which one a reload will name nobody knows. Others'
/// files are not written, and what is not root's has it only if somebody gave it.
const FILES: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

/// The first port that needs no privilege, unless `net.ipv4.ip_unprivileged_port_start` says otherwise.
const FIRST_FREE_PORT: u16 = 1024;

/// What a configuration asks for beyond [`OWN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Whether eBPF programs are loaded.
    pub(crate) passive: bool,
    /// The TCP port that it listens on.
    pub(crate) listens_on: Option<u16>,
    /// Whether commands run as another user than the agent.
    pub(crate) other_users: bool,
}

impl Needs {
    fn capabilities(self) -> CapabilitySet {
        let mut needed = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW | FILES;
        needed.set(CapabilitySet::BPF | CapabilitySet::PERFMON, self.passive);
        needed
            .set(CapabilitySet::NET_BIND_SERVICE, self.listens_on.is_some_and(|port| port < FIRST_FREE_PORT));
        needed.set(OTHER_USERS, self.other_users);
        needed
    }
}

/// Drops what no configuration of this agent needs, such as the right to write to everybody's files. Before that the
/// limit of locked memory is lifted, which kernels before 5.11 count the maps of eBPF programs against.
///
/// Programs that the agent starts inherit nothing: only those that run as root get capabilities, by being root's.
///
/// Must be called before there are other threads.
pub(crate) fn drop_at_start() -> io::Result<()> {
    if counts_maps_as_locked() {
        // Without the privilege for it: what the service manager has set must do (`LimitMEMLOCK`).
        setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).ok();
    }
    keep(OWN | OTHER_USERS | FILES | CapabilitySet::NET_BIND_SERVICE)
}

/// Drops what this configuration does not need. Must be called before the threads that are to have no more.
pub(crate) fn drop_unneeded(needs: Needs) -> io::Result<()> {
    keep(needs.capabilities())
}

fn keep(kept: CapabilitySet) -> io::Result<()> {
    let now = capabilities(None)?;
    let left = CapabilitySets {
        effective: now.effective & kept,
        permitted: now.permitted & kept,
        // Nor ambient ones, which are inheritable ones as well.
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, left)?)
}

/// Lets programs that the calling thread starts have what the process has, whoever it runs as: for another agent.
pub(crate) fn hand_on() -> io::Result<()> {
    let now = capabilities(None)?;
    set_capabilities(None, CapabilitySets { inheritable: now.permitted, ..now })?;
    for capability in now.permitted {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Which of the capabilities for the passive signal the process lacks, for people; `None`: it has all.
pub(crate) fn lacking_for_signal() -> Option<String> {
    let wanted = [
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::PERFMON, "CAP_PERFMON"),
    ];
    let effective = capabilities(None).ok()?.effective;
    let lacking: Vec<_> =
        wanted.iter().filter(|(one, _)| !effective.contains(*one)).map(|(_, name)| *name).collect();
    (!lacking.is_empty()).then(|| lacking.join(", "))
}

/// Whether pings and checks by a device can be made.
pub(crate) fn has_raw_sockets() -> bool {
    has(CapabilitySet::NET_RAW)
}

/// Whether the process can become another user.
fn can_change_user() -> bool {
    geteuid().is_root() && has(CapabilitySet::SETUID | CapabilitySet::SETGID)
}

/// Where it isn't known, whatever needs them will tell.
fn has(wanted: CapabilitySet) -> bool {
    capabilities(None).map_or(true, |sets| sets.effective.contains(wanted))
}

/// Whether eBPF maps count against `RLIMIT_MEMLOCK`: until Linux 5.11 (commit 80ee81e0403c).
pub(crate) fn counts_maps_as_locked() -> bool {
    KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(5, 11, 0))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_configuration_keeps_what_it_needs() {
        let needs = Needs { passive: true, listens_on: Some(9747), other_users: true };
        let none = Needs { passive: false, listens_on: None, other_users: false };
        let plain = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW | FILES;
        assert_eq!(needs.capabilities(), OWN | OTHER_USERS | FILES);
        assert_eq!(none.capabilities(), plain);
        let listening = |port| Needs { listens_on: Some(port), ..none }.capabilities();
        assert_eq!(listening(80), plain | CapabilitySet::NET_BIND_SERVICE);
        assert_eq!(listening(1024), plain);
    }

    /// On a thread of its own, so that the other tests keep theirs.
    #[test]
    fn what_is_dropped_is_gone_for_the_threads_that_follow() {
        let after = thread::spawn(|| {
            keep(CapabilitySet::NET_RAW).unwrap();
            thread::spawn(|| capabilities(None).unwrap()).join().unwrap()
        });
        let after = after.join().unwrap();
        let before = capabilities(None).unwrap();
        assert_eq!(after.permitted, before.permitted & CapabilitySet::NET_RAW);
        assert_eq!(after.effective, before.effective & CapabilitySet::NET_RAW);
        assert_eq!(after.inheritable, CapabilitySet::empty());
    }

    /// A child of any user has nothing unless it was handed on; root's gets all by being root's.
    #[test]
    fn programs_get_what_is_handed_on() {
        let permitted = |handed_on: bool| {
            let child = thread::spawn(move || {
                keep(CapabilitySet::NET_RAW).unwrap();
                if handed_on {
                    hand_on().unwrap();
                }
                let output =
                    std::process::Command::new("grep").args(["CapAmb", "/proc/self/status"]).output();
                String::from_utf8(output.unwrap().stdout).unwrap()
            });
            let line = child.join().unwrap();
            u64::from_str_radix(line.trim_start_matches("CapAmb:").trim(), 16).unwrap()
        };
        let had = capabilities(None).unwrap().permitted & CapabilitySet::NET_RAW;
        assert_eq!(permitted(false), 0);
        assert_eq!(permitted(true), had.bits());
    }
}
