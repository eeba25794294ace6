use crate::ipvs::Table;
use std::sync::Arc;
use std::{collections::BTreeMap, fmt::Write as _};
use tokio::sync::oneshot;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::{
    agent::controller::bursts::Bursts,
    config::native,
    engine::{Decisions, correlation::Suspected, probe_timeout::Paces, subscriptions::Checks},
    health::{Heard, Source, State},
    ipvs::{Edit, difference},
    keyed::KeySet,
    model::{BurstSettings, Config, Mode},
    notify::{Notifier, alerts::Teller},
    passive::Targets,
    pool::Presence,
    probe::{CheckResult, Prober, Scheduler, budget::Budget},
    reconcile::Board,
    state_file::Orders,
    telemetry::metrics::{Probes, Standings},
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

/// What the judge wants of the table, all in all.
fn wanted(judge: &Judge) -> Wanted {
    judge.without_leaving(judge.decisions.wanted())
}

/// A judge without a passive side.
struct Court {
    judge: Judge,
    roster: watch::Receiver<Roster>,
    _results: mpsc::Receiver<CheckResult>,
    _stop: DropGuard,
}

impl Court {
    fn new(services: &[VirtualService]) -> Self {
        let burst = BurstSettings::default();
        let shutdown = CancellationToken::new();
        let (results, kept) = mpsc::channel(1024);
        let mut checks = Checks::default();
        let added = checks.replace(services).added;
        let limit = Scheduler::DEFAULT_LIMIT;
        let scheduler = Scheduler::spawn(added, Prober::new(), limit, results, shutdown.clone());
        let (roster_tx, roster) = watch::channel(services.to_vec().into());
        let decisions = Decisions::new(services, |_| Presence::In);
        let config = Arc::new(Config::of_table(Mode::Manage));
        let in_force = watch::channel(config).1;
        let teller = Teller::new(Notifier::new().0, &decisions, in_force);
        let judge = Judge {
            decisions,
            teller,
            checks,
            pacer: scheduler.pacer(),
            hurried: KeySet::default(),
            targets: watch::channel(Arc::new(Targets::new([]))).1,
            bursts: Bursts::new(Prober::new(), burst.clone(), mpsc::channel(1).0),
            budget: Budget::new(&burst),
            board: Board::default(),
            leaving: BTreeMap::new(),
            roster: roster_tx,
            feedback: mpsc::channel(1).0,
            under_way: BTreeMap::new(),
            suspected: Suspected::default(),
            closed: BTreeSet::new(),
            keeper: None,
            kept: Orders::new(),
            paces: Paces::default(),
            probe_timeout: burst.timeout,
            shown: Standings::default(),
            probes: Probes::new(),
        };
        Self { judge, roster, _results: kept, _stop: shutdown.drop_guard() }
    }

    async fn replace(&mut self, services: Vec<VirtualService>) -> Replaced {
        let (reply, replaced) = oneshot::channel();
        let (table, administered) = (Arc::default(), BTreeSet::new());
        let dropped = Dropped::Deleted;
        self.judge.replace(Replacement { services, table, administered, dropped, reply }).await;
        replaced.await.unwrap()
    }

    /// The table as it is when it is as wanted.
    fn table(&self) -> Table {
        let mut table = Table::default();
        for edit in difference(&table, &wanted(&self.judge)) {
            table.apply(&edit).unwrap();
        }
        table
    }
}

#[tokio::test]
async fn health_stays_and_who_is_gone_leaves() {
    let mut court = Court::new(&services(&[(1, &[1, 1]), (2, &[1])]));
    let before = court.table();
    let sick = court.judge.decisions.all().next().unwrap().0;
    for _ in 0..3 {
        let heard = Heard { check: Some(0), success: false, source: Source::Baseline };
        court.judge.decisions.observe(&sick, heard, None, Instant::now());
    }
    court.roster.borrow_and_update();

    // A weight is nothing to the passive side.
    let replaced = court.replace(services(&[(1, &[4, 5]), (2, &[1])])).await;
    let none = Counted::default();
    assert_eq!(replaced, Replaced { table_changed: true, added: none, removed: none });
    assert!(court.judge.decisions.state(&sick).is_some_and(State::is_down), "its health is kept");
    assert!(!court.roster.has_changed().unwrap());

    let replaced = court.replace(services(&[(1, &[4, 5, 6])])).await;
    let (added, removed) =
        (Counted { services: 0, destinations: 1 }, Counted { services: 1, destinations: 1 });
    assert_eq!(replaced, Replaced { table_changed: true, added, removed });
    assert!(court.roster.has_changed().unwrap());
    let deletes = |judge: &Judge, table: &Table| {
        let edits = difference(table, &wanted(judge));
        edits.into_iter().filter(|edit| matches!(edit, Edit::DeleteService(_))).count()
    };
    assert_eq!(deletes(&court.judge, &before), 1);
    court.judge.let_go(Instant::now() + 2 * LEAVE);
    assert_eq!(deletes(&court.judge, &before), 0, "whoever adds it later is left alone");
}

#[tokio::test]
async fn a_service_that_comes_back_no_longer_leaves() {
    let both = services(&[(1, &[1]), (2, &[1])]);
    let mut court = Court::new(&both);
    court.replace(services(&[(1, &[1])])).await;
    assert_eq!(court.judge.leaving.len(), 1);
    court.replace(both.clone()).await;
    assert_eq!((court.judge.leaving.len(), wanted(&court.judge).unwanted.len()), (0, 0));
}

#[tokio::test]
async fn one_weight_of_many_is_one_edit() {
    let all = |weight: u16| {
        let (usual, other) = ([1; 10], [weight, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        let list: Vec<(u16, &[u16])> =
            (0..2000).map(|number| (number, if number == 7 { &other[..] } else { &usual[..] })).collect();
        services(&list)
    };
    let mut court = Court::new(&all(1));
    let before = court.table();
    let (begun, other) = (Instant::now(), all(9));
    let read = begun.elapsed();
    let replaced = court.replace(other).await;
    println!("2,000 services of 10: read in {read:?}, in force after {:?}", begun.elapsed());
    assert!(replaced.table_changed);
    let edits = difference(&before, &wanted(&court.judge));
    assert!(matches!(&edits[..], [Edit::SetDestination { .. }]), "{} edits", edits.len());
}
