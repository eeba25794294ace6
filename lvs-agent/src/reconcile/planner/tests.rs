use std::time::{Duration, Instant};

use proptest::{collection::vec, prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::{Findings, Lanes, Planner, Rights};
use crate::{
    ipvs::{
        Conflict, Edit, IpvsError, ServiceEntry, ServiceFlags, Table, Wanted, WantedService, Wish, arbitrary,
        difference, overrides::Overrides,
    },
    model::{AddressFamily, Foreign, ServiceKey, VipMarks},
    reconcile::{desired::Changes, poller},
};

/// A planner and the table that it is about.
struct Case {
    planner: Planner,
    kernel: Table,
    /// The table at the last poll; `None`: there was none.
    read: Option<Table>,
    now: Instant,
}

impl Case {
    fn new(kernel: Table, wanted: Wanted, foreign: Foreign) -> Self {
        let planner = Planner::new(
            kernel.clone(),
            foreign,
            Rights { adopts: false, dry_run: None },
            Overrides::default(),
            VipMarks::default(),
        );
        let mut case = Self { planner, kernel, read: None, now: Instant::now() };
        case.planner.want(Changes { table: Some(wanted), ..Changes::default() }, case.now);
        case
    }

    /// Makes up to `limit` edits; returns how many were made.
    fn edit(&mut self, limit: usize) -> usize {
        let mut made = 0;
        while let Some(plan) = self.planner.next() {
            let mut succeeded = true;
            for edit in &plan.edits {
                if made == limit {
                    self.planner.interrupted(plan.service, plan.is_urgent());
                    return made;
                }
                made += 1;
                match self.kernel.apply(edit) {
                    Ok(()) => {
                        self.planner.made(edit);
                    }
                    Err(conflict) => {
                        self.planner.failed(edit, &conflict.into(), self.now);
                        succeeded = false;
                        break;
                    }
                }
            }
            if succeeded {
                self.planner.done(&plan.service);
            }
        }
        made
    }

    /// Polls the table.
    fn poll(&mut self) -> Findings {
        let recheck = self.planner.poll_started();
        let delta = poller::compare(self.read.as_ref(), &self.kernel, &recheck);
        self.read = Some(self.kernel.clone());
        self.planner.observed(delta, self.now)
    }

    /// Lets time pass, with a poll and all edits each second.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.poll();
            self.edit(usize::MAX);
        }
    }
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    /// Others make one of the services like this.
    Others(ServiceKey, Option<ServiceEntry>),
    /// One of the services is desired like this.
    Want(ServiceKey, WantedService),
    /// The whole table is desired like this.
    Replace(Wanted),
    /// Up to so many edits are made.
    Edit(usize),
    Poll,
    /// So many seconds pass.
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let table = || arbitrary::table_and_wanted();
    let others = (table(), any::<prop::sample::Index>(), any::<bool>()).prop_filter_map(
        "no service",
        |((table, _), index, stays)| {
            let (key, entry) = table.services.iter().nth(index.index(table.services.len().max(1)))?;
            Some(Step::Others(*key, stays.then(|| entry.clone())))
        },
    );
    let want =
        (table(), any::<prop::sample::Index>()).prop_filter_map("no service", |((_, wanted), index)| {
            let (key, service) = wanted.services.iter().nth(index.index(wanted.services.len().max(1)))?;
            Some(Step::Want(*key, service.clone()))
        });
    let replace = table().prop_map(|(_, wanted)| Step::Replace(wanted));
    prop_oneof![
        2 => others,
        2 => want,
        1 => replace,
        1 => (0_usize..5).prop_map(Step::Edit),
        1 => Just(Step::Poll),
        1 => (1_u64..20).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn after_any_history_the_table_becomes_as_desired_and_foreign_services_stay(
        (before, wanted) in arbitrary::table_and_wanted(),
        steps in vec(step(), 0..20),
    ) {
        let mut case = Case::new(before, wanted.clone(), Foreign::Keep);
        let (mut managed, mut foreign) = (wanted, case.kernel.clone());
        for step in steps {
            match step {
                Step::Others(key, entry) => {
                    foreign.services.remove(&key);
                    case.kernel.services.remove(&key);
                    if let Some(entry) = entry {
                        foreign.services.insert(key, entry.clone());
                        case.kernel.services.insert(key, entry);
                    }
                }
                Step::Want(key, service) => {
                    managed.unwanted.remove(&key);
                    managed.services.insert(key, service.clone());
                    let changes = Changes { urgent: [(key, service)].into(), ..Changes::default() };
                    case.planner.want(changes, case.now);
                }
                Step::Replace(wanted) => {
                    managed = wanted.clone();
                    let changes = Changes { table: Some(wanted), ..Changes::default() };
                    case.planner.want(changes, case.now);
                }
                Step::Edit(limit) => drop(case.edit(limit)),
                Step::Poll => drop(case.poll()),
                Step::Pass(seconds) => case.pass(seconds),
            }
        }
        case.edit(usize::MAX);
        // Longer than the longest pause between two repairs.
        case.pass(130);
        managed.unwanted.clear();
        prop_assert_eq!(difference(&case.kernel, &managed), vec![]);
        prop_assert_eq!(case.edit(usize::MAX), 0, "there is nothing left to do");
    }

    #[test]
    fn foreign_services_are_deleted_only_if_configured(
        (before, wanted) in arbitrary::table_and_wanted(),
        (later, _) in arbitrary::table_and_wanted(),
    ) {
        for foreign in [Foreign::Keep, Foreign::Remove] {
            let mut case = Case::new(before.clone(), wanted.clone(), foreign);
            case.edit(usize::MAX);
            for (key, entry) in &later.services {
                case.kernel.services.entry(*key).or_insert_with(|| entry.clone());
            }
            case.pass(2);
            for (key, entry) in &case.kernel.services {
                let managed = wanted.services.contains_key(key);
                let is_foreign = || later.services.get(key) == Some(entry) || before.services.get(key) == Some(entry);
                prop_assert!(managed || foreign == Foreign::Keep && is_foreign(), "{}", key);
            }
            if foreign == Foreign::Keep {
                prop_assert!(later.services.keys().all(|key| case.kernel.services.contains_key(key)));
            }
        }
    }
}

