//! Notices that a file may have another content: written in place, replaced as editors do, or reached by a link that
//! leads elsewhere now.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    os::fd::{AsFd as _, AsRawFd, RawFd},
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

/// A file is read when nothing has happened to it for so long: an editor is done with it then …
const SETTLE: Duration = Duration::from_millis(100);
/// … or so long after the first event, whatever goes on.
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// From one try to watch a folder that isn't there to the next.
const RETRY: Duration = Duration::from_secs(1);

/// Watches the folder that a file is in, and the one that it is in truth where it is a link.
pub(super) struct FileWatch {
    path: PathBuf,
    inotify: AsyncFd<Registered>,
    /// The folders, and the names in them that matter.
    folders: HashMap<WatchDescriptor, Names>,
    /// Whether all folders that should be are watched.
    whole: bool,
}

/// What tokio can wait for.
struct Registered(Inotify);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Which names in a folder matter.
#[derive(Debug, Default)]
struct Names {
    names: Vec<OsString>,
    /// The file is reached by links, which may be exchanged under any name.
    all: bool,
}

impl FileWatch {
    /// Watches from now on.
    #[expect(unsafe_code, reason = "tokio cannot know that a descriptor stays the same")]
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // SAFETY: the instance owns its file descriptor, gives out always the same one, and closes it only when it is
        // dropped, together with the `AsyncFd` around it.
        let registered = unsafe { AsyncFd::register_with_interest(Registered(inotify), Interest::READABLE) };
        let inotify = registered.map_err(|error| error.into_parts().1)?;
        let mut watch = Self { path: path.to_owned(), inotify, folders: HashMap::new(), whole: false };
        watch.follow();
        Ok(watch)
    }

    /// Waits until the file may have another content and its writer is done. Can be dropped at any await: what has
    /// happened by then is then perhaps not told.
    pub(super) async fn changed(&mut self) {
        if self.whole {
            self.event().await;
        }
        // Nothing tells that a missing folder has come; its coming may bring another file.
        while !self.whole {
            sleep(RETRY).await;
            self.follow();
        }
        let latest = Instant::now() + SETTLE_MAX;
        while Instant::now() < latest {
            let quiet = (Instant::now() + SETTLE).min(latest);
            if timeout_at(quiet, self.event()).await.is_err() {
                break;
            }
        }
        // Folders and links may be other ones now.
        self.follow();
    }

    /// Waits for an event that concerns the file.
    async fn event(&mut self) {
        loop {
            let Ok(mut ready) = self.inotify.readable_mut().await else {
                // The runtime ends.
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
                self.whole = false;
                return;
            }
            if events.iter().any(|event| self.concerns(event)) {
                return;
            }
        }
    }

    /// Whether it is no longer known what happens to the file.
    fn is_lost(&self, event: &InotifyEvent) -> bool {
        const GONE: AddWatchFlags =
            AddWatchFlags::IN_DELETE_SELF.union(AddWatchFlags::IN_MOVE_SELF).union(AddWatchFlags::IN_UNMOUNT);
        event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
            || event.mask.intersects(GONE) && self.folders.contains_key(&event.wd)
    }

    /// Whether something has happened to the file.
    fn concerns(&self, event: &InotifyEvent) -> bool {
        let (Some(names), Some(name)) = (self.folders.get(&event.wd), &event.name) else { return false };
        names.all || names.names.contains(name)
    }

    /// Watches the folders that the file is in now.
    fn follow(&mut self) {
        let is_link = self.path.symlink_metadata().is_ok_and(|found| found.file_type().is_symlink());
        let real = self.path.canonicalize().ok().filter(|real| *real != self.path);
        let before = std::mem::take(&mut self.folders);
        self.whole = true;
        for path in [Some(self.path.clone()), real].into_iter().flatten() {
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let flags = AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_ONLYDIR;
            match self.inotify.get_ref().0.add_watch(folder, flags) {
                Ok(wd) => {
                    let names = self.folders.entry(wd).or_default();
                    names.names.push(name.to_owned());
                    names.all |= is_link;
                }
                Err(_) => self.whole = false,
            }
        }
        for wd in before.into_keys().filter(|wd| !self.folders.contains_key(wd)) {
            // It fails where the folder has gone, and the watch with it.
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

    /// Does `change` while `watch` is waiting; whether it was noticed.
    async fn noticed(watch: &mut FileWatch, change: impl FnOnce()) {
        change();
        timeout(PATIENCE, watch.changed()).await.expect("the change is noticed");
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, file) = (folder.path(), folder.path().join("a.toml"));
        fs::write(&file, "1").unwrap();
        let mut watch = FileWatch::new(&file).unwrap();
        noticed(&mut watch, || fs::write(&file, "2").unwrap()).await;
        // As vim does: the old one is kept, a new one written.
        noticed(&mut watch, || {
            fs::rename(&file, folder.join("a.toml~")).unwrap();
            fs::write(&file, "3").unwrap();
        })
        .await;
        // As most others do.
        noticed(&mut watch, || {
            fs::write(folder.join(".a.tmp"), "4").unwrap();
            fs::rename(folder.join(".a.tmp"), &file).unwrap();
        })
        .await;
        noticed(&mut watch, || fs::write(&file, "5").unwrap()).await;
    }

    #[tokio::test]
    async fn a_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for version in ["one", "two"] {
            fs::create_dir(folder.join(version)).unwrap();
            fs::write(folder.join(version).join("a.toml"), version).unwrap();
        }
        fs::create_dir(folder.join("etc")).unwrap();
        // As volumes of a ConfigMap do: the link to the file stays, the one to its folder is exchanged.
        let (current, file) = (folder.join("etc/..data"), folder.join("etc/a.toml"));
        symlink("../one", &current).unwrap();
        symlink("..data/a.toml", &file).unwrap();
        let mut watch = FileWatch::new(&file).unwrap();
        noticed(&mut watch, || fs::write(folder.join("one/a.toml"), "1").unwrap()).await;
        noticed(&mut watch, || {
            symlink("../two", folder.join("etc/..new")).unwrap();
            fs::rename(folder.join("etc/..new"), &current).unwrap();
        })
        .await;
        assert_eq!(fs::read(&file).unwrap(), b"two");
        noticed(&mut watch, || fs::write(folder.join("two/a.toml"), "2").unwrap()).await;
    }

    #[tokio::test]
    async fn other_files_are_nobodys_business_and_a_folder_may_come_back() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("etc");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("a.toml");
        fs::write(&file, "1").unwrap();
        let mut watch = FileWatch::new(&file).unwrap();
        fs::write(folder.join("b.toml"), "1").unwrap();
        let told = timeout(3 * SETTLE, watch.changed()).await;
        assert!(told.is_err(), "another file was taken for it");
        noticed(&mut watch, || {
            fs::remove_dir_all(&folder).unwrap();
            fs::create_dir(&folder).unwrap();
            fs::write(&file, "2").unwrap();
        })
        .await;
        noticed(&mut watch, || fs::write(&file, "3").unwrap()).await;
    }
}
