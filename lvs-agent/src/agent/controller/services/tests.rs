use crate::ipvs::Table;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio::sync::oneshot;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::{
    agent::controller::{Parts, Role},
    config::native,
    engine::{Engine, role::RoleKeeper, subscriptions::Subscriptions},
    event::Publisher,
    health::{Sample, Source, State},
    ipvs::{Edit, difference},
    model::{BurstSettings, RoleSetting},
    passive::Targets,
    pool::Presence,
    probe::{CheckResult, Prober, Scheduler},
    reconcile::DesiredTable,
};

/// Services with their servers' weights, all of them always well.
fn services(all: &[(u16, &[u16])]) -> Vec<VirtualService> {
    let mut text =
        String::from("[defaults]\nforward = \"masquerade\"\ncheck = { type = \"on\", interval = \"1h\" }\n");
    for (number, weights) in all {
        let [high, low] = number.to_be_bytes();
        writeln!(text, "[[service]]\naddress = \"198.18.{high}.{low}:80\"").unwrap();
        for (server, weight) in weights.iter().enumerate() {
            writeln!(text, "[[service.server]]\naddress = \"10.0.0.{server}:80\"\nweight = {weight}")
                .unwrap();
        }
    }
    native::read(&text, "test.toml".as_ref()).expect("it is a configuration").services
}

/// What the controller wants of the table, all in all.
fn wanted(controller: &Controller) -> Wanted {
    controller.without_leaving(controller.engine.wanted())
}

/// A controller without a passive side.
struct Fixture {
    controller: Controller,
    watched: watch::Receiver<WatchedServices>,
    _results: mpsc::Receiver<CheckResult>,
    _stop: DropGuard,
}

impl Fixture {
    fn new(services: &[VirtualService]) -> Self {
        let shutdown = CancellationToken::new();
        let (results, kept) = mpsc::channel(1024);
        let mut checks = Subscriptions::default();
        let added = checks.replace(services).added;
        let limit = Scheduler::DEFAULT_LIMIT;
        let scheduler = Scheduler::spawn(added, Prober::new(), limit, results, shutdown.clone());
        let (watched_tx, watched) = watch::channel(services.to_vec().into());
        let engine = Engine::new(services, |_| Presence::In);
        let controller = Controller::new(Parts {
            engine,
            events: Publisher::default(),
            checks,
            scheduler: scheduler.handle(),
            idle: crate::probe::IdleHandle::default(),
            targets: watch::channel(Arc::new(Targets::new([]))).1,
            burst: BurstSettings::default(),
            prober: Prober::new(),
            reports: mpsc::channel(1).0,
            desired: DesiredTable::default(),
            watched: watched_tx,
            feedback: mpsc::channel(1).0,
            state_writer: None,
            role: Role {
                keeper: RoleKeeper::new(RoleSetting::default(), None, services, None),
                writer: None,
            },
        });
        Self { controller, watched, _results: kept, _stop: shutdown.drop_guard() }
    }

    async fn replace(&mut self, services: Vec<VirtualService>) -> UpdateSummary {
        let (reply, replaced) = oneshot::channel();
        let (table, administered) = (Arc::default(), BTreeSet::new());
        let dropped = RemovedServices::Deleted;
        self.controller.replace(ServiceUpdate { services, table, administered, dropped, reply }).await;
        replaced.await.unwrap()
    }

    /// The table as it is when it is as wanted.
    fn table(&self) -> Table {
        let mut table = Table::default();
        for edit in difference(&table, &wanted(&self.controller)) {
            table.apply(&edit).unwrap();
        }
        table
    }
}

#[tokio::test]
async fn health_stays_and_who_is_gone_leaves() {
    let mut fixture = Fixture::new(&services(&[(1, &[1, 1]), (2, &[1])]));
    let before = fixture.table();
    let sick = fixture.controller.engine.destinations().next().unwrap().0;
    for _ in 0..3 {
        let sample = Sample { check: Some(0), success: false, source: Source::Baseline };
        fixture.controller.engine.observe(&sick, sample, None, Instant::now());
    }
    fixture.watched.borrow_and_update();

    // A weight is nothing to the passive side.
    let replaced = fixture.replace(services(&[(1, &[4, 5]), (2, &[1])])).await;
    let none = Counted::default();
    assert_eq!(replaced, UpdateSummary { table_changed: true, added: none, removed: none });
    assert!(fixture.controller.engine.state(&sick).is_some_and(State::is_down), "its health is kept");
    assert!(!fixture.watched.has_changed().unwrap());

    let replaced = fixture.replace(services(&[(1, &[4, 5, 6])])).await;
    let (added, removed) =
        (Counted { services: 0, destinations: 1 }, Counted { services: 1, destinations: 1 });
    assert_eq!(replaced, UpdateSummary { table_changed: true, added, removed });
    assert!(fixture.watched.has_changed().unwrap());
    let deletes = |controller: &Controller, table: &Table| {
        let edits = difference(table, &wanted(controller));
        edits.into_iter().filter(|edit| matches!(edit, Edit::DeleteService(_))).count()
    };
    assert_eq!(deletes(&fixture.controller, &before), 1);
    fixture.controller.let_go(Instant::now() + 2 * LEAVE);
    assert_eq!(deletes(&fixture.controller, &before), 0, "whoever adds it later is left alone");
}

#[tokio::test]
async fn a_service_that_comes_back_no_longer_leaves() {
    let both = services(&[(1, &[1]), (2, &[1])]);
    let mut fixture = Fixture::new(&both);
    fixture.replace(services(&[(1, &[1])])).await;
    assert_eq!(fixture.controller.leaving.len(), 1);
    fixture.replace(both.clone()).await;
    assert_eq!((fixture.controller.leaving.len(), wanted(&fixture.controller).unwanted.len()), (0, 0));
}

#[tokio::test]
async fn one_weight_of_many_is_one_edit() {
    let all = |weight: u16| {
        let (usual, other) = ([1; 10], [weight, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        let list: Vec<(u16, &[u16])> =
            (0..2000).map(|number| (number, if number == 7 { &other[..] } else { &usual[..] })).collect();
        services(&list)
    };
    let mut fixture = Fixture::new(&all(1));
    let before = fixture.table();
    let (begun, other) = (Instant::now(), all(9));
    let read = begun.elapsed();
    let replaced = fixture.replace(other).await;
    println!("2,000 services of 10: read in {read:?}, in force after {:?}", begun.elapsed());
    assert!(replaced.table_changed);
    let edits = difference(&before, &wanted(&fixture.controller));
    assert!(matches!(&edits[..], [Edit::SetDestination { .. }]), "{} edits", edits.len());
}
