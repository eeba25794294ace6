//! `cargo xtask setup`: finds or gets what building and testing need.
//!
//! Large things that others use too (a compiler, LLVM) are installed with apt; the rest is unpacked or built
//! into the cache.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::apt::{self, Apt};
use crate::cache::Cache;
use crate::vm::{self, kernel};
use crate::{linker, process, progress, toolchain, tools};

/// Something that must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    CCompiler,
    BpfCompiler,
    BpfLinker,
    Qemu,
    Busybox,
    Kernel(kernel::Line),
    Tools,
    Servers,
    Ldirectord,
    Monitoring,
    Browser,
    /// The files that say which numbers ports and protocols have. Programs read them where they are: unpacked ones are
    /// no use.
    PortNames,
}

/// What building takes.
pub(crate) const TO_BUILD: &[Piece] = &[Piece::CCompiler, Piece::BpfCompiler, Piece::BpfLinker];

/// What the VM takes.
pub(crate) const FOR_VM: &[Piece] =
    &[Piece::Qemu, Piece::Busybox, Piece::Kernel(kernel::DEFAULT), Piece::Tools];

/// What the tests of checks take.
pub(crate) const FOR_CHECKS: &[Piece] = &[Piece::Servers, Piece::Ldirectord];

/// What some of the unit tests take, which are skipped without it.
pub(crate) const FOR_METRICS: &[Piece] = &[Piece::Monitoring, Piece::Browser];

/// What tests take of the machine itself.
pub(crate) const FOR_TESTS: &[Piece] = &[Piece::PortNames];

/// The files of [`Piece::PortNames`], from Debian's package `netbase`, which a minimal system hasn't.
const PORT_NAMES: [&str; 2] = ["/etc/services", "/etc/protocols"];

/// How a missing piece is got.
enum Remedy {
    /// Install Debian packages.
    Install(Vec<String>),
    /// Fill an entry of the cache.
    Fill,
}

/// `cargo xtask setup`.
pub(crate) fn setup(cache: &Cache) -> Result<()> {
    if ensure_all(cache, &[TO_BUILD, FOR_VM, FOR_TESTS, FOR_CHECKS, FOR_METRICS].concat())? {
        println!("Set-up is complete.");
    } else {
        println!("Everything is there.");
    }
    Ok(())
}

/// Gets those of the pieces that are missing; returns whether any was.
pub(crate) fn ensure_all(cache: &Cache, pieces: &[Piece]) -> Result<bool> {
    let missing: Vec<Piece> = pieces.iter().copied().filter(|piece| piece.found(cache).is_none()).collect();
    if missing.is_empty() {
        return Ok(false);
    }
    ensure!(apt::available(), without_apt(&missing));
    // Old lists may offer another compiler than the archive now has, and with it the wrong LLVM.
    let lists = Apt::system(cache)?;
    if let Err(error) = progress::piece("Set-up: reading the package lists", || lists.update()) {
        println!("Set-up: going on with the old ones: {error:#}");
    }
    let mut packages = Vec::new();
    let mut to_fill = Vec::new();
    println!("Set-up will:");
    for piece in missing {
        match piece.remedy(cache).with_context(|| format!("cannot get {piece}"))? {
            Remedy::Install(names) => {
                println!("  install {} with apt-get, for {piece}", names.join(" "));
                packages.extend(names);
            }
            Remedy::Fill => {
                println!("  {} {piece} in {}", piece.verb(), cache.root().display());
                to_fill.push(piece);
            }
        }
    }
    install(cache, &packages)?;
    let count = to_fill.len();
    for (number, piece) in (1..).zip(to_fill) {
        let what = format!("Set-up {number} of {count}: {piece}");
        progress::piece(&what, || piece.fill(cache)).with_context(|| format!("cannot get {piece}"))?;
    }
    let still: Vec<&Piece> = pieces.iter().filter(|piece| piece.found(cache).is_none()).collect();
    ensure!(still.is_empty(), "set-up ended, and yet these are missing: {still:?}");
    Ok(true)
}

/// Installs packages, or says how to when only the administrator may.
fn install(cache: &Cache, packages: &[String]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !apt::is_root() {
        bail!(
            "only root may install packages; run this, then set-up again:\n    \
             sudo apt-get update && sudo apt-get {} {}",
            apt::INSTALL.join(" "),
            packages.join(" ")
        );
    }
    let apt = Apt::system(cache)?;
    progress::piece(&format!("Set-up: apt-get install {}", packages.join(" ")), || apt.install(packages))
}

/// The advice for a machine that isn't a Debian.
fn without_apt(missing: &[Piece]) -> String {
    let by_hand: Vec<String> =
        missing.iter().map(|piece| format!("    {piece}: {}", piece.by_hand())).collect();
    format!(
        "there is no apt-get here, so install by hand what is missing:\n{}\nor work in a container of Debian 12",
        by_hand.join("\n")
    )
}

