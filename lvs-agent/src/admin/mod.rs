//! Answers the requests of the control socket, with what the controller, the monitor and the reload task reply. It must
//! never decide anything, and every request is answered within a limited time.

pub(crate) mod check;
pub(crate) mod commands;
mod counters;
pub(crate) mod directors;
mod events;
mod kept_status;
mod request;
mod status;
mod visits;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch as latest},
    task::spawn_blocking,
};
use tracing::info;

use self::{
    check::check_now,
    commands::ControllerHandle,
    counters::KernelCounters,
    directors::DirectorHandle,
    events::Query,
    kept_status::{KeptStatus, SharedStatus},
    request::{TIMEOUT, request},
    status::{Signals, compose, worst},
};
use crate::messages::{
    RefusedChances, ReloadRequest, ServedNow, ServedRequest, SignalRequest, StatusRequest, WatchedServices,
    WeightsRequest,
};
use crate::{
    control::{
        AddressHealth, AgentStatus, Answer, Answered, HealthVerdict, Healthiness, Reply, Request,
        ServiceStatus, Status,
    },
    engine::{
        admin::AdminCommand,
        selection::ServerSelector,
        served::{self, Criterion},
    },
    event::History,
    log::LogFilter,
    model::{Config, Mode},
    pool::Drain,
    probe::Prober,
    reconcile::{DryRunLog, sysctl},
};

/// How long a reload may take, with a long configuration and the kernel's table.
const RELOAD_TIMEOUT: Duration = Duration::from_mins(1);

/// How long the controller may take to say how well services are served, which takes it some 10 µs: it is stuck then.
const STUCK_AFTER: Duration = Duration::from_millis(500);

/// Answers requests by asking the tasks that can.
#[derive(Clone, Debug)]
pub(crate) struct AdminHandler {
    pub(crate) controller: mpsc::Sender<StatusRequest>,
    pub(crate) served: mpsc::Sender<ServedRequest>,
    pub(crate) passive: MonitorHandle,
    /// Which services have no second chance.
    pub(crate) refused_chances: latest::Receiver<RefusedChances>,
    /// The edits of a dry run; `None` where edits are made.
    pub(crate) observed: Option<DryRunLog>,
    pub(crate) reload: mpsc::Sender<ReloadRequest>,
    pub(crate) commands: ControllerHandle,
    /// The weights in the kernel's table.
    pub(crate) weights: mpsc::Sender<WeightsRequest>,
    pub(crate) in_force: latest::Receiver<Arc<Config>>,
    /// The services in force.
    pub(crate) services: latest::Receiver<WatchedServices>,
    /// The role and the synchronisation daemons.
    pub(crate) directors: DirectorHandle,
    /// Probes on request.
    pub(crate) prober: Prober,
    pub(crate) own: OwnState,
}

/// What is known of the agent without asking a task.
#[derive(Clone, Debug)]
pub(crate) struct OwnState {
    /// When it was started.
    started: Instant,
    /// What is logged.
    log: LogFilter,
    /// The latest events.
    pub(crate) history: History,
    counters: KernelCounters,
    /// For those who look again and again.
    kept: KeptStatus,
}

impl OwnState {
    /// Of an agent that starts now; its history is to be subscribed to the events.
    pub(crate) fn new(log: LogFilter) -> Self {
        let (history, counters) = (History::new(), KernelCounters::default());
        Self { started: Instant::now(), log, history, counters, kept: KeptStatus::default() }
    }
}

/// Where the passive signals come from.
#[derive(Clone, Debug)]
pub(crate) enum MonitorHandle {
    /// The monitor task.
    Monitor(mpsc::Sender<SignalRequest>),
    /// There is no passive detection, for this reason.
    None(String),
}

impl Answer for AdminHandler {
    async fn answer(&self, request: Request) -> Answered {
        let Request::Status { service: None, max_age_ms: Some(age) } = request else {
            return self.reply(request).await.into();
        };
        let line = self.shared_status(Duration::from_millis(age)).await.and_then(|shared| shared.line());
        line.map_or_else(|message| Reply::Error(message).into(), Answered::Line)
    }
}

