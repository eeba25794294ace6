//! Why the agent has failed, for the next start: a file beside the state file, which a failure may have left half done.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::model::PeerText;

/// The longest note that is read.
const MAX: usize = 1000;

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct FailureNote(PathBuf);

impl FailureNote {
    /// The one that belongs to the state file at `state`.
    pub(crate) fn beside(state: &Path) -> Self {
        let mut name = state.as_os_str().to_owned();
        name.push(".failure");
        Self(name.into())
    }

    /// Leaves `reason`.
    pub(crate) fn write(&self, reason: &str) -> io::Result<()> {
        fs::write(&self.0, reason)
    }

    /// Takes what the previous agent has left, if it has failed.
    pub(crate) fn take(&self) -> Option<String> {
        let text = fs::read(&self.0).ok()?;
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!("{} can't be removed: {error}", self.0.display());
        }
        // It goes to logs and terminals, and may quote anything.
        Some(PeerText::beginning(text, MAX).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let note = FailureNote::beside(&folder.path().join("state.json"));
        assert_eq!(note.take(), None);
        note.write("the task controller\nhas ended").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(note.take().as_deref(), Some("the task controller has ended"));
        assert_eq!(note.take(), None);
    }
}
