//! The tarball: the same files for machines without dpkg, and checksums.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Release;
use super::layout::Tree;
use crate::process::{self, output, run};

/// The file with the checksums of the others.
const SUMS: &str = "SHA256SUMS";

/// Packs the tree below a folder named after the release.
pub(super) fn pack(tree: &Tree, release: &Release, out: &Path) -> Result<PathBuf> {
    let name = format!("lvs-agent-{}-x86_64-linux-gnu", release.version);
    let file = out.join(format!("{name}.tar.gz"));
    let plain = out.join(format!("{name}.tar"));
    let mut tar = process::command("tar");
    tar.args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"]);
    tar.arg(format!("--mtime=@{}", release.epoch)).arg("--exclude=./DEBIAN");
    tar.arg(format!("--transform=s,^\\.,{name},")).arg("--file").arg(&plain);
    run(tar.arg("--directory").arg(&tree.root).arg("."))?;
    let compressed = super::layout::compress(&plain);
    compressed.with_context(|| format!("cannot compress {}", plain.display()))?;
    Ok(file)
}

/// Writes the checksums of the files, as `sha256sum --check` reads them.
pub(super) fn sums(out: &Path, files: &[&PathBuf]) -> Result<()> {
    let names = files.iter().filter_map(|file| file.file_name());
    let sums = output(process::command("sha256sum").args(names).current_dir(out))?;
    let path = out.join(SUMS);
    fs::write(&path, sums).with_context(|| format!("cannot write {}", path.display()))
}
