//! The tools that tests and the demo call, and the servers that checks are tested against: unpacked into the cache, not
//! installed.

use std::path::PathBuf;

use anyhow::Result;

use crate::cache::Cache;
use crate::packages::Unpacked;

/// Debian's packages with `ip` and `tc`, `ipvsadm`, `nft`, and `ping`.
const PACKAGES: &[&str] = &["iproute2", "ipvsadm", "nftables", "iputils-ping"];

/// The tools for tests, downloaded unless they are there already.
pub(crate) fn for_tests(cache: &Cache) -> Result<Unpacked> {
    cache.packages(PACKAGES)
}

/// Whether they are there already.
pub(crate) fn are_there(cache: &Cache) -> bool {
    cache.packages_if_there(PACKAGES).is_some()
}

/// Debian's packages with a server for each protocol that is checked; Oracle's has none there.
const SERVERS: &[&str] = &[
    "dovecot-imapd",
    "dovecot-pop3d",
    "exim4-daemon-light",
    "freeradius",
    "kamailio",
    "kamailio-tls-modules",
    "leafnode",
    "mariadb-client-core",
    "mariadb-server-core",
    "nginx-light",
    "openssl",
    "postgresql-15",
    "slapd",
    "tinyproxy",
    "unbound",
    "vsftpd",
];

/// Debian's package with ldirectord, which the agent is compared with.
const LDIRECTORD: &[&str] = &["ldirectord"];

/// Tells the scenarios where it is unpacked.
pub(crate) const LDIRECTORD_VARIABLE: &str = "LVS_LDIRECTORD";

/// ldirectord and its Perl modules, downloaded unless they are there already.
pub(crate) fn ldirectord(cache: &Cache) -> Result<Unpacked> {
    cache.servers(LDIRECTORD)
}

/// Whether they are there already.
pub(crate) fn ldirectord_is_there(cache: &Cache) -> bool {
    cache.packages_if_there(LDIRECTORD).is_some()
}

/// Tells the tests of checks where the servers are unpacked.
pub(crate) const SERVERS_VARIABLE: &str = "LVS_CHECK_SERVERS";

/// The servers for tests of checks, downloaded unless they are there already.
pub(crate) fn servers(cache: &Cache) -> Result<Unpacked> {
    cache.servers(SERVERS)
}

/// Whether they are there already.
pub(crate) fn servers_are_there(cache: &Cache) -> bool {
    cache.packages_if_there(SERVERS).is_some()
}

/// Debian's package with Prometheus and its `promtool`.
const PROMETHEUS: &[&str] = &["prometheus"];

/// Tells the unit tests where `promtool` is.
pub(crate) const PROMTOOL_VARIABLE: &str = "LVS_PROMTOOL";

/// `promtool`, downloaded unless it is there already.
pub(crate) fn promtool(cache: &Cache) -> Result<PathBuf> {
    Ok(cache.packages(PROMETHEUS)?.root().join("usr/bin/promtool"))
}

/// Whether it is there already.
pub(crate) fn promtool_is_there(cache: &Cache) -> bool {
    cache.packages_if_there(PROMETHEUS).is_some()
}
