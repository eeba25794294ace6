//! What people order about servers: which ones they mean, and what is ordered. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use super::{Effects, Engine};
use crate::{
    control::ServerName,
    model::{DestinationKey, VirtualService, Weight},
    pool::{AdminAction, AdminCommands, AdminState, Drain},
};

/// The servers that files in the folder name: at one port, or at all of them.
pub(crate) type MaintenanceSet = BTreeSet<(IpAddr, Option<u16>)>;

/// Whether a server is among them.
pub(crate) fn is_maintained(maintained: &MaintenanceSet, server: SocketAddr) -> bool {
    maintained.contains(&(server.ip(), None)) || maintained.contains(&(server.ip(), Some(server.port())))
}

/// How many servers or services are proposed instead of one that isn't there.
const PROPOSED: usize = 3;

/// What is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdminCommand {
    /// No new connections from now on; with [`Drain::Remove`] it leaves the table.
    Drain(Drain),
    /// A drain is over.
    Undrain,
    /// It is out as if it had failed, or no longer.
    Maintenance(bool),
    /// None: people only want to know.
    Query,
}

impl AdminCommand {
    /// What it changes; `None` for a query.
    pub(crate) fn action(self) -> Option<AdminAction> {
        match self {
            Self::Drain(drain) => Some(AdminAction::Drain(drain)),
            Self::Undrain => Some(AdminAction::Undrain),
            Self::Maintenance(on) => Some(AdminAction::Maintenance(on)),
            Self::Query => None,
        }
    }

    fn apply(self, admin_state: AdminState) -> AdminState {
        let commands = match self {
            Self::Drain(drain) => AdminCommands { drain: Some(drain), ..admin_state.commands },
            Self::Undrain => AdminCommands { drain: None, ..admin_state.commands },
            Self::Maintenance(maintenance) => AdminCommands { maintenance, ..admin_state.commands },
            Self::Query => admin_state.commands,
        };
        AdminState { commands, ..admin_state }
    }
}

/// Which servers a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSelector {
    pub(crate) server: ServerName,
    /// In this service only: its name, its key, or its address.
    pub(crate) service: Option<String>,
}

/// A server of a service that an order was about, and how it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandResult {
    pub(crate) destination: DestinationKey,
    /// The name of its service.
    pub(crate) service: Arc<str>,
    /// `None`: it shall not be in the table.
    pub(crate) weight: Option<Weight>,
    pub(crate) admin_state: AdminState,
}

/// There is no such server or service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    #[error("no service has a server {server}{}", instead(.near))]
    Server { server: ServerName, near: Vec<String> },
    #[error("there is no service {service:?}{}", instead(.near))]
    Service { service: String, near: Vec<String> },
    #[error("service {service:?} has no server {server}; it belongs to {}", .has_it.join(", "))]
    NotInService { server: ServerName, service: String, has_it: Vec<String> },
}

fn instead(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; there are {}, …", near.join(", ")) }
}

/// Carries an order out, and says about whom it was and what has come of it.
pub(crate) fn apply(
    engine: &mut Engine,
    order: AdminCommand,
    selector: &ServerSelector,
    now: Instant,
) -> Result<(Vec<CommandResult>, Effects), Unknown> {
    let destinations = find(engine, selector)?;
    let mut all = Effects::default();
    if order != AdminCommand::Query {
        for destination in &destinations {
            let admin_state = order.apply(engine.admin_state(destination));
            let Some(effects) = engine.set_admin_state(destination, admin_state, now) else { continue };
            all.extend(effects);
        }
    }
    let ordered = destinations.into_iter().map(|destination| CommandResult {
        destination,
        service: engine.service_name(&destination),
        weight: engine.weight(&destination),
        admin_state: engine.admin_state(&destination),
    });
    Ok((ordered.collect(), all))
}

/// The destinations that are selected, at least one.
fn find(engine: &Engine, selector: &ServerSelector) -> Result<Vec<DestinationKey>, Unknown> {
    let ServerSelector { server, service } = selector;
    let found: Vec<_> = engine.all().filter(|(destination, ..)| server.is(destination.server)).collect();
    let Some(wanted) = service else {
        let mut destinations: Vec<_> = found.iter().map(|(destination, ..)| *destination).collect();
        destinations.dedup();
        return if destinations.is_empty() { Err(no_server(engine, *server)) } else { Ok(destinations) };
    };
    if !engine.services().any(|(one, _)| is_named(one, wanted)) {
        let names = engine.services().map(|(one, _)| one.name.clone());
        return Err(Unknown::Service { service: wanted.clone(), near: nearest(names, wanted) });
    }
    let of_service = found.iter().filter(|(_, one, ..)| is_named(one, wanted));
    let mut destinations: Vec<_> = of_service.map(|(destination, ..)| *destination).collect();
    destinations.dedup();
    if !destinations.is_empty() {
        Ok(destinations)
    } else if found.is_empty() {
        Err(no_server(engine, *server))
    } else {
        let mut has_it: Vec<String> = found.iter().map(|(_, one, ..)| format!("{:?}", one.name)).collect();
        has_it.dedup();
        Err(Unknown::NotInService { server: *server, service: wanted.clone(), has_it })
    }
}

