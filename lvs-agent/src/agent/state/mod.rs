//! What this agent writes down for the next one: whom it holds out of the kernel's table, and what people have ordered.

mod entry;
mod file;
mod keeper;
mod place;

pub(super) use self::keeper::{Keeper, StateFile, Ticket};

use std::collections::BTreeMap;

use self::keeper::Opened;
use super::adopt::Held;
use crate::{
    config::{Config, Mode},
    pool::Commands,
    service::DestinationKey,
};

/// What people have ordered, of those destinations of which they have ordered anything.
pub(super) type Orders = BTreeMap<DestinationKey, Commands>;

/// What an agent leaves to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) held: Held,
    pub(super) orders: Orders,
}

/// What the last agent has left, and how this one leaves something. Without a file: nothing, and nobody who writes.
#[derive(Default)]
pub(super) struct Recalled {
    pub(super) left: Left,
    pub(super) held: Option<Keeper<Held>>,
    pub(super) orders: Option<Keeper<Orders>>,
    /// To be run.
    pub(super) file: Option<StateFile>,
}

/// Reads the state file, where there is to be one.
pub(super) fn recall(config: &Config) -> Recalled {
    let path = config.agent.state.clone().filter(|_| config.agent.mode != Mode::Observe);
    let Some(Opened { left, held, orders, file }) = path.and_then(StateFile::open) else {
        return Recalled::default();
    };
    Recalled { left, held: Some(held), orders: Some(orders), file: Some(file) }
}
