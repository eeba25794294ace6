//! Writing down what the detector is shown, beside the task that shows it: the disk may be slow, the next tick is not.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel},
    thread,
    time::Duration,
};

use lvs_common::{ServerAnswered, ServerCounters, ServerId, ServerWaiting};
use nix::libc;
use tracing::warn;

use crate::passive::{View, trace::Recorder};

/// How much may wait for the disk: some 6 MB.
const WAITING: usize = 2_048;
/// How long the end of the agent waits for the disk to take what waits: a part of what a task has to stop.
const LAST: Duration = Duration::from_secs(2);

/// One thing that the detector was shown.
enum Entry {
    State(u64, Box<(View, ServerWaiting, ServerAnswered)>),
    Counters(u64, ServerId, Box<ServerCounters>),
}

/// A recording under way. Dropping it writes what waits.
pub(crate) struct Recording {
    /// `None` once the writer has ended.
    entries: Option<SyncSender<Entry>>,
    /// Closed by the writer's end.
    ended: Receiver<()>,
}

impl Recording {
    /// Begins a recording in a new file at `path`; one that is there is replaced.
    pub(crate) fn start(path: &Path) -> io::Result<Self> {
        // A pipe without a reader is refused at once.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        Self::to(file)
    }

    fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (entries, waiting) = sync_channel(WAITING);
        let (ending, ended) = channel();
        thread::Builder::new().name("recording".to_owned()).spawn(move || {
            // Dropped at the end, which may be a panic: the hook has logged it then.
            let _ending: Sender<()> = ending;
            if let Err(error) = write(out, &waiting) {
                warn!("the recording of passive detection has ended: {error}");
            }
        })?;
        Ok(Self { entries: Some(entries), ended })
    }

    /// Writes down a server's state. Never waits: what the writer has no room for is left out and counted.
    pub(super) fn state(
        &mut self,
        at_ns: u64,
        view: &View,
        waiting: &ServerWaiting,
        answered: &ServerAnswered,
    ) {
        self.send(Entry::State(at_ns, Box::new((*view, *waiting, *answered))));
    }

    /// The same for a server's counters.
    pub(super) fn counters(&mut self, at_ns: u64, id: ServerId, counters: &ServerCounters) {
        self.send(Entry::Counters(at_ns, id, Box::new(*counters)));
    }

    fn send(&mut self, entry: Entry) {
        let Some(entries) = &self.entries else { return };
        match entries.try_send(entry) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                crate::telemetry::metrics::count_dropped_records();
            }
            Err(TrySendError::Disconnected(_)) => self.entries = None,
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.entries = None;
        if self.ended.recv_timeout(LAST) == Err(RecvTimeoutError::Timeout) {
            warn!(
                "the recording of passive detection lacks its end: the disk did not take it within {LAST:?}"
            );
        }
    }
}

fn write(out: impl Write, waiting: &Receiver<Entry>) -> io::Result<()> {
    let mut recorder = Recorder::new(BufWriter::new(out));
    for entry in waiting {
        match entry {
            Entry::State(at_ns, shown) => {
                let (View { id, visibility, state }, waiting, answered) = *shown;
                recorder.waiting(at_ns, id, &waiting)?;
                recorder.answered(at_ns, id, &answered)?;
                recorder.state(at_ns, id, visibility, &state)?;
            }
            Entry::Counters(at_ns, id, counters) => recorder.counters(at_ns, id, &counters)?,
        }
    }
    recorder.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier, Mutex};

    use bytemuck::Zeroable as _;
    use lvs_common::ServerState;

    use super::*;
    use crate::passive::{
        Visibility,
        trace::{Player, Recorded},
    };

    const ID: ServerId = ServerId(3);

    fn show(recording: &mut Recording, at_ns: u64, progress_ns: u64) {
        let view = View { id: ID, visibility: Visibility::ClientOnly, state: state(progress_ns) };
        recording.state(at_ns, &view, &ServerWaiting::zeroed(), &ServerAnswered::zeroed());
    }

    fn state(progress_ns: u64) -> ServerState {
        let mut state = ServerState::zeroed();
        state.listener.progress_ns = progress_ns;
        state
    }

    /// A file in memory; the first write waits at the barrier, if there is one.
    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>, Option<Arc<Barrier>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(barrier) = self.1.take() {
                barrier.wait();
            }
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_shown_is_written_before_the_end() {
        let out = Out::default();
        let mut recording = Recording::to(out.clone()).unwrap();
        show(&mut recording, 7, 5);
        recording.counters(8, ID, &ServerCounters::zeroed());
        show(&mut recording, 9, 5);
        drop(recording);
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let records = Player::records(&text).unwrap();
        let at: Vec<u64> = records.iter().map(|record| record.at_ns).collect();
        assert_eq!(at, [7, 7, 7, 8], "no change, no line");
        assert_eq!(records[2].recorded, Recorded::State(Visibility::ClientOnly, Box::new(state(5))));
    }

    #[test]
    fn a_slow_disk_delays_nobody() {
        let barrier = Arc::new(Barrier::new(2));
        let out = Out(Arc::default(), Some(barrier.clone()));
        let mut recording = Recording::to(out.clone()).unwrap();
        // Comes to its end though nothing can be written.
        let all = 3 * WAITING as u64;
        for at_ns in 1..=all {
            show(&mut recording, at_ns, at_ns);
        }
        barrier.wait();
        drop(recording);
        let lines = String::from_utf8(out.0.lock().unwrap().clone()).unwrap().lines().count();
        assert!((WAITING..3 * WAITING).contains(&lines), "{lines} of {all}");
    }
}
