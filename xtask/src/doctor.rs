//! `cargo xtask doctor`: what is there, what is missing and how to get it, and what this machine's kernel can do.

use std::fs;
use std::path::Path;
use std::thread;

use crate::apt;
use crate::cache::Cache;
use crate::process::{self, succeeds};
use crate::setup::{FOR_CHECKS, FOR_METRICS, FOR_TESTS, FOR_VM, Piece, TO_BUILD};
use crate::toolchain::numbers;

/// The first kernel with tcx, the newer way to attach classifiers (`kernel/bpf/tcx.c`).
const FIRST_WITH_TCX: [u32; 2] = [6, 6];

/// Bits of a process's capabilities (`include/uapi/linux/capability.h`).
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Prints both tables; returns whether everything is there that building and testing need.
pub(crate) fn doctor(cache: &Cache) -> bool {
    println!("Building and testing (cache: {})", cache.root().display());
    let mut complete = true;
    for (what, found, remedy) in needs(cache) {
        complete &= found.is_some();
        match found {
            Some(found) => println!("  ok       {what:34} {found}"),
            None => println!("  MISSING  {what:34} {remedy}"),
        }
    }
    println!(
        "\nThis machine, for running the agent or the demonstration on it; the VM brings a kernel of its own"
    );
    for (what, answer) in facts() {
        println!("  {what:22} {answer}");
    }
    if complete {
        println!("\nEverything is there.");
    } else {
        println!("\nSomething is missing.");
    }
    complete
}

/// What must be there: its name, what was found of it, and what to do if it is missing.
fn needs(cache: &Cache) -> Vec<(String, Option<String>, String)> {
    let mut needs = Vec::new();
    for subcommand in ["fmt", "clippy"] {
        let found =
            succeeds(process::cargo().args([subcommand, "--version"])).then(|| "with cargo".to_owned());
        let component = if subcommand == "fmt" { "rustfmt" } else { subcommand };
        needs.push((format!("cargo {subcommand}"), found, format!("rustup component add {component}")));
    }
    for piece in [TO_BUILD, FOR_VM, FOR_TESTS, FOR_CHECKS, FOR_METRICS].concat() {
        needs.push((piece.to_string(), piece.found(cache), remedy(piece)));
    }
    needs
}

fn remedy(piece: Piece) -> String {
    if apt::available() { "cargo xtask setup".to_owned() } else { piece.by_hand() }
}

/// What this machine and its kernel can do.
fn facts() -> Vec<(&'static str, String)> {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = thread::available_parallelism().map_or("unknown".to_owned(), |cores| cores.to_string());
    vec![
        ("kernel", release.clone()),
        ("eBPF", bpf().to_owned()),
        ("BTF", yes_no(Path::new("/sys/kernel/btf/vmlinux").exists()).to_owned()),
        ("attaching classifiers", attaching(&release).to_owned()),
        ("IPVS", ipvs().to_owned()),
        ("network namespaces", yes_no(Path::new("/proc/self/ns/net").exists()).to_owned()),
        ("KVM", format!("{} (the VM does without)", yes_no(Path::new("/dev/kvm").exists()))),
        ("cores", cores),
    ]
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Whether the kernel has `bpf(2)`, and this process may use it for tc programs.
fn bpf() -> &'static str {
    if !Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists() {
        return "no: the kernel is built without it";
    }
    match read("/proc/self/status").and_then(|status| effective_capabilities(&status)) {
        Some(held) if may_use_bpf(held) => "yes",
        _ => "in the kernel, but not for this user: it takes root, or CAP_BPF and CAP_NET_ADMIN",
    }
}

/// The bits of `CapEff` in `/proc/PID/status`.
fn effective_capabilities(status: &str) -> Option<u64> {
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(bits.trim(), 16).ok()
}

fn may_use_bpf(held: u64) -> bool {
    let has = |capability: u32| held & (1 << capability) != 0;
    has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_NET_ADMIN))
}

/// How classifiers attach to devices, by the kernel's release.
fn attaching(release: &str) -> &'static str {
    if numbers(release) >= FIRST_WITH_TCX.to_vec() {
        "tcx"
    } else {
        "clsact (modules sch_ingress and cls_bpf)"
    }
}

fn ipvs() -> &'static str {
    if Path::new("/proc/net/ip_vs").exists() {
        return "yes";
    }
    let modprobe = process::find("modprobe");
    if modprobe.is_some_and(|modprobe| succeeds(process::command(modprobe).args(["-n", "-q", "ip_vs"]))) {
        "yes, with modprobe ip_vs"
    } else {
        "no: use the VM"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_decide_on_bpf() {
        let held = |bits: &str| effective_capabilities(&format!("Name:\tx\nCapEff:\t{bits}\nCapBnd:\t0\n"));
        assert!(may_use_bpf(held("000001ffffffffff").expect("read")));
        assert!(may_use_bpf(held("0000000000200000").expect("read")), "CAP_SYS_ADMIN alone");
        assert!(may_use_bpf(held("0000008000001000").expect("read")), "CAP_BPF and CAP_NET_ADMIN");
        assert!(!may_use_bpf(held("0000008000000000").expect("read")), "CAP_BPF alone");
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }

    #[test]
    fn tcx_comes_with_6_6() {
        for (release, expected) in
            [("6.5.13", "clsact"), ("6.6.0-1-amd64", "tcx"), ("7.2.13", "tcx"), ("5.10.0", "clsact")]
        {
            assert!(attaching(release).starts_with(expected), "{release}");
        }
    }
}
