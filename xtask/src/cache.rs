//! What set-up has downloaded and built, kept outside `target/` so that `cargo clean` doesn't lose it.
//!
//! An entry is a directory. It is filled under a temporary name and then renamed, so an entry that exists is whole.

use std::env;
use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

/// The cache's directory: `$LVS_CACHE`, `$XDG_CACHE_HOME/lvs-agent` or `~/.cache/lvs-agent`.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Finds the cache's place; creates nothing.
    pub(crate) fn locate() -> Result<Self> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = variable("LVS_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|home| home.join("lvs-agent")))
            .or_else(|| env::home_dir().map(|home| home.join(".cache/lvs-agent")))
            .context("no place for the cache: set HOME or LVS_CACHE")?;
        Ok(Self { root: std::path::absolute(root)? })
    }

    /// The cache's own directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The path of an entry, whether it exists or not.
    pub(crate) fn entry(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The entry `name`, filled by `fill` unless it exists and `sound` accepts it.
    ///
    /// `fill` gets an empty directory. It runs under the cache's lock, so it must not ask for another entry.
    pub(crate) fn get_or_fill(
        &self,
        name: &str,
        sound: impl Fn(&Path) -> bool,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let entry = self.entry(name);
        if entry.is_dir() && sound(&entry) {
            return Ok(entry);
        }
        let _lock = self.lock()?;
        if entry.is_dir() {
            if sound(&entry) {
                return Ok(entry);
            }
            fs::remove_dir_all(&entry).with_context(|| format!("cannot remove {}", entry.display()))?;
        }
        let unfinished = self.unfinished()?;
        fill(unfinished.path()).with_context(|| format!("cannot make {}", entry.display()))?;
        publish(unfinished.path(), &entry)?;
        Ok(entry)
    }

    /// An empty directory on the cache's file system, removed with the returned value.
    ///
    /// Only called under the lock: what an earlier set-up has left unfinished is nobody's and goes.
    fn unfinished(&self) -> Result<tempfile::TempDir> {
        const PREFIX: &str = "unfinished-";
        for left in fs::read_dir(&self.root)? {
            let left = left?;
            if left.file_name().to_string_lossy().starts_with(PREFIX) {
                fs::remove_dir_all(left.path())?;
            }
        }
        tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&self.root)
            .with_context(|| format!("cannot make a directory in {}", self.root.display()))
    }

    /// Waits for other set-ups. The lock ends with the returned file.
    fn lock(&self) -> Result<File> {
        let path = self.root.join("lock");
        fs::create_dir_all(&self.root).with_context(|| format!("cannot make {}", self.root.display()))?;
        let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => println!("Waiting for another set-up that is at work …"),
            Err(TryLockError::Error(error)) => return Err(anyhow!(error).context("cannot lock the cache")),
        }
        file.lock().context("cannot lock the cache")?;
        Ok(file)
    }
}

/// Gives a finished directory its name.
fn publish(finished: &Path, entry: &Path) -> Result<()> {
    if let Some(parent) = entry.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    // A temporary directory is private (0700); an entry may be read by whoever may read the cache.
    fs::set_permissions(finished, Permissions::from_mode(0o755))
        .and_then(|()| fs::rename(finished, entry))
        .with_context(|| format!("cannot rename {} to {}", finished.display(), entry.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("cache");
        (directory, Cache { root })
    }

    fn left_over(cache: &Cache) -> usize {
        let names = fs::read_dir(cache.root()).expect("the cache exists");
        names.filter(|name| name.as_ref().is_ok_and(|n| n.file_name() != "lock")).count()
    }

    #[test]
    fn an_entry_is_filled_once() {
        let (_keep, cache) = cache();
        let fill = |directory: &Path| Ok(fs::write(directory.join("x"), "1")?);
        let entry = cache.get_or_fill("a/b", |_| true, fill).expect("filled");
        assert_eq!(fs::read_to_string(entry.join("x")).expect("the file"), "1");
        let again = cache.get_or_fill("a/b", |_| true, |_| anyhow::bail!("filled twice"));
        assert_eq!(again.expect("found"), entry);
    }

    #[test]
    fn a_failed_fill_leaves_nothing() {
        let (_keep, cache) = cache();
        let failed = cache.get_or_fill(
            "a",
            |_| true,
            |directory| {
                fs::write(directory.join("x"), "half")?;
                anyhow::bail!("interrupted")
            },
        );
        assert!(failed.is_err());
        assert_eq!(left_over(&cache), 0);
    }

    #[test]
    fn what_a_killed_set_up_left_is_removed() {
        let (_keep, cache) = cache();
        fs::create_dir_all(cache.entry("unfinished-1/deep")).expect("made");
        cache.get_or_fill("a", |_| true, |_| Ok(())).expect("filled");
        assert_eq!(left_over(&cache), 1);
    }

    #[test]
    fn an_unsound_entry_is_filled_again() {
        let (_keep, cache) = cache();
        let old = |directory: &Path| Ok(fs::write(directory.join("old"), "")?);
        let new = |directory: &Path| Ok(fs::write(directory.join("new"), "")?);
        let has_new = |entry: &Path| entry.join("new").exists();
        cache.get_or_fill("a", has_new, old).expect("filled");
        let entry = cache.get_or_fill("a", has_new, new).expect("filled again");
        assert!(has_new(&entry) && !entry.join("old").exists());
    }
}
