//! What a confirmation wants done, as values.

use lvs_common::ServerId;

use super::ProbeRequest;
use crate::{
    event::Event,
    health::Source,
    model::DestinationKey,
    passive::Observation,
    probe::{Rhythm, Verdict},
};

/// Something to be done. None of it edits the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Ask until there is an answer.
    Probe {
        /// Whom, and what.
        request: ProbeRequest,
        /// Which probe for this suspicion the first of them is, from 1.
        number_from: u32,
        /// How often, and when.
        rhythm: Rhythm,
    },
    /// Let the detector know.
    Feedback(DetectorFeedback),
    /// Let people and programs know.
    Publish(Event),
}

/// What the detector is told by those who decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DetectorFeedback {
    /// What became of a server.
    Observed(ServerId, Observation),
    /// A suspicion was not probed, and may be raised again.
    NotProbed(ServerId),
    /// The traffic comes here from now on, with connections whose beginning was not seen.
    Afresh,
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
