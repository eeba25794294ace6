//! Between the kernel's table and the engine: how destinations stand in a table that was found, and what is wanted of it at
//! the end. Pure.

use std::collections::BTreeSet;

use crate::{
    ipvs::{Table, Wanted},
    model::{Config, DestinationKey, OnExit, VirtualService},
    pool::Presence,
};

/// How a destination stands in the table that was found.
pub(crate) fn found(table: &Table, key: &DestinationKey) -> Presence {
    let destination = table.services.get(&key.service).and_then(|entry| entry.destinations.get(&key.server));
    Presence::in_table(destination.map(|destination| destination.weight.takes_connections()))
}

/// What the table should be at the end, if that is not as it is.
pub(crate) fn last_wanted(config: &Config) -> Option<Wanted> {
    let ends = |service: &&VirtualService| service.on_exit.unwrap_or(config.agent.on_exit) == OnExit::Remove;
    let unwanted: BTreeSet<_> = config.services.iter().filter(ends).map(|service| service.key).collect();
    (!unwanted.is_empty()).then(|| Wanted { unwanted, ..Wanted::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_end_each_service_goes_or_stays_as_it_says() {
        let unwanted = |all: &str, own: [&str; 2]| {
            let service = |number: usize, on_exit: &str| {
                format!(
                    "[[service]]\naddress = \"192.0.2.{number}:80\"\nforward = \"masquerade\"\n{on_exit}\n\
                     [[service.server]]\naddress = \"10.0.0.1\"\n"
                )
            };
            let text = format!("[agent]\n{all}\n{}{}", service(1, own[0]), service(2, own[1]));
            let config =
                crate::config::native::read(&text, "test.toml".as_ref()).expect("it is a configuration");
            let last = last_wanted(&config)?;
            Some(last.unwanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        };
        let (keep, remove) = ("on-exit = \"keep\"", "on-exit = \"remove\"");
        let cases = [
            ("", ["", ""], None),
            (remove, ["", ""], Some("tcp 192.0.2.1:80, tcp 192.0.2.2:80")),
            (remove, [keep, ""], Some("tcp 192.0.2.2:80")),
            (keep, ["", remove], Some("tcp 192.0.2.2:80")),
            (remove, [keep, keep], None),
        ];
        for (all, own, expected) in cases {
            assert_eq!(unwanted(all, own).as_deref(), expected, "{all} {own:?}");
        }
    }
}
