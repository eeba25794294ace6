//! What can go wrong with a real server, brought about on purpose and undone again.

pub mod disturbance;
pub mod flood;
pub mod stall;

use std::{fmt, net::IpAddr};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::lab::{
    clock::Moment,
    layout::{AddressPlan, Family, PORT, SECOND_PORT},
    namespace::Namespace,
    network::{ip, netlink::ArmedRequest},
    process::{self, ArmedScript},
    servers::RealServer,
};

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The server's process is killed with SIGKILL: its host refuses connections.
    ProcessKilled,
    /// The server's process is stopped with SIGSTOP: its host accepts connections, nobody answers.
    ProcessHung,
    /// The server answers every request with status 500.
    ProcessFailing,
    /// From one moment on the server's application takes half a second for each answer; its host is as fast as ever.
    AnswersSlow,
    /// The server accepts no more connections, and its accept queue is short: connections soon fill it.
    AcceptQueueFull,
    /// The server's link goes down (power off): no carrier, no answer to ARP.
    LinkDown,
    /// The server's port is taken out of the switch: the carrier stays, nothing arrives any more.
    Unplugged,
    /// The server's packet filter drops what comes for the services' ports; ping and ARP are answered.
    PortFiltered,
    /// The VIP is none of the server's addresses any more. Only where it answers for the VIP itself: direct
    /// route, tunnel.
    VipLost,
    /// The server's answers to clients bypass the director. Only where they must not: masquerade.
    RouteElsewhere,
    /// What the server sends of its services is dropped, unless the packet is small: handshakes go on.
    LargePacketsLost,
    /// What is sent to the server takes half a second longer.
    Slow,
    /// The same, but so long that the server is taken for dead, and answers all the same.
    Late,
    /// One of ten packets to the server is lost.
    Lossy,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessKilled => "process killed",
            Self::ProcessHung => "process hung",
            Self::ProcessFailing => "process answers with status 500",
            Self::AnswersSlow => "answers half a second late",
            Self::AcceptQueueFull => "accept queue full",
            Self::LinkDown => "link lost",
            Self::Unplugged => "unplugged behind the switch",
            Self::PortFiltered => "port filtered",
            Self::VipLost => "VIP lost",
            Self::RouteElsewhere => "default route past the director",
            Self::LargePacketsLost => "large packets lost",
            Self::Slow => "slow by 500 ms",
            Self::Late => "late by 1.2 s",
            Self::Lossy => "one of ten packets lost",
        })
    }
}

/// A fault that waits for its moment, with all preparations done.
#[derive(Debug)]
pub struct ArmedFault(Trigger);

#[derive(Debug)]
enum Trigger {
    Signal(Pid, Signal),
    Request(ArmedRequest),
    Script(ArmedScript),
}

/// The table of the server's packet filter that drops what comes for its ports.
const FILTER: &str = "fault";

