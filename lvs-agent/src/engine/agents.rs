//! What the agents on servers have said (`agent-check` of `HAProxy`). Pure.
//!
//! What a line doesn't say stays as an earlier one has said it, and only the agent takes its own words back. So silence
//! changes nothing: whether the server can be reached is for its other checks to find out. Only where it has no other
//! check, an agent that doesn't answer is a failure.

use super::{Engine, Place};
use crate::{
    health::Sample,
    keyed::KeyMap,
    model::{AgentOrder, AgentReport, CheckKind, DestinationKey, Reported, Weight},
    pool::AdminState,
};

/// What each agent has said so far.
#[derive(Debug, Default)]
pub(super) struct Agents(KeyMap<DestinationKey, AgentReport>);

impl Agents {
    /// All that an agent has said so far, together with what it says now, if it says anything.
    pub(super) fn heed(&mut self, server: DestinationKey, now: Option<AgentReport>) -> AgentReport {
        let said = now.unwrap_or_default().after(self.0.get(&server).copied().unwrap_or_default());
        if now.is_some() {
            self.0.insert(server, said);
        }
        said
    }

    /// Forgets those that are asked no more, and returns whose they were.
    pub(super) fn retain(&mut self, is_asked: impl Fn(&DestinationKey) -> bool) -> Vec<DestinationKey> {
        let gone: Vec<_> = self.0.keys().filter(|server| !is_asked(server)).copied().collect();
        self.0.retain(|server, _| is_asked(server));
        gone
    }
}

impl Engine {
    /// What a result means, the weight that it asks for, and whether it changes the administrative state: an agent is
    /// heeded, together with what it has said before.
    pub(super) fn heed(
        &mut self,
        destination: &DestinationKey,
        sample: Sample,
        reported: Option<Reported>,
    ) -> (Sample, Option<Weight>, bool) {
        let report = match reported {
            Some(Reported::Weight(weight)) => return (sample, Some(weight), false),
            Some(Reported::Agent(report)) => Some(report),
            None => None,
        };
        let Some(Place { service, role }) = self.places.get(destination).copied() else {
            return (sample, None, false);
        };
        let Some(service) = self.services.get_mut(service) else { return (sample, None, false) };
        let check = sample.check.and_then(|check| service.checks(role).nth(check));
        if !check.is_some_and(|check| matches!(check.kind, CheckKind::Agent(_))) {
            return (sample, None, false);
        }
        let said = self.agents.heed(*destination, report);
        let is_alone = service.checks(role).count() == 1;
        let success = if report.is_none() && is_alone { sample.success } else { said.is_up != Some(false) };
        let asked = said.percent.zip(service.pool.base_weight(role));
        let asked = asked.map(|(percent, own)| weight(own, percent));
        let before = service.pool.admin_state(role);
        let admin_state = AdminState { agent: order(said), ..before };
        service.pool.set_admin_state(role, admin_state);
        (Sample { success, ..sample }, asked, admin_state != before)
    }

    /// Forgets what agents have said that are asked no more.
    pub(super) fn forget_agents(&mut self) {
        let (services, places) = (&self.services, &self.places);
        let is_asked = |server: &DestinationKey| {
            let place = places.get(server).and_then(|place| Some((services.get(place.service)?, place.role)));
            place.is_some_and(|(service, role)| {
                service.checks(role).any(|check| matches!(check.kind, CheckKind::Agent(_)))
            })
        };
        for gone in self.agents.retain(is_asked) {
            let Some(Place { service, role }) = self.places.get(&gone).copied() else { continue };
            let Some(service) = self.services.get_mut(service) else { continue };
            let admin_state = AdminState { agent: None, ..service.pool.admin_state(role) };
            service.pool.set_admin_state(role, admin_state);
            service.pool.forget_reported_weight(role);
        }
    }
}

/// What an agent orders about new connections.
fn order(said: AgentReport) -> Option<AgentOrder> {
    said.order.filter(|order| *order != AgentOrder::Ready)
}

/// The weight of a server whose agent asks for so many percent of its own, rounded down, but not to 0: a weight of 1
/// has no half, and only 0 % is meant to stop new connections.
fn weight(own: Weight, percent: u16) -> Weight {
    let share = u32::from(own.0) * u32::from(percent) / 100;
    let least = u16::from(percent > 0 && !own.is_quiescent());
    Weight(u16::try_from(share).unwrap_or(u16::MAX).max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_gives_a_weight() {
        for (own, percent, expected) in [
            (100, 75, 75),
            (100, 0, 0),
            (100, 150, 150),
            (3, 50, 1),
            (1, 1, 1),
            (1, 99, 1),
            (0, 100, 0),
            (1, 0, 0),
            (65535, 200, 65535),
            (65535, 65535, 65535),
        ] {
            assert_eq!(weight(Weight(own), percent), Weight(expected), "{percent} % of {own}");
        }
    }
}
