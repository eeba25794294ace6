//! What can go wrong with a real server, brought about on purpose and undone again.

use std::fmt;

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    clock::Moment,
    namespace::Namespace,
    network::{PORT, ip},
    process::{self, ArmedScript},
    server::RealServer,
};

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server's process is killed with SIGKILL: its host refuses connections.
    ProcessKilled,
    /// The server's process is stopped with SIGSTOP: its host accepts connections, nobody answers.
    ProcessHung,
    /// The server answers every request with status 500.
    ProcessSick,
    /// The server's link goes down (power off): no carrier, no answer to ARP.
    LinkDown,
    /// The server's port is taken out of the switch: the carrier stays, nothing arrives any more.
    Unplugged,
    /// The server's packet filter drops what comes for the service's port; ping and ARP are answered.
    PortFiltered,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessKilled => "process killed",
            Self::ProcessHung => "process hung",
            Self::ProcessSick => "process answers with status 500",
            Self::LinkDown => "link lost",
            Self::Unplugged => "unplugged behind the switch",
            Self::PortFiltered => "port filtered",
        })
    }
}

/// A fault that waits for its moment, with all preparations done.
#[derive(Debug)]
pub struct ArmedFault(Trigger);

#[derive(Debug)]
enum Trigger {
    Signal(Pid, Signal),
    Script(ArmedScript),
    /// A script that takes its time, and takes effect as the last thing that it does.
    Transaction(ArmedScript),
}

impl Fault {
    /// Prepares the fault for a server on `switch`, so that it takes effect at once when it strikes.
    pub fn arm(self, switch: &Namespace, server: &RealServer) -> Result<ArmedFault> {
        let port = server.switch_port();
        let on_switch = |script: String| ArmedScript::arm(switch, &["ip", "-batch", "-"], script);
        let trigger = match self {
            Self::ProcessKilled => Trigger::Signal(server.pid(), Signal::SIGKILL),
            Self::ProcessHung => Trigger::Signal(server.pid(), Signal::SIGSTOP),
            Self::ProcessSick => Trigger::Signal(server.pid(), Signal::SIGUSR1),
            Self::LinkDown => Trigger::Script(on_switch(format!("link set {port} down\n"))?),
            Self::Unplugged => Trigger::Script(on_switch(format!("link set {port} nomaster\n"))?),
            Self::PortFiltered => {
                let script = format!(
                    "table ip fault {{ chain input {{ type filter hook input priority 0; \
                     tcp dport {PORT} drop; }}; }}\n"
                );
                // nft reads, compiles and then commits all at once: in the emulated VM a second may go before that.
                Trigger::Transaction(ArmedScript::arm(server.namespace(), &["nft", "-f", "-"], script)?)
            }
        };
        Ok(ArmedFault(trigger))
    }

    /// Undoes it and gives the moment when everything was as before.
    pub fn heal(self, switch: &Namespace, server: &mut RealServer) -> Result<Moment> {
        let port = server.switch_port();
        match self {
            Self::ProcessKilled => server.restart()?,
            Self::ProcessHung => server.signal(Signal::SIGCONT)?,
            Self::ProcessSick => server.signal(Signal::SIGUSR1)?,
            Self::LinkDown => drop(ip(switch, &format!("link set {port} up\n"))?),
            Self::Unplugged => drop(ip(switch, &format!("link set {port} master sw0\n"))?),
            Self::PortFiltered => {
                process::run(server.namespace(), &["nft", "-f", "-"], "delete table ip fault\n")?;
            }
        }
        Ok(Moment::now())
    }
}

impl ArmedFault {
    /// Lets it happen. Gives the moment just before it takes effect; just after it for a transaction.
    pub fn strike(self) -> Result<Moment> {
        match self.0 {
            Trigger::Signal(pid, signal) => {
                let at = Moment::now();
                kill(pid, signal).with_context(|| format!("cannot send {signal} to process {pid}"))?;
                Ok(at)
            }
            Trigger::Script(script) => Ok(script.fire()?.0),
            Trigger::Transaction(script) => script.fire().map(|_| Moment::now()),
        }
    }
}
