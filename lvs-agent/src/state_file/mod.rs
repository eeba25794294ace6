//! What this agent writes down for the next one: whom it holds out of the kernel's table, and what people have ordered.

mod entry;
mod file;
mod scope;
mod writer;

pub(crate) use self::writer::{Keeper, StateFile, Ticket};

use std::collections::BTreeMap;

use self::writer::Opened;
use crate::{
    ipvs::overrides::Held,
    model::{Config, DestinationKey, Mode},
    pool::Commands,
};

/// What people have ordered, of those destinations of which they have ordered anything.
pub(crate) type Orders = BTreeMap<DestinationKey, Commands>;

/// What an agent leaves to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) held: Held,
    pub(crate) orders: Orders,
}

/// What the last agent has left, and how this one leaves something. Without a file: nothing, and nobody who writes.
#[derive(Default)]
pub(crate) struct Recalled {
    pub(crate) left: Left,
    pub(crate) held: Option<Keeper<Held>>,
    pub(crate) orders: Option<Keeper<Orders>>,
    /// To be run.
    pub(crate) file: Option<StateFile>,
}

/// Reads the state file, where there is to be one.
pub(crate) fn recall(config: &Config) -> Recalled {
    let path = config.agent.state.clone().filter(|_| config.agent.mode != Mode::Observe);
    let Some(Opened { left, held, orders, file }) = path.and_then(StateFile::open) else {
        return Recalled::default();
    };
    Recalled { left, held: Some(held), orders: Some(orders), file: Some(file) }
}
