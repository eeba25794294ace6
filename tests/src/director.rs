//! The director's side of IPVS: the kernel module, its settings, and the table as `ipvsadm` knows it.

use std::{
    fmt,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    namespace::Namespace,
    network::{PORT, VIP, set},
    process,
    watch::PROC_FILE,
};

/// How packets reach the real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Address translation.
    Masquerade,
    /// The server's MAC address.
    DirectRoute,
}

impl Method {
    /// The agent's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Masquerade => "masquerade",
            Self::DirectRoute => "direct-route",
        }
    }

    /// The option that `ipvsadm` takes.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            Self::Masquerade => "-m",
            Self::DirectRoute => "-g",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Whether the kernel has IPVS loaded.
pub fn has_ipvs(director: &Namespace) -> Result<bool> {
    director.run(|| Ok(Path::new(PROC_FILE).exists()))
}

/// Loads IPVS and sets it as the agent's documentation asks for: a client whose server was taken out is given another
/// one with its next packet.
pub fn prepare_ipvs(director: &Namespace) -> Result<()> {
    if !has_ipvs(director)? {
        let loaded = Command::new("modprobe").arg("ip_vs").stderr(Stdio::inherit()).status();
        if !loaded.is_ok_and(|status| status.success()) || !has_ipvs(director)? {
            bail!(
                "this kernel has no IPVS: modprobe ip_vs failed; in a VM of the project (cargo xtask vm) it is there"
            );
        }
    }
    set(director, &["net/ipv4/vs/expire_nodest_conn=1"])
}

/// Feeds `ipvsadm -R` with lines such as `-a -t 192.0.2.80:80 -r 10.0.0.1:80 -m`.
pub fn edit_table(director: &Namespace, lines: &str) -> Result<()> {
    process::run(director, &["ipvsadm", "-R"], lines).map(drop).context("cannot edit the IPVS table")
}

/// The table as `ipvsadm -Ln` prints it.
pub fn table_text(director: &Namespace) -> Result<String> {
    process::run(director, &["ipvsadm", "-Ln"], "")
}

/// The lab's service with these servers, as lines for [`edit_table`].
#[must_use]
pub fn service_lines(method: Method, servers: &[SocketAddr]) -> String {
    let option = method.option();
    let destinations = servers.iter().map(|server| format!("-a -t {VIP}:{PORT} -r {server} {option} -w 1\n"));
    format!("-A -t {VIP}:{PORT} -s rr\n{}", destinations.collect::<Vec<_>>().concat())
}
