//! The baseline checks of a configuration: equal checks of the same server run once for all services. Pure.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use crate::{
    keyed::KeyMap,
    model::{Check, DestinationKey, VirtualService},
    probe::{BaselineCheck, CheckId, ProbeTarget},
};

/// The checks that run, each with the destinations that it is for.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    ids: HashMap<(ProbeTarget, Arc<Check>), CheckId>,
    /// The next unused number.
    next_id: u32,
    by_check: KeyMap<CheckId, Vec<Subscriber>>,
    by_destination: KeyMap<DestinationKey, Vec<CheckId>>,
    intervals: KeyMap<CheckId, Intervals>,
}

/// What a new list of services changes; all other checks continue.
#[derive(Debug, Default)]
pub(crate) struct ScheduleChange {
    /// Checks to start.
    pub(crate) added: Vec<BaselineCheck>,
    /// Checks to stop.
    pub(crate) removed: Vec<CheckId>,
}

/// A destination that a check is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subscriber {
    pub(crate) destination: DestinationKey,
    /// The index of the check among those of the destination.
    pub(crate) check: usize,
}

/// How often a check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intervals {
    pub(crate) usual: Duration,
    /// While the state of a subscriber is soft.
    pub(crate) soft: Duration,
}

impl Subscriptions {
    /// Replaces all checks by those of `services`.
    pub(crate) fn replace(&mut self, services: &[VirtualService]) -> ScheduleChange {
        let mut change = ScheduleChange::default();
        let mut before = mem::take(&mut self.ids);
        (self.by_check, self.by_destination, self.intervals) = Default::default();
        for service in services {
            // The servers of a service share their checks.
            let mut shared: HashMap<&Check, Arc<Check>> = HashMap::new();
            for (destination, index, check) in service.all_checks() {
                let check = shared.entry(check).or_insert_with(|| Arc::new(check.clone())).clone();
                let target = ProbeTarget::of_check(destination.server, &check);
                let id = self.id(&mut before, target, &check, &mut change);
                self.subscribe(id, &check, Subscriber { destination, check: index });
            }
        }
        change.removed.extend(before.into_values());
        change
    }

    /// A check's number: its present one, or a new one.
    fn id(
        &mut self,
        before: &mut HashMap<(ProbeTarget, Arc<Check>), CheckId>,
        target: ProbeTarget,
        check: &Arc<Check>,
        change: &mut ScheduleChange,
    ) -> CheckId {
        let key = (target, check.clone());
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = before.remove(&key).unwrap_or_else(|| {
            let id = CheckId(self.next_id);
            self.next_id = self.next_id.wrapping_add(1);
            change.added.push(BaselineCheck { id, target, check: check.clone() });
            id
        });
        self.ids.insert(key, id);
        id
    }

    fn subscribe(&mut self, id: CheckId, check: &Check, subscriber: Subscriber) {
        let intervals = Intervals { usual: check.interval, soft: check.soft_interval() };
        self.intervals.insert(id, intervals);
        self.by_check.entry(id).or_default().push(subscriber);
        self.by_destination.entry(subscriber.destination).or_default().push(id);
    }

    /// The destinations that a check is for.
    pub(crate) fn subscribers(&self, check: CheckId) -> &[Subscriber] {
        self.by_check.get(&check).map_or(&[], Vec::as_slice)
    }

    /// A destination's checks.
    pub(crate) fn of(&self, destination: &DestinationKey) -> &[CheckId] {
        self.by_destination.get(destination).map_or(&[], Vec::as_slice)
    }

    /// How often a check runs.
    pub(crate) fn intervals(&self, check: CheckId) -> Option<Intervals> {
        self.intervals.get(&check).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Config;

    #[test]
    fn equal_checks_of_several_services_run_once() {
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
        let Config { services, .. } =
            crate::config::native::read(text, "test.toml".as_ref()).expect("it is a configuration");
        let mut checks = Subscriptions::default();
        let first = checks.replace(&services);
        let subscribers: Vec<usize> =
            first.added.iter().map(|check| checks.subscribers(check.id).len()).collect();
        assert_eq!(
            subscribers,
            [2, 1, 1],
            "10.0.0.1 by connect for two services, by ping for one; 10.0.0.2 once"
        );

        let again = checks.replace(&services);
        assert!(again.added.is_empty() && again.removed.is_empty(), "{again:?}");

        let mut fewer = services.clone();
        fewer.remove(0);
        fewer[1].check.interval *= 2;
        let change = checks.replace(&fewer);
        assert_eq!(change.removed.len(), 2, "10.0.0.2, and the ping as it was: {change:?}");
        let [slower] = &change.added[..] else { panic!("{change:?}") };
        assert!(first.added.iter().all(|check| check.id != slower.id), "a number is not used twice");
        assert_eq!(checks.subscribers(slower.id).len(), 1);
        assert_eq!(checks.of(&checks.subscribers(slower.id)[0].destination), [slower.id]);
        assert_eq!(checks.intervals(slower.id).map(|intervals| intervals.usual), Some(slower.check.interval));
        assert_eq!(checks.subscribers(change.removed[0]), []);
    }
}
