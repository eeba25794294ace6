//! When the idle connection to one server is made and closed, what its end says, and when it is given up. Pure: the
//! time is an argument, what is to be done comes out as [`Action`]s.
//!
//! An end is *known* if it comes at about the age at which this server has ended a silent connection before and lived
//! on: its own idle timeout. Any other end is a hint. Either way the next connection follows within milliseconds: a
//! process that dies closes its connections before its listening socket (`task_work_run` in `kernel/task_work.c` works
//! backwards), so that the probe of a hint may still be accepted. If the next connection is refused, that is a probe
//! that has failed.
//!
//! A server that ends, refuses or ignores several in a row is left alone for an hour. So is one whose check gets no
//! answer while a connection is young, and is answered as soon as that is closed: it may serve one client at a time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::change::{IdleChange, IdleEnd, IdleOff, IdleSign};

/// How long a server's state must be up for at most before the first connection is made: its checks come at random
/// times, and so should this.
const START_JITTER: Duration = Duration::from_millis(500);
/// A connection that has lived so long was worth its packets: 4 of them in 10 s are no burden.
const WORTHWHILE: Duration = Duration::from_secs(10);
/// So long after a first connection a check that gets no answer may be its fault. Longer than a check usually takes.
const TRIAL: Duration = Duration::from_secs(30);
/// How often in a row connections may fail: then they are given up.
const MAX_FAILURES: u32 = 4;
/// If the server is up again so soon after a young connection was closed, that was in its way: `rise` checks.
const FREED: Duration = Duration::from_secs(3);
/// How much that weighs: at the second time the connection is given up.
const HARM: u32 = 2;
/// The wait after the first failure; it doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// How long a server is left alone that idle connections don't go together with.
const RETRY: Duration = Duration::from_hours(1);
/// How long after an end the next connections belong to it.
const INCIDENT: Duration = Duration::from_secs(1);
/// How long after an end the checks may take to call the server dead for the end to have announced it: `fall` checks
/// with their timeouts.
const DEATH: Duration = Duration::from_secs(10);
/// The waits for the next connections after an end. Listening sockets are closed within microseconds after the
/// connections of a process that has few, and within tens of ms where it has thousands.
const FOLLOW_UPS: [Duration; 2] = [Duration::from_millis(4), Duration::from_millis(20)];
/// The first of these where the end is no hint, so that nobody asks the server meanwhile.
const FOLLOW_UP_ALONE: Duration = Duration::from_millis(2);
/// For how long no further end of a live server's connection is a hint: at most 6 in an hour.
const QUIET: Duration = Duration::from_mins(10);
/// A connection is made anew at this age, and up to a quarter later, as firewalls and NAT forget silent ones: the
/// shortest idle timeout of a large cloud's balancers is 4 minutes.
const RENEW: Duration = Duration::from_mins(3);
/// How many ages of ends are remembered.
const REMEMBERED: usize = 4;
/// Ends below this age show no idle timeout: no server that waits for a request is so impatient.
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);
/// An end within so much of an age that is known is expected: this part of it, and a timer's granularity.
const TOLERANCE_PART: u32 = 10;
const TOLERANCE: Duration = Duration::from_millis(250);
/// How long after data a connection's end may come for the data to be its parting words (as status 408 is).
const PARTING: Duration = Duration::from_secs(1);

/// How a server is, as far as idle connections care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Down, or nothing is known.
    Down,
    /// Down, as its check got no answer in time.
    Silent,
    /// Up, but its check got no answer in time.
    Suspect,
    /// Up.
    Up,
}

/// What to do about data that the server sends unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unasked {
    /// Its protocol greets first: a silent client is not welcome.
    GiveUp,
    /// It is read and thrown away.
    Discard,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Connect; the answer is [`Policy::connected`], [`Policy::failed`] or [`Policy::postponed`].
    Connect,
    /// Close the connection with a FIN: the server lives.
    Close,
    /// Drop the connection with a RST: nobody is there to answer a FIN.
    Abort,
    /// Report this.
    Report(IdleChange),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The server is down.
    Paused,
    Waiting {
        until: Instant,
    },
    Connecting,
    Open {
        since: Instant,
        /// When it will be made anew.
        renew_at: Instant,
        /// When the server first sent something.
        heard: Option<Instant>,
    },
    /// Given up for good.
    Off,
}

/// An end, and the connections that follow it at once.
#[derive(Clone, Copy, Debug)]
struct Incident {
    began: Instant,
    /// Whether its beginning was a hint.
    is_hinted: bool,
    /// How many connections have followed it.
    followed: usize,
    /// Whether its end is known now as one that the server has outlived.
    is_learned: bool,
    /// The failures in a row before it: if the server has died, those since then are no fault of idle connections.
    failures_before: u32,
}

