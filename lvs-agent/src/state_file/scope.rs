//! The scope of a state file: each boot of the machine and each network namespace has a table of its own.

use std::{fs, io, os::unix::fs::MetadataExt as _};

use serde::{Deserialize, Serialize};

/// Identifies the table that a file is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Scope {
    /// `/proc/sys/kernel/random/boot_id`.
    pub(super) boot: String,
    /// Device and inode of the network namespace (namespaces(7)).
    pub(super) network_namespace: String,
}

impl Scope {
    /// The current boot of the machine and network namespace.
    pub(super) fn here() -> io::Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let namespace = fs::metadata("/proc/self/ns/net")?;
        Ok(Self { boot, network_namespace: format!("{}:{}", namespace.dev(), namespace.ino()) })
    }

    /// Distinguishes files of network namespaces; `None`: it has none that this program has given it.
    pub(super) fn suffix(&self) -> Option<String> {
        let (device, inode) = self.network_namespace.split_once(':')?;
        let (device, inode): (u64, u64) = (device.parse().ok()?, inode.parse().ok()?);
        Some(format!(".netns-{device}-{inode}"))
    }
}
