//! Programs of others that benches compare with and scenarios put beside the agent.

use std::ffi::OsString;

use crate::cache::Cache;

/// A program from a package of Debian's.
pub(crate) struct Peer {
    package: &'static str,
    program: &'static str,
    /// The variable that names the program, and the one with the folders of its libraries.
    variables: [&'static str; 2],
}

/// Whom operators run beside the agent, or instead of it.
pub(crate) const KEEPALIVED: Peer = Peer {
    package: "keepalived",
    program: "usr/sbin/keepalived",
    variables: ["LVS_KEEPALIVED", "LVS_KEEPALIVED_LIBRARIES"],
};

/// keepalived, and the other end of its BFD sessions.
pub(crate) const PEERS: [Peer; 2] = [
    KEEPALIVED,
    Peer { package: "bird2", program: "usr/sbin/bird", variables: ["LVS_BIRD", "LVS_BIRD_LIBRARIES"] },
];

impl Peer {
    /// What must be known to start it. Without the package it goes on without it.
    pub(crate) fn environment(&self, cache: &Cache) -> Vec<(OsString, OsString)> {
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
