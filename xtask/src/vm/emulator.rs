//! QEMU: the machine's own, or one that is unpacked into the cache. It is not installed: a machine with QEMU's tools of
//! another version would have to give those up.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::packages::Unpacked;
use crate::process;

const PROGRAM: &str = "qemu-system-x86_64";

/// Debian's package of the emulator.
const PACKAGES: &[&str] = &["qemu-system-x86"];

/// Where the package's firmware is, below its root.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// An emulator that can be started.
#[derive(Debug, Clone)]
pub(crate) enum Emulator {
    /// Installed on this machine.
    Installed(PathBuf),
    /// In the cache, with its libraries and firmware.
    Unpacked(Unpacked),
}

/// The emulator, downloaded unless this machine or the cache has one.
pub(crate) fn get(cache: &Cache) -> Result<Emulator> {
    match find(cache) {
        Some(found) => Ok(found),
        None => Ok(Emulator::Unpacked(cache.packages(PACKAGES)?)),
    }
}

/// The emulator, if this machine or the cache has one.
pub(crate) fn find(cache: &Cache) -> Option<Emulator> {
    let installed = process::find(PROGRAM).filter(|program| has_9p(program)).map(Emulator::Installed);
    installed.or_else(|| cache.packages_if_there(PACKAGES).map(Emulator::Unpacked))
}

/// Whether an installed emulator can share a folder with its guest: some are built without.
fn has_9p(program: &Path) -> bool {
    process::output(process::command(program).args(["-device", "help"]))
        .is_ok_and(|devices| lists_9p(&devices))
}

fn lists_9p(devices: &str) -> bool {
    devices.contains("\"virtio-9p-pci\"")
}

impl Emulator {
    /// Where its program is.
    pub(crate) fn program(&self) -> PathBuf {
        match self {
            Self::Installed(program) => program.clone(),
            Self::Unpacked(unpacked) => unpacked.root().join("usr/bin").join(PROGRAM),
        }
    }

    /// Gives a command, which need not be the emulator itself but must start it, what it needs to find its own parts.
    pub(super) fn equip(&self, command: &mut Command) -> Result<()> {
        if let Self::Unpacked(unpacked) = self {
            let (name, libraries) = unpacked
                .environment()?
                .into_iter()
                .find(|(name, _)| *name == "LD_LIBRARY_PATH")
                .context("unpacked packages have no libraries")?;
            command.env(name, libraries);
            for firmware in FIRMWARE {
                command.arg("-L").arg(unpacked.root().join(firmware));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_without_9p_is_passed_over() {
        let whole =
            "Storage devices:\nname \"virtio-9p-device\", bus virtio-bus\nname \"virtio-9p-pci\", bus PCI\n";
        assert!(lists_9p(whole));
        assert!(!lists_9p("Storage devices:\nname \"virtio-blk-pci\", bus PCI\n"));
    }
}
