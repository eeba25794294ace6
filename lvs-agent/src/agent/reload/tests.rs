use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

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

/// A reload task with a file and without a kernel: no test adds a destination, so that the table isn't read.
struct Running {
    _directory: TempDir,
    file: PathBuf,
    requests: mpsc::Sender<ReloadRequest>,
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

/// SIGHUP reaches all tests in the process: only its own test listens to it, the others to a signal that
/// is never raised.
fn start(text: &str) -> Running {
    start_with(text, SignalKind::user_defined1())
}

fn start_with(text: &str, reload_signal: SignalKind) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agent.toml");
    fs::write(&file, text).unwrap();
    let source = Source::new(file.clone(), Strictness::Lenient, None);
    let config = Arc::new(source.read().unwrap().config);
    let (updates_tx, updates) = mpsc::channel(1);
    let (in_force_tx, in_force) = latest::channel(config.clone());
    let (events, recorded) = (Publisher::default(), Recorded::default());
    events.subscribe(recorded.clone());
    let outputs = Outputs {
        updates: updates_tx,
        in_force: in_force_tx,
        desired: DesiredTable::default(),
        notifier: Notifier::new(Publisher::default()).0,
        events: events.clone(),
        phase: PhaseHandle::unheard(),
    };
    let (requests, requests_rx) = mpsc::channel(1);
    let shutdown = CancellationToken::new();
    let hangups = signal(reload_signal).unwrap();
    let inputs = Inputs { hangups, requests: requests_rx };
    tokio::spawn(Reload::new(Some(source), config, outputs).run(inputs, shutdown.clone()));
    Running {
        _directory: directory,
        file,
        requests,
        updates,
        in_force,
        recorded,
        _stop: shutdown.drop_guard(),
    }
}

impl Running {
    /// Requests a reload and answers as the controller does. Returns the outcome and the weights that the controller
    /// got.
    async fn reload(&mut self) -> (Result<Reloaded, NotReloaded>, Option<Vec<u16>>) {
        let (reply, mut outcome) = oneshot::channel();
        self.requests.send(reply).await.unwrap();
        let reload = async {
            let mut weights = None;
            loop {
                tokio::select! {
                    outcome = &mut outcome => return (outcome.unwrap(), weights),
                    Some(update) = self.updates.recv() => weights = Some(accept(update)),
                }
            }
        };
        timeout(PATIENCE, reload).await.expect("an outcome")
    }

    /// The weights that the controller gets next, without a request.
    async fn next_weights(&mut self) -> Vec<u16> {
        accept(timeout(PATIENCE, self.updates.recv()).await.expect("services").unwrap())
    }
}

/// Answers as the controller does.
fn accept(update: ServiceUpdate) -> Vec<u16> {
    let weights = update.services[0].servers.iter().map(|server| server.weight.0).collect();
    update.reply.send(UpdateSummary { table_changed: true, ..UpdateSummary::default() }).unwrap();
    weights
}

#[tokio::test]
async fn a_changed_weight_reaches_the_controller_and_a_faulty_file_does_not() {
    let mut running = start(&text("", [1, 1]));
    let (outcome, weights) = running.reload().await;
    assert_eq!((outcome.unwrap(), weights), (Reloaded::default(), None), "nothing has changed");

    fs::write(&running.file, text("", [1, 5])).unwrap();
    let (outcome, weights) = running.reload().await;
    assert_eq!((outcome.unwrap().table_changed, weights), (true, Some(vec![1, 5])));

    fs::write(&running.file, text("", [1, 7]).replace("weight = 7", "weigth = 7")).unwrap();
    let (outcome, weights) = running.reload().await;
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("agent.toml:11:1") && error.contains("weigth"), "{error}");
    assert_eq!(weights, None);
    assert_eq!(running.in_force.borrow().services[0].servers[1].weight.0, 5);

    fs::remove_file(&running.file).unwrap();
    let error = running.reload().await.0.unwrap_err().to_string();
    assert!(error.contains("no such file"), "{error}");
}

#[tokio::test]
async fn a_password_in_the_clear_is_refused_and_what_is_in_force_stays() {
    let mut running = start(&text("", [1, 5]));
    let check = "check = { type = \"imap\", user = \"u\", password = \"PRIVATE\", port = 143 }\n";
    fs::write(&running.file, text("", [1, 7]) + check).unwrap();
    let (outcome, weights) = running.reload().await;
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("agent.toml:12:38") && error.contains("password-unencrypted = true"), "{error}");
    assert!(!error.contains("PRIVATE"), "{error}");
    assert_eq!(weights, None);
    assert_eq!(running.in_force.borrow().services[0].servers[1].weight.0, 5);
}

#[tokio::test]
async fn each_reload_warns_of_settings_that_need_a_restart() {
    let mut running = start(&text("", [1, 1]));
    fs::write(&running.file, text("metrics = \"off\"\non-exit = \"remove\"", [1, 1])).unwrap();
    for _ in 0..2 {
        let warnings = running.reload().await.0.unwrap().warnings;
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(warning.contains("`metrics` in `[agent]`") && !warning.contains("on-exit"), "{warning}");
    }
    let config = running.in_force.borrow().clone();
    assert_eq!((config.agent.metrics.is_some(), config.agent.on_exit), (true, OnExit::Remove));
}

