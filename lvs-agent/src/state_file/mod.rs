//! The state file: what the next agent must know, which is the weights that this agent has set and the admin commands
//! in effect. An unusable file never stops the agent, and no edit waits long for it to be written.

mod entry;
mod failure_note;
mod file;
mod scope;
mod writer;

pub(crate) use self::{
    failure_note::FailureNote,
    writer::{Kept, StateFile, StateWriter, WriteReceipt},
};

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::timeout};

use self::writer::Opened;
use crate::{
    event::{Event, Publisher, StateFileChange},
    file_lock::{FileLock, LockError},
    ipvs::overrides::Overrides,
    model::{Config, DestinationKey, DirectorRole, Mode},
    pool::AdminCommands,
};

/// The admin commands in effect, by destination.
pub(crate) type SavedCommands = BTreeMap<DestinationKey, AdminCommands>;

/// The role that people have ordered, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SavedRole(pub(crate) Option<DirectorRole>);

/// The state that an agent saves for the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SavedState {
    pub(crate) overrides: Overrides,
    pub(crate) commands: SavedCommands,
    pub(crate) role: SavedRole,
}

/// The state that the previous agent has saved, and the writers of the new one. Without a file there are none.
#[derive(Default)]
pub(crate) struct Restored {
    pub(crate) saved: SavedState,
    pub(crate) overrides: Option<StateWriter<Overrides>>,
    pub(crate) commands: Option<StateWriter<SavedCommands>>,
    pub(crate) role: Option<StateWriter<SavedRole>>,
    /// The task that writes the file.
    pub(crate) file: Option<StateFile>,
    /// Keeps others from writing to it.
    pub(crate) lock: Option<FileLock>,
}

/// Another agent writes to the state file: the last one to write would undo what people have told the other.
#[derive(Debug, thiserror::Error)]
#[error(
    "another lvs-agent{} uses the state file {path}: that of another network namespace, or one that `execute` has \
     started; give each a file of its own (`state` in `[agent]`), and a control socket (`control`)",
    .process.map_or_else(String::new, |process| format!(" (process {process})")),
    path = .path.display()
)]
pub(crate) struct StateInUse {
    path: PathBuf,
    process: Option<u32>,
}

/// How long the file system may take for the state file at the start; from then on the agent does without.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads the state file, if the agent is to have one.
pub(crate) async fn restore(config: &Config, events: &Publisher) -> Result<Restored, StateInUse> {
    let Some(path) = config.agent.state.clone().filter(|_| config.agent.mode != Mode::Observe) else {
        return Ok(Restored::default());
    };
    let (file, theirs) = (path.clone(), events.clone());
    let error = match timeout(PATIENCE, spawn_blocking(move || open(file, &theirs))).await {
        Ok(Ok(restored)) => return restored,
        Ok(Err(error)) => error.to_string(),
        Err(_late) => format!("its file system takes longer than {} s", PATIENCE.as_secs()),
    };
    events.publish(Event::StateFile { path: Some(path), change: StateFileChange::Unavailable { error } });
    Ok(Restored::default())
}

/// Locks and reads the file. May take long.
fn open(path: PathBuf, events: &Publisher) -> Result<Restored, StateInUse> {
    let lock = lock(&path)?;
    let Some(opened) = StateFile::open(path, events.clone()) else {
        return Ok(Restored::default());
    };
    let Opened { saved, overrides, commands, role, file } = opened;
    let (overrides, commands, role) = (Some(overrides), Some(commands), Some(role));
    Ok(Restored { saved, overrides, commands, role, file: Some(file), lock })
}

/// Locks the state file. Where that can't be done for another reason than that somebody has it, there is no lock: the
/// agent is needed more than its state file.
fn lock(path: &Path) -> Result<Option<FileLock>, StateInUse> {
    let made = file::make_folder(path).map_err(|error| LockError::Io { path: path.to_owned(), error });
    match made.and_then(|()| FileLock::claim(&file::beside(path, ".lock"))) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Held { process, .. }) => Err(StateInUse { path: path.to_owned(), process }),
        Err(error) => {
            tracing::warn!("the state file {} can't be locked: {error}", path.display());
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AgentSettings;

    #[tokio::test]
    async fn two_agents_do_not_share_a_state_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/state.json");
        let config = |state: &Path| Config {
            agent: AgentSettings { state: Some(state.to_owned()), ..AgentSettings::default() },
            ..Config::of_table(Mode::Manage)
        };
        let restore = async |state: &Path| restore(&config(state), &Publisher::default()).await;
        let first = restore(&path).await.unwrap();
        let refused = restore(&path).await.map(drop).unwrap_err().to_string();
        let process = format!("(process {})", std::process::id());
        assert!(refused.contains(&process) && refused.contains("`state` in `[agent]`"), "{refused}");
        let _other = restore(&folder.path().join("run/other.json")).await.unwrap();
        drop(first);
        restore(&path).await.unwrap();
        let nowhere = restore(&folder.path().join("a/b/state.json")).await.unwrap();
        assert!(nowhere.lock.is_none() && nowhere.file.is_some(), "it is no reason not to start");
    }
}
