use std::{fs, path::PathBuf, time::Duration};

use nix::sys::signal::{Signal as Number, raise};
use tempfile::TempDir;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use super::*;
use crate::event::{Record, Recorded};
use crate::{config::Strictness, model::OnExit};

const PATIENCE: Duration = Duration::from_secs(20);

/// A task that reloads, with a file and without a kernel: no test brings in a destination of which it would be asked.
struct Running {
    _folder: TempDir,
    file: PathBuf,
    asked: mpsc::Sender<ReloadRequest>,
    updates: mpsc::Receiver<ServiceUpdate>,
    in_force: latest::Receiver<Arc<Config>>,
    recorded: Recorded,
    _stop: tokio_util::sync::DropGuard,
}

fn text(agent: &str, weights: [u16; 2]) -> String {
    let servers = weights.iter().enumerate().map(|(number, weight)| {
        format!("[[service.server]]\naddress = \"10.0.0.{}:80\"\nweight = {weight}\n", number + 1)
    });
    let servers: String = servers.collect();
    let service = "[[service]]\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\n";
    format!("[agent]\n{agent}\n{service}{servers}")
}

fn start(text: &str) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    fs::write(&file, text).unwrap();
    let source = Source { path: file.clone(), strictness: Strictness::Lenient, mode: None };
    let config = Arc::new(source.read().unwrap().config);
    let (updates_tx, updates) = mpsc::channel(1);
    let (in_force_tx, in_force) = latest::channel(config.clone());
    let (events, recorded) = (Publisher::default(), Recorded::default());
    events.subscribe(recorded.clone());
    let outputs = Outputs {
        updates: updates_tx,
        in_force: in_force_tx,
        desired: DesiredTable::default(),
        notifier: Notifier::new().0,
        events: events.clone(),
    };
    let (asked, asked_rx) = mpsc::channel(1);
    let shutdown = CancellationToken::new();
    let hangups = signal(SignalKind::hangup()).unwrap();
    let inputs = Inputs { hangups, asked: asked_rx };
    tokio::spawn(Reload::new(Some(source), config, outputs).run(inputs, shutdown.clone()));
    Running { _folder: folder, file, asked, updates, in_force, recorded, _stop: shutdown.drop_guard() }
}

impl Running {
    /// Asks, lets the controller answer if it is asked, and says what came of it and the weights that the controller was given.
    async fn ask(&mut self) -> (Result<Reloaded, NotReloaded>, Option<Vec<u16>>) {
        let (reply, mut outcome) = oneshot::channel();
        self.asked.send(reply).await.unwrap();
        let asked = async {
            let mut weights = None;
            loop {
                tokio::select! {
                    outcome = &mut outcome => return (outcome.unwrap(), weights),
                    Some(update) = self.updates.recv() => weights = Some(judged(update)),
                }
            }
        };
        timeout(PATIENCE, asked).await.expect("an outcome")
    }

    /// What the controller is given next, without being asked for it.
    async fn given(&mut self) -> Vec<u16> {
        judged(timeout(PATIENCE, self.updates.recv()).await.expect("services").unwrap())
    }
}

/// Answers as the controller does.
fn judged(update: ServiceUpdate) -> Vec<u16> {
    let weights = update.services[0].servers.iter().map(|server| server.weight.0).collect();
    update.reply.send(UpdateSummary { table_changed: true, ..UpdateSummary::default() }).unwrap();
    weights
}

#[tokio::test]
async fn a_changed_weight_is_passed_on_and_a_faulty_file_is_not() {
    let mut running = start(&text("", [1, 1]));
    let (outcome, given) = running.ask().await;
    assert_eq!((outcome.unwrap(), given), (Reloaded::default(), None), "nothing has changed");

    fs::write(&running.file, text("", [1, 5])).unwrap();
    let (outcome, given) = running.ask().await;
    assert_eq!((outcome.unwrap().table_changed, given), (true, Some(vec![1, 5])));

    fs::write(&running.file, text("", [1, 7]).replace("weight = 7", "weigth = 7")).unwrap();
    let (outcome, given) = running.ask().await;
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("agent.toml:11:1") && error.contains("weigth"), "{error}");
    assert_eq!(given, None);
    assert_eq!(running.in_force.borrow().services[0].servers[1].weight.0, 5);

    fs::remove_file(&running.file).unwrap();
    let error = running.ask().await.0.unwrap_err().to_string();
    assert!(error.contains("no such file"), "{error}");
}

#[tokio::test]
async fn what_needs_a_restart_is_told_each_time_until_then() {
    let mut running = start(&text("", [1, 1]));
    fs::write(&running.file, text("metrics = \"off\"\non-exit = \"remove\"", [1, 1])).unwrap();
    for _ in 0..2 {
        let warnings = running.ask().await.0.unwrap().warnings;
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(warning.contains("`metrics` in `[agent]`") && !warning.contains("on-exit"), "{warning}");
    }
    let config = running.in_force.borrow().clone();
    assert_eq!((config.agent.metrics.is_some(), config.agent.on_exit), (true, OnExit::Remove));
}

#[tokio::test]
async fn a_hangup_makes_it_read() {
    let mut running = start(&text("", [1, 1]));
    fs::write(&running.file, text("", [1, 3])).unwrap();
    raise(Number::SIGHUP).unwrap();
    assert_eq!(running.given().await, [1, 3]);
}

#[tokio::test]
async fn the_file_is_watched_while_the_configuration_says_so() {
    let mut running = start(&text("autoreload = true", [1, 1]));
    // Whether the watch has begun by then or not: it looks at the file first.
    fs::write(&running.file, text("autoreload = true", [1, 3])).unwrap();
    assert_eq!(running.given().await, [1, 3]);
    fs::write(&running.file, "[agent").unwrap();
    let update = running.file.with_extension("new");
    fs::write(&update, text("", [1, 4])).unwrap();
    fs::rename(&update, &running.file).unwrap();
    assert_eq!(running.given().await, [1, 4]);
    running.in_force.wait_for(|now| !now.agent.autoreload).await.unwrap();
    // Not watched any more: only asking brings this.
    fs::write(&running.file, text("", [1, 6])).unwrap();
    let (outcome, given) = running.ask().await;
    assert_eq!((outcome.is_ok(), given), (true, Some(vec![1, 6])));
    let causes: Vec<ReloadCause> =
        running.recorded.take().into_iter().filter_map(|record| cause_of(&record)).collect();
    let (last, watched) = causes.split_last().unwrap();
    assert_eq!(*last, ReloadCause::Command);
    assert!(
        watched.len() >= 2 && watched.iter().all(|cause| *cause == ReloadCause::FileChanged),
        "{causes:?}"
    );
}

fn cause_of(record: &Record) -> Option<ReloadCause> {
    match &record.event {
        &Event::Reloaded { cause, .. } | &Event::ReloadFailed { cause, .. } => Some(cause),
        _ => None,
    }
}