fn is_named(service: &VirtualService, wanted: &str) -> bool {
    let key = service.key.to_string();
    let address = key.split_once(' ').map_or("", |(_, address)| address);
    service.name == wanted || key == wanted || address == wanted
}

fn no_server(engine: &Engine, server: ServerName) -> Unknown {
    let servers = engine.all().map(|(destination, ..)| destination.server);
    let mut servers: Vec<SocketAddr> = servers.collect();
    servers.sort_unstable();
    servers.dedup();
    let near = nearest(servers.into_iter().map(|one| one.to_string()), &server.to_string());
    Unknown::Server { server, near }
}

/// Those that look most like what was written.
fn nearest(names: impl Iterator<Item = String>, wanted: &str) -> Vec<String> {
    let mut scored: Vec<(f64, String)> =
        names.map(|name| (strsim::normalized_damerau_levenshtein(&name, wanted), name)).collect();
    scored.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    scored.into_iter().take(PROPOSED).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::native, pool::Presence};

    fn engine() -> Engine {
        let text = r#"
            [defaults]
            forward = "masquerade"
            [[service]]
            name = "web"
            address = "192.0.2.1:80"
            [[service.server]]
            address = "10.0.0.1:80"
            [[service.server]]
            address = "10.0.0.2:80"
            [[service]]
            name = "mail"
            address = "192.0.2.1:25"
            [[service.server]]
            address = "10.0.0.1:25"
        "#;
        let config = native::read(text, "test.toml".as_ref()).expect("it is a configuration");
        Engine::new(&config.services, |_| Presence::In)
    }

    fn selector(server: &str, service: Option<&str>) -> ServerSelector {
        ServerSelector { server: server.parse().unwrap(), service: service.map(str::to_owned) }
    }

    #[test]
    fn servers_are_found_by_address_and_perhaps_port_and_service() {
        let mut engine = engine();
        let cases = [
            ("10.0.0.1", None, Ok("web 10.0.0.1:80, mail 10.0.0.1:25")),
            ("10.0.0.1:25", None, Ok("mail 10.0.0.1:25")),
            ("10.0.0.1", Some("web"), Ok("web 10.0.0.1:80")),
            ("10.0.0.1", Some("tcp 192.0.2.1:25"), Ok("mail 10.0.0.1:25")),
            ("10.0.0.1", Some("192.0.2.1:25"), Ok("mail 10.0.0.1:25")),
            (
                "10.0.0.3:80",
                None,
                Err(
                    "no service has a server 10.0.0.3:80; there are 10.0.0.1:80, 10.0.0.2:80, 10.0.0.1:25, …",
                ),
            ),
            ("10.0.0.1", Some("wbe"), Err("there is no service \"wbe\"; there are web, mail, …")),
            ("10.0.0.2", Some("mail"), Err("service \"mail\" has no server 10.0.0.2; it belongs to \"web\"")),
        ];
        for (server, service, expected) in cases {
            let found = apply(&mut engine, AdminCommand::Query, &selector(server, service), Instant::now());
            let found = found.map(|(ordered, effects)| {
                assert_eq!(effects, Effects::default());
                let told = ordered.iter().map(|one| format!("{} {}", one.service, one.destination.server));
                told.collect::<Vec<_>>().join(", ")
            });
            let found = found.map_err(|unknown| unknown.to_string());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{server} {service:?}");
        }
    }

    #[test]
    fn maintenance_is_for_one_port_or_all() {
        let maintained = MaintenanceSet::from([
            (IpAddr::from([10, 0, 0, 1]), None),
            (IpAddr::from([10, 0, 0, 2]), Some(80)),
        ]);
        let is = |server: &str| is_maintained(&maintained, server.parse().unwrap());
        assert_eq!(["10.0.0.1:80", "10.0.0.1:443", "10.0.0.2:80"].map(is), [true; 3]);
        assert_eq!(["10.0.0.2:443", "10.0.0.3:80"].map(is), [false; 2]);
    }

    #[test]
    fn orders_leave_each_other_alone() {
        let mut engine = engine();
        let now = Instant::now();
        let server = selector("10.0.0.1:80", None);
        let mut order = |order| {
            let (ordered, effects) = apply(&mut engine, order, &server, now).unwrap();
            assert_eq!(ordered.len(), 1);
            let CommandResult { weight, admin_state, .. } = &ordered[0];
            (
                weight.map(|weight| weight.0),
                admin_state.commands.drain,
                admin_state.commands.maintenance,
                effects.table_changed,
            )
        };
        let (quiesce, remove) = (Some(Drain::Quiesce), Some(Drain::Remove));
        assert_eq!(order(AdminCommand::Query), (Some(1), None, false, false));
        assert_eq!(order(AdminCommand::Drain(Drain::Quiesce)), (Some(0), quiesce, false, true));
        assert_eq!(order(AdminCommand::Maintenance(true)), (Some(0), quiesce, true, false));
        assert_eq!(order(AdminCommand::Drain(Drain::Remove)), (None, remove, true, true));
        assert_eq!(order(AdminCommand::Undrain), (Some(0), None, true, true));
        assert_eq!(order(AdminCommand::Maintenance(false)), (Some(1), None, false, true));
        assert_eq!(engine.disabled_since(&find(&engine, &server).unwrap()[0]), None);
    }
}
