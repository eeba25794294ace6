//! What is handed out, laid out as it is installed: below one folder, `usr/…` and `etc/…`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{MANUAL, Release, sbom};
use crate::paths;
use crate::process::{self, run};

/// Where documents are.
pub(super) const DOCUMENTS: &str = "usr/share/doc/lvs-agent";

/// What is taken from the repository as it is, and where it goes.
const FILES: &[(&str, &str)] = &[
    ("contrib/systemd/lvs-agent.service", "usr/lib/systemd/system/lvs-agent.service"),
    ("contrib/systemd/sysusers.conf", "usr/lib/sysusers.d/lvs-agent.conf"),
    ("contrib/systemd/commands.conf", "usr/share/doc/lvs-agent/examples/commands.conf"),
    ("contrib/lvs-agent.toml", "etc/lvs-agent/lvs-agent.toml"),
    ("contrib/logrotate", "etc/logrotate.d/lvs-agent"),
    ("lvs-agent/src/config/native/example.toml", "usr/share/doc/lvs-agent/examples/lvs-agent.toml"),
    ("README.md", "usr/share/doc/lvs-agent/README.md"),
];

/// The same of what is run.
const PROGRAMS: &[(&str, &str)] = &[("contrib/ocf/lvs-agent", "usr/lib/ocf/resource.d/lvs-agent/lvs-agent")];

/// Folders that are taken whole, if they are there.
const FOLDERS: &[(&str, &str)] = &[
    ("docs", DOCUMENTS),
    ("contrib/mixin", "usr/share/lvs-agent/mixin"),
    ("contrib/high-availability", "usr/share/doc/lvs-agent/examples/high-availability"),
];

/// What of those folders is for people who change the code, or doesn't belong to what is installed.
const LEFT_OUT: &[&str] = &["measurements", "images", "architecture.md", "development.md", "scenarios.md"];

/// Where the shells look for completions, below the folder that `lvs-manual` fills.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions"),
    ("zsh", "usr/share/zsh/vendor-completions"),
    ("fish", "usr/share/fish/vendor_completions.d"),
];

/// The files of a release, below one folder.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: PathBuf,
    /// The program in it.
    pub(super) agent: PathBuf,
}

impl Tree {
    /// Puts everything in its place below `stage`.
    pub(super) fn lay_out(stage: &Path, agent: &Path, release: &Release) -> Result<Self> {
        let root = stage.join("tree");
        let program = root.join("usr/sbin/lvs-agent");
        install(agent, &program)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        for (from, to) in FILES {
            install(&paths::repository().join(from), &root.join(to))?;
        }
        for (from, to) in PROGRAMS {
            let to = root.join(to);
            install(&paths::repository().join(from), &to)?;
            fs::set_permissions(&to, Permissions::from_mode(0o755))?;
        }
        for (from, to) in FOLDERS {
            let from = paths::repository().join(from);
            if from.is_dir() {
                install_folder(&from, &root.join(to))?;
            }
        }
        manual(&agent.with_file_name(MANUAL), stage, &root)?;
        write(&root.join(DOCUMENTS).join("sbom.cdx.json"), sbom::text(release)?.as_bytes())?;
        set_modes(&root)?;
        Ok(Self { root, agent: program })
    }
}

/// The manual pages and completions.
fn manual(writer: &Path, stage: &Path, root: &Path) -> Result<()> {
    let written = stage.join("manual");
    run(process::command(writer).arg(&written))?;
    for page in fs::read_dir(written.join("man"))? {
        let page = page?.path();
        let section = page.extension().unwrap_or_default().to_string_lossy().into_owned();
        let to = root.join(format!("usr/share/man/man{section}")).join(page.file_name().unwrap_or_default());
        install(&page, &to)?;
        compress(&to)?;
    }
    for (shell, to) in COMPLETIONS {
        install_folder(&written.join(shell), &root.join(to))?;
    }
    Ok(())
}

/// Compresses a file in its place: neither its name nor a time goes in.
pub(super) fn compress(path: &Path) -> Result<()> {
    run(process::command("gzip").args(["--best", "--no-name", "--force"]).arg(path))
}

fn install_folder(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            install_folder(&entry.path(), &to.join(name))?;
        } else {
            install(&entry.path(), &to.join(name))?;
        }
    }
    Ok(())
}

/// Copies a file's content.
pub(super) fn install(from: &Path, to: &Path) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    write(to, &content)
}

/// Writes a file, and makes the folders that lead to it.
pub(super) fn write(to: &Path, content: &[u8]) -> Result<()> {
    let folder = to.parent().with_context(|| format!("{} is in no folder", to.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(to, content).with_context(|| format!("cannot write {}", to.display()))
}

/// Lets everybody read all of it, and nobody but the owner write, whatever this user's umask is.
pub(super) fn set_modes(root: &Path) -> Result<()> {
    run(process::command("chmod").args(["--recursive", "u=rwX,go=rX"]).arg(root))
}
