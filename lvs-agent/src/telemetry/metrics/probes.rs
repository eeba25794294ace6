//! Probes, by what they are for and what came of them.

use metrics::{Counter, counter};

use crate::{event::ProbeKind, probe::Verdict};

/// How many there were. The counters are looked up once.
pub(crate) struct Probes {
    baseline: Outcomes,
    confirm: Outcomes,
    ping: Outcomes,
}

struct Outcomes {
    success: Counter,
    failure: Counter,
    inconclusive: Counter,
}

impl Probes {
    /// None yet.
    pub(crate) fn new() -> Self {
        let [baseline, confirm, ping] = ["baseline", "confirm", "ping"].map(Outcomes::new);
        Self { baseline, confirm, ping }
    }

    /// Counts one.
    pub(crate) fn count(&self, kind: ProbeKind, verdict: Verdict) {
        let outcomes = match kind {
            ProbeKind::Baseline { .. } => &self.baseline,
            ProbeKind::Confirm { .. } | ProbeKind::Port => &self.confirm,
            ProbeKind::Ping => &self.ping,
        };
        let counter = match verdict {
            Verdict::Alive => &outcomes.success,
            Verdict::Dead => &outcomes.failure,
            Verdict::Unknown => &outcomes.inconclusive,
        };
        counter.increment(1);
    }
}

impl Outcomes {
    fn new(kind: &'static str) -> Self {
        let [success, failure, inconclusive] = ["success", "failure", "inconclusive"]
            .map(|outcome| counter!("lvs_probes_total", "kind" => kind, "outcome" => outcome));
        Self { success, failure, inconclusive }
    }
}
