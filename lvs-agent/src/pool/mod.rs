//! The servers of one service: which of them are in the kernel's table, and with which weight, given their health.
//! Pure: states and the time go in, weights come out.
//!
//! Hard states decide, soft ones change nothing. The fast path may only take out so much: never the last server that
//! takes connections, and never more than a share of them. If all servers look dead at once, the director's own network
//! is the first suspect; such servers are retained until the baseline checks agree that they are down.
//!
//! Backups are in the table while the quorum is lost. What serves in the kernel's table when a pool begins goes on
//! serving, servers and backups alike, until checks say who should. A server's administrative state overrides all of
//! that.

mod admin;
mod backup;
mod clients;
mod first_check;
mod presence;
mod quorum;
mod ramp;
#[cfg(test)]
mod tests;
mod unasked;
mod weight_sums;

use std::time::{Duration, Instant};

pub use self::{
    admin::{AdminAction, AdminCommands, AdminState, Drain},
    clients::ClientState,
    first_check::FirstCheck,
    presence::Presence,
    quorum::QuorumState,
};
use self::{
    backup::Backup,
    presence::weight_in,
    quorum::{Marks, Presumed, Sums},
    ramp::Ramp,
};
use crate::{
    health::{Cause, State},
    model::{AgentOrder, OnFailure, PoolPolicy, Role, StartPolicy, Weight},
};

/// A service's policy, as the pool needs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PoolRules {
    on_failure: OnFailure,
    start: StartPolicy,
    fast_share: f64,
    slow_start: Option<Duration>,
    quorum: Marks,
}

impl PoolRules {
    /// The rules of a service with this policy.
    #[must_use]
    pub fn new(on_failure: OnFailure, policy: &PoolPolicy) -> Self {
        Self {
            on_failure,
            start: policy.start,
            fast_share: policy.fast_share,
            slow_start: policy.slow_start,
            quorum: Marks { weight: policy.quorum.weight.get(), hysteresis: policy.quorum.hysteresis },
        }
    }
}

/// Where a member or a backup of a new pool comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is new to the pool, and has this presence in the kernel's table.
    New(Presence),
    /// It was in the pool before, at this index.
    Kept(usize),
}

/// How a server that is out starts once it comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextStart {
    /// With its whole weight.
    Whole,
    /// Slowly: it was down. With its whole weight if it comes back warm: after failures that say nothing of it.
    SlowUnlessWarm,
    /// Slowly: it is new, or was ordered out.
    Slow,
}

impl NextStart {
    fn is_slow(self, warm: bool) -> bool {
        self == Self::Slow || self == Self::SlowUnlessWarm && !warm
    }
}

/// One server of the service.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// The weight by the configuration, or by the kernel's table where services are adopted.
    base: Weight,
    /// The weight that its check reports, in place of `base`.
    reported: Option<Weight>,
    /// Its presence by its health alone.
    presence: Presence,
    admin_state: AdminState,
    client_state: ClientState,
    /// Down by the fast path, but kept in the table.
    retained: bool,
    /// Whether it is in the table by its health and enabled by its administrative state.
    serves: bool,
    /// Whether it gets a slow start the next time that it comes in.
    slow_start: NextStart,
    /// Whether its last failures say nothing of it.
    warm: bool,
    first_check: FirstCheck,
    ramp: Option<Ramp>,
    /// Its weight in the table; `None`: it isn't there.
    weight: Option<Weight>,
}

impl Member {
    /// A server without results that has the presence `current` in the kernel's table.
    fn new(base: Weight, current: Presence, rules: &PoolRules) -> Self {
        let presence = before_first_result(rules, current);
        Self {
            base,
            reported: None,
            presence,
            admin_state: AdminState::default(),
            client_state: ClientState::Served,
            retained: false,
            serves: current == Presence::In,
            slow_start: NextStart::Whole,
            warm: false,
            first_check: FirstCheck::default(),
            ramp: None,
            weight: weight_in(presence, base),
        }
    }

    /// The weight that it has when it is healthy and its slow start is over.
    fn full_weight(&self) -> Weight {
        self.reported.unwrap_or(self.base)
    }

    /// The slow start that it is in.
    fn current_ramp(&self) -> Option<Ramp> {
        self.ramp.filter(|_| self.serves)
    }

