//! What a service's table should be, given the states of its servers. Pure: states and the time go in, weights come out.
//!
//! Hard states decide, soft ones change nothing. What the fast path has found may only take out so much: never the last
//! server that takes connections, and never more than a share of them. If everything looks dead at once it is the
//! director's own network that is to be suspected first; what is held in then goes when the baseline checks agree.
//!
//! Backups are in the table while the quorum is lost, and only then. What people have ordered about a server comes before
//! all of that.

mod admin;
mod quorum;
mod ramp;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub use self::{
    admin::{AdminAction, AdminCommands, AdminState, Drain},
    quorum::QuorumState,
};
use self::{
    quorum::{Marks, Sums},
    ramp::Ramp,
};
use crate::{
    health::{Cause, State},
    model::{OnFailure, PoolPolicy, Role, StartPolicy, Weight},
};

/// How a destination stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// With its own weight.
    In,
    /// With weight 0.
    Quiesced,
    /// Not at all.
    Absent,
}

impl Presence {
    /// How a destination stands that is found in the table with `weight`, or not found there.
    #[must_use]
    pub fn of_found(takes_connections: Option<bool>) -> Self {
        match takes_connections {
            Some(true) => Self::In,
            Some(false) => Self::Quiesced,
            None => Self::Absent,
        }
    }
}

impl From<OnFailure> for Presence {
    fn from(on_failure: OnFailure) -> Self {
        match on_failure {
            OnFailure::Quiesce => Self::Quiesced,
            OnFailure::Remove => Self::Absent,
        }
    }
}

/// How a pool is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    on_failure: OnFailure,
    start: StartPolicy,
    fast_share: f64,
    slow_start: Option<Duration>,
    quorum: Marks,
}

impl Rules {
    /// Those of a service.
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
    /// It is new, and stands so in the kernel's table.
    Found(Presence),
    /// It was in the pool, at this index.
    Stays(usize),
}

/// One server of the service.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// The weight that the configuration, or the kernel's table, gives it.
    base: Weight,
    /// The weight that its check asks for.
    asked: Option<Weight>,
    /// How it stands by its health alone.
    presence: Presence,
    admin_state: AdminState,
    /// Down by the fast path's finding, but retained.
    retained: bool,
    /// Whether it takes connections by its presence and its admin_state.
    serves: bool,
    /// Whether it comes in slowly the next time.
    eases: bool,
    ramp: Option<Ramp>,
    /// In the table.
    weight: Option<Weight>,
}

impl Member {
    /// A server that was found so in the kernel's table.
    fn new(base: Weight, found: Presence, start: &Rules) -> Self {
        let presence = unproven(start, found);
        Self {
            base,
            asked: None,
            presence,
            admin_state: AdminState::default(),
            retained: false,
            serves: found == Presence::In,
            eases: false,
            ramp: None,
            weight: weight_in(presence, base),
        }
    }

    /// Its own weight: what it has when it is healthy.
    fn own(&self) -> Weight {
        self.asked.unwrap_or(self.base)
    }

    /// Whether it gets new connections.
    fn takes_connections(&self) -> bool {
        self.presence == Presence::In && self.admin_state.is_enabled() && !self.own().is_quiescent()
    }

    /// How it stands by what was ordered, if anything was.
    fn ordered(&self, on_failure: OnFailure) -> Option<Presence> {
        let AdminState { commands: AdminCommands { drain, maintenance }, folder, administrator } =
            self.admin_state;
        match drain {
            Some(Drain::Remove) => Some(Presence::Absent),
            Some(Drain::Quiesce) => Some(Presence::Quiesced),
            None if administrator => Some(Presence::Quiesced),
            None => (maintenance || folder).then(|| on_failure.into()),
        }
    }
}

fn weight_in(presence: Presence, own: Weight) -> Option<Weight> {
    match presence {
        Presence::In => Some(own),
        Presence::Quiesced => Some(Weight::QUIESCENT),
        Presence::Absent => None,
    }
}

/// A server that helps out.
#[derive(Clone, Copy, Debug)]
struct Backup {
    base: Weight,
    asked: Option<Weight>,
    admin_state: AdminState,
    /// In the table.
    weight: Option<Weight>,
}

