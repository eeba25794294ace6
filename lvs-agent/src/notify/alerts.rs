//! Decides which mails, commands and lines an event leads to. Their subjects and arguments are ldirectord's.

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::SystemTime};

use tokio::sync::watch;

use super::{CommandJob, Mail, MailCommand, Notifier};
use crate::{
    event::{
        ContradictionChange, Event, ProbeKind, Record, RoleReason, Subscriber, Takeover, WeightOccasion,
    },
    keyed::KeyMap,
    model::{
        Config, DestinationKey, DirectorRole, ForwardingMethod, OnExit, Role, ServiceKey, VirtualService,
        Weight,
    },
    pool::PoolEvent,
    probe::Outcome,
};

/// The occasion of a mail.
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

/// Turns events into mails, commands and lines. It never waits.
#[derive(Debug)]
pub(crate) struct Alerts {
    /// `None` once the agent stops.
    notifier: Option<Notifier>,
    services: KeyMap<ServiceKey, VirtualService>,
    /// The services in their order.
    keys: Vec<ServiceKey>,
    /// The weights in the desired table; no entry: the destination is not in it.
    weights: KeyMap<DestinationKey, Weight>,
    /// Destinations for which a reminder may have been started.
    reminded: HashSet<DestinationKey>,
    /// Services whose quorum is lost.
    lost: HashSet<ServiceKey>,
    /// Whether this director is standby, and so another one tells people.
    is_standby: bool,
    /// The configuration in force, for services without an `on-exit` of their own.
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
            Event::Contradiction { subject, method, change } => {
                self.contradiction(&subject.destination, *method, change);
            }
            Event::Pool { key, change, .. } => {
                match change {
                    PoolEvent::QuorumLost => drop(self.lost.insert(*key)),
                    PoolEvent::QuorumBack => drop(self.lost.remove(key)),
                    _ => {}
                }
                if let Some(service) = self.services.get(key) {
                    self.command(service, *change);
                }
            }
            Event::Role { role, reason, takeover } => self.role(*role, *reason, *takeover),
            Event::Stopping => {
                self.stopping();
                // No event follows: the notify task ends once its senders are dropped.
                self.notifier = None;
            }
            _ => {}
        }
    }
}