    /// Whether it gets new connections.
    fn takes_connections(&self) -> bool {
        self.is_in() && self.admin_state.is_enabled() && !self.full_weight().is_quiescent()
    }

    /// Whether it is in by its health and by what clients say.
    fn is_in(&self) -> bool {
        self.presence == Presence::In && self.client_state != ClientState::Excluded
    }

    /// Its presence by its administrative state; `None`: it is enabled.
    fn ordered_presence(&self, on_failure: OnFailure) -> Option<Presence> {
        let AdminState {
            commands: AdminCommands { drain, maintenance },
            maintenance_file,
            administrator,
            agent,
        } = self.admin_state;
        match drain {
            Some(Drain::Remove) => Some(Presence::Absent),
            Some(Drain::Quiesce) => Some(Presence::Quiesced),
            None if administrator => Some(Presence::Quiesced),
            None if maintenance || maintenance_file || agent == Some(AgentOrder::Maintenance) => {
                Some(Presence::out(on_failure))
            }
            None => agent.is_some_and(|order| order == AgentOrder::Drain).then_some(Presence::Quiesced),
        }
    }
}

/// The servers of one service, with their weights.
#[derive(Clone, Debug)]
pub struct Pool {
    rules: PoolRules,
    members: Vec<Member>,
    backups: Vec<Backup>,
    quorum: QuorumState,
    /// Whether the kernel's table looked as with the quorum or without it, until that is known.
    presumed: Presumed,
    /// Whether any server is retained.
    alarm: bool,
}

/// A change of the whole service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolEvent {
    /// The quorum is reached: for the first time, or again.
    QuorumBack,
    /// The quorum is lost: too few servers are healthy.
    QuorumLost,
    /// The first backup is in the table.
    BackupsIn,
    /// The last backup has left the table.
    BackupsOut,
    /// The fast path would take out too much: at least one server is retained.
    AlarmRaised,
    /// No server is retained any more.
    AlarmOver,
}

/// What a call of [`Pool::decide`] has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The servers whose weight in the table changes, or that enter or leave it: members first, each in their order.
    pub moved: Vec<Role>,
    /// The members newly retained: down by the fast path, but kept in the table.
    pub retained: Vec<usize>,
    /// Changes of the whole service.
    pub events: Vec<PoolEvent>,
}

impl Pool {
    /// A pool of members and of backups, each with its weight and its presence in the kernel's table.
    ///
    /// A member that is not in the table stays out, or at weight 0, until its first success, unless [`StartPolicy::In`]
    /// lets it in and no earlier agent has taken it out; one that takes connections goes on doing so until it has been
    /// checked. A backup that takes connections goes on doing so until the quorum is known, or its own health.
    #[must_use]
    pub fn new(
        rules: PoolRules,
        members: impl IntoIterator<Item = (Weight, Presence)>,
        backups: impl IntoIterator<Item = (Weight, Presence)>,
    ) -> Self {
        let members = members.into_iter().map(|(weight, current)| Member::new(weight, current, &rules));
        let members: Vec<Member> = members.collect();
        let backups = backups.into_iter().map(|(weight, current)| Backup::new(weight, current));
        let backups: Vec<Backup> = backups.collect();
        Self {
            rules,
            presumed: Presumed::of(
                members.iter().any(|member| member.serves),
                backups.iter().map(Backup::serves),
            ),
            members,
            backups,
            quorum: QuorumState::default(),
            alarm: false,
        }
    }

    /// Replaces the rules and the servers. Servers that are kept keep their presence and administrative state. Weights
    /// change at the next [`Pool::decide`].
    pub fn replace(
        &mut self,
        rules: PoolRules,
        members: impl IntoIterator<Item = (Weight, Origin)>,
        backups: impl IntoIterator<Item = (Weight, Origin)>,
    ) {
        let (old_members, old_backups) =
            (std::mem::take(&mut self.members), std::mem::take(&mut self.backups));
        let new =
            |weight, current| Member { slow_start: NextStart::Slow, ..Member::new(weight, current, &rules) };
        let other_way_out = rules.on_failure != self.rules.on_failure;
        let members = members.into_iter().map(|(base, origin)| match origin {
            Origin::New(current) => new(base, current),
            Origin::Kept(index) => match old_members.get(index) {
                Some(member) if other_way_out && member.presence != Presence::In => {
                    Member { base, presence: Presence::out(rules.on_failure), ..*member }
                }
                Some(member) => Member { base, ..*member },
                None => new(base, Presence::Absent),
            },
        });
        let backups = backups.into_iter().map(|(base, origin)| match origin {
            Origin::New(current) => Backup::new(base, current),
            Origin::Kept(index) => old_backups
                .get(index)
                .map_or_else(|| Backup::new(base, Presence::Absent), |backup| Backup { base, ..*backup }),
        });
        (self.members, self.backups, self.rules) = (members.collect(), backups.collect(), rules);
    }

