//! One probe, whatever its kind.

use std::{future::Future, sync::Arc, time::Duration};

use lvs_common::PROBE_MARK;
use tokio::{sync::watch, time::Instant};

use super::{
    agent, command, connect,
    context::{Deadline, ProbeContext},
    database, datagram, dns, greeting, http, ldap, oracle,
    outcome::{self, Answer, FailureReason, Outcome, Phase},
    ping::Pingers,
    radius, sip,
    steps::{Inspection, StepLog},
    target::ProbeTarget,
    tcp,
    tls::TlsClients,
    vip::{self, ReadyMarks},
};
use crate::{model::CheckKind, privileges::RunAs};

/// Something that can probe a server: [`Prober`] over the network, or a test's fake.
pub trait Probe: Clone + Send + Sync + 'static {
    /// Probes `target` once. Ends within `timeout`, give or take the timer's millisecond, whatever the server does.
    /// Dropping the future ends the probe.
    fn probe(
        &self,
        target: ProbeTarget,
        kind: &CheckKind,
        timeout: Duration,
    ) -> impl Future<Output = Outcome> + Send;
}

/// Probes over the network. Clones share the sockets for pings, the TLS configurations, and pages that are read to
/// their end.
#[derive(Clone, Debug)]
pub struct Prober {
    pingers: Pingers,
    tls: TlsClients,
    rests: http::Rests,
    own_mark: u32,
    /// Which lanes to VIPs lead to their servers; `None`: none does.
    lanes: Option<watch::Receiver<ReadyMarks>>,
    run_as: Arc<RunAs>,
}

impl Default for Prober {
    fn default() -> Self {
        Self {
            pingers: Pingers::default(),
            tls: TlsClients::default(),
            rests: http::Rests::default(),
            own_mark: PROBE_MARK,
            lanes: None,
            run_as: Arc::default(),
        }
    }
}

impl Prober {
    /// A prober without open sockets: they are opened when they are needed. A ping needs `CAP_NET_RAW`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with this firewall mark where a check names none.
    #[must_use]
    pub fn marked(self, own_mark: u32) -> Self {
        Self { own_mark, ..self }
    }

    /// The same for probes to VIPs, along the lanes that are ready.
    #[must_use]
    pub(crate) fn with_lanes(self, lanes: watch::Receiver<ReadyMarks>) -> Self {
        Self { lanes: Some(lanes), ..self }
    }

    /// The same with commands that run as somebody else.
    #[must_use]
    pub(crate) fn with_commands_as(self, run_as: RunAs) -> Self {
        Self { run_as: Arc::new(run_as), ..self }
    }

    /// Probes `target` once, as [`Probe::probe`] does, and notes the steps.
    pub async fn inspect(&self, target: ProbeTarget, kind: &CheckKind, timeout: Duration) -> Inspection {
        let steps = StepLog::default();
        let outcome = self.run(target, kind, timeout, Some(&steps)).await;
        Inspection { steps: steps.into_steps(), outcome }
    }

    async fn run(
        &self,
        target: ProbeTarget,
        kind: &CheckKind,
        timeout: Duration,
        steps: Option<&StepLog>,
    ) -> Outcome {
        let started = Instant::now();
        let target = ProbeTarget { own_mark: self.own_mark, ..target };
        let deadline = Deadline::new(timeout, &target.via).noted_in(steps);
        let (tls, rests, run_as) = (&self.tls, &self.rests, &*self.run_as);
        let context = ProbeContext { target, deadline, tls, rests, run_as };
        let result = match &target.via.lane {
            None => self.ask(&context, kind, timeout).await,
            Some(lane) => match vip::ready(lane, self.lanes.clone(), deadline.end()).await {
                Ok(()) => vip::ask(&target, lane, deadline, self.ask(&context, kind, timeout)).await,
                Err(reason) => Err(reason),
            },
        };
        outcome::timed(started.into_std(), Instant::now().into_std(), result)
    }

    async fn ask(
        &self,
        context: &ProbeContext<'_>,
        kind: &CheckKind,
        timeout: Duration,
    ) -> Result<Answer, FailureReason> {
        let deadline = &context.deadline;
        match kind {
            CheckKind::Ping => {
                deadline.noted(Phase::Reply, self.pingers.probe(context.target, timeout)).await
            }
            CheckKind::Connect => connect::probe(context).await,
            CheckKind::On => Ok(Answer::default()),
            CheckKind::Off => Err(FailureReason::Off),
            // The rest is boxed: a check by connect is not to take the memory of the largest.
            CheckKind::Http(check) => Box::pin(http::probe(context, check)).await,
            CheckKind::Tcp(check) => Box::pin(tcp::probe(context, check)).await,
            CheckKind::Udp(check) => Box::pin(datagram::probe(context, check)).await,
            CheckKind::Greeting(check) => Box::pin(greeting::probe(context, check)).await,
            CheckKind::Dns(check) => Box::pin(dns::probe(context, check)).await,
            CheckKind::Radius(check) => Box::pin(radius::probe(context, check)).await,
            CheckKind::Sip(check) => Box::pin(sip::probe(context, check)).await,
            CheckKind::Ldap(check) => Box::pin(ldap::probe(context, check)).await,
            CheckKind::Sql(check) => Box::pin(database::probe(context, check)).await,
            CheckKind::Oracle(check) => Box::pin(oracle::probe(context, check)).await,
            CheckKind::Agent(check) => Box::pin(agent::probe(context, check)).await,
            CheckKind::Command(check) => Box::pin(command::probe(context, check)).await,
            CheckKind::File(path) => Box::pin(command::read_weight(context, path)).await,
        }
    }
}

impl Probe for Prober {
    async fn probe(&self, target: ProbeTarget, kind: &CheckKind, timeout: Duration) -> Outcome {
        self.run(target, kind, timeout, None).await
    }
}
