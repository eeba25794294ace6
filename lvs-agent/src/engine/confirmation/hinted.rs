//! Hints: one probe of what is in doubt, and a suspicion only if that fails.

use std::time::Duration;

use lvs_common::ServerId;

use super::{
    Confirmation, Confirmations, DetectorFeedback, Situation, Step,
    hint_budget::{Doubted, packets},
};
use crate::{
    event::{Event, HintFate},
    model::CheckKind,
    passive::{Hint, Layer, Observation, Strength, Suspicion},
};

impl Confirmations {
    /// A hint: one probe, as long as the budget of the hints allows it. Where no check asks the application, its host
    /// is asked: it is all that can be settled.
    pub(super) fn hinted(&mut self, hint: &Hint, at: Situation<'_>) -> Vec<Step> {
        let event =
            |fate| Step::Publish(Event::Hint { subjects: at.subjects(hint.id), hint: hint.clone(), fate });
        let own = self.requests(hint.id, hint.layer, at);
        let (layer, requests) = if own.is_empty() {
            (Layer::Host, self.requests(hint.id, Layer::Host, at))
        } else {
            (hint.layer, own)
        };
        let key = (hint.id, layer);
        if self.in_progress.contains_key(&key) {
            return vec![event(HintFate::InProgress)];
        }
        let Some(of) = doubted(hint, at).filter(|_| !requests.is_empty()) else {
            return vec![event(HintFate::NothingToAsk)];
        };
        let takes = requests.iter().map(|request| packets(&request.question)).sum();
        if let Err(exhausted) = self.hint_budget.take(hint, of, takes, at.now) {
            return vec![event(HintFate::Withheld { reason: exhausted.to_string() })];
        }
        // Doubts about most of a service at once say something even while none of them is confirmed.
        self.correlation.note(hint.id, at.now);
        self.in_progress.entry(key).or_default().hint = Some(hint.clone());
        self.note_closed_port(hint.id, layer, &hint.evidence);
        let mut steps = vec![event(HintFate::Asked)];
        steps.extend(self.confirm(hint.id, layer, Strength::Weak, at));
        steps
    }

    /// A probe has failed: what began with a hint is a suspicion from now on.
    pub(super) fn hint_confirmed(&mut self, id: ServerId, layer: Layer, at: Situation<'_>) -> Option<Step> {
        let hint = self.in_progress.get_mut(&(id, layer))?.hint.take()?;
        let suspicion = Suspicion { id, strength: Strength::Weak, layer, evidence: hint.evidence };
        Some(Step::Publish(Event::Suspicion { subjects: at.subjects(id), suspicion }))
    }

    /// A hint's probe has been answered: how many others had started by then?
    pub(super) fn note_answer_to_hint(&mut self, key: (ServerId, Layer), number: u32, latency: Duration) {
        let Some(confirmation) = self.in_progress.get_mut(&key) else { return };
        if let Some(rhythm) = confirmation.rhythm {
            let answered = rhythm.start_of(number.saturating_sub(1)) + latency;
            let started = (1..rhythm.count.get()).take_while(|index| rhythm.start_of(*index) < answered);
            confirmation.beyond_first = u32::try_from(started.count()).unwrap_or(u32::MAX);
        }
    }

    /// A hint has come to nothing: the detector and the budget are told.
    pub(super) fn hint_refuted(
        &mut self,
        hint: &Hint,
        confirmation: &Confirmation,
        at: Situation<'_>,
    ) -> Step {
        if confirmation.cleared {
            // A ping went with the second.
            let further = confirmation.beyond_first;
            let more = further * packets(&CheckKind::Connect) + further.min(1);
            self.hint_budget.refuted(hint, doubted(hint, at), more, at.now);
        }
        Step::Feedback(DetectorFeedback::Observed(hint.id, Observation::HintRefuted(hint.layer)))
    }
}

/// Whom a hint is about; `None`: nobody any more.
fn doubted(hint: &Hint, at: Situation<'_>) -> Option<Doubted> {
    let destination = at.destinations(hint.id).first()?;
    Some(Doubted { server: destination.server, service: destination.service })
}
