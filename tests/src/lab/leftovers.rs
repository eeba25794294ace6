//! What a killed run left behind: namespaces and the processes in them.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::lab::namespace::{DIRECTORY, maker_of, path_of, remove};

/// Removes what runs that are no more left behind.
pub fn remove_of_dead_runs() -> Result<()> {
    remove_where(|maker| !Path::new(&format!("/proc/{maker}")).exists())
}

/// Removes everything that this process made; for an end without destructors.
pub fn remove_own() -> Result<()> {
    remove_where(|maker| maker == process::id())
}

fn remove_where(unwanted: impl Fn(u32) -> bool) -> Result<()> {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return Ok(()) };
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if maker_of(name).is_some_and(&unwanted) {
            kill_inhabitants(name).with_context(|| format!("cannot clear the namespace {name}"))?;
            remove(name).with_context(|| format!("cannot remove the namespace {name}"))?;
        }
    }
    Ok(())
}

/// Kills the processes in the namespace of this name, by process id; never the calling one.
fn kill_inhabitants(name: &str) -> Result<()> {
    let namespace = fs::metadata(path_of(name))?;
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ended meanwhile has no namespace any more.
        let Ok(theirs) = fs::metadata(entry.path().join("ns/net")) else { continue };
        if is_same(&theirs, &namespace) && Pid::from_raw(pid) != Pid::this() {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(nix::Error::ESRCH) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot kill process {pid}")),
            }
        }
    }
    Ok(())
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}
