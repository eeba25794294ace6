//! The package on trial: in the VM, in a bare Debian 12 whose first process is systemd. The script says what is tried.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::apt::{self, Apt};
use crate::cache::Cache;
use crate::paths;
use crate::process::{self, run};
use crate::progress::Line;
use crate::setup::{FOR_VM, ensure_all};
use crate::vm::{self, Clock, VmOptions};

/// What is done in the VM.
const SCRIPT: &str = "xtask/src/dist/trial.sh";

/// The release that is tried.
const SUITE: &str = "bookworm";

/// What it has beyond the least: what Debian's installer puts on every machine, as far as the trial needs it.
const PACKAGES: &str = "systemd-sysv,kmod,iproute2,procps,passwd,ca-certificates";

/// The Debian and what is installed in it are in the VM's memory.
const MEMORY_MIB: u32 = 2048;

/// It takes some minutes on a core of its own.
const TIMEOUT: Duration = Duration::from_hours(1);

/// Installs `old`, upgrades to `new`, and purges; returns whether all went as it must.
pub(super) fn trial(cache: &Cache, old: &Path, new: &Path) -> Result<bool> {
    ensure!(apt::is_root(), "making a Debian to try the package in needs root");
    ensure_all(cache, FOR_VM)?;
    let root = debian(cache)?;
    // Time is the guest's: the limits hold on a busy machine, too.
    let clock = Clock::Instructions;
    let options = VmOptions { clock, memory_mib: MEMORY_MIB, timeout: TIMEOUT, ..VmOptions::default() };
    let script = paths::repository().join(SCRIPT);
    let command: Vec<OsString> =
        ["sh".into(), script.into(), root.into(), old.into(), new.into()].into_iter().collect();
    Ok(vm::run_on_terminal(cache, &options, &command)? == 0)
}

/// A bare Debian with systemd, in the cache.
fn debian(cache: &Cache) -> Result<PathBuf> {
    let tool = cache.packages(&["debootstrap"])?;
    let mirror = Apt::system(cache)?.mirror()?;
    let is_whole = |root: &Path| root.join("usr/bin/systemctl").exists() && root.join("usr/sbin/ip").exists();
    cache.get_or_fill(&format!("debian-{SUITE}"), is_whole, |root| {
        let _line = Line::show("making a bare Debian 12");
        let mut debootstrap = process::command(tool.root().join("usr/sbin/debootstrap"));
        debootstrap.env("DEBOOTSTRAP_DIR", tool.root().join("usr/share/debootstrap"));
        debootstrap
            .args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE])
            .arg(root)
            .arg(mirror);
        run(debootstrap.stdout(std::process::Stdio::null())).context("cannot make a Debian")
    })
}