/// A table as desired, with at least two services that have servers.
fn settled() -> Case {
    let mut runner = TestRunner::deterministic();
    loop {
        let tree = arbitrary::table_and_wanted().new_tree(&mut runner).expect("tables can be made");
        let (table, wanted) = tree.current();
        let served = wanted.services.values().filter(|service| !service.destinations.is_empty());
        if served.count() >= 2 {
            let mut case = Case::new(table, wanted, Foreign::Keep);
            case.edit(usize::MAX);
            assert_eq!(case.poll(), Findings::default());
            return case;
        }
    }
}

#[test]
fn contention_is_reported_once_and_a_new_desired_state_does_not_wait() {
    let mut case = settled();
    let key = case.kernel.services.keys().copied().find(|key| {
        let mut other = settled();
        other.kernel.services.remove(key);
        !other.poll().interferences.is_empty()
    });
    let key = key.expect("a managed service");
    let (mut reports, mut edits) = (0, Vec::new());
    for _ in 0..10 {
        case.now += Duration::from_millis(500);
        case.kernel.services.remove(&key);
        reports += case.poll().contended.len();
        edits.push(case.edit(usize::MAX) > 0);
    }
    assert_eq!(reports, 1);
    // At once three times; then after 1 s, after 2 s, and not before 4 s.
    assert_eq!(edits, [true, true, true, false, true, false, false, false, true, false]);
    let service = WantedService::new("lc".try_into().expect("a name"));
    case.planner.want(Changes { urgent: [(key, service)].into(), ..Changes::default() }, case.now);
    assert_eq!(case.edit(usize::MAX), 1);
    case.now += Duration::from_mins(1);
    assert_eq!(case.poll().no_longer_contended, [key]);
}

