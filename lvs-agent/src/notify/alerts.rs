//! What is told to whom: mails, commands and lines, from what the controller decides. Their subjects and arguments are
//! ldirectord's.

use std::time::SystemTime;

use tokio::sync::watch as latest;

use super::{CommandOrder, Mail, MailCommand, Notifier};
use crate::{
    engine::{Changes, Engine, Happening},
    health::{State, Transition},
    keyed::KeyMap,
    model::{Config, DestinationKey, OnExit, Role, ServiceKey, VirtualService, Weight},
    pool::PoolEvent,
    probe::{CheckResult, Outcome},
};
use std::sync::Arc;

/// On what occasion something is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    Starting,
    Running,
    Stopping,
    Reloading,
}

/// What made the next changes.
#[derive(Debug)]
struct Cause {
    destination: DestinationKey,
    occasion: Occasion,
    reason: Option<String>,
}

/// Tells what the controller decides. Never waits.
#[derive(Debug)]
pub(crate) struct Teller {
    notifier: Notifier,
    /// How the destinations of services with mails stood when they were last looked at.
    stood: KeyMap<DestinationKey, Option<Weight>>,
    cause: Option<Cause>,
    /// Says what becomes of services that don't say it themselves.
    in_force: latest::Receiver<Arc<Config>>,
}

impl Teller {
    /// All is as it is now.
    pub(crate) fn new(notifier: Notifier, engine: &Engine, in_force: latest::Receiver<Arc<Config>>) -> Self {
        let stood = weights(engine).collect();
        Self { notifier, stood, cause: None, in_force }
    }

    /// The result of a regular check, for whoever wants a line about each.
    pub(crate) fn checked(&self, engine: &Engine, destination: &DestinationKey, result: &CheckResult) {
        let file = engine
            .service(&destination.service)
            .and_then(|(service, _)| service.notify.monitor_file.as_ref());
        if let Some(file) = file {
            self.notifier.line(file.clone(), monitor_line(destination, &result.outcome, SystemTime::now()));
        }
    }

    /// What the next changes come from.
    pub(crate) fn sample(&mut self, destination: &DestinationKey, outcome: &Outcome, transition: Transition) {
        let first = matches!(transition.from, State::Unknown { .. });
        self.cause = Some(Cause {
            destination: *destination,
            occasion: if first { Occasion::Starting } else { Occasion::Running },
            reason: outcome.as_ref().err().map(|failure| failure.reason.to_string()),
        });
    }

    /// What has changed.
    pub(crate) fn changed(&mut self, engine: &Engine, changes: &Changes) {
        let cause = self.cause.take();
        let occasion = cause.as_ref().map_or(Occasion::Running, |cause| cause.occasion);
        for destination in &changes.moved {
            let own = cause.as_ref().filter(|cause| cause.destination == *destination);
            let reason = own.and_then(|cause| cause.reason.as_deref());
            self.stands(engine, destination, occasion, reason);
        }
        for happening in &changes.happenings {
            if let Happening::Service(key, event) = happening
                && let Some((service, _)) = engine.service(key)
            {
                self.command(service, *event);
            }
        }
    }

    /// The list of services is another one: whoever is new or gone.
    pub(crate) fn reloaded(&mut self, engine: &Engine) {
        let all: KeyMap<_, _> = weights(engine).collect();
        for destination in all.keys() {
            self.stands(engine, destination, Occasion::Reloading, None);
        }
        for gone in self.stood.keys().filter(|key| !all.contains_key(key)) {
            self.notifier.mail(MailCommand::StopReminder(*gone));
        }
        self.stood = all;
    }

    /// The agent stops: the services that it takes along.
    pub(crate) fn stopping(&self, engine: &Engine) {
        let on_exit = self.in_force.borrow().agent.on_exit;
        for (service, _) in engine.services() {
            if service.on_exit.unwrap_or(on_exit) != OnExit::Remove {
                continue;
            }
            let servers: Vec<_> = engine
                .destinations_of(&service.key)
                .filter(|destination| engine.weight(destination).is_some())
                .map(|destination| destination.server.to_string())
                .collect();
            let said = format!("Purged virtual server (stop): {}", address_of(&service.key));
            self.mail(service, Occasion::Stopping, &said, &format!("Real servers: {}\n", servers.join(", ")));
        }
    }

    fn stands(
        &mut self,
        engine: &Engine,
        destination: &DestinationKey,
        occasion: Occasion,
        reason: Option<&str>,
    ) {
        let new = engine.weight(destination);
        let old = self.stood.insert(*destination, new).flatten();
        let Some((service, _)) = engine.service(&destination.service) else { return };
        let Some(settings) = &service.notify.mail else { return };
        let role = engine.role(destination);
        let Some(said) = said_of(destination, role, old, new) else { return };
        let reason = reason.map(|reason| format!("Reason: {reason}\n")).unwrap_or_default();
        self.mail(service, occasion, &said, &reason);
        let out = !serves(new);
        if out && matches!(role, Some(Role::Server(_))) {
            let said =
                format!("Inaccessible real server: {} ({})", destination.server, address_of(&service.key));
            let mail = Box::new(compose(service, Occasion::Running, &said, &reason));
            if settings.about.running {
                self.notifier.mail(MailCommand::StartReminder(*destination, mail, settings.clone()));
            }
        } else {
            self.notifier.mail(MailCommand::StopReminder(*destination));
        }
    }

