//! The baseline checks that a configuration asks for: the same server asked the same question is asked once. Pure.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::decisions;
use crate::{
    config::{Check, VirtualService},
    probe::{BaselineCheck, CheckId, ProbeTarget},
    service::DestinationKey,
};

/// Checks and who wants to know their results.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) checks: Vec<BaselineCheck>,
    pub(super) subscribers: Subscribers,
}

/// Who wants to know the results of each check.
#[derive(Clone, Debug, Default)]
pub(super) struct Subscribers {
    of_check: HashMap<CheckId, Vec<Subscriber>>,
    checks_of: HashMap<DestinationKey, Vec<CheckId>>,
    /// The intervals of each check.
    paces: HashMap<CheckId, Intervals>,
}

/// A destination that wants to know a check's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subscriber {
    pub(super) destination: DestinationKey,
    /// Which of the destination's checks it is.
    pub(super) check: usize,
}

/// How often a check is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Intervals {
    pub(super) usual: Duration,
    /// While the state of a subscriber is soft.
    pub(super) soft: Duration,
}

impl Subscribers {
    /// Those of one check.
    pub(super) fn of(&self, check: CheckId) -> &[Subscriber] {
        self.of_check.get(&check).map_or(&[], Vec::as_slice)
    }

    /// A destination's checks.
    pub(super) fn checks_of(&self, destination: &DestinationKey) -> &[CheckId] {
        self.checks_of.get(destination).map_or(&[], Vec::as_slice)
    }

    /// How often a check is asked.
    pub(super) fn intervals(&self, check: CheckId) -> Option<Intervals> {
        self.paces.get(&check).copied()
    }

    fn add(&mut self, id: CheckId, check: &Check, subscriber: Subscriber) {
        let intervals = Intervals { usual: check.interval, soft: check.soft_interval() };
        self.paces.insert(id, intervals);
        self.of_check.entry(id).or_default().push(subscriber);
        self.checks_of.entry(subscriber.destination).or_default().push(id);
    }
}

impl Checks {
    pub(super) fn new(services: &[VirtualService]) -> Self {
        let mut all = Self::default();
        let mut ids: HashMap<(ProbeTarget, Arc<Check>), CheckId> = HashMap::new();
        for service in services {
            // The servers of a service share what they are asked.
            let mut shared: HashMap<&Check, Arc<Check>> = HashMap::new();
            for (destination, index, check) in decisions::questions(service) {
                let check = shared.entry(check).or_insert_with(|| Arc::new(check.clone())).clone();
                let target = ProbeTarget::of_check(destination.server, &check);
                let next = CheckId(u32::try_from(ids.len()).unwrap_or(u32::MAX));
                let id = *ids.entry((target, check.clone())).or_insert_with(|| {
                    all.checks.push(BaselineCheck { id: next, target, check: check.clone() });
                    next
                });
                all.subscribers.add(id, &check, Subscriber { destination, check: index });
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn one_check_many_services() {
        let text = r#"
            [defaults]
            forward = "masquerade"

            [[service]]
            address = "192.0.2.1:80"
            [[service.server]]
            address = "10.0.0.1:80"
            [[service.server]]
            address = "10.0.0.2:80"

            [[service]]
            address = "192.0.2.2:80"
            [[service.server]]
            address = "10.0.0.1:80"

            [[service]]
            address = "192.0.2.3:80"
            check = { type = "ping" }
            [[service.server]]
            address = "10.0.0.1:80"
        "#;
        let config = crate::config::native::read(text, "test.toml".as_ref()).expect("it is a configuration");
        let Config { services, .. } = config;
        let checks = Checks::new(&services);
        let asked: Vec<usize> =
            checks.checks.iter().map(|check| checks.subscribers.of(check.id).len()).collect();
        assert_eq!(asked, [2, 1, 1], "10.0.0.1 by connect for two services, by ping for one; 10.0.0.2 once");
    }
}
