//! Where the programs are that the lab starts, and those that it writes.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The environment variable that names the agent's program.
pub const AGENT_VARIABLE: &str = "LVS_AGENT";

/// The agent: `$LVS_AGENT`, or the one in the same build folder as the running program.
pub fn agent() -> Result<PathBuf> {
    match env::var_os(AGENT_VARIABLE) {
        Some(path) => Ok(path.into()),
        None => beside("lvs-agent")
            .with_context(|| format!("build it (cargo build -p lvs-agent) or name it by {AGENT_VARIABLE}")),
    }
}

/// The real server's program.
pub fn server() -> Result<PathBuf> {
    beside("lvs-lab-server").context("build it: cargo build -p lvs-tests")
}

/// The crowd's program.
pub fn crowd() -> Result<PathBuf> {
    beside("lvs-lab-crowd").context("build it: cargo build -p lvs-tests")
}

/// The stand-in for ipvsadm.
pub fn fake_ipvsadm() -> Result<PathBuf> {
    beside("lvs-lab-ipvsadm").context("build it: cargo build -p lvs-tests")
}

/// Writes a program for a shell that everybody may run.
pub fn write_script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(|| path.display().to_string())
}

/// The program of that name in the folder of the running one, or in the folder above for a test in `deps`.
fn beside(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find the running program")?;
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("there is no {name} beside {}", own.display()))
}
