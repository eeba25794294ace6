//! One agent in each network namespace: a second one would contend for the same table, and for the places of the eBPF
//! programs on the devices.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};

use crate::{
    file_lock::{FileLock, LockError, private_folder},
    model::defaults::RUNTIME,
};

/// Which of the agents of a network namespace this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceRole {
    /// The only one, except for agents that it starts itself.
    Primary,
    /// Started by the primary for its `execute`, with services of its own and no programs on devices.
    Secondary,
}

/// Held while the agent runs; the kernel releases it however the agent ends.
#[derive(Debug)]
pub(crate) struct InstanceLock {
    _lock: FileLock,
}

/// Another agent runs in this network namespace.
#[derive(Debug, thiserror::Error)]
#[error(
    "another lvs-agent{} is running in this network namespace; stop it first (only one can run, in any mode: each \
     attaches its own programs to the devices)",
    .0.map_or_else(String::new, |pid| format!(" (process {pid})"))
)]
pub struct AlreadyRunning(Option<u32>);

impl InstanceLock {
    /// Claims the network namespace, unless another agent has it. `own`: the folder of an agent that may not write to
    /// the usual one.
    pub(crate) fn claim(own: Option<&Path>) -> anyhow::Result<Self> {
        let namespace =
            fs::metadata("/proc/self/ns/net").context("asking which network namespace this is")?.ino();
        let usual = Path::new(RUNTIME);
        match claim_in(usual, namespace) {
            // Somebody without the right to write there may have a folder of its own.
            Err(LockError::Io { error, .. }) if error.kind() == io::ErrorKind::PermissionDenied => {
                let own = own.with_context(|| {
                    format!(
                        "{RUNTIME}, which has the lock of this network namespace, can't be written to; make it for this \
                         user, or have systemd do it (`RuntimeDirectory=lvs-agent`)"
                    )
                })?;
                Self::of(claim_in(own, namespace))
            }
            claimed => Self::of(claimed),
        }
    }

    fn of(claimed: Result<FileLock, LockError>) -> anyhow::Result<Self> {
        match claimed {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(LockError::Held { process, .. }) => Err(AlreadyRunning(process).into()),
            Err(error) => Err(anyhow!("{error}")).context("locking this network namespace"),
        }
    }
}

/// Locks the file of a network namespace, by the inode of the namespace (namespaces(7)).
fn claim_in(folder: &Path, namespace: u64) -> Result<FileLock, LockError> {
    private_folder(folder)?;
    FileLock::claim(&lock_file(folder, namespace))
}

fn lock_file(folder: &Path, namespace: u64) -> PathBuf {
    folder.join(format!("netns-{namespace}.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_refused_while_the_first_one_runs() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("lvs-agent");
        let claim = |namespace| InstanceLock::of(claim_in(&folder, namespace));
        let first = claim(7).unwrap();
        let refused = claim(7).unwrap_err();
        assert!(refused.is::<AlreadyRunning>());
        let expected = format!("another lvs-agent (process {}) is running", std::process::id());
        assert!(refused.to_string().starts_with(&expected), "{refused}");
        let _elsewhere = claim(8).expect("another network namespace has another table");
        drop(first);
        claim(7).unwrap();
    }
}
