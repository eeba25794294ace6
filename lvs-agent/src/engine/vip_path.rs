//! The private services that lead probes to VIPs: one for each server, by firewall mark, with that server alone. Pure.
//!
//! They are told from services of others by their marks and by a scheduler flag that no scheduler has a use for
//! (`IP_VS_SVC_F_SCHED3` in `include/uapi/linux/ip_vs.h`).

use std::collections::BTreeSet;

use super::Engine;
use crate::{
    ipvs::{ServiceEntry, ServiceFlags, Table, Wanted, WantedDestination, WantedService, Wish},
    model::{RealServer, Scheduler, ServiceKey, Via, VipLane, VipMarks, VirtualService, Weight},
};

/// By which private services are known.
const FLAG: ServiceFlags = ServiceFlags::SCHEDULER_3;

impl Engine {
    /// The services of the desired table that lead probes to VIPs.
    pub(crate) fn private_services(&self) -> BTreeSet<ServiceKey> {
        let private = self.services.iter().flat_map(|service| wanted_by(&service.config));
        private.map(|(key, _)| key).collect()
    }
}

/// Whether a service of the kernel's table is one of these, of this agent or one before it.
pub(crate) fn is_private(key: &ServiceKey, entry: &ServiceEntry, marks: VipMarks) -> bool {
    has_own_mark(key, marks) && entry.service.flags.contains(FLAG)
}

/// Whether a service has one of the marks of probes to VIPs.
pub(crate) fn has_own_mark(key: &ServiceKey, marks: VipMarks) -> bool {
    matches!(key, ServiceKey::Mark { mark, .. } if marks.contains(*mark))
}

/// The lanes of all servers, each once.
pub(crate) fn lanes(services: &[VirtualService]) -> BTreeSet<VipLane> {
    services.iter().flat_map(of_service).map(|(lane, _)| lane).collect()
}

/// The private services that one service needs.
pub(super) fn wanted_by(
    service: &VirtualService,
) -> impl Iterator<Item = (ServiceKey, WantedService)> + use<'_> {
    of_service(service).map(|(lane, server)| (lane.service(), private_service(lane, server)))
}

/// What is to go of the kernel's table as it was found: private services that an earlier agent has left.
pub(crate) fn left_over(table: &Table, wanted: &Wanted, marks: VipMarks) -> BTreeSet<ServiceKey> {
    let is_left = |(key, entry): &(&ServiceKey, &ServiceEntry)| {
        is_private(key, entry, marks) && !wanted.services.contains_key(key)
    };
    table.services.iter().filter(is_left).map(|(key, _)| *key).collect()
}

/// By which way a probe to a VIP reaches its server, for people.
pub(super) fn words(via: &Via) -> Option<String> {
    let VipLane { vip, mark, method, .. } = via.lane?;
    let source =
        via.source.map_or_else(|| "this director's own address".to_owned(), |source| source.to_string());
    Some(format!("VIP {vip} by {method}, from {source}, mark {mark:#x}"))
}

fn of_service(service: &VirtualService) -> impl Iterator<Item = (VipLane, &RealServer)> {
    service.roles().filter_map(|role| {
        let lane = service.checks_of_role(role).find_map(|check| check.via.lane)?;
        Some((lane, service.server_of(role)?))
    })
}

/// Weight 1, whatever the server's weight is: at weight 0 the director itself would refuse the probe.
fn private_service(lane: VipLane, server: &RealServer) -> WantedService {
    let destination = WantedDestination {
        tunnel: Wish::Set(server.tunnel),
        upper_threshold: Wish::Set(0),
        lower_threshold: Wish::Set(0),
        ..WantedDestination::new(server.method, Weight(1))
    };
    // Of one server every scheduler takes that one; this is the simplest.
    let scheduler = "rr".parse::<Scheduler>().unwrap_or_default();
    let mut service = WantedService::new(scheduler.into());
    service.flags = Wish::Set(FLAG);
    service.persistence = Wish::Set(None);
    service.persistence_engine = Wish::Set(None);
    service.destinations.insert(lane.server, destination);
    service
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        config::native,
        ipvs::{Edit, difference},
        model::{Config, Mode, vip_lanes},
    };

    /// The private services that these need.
    fn wanted(services: &[VirtualService]) -> BTreeMap<ServiceKey, WantedService> {
        services.iter().flat_map(wanted_by).collect()
    }

    fn config(servers: u8) -> Config {
        let server = |host| format!("[[service.server]]\naddress = \"10.0.0.{host}\"\nweight = 0\n");
        let servers: String = (1..=servers).map(server).collect();
        let text = format!(
            "[[service]]\naddress = \"192.0.2.1:80\"\nforward = \"direct-route\"\npersistent = \"300s\"\n\
             check = {{ via = \"vip\", source = \"10.0.0.250\" }}\n{servers}"
        );
        let mut config = native::read(&text, "test.toml".as_ref()).unwrap_or_else(|error| panic!("{error}"));
        vip_lanes::assign(&mut config, Mode::Manage, VipMarks::default());
        config
    }

    /// A table as the agent makes it of these private services.
    fn table(config: &Config) -> Table {
        let wanted = Wanted { services: wanted(&config.services), ..Wanted::default() };
        let mut table = Table::default();
        for edit in difference(&table.clone(), &wanted) {
            table.apply(&edit).unwrap();
        }
        table
    }

    #[test]
    fn each_server_has_a_private_service_of_its_own() {
        let marks = VipMarks::default();
        let table = table(&config(3));
        assert_eq!(table.services.len(), 3);
        for (key, entry) in &table.services {
            assert!(is_private(key, entry, marks));
            assert_eq!(entry.destinations.len(), 1);
            assert!(entry.takes_connections() && entry.service.persistence.is_none());
        }
    }

    #[test]
    fn what_an_earlier_agent_has_left_goes_and_what_others_have_stays() {
        let marks = VipMarks::default();
        let (before, now) = (config(3), config(2));
        let mut found = table(&before);
        let key = ServiceKey::Mark { mark: marks.last(), family: crate::model::AddressFamily::V4 };
        let mut foreign = found.services.values().next().unwrap().clone();
        (foreign.service.key, foreign.service.flags) = (key, ServiceFlags::NONE);
        found.apply(&Edit::AddService(foreign.service)).unwrap();
        let wanted = Wanted { services: wanted(&now.services), ..Wanted::default() };
        let left = left_over(&found, &wanted, marks);
        assert_eq!(left.len(), 1);
        assert!(!left.contains(&key) && left.iter().all(|key| !wanted.services.contains_key(key)));
    }
}