#[tokio::test]
async fn a_reload_says_what_it_takes_over() {
    let mut running = start(&text("", [1, 1]));
    let with = |lines: &str| text("", [1, 1]).replace("forward", &format!("{lines}\nforward"));
    let list = "the list of services and servers is unchanged";
    for (lines, taken_over) in [
        ("fall = 7", Some("fall of tcp 192.0.2.1:80")),
        ("fall = 7\nscheduler = \"rr\"", Some("scheduler of tcp 192.0.2.1:80")),
        ("fall = 7\nscheduler = \"rr\"", None),
        ("", Some("fall of tcp 192.0.2.1:80, scheduler of tcp 192.0.2.1:80")),
    ] {
        fs::write(&running.file, with(lines)).unwrap();
        let said = running.reload().await.0.unwrap().to_string();
        let expected = match taken_over {
            Some(words) => format!("{list}, taken over: {words}; the table changes"),
            None => format!("{list}; the table stays as it is"),
        };
        assert_eq!(said, expected, "{lines}");
    }
}

#[tokio::test]
async fn sighup_reloads() {
    let mut running = start_with(&text("", [1, 1]), SignalKind::hangup());
    fs::write(&running.file, text("", [1, 3])).unwrap();
    raise(Number::SIGHUP).unwrap();
    assert_eq!(running.next_weights().await, [1, 3]);
}

#[tokio::test]
async fn the_file_is_watched_while_the_configuration_says_so() {
    let mut running = start(&text("autoreload = true", [1, 1]));
    // Whether the watch has started by then or not: the file is read when it starts.
    fs::write(&running.file, text("autoreload = true", [1, 3])).unwrap();
    assert_eq!(running.next_weights().await, [1, 3]);
    fs::write(&running.file, "[agent").unwrap();
    let update = running.file.with_extension("new");
    fs::write(&update, text("", [1, 4])).unwrap();
    fs::rename(&update, &running.file).unwrap();
    assert_eq!(running.next_weights().await, [1, 4]);
    running.in_force.wait_for(|now| !now.agent.autoreload).await.unwrap();
    // No longer watched: only a request reloads it.
    fs::write(&running.file, text("", [1, 6])).unwrap();
    let (outcome, weights) = running.reload().await;
    assert_eq!((outcome.is_ok(), weights), (true, Some(vec![1, 6])));
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

/// The file without its last server.
fn cut(whole: &str) -> &str {
    &whole[..whole.rfind("[[service.server]]").unwrap()]
}

impl Running {
    /// Waits until the task has looked at half a file.
    async fn doubts(&mut self) {
        let looked = async {
            loop {
                let records = self.recorded.take();
                if records
                    .iter()
                    .any(|record| matches!(record.event, Event::Config(ConfigNotice::Doubt { .. })))
                {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, looked).await.expect("a doubt");
    }
}

/// Puts a text in place of the file.
type Write = fn(&Path, &str);

/// Each way to put half a file in place that tells nobody that more will come.
#[tokio::test]
async fn half_a_file_deletes_nothing_and_the_whole_is_taken_over() {
    let ways: [(&str, Write); 4] = [
        ("deleted and written anew", |file, text| {
            fs::remove_file(file).unwrap();
            fs::write(file, text).unwrap();
        }),
        ("renamed", |file, text| {
            fs::write(file.with_extension("new"), text).unwrap();
            fs::rename(file.with_extension("new"), file).unwrap();
        }),
        ("truncated and written", |file, text| fs::write(file, text).unwrap()),
        ("emptied, then appended to line by line", |file, text| {
            fs::write(file, "").unwrap();
            for line in text.split_inclusive('\n') {
                fs::OpenOptions::new().append(true).open(file).unwrap().write_all(line.as_bytes()).unwrap();
            }
        }),
    ];
    for (way, write) in ways {
        let mut running = start(&text("autoreload = true", [1, 1]));
        // It is watched from then on.
        fs::write(&running.file, text("autoreload = true", [1, 2])).unwrap();
        assert_eq!(running.next_weights().await, [1, 2], "{way}");
        let whole = text("autoreload = true", [1, 7]);
        write(&running.file, cut(&whole));
        running.doubts().await;
        assert!(running.updates.try_recv().is_err(), "{way}");
        fs::write(&running.file, &whole).unwrap();
        assert_eq!(running.next_weights().await, [1, 7], "{way}");
    }
}

#[tokio::test]
async fn a_server_that_is_deleted_on_purpose_goes_after_a_while() {
    let mut running = start(&text("autoreload = true", [1, 1]));
    fs::write(&running.file, cut(&text("autoreload = true", [3, 1]))).unwrap();
    running.doubts().await;
    tokio::time::pause();
    let begun = Instant::now();
    assert_eq!(running.next_weights().await, [3]);
    assert!(begun.elapsed() > Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn half_a_file_is_looked_at_twice_on_demand() {
    tokio::time::pause();
    let mut running = start(&text("", [1, 1]));
    fs::write(&running.file, cut(&text("", [4, 1]))).unwrap();
    let begun = Instant::now();
    assert_eq!(running.reload().await.1, Some(vec![4]));
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_file_that_lacks_its_end_and_changes_all_the_time_is_refused() {
    let mut running = start(&text("", [1, 1]));
    fs::write(&running.file, cut(&text("", [9, 1]))).unwrap();
    let (file, stop) = (running.file.clone(), Arc::new(AtomicBool::new(false)));
    let end = stop.clone();
    let writer = std::thread::spawn(move || {
        for weight in (1..60_000).cycle() {
            // Never half of that: it is another that is renamed.
            fs::write(file.with_extension("new"), cut(&text("", [weight, 1]))).unwrap();
            fs::rename(file.with_extension("new"), &file).unwrap();
            if end.load(Ordering::Relaxed) {
                return;
            }
        }
    });
    let (outcome, weights) = running.reload().await;
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(matches!(outcome, Err(NotReloaded::Unfinished)), "{outcome:?}");
    assert_eq!(weights, None);
}
