//! Tables as rules and lists of ipvsadm(8).

use std::net::Ipv4Addr;

use lvs_agent::{
    ipvs::{Destination, Service, ServiceFlags, Table},
    model::{
        AddressFamily, ForwardingMethod, Netmask, Persistence, Protocol, ServiceKey, Tunnel, TunnelFlags,
    },
};

use super::{ipvsadm, sorted};

fn service_options(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { protocol: Protocol::Tcp, address } => format!("-t {address}"),
        ServiceKey::Address { protocol: Protocol::Udp, address } => format!("-u {address}"),
        ServiceKey::Address { protocol: Protocol::Sctp, address } => format!("--sctp-service {address}"),
        ServiceKey::Mark { mark, family: AddressFamily::V4 } => format!("-f {mark}"),
        ServiceKey::Mark { mark, family: AddressFamily::V6 } => format!("-f {mark} -6"),
    }
}

fn persistence_options(persistence: &Persistence) -> String {
    let seconds = persistence.timeout().as_secs();
    match persistence.netmask() {
        Netmask::V4(Ipv4Addr::BROADCAST) | Netmask::V6(128) => format!(" -p {seconds}"),
        Netmask::V4(mask) => format!(" -p {seconds} -M {mask}"),
        Netmask::V6(prefix) => format!(" -p {seconds} -M {prefix}"),
    }
}

fn flag_options(scheduler: &str, flags: ServiceFlags) -> String {
    let names = match scheduler {
        "sh" => ["sh-fallback", "sh-port"],
        "mh" => ["mh-fallback", "mh-port"],
        _ => ["flag-1", "flag-2"],
    };
    let each = [ServiceFlags::SCHEDULER_1, ServiceFlags::SCHEDULER_2];
    let set = names.iter().zip(each).filter(|(_, flag)| flags.bits() & flag.bits() != 0);
    let words: Vec<&str> = set.map(|(name, _)| *name).collect();
    let one_packet = if flags.bits() & ServiceFlags::ONE_PACKET.bits() == 0 { "" } else { " -o" };
    let scheduler = if words.is_empty() { String::new() } else { format!(" -b {}", words.join(",")) };
    format!("{one_packet}{scheduler}")
}

pub(super) fn service_rule(service: &Service) -> String {
    let persistence = service.persistence.as_ref().map(persistence_options).unwrap_or_default();
    let engine =
        service.persistence_engine.as_ref().map(|engine| format!(" --pe {engine}")).unwrap_or_default();
    let flags = flag_options(service.scheduler.as_str(), service.flags);
    format!("-A {} -s {}{persistence}{engine}{flags}", service_options(&service.key), service.scheduler)
}

fn checksum_options(flags: TunnelFlags) -> &'static str {
    match flags {
        TunnelFlags::CHECKSUM => "--tun-csum",
        TunnelFlags::REMOTE_CHECKSUM => "--tun-remcsum",
        _ => "--tun-nocsum",
    }
}

fn method_options(destination: &Destination) -> (&'static str, String) {
    let tunnel = match destination.tunnel {
        Tunnel::Gue { port, flags } => {
            format!(" --tun-type gue --tun-port {port} {}", checksum_options(flags))
        }
        Tunnel::Gre { flags } => format!(" --tun-type gre {}", checksum_options(flags)),
        Tunnel::Ipip | Tunnel::Other { .. } => " --tun-type ipip".to_owned(),
    };
    match destination.method {
        ForwardingMethod::Tunnel => ("-i", tunnel),
        ForwardingMethod::DirectRoute => ("-g", String::new()),
        _ => ("-m", String::new()),
    }
}

pub(super) fn destination_rule(service: &ServiceKey, destination: &Destination) -> String {
    let (method, tunnel) = method_options(destination);
    let (server, weight) = (destination.server, destination.weight);
    format!("-a {} -r {server} {method} -w {weight}{tunnel}", service_options(service))
}

pub(super) fn rules(
    table: &Table,
    destination_rule: impl Fn(&ServiceKey, &Destination) -> String,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, entry) in &table.services {
        lines.push(service_rule(&entry.service));
        lines.extend(entry.destinations.values().map(|destination| destination_rule(key, destination)));
    }
    lines
}

/// The servers as `ipvsadm -Ln --thresholds` lists them: `-> server upper lower`.
pub(super) fn threshold_lines(table: &Table) -> Vec<String> {
    let destinations = table.services.values().flat_map(|entry| entry.destinations.values());
    sorted(
        destinations.map(|one| format!("-> {} {} {}", one.server, one.upper_threshold, one.lower_threshold)),
    )
}

pub(super) fn ipvsadm_thresholds() -> Vec<String> {
    let text = ipvsadm("-L -n --thresholds");
    let servers =
        text.lines().filter(|line| line.trim_start().starts_with("->") && !line.contains("RemoteAddress"));
    sorted(servers.map(|line| line.split_whitespace().take(4).collect::<Vec<_>>().join(" ")))
}
