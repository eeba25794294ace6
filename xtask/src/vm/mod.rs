//! Running a command in a virtual machine whose kernel has IPVS.
//!
//! The guest's root is the host's `/`, read-only, below an overlay in memory: it has the host's programs and the
//! repository at the same paths, and nothing that it writes lasts, but for one directory of results.

mod busybox;
mod cpio;
mod emulator;
mod image;
mod initramfs;
pub(crate) mod kernel;
mod modules;
mod qemu;
mod stream;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::process::quoted;
use crate::{paths, tools};

pub(crate) use busybox::{get as get_busybox, is_there as busybox_is_there};
pub(crate) use emulator::{find as find_emulator, get as get_emulator};

/// How the VM measures time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Clock {
    /// As the host does: fast, and noisy.
    #[default]
    Host,
    /// By counting instructions, on one CPU: repeatable, whatever else the host does.
    Instructions,
}

/// What kind of machine a command gets.
#[derive(Debug, Clone)]
pub(crate) struct VmOptions {
    pub(crate) kernel: kernel::Line,
    pub(crate) clock: Clock,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    /// How long the machine may run, boot included.
    pub(crate) timeout: Duration,
    /// A directory of the host that the command can write to: `$LVS_OUT` in the guest.
    pub(crate) out: Option<PathBuf>,
    /// Let the kernel say everything, and show it at the end.
    pub(crate) verbose: bool,
    /// Variables for the command, above those that it gets from us (see [`run`]).
    pub(crate) environment: Vec<(OsString, OsString)>,
}

impl Default for VmOptions {
    fn default() -> Self {
        Self {
            kernel: kernel::DEFAULT,
            clock: Clock::default(),
            memory_mib: 1024,
            cpus: 2,
            timeout: Duration::from_mins(10),
            out: None,
            verbose: false,
            environment: Vec::new(),
        }
    }
}

/// Where a command's output goes.
pub(crate) struct Streams<'a> {
    pub(crate) out: &'a mut (dyn Write + Send),
    pub(crate) err: &'a mut (dyn Write + Send),
}

/// How a machine's run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The command ended with this status.
    Command(i32),
    /// The machine was still at it when its time was over.
    TimedOut,
    /// The machine stopped without telling how the command ended.
    Died,
}

/// Where the guest finds the directory of results.
const GUEST_OUT: &str = "/run/lvs/out";

/// Variables of ours that a command in the guest gets; those that begin with `LVS_` besides.
const HANDED_ON: &[&str] = &["CI", "HOME", "LANG", "PROPTEST_CASES", "RUST_BACKTRACE", "RUST_LOG", "USER"];

/// Runs a command at the repository's root in a VM and returns its exit status (128 + N after signal N, as in a shell).
///
/// It sees the host's files, runs as root, and has the tools for tests on `PATH`. The kernel has loaded `ip_vs` and
/// loads what else is asked for.
pub(crate) fn run(
    cache: &Cache,
    options: &VmOptions,
    command: &[OsString],
    streams: Streams<'_>,
) -> Result<i32> {
    let run =
        tempfile::Builder::new().prefix("lvs-vm-").tempdir().context("cannot make a temporary directory")?;
    fs::write(run.path().join("command"), script(&environment(cache, options)?, command))?;
    let kernel = kernel::get(cache, options.kernel)?;
    let initramfs = initramfs::get(cache, &kernel)?;
    let emulator = emulator::get(cache)?;
    let machine = qemu::Machine {
        emulator: &emulator,
        kernel: &kernel,
        initramfs: &initramfs,
        directory: run.path(),
        options,
    };
    let outcome = machine.run(streams)?;

    let log = fs::read(run.path().join(qemu::LOG)).unwrap_or_default();
    if options.verbose || !matches!(outcome, Outcome::Command(_)) {
        show_log(&log)?;
    }
    match outcome {
        Outcome::Command(status) => Ok(status),
        Outcome::TimedOut => bail!(
            "the VM was ended: the command didn't finish within {} seconds (--timeout gives it more)",
            options.timeout.as_secs()
        ),
        Outcome::Died => bail!("the VM stopped before the command did; its kernel's log is above"),
    }
}

/// Runs a command in a VM with our own standard streams.
pub(crate) fn run_on_terminal(cache: &Cache, options: &VmOptions, command: &[OsString]) -> Result<i32> {
    run(cache, options, command, Streams { out: &mut io::stdout(), err: &mut io::stderr() })
}

fn show_log(log: &[u8]) -> Result<()> {
    let mut err = io::stderr().lock();
    writeln!(err, "--- the VM's kernel said:")?;
    err.write_all(log)?;
    writeln!(err, "---")?;
    Ok(())
}

/// The command's variables; a later one overrides an earlier.
fn environment(cache: &Cache, options: &VmOptions) -> Result<Vec<(OsString, OsString)>> {
    let handed_on = |name: &OsStr| {
        let ours = name.as_bytes().starts_with(b"LVS_") && name != "LVS_OUT";
        ours || HANDED_ON.iter().any(|known| name == *known)
    };
    let mut variables: Vec<_> = env::vars_os().filter(|(name, _)| handed_on(name)).collect();
    let tools = tools::for_tests(cache)?.environment()?;
    for (name, mut value) in tools {
        if name == "PATH" {
            // A user's path may lack what root needs, and the command runs as root.
            value.push(":/usr/local/sbin:/usr/sbin:/sbin");
        }
        variables.push((name.into(), value));
    }
    variables.push(("LVS_OUT".into(), GUEST_OUT.into()));
    variables.extend(options.environment.iter().cloned());
    Ok(variables)
}

/// A shell script that becomes the command.
fn script(environment: &[(OsString, OsString)], command: &[OsString]) -> Vec<u8> {
    let mut script = Vec::new();
    for (name, value) in environment {
        script.extend_from_slice(b"export ");
        script.extend_from_slice(name.as_bytes());
        script.push(b'=');
        script.extend_from_slice(&quoted(value));
        script.push(b'\n');
    }
    script.extend_from_slice(b"cd ");
    script.extend_from_slice(&quoted(paths::repository().as_os_str()));
    script.extend_from_slice(b" || exit 127\nexec");
    for word in command {
        script.push(b' ');
        script.extend_from_slice(&quoted(word));
    }
    script.push(b'\n');
    script
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_script_keeps_words_and_variables_whole() {
        let environment = [("LVS_X".into(), "it's $HOME\nand more".into())];
        let command = ["printf", "%s|", "a b", "$LVS_X", "'"].map(OsString::from);
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(OsStr::from_bytes(&script(&environment, &command)));
        assert_eq!(crate::process::output(&mut shell).expect("runs"), "a b|$LVS_X|'|");

        let print = ["printenv", "LVS_X"].map(OsString::from);
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(OsStr::from_bytes(&script(&environment, &print)));
        assert_eq!(crate::process::output(&mut shell).expect("runs"), "it's $HOME\nand more\n");
    }
}