impl Fault {
    /// Prepares the fault for a server on `switch`, so that it takes effect at once when it strikes.
    pub fn arm(self, switch: &Namespace, server: &RealServer) -> Result<ArmedFault> {
        let port = server.switch_port();
        let signal = |signal| Trigger::Signal(server.pid(), signal);
        let delay = |how: &str| {
            let script = format!("qdisc add dev {port} root netem {how}\n");
            ArmedScript::arm(switch, &["tc", "-batch", "-"], script).map(Trigger::Script)
        };
        let trigger = match self {
            Self::ProcessKilled => signal(Signal::SIGKILL),
            Self::ProcessHung => signal(Signal::SIGSTOP),
            Self::ProcessFailing => signal(Signal::SIGUSR1),
            Self::AnswersSlow => signal(Signal::SIGHUP),
            Self::AcceptQueueFull => signal(Signal::SIGUSR2),
            Self::LinkDown => Trigger::Request(ArmedRequest::link_down(switch, &port)?),
            Self::Unplugged => Trigger::Request(ArmedRequest::leave_bridge(switch, &port)?),
            Self::PortFiltered => {
                // All of it is there beforehand, but asleep: nft takes a second in the emulated VM.
                let script = format!(
                    "table inet {FILTER} {{ flags dormant; chain input {{ \
                     type filter hook input priority 0; \
                     meta l4proto {{ tcp, udp }} th dport {{ {PORT}, {SECOND_PORT} }} drop; }}; }}\n"
                );
                process::run(server.namespace(), &["nft", "-f", "-"], &script)?;
                Trigger::Request(ArmedRequest::wake_table(server.namespace(), FILTER)?)
            }
            Self::VipLost => Trigger::Script(in_server(&vip("addr del", server), server)?),
            Self::RouteElsewhere => {
                let clients = AddressPlan::of(family_of(server)).client_leg;
                Trigger::Script(in_server(&default_route(clients), server)?)
            }
            Self::LargePacketsLost => {
                // A packet of the handshake has 60 bytes at most, an answer over 100.
                let script = format!(
                    "table inet {FILTER} {{ flags dormant; chain output {{ \
                     type filter hook output priority 0; \
                     tcp sport {{ {PORT}, {SECOND_PORT} }} meta length > 90 drop; }}; }}\n"
                );
                process::run(server.namespace(), &["nft", "-f", "-"], &script)?;
                Trigger::Request(ArmedRequest::wake_table(server.namespace(), FILTER)?)
            }
            Self::Slow => delay("delay 500ms limit 100000")?,
            Self::Late => delay("delay 1200ms limit 100000")?,
            Self::Lossy => delay("loss 10%")?,
        };
        Ok(ArmedFault(trigger))
    }

    /// Undoes it and gives the moment when everything was as before.
    pub fn repair(self, switch: &Namespace, server: &mut RealServer) -> Result<Moment> {
        let (port, bridge) = (server.switch_port(), server.switch_bridge());
        match self {
            Self::ProcessKilled => server.restart()?,
            Self::ProcessHung => server.signal(Signal::SIGCONT)?,
            Self::ProcessFailing => server.signal(Signal::SIGUSR1)?,
            Self::AnswersSlow => server.signal(Signal::SIGHUP)?,
            Self::AcceptQueueFull => server.signal(Signal::SIGUSR2)?,
            Self::LinkDown => drop(ip(switch, &format!("link set {port} up\n"))?),
            Self::Unplugged => drop(ip(switch, &format!("link set {port} master {bridge}\n"))?),
            Self::VipLost => drop(in_server(&vip("addr add", server), server)?.fire()?),
            Self::RouteElsewhere => {
                let director = AddressPlan::of(family_of(server)).director;
                drop(in_server(&default_route(director), server)?.fire()?);
            }
            Self::PortFiltered | Self::LargePacketsLost => {
                let script = format!("delete table inet {FILTER}\n");
                process::run(server.namespace(), &["nft", "-f", "-"], &script)?;
            }
            Self::Slow | Self::Late | Self::Lossy => {
                process::run(switch, &["tc", "-batch", "-"], &format!("qdisc del dev {port} root\n"))?;
            }
        }
        Ok(Moment::now())
    }
}

fn family_of(server: &RealServer) -> Family {
    if server.address().is_ipv4() { Family::V4 } else { Family::V6 }
}

/// A change of the VIP among the server's own addresses.
fn vip(change: &str, server: &RealServer) -> String {
    let AddressPlan { vip, host, .. } = AddressPlan::of(family_of(server));
    format!("{change} {vip}/{host} dev lo\n")
}

/// Another default route.
fn default_route(via: IpAddr) -> String {
    format!("route replace default via {via}\n")
}

/// A batch for `ip` at the server, ready to be run.
fn in_server(script: &str, server: &RealServer) -> Result<ArmedScript> {
    ArmedScript::arm(server.namespace(), &["ip", "-batch", "-"], script)
}

impl ArmedFault {
    /// Lets it happen. Gives the moment just before it takes effect.
    pub fn inject(self) -> Result<Moment> {
        match self.0 {
            Trigger::Signal(pid, signal) => {
                let at = Moment::now();
                kill(pid, signal).with_context(|| format!("cannot send {signal} to process {pid}"))?;
                Ok(at)
            }
            Trigger::Request(request) => request.fire(),
            Trigger::Script(script) => Ok(script.fire()?.0),
        }
    }
}