impl Backup {
    fn new(base: Weight) -> Self {
        Self { base, asked: None, admin_state: AdminState::default(), weight: None }
    }

    fn own(&self) -> Weight {
        self.asked.unwrap_or(self.base)
    }

    /// Whether it could help; `state` is `None` where it isn't checked.
    fn is_usable(&self, state: Option<State>) -> bool {
        self.admin_state.is_enabled() && !self.own().is_quiescent() && state.is_none_or(State::is_up)
    }
}

/// The servers of one service, and how they stand.
#[derive(Clone, Debug)]
pub struct Pool {
    rules: Rules,
    members: Vec<Member>,
    backups: Vec<Backup>,
    standing: QuorumState,
    alarm: bool,
}

/// Something about the whole service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolEvent {
    /// The quorum is there: for the first time, or again.
    QuorumBack,
    /// Too few servers are healthy.
    QuorumLost,
    /// The first backup has come in.
    BackupsIn,
    /// The last one has gone.
    BackupsOut,
    /// The fast path would take out too much: it is told of and holds still.
    AlarmRaised,
    /// It no longer would.
    AlarmOver,
}

/// What has come of a look at all states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Those whose weight in the table is to be another one, in order.
    pub moved: Vec<Role>,
    /// The members that are down by the fast path's finding but retained, as far as that is news.
    pub retained: Vec<usize>,
    /// What is new about the whole service.
    pub events: Vec<PoolEvent>,
}

impl Pool {
    /// A pool of servers with these weights, standing as they were found, and of backups with these weights.
    ///
    /// A server that is not in the table stays out, or at weight 0, until its first success, unless the rules let it in;
    /// one that carries traffic goes on doing so until it has been checked.
    #[must_use]
    pub fn new(
        rules: Rules,
        members: impl IntoIterator<Item = (Weight, Presence)>,
        backups: impl IntoIterator<Item = Weight>,
    ) -> Self {
        let members = members.into_iter().map(|(weight, found)| Member::new(weight, found, &rules));
        Self {
            rules,
            members: members.collect(),
            backups: backups.into_iter().map(Backup::new).collect(),
            standing: QuorumState::default(),
            alarm: false,
        }
    }

    /// From now on these are the rules and the servers. Those that stay keep how they stand and what was ordered. To be
    /// looked at with [`Pool::decide`].
    pub fn replace(
        &mut self,
        rules: Rules,
        members: impl IntoIterator<Item = (Weight, Origin)>,
        backups: impl IntoIterator<Item = (Weight, Option<usize>)>,
    ) {
        let (old_members, old_backups) =
            (std::mem::take(&mut self.members), std::mem::take(&mut self.backups));
        let new = |weight, found| Member { eases: true, ..Member::new(weight, found, &rules) };
        let other_way_out = rules.on_failure != self.rules.on_failure;
        let members = members.into_iter().map(|(base, origin)| match origin {
            Origin::Found(found) => new(base, found),
            Origin::Stays(index) => match old_members.get(index) {
                Some(member) if other_way_out && member.presence != Presence::In => {
                    Member { base, presence: rules.on_failure.into(), ..*member }
                }
                Some(member) => Member { base, ..*member },
                None => new(base, Presence::Absent),
            },
        });
        let backups = backups.into_iter().map(|(base, origin)| {
            let stays = origin.and_then(|index| old_backups.get(index));
            stays.map_or_else(|| Backup::new(base), |backup| Backup { base, ..*backup })
        });
        (self.members, self.backups, self.rules) = (members.collect(), backups.collect(), rules);
    }

    /// How a server stands: its weight in the table, or `None` if it is not there.
    #[must_use]
    pub fn weight(&self, role: Role) -> Option<Weight> {
        match role {
            Role::Server(index) => self.members.get(index)?.weight,
            Role::Backup(index) => self.backups.get(index)?.weight,
        }
    }

