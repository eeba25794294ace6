//! The real servers: a process each, in a namespace each.

use std::{net::SocketAddr, net::TcpStream, process::Command, time::Duration};

use anyhow::Result;
use nix::{sys::signal::Signal, unistd::Pid};

use crate::{
    namespace::Namespace,
    network::{PORT, port_of, server_address},
    process::Process,
    programs, wait,
};

/// How long a server may take to start, on a slow machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A real server.
#[derive(Debug)]
pub struct RealServer {
    /// The name it answers with.
    pub name: String,
    number: u8,
    namespace: Namespace,
    process: Process,
}

impl RealServer {
    /// Starts the server with this number (from 0) in its namespace and waits until it listens.
    pub fn start(namespace: &Namespace, number: u8) -> Result<Self> {
        let name = port_of(number);
        let process = start(namespace, &name)?;
        Ok(Self { name, number, namespace: namespace.clone(), process })
    }

    /// Its address and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((server_address(self.number), PORT))
    }

    /// The switch's port that it is plugged into.
    #[must_use]
    pub fn switch_port(&self) -> String {
        port_of(self.number)
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
        self.process = start(&self.namespace, &self.name)?;
        Ok(())
    }
}

/// Starts a server's process and waits until it accepts connections.
fn start(namespace: &Namespace, name: &str) -> Result<Process> {
    let mut command = Command::new(programs::server()?);
    command.args(["--name", name, "--port", &PORT.to_string()]);
    let mut process = Process::start(namespace, name, &mut command)?;
    wait::until_true(&format!("{name} to listen"), START_LIMIT, || {
        if let Some(status) = process.status()? {
            anyhow::bail!("{name} ended: {status}");
        }
        // From its own namespace, over its own loopback: nobody on the way sees this.
        namespace.run(|| Ok(TcpStream::connect(("127.0.0.1", PORT)).is_ok()))
    })?;
    Ok(process)
}
