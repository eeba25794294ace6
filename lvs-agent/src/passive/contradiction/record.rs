//! What is known of one server's clients.

use std::time::Duration;

use lvs_common::{ServerCounters, ServerState, Sketch};

use super::{
    LASTING,
    complaint::Missing,
    layer::{Details, Exchange, LayerRecord, Look, Run},
};
use crate::{model::Protocol, passive::visibility::Visibility};

/// What is known of one server's clients.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) visibility: Visibility,
    pub(super) protocol: Protocol,
    /// Its groups, by index.
    pub(super) groups: Vec<usize>,
    pub(super) last: Option<Totals>,
    pub(super) listener: LayerRecord,
    pub(super) application: LayerRecord,
    pub(super) judged_ns: u64,
    /// Since when a share of requests has failed, and what was exchanged since.
    pub(super) lacking: Option<Lacking>,
    pub(super) told: Told,
}

/// What was counted when a record was looked at last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Totals {
    pub(super) at_ns: u64,
    pub(super) packets_in: u64,
    pub(super) syns: u64,
    pub(super) again: u64,
    pub(super) syn_acks: u64,
    pub(super) refused: u64,
    pub(super) handshakes: u64,
    /// Handshakes or datagrams whose answer took a known time.
    pub(super) timed: u64,
    pub(super) requests: u64,
    pub(super) responses: u64,
    /// The last proof of life of the listening socket.
    pub(super) alive_ns: u64,
}

/// A share of requests fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lacking {
    pub(super) since_ns: u64,
    pub(super) exchange: Exchange,
    /// The networks of flows whose requests are overdue.
    pub(super) networks: Sketch,
}

/// What was said of a server's clients last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Told {
    Nothing,
    Failing {
        at_ns: u64,
        missing: Missing,
        /// What was exchanged since the first answer after it.
        recovery: Exchange,
    },
    /// That they are served again, and nobody heard it.
    Recovered,
}

impl Record {
    pub(super) fn new(visibility: Visibility, protocol: Protocol) -> Self {
        Self {
            visibility,
            protocol,
            groups: Vec::new(),
            last: None,
            listener: LayerRecord::default(),
            application: LayerRecord::default(),
            judged_ns: 0,
            lacking: None,
            told: Told::Nothing,
        }
    }

    /// The same in other groups.
    pub(super) fn without_groups(mut self) -> Self {
        self.groups.clear();
        self.restart();
        self
    }

    pub(super) fn restart(&mut self) {
        self.listener.restart();
        self.application.restart();
        self.lacking = None;
    }

    /// What was exchanged since the last time, on both layers; `None` the first time.
    pub(super) fn looks(
        &mut self,
        counters: &ServerCounters,
        state: &ServerState,
        now_ns: u64,
    ) -> Option<(Look, Look)> {
        let now = Totals::of(counters, state, now_ns);
        let last = self.last.replace(now)?;
        let more = |of: fn(&Totals) -> u64| of(&now).saturating_sub(of(&last));
        let is_tcp = self.protocol == Protocol::Tcp;
        let exchange = if is_tcp {
            Exchange { demands: more(|totals| totals.syns), answers: more(|totals| totals.handshakes) }
        } else {
            // The answer to a client that has asked twice has no known time.
            let answers = more(|totals| totals.timed).max(u64::from(now.alive_ns > last.alive_ns));
            Exchange { demands: more(|totals| totals.packets_in), answers }
        };
        let details = Details {
            again: more(|totals| totals.again),
            syn_acks: more(|totals| totals.syn_acks),
            refused: more(|totals| totals.refused),
            handshakes: more(|totals| totals.handshakes),
        };
        let listener = Look {
            exchange,
            // The agent's own probes are among the datagrams.
            waiting: (!is_tcp).then(|| state.listener.attempts.into()),
            details,
            networks: state.listener.networks,
            now_ns,
            elapsed_ns: more(|totals| totals.at_ns),
        };
        let application = Look {
            exchange: Exchange {
                demands: more(|totals| totals.requests),
                answers: more(|totals| totals.responses),
            },
            waiting: None,
            networks: state.application.networks,
            ..listener
        };
        Some((listener, application))
    }

    /// What was exchanged since the first answer after a complaint. A new run begins it anew.
    pub(super) fn note_recovery(&mut self, listener: &Look, application: &Look) {
        if let Some(lacking) = &mut self.lacking {
            lacking.exchange.add(application.exchange);
        }
        let Told::Failing { recovery, missing, .. } = &mut self.told else { return };
        let (look, layer) = if *missing == Missing::Response {
            (application, &self.application)
        } else {
            (listener, &self.listener)
        };
        let is_silent = layer
            .run
            .as_ref()
            .is_some_and(|run| Duration::from_nanos(look.now_ns.saturating_sub(run.since_ns)) >= LASTING / 2);
        if is_silent || self.lacking.is_some() {
            *recovery = Exchange::default();
        } else if look.exchange.answers > 0 || *recovery != Exchange::default() {
            recovery.add(look.exchange);
        }
    }

    /// What clients lack who get no handshake.
    pub(super) fn missing_at_listener(&self, run: &Run) -> Missing {
        let Details { syn_acks, refused, .. } = run.details;
        match (self.protocol, self.visibility) {
            (Protocol::Tcp, Visibility::Both) if syn_acks * 2 >= run.attempts => Missing::Handshake,
            (Protocol::Tcp, Visibility::Both) if refused * 2 >= run.attempts => Missing::Acceptance,
            (Protocol::Tcp, Visibility::Both) => Missing::SynAck,
            (Protocol::Tcp, _) => Missing::Handshake,
            _ => Missing::Datagram,
        }
    }
}

impl Totals {
    fn of(counters: &ServerCounters, state: &ServerState, at_ns: u64) -> Self {
        Self {
            at_ns,
            packets_in: counters.packets_in,
            syns: counters.syn,
            again: counters.syn_again,
            syn_acks: counters.syn_ack,
            refused: counters.refused,
            handshakes: counters.handshakes,
            timed: counters.handshake.total(),
            requests: counters.requests,
            responses: counters.responses,
            alive_ns: state.listener.progress_ns,
        }
    }
}