    /// The weight that the configuration, or the kernel's table, gives a server.
    #[must_use]
    pub fn base_weight(&self, role: Role) -> Option<Weight> {
        match role {
            Role::Server(index) => self.members.get(index).map(|member| member.base),
            Role::Backup(index) => self.backups.get(index).map(|backup| backup.base),
        }
    }

    /// The weight that a server has when it is healthy.
    #[must_use]
    pub fn own_weight(&self, role: Role) -> Option<Weight> {
        match role {
            Role::Server(index) => self.members.get(index).map(Member::own),
            Role::Backup(index) => self.backups.get(index).map(Backup::own),
        }
    }

    /// Whether a server is on its way up to its own weight.
    #[must_use]
    pub fn is_ramping(&self, role: Role) -> bool {
        matches!(role, Role::Server(index) if self.members.get(index).is_some_and(|member| member.ramp.is_some()))
    }

    /// Whether the quorum is there.
    #[must_use]
    pub fn quorum_state(&self) -> QuorumState {
        self.standing
    }

    /// Whether the fast path would take out too much.
    #[must_use]
    pub fn alarm(&self) -> bool {
        self.alarm
    }

    /// How many backups are in the table.
    #[must_use]
    pub fn backups_in(&self) -> usize {
        self.backups.iter().filter(|backup| backup.weight.is_some()).count()
    }

    /// What was ordered about a server.
    #[must_use]
    pub fn admin_state(&self, role: Role) -> AdminState {
        match role {
            Role::Server(index) => self.members.get(index).map(|member| member.admin_state),
            Role::Backup(index) => self.backups.get(index).map(|backup| backup.admin_state),
        }
        .unwrap_or_default()
    }

    /// Orders something about a server, or takes it back.
    pub fn set_admin_state(&mut self, role: Role, admin_state: AdminState) {
        match role {
            Role::Server(index) => self.members.get_mut(index).map(|member| &mut member.admin_state),
            Role::Backup(index) => self.backups.get_mut(index).map(|backup| &mut backup.admin_state),
        }
        .into_iter()
        .for_each(|known| *known = admin_state);
    }

    /// Gives a server another weight than it had from the configuration or the kernel's table.
    pub fn set_weight(&mut self, role: Role, weight: Weight) {
        match role {
            Role::Server(index) => self.members.get_mut(index).map(|member| &mut member.base),
            Role::Backup(index) => self.backups.get_mut(index).map(|backup| &mut backup.base),
        }
        .into_iter()
        .for_each(|known| *known = weight);
    }

    /// Takes note of the weight that a server's check asks for: it holds in place of the configured one. Whether that is
    /// news.
    pub fn set_asked(&mut self, role: Role, weight: Weight) -> bool {
        let asked = match role {
            Role::Server(index) => self.members.get_mut(index).map(|member| &mut member.asked),
            Role::Backup(index) => self.backups.get_mut(index).map(|backup| &mut backup.asked),
        };
        asked.is_some_and(|asked| asked.replace(weight) != Some(weight))
    }

    /// Looks at the states of the members and the backups, in their order (`None`: not checked), and moves those that must
    /// move. Looking again at the same states at the same time changes nothing.
    pub fn decide(&mut self, states: &[State], backups: &[Option<State>], now: Instant) -> Decision {
        let mut decision = Decision::default();
        self.move_members(states, &mut decision);
        self.update_standing(states, &mut decision);
        let backups = self.move_backups(backups, &mut decision);
        self.weigh(states, now, &mut decision);
        decision.moved.extend(backups);
        decision
    }

    /// When some weight changes by itself, if nothing else happens.
    #[must_use]
    pub fn next_change(&self, now: Instant) -> Option<Instant> {
        self.members.iter().filter_map(|member| member.ramp?.next_change(member.own(), now)).min()
    }

