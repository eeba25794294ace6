//! The VM's first file system: a busybox, the modules that reach the host's files, and the script that does so.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::busybox;
use super::cpio::Archive;
use super::kernel::Kernel;
use super::modules::load_order;
use crate::cache::Cache;

/// Runs as the first process; ends by starting `GUEST` on the host's files.
const INIT: &[u8] = include_bytes!("init.sh");

/// The second stage: makes a usable system and runs the command.
const GUEST: &[u8] = include_bytes!("guest.sh");

/// What the two scripts use of busybox.
const APPLETS: &[&str] = &[
    "cat",
    "cp",
    "hostname",
    "insmod",
    "ip",
    "ln",
    "mkdir",
    "mkfifo",
    "modprobe",
    "mount",
    "poweroff",
    "sh",
    "sleep",
    "switch_root",
    "sync",
];

/// What must be loaded before the host's files can be seen, and to speak to the host.
const MODULES: &[&str] = &["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"];

/// The archive for a kernel, written into the cache unless the same one is there.
pub(super) fn get(cache: &Cache, kernel: &Kernel) -> Result<PathBuf> {
    let busybox = fs::read(busybox::get(cache)?).context("cannot read busybox")?;
    let archive = assemble(&busybox, &modules(kernel)?);
    let mut hasher = DefaultHasher::new();
    archive.hash(&mut hasher);
    let name = format!("initramfs/{}-{:016x}", kernel.release, hasher.finish());
    let entry = cache.get_or_fill(&name, |_| true, |entry| Ok(fs::write(entry.join(FILE), &archive)?))?;
    Ok(entry.join(FILE))
}

const FILE: &str = "initramfs.cpio";

/// The modules' names and contents, in the order in which they load.
fn modules(kernel: &Kernel) -> Result<Vec<(String, Vec<u8>)>> {
    let directory = kernel.modules();
    let list = |name: &str| {
        let path = directory.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let order = load_order(&list("modules.dep")?, &list("modules.builtin")?, MODULES)?;
    let read = |path: String| {
        let content =
            fs::read(directory.join(&path)).with_context(|| format!("cannot read the module {path}"))?;
        let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, content))
    };
    order.into_iter().map(read).collect()
}

fn assemble(busybox: &[u8], modules: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Archive::default();
    for directory in ["bin", "modules", "proc", "sys", "dev", "host", "memory", "root"] {
        archive.directory(directory);
    }
    archive.program("bin/busybox", busybox);
    for applet in APPLETS {
        archive.symlink(&format!("bin/{applet}"), "busybox");
    }
    archive.program("init", INIT);
    archive.program("guest", GUEST);
    for (name, content) in modules {
        archive.file(&format!("modules/{name}"), content);
    }
    let order: Vec<&str> = modules.iter().map(|(name, _)| name.as_str()).chain([""]).collect();
    archive.file("modules/order", order.join("\n").as_bytes());
    archive.finish()
}
