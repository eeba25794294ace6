//! A file that one process at a time can have: a lock of flock(2), which the kernel releases however the process ends.
//!
//! Nothing here waits, and nothing that somebody else has put there is believed: neither a link nor a file that another
//! user owns or may write to.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process,
};

use nix::{libc, unistd::geteuid};

/// Who could write to a file or folder besides its owner.
const OTHERS_WRITE: u32 = 0o022;
/// How often the file may be gone again between its opening and its locking: each time an agent has ended meanwhile.
const TRIES: usize = 10;
/// The longest process id, in bytes.
const PID_LENGTH: u64 = 10;

/// Held while it lives. The file goes with it, except after a kill, which leaves it behind unlocked.
#[derive(Debug)]
pub(crate) struct FileLock {
    path: PathBuf,
    _file: File,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// A process has it; its id as that process sees it.
    #[error("another process has locked {path}", path = .path.display())]
    Held { path: PathBuf, process: Option<u32> },
    /// What is there could be somebody else's trap.
    #[error("{path} is not to be trusted: it {reason}; remove it, or give it to this user and take others the right to write", path = .path.display())]
    Untrusted { path: PathBuf, reason: &'static str },
    /// The kernel refuses.
    #[error("{path}: {error}", path = .path.display())]
    Io { path: PathBuf, error: io::Error },
}

impl FileLock {
    /// Locks the file at `path`, which is made if it isn't there, for this user alone.
    pub(crate) fn claim(path: &Path) -> Result<Self, LockError> {
        let failed = |error| LockError::Io { path: path.to_owned(), error };
        let untrusted = |reason| LockError::Untrusted { path: path.to_owned(), reason };
        for _ in 0..TRIES {
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .mode(0o600)
                // A pipe must not hang it, nor a link lead it elsewhere.
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(path);
            let mut file = match opened {
                Ok(file) => file,
                Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                    return Err(untrusted("is a symbolic link"));
                }
                Err(error) => return Err(failed(error)),
            };
            let metadata = file.metadata().map_err(failed)?;
            if !metadata.is_file() {
                return Err(untrusted("is no regular file"));
            }
            if let Some(reason) = distrust(&metadata) {
                return Err(untrusted(reason));
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held { path: path.to_owned(), process: holder(&mut file) });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // The last holder takes the file away with its lock: whoever has opened it before has locked nothing.
            if fs::symlink_metadata(path).is_ok_and(|there| is_same(&there, &metadata)) {
                note(&mut file);
                return Ok(Self { path: path.to_owned(), _file: file });
            }
        }
        Err(failed(io::Error::new(io::ErrorKind::ResourceBusy, "it is removed again and again")))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // While it is locked: see `claim`.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("removing {}: {error}", self.path.display());
        }
    }
}

/// Makes the folder at `path` for this user alone, if only that is missing, and makes sure that nobody else but root
/// can put anything into it.
pub(crate) fn private_folder(path: &Path) -> Result<(), LockError> {
    let failed = |error| LockError::Io { path: path.to_owned(), error };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    let reason = if metadata.is_dir() { distrust(&metadata) } else { Some("is no folder") };
    reason.map_or(Ok(()), |reason| Err(LockError::Untrusted { path: path.to_owned(), reason }))
}

/// Why a file or folder is not believed, if it isn't.
fn distrust(metadata: &Metadata) -> Option<&'static str> {
    let owner = metadata.uid();
    if owner != 0 && owner != geteuid().as_raw() {
        return Some("belongs to another user");
    }
    (metadata.mode() & OTHERS_WRITE != 0).then_some("may be written to by others")
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Leaves this process's id for whoever is refused. On a full disk there is none.
fn note(file: &mut File) {
    let noted = file.set_len(0).and_then(|()| write!(file, "{}", process::id()));
    if let Err(error) = noted {
        tracing::debug!("the lock has no process id: {error}");
    }
}

/// The process that has the lock, if it has said so.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_LENGTH).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{PermissionsExt as _, symlink},
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    use nix::{
        sys::stat::Mode,
        unistd::{Gid, Uid, chown, mkfifo},
    };

    use super::*;

    #[test]
    fn a_lock_is_had_once_and_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let first = FileLock::claim(&path).unwrap();
        match FileLock::claim(&path).unwrap_err() {
            LockError::Held { process: Some(process), .. } => assert_eq!(process, process::id()),
            other => panic!("{other}"),
        }
        drop(first);
        assert!(!path.exists());
        // A killed agent leaves the file.
        fs::write(&path, "1234567").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let _again = FileLock::claim(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), process::id().to_string());
    }

    /// Guards the look at the path after the lock: without it two have it now and then.
    #[test]
    fn never_two_have_it_while_it_comes_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let (holders, claims) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while claims.load(Ordering::SeqCst) < 2000 {
                        let Ok(lock) = FileLock::claim(&path) else { continue };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two have it");
                        claims.fetch_add(1, Ordering::SeqCst);
                        holders.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }

    #[test]
    fn what_others_may_have_put_there_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("mine"), "").unwrap();
        symlink(path("mine"), path("link")).unwrap();
        symlink(path("nowhere"), path("dangling")).unwrap();
        mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        fs::write(path("open"), "").unwrap();
        fs::set_permissions(path("open"), fs::Permissions::from_mode(0o666)).unwrap();
        let mut cases = vec![
            ("link", "is a symbolic link"),
            ("dangling", "is a symbolic link"),
            ("pipe", "is no regular file"),
            ("open", "may be written to by others"),
        ];
        fs::write(path("theirs"), "").unwrap();
        if chown(&path("theirs"), Some(Uid::from_raw(1234)), Some(Gid::from_raw(1234))).is_ok() {
            cases.push(("theirs", "belongs to another user"));
        }
        for (name, expected) in cases {
            let error = FileLock::claim(&path(name)).unwrap_err();
            assert!(
                matches!(error, LockError::Untrusted { reason, .. } if reason == expected),
                "{name}: {error}"
            );
        }
        assert!(!path("nowhere").exists());
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("run");
        private_folder(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        private_folder(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(private_folder(&folder).unwrap_err().to_string().contains("written to by others"));
        symlink(parent.path(), parent.path().join("link")).unwrap();
        assert!(
            private_folder(&parent.path().join("link")).unwrap_err().to_string().contains("is no folder")
        );
        let nowhere = private_folder(&parent.path().join("a/b")).unwrap_err();
        assert!(matches!(nowhere, LockError::Io { .. }), "{nowhere}");
    }
}