impl AdminHandler {
    async fn reply(&self, request: Request) -> Reply {
        match request {
            Request::Status { service, .. } => {
                self.status(service).await.map_or_else(Reply::Error, Reply::Status)
            }
            Request::Events { after, instance, since_ms, service } => {
                let since = since_ms.map(Duration::from_millis);
                self.events(Query { after, instance, since, service: None }, service).await
            }
            Request::LogLevel { filter } => self.log_level(filter.as_deref()),
            Request::Reload {} => match ask(&self.reload, RELOAD_TIMEOUT).await {
                Ok(Ok(reloaded)) => Reply::Reloaded(reloaded),
                Ok(Err(error)) => Reply::NotReloaded(error.to_string()),
                Err(message) => Reply::NotReloaded(message),
            },
            Request::Drain { server, service, remove } => {
                let drain = if remove { Drain::Remove } else { Drain::Quiesce };
                self.commands.run(AdminCommand::Drain(drain), ServerSelector { server, service }).await
            }
            Request::Undrain { server, service } => {
                self.commands.run(AdminCommand::Undrain, ServerSelector { server, service }).await
            }
            Request::Maintenance { server, service, on } => {
                self.commands.run(AdminCommand::Maintenance(on), ServerSelector { server, service }).await
            }
            Request::Check { server, service } => {
                let services = self.services.borrow().clone();
                let checked = check_now(&services, &ServerSelector { server, service }, &self.prober).await;
                checked.map_or_else(|error| Reply::Error(error.to_string()), Reply::Checked)
            }
            Request::Role { order } => self.directors.role(order).await,
            Request::Healthy { services, min_share, backups } => {
                self.healthy(&services, Criterion { min_share, backups }).await
            }
            Request::Addresses { min_share, backups } => {
                self.addresses(Criterion { min_share, backups }).await
            }
            Request::Connections { server, service } => {
                self.commands.connections(ServerSelector { server, service }).await
            }
        }
    }

    /// The status of all services, as old as `max_age` at most, and not older than the last event.
    async fn shared_status(&self, max_age: Duration) -> Result<SharedStatus, String> {
        self.own.kept.get(max_age, self.own.history.newest(), self.status(None)).await
    }

    /// The status of all services, or of one; everything is read now.
    async fn status(&self, service: Option<String>) -> Result<Status, String> {
        let summaries = request(&self.controller, TIMEOUT, |reply| StatusRequest { service, reply }).await?;
        let summaries = summaries.map_err(|unknown| unknown.to_string())?;
        let (signals, table, role, daemons) = tokio::join!(
            self.passive.signals(),
            self.own.counters.read(self.own.history.newest()),
            self.directors.role_status(),
            self.directors.daemons()
        );
        let mut services = compose(summaries, &signals, table.as_deref().ok());
        self.add_second_chances(&mut services);
        let mut status = Status { role, ..self.around(services) };
        match daemons {
            Ok(daemons) => status.sync_daemons = daemons,
            // Who can't read the table hears of it already.
            Err(reason) if table.is_ok() => {
                status.warnings.push(format!("the synchronisation daemons are not known: {reason}"));
            }
            Err(_) => {}
        }
        if let Err(reason) = table {
            status.warnings.push(format!("what the kernel counts is not known: {reason}"));
        }
        Ok(status)
    }

    /// Says of each service that asks for a second chance whether it has it.
    fn add_second_chances(&self, services: &mut [ServiceStatus]) {
        let asking: HashSet<String> = self
            .services
            .borrow()
            .iter()
            .filter(|service| service.second_chance.is_on())
            .map(|service| service.key.to_string())
            .collect();
        let refused = self.refused_chances.borrow().clone();
        for service in services.iter_mut().filter(|service| asking.contains(&service.key)) {
            let reason = match &refused {
                Some(refused) => refused.get(&service.name).cloned(),
                None if self.commands.is_observing => Some("nothing is written in mode observe".to_owned()),
                None if matches!(self.passive, MonitorHandle::None(_)) => {
                    Some("there is no passive detection".to_owned())
                }
                None => Some("the first service with it takes a restart of the agent".to_owned()),
            };
            service.second_chance = Some(reason.map_or_else(|| "on".to_owned(), |why| format!("off: {why}")));
        }
    }

