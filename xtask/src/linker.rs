//! `bpf-linker`: the linker for the kernel side, built for the major version of LLVM that the compiler has.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cache::Cache;
use crate::process::{self, run, succeeds};
use crate::progress;

/// The version that set-up builds.
pub(crate) const VERSION: &str = "0.13.0";

/// The majors of LLVM that this version can be built for.
pub(crate) const LLVM_MAJORS: std::ops::RangeInclusive<u32> = 21..=23;

/// The name of the cache's entry.
fn entry(llvm: u32) -> String {
    format!("bpf-linker-{VERSION}-llvm-{llvm}")
}

/// The directory to put on `PATH`.
pub(crate) fn directory(cache: &Cache, llvm: u32) -> PathBuf {
    cache.entry(&entry(llvm)).join("bin")
}

/// Whether the cache has a linker for this LLVM, and it starts (the LLVM it is linked against is still installed).
pub(crate) fn works(cache: &Cache, llvm: u32) -> bool {
    starts(&directory(cache, llvm))
}

fn starts(directory: &Path) -> bool {
    succeeds(process::command(directory.join("bpf-linker")).arg("--version"))
}

/// Where Debian installs this major of LLVM.
pub(crate) fn llvm_prefix(llvm: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{llvm}"))
}

/// Whether a linker can be built for this LLVM: we know how, and its headers and libraries are there.
pub(crate) fn can_build(llvm: u32) -> bool {
    let prefix = llvm_prefix(llvm);
    LLVM_MAJORS.contains(&llvm)
        && prefix.join("bin/llvm-config").exists()
        && prefix.join("include/llvm-c").exists()
}

/// Builds the linker into the cache.
pub(crate) fn build(cache: &Cache, llvm: u32) -> Result<()> {
    let sound = |entry: &Path| starts(&entry.join("bin"));
    cache.get_or_fill(&entry(llvm), sound, |directory| {
        let mut install = process::cargo();
        install.args(["install", "--quiet", "--locked", "bpf-linker", "--version", VERSION]);
        install.args(["--no-default-features", "--features", &format!("llvm-{llvm}")]);
        install.arg("--root").arg(directory).arg("--target-dir").arg(directory.join("target"));
        install.env("LLVM_PREFIX", llvm_prefix(llvm));
        progress::during("building bpf-linker", || run(&mut install))?;
        Ok(std::fs::remove_dir_all(directory.join("target"))?)
    })?;
    Ok(())
}
