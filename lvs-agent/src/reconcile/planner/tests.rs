use std::time::{Duration, Instant};

use proptest::{collection::vec, prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::{Findings, Planner, Rights};
use crate::{
    ipvs::{
        Conflict, Edit, IpvsError, ServiceEntry, Table, Wanted, WantedService, arbitrary, difference,
        overrides::Overrides,
    },
    model::{Foreign, ServiceKey},
    reconcile::{desired::Changes, poller},
};

/// A planner and the table that it is about.
struct Case {
    planner: Planner,
    kernel: Table,
    /// As it was last read; `None`: never, or not the last time.
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
        );
        let mut case = Self { planner, kernel, read: None, now: Instant::now() };
        case.planner.want(Changes { whole: Some(wanted), ..Changes::default() }, case.now);
        case
    }

    /// Makes `most` edits, or all that there are to make; how many were made.
    fn work(&mut self, most: usize) -> usize {
        let mut made = 0;
        while let Some(plan) = self.planner.next() {
            let mut clean = true;
            for edit in &plan.edits {
                if made == most {
                    self.planner.left(plan.service, plan.is_urgent());
                    return made;
                }
                made += 1;
                match self.kernel.apply(edit) {
                    Ok(()) => {
                        self.planner.made(edit);
                    }
                    Err(conflict) => {
                        self.planner.failed(edit, &conflict.into(), self.now);
                        clean = false;
                        break;
                    }
                }
            }
            if clean {
                self.planner.done(&plan.service);
            }
        }
        made
    }

    /// Reads the table.
    fn look(&mut self) -> Findings {
        let recheck = self.planner.begin_look();
        let delta = poller::compare(self.read.as_ref(), &self.kernel, &recheck);
        self.read = Some(self.kernel.clone());
        self.planner.looked(delta, self.now)
    }

    /// Lets time pass, looks and works.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.look();
            self.work(usize::MAX);
        }
    }
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// Others make one of the services like this.
    Others(ServiceKey, Option<ServiceEntry>),
    /// This is wanted of one of the services.
    Want(ServiceKey, WantedService),
    /// This is wanted of the whole table.
    Replace(Wanted),
    Work(usize),
    TableDelta,
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
        1 => (0_usize..5).prop_map(Step::Work),
        1 => Just(Step::TableDelta),
        1 => (1_u64..20).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_table_becomes_as_wanted_and_foreign_services_stay(
        (before, wanted) in arbitrary::table_and_wanted(),
        steps in vec(step(), 0..20),
    ) {
        let mut case = Case::new(before, wanted.clone(), Foreign::Keep);
        let (mut mine, mut foreign) = (wanted, case.kernel.clone());
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
                    mine.unwanted.remove(&key);
                    mine.services.insert(key, service.clone());
                    let changes = Changes { urgent: [(key, service)].into(), ..Changes::default() };
                    case.planner.want(changes, case.now);
                }
                Step::Replace(wanted) => {
                    mine = wanted.clone();
                    let changes = Changes { whole: Some(wanted), ..Changes::default() };
                    case.planner.want(changes, case.now);
                }
                Step::Work(most) => drop(case.work(most)),
                Step::TableDelta => drop(case.look()),
                Step::Pass(seconds) => case.pass(seconds),
            }
        }
        case.work(usize::MAX);
        // Longer than the longest pause between two repairs.
        case.pass(130);
        mine.unwanted.clear();
        prop_assert_eq!(difference(&case.kernel, &mine), vec![]);
        prop_assert_eq!(case.work(usize::MAX), 0, "there is nothing left to do");
    }

    #[test]
    fn foreign_services_go_where_that_is_wanted(
        (before, wanted) in arbitrary::table_and_wanted(),
        (later, _) in arbitrary::table_and_wanted(),
    ) {
        for foreign in [Foreign::Keep, Foreign::Remove] {
            let mut case = Case::new(before.clone(), wanted.clone(), foreign);
            case.work(usize::MAX);
            for (key, entry) in &later.services {
                case.kernel.services.entry(*key).or_insert_with(|| entry.clone());
            }
            case.pass(2);
            for (key, entry) in &case.kernel.services {
                let mine = wanted.services.contains_key(key);
                let theirs = || later.services.get(key) == Some(entry) || before.services.get(key) == Some(entry);
                prop_assert!(mine || foreign == Foreign::Keep && theirs(), "{}", key);
            }
            if foreign == Foreign::Keep {
                prop_assert!(later.services.keys().all(|key| case.kernel.services.contains_key(key)));
            }
        }
    }
}

/// A table as it is wanted, with at least one service that has a server.
fn settled() -> Case {
    let mut runner = TestRunner::deterministic();
    loop {
        let tree = arbitrary::table_and_wanted().new_tree(&mut runner).expect("tables can be made");
        let (table, wanted) = tree.current();
        let served = wanted.services.values().filter(|service| !service.destinations.is_empty());
        if served.count() >= 2 {
            let mut case = Case::new(table, wanted, Foreign::Keep);
            case.work(usize::MAX);
            assert_eq!(case.look(), Findings::default());
            return case;
        }
    }
}

#[test]
fn a_fight_is_told_of_once_and_what_is_wanted_anew_does_not_wait() {
    let mut case = settled();
    let key = case.kernel.services.keys().copied().find(|key| {
        let mut other = settled();
        other.kernel.services.remove(key);
        !other.look().interferences.is_empty()
    });
    let key = key.expect("a managed service");
    let (mut told, mut edits) = (0, Vec::new());
    for _ in 0..10 {
        case.now += Duration::from_millis(500);
        case.kernel.services.remove(&key);
        told += case.look().contended.len();
        edits.push(case.work(usize::MAX) > 0);
    }
    assert_eq!(told, 1);
    // At once three times; then after 1 s, after 2 s, and not before 4 s.
    assert_eq!(edits, [true, true, true, false, true, false, false, false, true, false]);
    let service = WantedService::new("lc".try_into().expect("a name"));
    case.planner.want(Changes { urgent: [(key, service)].into(), ..Changes::default() }, case.now);
    assert_eq!(case.work(usize::MAX), 1);
    case.now += Duration::from_mins(1);
    assert_eq!(case.look().calm, [key]);
}

#[test]
fn a_failing_service_waits_and_the_others_do_not() {
    let mut case = settled();
    let wanted: Vec<_> = case.kernel.services.keys().copied().collect();
    case.kernel = Table::default();
    case.look();
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
    case.look();
    assert_eq!(case.planner.next(), None, "not before its time");
    case.now += Duration::from_millis(500);
    case.look();
    assert_eq!(case.planner.next().expect("it is tried again").service, failed);
}

#[test]
fn an_edit_that_does_not_fit_is_tried_again_after_the_next_look() {
    let mut case = settled();
    case.kernel = Table::default();
    case.look();
    let plan = case.planner.next().expect("all is to be made");
    let Edit::AddService(service) = &plan.edits[0] else { panic!("{:?}", plan.edits) };
    let conflict = Conflict::ServiceExists(service.key);
    case.planner.failed(&plan.edits[0], &conflict.into(), case.now);
    assert!(case.planner.is_in_doubt());
    case.kernel.services.insert(service.key, ServiceEntry::new(service.clone()));
    case.look();
    case.work(usize::MAX);
    assert!(!case.kernel.services[&service.key].destinations.is_empty() || plan.edits.len() == 1);
}
