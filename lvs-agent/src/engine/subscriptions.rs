//! The baseline checks that a configuration asks for: the same server asked the same question is asked once. Pure.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use crate::{
    keyed::KeyMap,
    model::{Check, DestinationKey, VirtualService},
    probe::{BaselineCheck, CheckId, ProbeTarget},
};

/// The checks that are asked, and who wants to know their results.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    ids: HashMap<(ProbeTarget, Arc<Check>), CheckId>,
    /// The next number that no check has had.
    next: u32,
    of_check: KeyMap<CheckId, Vec<Subscriber>>,
    by_destination: KeyMap<DestinationKey, Vec<CheckId>>,
    intervals: KeyMap<CheckId, Intervals>,
}

/// What a new list of services changes: those that are asked already go on as they are.
#[derive(Debug, Default)]
pub(crate) struct ScheduleChange {
    /// To be asked from now on.
    pub(crate) added: Vec<BaselineCheck>,
    /// No longer to be asked.
    pub(crate) removed: Vec<CheckId>,
}

/// A destination that wants to know a check's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subscriber {
    pub(crate) destination: DestinationKey,
    /// Which of the destination's checks it is.
    pub(crate) check: usize,
}

/// How often a check is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intervals {
    pub(crate) usual: Duration,
    /// While the state of a subscriber is soft.
    pub(crate) soft: Duration,
}

impl Subscriptions {
    /// Asks what these services want to know, and nothing else.
    pub(crate) fn replace(&mut self, services: &[VirtualService]) -> ScheduleChange {
        let mut turnover = ScheduleChange::default();
        let mut before = mem::take(&mut self.ids);
        (self.of_check, self.by_destination, self.intervals) = Default::default();
        for service in services {
            // The servers of a service share what they are asked.
            let mut shared: HashMap<&Check, Arc<Check>> = HashMap::new();
            for (destination, index, check) in service.all_checks() {
                let check = shared.entry(check).or_insert_with(|| Arc::new(check.clone())).clone();
                let target = ProbeTarget::of_check(destination.server, &check);
                let id = self.id(&mut before, target, &check, &mut turnover);
                self.subscribe(id, &check, Subscriber { destination, check: index });
            }
        }
        turnover.removed.extend(before.into_values());
        turnover
    }

    /// A check's number: the one that it has, or a new one.
    fn id(
        &mut self,
        before: &mut HashMap<(ProbeTarget, Arc<Check>), CheckId>,
        target: ProbeTarget,
        check: &Arc<Check>,
        turnover: &mut ScheduleChange,
    ) -> CheckId {
        let key = (target, check.clone());
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = before.remove(&key).unwrap_or_else(|| {
            let id = CheckId(self.next);
            self.next = self.next.wrapping_add(1);
            turnover.added.push(BaselineCheck { id, target, check: check.clone() });
            id
        });
        self.ids.insert(key, id);
        id
    }

    fn subscribe(&mut self, id: CheckId, check: &Check, subscriber: Subscriber) {
        let intervals = Intervals { usual: check.interval, soft: check.soft_interval() };
        self.intervals.insert(id, intervals);
        self.of_check.entry(id).or_default().push(subscriber);
        self.by_destination.entry(subscriber.destination).or_default().push(id);
    }

    /// Who wants to know the results of a check.
    pub(crate) fn subscribers(&self, check: CheckId) -> &[Subscriber] {
        self.of_check.get(&check).map_or(&[], Vec::as_slice)
    }

    /// A destination's checks.
    pub(crate) fn of(&self, destination: &DestinationKey) -> &[CheckId] {
        self.by_destination.get(destination).map_or(&[], Vec::as_slice)
    }

    /// How often a check is asked.
    pub(crate) fn intervals(&self, check: CheckId) -> Option<Intervals> {
        self.intervals.get(&check).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Config;

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
