//! The kernels that the VM can boot: Debian's, unpacked into the cache.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use super::{busybox, image};
use crate::apt::Apt;
use crate::cache::Cache;
use crate::packages::Unpacked;
use crate::process::{self, run};
use crate::toolchain::numbers;

/// A line of kernels, such as 6.1; the newest release of it that Debian offers is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    major: u32,
    minor: u32,
}

/// The kernel of Debian 12, which is used unless another is asked for.
pub(crate) const DEFAULT: Line = Line { major: 6, minor: 1 };

/// The lines that are tested, oldest first, and Debian's suite of each.
pub(crate) const TESTED: [(Line, &str); 4] = [
    (Line { major: 5, minor: 10 }, "bullseye"),
    (DEFAULT, "bookworm"),
    (Line { major: 6, minor: 12 }, "bookworm-backports"),
    (Line { major: 7, minor: 2 }, "sid"),
];

/// What is kept of a kernel's modules: these directories and, of `drivers/net`, what isn't a driver for hardware.
/// The rest is nine tenths of the size.
const KEPT: &[&str] = &[
    "arch",
    "crypto",
    "lib",
    "net",
    "fs/9p",
    "fs/fscache",
    "fs/netfs",
    "fs/overlayfs",
    "drivers/char/hw_random",
    "drivers/char/virtio_console.ko",
    "drivers/net/bonding",
    "drivers/net/ipvlan",
    "drivers/net/vxlan",
    "drivers/virtio",
];

/// An unpacked kernel.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    directory: PathBuf,
    /// The full release, as `uname -r` prints it.
    pub(crate) release: String,
}

impl Kernel {
    /// The bootable image.
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join(IMAGE)
    }

    /// The directory that belongs at `/lib/modules/RELEASE`.
    pub(crate) fn modules(&self) -> PathBuf {
        self.directory.join("lib/modules").join(&self.release)
    }
}

/// The name of the image in the entry.
const IMAGE: &str = "kernel";

/// The kernel, downloaded unless it is there already.
pub(crate) fn get(cache: &Cache, line: Line) -> Result<Kernel> {
    if let Some(kernel) = get_if_there(cache, line) {
        return Ok(kernel);
    }
    // Before the kernel's own entry: an entry can't be asked for while another is filled.
    let busybox = busybox::get(cache)?;
    let decompressors = cache.packages(image::DECOMPRESSORS)?;
    let fill = |directory: &Path| {
        println!("Getting a kernel {line} …");
        let (apt, package) = find(cache, line)?;
        let unpacked = tempfile::tempdir_in(directory)?;
        apt.unpack(&with_parts(&apt, package)?, unpacked.path())?;
        keep(unpacked.path(), directory, &decompressors)?;
        index_modules(directory, &busybox, &decompressors)
    };
    let directory =
        cache.get_or_fill(&entry(line), |_| true, fill).with_context(|| format!("no kernel {line}"))?;
    open(directory)
}

/// The kernel, if it is there already.
pub(crate) fn get_if_there(cache: &Cache, line: Line) -> Option<Kernel> {
    open(cache.entry(&entry(line))).ok()
}

fn entry(line: Line) -> String {
    format!("kernels/{line}")
}

fn open(directory: PathBuf) -> Result<Kernel> {
    let release = release_in(&directory.join("lib/modules"))?;
    Ok(Kernel { directory, release })
}

/// The name of the one directory in `lib/modules`.
fn release_in(modules: &Path) -> Result<String> {
    let mut names = fs::read_dir(modules).with_context(|| format!("cannot read {}", modules.display()))?;
    let name = names.next().with_context(|| format!("nothing in {}", modules.display()))??.file_name();
    Ok(name.to_string_lossy().into_owned())
}

/// The archive that offers a line, and the name of the newest image package there: this machine's own sources first.
fn find(cache: &Cache, line: Line) -> Result<(Apt, String)> {
    let own = Apt::system(cache)?;
    if let Some(image) = newest(&own.names(&line.prefix())?, line) {
        return Ok((own, image));
    }
    // A line that isn't in the list can only be a newer one.
    let suite = TESTED.iter().find(|(tested, _)| *tested == line).map_or("sid", |(_, suite)| suite);
    let apt = Apt::suite(cache, suite)?;
    match newest(&apt.names(&line.prefix())?, line) {
        Some(image) => Ok((apt, image)),
        None => bail!("Debian's suite {suite} offers no package {}…", line.prefix()),
    }
}

/// An image package, and the packages of the same release that newer kernels have split off from it.
fn with_parts(apt: &Apt, image: String) -> Result<Vec<String>> {
    let release = image.strip_prefix("linux-image").unwrap_or(&image).to_owned();
    let depends = apt.dependencies(&image)?;
    Ok(depends.into_iter().filter(|name| name.ends_with(&release)).chain([image]).collect())
}

/// The newest of a line's generic image packages among package names: no debug symbols, not unsigned, and neither the
/// real-time nor the cloud flavour (which has no 9p).
fn newest(names: &[String], line: Line) -> Option<String> {
    let version = |name: &String| {
        let version = name.strip_prefix("linux-image-")?.strip_suffix("-amd64")?;
        let flavoured = version.split('-').skip(1).any(|part| part.contains(|c: char| c.is_alphabetic()));
        let numbers = numbers(version);
        (!flavoured && numbers.starts_with(&[line.major, line.minor])).then_some(numbers)
    };
    let images = names.iter().filter_map(|name| Some((version(name)?, name)));
    images.max().map(|(_, name)| name.clone())
}

