//! Building the two halves: the kernel side for BPF, then the agent with it inside.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache::Cache;
use crate::process::{self, run};
use crate::toolchain::{self, BpfToolchain};
use crate::{linker, paths};

/// Tells the agent's build script, and tests, where the kernel side's object is.
pub(crate) const OBJECT_VARIABLE: &str = "LVS_EBPF_OBJECT";

/// Tells tests and the demo where the agent's binary is.
pub(crate) const AGENT_VARIABLE: &str = "LVS_AGENT";

/// Tells benchmarks where the object with the kernel side's references is.
pub(crate) const REFERENCE_VARIABLE: &str = "LVS_REFERENCE_OBJECT";

/// The package of the kernel side, and its binary.
pub(crate) const KERNEL_SIDE: &str = "lvs-ebpf";

/// The references' binary, built with the kernel side.
const REFERENCE: &str = "lvs-reference";

/// The target that the kernel side is built for; BPF bytecode has the byte order of the machine.
const BPF_TARGET: &str =
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };

/// How the agent is compiled. The kernel side is always optimised: the verifier would refuse it otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Profile {
    #[default]
    Release,
    Debug,
}

impl Profile {
    fn directory(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debug => "debug",
        }
    }
}

/// `cargo xtask build`: both halves, and where they are.
pub(crate) fn build(cache: &Cache, profile: Profile) -> Result<()> {
    let object = kernel_side(cache)?;
    let agent = agent_with(&object, profile)?;
    println!("kernel side: {}", object.display());
    println!("agent:       {}", agent.display());
    Ok(())
}

/// Builds the kernel side and returns the object's path.
pub(crate) fn kernel_side(cache: &Cache) -> Result<PathBuf> {
    kernel_side_in(cache, &paths::target().join("bpf"), &[])
}

/// The same with further flags for the compiler, in a folder of its own.
pub(crate) fn kernel_side_with(cache: &Cache, flags: &[String]) -> Result<PathBuf> {
    kernel_side_in(cache, &paths::target().join("bpf-dist"), flags)
}

fn kernel_side_in(cache: &Cache, target: &Path, flags: &[String]) -> Result<PathBuf> {
    let toolchain = toolchain::ready(cache)?;
    let mut cargo = kernel_side_cargo(cache, &toolchain, flags)?;
    cargo.args(["build", "--release", "--package", KERNEL_SIDE]).args(CORE).args(["--target", BPF_TARGET]);
    run(cargo.arg("--target-dir").arg(target)).context("cannot build the kernel side")?;
    built(target.join(BPF_TARGET).join("release").join(KERNEL_SIDE))
}

/// The object with the references beside the kernel side's.
pub(crate) fn reference(kernel_side: &Path) -> PathBuf {
    kernel_side.with_file_name(REFERENCE)
}

/// Builds the agent, optimised and with the kernel side inside, and returns its path.
pub(crate) fn agent(cache: &Cache) -> Result<PathBuf> {
    agent_with(&kernel_side(cache)?, Profile::Release)
}

/// Builds the agent around an object that is there already.
pub(crate) fn agent_with(object: &Path, profile: Profile) -> Result<PathBuf> {
    package("lvs-agent", "lvs-agent", object, profile)
}

/// Builds all binaries of an ordinary package, which may start one another, and returns the path of one.
pub(crate) fn package(package: &str, binary: &str, object: &Path, profile: Profile) -> Result<PathBuf> {
    let target = paths::target();
    let mut cargo = process::cargo();
    cargo.args(["build", "--package", package, "--bins"]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    cargo.arg("--target-dir").arg(&target).env(OBJECT_VARIABLE, object);
    run(&mut cargo).with_context(|| format!("cannot build {package}"))?;
    built(target.join(profile.directory()).join(binary))
}

/// Builds `core` along, since no BPF target comes with a compiled one.
const CORE: [&str; 2] = ["-Z", "build-std=core"];

/// The BPF toolchain's cargo, with the matching linker and with BTF in what it links.
fn kernel_side_cargo(cache: &Cache, toolchain: &BpfToolchain, flags: &[String]) -> Result<Command> {
    let linker = linker::directory(cache, toolchain.version.llvm);
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(linker).chain(env::split_paths(&path)))?;
    let mut cargo = process::foreign_cargo(&toolchain.cargo);
    cargo.env("PATH", path).env("RUSTC", &toolchain.rustc).env("RUSTC_BOOTSTRAP", "1");
    let flags = [&["-Cdebuginfo=2 -Clink-arg=--btf".to_owned()], flags].concat();
    cargo.env("RUSTFLAGS", flags.join(" "));
    Ok(cargo)
}

fn built(path: PathBuf) -> Result<PathBuf> {
    ensure!(path.is_file(), "the build succeeded but left no {}", path.display());
    Ok(path)
}