/// The idle connection to one server.
#[derive(Debug)]
pub(super) struct Policy {
    unasked: Unasked,
    condition: Condition,
    phase: Phase,
    /// The ages at which this server has ended silent connections and lived on.
    known: VecDeque<Duration>,
    /// The age of the last end, if it isn't known yet whether the server has lived on.
    unproven: Option<Duration>,
    /// Failures in a row.
    failures: u32,
    incident: Option<Incident>,
    quiet_until: Option<Instant>,
    /// When a connection was closed because it may have been in the server's way.
    freed: Option<Instant>,
    /// Whether a connection has lived through its trial.
    is_proven: bool,
    /// It is given up, and that was told; it is only tried from time to time.
    off: Option<IdleOff>,
    seed: u64,
}

impl Policy {
    /// For a server of which nothing is known. `seed` makes the times of this server different from those of others.
    pub(super) fn new(unasked: Unasked, seed: u64) -> Self {
        Self {
            unasked,
            condition: Condition::Down,
            phase: Phase::Paused,
            known: VecDeque::new(),
            unproven: None,
            failures: 0,
            incident: None,
            quiet_until: None,
            freed: None,
            is_proven: false,
            off: None,
            seed,
        }
    }

    /// Why it is given up, if it is.
    pub(super) fn off(&self) -> Option<IdleOff> {
        self.off
    }

    /// Whether a connection is established.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// What becomes of data that the server sends, from now on.
    pub(super) fn set_unasked(&mut self, unasked: Unasked, now: Instant) {
        if self.unasked != unasked {
            self.unasked = unasked;
            // The operator has said something else: that is a new beginning.
            if self.phase == Phase::Off {
                (self.off, self.failures) = (None, 0);
                self.phase =
                    if self.condition == Condition::Down { Phase::Paused } else { self.resting(now) };
            }
        }
    }

    /// When [`Policy::due`] wants to be called.
    pub(super) fn next(&self) -> Option<Instant> {
        match self.phase {
            Phase::Paused | Phase::Connecting | Phase::Off => None,
            Phase::Waiting { until } => Some(until),
            Phase::Open { since, renew_at, heard } => {
                let greeting = heard.filter(|_| self.unasked == Unasked::GiveUp).map(|at| at + PARTING);
                let worthwhile = self.off.map(|_| since + WORTHWHILE);
                [Some(renew_at), greeting, worthwhile].into_iter().flatten().min()
            }
        }
    }

    /// The server's checks say something else about it.
    pub(super) fn is_now(&mut self, condition: Condition, now: Instant) -> Vec<Action> {
        self.condition = condition;
        match (condition, self.phase) {
            (Condition::Up, _) => self.recovered(now),
            (
                Condition::Down | Condition::Silent,
                Phase::Waiting { .. } | Phase::Connecting | Phase::Open { .. },
            ) => self.died(now),
            (Condition::Suspect, Phase::Open { since, .. })
                if self.is_in_trial(since, now) && !self.has_incident(now) =>
            {
                self.freed = Some(now);
                self.phase = self.resting(now);
                vec![Action::Close, closed(now - since)]
            }
            _ => Vec::new(),
        }
    }

