//! Contradictions: the clients of a server fail while its probes succeed. No prober can see that, and no passive signal
//! alone may decide about a server's health: so it is a state of its own, beside the health. Pure.
//!
//! A contradiction begins when the clients' complaint has lasted (see `passive/contradiction`), the server is up, and
//! its last two probes, both since the complaint began, have succeeded. It ends when clients are served again, or when
//! the server goes down and probes and clients agree.
//!
//! Where the service wants it (`on-contradiction = "remove"`), the server is excluded from the pool: only while its
//! siblings serve their clients, never the last one, and never most of a service. Nobody can tell when it is well
//! again, for it has no clients then. So it is tried: let in with as little weight as can be, first after a minute, and
//! after each trial that has failed twice as late as before, up to an hour.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use humantime::{FormattedDuration, format_duration};
use lvs_common::ServerId;

use super::{Effects, Engine, Place};
use crate::{
    backoff::Backoff,
    event::{Consequence, ContradictionChange, ContradictionEnd, Event},
    health::{Sample, State},
    keyed::KeyMap,
    model::{DestinationKey, ForwardingMethod, OnContradiction},
    passive::{ClientReport, ClientsSay, Comparison, Complaint},
    pool::ClientState,
};

/// How long an excluded server stays out, by how often it was excluded before. The first time is well above what it
/// takes to see that clients fail (10 s to 30 s); an hour costs a server that was repaired an hour at most, and one
/// that was not a few clients an hour.
const OUT: Backoff = Backoff::new(Duration::from_mins(1), Duration::from_hours(1));
/// A server whose clients have been served for so long is as good as any other.
const MEMORY: Duration = Duration::from_mins(10);
/// A trial has failed once so many attempts of clients have …
const TRIAL_ATTEMPTS: u64 = 20;
/// … and it has lasted for so long.
const TRIAL: Duration = Duration::from_secs(10);

/// All contradictions, and what they are told from.
#[derive(Debug, Default)]
pub(super) struct Contradictions {
    of: KeyMap<DestinationKey, Contradiction>,
    /// The last two successes of each destination's probes, the older one first.
    successes: KeyMap<DestinationKey, [Option<Instant>; 2]>,
    /// Destinations that were excluded: how often, and when that is forgotten.
    past: KeyMap<DestinationKey, Past>,
    /// When destinations are to be tried.
    due: BTreeSet<(Instant, DestinationKey)>,
}

#[derive(Clone, Copy, Debug)]
struct Past {
    exclusions: u32,
    /// `None`: the contradiction goes on.
    forgotten_at: Option<Instant>,
}

/// The contradiction of one destination.
#[derive(Clone, Debug)]
pub(crate) struct Contradiction {
    /// Since when, by the first attempt that failed.
    pub(crate) since: Instant,
    /// What clients said last.
    pub(crate) complaint: Complaint,
    /// How packets reach the server.
    pub(crate) method: ForwardingMethod,
    pub(crate) treatment: Treatment,
    /// Whose clients: a destination by firewall mark has an endpoint for each protocol.
    by: ServerId,
}

impl Contradiction {
    /// The contradiction in words for people, at this time.
    pub(super) fn words(&self, now: Instant) -> String {
        let Self { since, complaint, method, treatment, .. } = self;
        let lasted = whole_seconds(now.saturating_duration_since(*since));
        let treatment = match treatment {
            Treatment::Reported => String::new(),
            Treatment::Excluded { until } => {
                format!("; out, tried again in {}", whole_seconds(until.saturating_duration_since(now)))
            }
            Treatment::OnTrial { since, .. } => {
                format!("; on trial for {}", whole_seconds(now.saturating_duration_since(*since)))
            }
        };
        format!(
            "for {lasted} its clients fail while its checks succeed: {complaint}; likely causes: {}{treatment}",
            complaint.likely_causes(*method)
        )
    }
}

fn whole_seconds(duration: Duration) -> FormattedDuration {
    format_duration(Duration::from_secs(duration.as_secs()))
}

/// What is done about a contradiction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// It is reported.
    Reported,
    /// The server is out until then.
    Excluded { until: Instant },
    /// The server has clients again since then; they had made so many attempts before.
    OnTrial { since: Instant, attempts: u64 },
}

