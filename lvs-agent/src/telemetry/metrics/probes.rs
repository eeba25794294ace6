//! The numbers of probes by kind and outcome.

use metrics::{Counter, counter};

use crate::{event::ProbeKind, probe::Verdict};

/// The number of probes, by kind and outcome. The counters are looked up once.
pub(crate) struct Probes {
    baseline: Outcomes,
    confirm: Outcomes,
    hint: Outcomes,
    back: Outcomes,
    ping: Outcomes,
}

struct Outcomes {
    success: Counter,
    failure: Counter,
    inconclusive: Counter,
}

impl Probes {
    /// Starts at zero.
    pub(crate) fn new() -> Self {
        let [baseline, confirm, hint, back, ping] =
            ["baseline", "confirm", "hint", "return", "ping"].map(Outcomes::new);
        Self { baseline, confirm, hint, back, ping }
    }

    /// Counts a probe.
    pub(crate) fn count(&self, kind: ProbeKind, verdict: Verdict) {
        let outcomes = match kind {
            ProbeKind::Baseline { .. } => &self.baseline,
            ProbeKind::Confirm { .. } | ProbeKind::Port => &self.confirm,
            ProbeKind::Hint => &self.hint,
            ProbeKind::Return => &self.back,
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
