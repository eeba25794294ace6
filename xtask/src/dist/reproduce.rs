//! The same commit, built again in another folder: the bytes must be the same.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use super::Release;
use crate::paths;
use crate::process::{self, run};

/// Builds the committed files in a folder of their own, and compares what comes of it with `files`.
pub(super) fn compare(release: &Release, files: &[&PathBuf]) -> Result<()> {
    let elsewhere = tempfile::tempdir().context("cannot make a temporary directory")?;
    let (source, out) = (elsewhere.path().join("source"), elsewhere.path().join("out"));
    let mut clone = process::command("git");
    clone.args(["clone", "--quiet", "--no-hardlinks"]).arg(paths::repository()).arg(&source);
    run(&mut clone)?;
    println!("Building the commit again in {} …", source.display());
    let mut dist = process::cargo();
    dist.current_dir(&source).args(["xtask", "dist", "--out"]).arg(&out).stdout(Stdio::null());
    dist.env("CARGO_TARGET_DIR", elsewhere.path().join("target"));
    run(dist.env("SOURCE_DATE_EPOCH", release.epoch.to_string()))?;
    let mut other = Vec::new();
    for file in files {
        let again = out.join(file.file_name().unwrap_or_default());
        ensure!(again.is_file(), "the second build left no {}", again.display());
        if fs::read(file)? != fs::read(&again)? {
            other.push(file.display().to_string());
        }
    }
    if other.is_empty() {
        println!("The second build has the same bytes.");
        return Ok(());
    }
    bail!("the second build has other bytes in {}; are all changes committed?", other.join(", "))
}
