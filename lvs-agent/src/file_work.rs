//! Work on files whose disk may hang: a network file system without its server, a pipe without its other end. Such work
//! has a thread that nobody can end. So there is one for each file at a time, a few in all, and nobody waits for longer
//! than he wants to: who stops waiting leaves the thread, and those who come later wait for the same one.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use nix::libc;
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Files that are worked on at once: a small part of tokio's blocking threads (512), which the kernel's table needs.
const AT_ONCE: usize = 32;

/// Those of this process.
static HERE: LazyLock<Turns> = LazyLock::new(|| Turns::new(AT_ONCE));

/// Whose turn it is.
struct Turns {
    all: Arc<Semaphore>,
    /// Those that somebody works on or waits for.
    files: Mutex<HashMap<PathBuf, Arc<Semaphore>>>,
}

/// Does `work`, which is about the file at `path`, when it has its turn. The caller limits the time.
pub(crate) async fn on_file<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    HERE.on_file(path, work).await
}

/// Reads the file at `path`, up to `limit` bytes of it.
pub(crate) async fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = path.to_owned();
    on_file(path, move || {
        let mut content = Vec::new();
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file)?;
        opened.take(limit).read_to_end(&mut content)?;
        Ok(content)
    })
    .await
}

impl Turns {
    fn new(at_once: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(at_once)), files: Mutex::default() }
    }

    async fn on_file<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let closed = |_| io::Error::other("no turn");
        let file = self.of(path).acquire_owned().await.map_err(closed)?;
        let one = self.all.clone().acquire_owned().await.map_err(closed)?;
        let done = spawn_blocking(move || {
            let outcome = work();
            // Kept to the end of the work, whoever still waits for it.
            drop((file, one));
            outcome
        });
        done.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    fn of(&self, path: &Path) -> Arc<Semaphore> {
        // The map is whole even after a panic: entries are inserted in one step.
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|_, turn| Arc::strong_count(turn) > 1);
        files.entry(path.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use tokio::{task::yield_now, time::timeout};

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_file_that_hangs_has_one_thread_and_holds_up_no_other() {
        let turns = Turns::new(4);
        let (begun, (release, hang)) = (Arc::new(AtomicUsize::new(0)), mpsc::channel::<()>());
        let hang = Arc::new(Mutex::new(hang));
        for _ in 0..20 {
            let (begun, hang) = (begun.clone(), hang.clone());
            let work = turns.on_file(Path::new("/hangs"), move || {
                begun.fetch_add(1, Ordering::Relaxed);
                hang.lock().unwrap().recv().ok();
                Ok(())
            });
            assert!(timeout(SHORT, work).await.is_err());
        }
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        assert_eq!(turns.on_file(Path::new("/works"), || Ok(7)).await.unwrap(), 7);
        drop(release);
        assert_eq!(turns.on_file(Path::new("/hangs"), || Ok(8)).await.unwrap(), 8);
        // A thread lets go of its turn a moment after others can have it.
        let forgotten = async {
            loop {
                turns.of(Path::new("/other"));
                if turns.files.lock().unwrap().len() == 1 {
                    return;
                }
                yield_now().await;
            }
        };
        timeout(LONG, forgotten).await.expect("what nobody needs is forgotten");
    }

    #[tokio::test]
    async fn many_files_that_hang_have_few_threads() {
        let turns = Turns::new(2);
        let (begun, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(3)));
        for number in 0..10 {
            let (begun, end) = (begun.clone(), end.clone());
            let path = PathBuf::from(format!("/{number}"));
            let work = turns.on_file(&path, move || {
                begun.fetch_add(1, Ordering::Relaxed);
                end.wait();
                Ok(())
            });
            assert!(timeout(SHORT, work).await.is_err());
        }
        assert_eq!(begun.load(Ordering::Relaxed), 2);
        spawn_blocking(move || end.wait()).await.unwrap();
        assert_eq!(turns.on_file(Path::new("/new"), || Ok(1)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_pipe_without_a_writer_is_read_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let content = timeout(Duration::from_secs(20), read(&pipe, 10)).await.expect("it doesn't hang");
        assert_eq!(content.unwrap(), b"");
    }
}
