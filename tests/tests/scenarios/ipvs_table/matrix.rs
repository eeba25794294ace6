//! Tables with every kind of service, method, encapsulation, scheduler, flag and persistence.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use lvs_agent::{
    ipvs::{Destination, KernelWeight, Service, ServiceEntry, ServiceFlags, Table},
    model::{
        AddressFamily, ForwardingMethod, Netmask, Persistence, Protocol, Scheduler, ServiceKey, Tunnel,
        TunnelFlags,
    },
};

use super::{address, scheduler};

/// Every kind of service that there is.
fn keys() -> Vec<ServiceKey> {
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let vips = ["192.0.2.1:80", "[2001:db8::1]:80"].map(address);
    let addresses = vips.into_iter().flat_map(|address| {
        protocols.into_iter().map(move |protocol| ServiceKey::Address { protocol, address })
    });
    let families = [AddressFamily::V4, AddressFamily::V6];
    addresses.chain(families.map(|family| ServiceKey::Mark { mark: 7, family })).collect()
}

/// No persistence, for each address, for each network.
fn persistence(family: AddressFamily) -> [Option<Persistence>; 3] {
    let network = match family {
        AddressFamily::V4 => Netmask::V4(Ipv4Addr::new(255, 255, 255, 0)),
        AddressFamily::V6 => Netmask::V6(64),
    };
    [
        None,
        Some(Persistence::new(Duration::from_mins(6), Netmask::whole_address(family))),
        Some(Persistence::new(Duration::from_secs(10), network)),
    ]
}

/// Every method and encapsulation, with weights and thresholds that change from one to the next.
fn destinations(key: &ServiceKey) -> BTreeMap<SocketAddr, Destination> {
    use ForwardingMethod::{DirectRoute, Masquerade, Tunnel as InTunnel};
    let gue = |flags| Tunnel::Gue { port: 6080, flags };
    let gre = |flags| Tunnel::Gre { flags };
    let kinds = [
        (Masquerade, Tunnel::Ipip),
        (DirectRoute, Tunnel::Ipip),
        (InTunnel, Tunnel::Ipip),
        (InTunnel, gue(TunnelFlags::NO_CHECKSUM)),
        (InTunnel, gue(TunnelFlags::CHECKSUM)),
        (InTunnel, gue(TunnelFlags::REMOTE_CHECKSUM)),
        (InTunnel, gre(TunnelFlags::NO_CHECKSUM)),
        (InTunnel, gre(TunnelFlags::CHECKSUM)),
    ];
    // A server of the other IP version can be reached through a tunnel only.
    let across = kinds.into_iter().filter(|(method, _)| *method == InTunnel).map(|kind| (kind, true));
    let kinds = kinds.into_iter().map(|kind| (kind, false)).chain(across).enumerate();
    let each = kinds.map(|(number, ((method, tunnel), across))| {
        let (upper_threshold, lower_threshold) = [(0, 0), (100, 0), (100, 50)][number % 3];
        let weight = KernelWeight([0, 1, 65_535, 7][number % 4]);
        let server = server(key, method, across, number);
        (server, Destination { server, method, tunnel, weight, upper_threshold, lower_threshold })
    });
    each.collect()
}

/// A server's address. Only masquerading changes ports: otherwise ipvsadm insists on the service's.
fn server(key: &ServiceKey, method: ForwardingMethod, across: bool, number: usize) -> SocketAddr {
    let port = match key {
        _ if method == ForwardingMethod::Masquerade => 8080,
        ServiceKey::Address { address, .. } => address.port(),
        ServiceKey::Mark { .. } => 0,
    };
    match (key.family(), across) {
        (AddressFamily::V4, false) | (AddressFamily::V6, true) => {
            address(&format!("10.0.0.{}:{port}", number + 1))
        }
        _ => address(&format!("[2001:db8:1::{:x}]:{port}", number + 1)),
    }
}

/// The schedulers that this kernel has. Some distributions build all but the newest.
fn schedulers() -> Vec<&'static str> {
    let has = |name: &&str| {
        let status = Command::new("modprobe").args(["-q", &format!("ip_vs_{name}")]).status();
        status.expect("modprobe(8) is needed").success()
    };
    let (available, missing): (Vec<_>, Vec<_>) = Scheduler::NAMES.into_iter().partition(has);
    assert!(missing.is_empty() || missing == ["twos"], "no modules for the schedulers {missing:?}");
    available
}

/// One table for each persistence; schedulers and flags change from one service to the next, none is left out.
pub(super) fn tables() -> Vec<Table> {
    let flags = [
        ServiceFlags::NONE,
        ServiceFlags::SCHEDULER_1 | ServiceFlags::SCHEDULER_2,
        ServiceFlags::SCHEDULER_2,
        ServiceFlags::SCHEDULER_1,
    ];
    let available = schedulers();
    let mut schedulers = available.iter().cycle();
    let mut table = |which: usize| {
        let entry = |(number, key): (usize, ServiceKey)| {
            let udp = matches!(key, ServiceKey::Address { protocol: Protocol::Udp, .. });
            let persistence = persistence(key.family())[which];
            let one_packet = if udp && which == 0 { ServiceFlags::ONE_PACKET } else { ServiceFlags::NONE };
            let service = Service {
                key,
                scheduler: scheduler(schedulers.next().unwrap()),
                flags: flags[(number + which) % flags.len()] | one_packet,
                persistence,
                persistence_engine: (udp && persistence.is_some()).then(|| "sip".to_owned()),
            };
            (key, ServiceEntry { service, destinations: destinations(&key) })
        };
        Table { services: keys().into_iter().enumerate().map(entry).collect() }
    };
    let tables: Vec<Table> = (0..3).map(&mut table).collect();
    for name in &available {
        let mut services = tables.iter().flat_map(|table| table.services.values());
        assert!(services.any(|entry| entry.service.scheduler.as_str() == *name), "{name} is not tried");
    }
    tables
}
