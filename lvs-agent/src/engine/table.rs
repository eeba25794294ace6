//! Between the kernel's table and the engine: the presence of destinations in it, and the table desired at exit. Pure.

use std::collections::BTreeSet;

use super::vip_path;
use crate::{
    ipvs::{Table, Wanted, overrides::Snapshot},
    model::{Config, DestinationKey, OnExit, VirtualService},
    pool::Presence,
};

/// The presence of a destination in the kernel's table.
pub(crate) fn presence(table: &Table, key: &DestinationKey) -> Presence {
    let destination = table.services.get(&key.service).and_then(|entry| entry.destinations.get(&key.server));
    Presence::in_table(destination.map(|destination| destination.weight.takes_connections()))
}

/// The presence of a destination in the kernel's table when the agent starts: whom an earlier agent has taken out of it
/// is told from whom nobody has put in.
pub(crate) fn presence_at_start(snapshot: &Snapshot, key: &DestinationKey) -> Presence {
    match presence(&snapshot.table, key) {
        Presence::Absent if snapshot.overrides.ours(key, None).is_some() => Presence::Removed,
        presence => presence,
    }
}

/// The table desired when the agent exits; `None`: it stays as it is. Private services go with the agent.
pub(crate) fn wanted_at_exit(config: &Config) -> Option<Wanted> {
    let removes =
        |service: &&VirtualService| service.on_exit.unwrap_or(config.agent.on_exit) == OnExit::Remove;
    let private = vip_path::lanes(&config.services).into_iter().map(|lane| lane.service());
    let unwanted: BTreeSet<_> =
        config.services.iter().filter(removes).map(|service| service.key).chain(private).collect();
    (!unwanted.is_empty()).then(|| Wanted { unwanted, ..Wanted::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ipvs::{
            Destination, KernelWeight,
            overrides::{Override, Overrides},
        },
        model::{ForwardingMethod, Protocol, ServiceKey, Tunnel},
    };

    #[test]
    fn whom_an_earlier_agent_has_removed_is_told_from_whom_nobody_has_put_in() {
        let address = ([192, 0, 2, 1], 80).into();
        let service = ServiceKey::Address { protocol: Protocol::Tcp, address };
        let key = |host| DestinationKey { service, server: ([10, 0, 0, host], 80).into() };
        let original = Destination {
            server: key(1).server,
            method: ForwardingMethod::Masquerade,
            tunnel: Tunnel::Ipip,
            weight: KernelWeight(1),
            upper_threshold: 0,
            lower_threshold: 0,
        };
        let removed = Override { original, current: None, previous: None };
        let snapshot = Snapshot { table: Table::default(), overrides: Overrides::new([(key(1), removed)]) };
        let presence = |host| presence_at_start(&snapshot, &key(host));
        assert_eq!([presence(1), presence(2)], [Presence::Removed, Presence::Absent]);
    }

    #[test]
    fn at_exit_each_service_is_removed_or_kept_as_configured() {
        let unwanted = |agent: &str, services: [&str; 2]| {
            let service = |number: usize, on_exit: &str| {
                format!(
                    "[[service]]\naddress = \"192.0.2.{number}:80\"\nforward = \"masquerade\"\n{on_exit}\n\
                     [[service.server]]\naddress = \"10.0.0.1\"\n"
                )
            };
            let text = format!("[agent]\n{agent}\n{}{}", service(1, services[0]), service(2, services[1]));
            let config =
                crate::config::native::read(&text, "test.toml".as_ref()).expect("it is a configuration");
            let wanted = wanted_at_exit(&config)?;
            Some(wanted.unwanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        };
        let (keep, remove) = ("on-exit = \"keep\"", "on-exit = \"remove\"");
        let cases = [
            ("", ["", ""], None),
            (remove, ["", ""], Some("tcp 192.0.2.1:80, tcp 192.0.2.2:80")),
            (remove, [keep, ""], Some("tcp 192.0.2.2:80")),
            (keep, ["", remove], Some("tcp 192.0.2.2:80")),
            (remove, [keep, keep], None),
        ];
        for (agent, services, expected) in cases {
            assert_eq!(unwanted(agent, services).as_deref(), expected, "{agent} {services:?}");
        }
    }
}
