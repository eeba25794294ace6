//! The Debian package: what dpkg must know beside the files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::layout::{DOCUMENTS, Tree, compress, set_modes, write};
use super::{MAINTAINER, Release, changelog, shared};
use crate::paths;
use crate::process::{self, output, run};

/// Debian's name for x86-64, which is what the agent is for.
const ARCHITECTURE: &str = "amd64";

/// Run by dpkg: sources are in `contrib/debian`.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Packs the tree; what is only for dpkg goes into it, below `DEBIAN`.
pub(super) fn pack(tree: &Tree, release: &Release, out: &Path) -> Result<PathBuf> {
    let sources = paths::repository().join("contrib/debian");
    let read =
        |path: PathBuf| fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()));
    let documents = tree.root.join(DOCUMENTS);
    let changes = read(paths::repository().join("CHANGELOG.md"))?;
    let changelog_file = documents.join("changelog");
    write(&changelog_file, changelog::debian(&changes, release)?.as_bytes())?;
    compress(&changelog_file)?;
    let mit = read(paths::repository().join("LICENSE-MIT"))?;
    write(&documents.join("copyright"), copyright(&read(sources.join("copyright"))?, &mit).as_bytes())?;

    let control = tree.root.join("DEBIAN");
    let size = installed_size(&tree.root)?;
    let text = control_file(release, &shared::glibc(&tree.agent)?, size);
    write(&control.join("control"), text.as_bytes())?;
    write(&control.join("conffiles"), CONFIGURATION.as_bytes())?;
    write(&control.join("md5sums"), md5sums(&tree.root)?.as_bytes())?;
    for script in SCRIPTS {
        write(&control.join(script), read(sources.join(script))?.as_bytes())?;
        fs::set_permissions(control.join(script), Permissions::from_mode(0o755))?;
    }
    set_modes(&tree.root)?;
    let file = out.join(format!("lvs-agent_{}_{ARCHITECTURE}.deb", release.version));
    let mut dpkg = process::command("dpkg-deb");
    // One thread: several may cut the data otherwise on a machine with another number of cores.
    dpkg.env("SOURCE_DATE_EPOCH", release.epoch.to_string()).args(["--root-owner-group", "--threads-max=1"]);
    run(dpkg.args(["-Zxz", "--build"]).arg(&tree.root).arg(&file).stdout(std::process::Stdio::null()))?;
    Ok(file)
}

/// Files that an upgrade leaves as the administrator has changed them.
const CONFIGURATION: &str = "/etc/logrotate.d/lvs-agent\n/etc/lvs-agent/lvs-agent.toml\n";

fn control_file(release: &Release, glibc: &str, size: u64) -> String {
    let version = &release.version;
    format!(
        "Package: lvs-agent\n\
         Version: {version}\n\
         Architecture: {ARCHITECTURE}\n\
         Maintainer: {MAINTAINER}\n\
         Installed-Size: {size}\n\
         Depends: libc6 (>= {glibc}), libgcc-s1 (>= 4.2), systemd | systemd-standalone-sysusers | systemd-sysusers\n\
         Recommends: ca-certificates, kmod, systemd\n\
         Suggests: ipvsadm, prometheus\n\
         Section: net\n\
         Priority: optional\n\
         Description: health checker for LVS directors\n \
         Checks the real servers of Linux IPVS (LVS) and keeps those that fail out\n \
         of the kernel's table. Beside checks as ldirectord and keepalived make\n \
         them it watches the traffic itself by eBPF: a server that stops answering\n \
         its clients is a suspicion, which probes confirm within some tens of\n \
         milliseconds.\n .\n \
         It reads configurations of ldirectord. As it is installed it observes: it\n \
         checks the servers of the kernel's table and shows what it would do.\n"
    )
}

/// In KiB, as dpkg counts: each file by itself, rounded up.
fn installed_size(root: &Path) -> Result<u64> {
    const KIB: u64 = 1024;
    let mut sum = 0;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum +=
            if metadata.is_dir() { 1 + installed_size(&entry.path())? } else { metadata.len().div_ceil(KIB) };
    }
    Ok(sum)
}

/// The sums of all files, by which `dpkg --verify` finds changed ones.
fn md5sums(root: &Path) -> Result<String> {
    let mut find = process::command("find");
    find.current_dir(root).args([".", "-path", "./DEBIAN", "-prune", "-o", "-type", "f", "-print"]);
    let listing = output(&mut find)?;
    let mut files: Vec<&str> = listing
        .lines()
        .filter_map(|line| line.strip_prefix("./"))
        .filter(|file| !file.starts_with("etc/"))
        .collect();
    files.sort_unstable();
    output(process::command("md5sum").current_dir(root).args(files))
}

/// The copyright file, with the text of the licence that Debian doesn't have on every machine.
fn copyright(head: &str, mit: &str) -> String {
    let permission = mit.find("Permission is hereby granted").map_or(mit, |at| &mit[at..]);
    let lines = permission
        .trim_end()
        .lines()
        .map(|line| if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") });
    head.trim_end().to_owned() + "\n\nLicense: MIT\n" + &lines.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_file_has_no_empty_line() {
        let release = Release { version: "0.1.0".into(), epoch: 0 };
        let text = control_file(&release, "2.34", 7);
        assert!(text.lines().all(|line| !line.is_empty() && !line.starts_with("  ")), "{text}");
        assert!(text.contains("Depends: libc6 (>= 2.34), "));
    }

    #[test]
    fn the_licence_is_a_paragraph_of_the_copyright() {
        let text = copyright(
            "Format: x\n",
            "MIT License\n\nCopyright y\n\nPermission is hereby granted, z\n\nend\n",
        );
        assert_eq!(text, "Format: x\n\nLicense: MIT\n Permission is hereby granted, z\n .\n end\n");
    }
}
