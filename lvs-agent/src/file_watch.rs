//! Watches a file for changes: written in place, replaced as editors do, or reached by a link that has changed.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd as _, AsRawFd, RawFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tracing::warn;

/// A changed file is read after this long without an event, as an editor is done with it then …
const SETTLE: Duration = Duration::from_millis(100);
/// … and at the latest this long after the first event.
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// … but not while somebody has it open who has written to it, for so long at most.
const UNFINISHED_MAX: Duration = Duration::from_mins(1);
/// The pause between two tries to watch a directory that doesn't exist.
const RETRY: Duration = Duration::from_secs(1);

/// Watches the directory that a file is in and, if the file is a link, the directory of its target.
pub(crate) struct FileWatch {
    path: PathBuf,
    inotify: AsyncFd<Registered>,
    /// The directories, and the names in them that matter.
    directories: HashMap<WatchDescriptor, Names>,
    /// Whether all of these directories are watched.
    complete: bool,
    /// Names that somebody is writing to: half a file is no content.
    written: HashSet<(WatchDescriptor, OsString)>,
}

/// An inotify instance that tokio can wait for.
struct Registered(Inotify);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Which names in a directory matter.
#[derive(Debug, Default)]
struct Names {
    exact: Vec<OsString>,
    /// Every name matters: the file is reached by links, which may be exchanged under any name.
    any: bool,
    path: PathBuf,
}

impl Names {
    /// Whether it is a file of its own, which whoever has made it will close: no link.
    fn is_new_file(&self, name: &OsStr) -> bool {
        let metadata = self.path.join(name).symlink_metadata();
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
    }
}

