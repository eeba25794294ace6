//! What a confirmation wants done, as values.

use std::{num::NonZeroU32, sync::Arc};

use lvs_common::ServerId;

use super::ProbeRequest;
use crate::{
    health::Source,
    model::DestinationKey,
    passive::{Evidence, Observation, Suspicion},
    probe::{Outcome, Verdict, budget::Exhausted},
};

/// Something to be done. None of it edits the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Ask `count` times, or until there is an answer.
    Probe {
        /// Whom, and what.
        request: ProbeRequest,
        /// Which probe for this suspicion the first of them is, from 1.
        number_from: u32,
        /// How often.
        count: NonZeroU32,
    },
    /// Let the detector know.
    Feedback(DetectorFeedback),
    /// Log and count it.
    Event(SuspicionEvent),
}

/// What the detector is told by those who decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DetectorFeedback {
    /// What became of a server.
    Observed(ServerId, Observation),
    /// A suspicion was not probed, and may be raised again.
    NotProbed(ServerId),
}

/// Something about a suspicion that people may want to know.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SuspicionEvent {
    /// The detector suspects the server of these destinations.
    Suspected { suspicion: Suspicion, destinations: Vec<DestinationKey> },
    /// The application of these destinations is suspected, and none of their checks could confirm it.
    Unconfirmable { suspicion: Suspicion, destinations: Vec<DestinationKey> },
    /// The server of these destinations lives but takes no new connections; the regular checks decide.
    Overloaded { destinations: Vec<DestinationKey>, evidence: Evidence },
    /// Most of a service is suspected at once, so that the regular checks decide. With `evidence`, if the detector says so.
    Correlated { destinations: Vec<DestinationKey>, evidence: Option<Evidence> },
    /// The budget of probes has nothing left for a suspicion.
    Withheld(Exhausted),
    /// The probe with this number for a suspicion has ended.
    Probed { destinations: Arc<[DestinationKey]>, number: u32, outcome: Outcome, verdict: Verdict },
    /// A port that was asked in place of a regular check has answered, or not.
    PortProbed(Verdict),
    /// The ping beside a burst has ended.
    Pinged { destinations: Arc<[DestinationKey]>, outcome: Outcome },
    /// A probe has cleared a suspicion.
    Cleared,
    /// None of a suspicion's probes could be sent.
    NotSent,
}

/// What the end of one probe says, for the engine to take in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Unknown: nothing about the server.
    pub(crate) verdict: Verdict,
    pub(crate) checks: Vec<AnsweredCheck>,
}

/// Whom and what a probe's answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnsweredCheck {
    pub(crate) destination: DestinationKey,
    /// The one of the destination's checks that it answers; `None`: it is about the host, and so about all of them.
    pub(crate) check: Option<usize>,
    /// How much it is worth.
    pub(crate) source: Source,
}
