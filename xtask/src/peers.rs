//! Programs of others that benches compare with and scenarios put beside the agent.

use std::ffi::OsString;

use anyhow::Result;

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

/// A routing daemon, which announces what is on a device, and is the other end of BFD sessions.
pub(crate) const BIRD: Peer =
    Peer { package: "bird2", program: "usr/sbin/bird", variables: ["LVS_BIRD", "LVS_BIRD_LIBRARIES"] };

impl Peer {
    /// What must be known to start it.
    pub(crate) fn environment(&self, cache: &Cache) -> Result<Vec<(OsString, OsString)>> {
        let [program, libraries] = self.variables;
        let unpacked = cache.packages(&[self.package])?;
        let paths = unpacked.environment()?.into_iter().find(|(name, _)| *name == "LD_LIBRARY_PATH");
        let path = unpacked.root().join(self.program);
        let libraries = paths.map(|(_, value)| (libraries.into(), value));
        Ok([(program.into(), path.into())].into_iter().chain(libraries).collect())
    }

    /// The same for who can do without it, and then says so.
    pub(crate) fn environment_if_there(&self, cache: &Cache) -> Vec<(OsString, OsString)> {
        self.environment(cache).unwrap_or_else(|error| {
            println!("without {}: {error:#}", self.package);
            Vec::new()
        })
    }
}