impl Alerts {
    /// Starts with these services and the current weights of their destinations. `config` is the configuration in
    /// force.
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
            lost: HashSet::new(),
            is_standby: false,
            config,
        };
        alerts.set_services(services);
        alerts
    }

    /// Replaces the list of services. Reminders about destinations that are gone end.
    fn set_services(&mut self, services: &[VirtualService]) {
        self.keys = services.iter().map(|service| service.key).collect();
        self.services = services.iter().map(|service| (service.key, service.clone())).collect();
        let destinations: HashSet<DestinationKey> = services
            .iter()
            .flat_map(|service| service.roles().filter_map(|role| service.destination_of(role)))
            .collect();
        self.weights.retain(|destination, _| destinations.contains(destination));
        self.lost.retain(|key| self.services.contains_key(key));
        let gone: Vec<_> =
            self.reminded.extract_if(|destination| !destinations.contains(destination)).collect();
        for destination in gone {
            self.mail_command(MailCommand::StopReminder(destination));
        }
    }

    /// Adds a line about a regular check, for a service with a monitor file.
    fn checked(&self, destination: &DestinationKey, outcome: &Outcome, time: SystemTime) {
        let service = self.services.get(&destination.service);
        if let Some(file) = service.and_then(|service| service.notify.monitor_file.as_ref()) {
            self.line(file.clone(), monitor_line(destination, outcome, time));
        }
    }

    /// Sends mails about the services that are removed as the agent stops.
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
            let message = format!("Purged virtual server (stop): {}", address_of(&service.key));
            self.mail(
                service,
                Occasion::Stopping,
                &message,
                &format!("Real servers: {}\n", servers.join(", ")),
            );
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
        let Some(message) = message(destination, role, from, to) else { return };
        let reason = reason.map(|reason| format!("Reason: {reason}\n")).unwrap_or_default();
        self.mail(service, occasion, &message, &reason);
        if !serves(to) && matches!(role, Role::Server(_)) {
            if settings.about.running && !self.is_standby {
                let mail = Box::new(inaccessible(service, destination, &reason));
                let settings = settings.clone();
                self.mail_command(MailCommand::StartReminder(*destination, mail, settings));
                self.reminded.insert(*destination);
            }
        } else {
            self.mail_command(MailCommand::StopReminder(*destination));
            self.reminded.remove(destination);
        }
    }

    /// Sends mails about the beginning and the end of a contradiction; trials in between are in the log.
    fn contradiction(
        &self,
        destination: &DestinationKey,
        method: ForwardingMethod,
        change: &ContradictionChange,
    ) {
        let (what, details) = match change {
            ContradictionChange::Begun { complaint, .. } => (
                "Contradiction, clients fail while checks succeed",
                format!("Reason: {complaint}\nLikely causes: {}\n", complaint.likely_causes(method)),
            ),
            ContradictionChange::Over { end, .. } => {
                ("Contradiction over", format!("Reason: {}\n", end.name()))
            }
            ContradictionChange::Out { .. } | ContradictionChange::Trial => return,
        };
        let Some(service) = self.services.get(&destination.service) else { return };
        let message = format!("{what}: {} ({})", destination.server, address_of(&service.key));
        self.mail(service, Occasion::Running, &message, &details);
    }

    /// A standby reminds nobody. Who becomes active tells each recipient once what it has taken over, runs the commands
    /// of services without a quorum, as it has kept quiet about their loss, and reminds of servers that are out.
    fn role(&mut self, role: DirectorRole, reason: RoleReason, takeover: Option<Takeover>) {
        self.is_standby = !role.is_active();
        for destination in std::mem::take(&mut self.reminded) {
            self.mail_command(MailCommand::StopReminder(destination));
        }
        let Some(takeover) = takeover else { return };
        let mut told = Vec::new();
        for service in self.keys.iter().filter_map(|key| self.services.get(key)) {
            if self.lost.contains(&service.key) {
                self.command(service, PoolEvent::QuorumLost);
            }
            let Some(settings) = service.notify.mail.as_ref().filter(|settings| settings.about.running)
            else {
                continue;
            };
            if !told.contains(&settings) {
                told.push(settings);
                self.mail_command(MailCommand::Send(
                    Box::new(of_takeover(takeover, reason)),
                    settings.clone(),
                ));
            }
        }
        self.reminded = self.remind();
    }

    /// Starts the reminders of all servers that are out.
    fn remind(&self) -> HashSet<DestinationKey> {
        let mut reminded = HashSet::new();
        for service in self.keys.iter().filter_map(|key| self.services.get(key)) {
            let Some(settings) = service.notify.mail.as_ref().filter(|settings| settings.about.running)
            else {
                continue;
            };
            let out = service.destinations().filter(|one| !serves(self.weights.get(one).copied()));
            for destination in out {
                let mail = Box::new(inaccessible(service, &destination, ""));
                self.mail_command(MailCommand::StartReminder(destination, mail, settings.clone()));
                reminded.insert(destination);
            }
        }
        reminded
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

    fn run(&self, job: CommandJob) {
        if let Some(notifier) = &self.notifier {
            notifier.run(job);
        }
    }

    fn mail(&self, service: &VirtualService, occasion: Occasion, message: &str, details: &str) {
        let Some(settings) = &service.notify.mail else { return };
        let is_enabled = match occasion {
            Occasion::Starting => settings.about.starting,
            Occasion::Running => settings.about.running,
            Occasion::Stopping => settings.about.stopping,
            Occasion::Reloading => settings.about.reloading,
        };
        if is_enabled && !self.is_standby {
            let mail = Box::new(compose(service, occasion, message, details));
            self.mail_command(MailCommand::Send(mail, settings.clone()));
        }
    }

    fn command(&self, service: &VirtualService, event: PoolEvent) {
        let quorum = &service.policy.quorum;
        let (command, word) = match event {
            PoolEvent::QuorumBack => (("the command for the quorum's return", &quorum.up), "stop"),
            PoolEvent::QuorumLost => (("the command for the quorum's loss", &quorum.down), "start"),
            _ => return,
        };
        if self.is_standby {
            return;
        }
        let about = service.name.clone();
        if let (what, Some(line)) = command {
            self.run(CommandJob { what, about: about.clone(), line: line.clone(), extra: Vec::new() });
        }
        if let Some(line) = service.notify.fallback_command.clone() {
            let (address, protocol) = match &service.key {
                ServiceKey::Address { protocol, address } => (address.to_string(), protocol.to_string()),
                ServiceKey::Mark { mark, .. } => (format!("{mark}:"), "fwm".to_owned()),
            };
            let extra = vec![word.to_owned(), address, protocol];
            self.run(CommandJob { what: "the fallback command", about, line, extra });
        }
    }
}

/// The mail that reminds of a server that is out.
fn inaccessible(service: &VirtualService, destination: &DestinationKey, reason: &str) -> Mail {
    let message = format!("Inaccessible real server: {} ({})", destination.server, address_of(&service.key));
    compose(service, Occasion::Running, &message, reason)
}

/// The mail about a takeover.
fn of_takeover(takeover: Takeover, reason: RoleReason) -> Mail {
    let Takeover { services, servers, down, asked } = takeover;
    let subject = format!("Takeover: this director is active, {down} of {servers} real servers are down");
    let body = format!(
        "Log-Message: {subject}\nDaemon-Status: running\nReason: {reason}\nServices: {services}\n\
         Real servers: {servers}, {down} of them down; {asked} are asked at once\n"
    );
    Mail { subject, body }
}

/// Whether a server with this weight gets new connections.
fn serves(weight: Option<Weight>) -> bool {
    weight.is_some_and(|weight| weight > Weight(0))
}

/// ldirectord's message about a change of weight; `None`: it sends none, such as for another weight of a server that
/// stays in service.
fn message(
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

fn compose(service: &VirtualService, occasion: Occasion, message: &str, details: &str) -> Mail {
    let has_name = service.name != service.key.to_string();
    let subject = if has_name { format!("[{}] {message}", service.name) } else { message.to_owned() };
    let status = format!("{occasion:?}").to_lowercase();
    let name = if has_name { format!("Service name: {}\n", service.name) } else { String::new() };
    let comment = service.notify.comment.as_ref();
    let comment = comment.map(|comment| format!("Comment: {comment}\n")).unwrap_or_default();
    let body = format!("Log-Message: {subject}\nDaemon-Status: {status}\n{details}\n{name}{comment}");
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
