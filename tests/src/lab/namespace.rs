//! Network namespaces that go away with their owner.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

/// Where `ip netns` keeps its names, so that `ip -n NAME` finds ours.
pub(crate) const DIRECTORY: &str = "/run/netns";

/// A named network namespace. The last clone takes the name away; the kernel deletes it after the last process in it.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Named>);

#[derive(Debug)]
struct Named {
    name: String,
    handle: File,
}

impl Namespace {
    /// Makes a new namespace for `role`, with a name that no other run has.
    pub fn create(role: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = name_of(process::id(), COUNT.fetch_add(1, Ordering::Relaxed), role);
        let path = path_of(&name);
        fs::create_dir_all(DIRECTORY).with_context(|| format!("cannot make {DIRECTORY}"))?;
        File::create_new(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let made = in_thread(|| make_here(&path)).and_then(|()| Ok(File::open(&path)?));
        match made {
            Ok(handle) => Ok(Self(Arc::new(Named { name, handle }))),
            Err(error) => {
                fs::remove_file(&path)?;
                Err(error.context(format!("cannot make the network namespace {name} (it takes root)")))
            }
        }
    }

    /// The name that `ip -n` takes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Runs `work` inside, on a thread of its own, and waits for it. Processes it starts are inside as well.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_thread(|| {
            setns(&self.0.handle, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter the network namespace {}", self.name()))?;
            work()
        })
    }

    /// Starts a thread inside that runs on its own.
    pub fn thread<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let namespace = Arc::clone(&self.0);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            setns(&namespace.handle, CloneFlags::CLONE_NEWNET)?;
            work()
        })?;
        Ok(thread)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            crate::warn(&format!("cannot remove the network namespace {}: {error}", self.name));
        }
    }
}

/// Makes the calling thread's new namespace known under `path`.
fn make_here(path: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    // `/proc/self` would be the process's first thread, which stays where it is.
    mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

/// Runs `work` on a thread of its own, which may change its namespace without harm to others.
fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join())
        .map_err(|_panic| anyhow!("a thread of the lab panicked"))?
}

/// Takes the name of a namespace away.
pub(crate) fn remove(name: &str) -> io::Result<()> {
    let path = path_of(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // Not mounted: a run was killed between the making of the file and the mount.
        Ok(()) | Err(nix::Error::EINVAL) => fs::remove_file(path),
        Err(error) => Err(error.into()),
    }
}

/// The file that stands for the namespace.
pub(crate) fn path_of(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// What every name begins with.
const PREFIX: &str = "lvs-lab-";

fn name_of(pid: u32, number: u32, role: &str) -> String {
    format!("{PREFIX}{pid}-{number}-{role}")
}

/// The process that made the namespace (or file) of this name, if the name is one of the lab's.
pub(crate) fn maker_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_maker() {
        assert_eq!(maker_of(&name_of(4711, 3, "director")), Some(4711));
        assert_eq!(maker_of("blue"), None);
        assert_eq!(maker_of("lvs-lab-x-1-director"), None);
    }
}
