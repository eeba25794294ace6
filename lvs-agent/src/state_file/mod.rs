//! The state file: what the next agent must know, which is the weights that this agent has set and the admin commands
//! in effect. An unusable file never stops the agent, and no edit waits long for it to be written.

mod entry;
mod failure_note;
mod file;
mod scope;
mod writer;

pub(crate) use self::{
    failure_note::FailureNote,
    writer::{StateFile, StateWriter, WriteReceipt},
};

use std::collections::BTreeMap;

use self::writer::Opened;
use crate::event::Publisher;
use crate::{
    ipvs::overrides::Overrides,
    model::{Config, DestinationKey, Mode},
    pool::AdminCommands,
};

/// The admin commands in effect, by destination.
pub(crate) type SavedCommands = BTreeMap<DestinationKey, AdminCommands>;

/// The state that an agent saves for the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SavedState {
    pub(crate) overrides: Overrides,
    pub(crate) commands: SavedCommands,
}

/// The state that the previous agent has saved, and the writers of the new one. Without a file there are none.
#[derive(Default)]
pub(crate) struct Restored {
    pub(crate) saved: SavedState,
    pub(crate) overrides: Option<StateWriter<Overrides>>,
    pub(crate) commands: Option<StateWriter<SavedCommands>>,
    /// The task that writes the file.
    pub(crate) file: Option<StateFile>,
}

/// Reads the state file, if the agent is to have one.
pub(crate) fn restore(config: &Config, events: &Publisher) -> Restored {
    let path = config.agent.state.clone().filter(|_| config.agent.mode != Mode::Observe);
    let Some(Opened { saved, overrides, commands, file }) =
        path.and_then(|path| StateFile::open(path, events.clone()))
    else {
        return Restored::default();
    };
    Restored { saved, overrides: Some(overrides), commands: Some(commands), file: Some(file) }
}
