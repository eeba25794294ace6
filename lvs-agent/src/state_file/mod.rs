//! What this agent writes down for the next one: whom it holds out of the kernel's table, and what people have ordered.

mod entry;
mod file;
mod scope;
mod writer;

pub(crate) use self::writer::{StateFile, StateWriter, WriteReceipt};

use std::collections::BTreeMap;

use self::writer::Opened;
use crate::event::Publisher;
use crate::{
    ipvs::overrides::Overrides,
    model::{Config, DestinationKey, Mode},
    pool::AdminCommands,
};

/// What people have ordered, of those destinations of which they have ordered anything.
pub(crate) type Orders = BTreeMap<DestinationKey, AdminCommands>;

/// What an agent leaves to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SavedState {
    pub(crate) overrides: Overrides,
    pub(crate) orders: Orders,
}

/// What the last agent has left, and how this one leaves something. Without a file: nothing, and nobody who writes.
#[derive(Default)]
pub(crate) struct Restored {
    pub(crate) left: SavedState,
    pub(crate) overrides: Option<StateWriter<Overrides>>,
    pub(crate) orders: Option<StateWriter<Orders>>,
    /// To be run.
    pub(crate) file: Option<StateFile>,
}

/// Reads the state file, where there is to be one.
pub(crate) fn restore(config: &Config, events: &Publisher) -> Restored {
    let path = config.agent.state.clone().filter(|_| config.agent.mode != Mode::Observe);
    let Some(Opened { left, overrides, orders, file }) =
        path.and_then(|path| StateFile::open(path, events.clone()))
    else {
        return Restored::default();
    };
    Restored { left, overrides: Some(overrides), orders: Some(orders), file: Some(file) }
}