#[test]
fn a_failing_service_backs_off_and_the_others_do_not_wait() {
    let mut case = settled();
    let wanted: Vec<_> = case.kernel.services.keys().copied().collect();
    case.kernel = Table::default();
    case.poll();
    let mut failed = None;
    while let Some(plan) = case.planner.next() {
        if failed.is_none() {
            let error = IpvsError::NoAnswer(crate::ipvs::Operation::ReadInfo);
            case.planner.failed(&plan.edits[0], &error, case.now);
            failed = Some(plan.service);
            continue;
        }
        for edit in &plan.edits {
            case.kernel.apply(edit).expect("it fits");
            case.planner.made(edit);
        }
        case.planner.done(&plan.service);
    }
    let failed = failed.expect("there was a plan");
    assert!(!case.kernel.services.contains_key(&failed) && wanted.contains(&failed));
    case.poll();
    assert_eq!(case.planner.next(), None, "not before its time");
    case.now += Duration::from_millis(500);
    case.poll();
    assert_eq!(case.planner.next().expect("it is tried again").service, failed);
}

#[test]
fn an_edit_that_does_not_fit_is_retried_after_the_next_poll() {
    let mut case = settled();
    case.kernel = Table::default();
    case.poll();
    let plan = case.planner.next().expect("all is to be made");
    let Edit::AddService(service) = &plan.edits[0] else { panic!("{:?}", plan.edits) };
    let conflict = Conflict::ServiceExists(service.key);
    case.planner.failed(&plan.edits[0], &conflict.into(), case.now);
    assert!(case.planner.needs_recheck());
    case.kernel.services.insert(service.key, ServiceEntry::new(service.clone()));
    case.poll();
    case.edit(usize::MAX);
    assert!(!case.kernel.services[&service.key].destinations.is_empty() || plan.edits.len() == 1);
}

/// A service by a mark of probes to VIPs, with these flags.
fn by_vip_mark(flags: ServiceFlags) -> (ServiceKey, WantedService, ServiceEntry) {
    let key = ServiceKey::Mark { mark: VipMarks::default().first() + 3, family: AddressFamily::V4 };
    let mut wanted = WantedService::new("rr".try_into().expect("a name"));
    wanted.flags = Wish::Set(flags);
    let mut table = Table::default();
    for edit in
        difference(&table.clone(), &Wanted { services: [(key, wanted.clone())].into(), ..Wanted::default() })
    {
        table.apply(&edit).expect("it fits");
    }
    let entry = table.services.remove(&key).expect("it was added");
    (key, wanted, entry)
}

#[test]
fn a_service_of_others_with_a_mark_of_probes_is_left_alone() {
    let (key, wanted, own) = by_vip_mark(ServiceFlags::SCHEDULER_3);
    let (_, _, foreign) = by_vip_mark(ServiceFlags::NONE);
    let lanes = |ready: bool, of_others: bool| {
        let ServiceKey::Mark { mark, .. } = key else { unreachable!() };
        let ready = ready.then_some(mark).into_iter().collect();
        Some(Lanes { ready, of_others: of_others.then_some(key).into_iter().collect() })
    };
    let kernel = Table { services: [(key, foreign.clone())].into() };
    let all = Wanted { services: [(key, wanted)].into(), ..Wanted::default() };
    let mut case = Case::new(kernel.clone(), all.clone(), Foreign::Keep);
    assert_eq!((case.edit(usize::MAX), case.planner.changed_lanes()), (0, lanes(false, true)));
    // Nor is it deleted with the agent's own.
    let unwanted = Wanted { unwanted: [key].into(), ..Wanted::default() };
    case.planner.want(Changes { table: Some(unwanted), ..Changes::default() }, case.now);
    assert_eq!(case.edit(usize::MAX), 0);
    case.planner.want(Changes { table: Some(all.clone()), ..Changes::default() }, case.now);
    // It goes: the agent's takes its place, and makes way for it again.
    case.kernel = Table::default();
    case.pass(2);
    assert_eq!(case.kernel.services[&key], own);
    assert_eq!(case.planner.changed_lanes(), lanes(true, false));
    case.kernel = kernel.clone();
    assert_eq!(case.poll(), Findings::default());
    case.pass(2);
    assert_eq!((&case.kernel, case.planner.changed_lanes()), (&kernel, lanes(false, true)));
    // Where nothing of others may stay, it doesn't.
    let mut case = Case::new(kernel, all, Foreign::Remove);
    case.edit(usize::MAX);
    assert_eq!((&case.kernel.services[&key], case.planner.changed_lanes()), (&own, lanes(true, false)));
}
