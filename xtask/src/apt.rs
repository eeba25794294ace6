//! Debian's packages: what a suite offers, downloading, unpacking, installing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::cache::Cache;
use crate::dpkg;
use crate::process::{self, output, run};
use crate::progress::{self, Line};

/// Where apt finds Debian's signing keys, from the package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Names a Debian mirror when apt's own sources list none.
const MIRROR_VARIABLE: &str = "LVS_DEBIAN_MIRROR";

/// A view of a package archive: this machine's sources, or one suite with its own lists.
#[derive(Debug)]
pub(crate) struct Apt {
    options: Vec<OsString>,
    /// Files that the options name, as long as they are used.
    files: Vec<TempDir>,
}

/// Whether this machine has apt at all.
pub(crate) fn available() -> bool {
    ["apt-get", "apt-cache", "dpkg-deb"].iter().all(|program| process::find(program).is_some())
}

/// Whether this process may install packages.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

impl Apt {
    /// This machine's own sources. A user who isn't root gets lists of their own: only root may refresh apt's.
    pub(crate) fn system(cache: &Cache) -> Result<Self> {
        ensure!(available(), "apt-get isn't here: this part of set-up works on Debian only");
        if is_root() {
            return Ok(Self { options: unsandboxed(), files: Vec::new() });
        }
        Ok(Self { options: private(&cache.entry("apt"))?, files: Vec::new() })
    }

    /// One suite of Debian from the mirror that this machine uses, with lists of its own: apt itself stays as it is.
    pub(crate) fn suite(cache: &Cache, suite: &str) -> Result<Self> {
        let mirror = Self::system(cache)?.mirror()?;
        let lists = tempfile::tempdir().context("cannot make a temporary directory")?;
        let mut options = private(lists.path())?;
        let signed =
            if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
        let sources = lists.path().join("sources.list");
        fs::write(&sources, format!("deb {signed}{mirror} {suite} main\n"))
            .with_context(|| format!("cannot write {}", sources.display()))?;
        options.extend(option("Dir::Etc::sourcelist", &sources));
        options.extend(option("Dir::Etc::sourceparts", Path::new("-")));
        let apt = Self { options, files: vec![lists] }.on_bare_system()?;
        apt.update()?;
        Ok(apt)
    }