    /// The server is up: if the connection was in its way, it is so soon after that was closed.
    fn recovered(&mut self, now: Instant) -> Vec<Action> {
        let was_in_the_way = self.freed.take().is_some_and(|at| now <= at + FREED);
        match self.phase {
            Phase::Paused | Phase::Waiting { .. } if was_in_the_way => {
                self.failures += HARM;
                self.go_on(IdleOff::Harmed, now)
            }
            Phase::Paused => {
                self.phase = self.resting(now);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The server is down: no connection until it is up again.
    fn died(&mut self, now: Instant) -> Vec<Action> {
        let (phase, incident) = (std::mem::replace(&mut self.phase, Phase::Paused), self.incident.take());
        // What it ended before its death was no idle timeout, and a connection that was closed before was no harm.
        (self.unproven, self.freed) = (None, None);
        match (incident.filter(|incident| now <= incident.began + DEATH), phase) {
            (Some(incident), _) => {
                self.failures = incident.failures_before;
                // A hint that was right keeps no other one back.
                self.quiet_until = None;
                if incident.is_learned {
                    self.known.pop_front();
                }
            }
            (None, Phase::Open { since, .. })
                if self.condition == Condition::Silent && self.is_in_trial(since, now) =>
            {
                self.freed = Some(now);
            }
            _ => {}
        }
        match phase {
            Phase::Open { since, .. } => vec![Action::Abort, closed(now - since)],
            Phase::Connecting => vec![Action::Abort],
            Phase::Paused | Phase::Waiting { .. } | Phase::Off => Vec::new(),
        }
    }

    /// The time that [`Policy::next`] named has come.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Action> {
        match self.phase {
            Phase::Waiting { until } if until <= now => {
                if self.condition == Condition::Suspect {
                    // Its checks have something to settle first.
                    self.phase = Phase::Waiting { until: now + FIRST_BACKOFF };
                    return Vec::new();
                }
                self.phase = Phase::Connecting;
                vec![Action::Connect]
            }
            Phase::Open { heard: Some(heard), since, .. }
                if self.unasked == Unasked::GiveUp && heard + PARTING <= now =>
            {
                self.phase = Phase::Off;
                let mut actions = vec![Action::Close, closed(now - since)];
                actions.extend(self.tell(IdleOff::Greets));
                actions
            }
            Phase::Open { since, renew_at, heard } if renew_at <= now => {
                if self.condition != Condition::Up {
                    self.phase = Phase::Open { since, renew_at: now + FIRST_BACKOFF, heard };
                    return Vec::new();
                }
                self.outlived(now - since);
                self.phase = Phase::Connecting;
                vec![Action::Close, closed(now - since), Action::Connect]
            }
            Phase::Open { since, .. } if self.off.is_some() && since + WORTHWHILE <= now => {
                (self.off, self.failures) = (None, 0);
                vec![Action::Report(IdleChange::On)]
            }
            _ => Vec::new(),
        }
    }

    /// The connection could not be tried: no descriptors are left for it, or the director is at fault.
    pub(super) fn postponed(&mut self, until: Instant) {
        if self.phase == Phase::Connecting {
            self.phase = Phase::Waiting { until };
        }
    }

    /// The server is no longer configured.
    pub(super) fn retire(&mut self, now: Instant) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Off) {
            Phase::Open { since, .. } => vec![Action::Close, closed(now - since)],
            Phase::Connecting => vec![Action::Close],
            Phase::Paused | Phase::Waiting { .. } | Phase::Off => Vec::new(),
        }
    }

    /// The connection is given up until then: its descriptor is needed.
    pub(super) fn shed(&mut self, now: Instant, until: Instant) -> Vec<Action> {
        let Phase::Open { since, .. } = self.phase else { return Vec::new() };
        self.phase = Phase::Waiting { until };
        vec![Action::Close, closed(now - since)]
    }

    /// The connection is established.
    pub(super) fn connected(&mut self, now: Instant) -> Vec<Action> {
        if self.phase != Phase::Connecting {
            return Vec::new();
        }
        let lived_on = self.unproven.take().filter(|age| *age >= LEAST_TIMEOUT);
        if let Some(age) = lived_on.filter(|age| self.usual_near(*age).is_none()) {
            self.known.truncate(REMEMBERED - 1);
            self.known.push_front(age);
            if let Some(incident) = &mut self.incident {
                incident.is_learned = true;
            }
        }
        let renew_at = now + RENEW + self.jitter(RENEW / 4);
        self.phase = Phase::Open { since: now, renew_at, heard: None };
        vec![Action::Report(IdleChange::Opened)]
    }

    /// The server has sent something.
    pub(super) fn heard(&mut self, now: Instant) {
        if let Phase::Open { heard, .. } = &mut self.phase {
            heard.get_or_insert(now);
        }
    }

    /// The server never stops sending.
    pub(super) fn flooded(&mut self, now: Instant) -> Vec<Action> {
        let Phase::Open { since, .. } = self.phase else { return Vec::new() };
        self.phase = Phase::Off;
        let mut actions = vec![Action::Close, closed(now - since)];
        actions.extend(self.tell(IdleOff::Talks));
        actions
    }

    /// The server has ended the connection.
    pub(super) fn ended(&mut self, end: IdleEnd, now: Instant) -> Vec<Action> {
        let Phase::Open { since, .. } = self.phase else { return Vec::new() };
        let age = now - since;
        let usual = self.usual_near(age);
        let sign = if usual.is_some() { IdleSign::Nothing } else { self.hint(now) };
        self.outlived(age);
        if !self.has_incident(now) && (age >= WORTHWHILE || sign == IdleSign::Hint) {
            self.begin(sign, now);
        }
        if age < WORTHWHILE {
            self.failures += 1;
        }
        self.unproven = Some(age);
        let change = IdleChange::Ended { end, after: age, usual: self.known.front().copied(), sign };
        let mut actions = vec![Action::Report(change)];
        actions.extend(self.go_on(IdleOff::Cut { after: age }, now));
        actions
    }

