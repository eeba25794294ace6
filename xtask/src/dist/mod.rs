//! `cargo xtask dist`: what is handed to people, a Debian package and a tarball, each with the list of what is in it.
//!
//! cargo-deb would be more crates to build than the agent has, and its configuration about as long as this: the tree is
//! laid out here, and dpkg-deb packs it. Two builds of one commit give the same bytes: paths of this machine and the
//! time of day reach none of the files.

mod changelog;
mod debian;
mod layout;
mod sbom;
mod shared;
mod tarball;

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
    /// Another version than the workspace's, for tests of upgrades.
    pub(crate) version: Option<String>,
}

/// What all files have in common.
#[derive(Debug, Clone)]
struct Release {
    version: String,
    /// Seconds since 1970: of the commit, unless `SOURCE_DATE_EPOCH` says otherwise.
    epoch: u64,
}

/// Builds, lays out, and packs; prints where the files are.
pub(crate) fn dist(cache: &Cache, options: &DistOptions) -> Result<()> {
    ensure_all(cache, TO_BUILD)?;
    let release = Release {
        version: options.version.clone().unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()),
        epoch: epoch()?,
    };
    let agent = built(cache)?;
    let stage = tempfile::tempdir().context("cannot make a temporary directory")?;
    let tree = Tree::lay_out(stage.path(), &agent, &release)?;
    fs::create_dir_all(&options.out).with_context(|| format!("cannot make {}", options.out.display()))?;
    let files = [debian::pack(&tree, &release, &options.out)?, tarball::pack(&tree, &release, &options.out)?];
    tarball::sums(&options.out, &files)?;
    for file in files {
        println!("{}", file.display());
    }
    println!("needs {}", shared::needs(&agent)?);
    Ok(())
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
    for package in ["lvs-agent", "lvs-manual"] {
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
