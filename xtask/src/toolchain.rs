//! The compiler for the kernel side: one that can build `core` for a BPF target.
//!
//! That takes the standard library's sources, nightly features (which `RUSTC_BOOTSTRAP` opens on a stable compiler),
//! and a `bpf-linker` for the same major version of LLVM.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::apt::Apt;
use crate::cache::Cache;
use crate::linker::{self, LLVM_MAJORS};
use crate::process::{self, output};

/// Debian's packages of a compiler with sources, beside whatever rustup has.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The oldest compiler that builds the workspace.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// A compiler that can build the kernel side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BpfToolchain {
    pub(crate) rustc: PathBuf,
    pub(crate) cargo: PathBuf,
    pub(crate) version: CompilerVersion,
}

/// What `rustc -vV` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CompilerVersion {
    /// The release, such as `1.96.0` or `1.97.0-nightly`.
    pub(crate) release: String,
    /// The major version of its LLVM.
    pub(crate) llvm: u32,
}

impl fmt::Display for BpfToolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CompilerVersion { release, llvm } = &self.version;
        write!(f, "{} ({release}, LLVM {llvm})", self.rustc.display())
    }
}

/// The usable compilers, the preferred one first: rustup's nightly, then the system's.
pub(crate) fn candidates() -> Vec<BpfToolchain> {
    let nightly = rustup_nightly().and_then(|bin| usable(&bin));
    nightly.into_iter().chain(usable(Path::new("/usr/bin"))).collect()
}

/// The compiler that `build` takes: the first whose linker is there.
pub(crate) fn ready(cache: &Cache) -> Result<BpfToolchain> {
    let ready = candidates().into_iter().find(|candidate| linker::works(cache, candidate.version.llvm));
    ready.context("no BPF compiler with a matching bpf-linker: run `cargo xtask setup`")
}

/// The packages that make a compiler usable: LLVM for one that is here, or Debian's compiler with its LLVM.
pub(crate) fn packages(apt: &Apt) -> Result<Vec<String>> {
    let llvm = |major: u32| format!("llvm-{major}-dev");
    for candidate in candidates() {
        let major = candidate.version.llvm;
        if LLVM_MAJORS.contains(&major) && apt.require(&[llvm(major)]).is_ok() {
            return Ok(vec![llvm(major)]);
        }
    }
    apt.require(&DEBIAN_PACKAGES).context(
        "no compiler for BPF here; either use a release of Debian that has one, or run \
         `rustup toolchain install nightly --component rust-src`",
    )?;
    let all = apt.all_dependencies(DEBIAN_PACKAGES[0])?;
    let major = newest_llvm(&all).context("cannot tell which LLVM Debian's rustc uses")?;
    let packages = DEBIAN_PACKAGES.map(str::to_owned);
    Ok(packages.into_iter().chain([llvm(major)]).collect())
}

/// The highest major among LLVM's library packages, such as `libllvm22`.
fn newest_llvm(packages: &[String]) -> Option<u32> {
    packages.iter().filter_map(|name| name.strip_prefix("libllvm")?.parse().ok()).max()
}

/// The directory of rustup's nightly compiler. Asks rustup without letting it install anything.
fn rustup_nightly() -> Option<PathBuf> {
    let rustup = process::find("rustup")?;
    let mut which = process::command(rustup);
    which.env("RUSTUP_AUTO_INSTALL", "0").args(["which", "--toolchain", "nightly", "rustc"]);
    let rustc = PathBuf::from(output(&mut which).ok()?.trim());
    rustc.parent().map(Path::to_owned)
}

/// The compiler in a directory, if it is new enough and has the standard library's sources.
fn usable(bin: &Path) -> Option<BpfToolchain> {
    let (rustc, cargo) = (bin.join("rustc"), bin.join("cargo"));
    let sources = bin.parent()?.join("lib/rustlib/src/rust/library/core/Cargo.toml");
    if !(rustc.is_file() && cargo.is_file() && sources.is_file()) {
        return None;
    }
    let version = parse_version(&output(process::foreign_cargo(&rustc).arg("-vV")).ok()?)?;
    (numbers(&version.release) >= numbers(OLDEST)).then_some(BpfToolchain { rustc, cargo, version })
}

/// Reads `rustc -vV`.
fn parse_version(text: &str) -> Option<CompilerVersion> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let release = field("release:")?.to_owned();
    let llvm = field("LLVM version:")?.split('.').next()?.parse().ok()?;
    Some(CompilerVersion { release, llvm })
}

/// The numbers in a version, in order, for comparison: `1.97.0-nightly` is 1, 97, 0.
pub(crate) fn numbers(version: &str) -> Vec<u32> {
    let parts = version.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read() {
        let said =
            "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_version(said), Some(CompilerVersion { release: "1.96.0".into(), llvm: 22 }));
        assert_eq!(parse_version("release: 1.96.0\n"), None);
    }

    #[test]
    fn llvm_is_told_from_its_library() {
        let names = ["libc6", "libllvm16", "libllvm22", "libllvm-x"].map(str::to_owned);
        assert_eq!(newest_llvm(&names), Some(22));
        assert_eq!(newest_llvm(&names[..1]), None);
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("1.100.0") > numbers("1.95"));
        assert!(numbers("1.94.9") < numbers("1.95"));
        assert!(numbers("1.95.0") >= numbers("1.95"));
        assert!(numbers("1.97.0-nightly") >= numbers("1.97"));
    }
}