    /// The connection could not be established.
    pub(super) fn failed(&mut self, end: IdleEnd, now: Instant) -> Vec<Action> {
        if self.phase != Phase::Connecting {
            return Vec::new();
        }
        let sign = match end {
            IdleEnd::Refused if self.off.is_none() && self.has_incident(now) => IdleSign::Suspicion,
            IdleEnd::Refused => self.hint(now),
            _ => IdleSign::Nothing,
        };
        if sign == IdleSign::Hint || (end == IdleEnd::Refused && self.failures == 0) {
            self.begin(sign, now);
        }
        self.failures += 1;
        let change = IdleChange::Ended { end, after: Duration::ZERO, usual: None, sign };
        let mut actions = vec![Action::Report(change)];
        let off = if end == IdleEnd::Refused { IdleOff::Refused } else { IdleOff::Unanswered };
        actions.extend(self.go_on(off, now));
        actions
    }

    /// After an end: what comes next.
    fn go_on(&mut self, why: IdleOff, now: Instant) -> Vec<Action> {
        if self.failures >= MAX_FAILURES {
            let wait = RETRY + self.jitter(RETRY / 4);
            self.phase = Phase::Waiting { until: now + wait };
            return self.tell(why);
        }
        self.phase = match self.follow_up(now) {
            Some(wait) => Phase::Waiting { until: now + wait + self.jitter(wait / 2) },
            None => self.resting(now),
        };
        Vec::new()
    }

    /// The wait for the next connection that belongs to the incident, if there is one.
    fn follow_up(&mut self, now: Instant) -> Option<Duration> {
        let incident = self.incident.as_mut().filter(|incident| now <= incident.began + INCIDENT)?;
        let wait = *FOLLOW_UPS.get(incident.followed)?;
        let is_alone = incident.followed == 0 && !incident.is_hinted;
        incident.followed += 1;
        Some(if is_alone { FOLLOW_UP_ALONE } else { wait })
    }

    /// Whether what happens now belongs to an end just before.
    fn has_incident(&self, now: Instant) -> bool {
        self.incident.is_some_and(|incident| now <= incident.began + INCIDENT)
    }

    /// A connection has reached this age.
    fn outlived(&mut self, age: Duration) {
        self.is_proven |= age > TRIAL;
        if age >= WORTHWHILE {
            self.failures = 0;
        }
    }

    /// Waits as long as the failures so far want it.
    fn resting(&mut self, now: Instant) -> Phase {
        let wait = match self.failures {
            0 => self.jitter(START_JITTER),
            failures if failures >= MAX_FAILURES => RETRY + self.jitter(RETRY / 4),
            failures => {
                let wait = FIRST_BACKOFF * 2_u32.pow(failures - 1);
                wait + self.jitter(wait / 2)
            }
        };
        Phase::Waiting { until: now + wait }
    }

    /// Whether an end or a refusal now is a hint.
    fn hint(&mut self, now: Instant) -> IdleSign {
        let in_incident = self.incident.is_some_and(|incident| {
            incident.is_hinted && incident.followed <= FOLLOW_UPS.len() && now <= incident.began + INCIDENT
        });
        let is_quiet = self.quiet_until.is_some_and(|until| now < until);
        if self.off.is_some() || (is_quiet && !in_incident) {
            return IdleSign::Nothing;
        }
        IdleSign::Hint
    }

    fn begin(&mut self, sign: IdleSign, now: Instant) {
        let is_hinted = sign == IdleSign::Hint;
        if is_hinted {
            self.quiet_until = Some(now + QUIET);
        }
        let failures_before = self.failures;
        self.incident =
            Some(Incident { began: now, is_hinted, followed: 0, is_learned: false, failures_before });
    }

    /// The age at which this server usually ends silent connections, if that is about `age`.
    fn usual_near(&self, age: Duration) -> Option<Duration> {
        let near = |known: &&Duration| age.abs_diff(**known) <= **known / TOLERANCE_PART + TOLERANCE;
        self.known.iter().find(near).copied()
    }

    fn is_in_trial(&self, since: Instant, now: Instant) -> bool {
        !self.is_proven && now <= since + TRIAL
    }

    /// Gives up; it is told once.
    fn tell(&mut self, why: IdleOff) -> Vec<Action> {
        let is_new = self.off.is_none();
        self.off = Some(why);
        is_new.then_some(Action::Report(IdleChange::Off(why))).into_iter().collect()
    }

    /// A time below `most`, another one each time.
    fn jitter(&mut self, most: Duration) -> Duration {
        // SplitMix64: a step of the golden ratio, and a scramble.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut hash = self.seed;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let part = u32::try_from((hash ^ (hash >> 31)) >> 40).unwrap_or(0);
        // 24 bits.
        most.mul_f64(f64::from(part) / f64::from(1 << 24))
    }
}

/// The agent itself has ended the connection.
fn closed(after: Duration) -> Action {
    let end = IdleEnd::Closed;
    Action::Report(IdleChange::Ended { end, after, usual: None, sign: IdleSign::Nothing })
}

#[cfg(test)]
mod tests;
