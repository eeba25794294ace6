//! Debian packages unpacked into the cache and used from there: tools that only tests need are not installed.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::apt::Apt;
use crate::cache::Cache;
use crate::process::{self, output, users_libraries};

/// A list, beside the unpacked files, of the machine's own libraries that the tools are linked against.
const LIBRARIES: &str = "libraries-outside";

/// Packages unpacked below one root, with all that they need beyond what every Debian has.
#[derive(Debug, Clone)]
pub(crate) struct Unpacked {
    root: PathBuf,
}

impl Cache {
    /// The packages, downloaded and unpacked unless they are there already.
    pub(crate) fn packages(&self, names: &[&str]) -> Result<Unpacked> {
        let root = self.get_or_fill(&entry(names), sound, |root| {
            let apt = Apt::system(self)?.on_bare_system()?;
            apt.require(names)?;
            apt.unpack(&apt.closure(names)?, root)?;
            record_libraries(&Unpacked { root: root.to_owned() }, Lack::Fatal)
        })?;
        Ok(Unpacked { root })
    }

    /// The same for servers, which are run with their files mounted where they belong: libraries of their own, in
    /// directories of their own, are only found there.
    pub(crate) fn servers(&self, names: &[&str]) -> Result<Unpacked> {
        let root = self.get_or_fill(&entry(names), sound, |root| {
            let apt = Apt::system(self)?.on_bare_system()?;
            apt.require(names)?;
            apt.unpack(&apt.closure(names)?, root)?;
            record_libraries(&Unpacked { root: root.to_owned() }, Lack::Tolerated)
        })?;
        Ok(Unpacked { root })
    }

    /// The packages, if they are there already.
    pub(crate) fn packages_if_there(&self, names: &[&str]) -> Option<Unpacked> {
        let root = self.entry(&entry(names));
        (root.is_dir() && sound(&root)).then_some(Unpacked { root })
    }
}

impl Unpacked {
    /// Where the packages' files are: `root()/usr/sbin/…`, `root()/etc/…`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// `PATH` and `LD_LIBRARY_PATH` for using the tools: ours first, then the user's own.
    pub(crate) fn environment(&self) -> Result<Vec<(&'static str, OsString)>> {
        let path = env::var_os("PATH").unwrap_or_default();
        let libraries =
            env::var_os("LD_LIBRARY_PATH").and_then(|path| users_libraries(&path)).unwrap_or_default();
        let joined = |ours: Vec<PathBuf>, users: &OsString| {
            let users: Vec<PathBuf> =
                env::split_paths(users).filter(|path| !path.as_os_str().is_empty()).collect();
            env::join_paths(ours.into_iter().chain(users)).context("a path with a colon in it")
        };
        let programs = joined(self.program_directories(), &path)?;
        Ok(vec![("PATH", programs), ("LD_LIBRARY_PATH", joined(self.library_directories(), &libraries)?)])
    }

    fn program_directories(&self) -> Vec<PathBuf> {
        self.existing(&["usr/sbin", "usr/bin", "sbin", "bin"].map(str::to_owned))
    }

    fn library_directories(&self) -> Vec<PathBuf> {
        let multiarch = format!("{}-linux-gnu", env::consts::ARCH);
        self.existing(&[
            format!("usr/lib/{multiarch}"),
            format!("lib/{multiarch}"),
            "usr/lib".into(),
            "lib".into(),
        ])
    }

    fn existing(&self, directories: &[String]) -> Vec<PathBuf> {
        directories.iter().map(|name| self.root.join(name)).filter(|path| path.is_dir()).collect()
    }
}

/// The name of the cache's entry for a set of packages, whatever their order. Earlier versions left out what was
/// installed at the time; theirs have another name.
fn entry(names: &[&str]) -> String {
    let names: BTreeSet<&str> = names.iter().copied().collect();
    let names: Vec<&str> = names.into_iter().collect();
    format!("unpacked/{}", names.join("+"))
}

/// Whether the machine still has the libraries that were there when the packages were unpacked.
fn sound(root: &Path) -> bool {
    let libraries = fs::read_to_string(root.join(LIBRARIES));
    libraries.is_ok_and(|list| list.lines().all(|library| Path::new(library).exists()))
}

/// What it means that a program lacks a library.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lack {
    Fatal,
    Tolerated,
}

/// Looks how each program finds its libraries, and notes those that come from the machine.
fn record_libraries(unpacked: &Unpacked, lack: Lack) -> Result<()> {
    let mut outside = BTreeSet::new();
    for directory in unpacked.program_directories() {
        for program in fs::read_dir(directory)? {
            let program = program?.path();
            if is_program(&program)? {
                let mut ldd = process::command("ldd");
                ldd.envs(unpacked.environment()?).arg(&program);
                // ldd fails on scripts and on programs without dynamic libraries: they need none.
                let listing = output(&mut ldd).unwrap_or_default();
                let libraries = match parse_ldd(&listing) {
                    Err(_) if lack == Lack::Tolerated => continue,
                    libraries => libraries.with_context(|| format!("cannot use {}", program.display()))?,
                };
                outside.extend(
                    libraries.into_iter().filter(|library| !Path::new(library).starts_with(unpacked.root())),
                );
            }
        }
    }
    let outside: Vec<String> = outside.into_iter().collect();
    Ok(fs::write(unpacked.root().join(LIBRARIES), outside.join("\n"))?)
}

fn is_program(path: &Path) -> Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    Ok(metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The files that `ldd` has found for a program's libraries; one that isn't found is an error.
fn parse_ldd(listing: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for line in listing.lines() {
        match line.trim().split_once(" => ") {
            Some((library, "not found")) => bail!("the library {library} is missing"),
            Some((_, place)) => found.extend(place.split(" (").next().map(str::to_owned)),
            None => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_does_not_depend_on_order() {
        assert_eq!(entry(&["nftables", "ipvsadm"]), "unpacked/ipvsadm+nftables");
        assert_eq!(entry(&["ipvsadm", "nftables", "ipvsadm"]), entry(&["nftables", "ipvsadm"]));
    }

    #[test]
    fn ldd_is_read() {
        let listing = "\
\tlinux-vdso.so.1 (0x00007f99cd935000)
\tlibnl-3.so.200 => /cache/lib/x86_64-linux-gnu/libnl-3.so.200 (0x00007f99c4600000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f99cd937000)
";
        assert_eq!(parse_ldd(listing).expect("all found"), ["/cache/lib/x86_64-linux-gnu/libnl-3.so.200"]);
        assert_eq!(parse_ldd("\tnot a dynamic executable\n").expect("none needed"), Vec::<String>::new());
        assert!(parse_ldd("\tlibpopt.so.0 => not found\n").is_err());
    }

    #[test]
    fn a_vanished_library_makes_the_entry_unsound() {
        let root = tempfile::tempdir().expect("a temporary directory");
        assert!(!sound(root.path()), "no list: not whole");
        let library = root.path().join("libx.so");
        fs::write(&library, "").expect("written");
        fs::write(root.path().join(LIBRARIES), format!("{}\n", library.display())).expect("written");
        assert!(sound(root.path()));
        fs::remove_file(&library).expect("removed");
        assert!(!sound(root.path()));
    }
}