    /// A server's weight in the table; `None`: it is not there.
    #[must_use]
    pub fn weight(&self, role: Role) -> Option<Weight> {
        match role {
            Role::Server(index) => self.members.get(index)?.weight,
            Role::Backup(index) => self.backups.get(index)?.weight,
        }
    }

    /// A server's weight by the configuration, or by the kernel's table where services are adopted.
    #[must_use]
    pub fn base_weight(&self, role: Role) -> Option<Weight> {
        match role {
            Role::Server(index) => self.members.get(index).map(|member| member.base),
            Role::Backup(index) => self.backups.get(index).map(|backup| backup.base),
        }
    }

    /// The weight that a server has when it is healthy and its slow start is over.
    #[must_use]
    pub fn full_weight(&self, role: Role) -> Option<Weight> {
        match role {
            Role::Server(index) => self.members.get(index).map(Member::full_weight),
            Role::Backup(index) => self.backups.get(index).map(Backup::full_weight),
        }
    }

    /// Whether a server is in its slow start.
    #[must_use]
    pub fn is_ramping(&self, role: Role) -> bool {
        let Role::Server(index) = role else { return false };
        self.members.get(index).is_some_and(|member| member.current_ramp().is_some())
    }

    /// Whether the service has its quorum.
    #[must_use]
    pub fn quorum_state(&self) -> QuorumState {
        self.quorum
    }

    /// Whether the fast path would take out too much: whether any server is retained.
    #[must_use]
    pub fn alarm(&self) -> bool {
        self.alarm
    }

    /// How many backups serve.
    #[must_use]
    pub fn backups_in(&self) -> usize {
        self.backups.iter().filter(|backup| backup.serves()).count()
    }

    /// A server's administrative state.
    #[must_use]
    pub fn admin_state(&self, role: Role) -> AdminState {
        match role {
            Role::Server(index) => self.members.get(index).map(|member| member.admin_state),
            Role::Backup(index) => self.backups.get(index).map(|backup| backup.admin_state),
        }
        .unwrap_or_default()
    }

    /// Sets a server's administrative state. Weights change at the next [`Pool::decide`].
    pub fn set_admin_state(&mut self, role: Role, admin_state: AdminState) {
        match role {
            Role::Server(index) => self.members.get_mut(index).map(|member| &mut member.admin_state),
            Role::Backup(index) => self.backups.get_mut(index).map(|backup| &mut backup.admin_state),
        }
        .into_iter()
        .for_each(|known| *known = admin_state);
    }

    /// Sets whether a member comes back from its last failures as if it had never been away: without a slow start.
    pub fn set_warm(&mut self, index: usize, warm: bool) {
        if let Some(member) = self.members.get_mut(index) {
            member.warm = warm;
        }
    }

    /// Gives a server another weight, as another configuration may.
    #[cfg(test)]
    fn set_weight(&mut self, role: Role, weight: Weight) {
        match role {
            Role::Server(index) => self.members.get_mut(index).map(|member| &mut member.base),
            Role::Backup(index) => self.backups.get_mut(index).map(|backup| &mut backup.base),
        }
        .into_iter()
        .for_each(|known| *known = weight);
    }

    /// Sets the weight that a server's check reports; it takes the place of the configured one. Returns whether it
    /// changed.
    pub fn set_reported_weight(&mut self, role: Role, weight: Weight) -> bool {
        let reported = match role {
            Role::Server(index) => self.members.get_mut(index).map(|member| &mut member.reported),
            Role::Backup(index) => self.backups.get_mut(index).map(|backup| &mut backup.reported),
        };
        reported.is_some_and(|reported| reported.replace(weight) != Some(weight))
    }

