//! The real servers: a process each, in a namespace each.

pub mod program;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use nix::{sys::signal::Signal, unistd::Pid};

use crate::lab::{
    layout::{AddressPlan, Family, Layout, PORT, SECOND_PORT},
    namespace::Namespace,
    network::{Network, port_of},
    process::{Process, programs},
    wait,
};

/// How long a server may take to start, on a slow machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A real server.
#[derive(Debug)]
pub struct RealServer {
    /// The name it answers with.
    pub name: String,
    number: u8,
    address: SocketAddr,
    namespace: Namespace,
    bridge: &'static str,
    arguments: Vec<String>,
    process: Process,
}

impl RealServer {
    /// Starts the server with this number (from 0) in its namespace and waits until it listens.
    pub fn start(network: &Network, number: u8) -> Result<Self> {
        let namespace = network.servers[usize::from(number)].clone();
        let name = port_of(number);
        let arguments = arguments(network.layout, number, &name);
        let process = start(&namespace, &name, &arguments)?;
        let address = SocketAddr::new(network.layout.server_address(number), PORT);
        Ok(Self { name, number, address, namespace, bridge: network.servers_bridge(), arguments, process })
    }

    /// Its address and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The switch's port that it is plugged into.
    #[must_use]
    pub fn switch_port(&self) -> String {
        port_of(self.number)
    }

    /// The switch's bridge that this port belongs to.
    #[must_use]
    pub fn switch_bridge(&self) -> &'static str {
        self.bridge
    }

    /// Where it is.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The process id of its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Sends its process a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Kills its process, if it still runs, and starts it again.
    pub fn restart(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.wait(START_LIMIT)?;
        self.process = start(&self.namespace, &self.name, &self.arguments)?;
        Ok(())
    }
}

/// Where the server listens: TCP at every address; UDP at each of its own, for an answer comes from the socket's
/// address.
fn arguments(layout: Layout, number: u8, name: &str) -> Vec<String> {
    let mut arguments = vec!["--name".to_owned(), name.to_owned()];
    for port in [PORT, SECOND_PORT] {
        for family in layout.spoken() {
            let plan = AddressPlan::of(*family);
            let any = if *family == Family::V4 { "0.0.0.0" } else { "[::]" };
            arguments.extend(["--listen".to_owned(), format!("{any}:{port}")]);
            for own in [plan.vip, layout.address_in(*family, number)] {
                arguments.extend(["--datagrams".to_owned(), SocketAddr::new(own, port).to_string()]);
            }
        }
    }
    arguments
}

/// Starts a server's process and waits until it accepts connections.
fn start(namespace: &Namespace, name: &str, arguments: &[String]) -> Result<Process> {
    let mut command = Command::new(programs::server()?);
    command.args(arguments);
    let mut process = Process::start(namespace, name, &mut command)?;
    wait::until_true(&format!("{name} to listen"), START_LIMIT, || {
        if let Some(status) = process.status()? {
            anyhow::bail!("{name} ended: {status}");
        }
        // From its own namespace, over its own loopback: nobody on the way sees this. The last one that it opens.
        let last = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), SECOND_PORT);
        namespace.run(|| Ok(TcpStream::connect(last).is_ok()))
    })?;
    Ok(process)
}