    fn mail(&self, service: &VirtualService, occasion: Occasion, said: &str, more: &str) {
        let Some(settings) = &service.notify.mail else { return };
        let wanted = match occasion {
            Occasion::Starting => settings.about.starting,
            Occasion::Running => settings.about.running,
            Occasion::Stopping => settings.about.stopping,
            Occasion::Reloading => settings.about.reloading,
        };
        if wanted {
            let mail = Box::new(compose(service, occasion, said, more));
            self.notifier.mail(MailCommand::Send(mail, settings.clone()));
        }
    }

    fn command(&self, service: &VirtualService, event: PoolEvent) {
        let quorum = &service.policy.quorum;
        let (own, word) = match event {
            PoolEvent::QuorumBack => (("the command for the quorum's return", &quorum.up), "stop"),
            PoolEvent::QuorumLost => (("the command for the quorum's loss", &quorum.down), "start"),
            _ => return,
        };
        let about = service.name.clone();
        if let (what, Some(line)) = own {
            let order = CommandOrder { what, about: about.clone(), line: line.clone(), added: Vec::new() };
            self.notifier.run(order);
        }
        if let Some(line) = service.notify.fallback_command.clone() {
            let (address, protocol) = match &service.key {
                ServiceKey::Address { protocol, address } => (address.to_string(), protocol.to_string()),
                ServiceKey::Mark { mark, .. } => (format!("{mark}:"), "fwm".to_owned()),
            };
            let added = vec![word.to_owned(), address, protocol];
            self.notifier.run(CommandOrder { what: "the fallback command", about, line, added });
        }
    }
}

fn weights(engine: &Engine) -> impl Iterator<Item = (DestinationKey, Option<Weight>)> {
    engine.all().map(|(destination, ..)| (destination, engine.weight(&destination)))
}

/// Whether new connections go to a server with that weight in the table.
fn serves(weight: Option<Weight>) -> bool {
    weight.is_some_and(|weight| weight > Weight(0))
}

/// ldirectord's words for what happened to a server; `None`: nothing that people are told of, such as another weight of a
/// server that goes on serving.
fn said_of(
    destination: &DestinationKey,
    role: Option<Role>,
    old: Option<Weight>,
    new: Option<Weight>,
) -> Option<String> {
    let what = match (old, new) {
        (Some(_), None) => "Deleted",
        (None, Some(_)) if serves(new) => "Added",
        (Some(_), Some(_)) if !serves(old) && serves(new) => "Restored",
        (Some(_), Some(_)) if serves(old) && !serves(new) => "Quiescent",
        _ => return None,
    };
    let tag = if matches!(role, Some(Role::Backup(_))) { "fallback" } else { "real" };
    let virtual_service = address_of(&destination.service);
    let weight = new.map(|weight| format!(" (Weight set to {weight})")).unwrap_or_default();
    Some(format!("{what} {tag} server: {} ({virtual_service}){weight}", destination.server))
}

fn compose(service: &VirtualService, occasion: Occasion, said: &str, more: &str) -> Mail {
    let named = service.name != service.key.to_string();
    let subject = if named { format!("[{}] {said}", service.name) } else { said.to_owned() };
    let status = format!("{occasion:?}").to_lowercase();
    let name = if named { format!("Service name: {}\n", service.name) } else { String::new() };
    let comment = service.notify.comment.as_ref();
    let comment = comment.map(|comment| format!("Comment: {comment}\n")).unwrap_or_default();
    let body = format!("Log-Message: {subject}\nDaemon-Status: {status}\n{more}\n{name}{comment}");
    Mail { subject, body }
}

/// A service as ldirectord names it.
fn address_of(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { address, .. } => address.to_string(),
        ServiceKey::Mark { mark, .. } => mark.to_string(),
    }
}

/// `[time] [pid] server [up|down] message`.
fn monitor_line(destination: &DestinationKey, outcome: &Outcome, now: SystemTime) -> String {
    let (state, message) = match outcome {
        Ok(_) => ("up", "-".to_owned()),
        Err(failure) => ("down", failure.reason.to_string()),
    };
    let message: String = message.chars().map(|c| if c.is_control() || c == '|' { ' ' } else { c }).collect();
    let (time, pid) = (humantime::format_rfc3339_seconds(now), std::process::id());
    format!("[{time}] [{pid}] {} [{state}] {message}", destination.server)
}

#[cfg(test)]
mod tests;