    /// Whether these services are healthy. Whoever asks has little time: an answer that says that there is none is one,
    /// too.
    async fn healthy(&self, services: &[String], criterion: Criterion) -> Reply {
        let Ok(all) = ask(&self.served, STUCK_AFTER).await else {
            let text = "the agent is stuck: it has decided nothing lately; see its log".to_owned();
            return Reply::Healthy(Healthiness { verdict: HealthVerdict::Stuck, text });
        };
        match served::named(all.services, services) {
            Ok(wanted) => Reply::Healthy(served::healthiness(&wanted, criterion)),
            Err(unknown) => Reply::Error(unknown.to_string()),
        }
    }

    /// The health of the addresses of services. Where nothing is written nothing is announced either.
    async fn addresses(&self, criterion: Criterion) -> Reply {
        if self.in_force.borrow().agent.mode == Mode::Observe {
            return Reply::Addresses(Vec::new());
        }
        let Ok(ServedNow { services, may_announce }) = ask(&self.served, STUCK_AFTER).await else {
            return Reply::Error("the agent is stuck: it has decided nothing lately; see its log".to_owned());
        };
        let of = |(address, verdict)| AddressHealth { address, verdict, is_withheld: !may_announce };
        Reply::Addresses(served::addresses(&services, criterion).into_iter().map(of).collect())
    }

    /// The events that are kept, or those of one service.
    async fn events(&self, mut query: Query, service: Option<String>) -> Reply {
        let known = service.as_ref().and_then(|name| events::names(&self.services.borrow(), name));
        let is_unknown = service.is_some() && known.is_none() && query.after.is_none();
        // It may have been there once.
        query.service = known.or_else(|| service.clone().map(|name| [name].into()));
        let history = self.own.history.clone();
        let answered = spawn_blocking(move || events::answer(&history, &query)).await;
        match answered {
            Ok(events) if is_unknown && events.lines.is_empty() && !events.more => {
                let name = service.unwrap_or_default();
                Reply::Error(format!(
                    "there is no service {name:?}, and no event of one; see lvs-agent status"
                ))
            }
            Ok(events) => Reply::Events(events),
            Err(error) => Reply::Error(error.to_string()),
        }
    }

    fn log_level(&self, filter: Option<&str>) -> Reply {
        if let Some(filter) = filter {
            let before = self.own.log.current();
            if let Err(message) = self.own.log.set(filter) {
                return Reply::Error(message);
            }
            info!("the log's filter is {filter:?} from now on, by command (was: {before:?})");
        }
        Reply::LogLevel(self.own.log.current())
    }

    /// What a status has beside its services.
    fn around(&self, services: Vec<ServiceStatus>) -> Status {
        let values = sysctl::values();
        let config = self.in_force.borrow().clone();
        let mut warnings = sysctl::risks(&values, &config.services);
        warnings.extend(sysctl::sync_risks(&config, &sysctl::own_addresses()));
        let connections =
            values.into_iter().map(|(sysctl, value)| (sysctl.name().to_owned(), value)).collect();
        let now = Instant::now();
        let observed = self.observed.as_ref().map(|observed| observed.status(now));
        let uptime = now.saturating_duration_since(self.own.started);
        let agent = AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: config.agent.mode.to_string(),
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
        };
        let health = worst(&services);
        Status { agent, health, services, observed, connections, warnings, ..Status::default() }
    }
}

impl MonitorHandle {
    async fn signals(&self) -> Signals {
        match self {
            Self::Monitor(monitor) => ask(monitor, TIMEOUT).await.map_or_else(Signals::None, Signals::Known),
            Self::None(reason) => Signals::None(reason.clone()),
        }
    }
}

