//! Servers that the fast path alone has taken out. A host that stalls looks like one that lost its power, so that their
//! removal is provisional until the baseline check agrees: they are asked again and again, and are back with the first
//! whole answer ([`State::is_provisional`]).
//!
//! First it is asked what costs little: for a connection where the check makes one. Who takes that is asked the whole
//! check at once, which alone brings a server back.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{AnsweredCheck, Confirmations, ProbeRequest, Purpose, Requests, Situation, Step};
use crate::{
    engine::Engine,
    health::{Source, State},
    model::{Check, CheckKind, DestinationKey},
    probe::{Patience, ProbeTarget, Rhythm, Verdict},
};

/// From one question to the next.
const EVERY: Duration = Duration::from_millis(50);
/// For how long a server is asked: three baseline checks of a second have failed then.
const AT_MOST: Duration = Duration::from_secs(3);
/// Questions a second to all such servers together; with more of them each is asked less often.
const TOTAL_RATE: u32 = 1000;

/// Who is asked whether it is back.
#[derive(Debug, Default)]
pub(super) struct Rechecks(BTreeMap<DestinationKey, Recheck>);

/// When a destination is asked.
#[derive(Clone, Copy, Debug)]
struct Recheck {
    due: Instant,
    until: Instant,
    /// How many whole checks are under way: nothing else is asked meanwhile.
    whole: u32,
}

impl Rechecks {
    /// When the next one is due.
    fn next_due(&self) -> Option<Instant> {
        self.0.values().map(|recheck| recheck.due).min()
    }

    /// A request has ended.
    pub(super) fn ended(&mut self, request: &ProbeRequest) {
        if request.purpose == Purpose::WholeCheck {
            for destination in request.destinations.iter() {
                if let Some(recheck) = self.0.get_mut(destination) {
                    recheck.whole = recheck.whole.saturating_sub(1);
                }
            }
        }
    }

    /// Forgets those that are not to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(&DestinationKey) -> bool) {
        self.0.retain(|destination, _| keep(destination));
    }

    /// From now on this one is asked, too.
    pub(super) fn add(&mut self, destination: DestinationKey, now: Instant) {
        let recheck = Recheck { due: now + EVERY, until: now + AT_MOST, whole: 0 };
        self.0.entry(destination).or_insert(recheck);
    }

    /// From one question to the next, with as many as there are.
    pub(super) fn every(&self) -> Duration {
        let servers = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        EVERY.max(Duration::from_secs(1) / TOTAL_RATE * servers)
    }
}

impl Confirmations {
    /// When [`Self::due`] is to be called next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.rechecks.next_due()
    }

    /// What is to be asked now of servers that are out provisionally.
    pub(crate) fn due(&mut self, at: Situation<'_>) -> Vec<Step> {
        self.rechecks
            .0
            .retain(|destination, recheck| at.now < recheck.until && is_provisional(at.engine, destination));
        let every = self.rechecks.every();
        let mut requests = Requests::default();
        for (destination, recheck) in self.rechecks.0.iter_mut().filter(|(_, recheck)| recheck.due <= at.now)
        {
            recheck.due = at.now + every;
            let Some(check) = at.engine.check(destination).filter(|_| recheck.whole == 0) else { continue };
            let asked = host_question(destination, check);
            requests.add(asked, patience(check), Purpose::Return, *destination);
        }
        steps(requests)
    }

    /// Takes note of those of these destinations that are out provisionally.
    ///
    /// Where silence is an answer, the regular check alone must tell: kernels send a peer one ICMP error a second only
    /// (`icmp_ratelimit` in Linux, 6 at once), so that asking more often would be taken for a port that is open.
    pub(super) fn note_removals(&mut self, destinations: &[DestinationKey], at: Situation<'_>) {
        for destination in destinations.iter().filter(|one| is_provisional(at.engine, one)) {
            let is_mute = |check: &Check| matches!(&check.kind, CheckKind::Udp(udp) if !udp.reply);
            let may_be_silent =
                self.closed_ports.contains(destination) || at.engine.check(destination).is_some_and(is_mute);
            if !may_be_silent {
                self.rechecks.add(*destination, at.now);
            }
        }
    }

    /// These destinations answer again: all of their checks that still count them as dead are asked.
    pub(super) fn ask_whole(&mut self, destinations: &[DestinationKey], at: Situation<'_>) -> Vec<Step> {
        let mut requests = Requests::default();
        for destination in destinations.iter().filter(|one| is_provisional(at.engine, one)) {
            let Some(recheck) = self.rechecks.0.get_mut(destination).filter(|one| one.whole == 0) else {
                continue;
            };
            for (index, check) in at.engine.checks(destination) {
                if at.engine.state_of_check(destination, index).is_some_and(State::is_provisional) {
                    let asked = (ProbeTarget::of_check(destination.server, check), check.kind.clone());
                    requests.add(asked, patience(check), Purpose::WholeCheck, *destination);
                    recheck.whole += 1;
                }
            }
        }
        steps(requests)
    }
}

fn steps(requests: Requests) -> Vec<Step> {
    let step = |request: ProbeRequest| {
        let rhythm = Rhythm::once(request.patience.probe);
        Step::Probe { request, number_from: 1, rhythm }
    };
    requests.finish().into_iter().map(step).collect()
}

/// The whole time of the check: an answer that comes late, as after a stall, is one.
fn patience(check: &Check) -> Patience {
    let probe = check.timeout.min(AT_MOST);
    Patience { usual: probe, probe, burst: Duration::ZERO }
}

/// What tells cheaply whether a server is back.
fn host_question(destination: &DestinationKey, check: &Check) -> (ProbeTarget, CheckKind) {
    let target = ProbeTarget::of_check(destination.server, check);
    let asked = if target.address.port() == 0 { check.kind.clone() } else { check.kind.confirming() };
    (target, asked)
}

/// The checks that a probe has answered whole; a failure counts nowhere, the server is out already.
pub(super) fn answered(request: &ProbeRequest, verdict: Verdict, engine: &Engine) -> Vec<AnsweredCheck> {
    if verdict != Verdict::Alive {
        return Vec::new();
    }
    let of_destination = |destination: &DestinationKey| {
        let (destination, server) = (*destination, destination.server);
        let is_asked = move |check: &Check| {
            (ProbeTarget::of_check(server, check), &check.kind) == (request.target, &*request.question)
        };
        let checks = engine.checks(&destination).filter(move |(_, check)| is_asked(check));
        checks.map(move |(index, _)| AnsweredCheck {
            destination,
            check: Some(index),
            source: Source::Baseline,
        })
    };
    request.destinations.iter().flat_map(of_destination).collect()
}

fn is_provisional(engine: &Engine, destination: &DestinationKey) -> bool {
    engine.state(destination).is_some_and(State::is_provisional)
}
