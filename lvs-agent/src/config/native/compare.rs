//! What only shows when services and servers are compared with each other.

use std::{collections::HashMap, net::IpAddr, ops::Range};

use super::service::ReadService;
use crate::{
    config::diagnostics::{Contradiction, FaultKind, FaultList, ValueFault},
    model::{AgentSettings, ServiceKey},
};

/// Notes services that are there twice or have a mark of the agent's own probes, servers that are twice in a service,
/// and servers that are VIPs.
pub(super) fn services(services: &[ReadService], agent: &AgentSettings, text: &str, faults: &mut FaultList) {
    let ends: Vec<usize> = text.match_indices('\n').map(|(end, _)| end).collect();
    let line = |place: &Range<usize>| ends.partition_point(|end| *end < place.start) + 1;
    let mut keys = HashMap::new();
    let mut names = HashMap::new();
    for read in services {
        if let ServiceKey::Mark { mark, .. } = read.service.key
            && let Some(fault) = own_mark(mark, agent)
        {
            faults.add(read.address.clone(), FaultKind::Value { key: "mark", fault });
        }
        if let Some(other) = keys.insert(read.service.key, &read.address) {
            let key = read.service.key.to_string();
            faults.add(read.address.clone(), Contradiction::ServiceTwice { key, line: line(other) });
        } else if let Some(other) = names.insert(&read.service.name, &read.name) {
            let name = read.service.name.clone();
            faults.add(read.name.clone(), Contradiction::NameTwice { name, line: line(other) });
        }
    }
    let mut vips: HashMap<IpAddr, &Range<usize>> = HashMap::new();
    for read in services {
        if let ServiceKey::Address { address, .. } = read.service.key {
            vips.entry(address.ip()).or_insert(&read.address);
        }
    }
    announcements(services, &line, faults);
    for read in services {
        let mut addresses = HashMap::new();
        for (server, place) in read.service.servers.iter().zip(&read.servers) {
            if let Some(vip) = vips.get(&server.address.ip()) {
                let address = server.address.ip().to_string();
                faults.add(place.clone(), Contradiction::ServerIsVip { address, line: line(vip) });
            }
            if let Some(other) = addresses.insert(server.address, place) {
                let server = server.address.to_string();
                faults.add(place.clone(), Contradiction::ServerTwice { server, line: line(other) });
            }
        }
        let mut backups = HashMap::new();
        for (backup, place) in read.service.policy.backups.iter().zip(&read.backups) {
            if let Some(other) = addresses.get(&backup.server.address) {
                let server = backup.server.address.to_string();
                faults.add(place.clone(), Contradiction::BackupIsServer { server, line: line(other) });
            } else if let Some(other) = backups.insert(backup.server.address, place) {
                let server = backup.server.address.to_string();
                faults.add(place.clone(), Contradiction::ServerTwice { server, line: line(other) });
            }
        }
    }
}

/// What is wrong with a service by this mark, where the agent's own probes have it.
fn own_mark(mark: u32, agent: &AgentSettings) -> Option<ValueFault> {
    if mark == agent.probe_mark {
        return Some(ValueFault::ProbeMark { mark });
    }
    agent.vip_marks.contains(mark).then_some(ValueFault::VipMark { mark })
}

/// Notes services on one address that say different things of how it is announced.
fn announcements(services: &[ReadService], line: &impl Fn(&Range<usize>) -> usize, faults: &mut FaultList) {
    let mut announced: HashMap<IpAddr, &ReadService> = HashMap::new();
    for read in services {
        let ServiceKey::Address { address, .. } = read.service.key else { continue };
        if read.service.announce.is_none() {
            continue;
        }
        let first = announced.entry(address.ip()).or_insert(read);
        if first.service.announce != read.service.announce {
            let (address, line) = (address.ip().to_string(), line(&first.address));
            faults.add(read.address.clone(), Contradiction::AnnouncedOtherwise { address, line });
        }
    }
}