    /// The same on a machine with nothing but what every Debian has. What is unpacked must not depend on what is
    /// installed: that would be left out, though it isn't found from elsewhere, or be offered in its own version only.
    /// Nothing can be installed this way.
    pub(crate) fn on_bare_system(mut self) -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let status = directory.path().join("status");
        let installed = fs::read_to_string(dpkg::STATUS);
        let installed = installed.with_context(|| format!("cannot read {}", dpkg::STATUS))?;
        fs::write(&status, dpkg::minimal(&installed))
            .with_context(|| format!("cannot write {}", status.display()))?;
        self.options.extend(option("Dir::State::status", &status));
        // What apt remembers between two calls is about the whole list.
        for cache in ["Dir::Cache::pkgcache", "Dir::Cache::srcpkgcache"] {
            self.options.extend(option(cache, Path::new("")));
        }
        self.files.push(directory);
        Ok(self)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = process::command(program);
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").args(&self.options);
        command
    }

    /// Reads the archive's package lists anew.
    pub(crate) fn update(&self) -> Result<()> {
        let mut update = self.command("apt-get");
        update.args(["--quiet=2", "update"]);
        progress::during("apt-get update", || run(&mut update)).context("cannot read Debian's package lists")
    }

    /// The version that would be installed of each of the packages that the archive offers.
    pub(crate) fn candidates(&self, packages: &[impl AsRef<str>]) -> Result<BTreeMap<String, String>> {
        let names = packages.iter().map(AsRef::as_ref);
        Ok(parse_policy(&output(self.command("apt-cache").arg("policy").args(names))?))
    }

    /// Fails unless the archive offers all of the packages; refreshes the lists first if it seems not to.
    pub(crate) fn require(&self, packages: &[impl AsRef<str>]) -> Result<()> {
        for refreshed in [false, true] {
            let offered = self.candidates(packages)?;
            let missing: Vec<&str> =
                packages.iter().map(AsRef::as_ref).filter(|name| !offered.contains_key(*name)).collect();
            if missing.is_empty() {
                break;
            }
            if refreshed {
                bail!("apt's sources offer no package {}", missing.join(", "));
            }
            self.update()?;
        }
        Ok(())
    }

    /// All package names that begin with `prefix`, in no order.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The packages that one package depends on directly.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let listing = output(self.command("apt-cache").args(["depends", "--important", package]))?;
        Ok(parse_depends(&listing))
    }

    /// The packages that one package depends on, and theirs, and so on.
    pub(crate) fn all_dependencies(&self, package: &str) -> Result<Vec<String>> {
        let listing =
            output(self.command("apt-cache").args(["depends", "--important", "--recurse", package]))?;
        Ok(parse_depends(&listing))
    }

    /// The packages themselves and what they need beyond what counts as installed.
    pub(crate) fn closure(&self, packages: &[&str]) -> Result<Vec<String>> {
        let mut simulation = self.command("apt-get");
        simulation.args(["install", "--simulate", "--no-install-recommends", "--reinstall"]);
        Ok(parse_simulation(&output(simulation.args(packages))?))
    }

    /// Downloads packages and unpacks them below `root`. Nothing is installed and none of their scripts run.
    pub(crate) fn unpack(&self, packages: &[impl AsRef<str>], root: &Path) -> Result<()> {
        let debs = tempfile::tempdir_in(root).context("cannot make a directory for packages")?;
        let mut download = self.command("apt-get");
        download.args(["--quiet=2", "download"]).args(packages.iter().map(AsRef::as_ref));
        download.current_dir(debs.path());
        {
            let _line = Line::counting("downloading packages", debs.path(), packages.len());
            if run(&mut download).is_err() {
                // The lists may be older than the archive.
                self.update()?;
                run(&mut download)?;
            }
        }
        let _line = Line::show("unpacking packages");
        for deb in fs::read_dir(debs.path())? {
            let deb = deb?.path();
            if deb.extension().is_some_and(|extension| extension == "deb") {
                run(process::command("dpkg-deb").arg("--extract").arg(&deb).arg(root))?;
            }
        }
        Ok(())
    }

    /// Installs packages. Never removes one to make room: that is for the user to decide.
    pub(crate) fn install(&self, packages: &[impl AsRef<str>]) -> Result<()> {
        self.require(packages)?;
        let mut install = self.command("apt-get");
        install.args(["--quiet=2", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"]);
        // dpkg's progress is hundreds of lines; what goes wrong is told on standard error.
        install.args(INSTALL).args(packages.iter().map(AsRef::as_ref)).stdout(Stdio::null());
        let _line = Line::show("apt-get install");
        if run(&mut install).is_err() {
            self.update()?;
            run(&mut install)?;
        }
        Ok(())
    }

    /// The Debian mirror in this machine's sources.
    pub(crate) fn mirror(&self) -> Result<String> {
        if let Ok(mirror) = std::env::var(MIRROR_VARIABLE) {
            return Ok(mirror);
        }
        for refreshed in [false, true] {
            let mut targets = self.command("apt-get");
            targets.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
            targets.args(["Origin: Debian", "Label: Debian"]);
            if let Some(mirror) = output(&mut targets)?.lines().next() {
                return Ok(mirror.to_owned());
            }
            if !refreshed {
                self.update()?;
            }
        }
        bail!("apt's sources name no Debian mirror: set {MIRROR_VARIABLE} to one")
    }
}

/// How packages are installed; shown to users who must do it themselves.
pub(crate) const INSTALL: [&str; 4] = ["install", "--yes", "--no-install-recommends", "--no-remove"];

/// The options that give apt lists and downloads of its own below a directory.
fn private(directory: &Path) -> Result<Vec<OsString>> {
    for part in ["lists/partial", "cache/archives/partial"] {
        let part = directory.join(part);
        fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    }
    let mut options = unsandboxed();
    options.extend(option("Dir::State::lists", &directory.join("lists")));
    options.extend(option("Dir::Cache", &directory.join("cache")));
    options.extend(option("Acquire::Languages", Path::new("none")));
    options.extend(option("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", Path::new("false")));
    Ok(options)
}

/// apt's own user can't write to our directories.
fn unsandboxed() -> Vec<OsString> {
    option("APT::Sandbox::User", Path::new("root")).to_vec()
}

fn option(name: &str, value: &Path) -> [OsString; 2] {
    let mut setting = OsString::from(name);
    setting.push("=");
    setting.push(value);
    ["-o".into(), setting]
}

/// Package names and candidate versions from `apt-cache policy`; packages without a candidate are left out.
fn parse_policy(policy: &str) -> BTreeMap<String, String> {
    let mut candidates = BTreeMap::new();
    let mut package = None;
    for line in policy.lines() {
        if !line.starts_with(' ') {
            package = line.strip_suffix(':');
        } else if let Some(version) = line.strip_prefix("  Candidate: ")
            && let Some(package) = package
            && version != "(none)"
        {
            candidates.insert(package.to_owned(), version.to_owned());
        }
    }
    candidates
}

/// The names of real packages after `Depends:` in `apt-cache depends`.
fn parse_depends(listing: &str) -> Vec<String> {
    let names =
        listing.lines().filter_map(|line| line.trim_start_matches([' ', '|']).strip_prefix("Depends: "));
    names.filter(|name| !name.starts_with('<')).map(str::to_owned).collect()
}

/// The names of the packages that `apt-get --simulate install` would unpack.
fn parse_simulation(simulation: &str) -> Vec<String> {
    let installed = simulation.lines().filter_map(|line| line.strip_prefix("Inst "));
    installed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_lists_only_what_is_offered() {
        let policy = "\
busybox-static:
  Installed: (none)
  Candidate: 1:1.35.0-4
  Version table:
     1:1.35.0-4 500
        500 http://mirror.example/debian bookworm/main amd64 Packages
libfoo:
  Installed: (none)
  Candidate: (none)
  Version table:
";
        let expected = BTreeMap::from([("busybox-static".to_owned(), "1:1.35.0-4".to_owned())]);
        assert_eq!(parse_policy(policy), expected);
    }

    #[test]
    fn dependencies_are_read() {
        let listing = "\
rustc-web
  Depends: libc6
 |Depends: gcc
  Depends: <libc-dev>
    libc6-dev
  Conflicts: rustc
";
        assert_eq!(parse_depends(listing), ["libc6", "gcc"]);
    }

    #[test]
    fn simulation_names_what_would_be_unpacked() {
        let simulation = "\
NOTE: This is only a simulation!
Remv busybox [1:1.35.0-4]
Inst libnl-3-200 (3.7.0-0.2+b1 Debian:12.15/oldstable [amd64])
Inst ipvsadm [1:1.31-1] (1:1.31-1+b1 Debian:12.15/oldstable [amd64])
Conf libnl-3-200 (3.7.0-0.2+b1 Debian:12.15/oldstable [amd64])
";
        assert_eq!(parse_simulation(simulation), ["libnl-3-200", "ipvsadm"]);
    }
}