impl Contradictions {
    /// When a destination is to be tried next.
    pub(super) fn next_trial(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn note_probe(&mut self, destination: DestinationKey, success: bool, now: Instant) {
        let successes = self.successes.entry(destination).or_default();
        *successes = if success { [successes[1], Some(now)] } else { [None; 2] };
    }

    /// Whether the last two probes have succeeded since then.
    fn are_probes_well(&self, destination: &DestinationKey, since: Instant) -> bool {
        self.successes.get(destination).is_some_and(|[older, _]| older.is_some_and(|older| older >= since))
    }

    /// How often a destination was excluded before.
    fn exclusions(&mut self, destination: &DestinationKey, now: Instant) -> u32 {
        self.past.retain(|_, past| past.forgotten_at.is_none_or(|at| at > now));
        self.past.get(destination).map_or(0, |past| past.exclusions)
    }
}

impl Engine {
    /// Takes in what the clients of a destination say.
    pub(crate) fn clients_say(
        &mut self,
        destination: &DestinationKey,
        report: &ClientReport,
        now: Instant,
    ) -> Effects {
        let Some(Place { service: index, .. }) = self.places.get(destination).copied() else {
            return Effects::default();
        };
        let mut effects = Effects::default();
        let changes = match &report.say {
            ClientsSay::Served => {
                let is_theirs = self.contradiction(destination).is_some_and(|one| one.by == report.id);
                let ended = is_theirs.then(|| self.end(destination, ContradictionEnd::Served, now)).flatten();
                ended.into_iter().collect()
            }
            ClientsSay::Failing(complaint) => self.clients_fail(destination, report.id, complaint, now),
        };
        if !changes.is_empty() {
            effects.events.extend(changes.into_iter().map(|change| self.event(destination, change)));
            self.decide(index, now, &mut effects);
        }
        effects
    }

    /// Takes in that a probe of a destination has ended. Where that takes it down, clients and probes agree.
    pub(super) fn note_probe(
        &mut self,
        destination: &DestinationKey,
        sample: Sample,
        now: Instant,
    ) -> Option<Event> {
        self.contradictions.note_probe(*destination, sample.success, now);
        let is_up = self.state(destination).is_some_and(State::is_up);
        let change = if is_up { None } else { self.end(destination, ContradictionEnd::Down, now) };
        change.map(|change| self.event(destination, change))
    }

    /// Lets in whom it is time to try.
    pub(super) fn start_trials(&mut self, now: Instant, effects: &mut Effects) {
        while let Some((at, destination)) = self.contradictions.due.pop_first() {
            if at > now {
                self.contradictions.due.insert((at, destination));
                return;
            }
            let Some(contradiction) = self.contradictions.of.get_mut(&destination) else { continue };
            let attempts = contradiction.complaint.attempts;
            contradiction.treatment = Treatment::OnTrial { since: now, attempts };
            self.set_client_state(&destination, ClientState::OnTrial);
            effects.events.push(self.event(&destination, ContradictionChange::Trial));
            if let Some(place) = self.places.get(&destination).copied() {
                self.decide(place.service, now, effects);
            }
        }
    }

    /// There are other services: contradictions of destinations that are gone, or reached in another way, end, and so
    /// does an exclusion that is no longer wanted.
    pub(super) fn retain_contradictions(&mut self, now: Instant) -> Vec<Event> {
        let known: Vec<_> = self.contradictions.of.iter().map(|(key, one)| (*key, one.method)).collect();
        let mut events = Vec::new();
        for (destination, method) in known {
            if self.method(&destination) != Some(method) {
                let ended = self.end(&destination, ContradictionEnd::Gone, now);
                events.extend(ended.map(|change| self.event(&destination, change)));
            } else if self.wish(&destination) == OnContradiction::Report {
                self.readmit(&destination);
            }
        }
        let places = &self.places;
        self.contradictions.successes.retain(|destination, _| places.contains_key(destination));
        self.contradictions.past.retain(|destination, _| places.contains_key(destination));
        events
    }

    /// The contradiction of a destination.
    pub(crate) fn contradiction(&self, destination: &DestinationKey) -> Option<&Contradiction> {
        self.contradictions.of.get(destination)
    }

    /// Why a server is out, if it is because its clients fail.
    pub(super) fn reason_for_exclusion(&self, destination: &DestinationKey) -> Option<String> {
        let Contradiction { treatment, complaint, .. } = self.contradiction(destination)?;
        let is_excluded = matches!(treatment, Treatment::Excluded { .. });
        is_excluded.then(|| format!("its checks succeed, but its clients fail: {complaint}"))
    }

