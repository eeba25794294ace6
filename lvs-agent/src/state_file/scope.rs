//! Where a table is: it doesn't outlive the machine's boot, and each network namespace has its own.

use std::{fs, io, os::unix::fs::MetadataExt as _};

use serde::{Deserialize, Serialize};

/// Which table it is that the file speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Scope {
    /// `/proc/sys/kernel/random/boot_id`.
    pub(super) boot: String,
    /// Device and inode of the network namespace (namespaces(7)).
    pub(super) network_namespace: String,
}

impl Scope {
    /// This machine since it was started, and this network namespace.
    pub(super) fn here() -> io::Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let namespace = fs::metadata("/proc/self/ns/net")?;
        Ok(Self { boot, network_namespace: format!("{}:{}", namespace.dev(), namespace.ino()) })
    }
}
