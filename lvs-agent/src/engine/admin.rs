//! Admin commands, and what they do to servers. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use super::{
    Effects, Engine,
    selection::{ServerSelector, Unknown, select},
};
use crate::{
    model::{DestinationKey, Weight},
    pool::{AdminAction, AdminCommands, AdminState, Drain},
};

/// The servers that files in the maintenance directory name: one port, or all ports.
pub(crate) type MaintenanceSet = BTreeSet<(IpAddr, Option<u16>)>;

/// Whether a server is in the set.
pub(crate) fn is_maintained(maintained: &MaintenanceSet, server: SocketAddr) -> bool {
    maintained.contains(&(server.ip(), None)) || maintained.contains(&(server.ip(), Some(server.port())))
}

impl Engine {
    /// Sets the servers that files in the maintenance directory name; they are out until others are set.
    pub(crate) fn set_maintenance(&mut self, maintained: MaintenanceSet, now: Instant) -> Effects {
        self.restore_maintenance(maintained, now);
        self.decide_all(now)
    }

    /// The same at the start; [`Engine::begin`] applies it.
    pub(crate) fn restore_maintenance(&mut self, maintained: MaintenanceSet, now: Instant) {
        self.maintained = maintained;
        self.apply_admin_states(now);
    }
}

/// A command about servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdminCommand {
    /// The server gets no new connections; with [`Drain::Remove`] it leaves the table.
    Drain(Drain),
    /// Ends a drain.
    Undrain,
    /// Takes the server out as if it had failed, or ends that.
    Maintenance(bool),
    /// Changes nothing.
    Query,
}

impl AdminCommand {
    /// The action for events; `None` for a query.
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

/// A server that a command was about, and its state after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandResult {
    pub(crate) destination: DestinationKey,
    /// The name of its service.
    pub(crate) service: Arc<str>,
    /// `None`: it is not to be in the table.
    pub(crate) weight: Option<Weight>,
    pub(crate) admin_state: AdminState,
    /// The scheduler under which the kernel refuses the clients of a server at weight 0, if this one is.
    pub(crate) refused_by: Option<&'static str>,
}

impl CommandResult {
    /// Why the server is not enabled, in words for people, and what its clients find.
    pub(crate) fn held(&self) -> Option<String> {
        let reason = self.admin_state.reason()?;
        let refused = self.refused_by.filter(|_| self.weight == Some(Weight::QUIESCENT));
        Some(refused.map_or_else(
            || reason.to_owned(),
            |scheduler| {
                format!(
                    "{reason}; scheduler {scheduler} without a fallback refuses its clients meanwhile: --remove gives \
                     them to the others"
                )
            },
        ))
    }
}

/// Applies a command. Returns the servers that it was about, and its effects.
pub(crate) fn apply(
    engine: &mut Engine,
    command: AdminCommand,
    selector: &ServerSelector,
    now: Instant,
) -> Result<(Vec<CommandResult>, Effects), Unknown> {
    let services: Vec<_> = engine.services().map(|(service, _)| service).collect();
    let destinations = select(&services, selector)?;
    let mut effects = Effects::default();
    if command != AdminCommand::Query {
        for destination in &destinations {
            let admin_state = command.apply(engine.admin_state(destination));
            let Some(more) = engine.set_admin_state(destination, admin_state, now) else { continue };
            effects.extend(more);
        }
    }
    let results = destinations.into_iter().map(|destination| CommandResult {
        destination,
        service: engine.service_name(&destination),
        weight: engine.weight(&destination),
        admin_state: engine.admin_state(&destination),
        refused_by: engine.refused_by(&destination),
    });
    Ok((results.collect(), effects))
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
    fn a_drain_that_refuses_clients_says_so() {
        let held = |lines: &str, command| {
            let text = format!(
                "[[service]]\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\n{lines}\n\
                 [[service.server]]\naddress = \"10.0.0.1:80\"\n"
            );
            let config = native::read(&text, "test.toml".as_ref()).expect("it is a configuration");
            let mut engine = Engine::new(&config.services, |_| Presence::In);
            let (results, _) =
                apply(&mut engine, command, &selector("10.0.0.1", None), Instant::now()).unwrap();
            results[0].held().unwrap_or_default()
        };
        let refuses = "scheduler = \"sh\"\nscheduler-flags = []";
        let (quiesce, remove) = (AdminCommand::Drain(Drain::Quiesce), AdminCommand::Drain(Drain::Remove));
        assert_eq!(held("scheduler = \"sh\"", quiesce), "it is being drained");
        let warned = held(refuses, quiesce);
        assert!(warned.contains("scheduler sh without a fallback refuses its clients"), "{warned}");
        assert!(!held(refuses, remove).contains("refuses"));
        assert_eq!(held(refuses, AdminCommand::Query), "");
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
    fn commands_do_not_affect_each_other() {
        let mut engine = engine();
        let now = Instant::now();
        let server = selector("10.0.0.1:80", None);
        let mut run = |command| {
            let (results, effects) = apply(&mut engine, command, &server, now).unwrap();
            assert_eq!(results.len(), 1);
            let CommandResult { weight, admin_state, .. } = &results[0];
            (
                weight.map(|weight| weight.0),
                admin_state.commands.drain,
                admin_state.commands.maintenance,
                effects.table_changed,
            )
        };
        let (quiesce, remove) = (Some(Drain::Quiesce), Some(Drain::Remove));
        assert_eq!(run(AdminCommand::Query), (Some(1), None, false, false));
        assert_eq!(run(AdminCommand::Drain(Drain::Quiesce)), (Some(0), quiesce, false, true));
        assert_eq!(run(AdminCommand::Maintenance(true)), (Some(0), quiesce, true, false));
        assert_eq!(run(AdminCommand::Drain(Drain::Remove)), (None, remove, true, true));
        assert_eq!(run(AdminCommand::Undrain), (Some(0), None, true, true));
        assert_eq!(run(AdminCommand::Maintenance(false)), (Some(1), None, false, true));
        let destination = engine.destinations().next().unwrap().0;
        assert_eq!(engine.disabled_since(&destination), None);
    }
}
