//! Starting a program as an ordinary user with just the capabilities that the agent's documentation asks for, as a
//! service manager does.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// A user and group that nothing else has.
pub const USER: u32 = 64_533;
/// What the agent has (docs/security.md).
pub const CAPABILITIES: &[&str] = &["net_admin", "net_raw", "bpf", "perfmon"];
/// The same as bits (`linux/capability.h`).
pub const CAPABILITY_BITS: u64 = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;
/// The environment variable that has all agents of the lab started so that say nothing else.
const VARIABLE: &str = "LVS_AS_USER";
/// The agent's folder in `/run`, which a service manager makes for it (`RuntimeDirectory`).
const RUNTIME_DIRECTORY: &str = "/run/lvs-agent";

/// Whom a program runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// Root, with all that it may do.
    Root,
    /// [`USER`] with [`CAPABILITIES`].
    Unprivileged,
}

impl Account {
    /// What agents run as unless a scenario says otherwise: root, or with `LVS_AS_USER=1` the user.
    #[must_use]
    pub fn usual() -> Self {
        if env::var_os(VARIABLE).is_some_and(|value| !value.is_empty() && value != "0") {
            Self::Unprivileged
        } else {
            Self::Root
        }
    }

    /// The words before the program's: nothing for root.
    #[must_use]
    pub fn wrapper(self) -> Vec<OsString> {
        if self == Self::Root {
            return Vec::new();
        }
        let list: String = CAPABILITIES.iter().flat_map(|name| [",+", name]).collect();
        let words = [
            // `LimitMEMLOCK=infinity`: before Linux 5.11 eBPF maps count as locked memory.
            "prlimit".to_owned(),
            "--memlock=unlimited:unlimited".to_owned(),
            "setpriv".to_owned(),
            format!("--reuid={USER}"),
            format!("--regid={USER}"),
            "--clear-groups".to_owned(),
            format!("--bounding-set=-all{list}"),
            format!("--inh-caps=-all{list}"),
            format!("--ambient-caps=-all{list}"),
        ];
        words.map(OsString::from).to_vec()
    }

    /// Makes the agent's runtime directory its own with what is left there, as a service manager does, and these files
    /// as well.
    pub fn own(self, files: &[&Path]) -> Result<()> {
        fs::create_dir_all(RUNTIME_DIRECTORY).context(RUNTIME_DIRECTORY)?;
        fs::set_permissions(RUNTIME_DIRECTORY, fs::Permissions::from_mode(0o700))?;
        let user = if self == Self::Root { 0 } else { USER };
        let left =
            fs::read_dir(RUNTIME_DIRECTORY)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        let directory = Path::new(RUNTIME_DIRECTORY);
        for file in left.iter().map(PathBuf::as_path).chain([directory]).chain(files.iter().copied()) {
            chown(file, Some(user), Some(user)).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }

    /// The program, where this account can start it: a copy in `folder` if the way to it is closed to others.
    pub fn reach(self, program: &Path, folder: &TempDir) -> Result<PathBuf> {
        let is_open = |folder: &Path| {
            fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
        };
        let program = fs::canonicalize(program).with_context(|| program.display().to_string())?;
        if self == Self::Root || program.ancestors().skip(1).all(is_open) {
            return Ok(program);
        }
        let copy = folder.path().join(program.file_name().context("a program's name")?);
        fs::copy(&program, &copy).with_context(|| copy.display().to_string())?;
        Ok(copy)
    }
}