    fn move_members(&mut self, states: &[State], decision: &mut Decision) {
        let out = Presence::from(self.rules.on_failure);
        // First what comes in, and what goes without a limit: both decide how much the fast path may still take.
        for (member, state) in self.members.iter_mut().zip(states) {
            match state {
                State::Up | State::Suspect { .. } => member.presence = Presence::In,
                State::Down { cause: Cause::Baseline, .. } => member.presence = out,
                // Nobody is taken from by this.
                State::Down { cause: Cause::Fast, .. } if !member.admin_state.is_enabled() => {
                    member.presence = out
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
            let goes = by_fast_path && is_in && self.may_lose(index, states);
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

    /// Whether the fast path may take out one more: a healthy one must remain, and no more than the share be out. Servers
    /// that people hold out are not counted, neither way.
    fn may_lose(&self, index: usize, states: &[State]) -> bool {
        let survivor =
            self.members.iter().zip(states).enumerate().any(|(other, (member, state))| {
                other != index && member.takes_connections() && state.is_up()
            });
        let free = self.members.iter().filter(|member| member.admin_state.is_enabled());
        let out = free.clone().filter(|member| member.presence != Presence::In).count();
        survivor && out < most(free.count(), self.rules.fast_share)
    }

    fn update_standing(&mut self, states: &[State], decision: &mut Decision) {
        let mut sums = Sums { sure: 0, hoped: 0 };
        for (member, state) in self.members.iter().zip(states) {
            let weight = u64::from(member.own().0);
            let is_unknown = matches!(state, State::Unknown { .. }) && member.admin_state.is_enabled();
            if member.takes_connections() && state.is_up() {
                sums.sure += weight;
            }
            if member.takes_connections() || is_unknown {
                sums.hoped += weight;
            }
        }
        let standing = self.standing.next(sums, self.rules.quorum);
        if standing != self.standing {
            match standing {
                QuorumState::Has => decision.events.push(PoolEvent::QuorumBack),
                QuorumState::Lost => decision.events.push(PoolEvent::QuorumLost),
                QuorumState::Unknown => {}
            }
        }
        self.standing = standing;
    }

    /// Lets the backups in or out; those whose weight is to be another one.
    fn move_backups(&mut self, states: &[Option<State>], decision: &mut Decision) -> Vec<Role> {
        let before = self.backups_in();
        let lost = self.standing == QuorumState::Lost;
        let unchecked = std::iter::repeat(&None);
        let mut moved = Vec::new();
        for (index, (backup, state)) in
            self.backups.iter_mut().zip(states.iter().chain(unchecked)).enumerate()
        {
            let weight = (lost && backup.is_usable(*state)).then(|| backup.own());
            if weight != backup.weight {
                moved.push(Role::Backup(index));
            }
            backup.weight = weight;
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
    fn weigh(&mut self, states: &[State], now: Instant, decision: &mut Decision) {
        let Rules { on_failure, slow_start, .. } = self.rules;
        // Rather a server that comes and goes than none at all.
        let nobody = !self.members.iter().any(Member::takes_connections) && self.backups_in() == 0;
        for (index, (member, state)) in self.members.iter_mut().zip(states).enumerate() {
            let serves = member.presence == Presence::In && member.admin_state.is_enabled();
            if serves && !member.serves && member.eases {
                member.ramp = slow_start.map(|time| Ramp { since: now, time });
            }
            member.ramp = member.ramp.filter(|ramp| serves && slow_start.is_some() && !ramp.is_over(now));
            // A server that comes in for the first time at a start is as warm as all the others.
            member.eases = !serves && (member.eases || state.is_down() || !member.admin_state.is_enabled());
            member.serves = serves;
            let helps = nobody && matches!(state, State::Damped { .. });
            let presence = match member.ordered(on_failure) {
                Some(ordered) => ordered,
                None if helps => Presence::In,
                None => member.presence,
            };
            let own = member.own();
            let own = member.ramp.map_or(own, |ramp| ramp.weight(own, now));
            let weight = weight_in(presence, own);
            if weight != member.weight {
                decision.moved.push(Role::Server(index));
            }
            member.weight = weight;
        }
    }
}

/// How a new server stands before anything is known of it.
fn unproven(rules: &Rules, found: Presence) -> Presence {
    match (found, rules.start) {
        (Presence::Absent, StartPolicy::Out) => rules.on_failure.into(),
        (Presence::Absent, StartPolicy::In) => Presence::In,
        (found, _) => found,
    }
}

/// How many of `servers` may be out by the fast path: of a share above 0 at least one.
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
