//! The table as ipvsadm prints it, and as lines that can be compared.

use std::{collections::BTreeSet, fmt::Write as _};

use lvs_agent::{
    ipvs::{Destination, Service, ServiceFlags, Table},
    model::{AddressFamily, ForwardingMethod, Netmask, Protocol, ServiceKey},
};

/// `ipvsadm -L -n`, and with `--thresholds`.
pub(super) fn print(table: &Table, thresholds: bool) -> String {
    let mut text = String::from("IP Virtual Server version 1.2.1 (size=4096)\n");
    text += if thresholds {
        "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n"
    } else {
        "Prot LocalAddress:Port Scheduler Flags\n"
    };
    text += if thresholds {
        "  -> RemoteAddress:Port\n"
    } else {
        "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
    };
    for entry in table.services.values() {
        text += &service_line(&entry.service);
        text += "\n";
        for destination in entry.destinations.values() {
            text += &destination_line(destination, thresholds);
            text += "\n";
        }
    }
    text
}

fn service_line(service: &Service) -> String {
    let mut line = match service.key {
        ServiceKey::Address { protocol: Protocol::Tcp, address } => format!("TCP  {address}"),
        ServiceKey::Address { protocol: Protocol::Udp, address } => format!("UDP  {address}"),
        ServiceKey::Address { protocol: Protocol::Sctp, address } => format!("SCTP {address}"),
        ServiceKey::Mark { mark, family: AddressFamily::V4 } => format!("FWM  {mark}"),
        ServiceKey::Mark { mark, family: AddressFamily::V6 } => format!("FWM  {mark} IPv6"),
    };
    let scheduler = service.scheduler.as_str();
    write!(line, " {scheduler}").ok();
    let flags = flags(scheduler, service.flags);
    if !flags.is_empty() {
        write!(line, " ({})", flags.join(",")).ok();
    }
    if let Some(persistence) = service.persistence {
        write!(line, " persistent {}", persistence.timeout().as_secs()).ok();
        match persistence.netmask() {
            Netmask::V4(mask) if !mask.is_broadcast() => write!(line, " mask {mask}").ok(),
            Netmask::V6(length) if length != 128 => write!(line, " mask {length}").ok(),
            Netmask::V4(_) | Netmask::V6(_) => None,
        };
    }
    if service.flags.bits() & ServiceFlags::ONE_PACKET.bits() != 0 {
        line += " ops";
    }
    line
}

fn flags(scheduler: &str, flags: ServiceFlags) -> Vec<&'static str> {
    let names = match scheduler {
        "sh" => ["sh-fallback", "sh-port", "flag-3"],
        "mh" => ["mh-fallback", "mh-port", "flag-3"],
        _ => ["flag-1", "flag-2", "flag-3"],
    };
    let all = [ServiceFlags::SCHEDULER_1, ServiceFlags::SCHEDULER_2, ServiceFlags::SCHEDULER_3];
    let set = names.into_iter().zip(all).filter(|(_, flag)| flags.bits() & flag.bits() != 0);
    set.map(|(name, _)| name).collect()
}

fn destination_line(destination: &Destination, thresholds: bool) -> String {
    let server = destination.server.to_string();
    if thresholds {
        let (upper, lower) = (destination.upper_threshold, destination.lower_threshold);
        return format!("  -> {server:28} {upper:<10} {lower:<10} {:<10} {:<10}", 0, 0);
    }
    let method = match destination.method {
        ForwardingMethod::Masquerade => "Masq",
        ForwardingMethod::DirectRoute => "Route",
        ForwardingMethod::Tunnel => "Tunnel",
        ForwardingMethod::Local => "Local",
        ForwardingMethod::Bypass => "Bypass",
    };
    format!("  -> {server:28} {method:7} {:<6} {:<10} {:<10}", destination.weight.0, 0, 0)
}

/// The table as lines in no order, each of which names its service. Thresholds of servers at weight 0 are not among
/// them: such a server gets no new connections, however many it has.
#[must_use]
pub fn rules(table: &Table) -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    for entry in table.services.values() {
        rules.insert(service_line(&entry.service));
        for destination in entry.destinations.values() {
            let Destination { server, method, weight, upper_threshold, lower_threshold, .. } = destination;
            let limits = if weight.takes_connections() {
                format!(" u:{upper_threshold} l:{lower_threshold}")
            } else {
                String::new()
            };
            rules.insert(format!("{} -> {server} {method} {weight}{limits}", entry.service.key));
        }
    }
    rules
}
