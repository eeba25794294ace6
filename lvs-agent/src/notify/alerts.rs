//! Which mails, commands and lines an event leads to. Their subjects and arguments are ldirectord's.

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::SystemTime};

use tokio::sync::watch;

use super::{CommandOrder, Mail, MailCommand, Notifier};
use crate::{
    event::{Event, ProbeKind, Record, Subscriber, WeightOccasion},
    keyed::KeyMap,
    model::{Config, DestinationKey, OnExit, Role, ServiceKey, VirtualService, Weight},
    pool::PoolEvent,
    probe::Outcome,
};

/// On what occasion a mail is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    Starting,
    Running,
    Stopping,
    Reloading,
}

impl From<WeightOccasion> for Occasion {
    fn from(occasion: WeightOccasion) -> Self {
        match occasion {
            WeightOccasion::FirstCheck => Self::Starting,
            WeightOccasion::Running => Self::Running,
            WeightOccasion::Reload => Self::Reloading,
        }
    }
}

/// Makes mails, commands and lines of events. Never waits.
#[derive(Debug)]
pub(crate) struct Alerts {
    /// `None` once the agent stops.
    notifier: Option<Notifier>,
    services: KeyMap<ServiceKey, VirtualService>,
    /// The order of the services.
    keys: Vec<ServiceKey>,
    /// The weights in the wanted table; no entry: it is not there.
    weights: KeyMap<DestinationKey, Weight>,
    /// Destinations for which a reminder may have been started.
    reminded: HashSet<DestinationKey>,
    /// Says what becomes of services at the end that don't say it themselves.
    config: watch::Receiver<Arc<Config>>,
}

/// A weight that has changed, and why.
struct WeightChange<'a> {
    destination: &'a DestinationKey,
    role: Role,
    from: Option<Weight>,
    to: Option<Weight>,
    occasion: Occasion,
    reason: Option<&'a str>,
}

impl Subscriber for Alerts {
    fn on_event(&mut self, record: &Record) {
        match &record.event {
            Event::Services { services } => self.set_services(services),
            Event::Probe { kind: ProbeKind::Baseline { .. }, subjects, outcome, .. } => {
                for subject in subjects {
                    self.checked(&subject.destination, outcome, record.time);
                }
            }
            Event::Weight { subject, role, from, to, occasion, reason } => self.weight(&WeightChange {
                destination: &subject.destination,
                role: *role,
                from: *from,
                to: *to,
                occasion: (*occasion).into(),
                reason: reason.as_deref(),
            }),
            Event::Pool { key, change, .. } => {
                if let Some(service) = self.services.get(key) {
                    self.command(service, *change);
                }
            }
            Event::Stopping => {
                self.stopping();
                // Nothing follows: the task that sends ends once nobody can give it more.
                self.notifier = None;
            }
            _ => {}
        }
    }
}

impl Alerts {
    /// For these services, whose destinations have these weights now. `config` is the configuration in force.
    pub(crate) fn new(
        notifier: Notifier,
        services: &[VirtualService],
        weights: impl IntoIterator<Item = (DestinationKey, Weight)>,
        config: watch::Receiver<Arc<Config>>,
    ) -> Self {
        let mut alerts = Self {
            notifier: Some(notifier),
            services: KeyMap::default(),
            keys: Vec::new(),
            weights: weights.into_iter().collect(),
            reminded: HashSet::new(),
            config,
        };
        alerts.set_services(services);
        alerts
    }

    /// Another list of services: reminders about destinations that are gone end.
    fn set_services(&mut self, services: &[VirtualService]) {
        self.keys = services.iter().map(|service| service.key).collect();
        self.services = services.iter().map(|service| (service.key, service.clone())).collect();
        let all: HashSet<DestinationKey> = services
            .iter()
            .flat_map(|service| service.roles().filter_map(|role| service.destination_of(role)))
            .collect();
        self.weights.retain(|destination, _| all.contains(destination));
        let gone: Vec<_> = self.reminded.extract_if(|destination| !all.contains(destination)).collect();
        for gone in gone {
            self.mail_command(MailCommand::StopReminder(gone));
        }
    }

