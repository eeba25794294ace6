//! The active side: one file a protocol, a [`Scheduler`] for the baseline checks, and the confirming [`burst`].
//!
//! Nothing here decides about a server: what came of each probe is handed on.

pub mod budget;
pub mod burst;
mod connect;
mod http;
mod outcome;
mod ping;
mod schedule;
mod scheduler;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::time::Instant;

pub use outcome::{Failure, FailureReason, LocalFault, Outcome, Phase, Success, Unreachable, Verdict};
pub use ping::Pinger;
pub use scheduler::{BaselineCheck, CheckId, CheckResult, Counts, Scheduler, Stopped};

use crate::config::{Check, Question};

/// Whom a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeTarget {
    /// Address and port; 0 where there is none to ask, as by ping.
    pub address: SocketAddr,
}

impl ProbeTarget {
    /// Whom `check` asks about the real server at `server`: the server itself, or another port of it. A ping has no port,
    /// so that one is enough for all services on a server.
    #[must_use]
    pub fn of_check(server: SocketAddr, check: &Check) -> Self {
        let port = match check.question {
            Question::Ping => 0,
            Question::Connect | Question::Http(_) => check.port.unwrap_or(server.port()),
        };
        Self { address: SocketAddr::new(server.ip(), port) }
    }
}

/// Something that can ask a server a question: [`Prober`] over the network, or a test's invention.
pub trait Ask: Clone + Send + Sync + 'static {
    /// Asks `target` the question. Ends within `timeout`, give or take the timer's millisecond, whatever the server
    /// does. May be dropped at any time, which ends the probe.
    fn ask(
        &self,
        target: ProbeTarget,
        question: &Question,
        timeout: Duration,
    ) -> impl Future<Output = Outcome> + Send;
}

/// Asks over the network. Clones share the sockets that pings need.
#[derive(Clone, Debug, Default)]
pub struct Prober {
    pinger: Pinger,
}

impl Prober {
    /// A prober. Sockets are only opened when they are needed; a ping needs `CAP_NET_RAW`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Ask for Prober {
    async fn ask(&self, target: ProbeTarget, question: &Question, timeout: Duration) -> Outcome {
        let started = Instant::now();
        let result = match question {
            Question::Ping => self.pinger.ask(target.address.ip(), timeout).await.map(|()| None),
            Question::Connect => connect::ask(target, timeout).await.map(|()| Some(started.elapsed())),
            Question::Http(question) => http::ask(target, question, timeout).await.map(Some),
        };
        outcome::timed(started.into_std(), Instant::now().into_std(), result)
    }
}
