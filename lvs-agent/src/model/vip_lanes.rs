//! Which server has which lane to its VIP. Pure.
//!
//! Marks and source ports come from a hash of what they are for, so that they are the same after a reload and a restart
//! as long as the configuration is.

use std::{collections::HashSet, net::SocketAddr};

use super::{
    Check, Config, DestinationKey, ForwardingMethod, FurtherChecks, Mode, PortBlock, Protocol, RealServer,
    ServiceKey, VipLane, VipMarks, VirtualService,
};

/// Gives each server that is asked at the VIP its lane, where the kernel's table is the agent's to write. `mode` and
/// `marks` are those in force.
pub fn assign(config: &mut Config, mode: Mode, marks: VipMarks) {
    if mode != Mode::Manage {
        return;
    }
    let mut taken = HashSet::new();
    for service in &mut config.services {
        of_service(service, marks, &mut taken);
    }
}

fn of_service(service: &mut VirtualService, marks: VipMarks, taken: &mut HashSet<u16>) {
    let key = service.key;
    let ServiceKey::Address { address: vip, protocol: Protocol::Tcp } = key else { return };
    if vip.port() == 0 {
        return;
    }
    let mut blocks = HashSet::new();
    let mut lane = |server: &RealServer| {
        if !can_be_reached(vip, server) {
            return None;
        }
        let hash = hash(&DestinationKey { service: key, server: server.address });
        let number = free(hash, u32::from(u16::MAX) + 1, taken)?;
        let block = free(hash, PortBlock::COUNT.into(), &mut blocks)?;
        let ports = PortBlock::new(u8::try_from(block).unwrap_or_default());
        let mark = marks.mark(number);
        Some(VipLane { vip, mark, server: server.address, method: server.method, ports })
    };
    let (check, further) = (service.check.clone(), service.further.clone());
    let wants = |check: &Check, further: &FurtherChecks| {
        check.via.wants_vip() || further.checks.iter().any(|check| check.via.wants_vip())
    };
    for server in &mut service.servers {
        let (mut own, mut others) = match &server.check {
            Some(own) => (own.clone(), server.further.clone()),
            None => (check.clone(), further.clone()),
        };
        if !wants(&own, &others) {
            continue;
        }
        let Some(lane) = lane(server) else { continue };
        for check in std::iter::once(&mut own).chain(&mut others.checks) {
            lead(check, lane);
        }
        (server.check, server.further) = (Some(own), others);
    }
    for backup in &mut service.policy.backups {
        if let Some(check) = backup.check.as_mut().filter(|check| check.via.wants_vip())
            && let Some(lane) = lane(&backup.server)
        {
            lead(check, lane);
        }
    }
}

/// Whether IPVS forwards to that server: not where the director itself serves.
fn can_be_reached(vip: SocketAddr, server: &RealServer) -> bool {
    let forwards = matches!(
        server.method,
        ForwardingMethod::Masquerade | ForwardingMethod::DirectRoute | ForwardingMethod::Tunnel
    );
    forwards && vip.is_ipv4() == server.address.is_ipv4()
}

fn lead(check: &mut Check, lane: VipLane) {
    if check.via.wants_vip() && check.kind.can_ask_vip() {
        check.via.lane = Some(lane);
    }
}

/// The first number from the hash on that nobody has, which is taken then; where all are taken, the hash's own.
fn free(hash: u32, count: u32, taken: &mut HashSet<u16>) -> Option<u16> {
    let number = |step: u32| u16::try_from(hash.wrapping_add(step) % count).ok();
    let found = (0..count).filter_map(number).find(|number| !taken.contains(number));
    let found = found.or_else(|| number(0))?;
    taken.insert(found);
    Some(found)
}

/// FNV-1a of the destination as text: the same in every version of this program.
fn hash(destination: &DestinationKey) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = destination.to_string().bytes().fold(0x811c_9dc5, step);
    // The low bits of neighbours differ least.
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::native;

    fn assigned(text: &str) -> Config {
        let mut config = native::read(text, "test.toml".as_ref()).unwrap_or_else(|error| panic!("{error}"));
        let (mode, marks) = (config.agent.mode, config.agent.vip_marks);
        assign(&mut config, mode, marks);
        config
    }

    fn service(check: &str, servers: std::ops::Range<u16>) -> String {
        let server = |number: u16| {
            format!(
                "[[service.server]]\naddress = \"10.0.{}.{}\"\nforward = \"direct-route\"\n",
                number / 250,
                number % 250 + 1
            )
        };
        let servers: String = servers.map(server).collect();
        format!("[[service]]\naddress = \"192.0.2.1:80\"\ncheck = {check}\n{servers}")
    }

    fn lanes(config: &Config) -> Vec<VipLane> {
        let checks = config.services.iter().flat_map(VirtualService::all_checks);
        checks.filter_map(|(_, _, check)| check.via.lane).collect()
    }

    const VIP: &str = "{ via = \"vip\", source = \"10.0.9.9\" }";

    #[test]
    fn each_server_has_a_mark_and_ports_of_its_own() {
        let config = assigned(&service(VIP, 0..200));
        let lanes = lanes(&config);
        let marks: HashSet<u32> = lanes.iter().map(|lane| lane.mark).collect();
        let ports: HashSet<PortBlock> = lanes.iter().map(|lane| lane.ports).collect();
        assert_eq!((lanes.len(), marks.len(), ports.len()), (200, 200, 200));
        assert!(marks.iter().all(|mark| config.agent.vip_marks.contains(*mark)));
        let last = PortBlock::new(u8::MAX).ports();
        assert!(*last.end() <= 60_999, "{last:?}");
    }

    #[test]
    fn marks_stay_when_servers_come_and_go() {
        let (all, half) = (assigned(&service(VIP, 0..100)), assigned(&service(VIP, 50..100)));
        let all: HashSet<_> = lanes(&all).into_iter().map(|lane| (lane.server, lane.mark)).collect();
        let kept = lanes(&half).into_iter().filter(|lane| all.contains(&(lane.server, lane.mark))).count();
        assert!(kept >= 48, "of 50 only {kept} have kept their mark");
    }

    #[test]
    fn more_servers_than_blocks_of_ports_share_some() {
        assert_eq!(lanes(&assigned(&service(VIP, 0..300))).len(), 300);
    }

    #[test]
    fn only_what_asks_for_it_is_led_by_the_vip() {
        for check in ["{}", "{ type = \"http\" }", "{ via = \"server\" }"] {
            let config = assigned(&service(check, 0..2));
            assert_eq!(lanes(&config), [], "{check}");
            assert!(config.services[0].servers.iter().all(|server| server.check.is_none()), "{check}");
        }
        let several = format!("[{VIP}, {{ type = \"ping\" }}]");
        assert_eq!(lanes(&assigned(&service(&several, 0..2))).len(), 2);
        let observing = format!("[agent]\nmode = \"observe\"\n{}", service(VIP, 0..2));
        assert_eq!(lanes(&assigned(&observing)), []);
    }
}
