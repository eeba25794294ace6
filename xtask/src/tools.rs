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

/// Debian's packages with what watches the agent from outside: Prometheus and its `promtool`, `node_exporter`, and
/// jsonnet, which makes the mixin.
const MONITORING: &[&str] = &["jsonnet", "prometheus", "prometheus-node-exporter"];

/// Tells the scenarios where they are unpacked.
pub(crate) const MONITORING_VARIABLE: &str = "LVS_MONITORING";

/// Debian's package with shellcheck.
const SHELLCHECK: &[&str] = &["shellcheck"];

/// shellcheck, downloaded unless it is there already.
pub(crate) fn shellcheck(cache: &Cache) -> Result<Unpacked> {
    cache.packages(SHELLCHECK)
}

/// Debian's packages with a browser without a window, and letters for it.
const BROWSER: &[&str] = &["chromium-headless-shell", "fonts-dejavu-core"];

/// Tells the unit tests where the browser is unpacked.
pub(crate) const BROWSER_VARIABLE: &str = "LVS_BROWSER";

/// The browser, downloaded unless it is there already.
pub(crate) fn browser(cache: &Cache) -> Result<Unpacked> {
    cache.servers(BROWSER)
}

/// Whether it is there already.
pub(crate) fn browser_is_there(cache: &Cache) -> bool {
    cache.packages_if_there(BROWSER).is_some()
}

/// Tells the unit tests where `promtool` is.
pub(crate) const PROMTOOL_VARIABLE: &str = "LVS_PROMTOOL";

/// All of them, downloaded unless they are there already.
pub(crate) fn monitoring(cache: &Cache) -> Result<Unpacked> {
    cache.packages(MONITORING)
}

/// Whether they are there already.
pub(crate) fn monitoring_is_there(cache: &Cache) -> bool {
    cache.packages_if_there(MONITORING).is_some()
}

/// `promtool`, downloaded unless it is there already.
pub(crate) fn promtool(cache: &Cache) -> Result<PathBuf> {
    Ok(monitoring(cache)?.root().join("usr/bin/promtool"))
}

/// The same for `jsonnet`.
pub(crate) fn jsonnet(cache: &Cache) -> Result<PathBuf> {
    Ok(monitoring(cache)?.root().join("usr/bin/jsonnet"))
}