    fn clients_fail(
        &mut self,
        destination: &DestinationKey,
        by: ServerId,
        complaint: &Complaint,
        now: Instant,
    ) -> Vec<ContradictionChange> {
        let since = now.checked_sub(complaint.lasted).unwrap_or(now);
        let is_up = self.state(destination) == Some(State::Up);
        let (Some(method), true) = (self.method(destination), is_up) else { return Vec::new() };
        if !self.contradictions.are_probes_well(destination, since) {
            return Vec::new();
        }
        if let Some(known) = self.contradictions.of.get_mut(destination) {
            if known.by == by {
                known.complaint = complaint.clone();
            }
            return self.treat(destination, now).into_iter().collect();
        }
        let (complaint, treatment) = (complaint.clone(), Treatment::Reported);
        let contradiction = Contradiction { since, complaint: complaint.clone(), method, treatment, by };
        self.contradictions.of.insert(*destination, contradiction);
        let consequence = match self.treat(destination, now) {
            Some(ContradictionChange::Out { retry_in }) => Consequence::Excluded { retry_in },
            _ if self.wish(destination) == OnContradiction::Remove => Consequence::Kept,
            _ => Consequence::Reported,
        };
        vec![ContradictionChange::Begun { complaint, consequence }]
    }

    /// Excludes a server whose service wants that, where it is possible.
    fn treat(&mut self, destination: &DestinationKey, now: Instant) -> Option<ContradictionChange> {
        let Contradiction { complaint, treatment, .. } = self.contradiction(destination)?;
        // Where siblings fare no better, it is not this server that is to be taken out.
        let differs = matches!(complaint.siblings, Comparison::Answer(_));
        let is_due = match *treatment {
            Treatment::Reported => true,
            Treatment::Excluded { .. } => false,
            Treatment::OnTrial { since, attempts } => {
                // A run that began after the trial counts from 0.
                let more = complaint.attempts.checked_sub(attempts).unwrap_or(complaint.attempts);
                more >= TRIAL_ATTEMPTS && now.saturating_duration_since(since) >= TRIAL
            }
        };
        if !differs || !is_due || self.wish(destination) == OnContradiction::Report {
            return None;
        }
        let place = self.places.get(destination).copied()?;
        if !self.services.get(place.service)?.may_exclude(place.role) {
            return None;
        }
        let exclusions = self.contradictions.exclusions(destination, now);
        let retry_in = OUT.delay(exclusions);
        let until = now + retry_in;
        self.contradictions.of.get_mut(destination)?.treatment = Treatment::Excluded { until };
        let past = Past { exclusions: exclusions.saturating_add(1), forgotten_at: None };
        self.contradictions.past.insert(*destination, past);
        self.contradictions.due.insert((until, *destination));
        self.set_client_state(destination, ClientState::Excluded);
        Some(ContradictionChange::Out { retry_in })
    }

    /// Ends the contradiction of a destination, if there is one. Weights change at the next decision.
    fn end(
        &mut self,
        destination: &DestinationKey,
        end: ContradictionEnd,
        now: Instant,
    ) -> Option<ContradictionChange> {
        self.readmit(destination);
        let Contradiction { since, .. } = self.contradictions.of.remove(destination)?;
        if let Some(past) = self.contradictions.past.get_mut(destination) {
            past.forgotten_at = Some(now + MEMORY);
        }
        Some(ContradictionChange::Over { end, lasted: now.saturating_duration_since(since) })
    }

    /// Whatever clients say is only reported from now on.
    fn readmit(&mut self, destination: &DestinationKey) {
        self.contradictions.due.retain(|(_, other)| other != destination);
        if let Some(contradiction) = self.contradictions.of.get_mut(destination) {
            contradiction.treatment = Treatment::Reported;
            self.set_client_state(destination, ClientState::Served);
        }
    }

    fn set_client_state(&mut self, destination: &DestinationKey, client_state: ClientState) {
        let Some(Place { service, role }) = self.places.get(destination).copied() else { return };
        if let Some(service) = self.services.get_mut(service) {
            service.pool.set_client_state(role, client_state);
        }
    }

    fn method(&self, destination: &DestinationKey) -> Option<ForwardingMethod> {
        let (service, role) = self.at(destination)?;
        service.server(role).map(|server| server.method)
    }

    fn wish(&self, destination: &DestinationKey) -> OnContradiction {
        self.at(destination).map(|(service, _)| service.config.policy.on_contradiction).unwrap_or_default()
    }

    fn event(&self, destination: &DestinationKey, change: ContradictionChange) -> Event {
        // One that is gone has no method; the event that it is over says nothing of it.
        let method = self.method(destination).unwrap_or(ForwardingMethod::Masquerade);
        Event::Contradiction { subject: self.subject(destination), method, change }
    }
}
