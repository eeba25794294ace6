//! The active side: one file a protocol, a [`Scheduler`] for the baseline checks, and the confirming [`burst`].
//!
//! Nothing here decides about a server: what came of each probe is handed on.

pub mod budget;
pub mod burst;
mod command;
mod connect;
mod database;
mod datagram;
mod dns;
mod greeting;
mod http;
mod ldap;
mod oracle;
mod outcome;
mod pace;
mod ping;
mod radius;
mod random;
mod schedule;
mod scheduler;
mod sip;
mod stream;
mod talk;
mod tcp;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::time::Instant;

use outcome::Answer;
pub use outcome::{
    CommandEnd, Failure, FailureReason, LocalFault, Outcome, Phase, Success, Unreachable, Verdict,
};
use pace::{Pace, Run};
pub use ping::Pingers;
pub use scheduler::{BaselineCheck, CheckId, CheckResult, Counts, Scheduler, SchedulerHandle, Stopped};

use tls::TlsClients;

use crate::model::{Check, CheckKind, Via};

/// Whom a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeTarget {
    /// Address and port; 0 where there is none to ask, as by ping.
    pub address: SocketAddr,
    /// From where it is asked, and how long each step may take.
    pub via: Via,
}

impl ProbeTarget {
    /// The server at `address`, asked as the routes say.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { address, via: Via::default() }
    }

    /// Whom `check` asks about the real server at `server`: the server itself, or another port of it. A ping has no port,
    /// so that one is enough for all services on a server.
    #[must_use]
    pub fn of_check(server: SocketAddr, check: &Check) -> Self {
        let port = match check.kind {
            CheckKind::Ping => 0,
            _ => check.port.unwrap_or(server.port()),
        };
        Self { address: SocketAddr::new(server.ip(), port), via: check.via }
    }
}

/// Something that can ask a server a question: [`Prober`] over the network, or a test's invention.
pub trait Ask: Clone + Send + Sync + 'static {
    /// Asks `target` the question. Ends within `timeout`, give or take the timer's millisecond, whatever the server
    /// does. May be dropped at any time, which ends the probe.
    fn ask(
        &self,
        target: ProbeTarget,
        question: &CheckKind,
        timeout: Duration,
    ) -> impl Future<Output = Outcome> + Send;
}

/// Asks over the network. Clones share the sockets that pings need, and what TLS has to know.
#[derive(Clone, Debug, Default)]
pub struct Prober {
    pingers: Pingers,
    tls: TlsClients,
}

impl Prober {
    /// A prober. Sockets are only opened when they are needed; a ping needs `CAP_NET_RAW`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Ask for Prober {
    async fn ask(&self, target: ProbeTarget, question: &CheckKind, timeout: Duration) -> Outcome {
        let started = Instant::now();
        let run = Run { target, pace: Pace::new(timeout, &target.via), tls: &self.tls };
        let result = match question {
            CheckKind::Ping => self.pingers.ask(target, timeout).await,
            CheckKind::Connect => connect::ask(&run).await,
            CheckKind::On => Ok(Answer::default()),
            CheckKind::Off => Err(FailureReason::Off),
            // The rest is boxed: a check by connect is not to take the memory of the largest.
            CheckKind::Http(question) => Box::pin(http::ask(&run, question)).await,
            CheckKind::Tcp(question) => Box::pin(tcp::ask(&run, question)).await,
            CheckKind::Udp(question) => Box::pin(datagram::ask(&run, question)).await,
            CheckKind::Greeting(question) => Box::pin(greeting::ask(&run, question)).await,
            CheckKind::Dns(question) => Box::pin(dns::ask(&run, question)).await,
            CheckKind::Radius(question) => Box::pin(radius::ask(&run, question)).await,
            CheckKind::Sip(question) => Box::pin(sip::ask(&run, question)).await,
            CheckKind::Ldap(question) => Box::pin(ldap::ask(&run, question)).await,
            CheckKind::Sql(question) => Box::pin(database::ask(&run, question)).await,
            CheckKind::Oracle(question) => Box::pin(oracle::ask(&run, question)).await,
            CheckKind::Command(question) => Box::pin(command::ask(&run, question)).await,
            CheckKind::File(path) => Box::pin(command::read_weight(&run, path)).await,
        };
        outcome::timed(started.into_std(), Instant::now().into_std(), result)
    }
}
