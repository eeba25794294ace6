//! Debian's ldirectord as the reference, on handwritten and on random files: its own program, with a stand-in for
//! ipvsadm, beside the agent's reader, checks and decisions, in a network namespace where both check the same servers.
//! (With the kernel's IPVS and the whole agent a few of the files are run in the VM, among the scenarios.) Needs root,
//! and `$LVS_LDIRECTORD`, which `cargo xtask test --only ldirectord` sets.
#![cfg(test)]

mod commands;
mod compare_runs;
mod faults;
mod fixture;
mod odd_lines;
mod random_configs;

use std::{collections::BTreeSet, fs, path::Path, thread};

use anyhow::{Context as _, Result};
use lvs_tests::ldirectord::LdirectordPackage;

use crate::{compare_runs::compare_runs, fixture::with_fixture};

/// The unpacked ldirectord; without it a test is skipped.
fn package() -> Option<LdirectordPackage> {
    let found = LdirectordPackage::find().expect("what the environment names is ldirectord");
    if found.is_none() {
        lvs_tests::say("skipped: run `cargo xtask test --only ldirectord`");
    }
    found
}

/// How many files are run at once. They mostly wait.
const AT_ONCE: usize = 4;

/// Does `work` for every item, some at once; the errors of all are returned.
fn for_each_in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|first| scope.spawn(move || items.iter().skip(first).step_by(AT_ONCE).try_for_each(work)))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("the panic has been printed"));
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

#[test]
fn handwritten_configs_make_the_same_tables() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/ldirectord");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let outages = [BTreeSet::new(), BTreeSet::from([1]), BTreeSet::new()];
    for_each_in_parallel(&files, |file| {
        let text = fs::read_to_string(file)?;
        with_fixture(async |fixture| compare_runs(fixture, &package, &text, &outages).await)
            .with_context(|| file.display().to_string())
    })
}