/// Sends a request that is nothing but its way back.
async fn ask<T>(requests: &mpsc::Sender<oneshot::Sender<T>>, limit: Duration) -> Result<T, String> {
    request(requests, limit, |reply| reply).await
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{
        config::native,
        control::{SignalStatus, Visibility},
        engine::status::{Age, DestinationStatus, ServiceSummary},
        health::State,
        model::{DestinationKey, ForwardingMethod, Protocol, ServiceKey, Weight},
    };

    fn summary(vip: &str, servers: &[&str]) -> ServiceSummary {
        let key = ServiceKey::Address { protocol: Protocol::Tcp, address: vip.parse().unwrap() };
        let destination = |server: &&str| DestinationStatus {
            probe_path: None,
            destination: DestinationKey { service: key, server: server.parse().unwrap() },
            method: ForwardingMethod::Masquerade,
            weight: Some(Weight(3)),
            state: Some(State::Up),
            is_backup: false,
            is_held: false,
            note: None,
            age: Age::default(),
            checks: Vec::new(),
            idle: None,
            contradiction: None,
        };
        let status = ServiceStatus { key: key.to_string(), ..ServiceStatus::default() };
        ServiceSummary { key, status, destinations: servers.iter().map(destination).collect() }
    }

    #[tokio::test]
    async fn the_status_combines_the_controller_and_the_monitor() {
        let (controller, mut requests) = mpsc::channel::<StatusRequest>(1);
        let (monitor, mut signals) = mpsc::channel::<SignalRequest>(1);
        let summaries = vec![
            summary("192.0.2.1:80", &["10.0.0.1:80", "10.0.0.2:80"]),
            summary("192.0.2.2:80", &["10.0.0.1:80"]),
            summary("192.0.2.3:80", &[]),
        ];
        let first = summaries[0].destinations[0].destination;
        tokio::spawn(async move {
            let StatusRequest { service, reply } = requests.recv().await.unwrap();
            assert_eq!(service, None);
            reply.send(Ok(summaries)).unwrap();
        });
        let whole =
            SignalStatus { seen: Visibility::Both, reason: None, usual_wait_ms: Some(1.0), evidence: None };
        let known = HashMap::from([(first, whole.clone())]);
        tokio::spawn(async move { signals.recv().await.unwrap().send(known).unwrap() });
        let text = "[[service]]\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\n\
                     [[service.server]]\naddress = \"10.0.0.1\"\n";
        let config = native::read(text, "test.toml".as_ref()).expect("it is a configuration");
        let handler = AdminHandler {
            controller,
            served: mpsc::channel(1).0,
            passive: MonitorHandle::Monitor(monitor),
            refused_chances: latest::channel(None).1,
            observed: None,
            reload: mpsc::channel(1).0,
            commands: ControllerHandle { controller: mpsc::channel(1).0, is_observing: false },
            weights: mpsc::channel(1).0,
            in_force: latest::channel(Arc::new(config)).1,
            services: latest::channel(WatchedServices::from([])).1,
            directors: DirectorHandle { role: mpsc::channel(1).0, wanted: latest::channel([].into()).1 },
            prober: Prober::new(),
            own: OwnState::new(LogFilter::new("info", |_| Ok(()))),
        };
        let request = || Request::Status { service: None, max_age_ms: None };
        let Reply::Status(status) = handler.reply(request()).await else { panic!("no status") };
        let counts: Vec<_> =
            status.services.iter().map(|service| (service.key.as_str(), service.servers.len())).collect();
        let expected = [("tcp 192.0.2.1:80", 2), ("tcp 192.0.2.2:80", 1), ("tcp 192.0.2.3:80", 0)];
        assert_eq!(counts, expected, "a service without a server stands there, too");
        let servers = &status.services[0].servers;
        assert_eq!(
            (&servers[0].signal, servers[0].weight, servers[0].state.as_str()),
            (&whole, Some(3), "up")
        );
        assert_eq!(servers[1].signal.seen, Visibility::None);
        // Both tasks have ended now.
        let reply = handler.reply(request()).await;
        assert!(matches!(&reply, Reply::Error(message) if message.contains("is stopping")), "{reply:?}");
    }
}
