//! What is reported and not suspected: a silence of most of a service, and overload.

use std::time::Duration;

use super::{
    Detector, View,
    finding::{Evidence, Finding, Layer, Strength},
    grade,
    history::ServerHistory,
    readings::Readings,
    silence::Measure,
    time::{self, nanos},
};

impl Detector {
    /// A silence that most of the service shares, reported once in a while.
    pub(super) fn correlated(
        &mut self,
        view: &View,
        readings: &impl Readings,
        now_ns: u64,
    ) -> Option<Finding> {
        let history = self.histories.get(view.id)?;
        if now_ns < history.correlated_quiet_until_ns || history.host_pause.pending.is_some() {
            return None;
        }
        let measure = self.measure(history, view, Layer::Host);
        let silent = self.silent_layer(view, Layer::Host, measure, readings, now_ns)?;
        let rate = history.listener.most_answers_per_second();
        let strength = grade(&self.settings, self.weigh(&silent, 0.0, now_ns), rate)?;
        if strength < Strength::Strong || !self.is_correlated(&silent, silent.first_ns(now_ns), now_ns) {
            return None;
        }
        let evidence = silent.evidence(&history.listener);
        let quiet_until_ns = now_ns.saturating_add(nanos(self.settings.backoff_max));
        self.histories.get_mut(view.id)?.correlated_quiet_until_ns = quiet_until_ns;
        Some(Finding::Correlated { id: view.id, evidence })
    }

    /// SYNs without an answer while established flows are answered.
    pub(super) fn overload(&mut self, view: &View, readings: &impl Readings, now_ns: u64) -> Option<Finding> {
        let history = self.histories.get(view.id)?;
        let floor = self.floor(view.visibility);
        let answered_ns = ServerHistory::other_life_ns(&view.state, view.visibility);
        let busy = history.host_pause.pending.is_some() || now_ns < history.overload_quiet_until_ns;
        if busy || !time::is_within(answered_ns, floor, now_ns) {
            return None;
        }
        let since_ns = history.host_pause.cleared_ns.max(self.awake_ns);
        let measure =
            Measure { since_ns, alive_ns: 0, alive_gap: Duration::ZERO, demand_since_ns: since_ns, floor };
        let silent = self.silent_layer(view, Layer::Host, measure, readings, now_ns)?;
        // An answer that was under way when the host died is no proof of life.
        if answered_ns < silent.first_ns(now_ns).saturating_add(nanos(floor)) {
            return None;
        }
        let weight = self.weigh(&silent, 0.0, now_ns);
        let strength = grade(&self.settings, weight, history.listener.most_answers_per_second())?;
        if strength < Strength::Strong {
            return None;
        }
        let pause = nanos(self.settings.backoff_max);
        let history = self.histories.get_mut(view.id)?;
        history.overload_quiet_until_ns = now_ns.saturating_add(pause);
        let evidence = Evidence::Overloaded {
            silence: silent.silence.lasted,
            clients: silent.silence.clients,
            attempts: silent.silence.attempts,
            answered: Duration::from_nanos(now_ns.saturating_sub(answered_ns)),
        };
        Some(Finding::Overloaded { id: view.id, evidence })
    }
}
