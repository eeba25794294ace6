//! The agent beside keepalived, in the VM.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::build::{self, AGENT_VARIABLE, Profile};
use crate::cache::Cache;
use crate::setup::{FOR_VM, TO_BUILD, ensure_all};
use crate::vm::{self, Clock, VmOptions};

/// Sets up, builds, and has `program`, one of the tests', compare the two; returns its exit status. It can write to
/// `out`.
pub(super) fn compare(
    cache: &Cache,
    program: &str,
    arguments: &[OsString],
    timeout: Duration,
    out: Option<PathBuf>,
) -> Result<i32> {
    ensure_all(cache, &[TO_BUILD, FOR_VM].concat())?;
    let peers: Vec<_> = PEERS.iter().flat_map(|peer| peer.environment(cache)).collect();
    let object = build::kernel_side(cache)?;
    let agent = build::agent_with(&object, Profile::Release)?;
    let program = build::package("lvs-tests", program, &object, Profile::Release)?;
    let mut environment: Vec<(OsString, OsString)> = vec![(AGENT_VARIABLE.into(), agent.into())];
    environment.extend(peers);
    // What is shown are times: they must be the guest's, whatever else this machine does meanwhile.
    let options = VmOptions { clock: Clock::Instructions, timeout, environment, out, ..VmOptions::default() };
    let command: Vec<OsString> = std::iter::once(program.into()).chain(arguments.iter().cloned()).collect();
    vm::run_on_terminal(cache, &options, &command)
}

/// A program to compare with, from a package of Debian's.
struct Peer {
    package: &'static str,
    program: &'static str,
    /// The variable that names the program, and the one with the folders of its libraries.
    variables: [&'static str; 2],
}

/// keepalived, and the other end of its BFD sessions.
const PEERS: [Peer; 2] = [
    Peer {
        package: "keepalived",
        program: "usr/sbin/keepalived",
        variables: ["LVS_KEEPALIVED", "LVS_KEEPALIVED_LIBRARIES"],
    },
    Peer { package: "bird2", program: "usr/sbin/bird", variables: ["LVS_BIRD", "LVS_BIRD_LIBRARIES"] },
];

impl Peer {
    /// What a comparison must know to start it. Without the package it goes on without it.
    fn environment(&self, cache: &Cache) -> Vec<(OsString, OsString)> {
        let [program, libraries] = self.variables;
        let found = cache.packages(&[self.package]).and_then(|unpacked| {
            let paths = unpacked.environment()?.into_iter().find(|(name, _)| *name == "LD_LIBRARY_PATH");
            let path = unpacked.root().join(self.program);
            let libraries = paths.map(|(_, value)| (libraries.into(), value));
            Ok([(program.into(), path.into())].into_iter().chain(libraries).collect())
        });
        found.unwrap_or_else(|error| {
            println!("without {}: {error:#}", self.package);
            Vec::new()
        })
    }
}