    /// Forgets the weight that a server's check has reported: its own counts again.
    pub fn forget_reported_weight(&mut self, role: Role) {
        match role {
            Role::Server(index) => self.members.get_mut(index).map(|member| &mut member.reported),
            Role::Backup(index) => self.backups.get_mut(index).map(|backup| &mut backup.reported),
        }
        .into_iter()
        .for_each(|reported| *reported = None);
    }

    /// Sets the weights of all servers by the states of the members and the backups, in their order (`None`: not
    /// checked). A second call with the same states at the same time changes nothing.
    pub fn decide(&mut self, states: &[State], backups: &[Option<State>], now: Instant) -> Decision {
        let mut decision = Decision::default();
        self.move_members(states, &mut decision);
        self.update_quorum(states, &mut decision);
        let backups = self.move_backups(states, backups, &mut decision);
        self.set_weights(states, now, &mut decision);
        decision.moved.extend(backups);
        decision
    }

    /// When the next weight changes by a slow start; `None`: no server is in one.
    #[must_use]
    pub fn next_change(&self, now: Instant) -> Option<Instant> {
        self.members
            .iter()
            .filter_map(|member| member.current_ramp()?.next_change(member.full_weight(), now))
            .min()
    }

    fn move_members(&mut self, states: &[State], decision: &mut Decision) {
        let out = Presence::from(self.rules.on_failure);
        // First servers that come in or go without a limit: both decide how many the fast path may still take out.
        for (member, state) in self.members.iter_mut().zip(states) {
            match state {
                State::Up | State::Suspect { .. } => member.presence = Presence::In,
                State::Down { cause: Cause::Baseline, .. } => member.presence = out,
                // It takes no connections anyway.
                State::Down { cause: Cause::Fast, .. } if !member.admin_state.is_enabled() => {
                    member.presence = out;
                }
                State::Down { .. }
                | State::Recovering { .. }
                | State::Damped { .. }
                | State::Unknown { .. } => {}
            }
        }
        for (index, state) in states.iter().enumerate() {
            let by_fast_path = matches!(state, State::Down { cause: Cause::Fast, .. });
            let is_in = self.members.get(index).is_some_and(|member| member.presence == Presence::In);
            let goes = by_fast_path && is_in && self.may_take_out(index, states);
            let Some(member) = self.members.get_mut(index) else { continue };
            if goes {
                member.presence = out;
            }
            let retained = by_fast_path && is_in && !goes;
            if retained && !member.retained {
                decision.retained.push(index);
            }
            member.retained = retained;
        }
        let alarm = self.members.iter().any(|member| member.retained);
        if alarm != self.alarm {
            decision.events.push(if alarm { PoolEvent::AlarmRaised } else { PoolEvent::AlarmOver });
        }
        self.alarm = alarm;
    }

    /// Whether the fast path may take out this one.
    fn may_take_out(&self, index: usize, states: &[State]) -> bool {
        self.may_be_out(index, states, self.rules.fast_share)
    }

    /// Whether one more server may be out: a healthy server must remain, and no more than the share be out. Servers
    /// that are not enabled count neither way.
    fn may_be_out(&self, index: usize, states: &[State], share: f64) -> bool {
        let survivor =
            self.members.iter().zip(states).enumerate().any(|(other, (member, state))| {
                other != index && member.takes_connections() && state.is_up()
            });
        let enabled = self.members.iter().filter(|member| member.admin_state.is_enabled());
        let out = enabled.clone().filter(|member| !member.is_in()).count();
        survivor && out < most(enabled.count(), share)
    }

    fn update_quorum(&mut self, states: &[State], decision: &mut Decision) {
        let mut sums = Sums { healthy: 0, serving: 0, possible: 0 };
        for (member, state) in self.members.iter().zip(states) {
            let weight = u64::from(member.full_weight().0);
            let is_unknown = matches!(state, State::Unknown { .. })
                && member.first_check == FirstCheck::InTime
                && member.admin_state.is_enabled();
            if member.takes_connections() && state.is_up() {
                sums.healthy += weight;
            }
            if member.takes_connections() {
                sums.serving += weight;
            }
            if member.takes_connections() || is_unknown {
                sums.possible += weight;
            }
        }
        let quorum = self.quorum.next(sums, self.rules.quorum, self.presumed);
        if (self.quorum, quorum) == (QuorumState::Has, QuorumState::Unknown) {
            self.presumed = Presumed::Had;
        }
        if quorum != self.quorum {
            match quorum {
                QuorumState::Has => decision.events.push(PoolEvent::QuorumBack),
                QuorumState::Lost => decision.events.push(PoolEvent::QuorumLost),
                QuorumState::Unknown => {}
            }
        }
        self.quorum = quorum;
    }

