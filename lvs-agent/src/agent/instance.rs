//! One agent for each network namespace: a second one would fight over the same table, and over the places of the
//! programs on the devices.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
};

use anyhow::Context as _;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// Abstract names of Unix sockets belong to a network namespace (unix(7), `network_namespaces(7)`), as IPVS tables do.
const NAME: &str = "lvs-agent";

/// Which of the agents of a network namespace this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceRole {
    /// The only one, but for those that it starts itself.
    Primary,
    /// One that another has started for its `execute`, with services of its own and no programs on devices.
    Secondary,
}

/// Held for as long as the agent lives, and let go by the kernel however it ends.
#[derive(Debug)]
pub(crate) struct InstanceLock {
    _listener: UnixListener,
}

/// Another agent is at work on this network namespace's table.
#[derive(Debug, thiserror::Error)]
#[error(
    "another lvs-agent{} is running in this network namespace; stop it first (only one can run, in any mode: each \
     attaches its own programs to the devices)",
    .0.map_or_else(String::new, |pid| format!(" (process {pid})"))
)]
pub struct AlreadyRunning(Option<i32>);

impl InstanceLock {
    /// Makes sure that there is no other agent in the network namespace, and that there will be none.
    pub(crate) fn claim() -> anyhow::Result<Self> {
        Self::claim_as(NAME)
    }

    fn claim_as(name: &str) -> anyhow::Result<Self> {
        let address = SocketAddr::from_abstract_name(name).context("the name of the instance lock")?;
        match UnixListener::bind_addr(&address) {
            Ok(listener) => Ok(Self { _listener: listener }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(AlreadyRunning(holder(&address)).into())
            }
            Err(error) => Err(error).with_context(|| format!("making the abstract socket \"{name}\"")),
        }
    }
}

/// The process that holds the name, if it can be found out.
fn holder(address: &SocketAddr) -> Option<i32> {
    let stream = UnixStream::connect_addr(address).ok()?;
    // 0: it is in a PID namespace that can't be seen from here.
    getsockopt(&stream, PeerCredentials).ok().map(|credentials| credentials.pid()).filter(|pid| *pid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_is_there_and_the_next_one_may_start() {
        let name = format!("lvs-agent-test-{}", std::process::id());
        let first = InstanceLock::claim_as(&name).unwrap();
        let refused = InstanceLock::claim_as(&name).unwrap_err();
        assert!(refused.is::<AlreadyRunning>());
        let expected = format!("another lvs-agent (process {}) is running", std::process::id());
        assert!(refused.to_string().starts_with(&expected), "{refused}");
        drop(first);
        InstanceLock::claim_as(&name).unwrap();
    }
}