impl Piece {
    /// What is there of it, in words; none if it is missing.
    pub(crate) fn found(self, cache: &Cache) -> Option<String> {
        match self {
            Self::CCompiler => process::find("cc").map(|path| path.display().to_string()),
            Self::BpfCompiler => bpf_compiler(cache).map(|compiler| compiler.to_string()),
            Self::BpfLinker => {
                let ready = toolchain::ready(cache).ok()?;
                let directory = linker::directory(cache, ready.version.llvm);
                Some(format!("{} ({})", directory.join("bpf-linker").display(), linker::VERSION))
            }
            Self::Qemu => vm::find_emulator(cache).map(|found| found.program().display().to_string()),
            Self::Busybox => vm::busybox_is_there(cache).then(|| "in the cache".to_owned()),
            Self::Kernel(line) => kernel::get_if_there(cache, line).map(|kernel| kernel.release),
            Self::Tools => tools::are_there(cache).then(|| "in the cache".to_owned()),
            Self::Servers => tools::servers_are_there(cache).then(|| "in the cache".to_owned()),
            Self::Ldirectord => tools::ldirectord_is_there(cache).then(|| "in the cache".to_owned()),
            Self::Browser => tools::browser_is_there(cache).then(|| "in the cache".to_owned()),
            Self::Monitoring => tools::monitoring_is_there(cache).then(|| "in the cache".to_owned()),
            Self::PortNames => {
                PORT_NAMES.iter().all(|file| Path::new(file).exists()).then(|| PORT_NAMES.join(", "))
            }
        }
    }

    fn remedy(self, cache: &Cache) -> Result<Remedy> {
        let install = |names: &[&str]| Remedy::Install(names.iter().map(|&name| name.to_owned()).collect());
        Ok(match self {
            Self::CCompiler => install(&["gcc", "libc6-dev"]),
            Self::PortNames => install(&["netbase"]),
            Self::BpfCompiler => Remedy::Install(toolchain::packages(&Apt::system(cache)?)?),
            Self::BpfLinker
            | Self::Qemu
            | Self::Busybox
            | Self::Kernel(_)
            | Self::Tools
            | Self::Servers
            | Self::Ldirectord
            | Self::Monitoring
            | Self::Browser => Remedy::Fill,
        })
    }

    fn fill(self, cache: &Cache) -> Result<()> {
        match self {
            Self::BpfLinker => {
                let compiler = bpf_compiler(cache).context("no BPF compiler with its LLVM")?;
                linker::build(cache, compiler.version.llvm)
            }
            Self::Qemu => vm::get_emulator(cache).map(drop),
            Self::Busybox => vm::get_busybox(cache).map(drop),
            Self::Kernel(line) => kernel::get(cache, line).map(drop),
            Self::Tools => tools::for_tests(cache).map(drop),
            Self::Servers => tools::servers(cache).map(drop),
            Self::Ldirectord => tools::ldirectord(cache).map(drop),
            Self::Browser => tools::browser(cache).map(drop),
            Self::Monitoring => tools::monitoring(cache).map(drop),
            Self::CCompiler | Self::BpfCompiler | Self::PortNames => {
                bail!("{self} is installed, not unpacked")
            }
        }
    }

    fn verb(self) -> &'static str {
        if self == Self::BpfLinker { "build" } else { "unpack" }
    }

    /// What to do without apt.
    pub(crate) fn by_hand(self) -> String {
        match self {
            Self::CCompiler => "any C compiler and linker, as cargo needs them".to_owned(),
            Self::BpfCompiler => format!(
                "rustup toolchain install nightly --component rust-src, and LLVM's development files ({})",
                linker::llvm_prefix(*linker::LLVM_MAJORS.end()).display()
            ),
            Self::BpfLinker => format!("cargo install bpf-linker --version {}", linker::VERSION),
            Self::Qemu => "QEMU for x86-64 with 9p".to_owned(),
            Self::PortNames => PORT_NAMES.join(" and "),
            Self::Busybox
            | Self::Kernel(_)
            | Self::Tools
            | Self::Servers
            | Self::Ldirectord
            | Self::Monitoring
            | Self::Browser => "comes from Debian's packages".to_owned(),
        }
    }
}

/// The compiler that can be worked with: its linker is there, or can be built.
fn bpf_compiler(cache: &Cache) -> Option<toolchain::BpfToolchain> {
    let ready = toolchain::ready(cache).ok();
    ready.or_else(|| toolchain::candidates().into_iter().find(|found| linker::can_build(found.version.llvm)))
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CCompiler => f.write_str("a C compiler"),
            Self::BpfCompiler => f.write_str("a compiler for BPF, with its LLVM"),
            Self::BpfLinker => f.write_str("bpf-linker"),
            Self::Qemu => f.write_str("QEMU"),
            Self::Busybox => f.write_str("busybox"),
            Self::Kernel(line) => write!(f, "a kernel {line} with IPVS"),
            Self::Tools => f.write_str("the tools for tests"),
            Self::Servers => f.write_str("the servers for tests of checks"),
            Self::Ldirectord => f.write_str("ldirectord to compare with"),
            Self::Browser => f.write_str("a browser without a window"),
            Self::Monitoring => f.write_str("Prometheus, node_exporter and jsonnet"),
            Self::PortNames => f.write_str("names of ports and protocols"),
        }
    }
}