    /// Puts the backups into the table or takes them out; returns those whose weight changes.
    fn move_backups(
        &mut self,
        members: &[State],
        states: &[Option<State>],
        decision: &mut Decision,
    ) -> Vec<Role> {
        let before = self.backups_in();
        let unchecked = std::iter::repeat(&None);
        let last_resort = self.quorum == QuorumState::Lost && self.needs_last_resort(members, states);
        let mut moved = Vec::new();
        for (index, (backup, state)) in
            self.backups.iter_mut().zip(states.iter().chain(unchecked)).enumerate()
        {
            if backup.decide(self.quorum, *state, last_resort) {
                moved.push(Role::Backup(index));
            }
        }
        match (before, self.backups_in()) {
            (0, 0) => {}
            (0, _) => decision.events.push(PoolEvent::BackupsIn),
            (_, 0) => decision.events.push(PoolEvent::BackupsOut),
            _ => {}
        }
        moved
    }

    /// Sets the weights of the members.
    fn set_weights(&mut self, states: &[State], now: Instant, decision: &mut Decision) {
        let PoolRules { on_failure, slow_start, .. } = self.rules;
        // Rather a server that flaps or can't be asked than none at all.
        let none_serves = !self.members.iter().any(Member::takes_connections) && self.backups_in() == 0;
        for (index, (member, state)) in self.members.iter_mut().zip(states).enumerate() {
            let serves = member.presence == Presence::In && member.admin_state.is_enabled();
            if serves && !member.serves && member.slow_start.is_slow(member.warm) {
                member.ramp = slow_start.map(|time| Ramp { since: now, time });
            }
            // One that comes back warm goes on with the slow start that it was in.
            member.ramp = member.ramp.filter(|ramp| slow_start.is_some() && !ramp.is_over(now));
            // A server that comes in for the first time after the agent's start is as warm as all the others, and so is
            // one whose removal the baseline check has not agreed to.
            member.slow_start = match member.slow_start {
                _ if serves => NextStart::Whole,
                _ if !member.admin_state.is_enabled() => NextStart::Slow,
                NextStart::Slow => NextStart::Slow,
                _ if state.is_down() && !state.is_provisional() => NextStart::SlowUnlessWarm,
                before if before.is_slow(member.warm) => before,
                _ => NextStart::Whole,
            };
            member.serves = serves;
            let is_excluded = member.client_state == ClientState::Excluded && member.presence == Presence::In;
            let used_anyway = none_serves && (is_excluded || member.is_used_anyway(*state));
            let presence = match member.ordered_presence(on_failure) {
                Some(ordered) => ordered,
                None if used_anyway => Presence::In,
                None if is_excluded => on_failure.into(),
                None => member.presence,
            };
            let full = match member.client_state {
                ClientState::OnTrial => member.full_weight().min(Weight(1)),
                ClientState::Served | ClientState::Excluded => member.full_weight(),
            };
            let ramp = member.current_ramp();
            let weight = weight_in(presence, ramp.map_or(full, |ramp| ramp.weight(full, now)));
            if weight != member.weight {
                decision.moved.push(Role::Server(index));
            }
            member.weight = weight;
        }
    }
}

/// The presence of a new server before its first result.
fn before_first_result(rules: &PoolRules, current: Presence) -> Presence {
    match (current, rules.start) {
        (Presence::Absent, StartPolicy::Out) | (Presence::Removed, _) => Presence::out(rules.on_failure),
        (Presence::Absent, StartPolicy::In) => Presence::In,
        (current, _) => current,
    }
}

/// How many of `servers` the fast path may take out: with a share above 0, at least one.
fn most(servers: usize, share: f64) -> usize {
    if share <= 0.0 {
        return 0;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a service has far fewer than 2^52 servers, and the share is from 0 to 1"
    )]
    let most = (servers as f64 * share) as usize;
    most.max(1)
}
