//! The director's side of IPVS: the kernel module, its settings, and the table as `ipvsadm` knows it.

pub mod packet_counter;
pub mod table;
pub mod table_watcher;

use std::{fs, io, net::SocketAddr, path::Path};

use anyhow::{Context as _, Result};

use crate::lab::{
    clients::Transport,
    director::table_watcher::PROC_FILE,
    layout::{AddressPlan, Layout, Method},
    namespace::Namespace,
    network::set,
    process::{self, load_module},
};

/// The state file that an agent leaves to the next one, unless it is configured otherwise.
pub const AGENT_STATE: &str = "/run/lvs-agent/state.json";

/// Whether the kernel has IPVS loaded.
pub fn has_ipvs(director: &Namespace) -> Result<bool> {
    director.run(|| Ok(Path::new(PROC_FILE).exists()))
}

/// Loads IPVS and sets it as the agent's documentation asks for: a client whose server was taken out is given another
/// one with its next packet. An agent that is started there knows nothing of earlier ones: the number of a network
/// namespace is given anew as soon as it is free.
pub fn prepare_ipvs(director: &Namespace) -> Result<()> {
    if !has_ipvs(director)? {
        load_module("ip_vs").context("this kernel has no IPVS")?;
    }
    match fs::remove_file(AGENT_STATE) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context(AGENT_STATE),
        _ => {}
    }
    set(director, &["net/ipv4/vs/expire_nodest_conn=1"])
}

/// Feeds `ipvsadm -R` with lines such as `-a -t 192.0.2.80:80 -r 10.0.0.1:80 -m`.
pub fn edit_table(director: &Namespace, lines: &str) -> Result<()> {
    process::run(director, &["ipvsadm", "-R"], lines).map(drop).context("cannot edit the IPVS table")
}

/// The kernel's table of connections, as `/proc/net/ip_vs_conn` has it.
pub fn connection_table(director: &Namespace) -> Result<String> {
    director.run(|| Ok(fs::read_to_string("/proc/thread-self/net/ip_vs_conn")?))
}

/// The table as `ipvsadm -Ln` prints it.
pub fn table_text(director: &Namespace) -> Result<String> {
    process::run(director, &["ipvsadm", "-Ln"], "")
}

/// What names a service, as `ipvsadm` takes it: `-t 192.0.2.80:80`, `-u …`, `-f 1`.
#[must_use]
pub fn service_option(service: SocketAddr, transport: Transport) -> String {
    match transport {
        Transport::Tcp => format!("-t {service}"),
        Transport::Udp => format!("-u {service}"),
    }
}

/// A service of this name with these servers, as lines for [`edit_table`].
#[must_use]
pub fn service_lines(service: &str, method: Method, servers: &[SocketAddr]) -> String {
    let option = method.option();
    let destinations = servers.iter().map(|server| format!("-a {service} -r {server} {option} -w 1\n"));
    format!("-A {service} -s rr\n{}", destinations.collect::<Vec<_>>().concat())
}

/// Marks what clients send to these ports of the layout's VIP.
pub fn mark(director: &Namespace, layout: &Layout, ports: &[u16], mark: u32) -> Result<()> {
    let vip = AddressPlan::of(layout.family).vip;
    let to = if vip.is_ipv4() { "ip daddr" } else { "ip6 daddr" };
    let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let script = format!(
        "table inet lab {{ chain marks {{ type filter hook prerouting priority mangle; \
         {to} {vip} meta l4proto {{ tcp, udp }} th dport {{ {ports} }} meta mark set {mark}; }}; }}\n"
    );
    process::run(director, &["nft", "-f", "-"], &script).map(drop)
}
