//! `cargo xtask dist`: what is handed to people, a Debian package and a tarball, each with the list of what is in it.
//!
//! cargo-deb would be more crates to build than the agent has, and its configuration about as long as this: the tree is
//! laid out here, and dpkg-deb packs it. Two builds of one commit give the same bytes: paths of this machine and the
//! time of day reach none of the files.

mod changelog;
mod debian;
mod layout;
mod reproduce;
mod sbom;
mod shared;
mod tarball;
mod trial;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use self::layout::Tree;
use crate::build::{self, OBJECT_VARIABLE};
use crate::cache::Cache;
use crate::paths;
use crate::process::{self, output, run};
use crate::setup::{TO_BUILD, ensure_all};

/// The profile of what is handed out: stripped, in a folder of its own.
const PROFILE: &str = "dist";

/// What `cargo xtask dist` was asked for.
#[derive(Debug, Clone)]
pub(crate) struct DistOptions {
    /// Where the files go.
    pub(crate) out: PathBuf,
    /// A program that is there already, with `lvs-manual` beside it; without it both are built.
    pub(crate) agent: Option<PathBuf>,
    /// Whether all is built again elsewhere, and compared.
    pub(crate) verify: bool,
    /// Whether the package is tried in a bare Debian.
    pub(crate) trial: bool,
}

/// A version before any that there has been, for the trial of an upgrade.
const EARLIER: &str = "0.0.1";

/// What all files have in common.
#[derive(Debug, Clone)]
struct Release {
    version: String,
    /// Seconds since 1970: of the commit, unless `SOURCE_DATE_EPOCH` says otherwise.
    epoch: u64,
}

/// Whom the package names for questions.
const MAINTAINER: &str = "The lvs-agent authors <lvs-agent@lvs-agent.invalid>";

/// The program that writes the manual.
pub(crate) const MANUAL: &str = "lvs-manual";

/// Builds, lays out, and packs; prints where the files are. Returns whether the trial went well, if there was one.
pub(crate) fn dist(cache: &Cache, options: &DistOptions) -> Result<bool> {
    ensure_all(cache, TO_BUILD)?;
    let release = Release { version: env!("CARGO_PKG_VERSION").to_owned(), epoch: epoch()? };
    let agent = options.agent.clone().map_or_else(|| built(cache), Ok)?;
    fs::create_dir_all(&options.out).with_context(|| format!("cannot make {}", options.out.display()))?;
    let [deb, tarball] = packed(&agent, &release, &options.out)?;
    tarball::sums(&options.out, &[&deb, &tarball])?;
    println!("{}\n{}\nneeds {}", deb.display(), tarball.display(), shared::needs(&agent)?);
    if options.verify {
        reproduce::compare(&release, &[&deb, &tarball])?;
    }
    if !options.trial {
        return Ok(true);
    }
    try_package(cache, &agent, &release, &deb)
}

/// Packs a program as `cargo xtask build` makes it, and tries the package in a bare Debian; returns whether that went
/// well. `manual` writes the manual.
pub(crate) fn try_build(cache: &Cache, agent: &Path, manual: &Path) -> Result<bool> {
    let folder = tempfile::tempdir().context("cannot make a temporary directory")?;
    for program in [agent, manual] {
        let to = folder.path().join(program.file_name().unwrap_or_default());
        // What debuggers want is most of it, and would have to be compressed.
        run(process::command("strip").arg("-o").arg(&to).arg(program))?;
    }
    let agent = folder.path().join(agent.file_name().unwrap_or_default());
    let release = Release { version: env!("CARGO_PKG_VERSION").to_owned(), epoch: epoch()? };
    let deb = debian_package(&agent, &release, folder.path())?;
    try_package(cache, &agent, &release, &deb)
}

/// Tries the package, and before it one of an earlier version.
fn try_package(cache: &Cache, agent: &Path, release: &Release, deb: &Path) -> Result<bool> {
    let earlier = tempfile::tempdir().context("cannot make a temporary directory")?;
    let release = Release { version: EARLIER.to_owned(), ..*release };
    let old = debian_package(agent, &release, earlier.path())?;
    trial::trial(cache, &old, deb)
}

fn debian_package(agent: &Path, release: &Release, out: &Path) -> Result<PathBuf> {
    let stage = tempfile::tempdir().context("cannot make a temporary directory")?;
    debian::pack(&Tree::lay_out(stage.path(), agent, release)?, release, out)
}