/// Moves the image and the wanted modules out of unpacked packages.
fn keep(unpacked: &Path, directory: &Path, decompressors: &Unpacked) -> Result<()> {
    let modules = ["lib/modules", "usr/lib/modules"].map(|place| unpacked.join(place));
    let modules = modules.iter().find(|place| place.is_dir()).context("the package has no modules")?;
    let release = release_in(modules)?;
    let from = modules.join(&release);
    let images = [from.join("vmlinuz"), unpacked.join("boot").join(format!("vmlinuz-{release}"))];
    let image = images.iter().find(|image| image.is_file()).context("the package has no image")?;
    image::unpack(image, &directory.join(IMAGE), decompressors)?;

    let to = directory.join("lib/modules").join(&release);
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        rename(&from.join(list), &to.join(list))?;
    }
    for kept in KEPT {
        let place = from.join("kernel").join(kept);
        for place in [place.with_added_extension("xz"), place] {
            if place.exists() {
                rename(&place, &to.join(place.strip_prefix(&from)?))?;
            }
        }
    }
    let drivers = from.join("kernel/drivers/net");
    for driver in fs::read_dir(&drivers).with_context(|| format!("cannot read {}", drivers.display()))? {
        let driver = driver?;
        if driver.file_type()?.is_file() {
            rename(&driver.path(), &to.join("kernel/drivers/net").join(driver.file_name()))?;
        }
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::rename(from, to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
}

/// Unpacks compressed modules, so that no boot has to, and writes the index that `modprobe` reads.
fn index_modules(directory: &Path, busybox: &Path, decompressors: &Unpacked) -> Result<()> {
    let compressed = find_files(directory, "xz")?;
    if !compressed.is_empty() {
        let mut xz = process::command("xz");
        run(xz.envs(decompressors.environment()?).arg("--decompress").args(compressed))?;
    }
    let release = release_in(&directory.join("lib/modules"))?;
    let mut depmod = process::command(busybox);
    run(depmod.args(["depmod", "-a", "-b"]).arg(directory).arg(release))
}

/// All files below a directory with an extension.
fn find_files(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else if entry.path().extension().is_some_and(|other| other == extension) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Reads a list of lines: `all` that are tested, or such as `5.10,6.1`.
pub(crate) fn list(text: &str) -> Result<Vec<Line>> {
    if text == "all" {
        return Ok(TESTED.map(|(line, _)| line).to_vec());
    }
    text.split(',').map(|line| line.trim().parse().map_err(anyhow::Error::msg)).collect()
}

impl Line {
    fn prefix(self) -> String {
        format!("linux-image-{self}.")
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts =
            text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let (major, minor) =
            parts.ok_or_else(|| format!("not a line of kernels, such as {DEFAULT}: {text}"))?;
        Ok(Self { major, minor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest_of(names: &[&str], line: &str) -> Option<String> {
        let names: Vec<String> = names.iter().map(|name| format!("linux-image-{name}")).collect();
        let newest = newest(&names, line.parse().expect("a line"))?;
        newest.strip_prefix("linux-image-").map(str::to_owned)
    }

    #[test]
    fn the_newest_generic_image_is_picked() {
        let debian_12 = [
            "6.1.0-9-amd64",
            "6.1.0-56-amd64",
            "6.1.0-47-amd64",
            "6.1.0-57-amd64-unsigned",
            "6.1.0-57-amd64-dbg",
            "6.1.0-57-cloud-amd64",
            "6.1.0-57-rt-amd64",
            "6.12.99+deb12-amd64",
        ];
        assert_eq!(newest_of(&debian_12, "6.1").as_deref(), Some("6.1.0-56-amd64"));
        let backports = ["6.12.90+deb12-amd64", "6.12.90+deb12.1-amd64", "6.12.9+deb12-amd64"];
        assert_eq!(newest_of(&backports, "6.12").as_deref(), Some("6.12.90+deb12.1-amd64"));
        let rt = ["6.12.95+deb12-rt-amd64", "6.12.95+deb12-cloud-amd64"];
        assert_eq!(newest_of(&rt, "6.12"), None);
        assert_eq!(newest_of(&["7.2.13+deb14-amd64"], "7.2").as_deref(), Some("7.2.13+deb14-amd64"));
        assert_eq!(newest_of(&["6.10.1-amd64"], "6.1"), None);
    }

    #[test]
    fn lines_are_read_and_shown() {
        for text in ["6.1", "5.10", "7.2"] {
            assert_eq!(text.parse::<Line>().expect("a line").to_string(), text);
        }
        for text in ["6", "six.one", "6.1.2", ""] {
            assert!(text.parse::<Line>().is_err(), "{text}");
        }
        assert_eq!(list("all").expect("a list").len(), TESTED.len());
        assert_eq!(list("6.1, 5.10").expect("a list"), [DEFAULT, TESTED[0].0]);
        assert!(list("6.1,").is_err());
        let mut lines = TESTED.map(|(line, _)| line);
        lines.sort_unstable();
        assert_eq!(lines, TESTED.map(|(line, _)| line), "oldest first");
    }
}