    /// A regular check, for a service that wants a line about each.
    fn checked(&self, destination: &DestinationKey, outcome: &Outcome, time: SystemTime) {
        let service = self.services.get(&destination.service);
        if let Some(file) = service.and_then(|service| service.notify.monitor_file.as_ref()) {
            self.line(file.clone(), monitor_line(destination, outcome, time));
        }
    }

    /// The agent stops: the services that it takes along.
    fn stopping(&self) {
        let on_exit = self.config.borrow().agent.on_exit;
        for service in self.keys.iter().filter_map(|key| self.services.get(key)) {
            if service.on_exit.unwrap_or(on_exit) != OnExit::Remove {
                continue;
            }
            let servers: Vec<_> = service
                .roles()
                .filter_map(|role| service.destination_of(role))
                .filter(|destination| self.weights.contains_key(destination))
                .map(|destination| destination.server.to_string())
                .collect();
            let said = format!("Purged virtual server (stop): {}", address_of(&service.key));
            self.mail(service, Occasion::Stopping, &said, &format!("Real servers: {}\n", servers.join(", ")));
        }
    }

    fn weight(&mut self, change: &WeightChange<'_>) {
        let &WeightChange { destination, role, from, to, occasion, reason } = change;
        match to {
            Some(weight) => drop(self.weights.insert(*destination, weight)),
            None => drop(self.weights.remove(destination)),
        }
        let Some(service) = self.services.get(&destination.service) else { return };
        let Some(settings) = &service.notify.mail else { return };
        let Some(said) = said_of(destination, role, from, to) else { return };
        let reason = reason.map(|reason| format!("Reason: {reason}\n")).unwrap_or_default();
        self.mail(service, occasion, &said, &reason);
        if !serves(to) && matches!(role, Role::Server(_)) {
            let said =
                format!("Inaccessible real server: {} ({})", destination.server, address_of(&service.key));
            let mail = Box::new(compose(service, Occasion::Running, &said, &reason));
            if settings.about.running {
                self.mail_command(MailCommand::StartReminder(*destination, mail, settings.clone()));
                self.reminded.insert(*destination);
            }
        } else {
            self.mail_command(MailCommand::StopReminder(*destination));
            self.reminded.remove(destination);
        }
    }

    fn mail_command(&self, command: MailCommand) {
        if let Some(notifier) = &self.notifier {
            notifier.mail(command);
        }
    }

    fn line(&self, file: PathBuf, text: String) {
        if let Some(notifier) = &self.notifier {
            notifier.line(file, text);
        }
    }

    fn run(&self, order: CommandOrder) {
        if let Some(notifier) = &self.notifier {
            notifier.run(order);
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
            self.mail_command(MailCommand::Send(mail, settings.clone()));
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
            self.run(order);
        }
        if let Some(line) = service.notify.fallback_command.clone() {
            let (address, protocol) = match &service.key {
                ServiceKey::Address { protocol, address } => (address.to_string(), protocol.to_string()),
                ServiceKey::Mark { mark, .. } => (format!("{mark}:"), "fwm".to_owned()),
            };
            let added = vec![word.to_owned(), address, protocol];
            self.run(CommandOrder { what: "the fallback command", about, line, added });
        }
    }
}

/// Whether new connections go to a server with that weight in the table.
fn serves(weight: Option<Weight>) -> bool {
    weight.is_some_and(|weight| weight > Weight(0))
}

/// ldirectord's words for what happened to a server; `None`: nothing that people are told of, such as another weight of a
/// server that goes on serving.
fn said_of(
    destination: &DestinationKey,
    role: Role,
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
    let tag = if matches!(role, Role::Backup(_)) { "fallback" } else { "real" };
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
