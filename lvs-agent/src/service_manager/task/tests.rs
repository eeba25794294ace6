use std::{os::unix::net::UnixDatagram as StdDatagram, path::Path};

use tempfile::TempDir;
use tokio::{net::UnixDatagram, time::timeout};

use super::*;
use crate::service_manager::{PhaseHandle, notices};

/// Longer than anything here takes, on a busy machine as well.
const PATIENCE: Duration = Duration::from_secs(20);

/// A service manager, as far as its socket goes, and an agent of which only these parts are there.
struct Bed {
    manager: UnixDatagram,
    phase: PhaseHandle,
    turns: mpsc::Receiver<TurnRequest>,
    shutdown: CancellationToken,
    _folder: TempDir,
}

impl Bed {
    fn new(watchdog: Option<Duration>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = StdDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let (mut task, phase, turns) = notices(ServiceManager::at(&path, watchdog));
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        tokio::spawn(async move { task.run(&token).await });
        Self { manager: UnixDatagram::from_std(manager).unwrap(), phase, turns, shutdown, _folder: folder }
    }

    /// The next message.
    async fn heard(&self) -> String {
        let mut buffer = [0; 4096];
        let length = timeout(PATIENCE, self.manager.recv(&mut buffer)).await.expect("a message").unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Whether there is no message for as long as `time`.
    async fn is_silent(&self, time: Duration) -> bool {
        let mut buffer = [0; 4096];
        timeout(time, self.manager.recv(&mut buffer)).await.is_err()
    }

    /// Makes one turn, as the controller does.
    async fn turn(&mut self, status: &str) {
        let request = timeout(PATIENCE, self.turns.recv()).await.expect("a question").unwrap();
        request.send(status.to_owned()).unwrap();
    }
}

impl ServiceManager {
    fn at(path: &Path, watchdog: Option<Duration>) -> Self {
        let address = std::os::unix::net::SocketAddr::from_pathname(path).unwrap();
        Self::new(address, watchdog)
    }
}

#[tokio::test]
async fn it_hears_of_the_start_a_reload_and_the_stop() {
    let mut bed = Bed::new(None);
    assert_eq!(bed.heard().await, "STATUS=starting");
    bed.turn("1 of 2 servers up").await;
    bed.phase.ready();
    // Which of the two comes first is left to chance: READY has the status that is known by then.
    let ready = bed.heard().await;
    assert!(ready.starts_with("READY=1\nSTATUS="), "{ready}");
    if ready.ends_with("starting") {
        assert_eq!(bed.heard().await, "STATUS=1 of 2 servers up");
    }
    let before = monotonic_ns() / 1000;
    let reload = bed.phase.reloading();
    let reloading = bed.heard().await;
    let lines: Vec<_> = reloading.lines().collect();
    assert_eq!((lines[0], lines[2]), ("RELOADING=1", "STATUS=reloading the configuration"));
    let time: u64 = lines[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
    assert!((before..=monotonic_ns() / 1000).contains(&time), "{reloading}");
    drop(reload);
    assert_eq!(bed.heard().await, "READY=1\nSTATUS=1 of 2 servers up");
    bed.shutdown.cancel();
    assert_eq!(bed.heard().await, "STOPPING=1\nSTATUS=stopping");
}

#[tokio::test]
async fn a_reload_that_nobody_has_seen_begin_is_told_whole() {
    let bed = Bed::new(None);
    assert_eq!(bed.heard().await, "STATUS=starting");
    bed.phase.ready();
    assert!(bed.heard().await.starts_with("READY=1"));
    drop(bed.phase.reloading());
    assert!(bed.heard().await.starts_with("RELOADING=1"));
    assert!(bed.heard().await.starts_with("READY=1"));
}

#[tokio::test]
async fn nothing_says_ready_before_the_agent_is() {
    let mut bed = Bed::new(None);
    assert_eq!(bed.heard().await, "STATUS=starting");
    let _reload = bed.phase.reloading();
    bed.turn("1 of 2 servers up").await;
    assert!(bed.is_silent(Duration::from_millis(200)).await);
}

/// The watchdog hears of each turn of the controller, and of nothing else.
#[tokio::test]
async fn a_controller_that_makes_no_turns_feeds_no_watchdog() {
    let period = Duration::from_millis(30);
    let mut bed = Bed::new(Some(period * FEEDINGS));
    assert_eq!(bed.heard().await, "STATUS=starting");
    bed.phase.ready();
    assert!(bed.heard().await.starts_with("READY=1"));
    bed.turn("all up").await;
    assert_eq!(bed.heard().await, "WATCHDOG=1\nSTATUS=all up");
    for _ in 0..3 {
        bed.turn("all up").await;
        assert_eq!(bed.heard().await, "WATCHDOG=1");
    }
    // It takes the question, and is stuck.
    let unanswered = timeout(PATIENCE, bed.turns.recv()).await.unwrap();
    assert!(bed.is_silent(period * FEEDINGS * 4).await);
    // What goes on beside it is told, and feeds nothing.
    drop(bed.phase.reloading());
    assert!(bed.heard().await.starts_with("RELOADING=1"));
    assert!(!bed.heard().await.contains("WATCHDOG"));
    unanswered.unwrap().send("1 of 2 up".to_owned()).unwrap();
    assert_eq!(bed.heard().await, "WATCHDOG=1\nSTATUS=1 of 2 up");
}

#[tokio::test]
async fn a_manager_that_is_gone_is_no_harm() {
    let mut bed = Bed::new(Some(Duration::from_millis(30)));
    assert_eq!(bed.heard().await, "STATUS=starting");
    bed.manager.shutdown(std::net::Shutdown::Both).unwrap();
    bed.phase.ready();
    for _ in 0..3 {
        bed.turn("all up").await;
    }
}