/// The package and the tarball.
fn packed(agent: &Path, release: &Release, out: &Path) -> Result<[PathBuf; 2]> {
    let stage = tempfile::tempdir().context("cannot make a temporary directory")?;
    let tree = Tree::lay_out(stage.path(), agent, release)?;
    Ok([debian::pack(&tree, release, out)?, tarball::pack(&tree, release, out)?])
}

/// When what is built was written, for all times in what is handed out.
fn epoch() -> Result<u64> {
    if let Ok(epoch) = env::var("SOURCE_DATE_EPOCH") {
        return epoch.trim().parse().context("SOURCE_DATE_EPOCH is not a number of seconds");
    }
    let mut git = process::command("git");
    git.current_dir(paths::repository()).args(["log", "-1", "--format=%ct"]);
    let seconds =
        output(&mut git).context("when the commit was made: set SOURCE_DATE_EPOCH outside of git")?;
    seconds.trim().parse().context("what git says of the commit's time")
}

/// Builds the agent, without this machine's paths in it, and the program that writes the manual.
fn built(cache: &Cache) -> Result<PathBuf> {
    let remap = remapped_paths()?;
    let object = build::kernel_side_with(cache, &remap)?;
    let target = paths::target();
    for package in ["lvs-agent", MANUAL] {
        let mut cargo = process::cargo();
        cargo.args([
            "build",
            "--locked",
            "--profile",
            PROFILE,
            "--package",
            package,
            "--bins",
            "--target-dir",
        ]);
        cargo.arg(&target).env(OBJECT_VARIABLE, &object).env("RUSTFLAGS", remap.join(" "));
        // C code of crates: paths in it are those of the registry.
        cargo.env("CFLAGS", remap_for_c()?);
        run(&mut cargo).with_context(|| format!("cannot build {package}"))?;
    }
    let agent = target.join(PROFILE).join("lvs-agent");
    ensure!(agent.is_file(), "the build succeeded but left no {}", agent.display());
    Ok(agent)
}

/// Has the compiler write other paths than this machine's.
fn remapped_paths() -> Result<Vec<String>> {
    let places = [
        (paths::repository().to_owned(), "/lvs-agent"),
        (cargo_home()?, "/cargo"),
        (sysroot()?, "/rust"),
        (paths::target(), "/target"),
    ];
    let flag = |(from, to): (PathBuf, &str)| {
        ensure!(
            !from.to_string_lossy().contains(char::is_whitespace),
            "{} has a space in it, which RUSTFLAGS can't say",
            from.display()
        );
        Ok(format!("--remap-path-prefix={}={to}", from.display()))
    };
    places.into_iter().map(flag).collect()
}

fn remap_for_c() -> Result<OsString> {
    let mut flags = OsString::from("-ffile-prefix-map=");
    flags.push(cargo_home()?);
    flags.push("=/cargo -ffile-prefix-map=");
    flags.push(paths::target());
    flags.push("=/target");
    Ok(flags)
}

fn cargo_home() -> Result<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| env::home_dir().map(|home| home.join(".cargo"))).context("no place for cargo: set HOME")
}

fn sysroot() -> Result<PathBuf> {
    let rustc = process::cargo().get_program().to_owned();
    let rustc = Path::new(&rustc).with_file_name("rustc");
    let root = output(Command::new(rustc).args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(root.trim()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What a build leaves, as far as packing goes.
    fn built_in(folder: &Path) -> PathBuf {
        let agent = folder.join("lvs-agent");
        fs::copy("/bin/true", &agent).expect("copied");
        let manual = folder.join(MANUAL);
        let script = "#!/bin/sh\nmkdir -p $1/man $1/bash $1/zsh $1/fish\necho .TH X 8 >$1/man/lvs-agent.8\n";
        fs::write(&manual, script).expect("written");
        fs::set_permissions(&manual, fs::Permissions::from_mode(0o755)).expect("may be run");
        agent
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let agent = built_in(folder.path());
        let release = Release { version: "0.1.0".into(), epoch: 1_700_000_000 };
        let bytes = |name: &str| {
            let out = folder.path().join(name);
            fs::create_dir(&out).expect("made");
            let files = packed(&agent, &release, &out).expect("packed");
            files.map(|file| fs::read(file).expect("read"))
        };
        assert!(bytes("a") == bytes("b"));
    }
}