impl FileWatch {
    /// Starts to watch.
    #[expect(unsafe_code, reason = "tokio cannot know that a descriptor stays the same")]
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // SAFETY: the instance owns its file descriptor, always gives the same one, and closes it only when it is
        // dropped, together with the `AsyncFd` around it.
        let registered = unsafe { AsyncFd::register_with_interest(Registered(inotify), Interest::READABLE) };
        let inotify = registered.map_err(|error| error.into_parts().1)?;
        let mut watch = Self {
            path: path.to_owned(),
            inotify,
            directories: HashMap::new(),
            complete: false,
            written: HashSet::new(),
        };
        watch.watch_directories();
        Ok(watch)
    }

    /// Waits until the file may have changed and its writer is done. If it is dropped at an await, the change so far
    /// may be lost.
    pub(crate) async fn changed(&mut self) {
        if self.complete {
            self.event().await;
        }
        // There is no event when a missing directory appears; a new file may be in it.
        while !self.complete {
            sleep(RETRY).await;
            self.watch_directories();
        }
        let latest = Instant::now() + SETTLE_MAX;
        let unfinished = Instant::now() + UNFINISHED_MAX;
        loop {
            let until = if self.written.is_empty() { latest } else { unfinished };
            let quiet = if self.written.is_empty() { (Instant::now() + SETTLE).min(until) } else { until };
            if Instant::now() >= until || timeout_at(quiet, self.event()).await.is_err() {
                break;
            }
        }
        // Whoever still writes is not waited for any longer.
        self.written.clear();
        // Folders and links may have changed.
        self.watch_directories();
    }

    /// Waits for an event that concerns the file.
    async fn event(&mut self) {
        loop {
            let Ok(mut ready) = self.inotify.readable_mut().await else {
                // The runtime is shutting down.
                return std::future::pending().await;
            };
            let events = match ready.get_inner().0.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Err(error) => {
                    warn!("autoreload: {error}");
                    sleep_until(Instant::now() + RETRY).await;
                    continue;
                }
            };
            if events.iter().any(|event| self.is_lost(event)) {
                self.complete = false;
                return;
            }
            // Each of them is noted, also those behind the first that matters.
            let changes = events.into_iter().filter(|event| self.note(event)).count();
            if changes > 0 {
                return;
            }
        }
    }

    /// Whether changes of the file may be missed from now on.
    fn is_lost(&self, event: &InotifyEvent) -> bool {
        const GONE: AddWatchFlags =
            AddWatchFlags::IN_DELETE_SELF.union(AddWatchFlags::IN_MOVE_SELF).union(AddWatchFlags::IN_UNMOUNT);
        event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
            || event.mask.intersects(GONE) && self.directories.contains_key(&event.wd)
    }

    /// Takes note of an event; whether the file may have another content now, be it a part of it.
    fn note(&mut self, event: &InotifyEvent) -> bool {
        const OVER: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
            .union(AddWatchFlags::IN_MOVED_TO)
            .union(AddWatchFlags::IN_MOVED_FROM)
            .union(AddWatchFlags::IN_DELETE);
        const ABSENT: AddWatchFlags = AddWatchFlags::IN_MOVED_FROM.union(AddWatchFlags::IN_DELETE);
        let (Some(names), Some(name)) = (self.directories.get(&event.wd), &event.name) else { return false };
        if !names.any && !names.exact.contains(name) {
            return false;
        }
        let key = (event.wd, name.clone());
        if event.mask.intersects(OVER) {
            self.written.remove(&key);
        } else if event.mask.contains(AddWatchFlags::IN_MODIFY) || names.is_new_file(name) {
            self.written.insert(key);
        }
        !event.mask.intersects(ABSENT)
    }

    /// Watches the directories that the file is in now.
    fn watch_directories(&mut self) {
        let is_link = self.path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_symlink());
        let real = self.path.canonicalize().ok().filter(|real| *real != self.path);
        let before = std::mem::take(&mut self.directories);
        self.complete = true;
        for path in [Some(self.path.clone()), real].into_iter().flatten() {
            let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            let flags = AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_MODIFY
                | AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_ONLYDIR;
            match self.inotify.get_ref().0.add_watch(directory, flags) {
                Ok(wd) => {
                    let names = self.directories.entry(wd).or_default();
                    names.exact.push(name.to_owned());
                    names.any |= is_link;
                    directory.clone_into(&mut names.path);
                }
                Err(_) => self.complete = false,
            }
        }
        for wd in before.into_keys().filter(|wd| !self.directories.contains_key(wd)) {
            // It fails if the directory is gone, and the watch with it.
            self.inotify.get_ref().0.rm_watch(wd).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, time::Duration};

    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Makes a change, which the watch must notice.
    async fn assert_noticed(watch: &mut FileWatch, change: impl FnOnce()) {
        change();
        timeout(PATIENCE, watch.changed()).await.expect("the change is noticed");
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let (directory, file) = (directory.path(), directory.path().join("a.toml"));
        fs::write(&file, "1").unwrap();
        let mut watch = FileWatch::new(&file).unwrap();
        assert_noticed(&mut watch, || fs::write(&file, "2").unwrap()).await;
        // As vim does: it renames the old file and writes a new one.
        assert_noticed(&mut watch, || {
            fs::rename(&file, directory.join("a.toml~")).unwrap();
            fs::write(&file, "3").unwrap();
        })
        .await;
        // As most other editors do.
        assert_noticed(&mut watch, || {
            fs::write(directory.join(".a.tmp"), "4").unwrap();
            fs::rename(directory.join(".a.tmp"), &file).unwrap();
        })
        .await;
        assert_noticed(&mut watch, || fs::write(&file, "5").unwrap()).await;
    }

    /// Somebody deletes the file and writes it anew, part by part: it is read once, when it is closed.
    #[tokio::test]
    async fn a_file_that_is_still_written_to_is_not_read() {
        use std::io::Write as _;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.toml");
        fs::write(&file, "1").unwrap();
        for is_new in [true, false] {
            let mut watch = FileWatch::new(&file).unwrap();
            if is_new {
                fs::remove_file(&file).unwrap();
            }
            let mut writer = fs::File::create(&file).unwrap();
            writer.write_all(b"half").unwrap();
            let noticed = timeout(2 * SETTLE_MAX, watch.changed()).await;
            assert!(noticed.is_err(), "new {is_new}: it is not whole yet");
            writer.write_all(b" and half").unwrap();
            assert_noticed(&mut watch, || drop(writer)).await;
            assert_eq!(fs::read(&file).unwrap(), b"half and half");
        }
    }

    #[tokio::test]
    async fn the_target_of_a_link_is_watched() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        for version in ["one", "two"] {
            fs::create_dir(directory.join(version)).unwrap();
            fs::write(directory.join(version).join("a.toml"), version).unwrap();
        }
        fs::create_dir(directory.join("etc")).unwrap();
        // As volumes of a ConfigMap do: the link to the file stays, the one to its directory is exchanged.
        let (current, file) = (directory.join("etc/..data"), directory.join("etc/a.toml"));
        symlink("../one", &current).unwrap();
        symlink("..data/a.toml", &file).unwrap();
        let mut watch = FileWatch::new(&file).unwrap();
        assert_noticed(&mut watch, || fs::write(directory.join("one/a.toml"), "1").unwrap()).await;
        assert_noticed(&mut watch, || {
            symlink("../two", directory.join("etc/..new")).unwrap();
            fs::rename(directory.join("etc/..new"), &current).unwrap();
        })
        .await;
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_noticed(&mut watch, || fs::write(directory.join("two/a.toml"), "2").unwrap()).await;
    }

    #[tokio::test]
    async fn other_files_are_ignored_and_a_new_directory_is_watched() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("etc");
        fs::create_dir(&directory).unwrap();
        let file = directory.join("a.toml");
        fs::write(&file, "1").unwrap();
        let mut watch = FileWatch::new(&file).unwrap();
        fs::write(directory.join("b.toml"), "1").unwrap();
        let noticed = timeout(3 * SETTLE, watch.changed()).await;
        assert!(noticed.is_err(), "the change of another file");
        assert_noticed(&mut watch, || {
            fs::remove_dir_all(&directory).unwrap();
            fs::create_dir(&directory).unwrap();
            fs::write(&file, "2").unwrap();
        })
        .await;
        assert_noticed(&mut watch, || fs::write(&file, "3").unwrap()).await;
    }
}
