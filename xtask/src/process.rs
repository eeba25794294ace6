//! Starting other programs: a clean environment for them, and errors that name the command line.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// Variables that `cargo run` sets for us and that would confuse a cargo that we start.
const SET_BY_CARGO: &[&str] = &[
    "CARGO",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
    "RUST_RECURSION_COUNT",
];

/// Variables that choose the compiler: wrong for a command that brings its own.
const CHOOSE_COMPILER: &[&str] = &[
    "RUSTC",
    "RUSTDOC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
];

/// A command without the variables that the outer `cargo run` has added for this process.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let package = name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_"));
        if package || SET_BY_CARGO.iter().any(|set| name == *set) {
            command.env_remove(name);
        }
    }
    match env::var_os("LD_LIBRARY_PATH").and_then(|path| users_libraries(&path)) {
        Some(path) => command.env("LD_LIBRARY_PATH", path),
        None => command.env_remove("LD_LIBRARY_PATH"),
    };
    command
}

/// The cargo that runs this program, at the root of the repository, for the workspace's ordinary packages.
pub(crate) fn cargo() -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = command(program);
    cargo.current_dir(crate::paths::repository());
    cargo
}

/// A command that brings its own compiler: nothing of the outer toolchain may reach it.
pub(crate) fn foreign_cargo(program: &Path) -> Command {
    let mut cargo = command(program);
    for name in CHOOSE_COMPILER {
        cargo.env_remove(name);
    }
    cargo.current_dir(crate::paths::repository());
    cargo
}

/// The library path as the user has set it: without the directories that `cargo run` has put in front.
pub(crate) fn users_libraries(path: &OsStr) -> Option<OsString> {
    let target = crate::paths::target();
    let kept: Vec<PathBuf> = env::split_paths(path)
        .filter(|entry| !entry.starts_with(&target) && !entry.join("rustlib").exists())
        .filter(|entry| !entry.as_os_str().is_empty())
        .collect();
    if kept.is_empty() { None } else { env::join_paths(kept).ok() }
}

/// Runs a command with our own standard streams; a failure is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// Runs a command with our own standard streams and returns how it ended.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("cannot start `{}`", line(command)))
}

/// Runs a command and returns its standard output; a failure is an error that shows its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    command.stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}):\n{}", line(command), output.status, said.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command can be started and succeeds; what it prints is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The full path of a program on `PATH`, or in the directories for administrators that a user's `PATH` often lacks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// A command as a user would type it, for messages.
pub(crate) fn line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&String::from_utf8_lossy(&quoted(argument)));
    }
    line
}

/// A word as a POSIX shell reads it back unchanged.
pub(crate) fn quoted(word: &OsStr) -> Vec<u8> {
    let bytes = word.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-+./:=@%,^".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return bytes.to_vec();
    }
    let mut quoted = vec![b'\''];
    for &byte in bytes {
        match byte {
            b'\'' => quoted.extend_from_slice(br"'\''"),
            other => quoted.push(other),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        for word in ["plain", "", "two words", "it's", "$HOME `x` \"y\" \\ \n*", "a=b", "~"] {
            let script = [b"printf %s ".as_slice(), &quoted(OsStr::new(word))].concat();
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg(OsStr::from_bytes(&script));
            let back = output(&mut shell).expect("sh runs");
            assert_eq!(back, word);
        }
    }

    #[test]
    fn cargos_own_libraries_are_taken_out() {
        let own = crate::paths::target().join("debug/deps");
        let path = env::join_paths([own.as_path(), Path::new("/opt/x/lib")]).expect("no colon in it");
        assert_eq!(users_libraries(&path), Some("/opt/x/lib".into()));
        assert_eq!(users_libraries(own.as_os_str()), None);
    }
}
