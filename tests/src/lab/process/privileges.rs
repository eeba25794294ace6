//! Takes a running process its privileges, and gives them back.
//!
//! Only a thread itself can change its capabilities (capabilities(7)), so each is stopped where it waits in a system
//! call and made to call capset(2): with ptrace(2), on `x86_64`.

use std::{fs, mem::size_of};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    libc::{SYS_capset, c_long, user_regs_struct},
    sys::{
        ptrace,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`.
const VERSION: u32 = 0x2008_0522;
/// What lies below a stack's end may be in use: 128 bytes, by the System V ABI.
const RED_ZONE: u64 = 128;
/// The instruction `syscall`, and its length.
const INSTRUCTION: c_long = 0x050f;
const SYSCALL: u64 = 2;
/// How often it is tried to meet a thread in a system call.
const TRIES: usize = 1000;
/// Room for `__user_cap_header_struct` and two `__user_cap_data_struct`.
const WORDS: usize = 4;

/// Capabilities of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// None is in force; they may be taken up again.
    None,
    /// All that it was allowed.
    All,
}

/// Has all threads of a process use these privileges from now on.
pub fn set_privileges(process: Pid, privileges: Privileges) -> Result<()> {
    for entry in fs::read_dir(format!("/proc/{process}/task"))? {
        let thread = entry?.file_name().to_string_lossy().parse().map(Pid::from_raw)?;
        set_of_thread(thread, privileges)
            .with_context(|| format!("cannot set the privileges of thread {thread}"))?;
    }
    Ok(())
}

fn set_of_thread(thread: Pid, privileges: Privileges) -> Result<()> {
    let permitted = permitted(thread)?;
    let effective = if privileges == Privileges::All { permitted } else { 0 };
    for _ in 0..TRIES {
        ptrace::attach(thread)?;
        let done = wait_for_stop(thread).and_then(|()| capset(thread, effective, permitted));
        // Whatever became of it: it goes on.
        ptrace::detach(thread, None)?;
        if done? {
            return Ok(());
        }
    }
    bail!("it is never in a system call")
}

/// The capabilities that a thread may take up.
fn permitted(thread: Pid) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).context("CapPrm")?;
    Ok(u64::from_str_radix(line.trim(), 16)?)
}

fn wait_for_stop(thread: Pid) -> Result<()> {
    let status = waitpid(thread, Some(WaitPidFlag::__WALL))?;
    ensure!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
    Ok(())
}

/// Lets a stopped thread call capset(2); whether it was in a system call.
fn capset(thread: Pid, effective: u64, permitted: u64) -> Result<bool> {
    let before = ptrace::getregs(thread)?;
    let code = before.rip - SYSCALL;
    let instruction = ptrace::read(thread, code as ptrace::AddressType)? & 0xffff;
    if instruction != INSTRUCTION {
        return Ok(false);
    }
    let room = (before.rsp - RED_ZONE - (WORDS * size_of::<u64>()) as u64) & !0xf;
    let saved = read(thread, room)?;
    write(thread, room, arguments(effective, permitted))?;
    let call = user_regs_struct {
        rip: code,
        rax: SYS_capset.cast_unsigned(),
        // Otherwise the call in which it was stopped would be made again instead.
        orig_rax: u64::MAX,
        rdi: room,
        rsi: room + size_of::<u64>() as u64,
        ..before
    };
    ptrace::setregs(thread, call)?;
    ptrace::step(thread, None)?;
    wait_for_stop(thread)?;
    let result = ptrace::getregs(thread)?.rax;
    write(thread, room, saved)?;
    ptrace::setregs(thread, before)?;
    ensure!(result == 0, "capset: {}", result.cast_signed());
    Ok(true)
}

/// Version and thread (0: its own); then effective, permitted and inheritable capabilities, first the lower halves.
fn arguments(effective: u64, permitted: u64) -> [u64; WORDS] {
    let halves = |value: u64| [value & 0xffff_ffff, value >> 32];
    let ([effective_low, effective_high], [permitted_low, permitted_high]) =
        (halves(effective), halves(permitted));
    [u64::from(VERSION), effective_low | permitted_low << 32, effective_high << 32, permitted_high]
}

fn read(thread: Pid, address: u64) -> Result<[u64; WORDS]> {
    let mut words = [0; WORDS];
    for (word, at) in words.iter_mut().zip((address..).step_by(size_of::<u64>())) {
        *word = ptrace::read(thread, at as ptrace::AddressType)?.cast_unsigned();
    }
    Ok(words)
}

fn write(thread: Pid, address: u64, words: [u64; WORDS]) -> Result<()> {
    for (word, at) in words.into_iter().zip((address..).step_by(size_of::<u64>())) {
        ptrace::write(thread, at as ptrace::AddressType, c_long::from_ne_bytes(word.to_ne_bytes()))?;
    }
    Ok(())
}
