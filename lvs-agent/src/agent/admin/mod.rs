//! Answers the requests of the control socket, with what the controller, the monitor and the reload task reply. It must
//! never decide anything, and every request is answered within a limited time.

pub(crate) mod commands;
mod request;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch as latest};

use self::{
    commands::ControllerHandle,
    request::{TIMEOUT, request},
};
use super::messages::{ReloadRequest, SignalRequest, StatusRequest};
use crate::{
    control::{Answer, Reply, Request, ServiceStatus, SignalStatus, Status},
    engine::{
        admin::{AdminCommand, ServerSelector},
        status::DestinationStatus,
    },
    model::{Config, DestinationKey},
    pool::Drain,
    reconcile::{DryRunLog, sysctl},
};

/// How long a reload may take, with a long configuration and the kernel's table.
const RELOAD_TIMEOUT: Duration = Duration::from_mins(1);

/// Answers requests by asking the tasks that can.
#[derive(Clone, Debug)]
pub(crate) struct AdminHandler {
    pub(crate) controller: mpsc::Sender<StatusRequest>,
    pub(crate) passive: MonitorHandle,
    /// The edits of a dry run; `None` where edits are made.
    pub(crate) observed: Option<DryRunLog>,
    pub(crate) reload: mpsc::Sender<ReloadRequest>,
    pub(crate) commands: ControllerHandle,
    pub(crate) in_force: latest::Receiver<Arc<Config>>,
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
    async fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Status {} => match ask(&self.controller, TIMEOUT).await {
                Ok(statuses) => {
                    let services = compose(statuses, &self.passive.signals().await);
                    Reply::Status(self.status(services))
                }
                Err(message) => Reply::Error(message),
            },
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
            Request::Connections { server, service } => {
                self.commands.connections(ServerSelector { server, service }).await
            }
        }
    }
}

impl AdminHandler {
    /// The status with these services; everything else is read now.
    fn status(&self, services: Vec<ServiceStatus>) -> Status {
        let values = sysctl::values();
        let config = self.in_force.borrow().clone();
        let warnings = sysctl::risks(&values, &config.services);
        let connections =
            values.into_iter().map(|(sysctl, value)| (sysctl.name().to_owned(), value)).collect();
        let observed = self.observed.as_ref().map(|observed| observed.status(Instant::now()));
        Status { services, observed, connections, warnings }
    }
}

/// The passive signals of the destinations.
enum Signals {
    Known(HashMap<DestinationKey, SignalStatus>),
    None(String),
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

fn compose(statuses: Vec<DestinationStatus>, signals: &Signals) -> Vec<ServiceStatus> {
    let mut services: Vec<ServiceStatus> = Vec::new();
    for status in statuses {
        let (destination, service) = (status.destination, status.service.clone());
        let signal = match signals {
            _ if status.is_backup => SignalStatus::none("backups have no passive detection"),
            Signals::None(reason) => SignalStatus::none(reason.clone()),
            Signals::Known(known) => known
                .get(&destination)
                .cloned()
                .unwrap_or_else(|| SignalStatus::none("passive detection does not watch it (yet)")),
        };
        let server = status.with_signal(signal);
        let key = destination.service.to_string();
        match services.last_mut().filter(|last| last.key == key) {
            Some(last) => last.servers.push(server),
            None => services.push(ServiceStatus { name: service, key, servers: vec![server] }),
        }
    }
    services
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::native,
        control::Visibility,
        model::{Protocol, ServiceKey},
    };
    use crate::{
        engine::status::Age,
        health::State,
        model::{ForwardingMethod, Weight},
    };

    fn status(vip: &str, server: &str) -> DestinationStatus {
        let service = ServiceKey::Address { protocol: Protocol::Tcp, address: vip.parse().unwrap() };
        DestinationStatus {
            destination: DestinationKey { service, server: server.parse().unwrap() },
            service: "web".to_owned(),
            method: ForwardingMethod::Masquerade,
            weight: Some(Weight(3)),
            state: Some(State::Up),
            is_backup: false,
            note: None,
            age: Age::default(),
            idle: None,
            contradiction: None,
        }
    }

    #[tokio::test]
    async fn the_status_combines_the_controller_and_the_monitor() {
        let (controller, mut requests) = mpsc::channel::<StatusRequest>(1);
        let (monitor, mut signals) = mpsc::channel::<SignalRequest>(1);
        let first = status("192.0.2.1:80", "10.0.0.1:80");
        let statuses =
            vec![first.clone(), status("192.0.2.1:80", "10.0.0.2:80"), status("192.0.2.2:80", "10.0.0.1:80")];
        tokio::spawn(async move { requests.recv().await.unwrap().send(statuses).unwrap() });
        let whole =
            SignalStatus { seen: Visibility::Both, reason: None, usual_wait_ms: Some(1.0), evidence: None };
        let known = HashMap::from([(first.destination, whole.clone())]);
        tokio::spawn(async move { signals.recv().await.unwrap().send(known).unwrap() });
        let text = "[[service]]\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\n\
                     [[service.server]]\naddress = \"10.0.0.1\"\n";
        let config = native::read(text, "test.toml".as_ref()).expect("it is a configuration");
        let handler = AdminHandler {
            controller,
            passive: MonitorHandle::Monitor(monitor),
            observed: None,
            reload: mpsc::channel(1).0,
            commands: ControllerHandle { controller: mpsc::channel(1).0 },
            in_force: latest::channel(Arc::new(config)).1,
        };
        let Reply::Status(status) = handler.answer(Request::Status {}).await else { panic!("no status") };
        let counts: Vec<_> =
            status.services.iter().map(|service| (service.key.as_str(), service.servers.len())).collect();
        assert_eq!(counts, [("tcp 192.0.2.1:80", 2), ("tcp 192.0.2.2:80", 1)]);
        let servers = &status.services[0].servers;
        assert_eq!(
            (&servers[0].signal, servers[0].weight, servers[0].state.as_str()),
            (&whole, Some(3), "up")
        );
        assert_eq!(servers[1].signal.seen, Visibility::None);
        // Both tasks have ended now.
        let reply = handler.answer(Request::Status {}).await;
        assert!(matches!(&reply, Reply::Error(message) if message.contains("is stopping")), "{reply:?}");
    }
}
