//! What the tasks say to each other. A leaf: no task is imported here.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio::sync::oneshot;

use crate::{
    control::{Reloaded, SignalStatus},
    engine::{
        admin::{AdminCommand, CommandResult, ServerSelector, Unknown},
        status::DestinationStatus,
    },
    event::ListChange,
    ipvs::{IpvsError, Table},
    model::{DestinationKey, VirtualService},
    state_file::WriteReceipt,
};

/// Another list of services to decide about, from now on.
pub(crate) struct ServiceUpdate {
    /// All services, as a validated configuration has them.
    pub(crate) services: Vec<VirtualService>,
    /// The kernel's table as it was last read: how destinations stand in it that are new.
    pub(crate) table: Arc<Table>,
    /// Those that an administrator holds at weight 0.
    pub(crate) administered: BTreeSet<DestinationKey>,
    /// What becomes of services that are not in the list any more.
    pub(crate) dropped: RemovedServices,
    /// Told when it is done; the edits are on their way to the table by then.
    pub(crate) reply: oneshot::Sender<UpdateSummary>,
}

/// What becomes of services that are no longer in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemovedServices {
    /// They are deleted in the kernel's table.
    Deleted,
    /// They are nobody's business any more.
    LeftAlone,
}

/// What another list of services has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UpdateSummary {
    /// Whether the wanted table is another one.
    pub(crate) table_changed: bool,
    /// Services and destinations that are new.
    pub(crate) added: Counted,
    /// Services and destinations that were in the old list only.
    pub(crate) removed: Counted,
}

impl From<UpdateSummary> for ListChange {
    fn from(summary: UpdateSummary) -> Self {
        let UpdateSummary { added, removed, .. } = summary;
        Self {
            services_added: added.services,
            services_removed: removed.services,
            servers_added: added.destinations,
            servers_removed: removed.destinations,
        }
    }
}

/// So many services and destinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) services: usize,
    pub(crate) destinations: usize,
}

/// The services whose servers are watched.
pub(crate) type WatchedServices = Arc<[VirtualService]>;

/// Who wants to know of the signal of all destinations.
pub(crate) type SignalRequest = oneshot::Sender<HashMap<DestinationKey, SignalStatus>>;

/// Who wants to know how all destinations stand, in the order of the configuration.
pub(crate) type StatusRequest = oneshot::Sender<Vec<DestinationStatus>>;

/// An order, and who wants to know what has come of it.
#[derive(Debug)]
pub(crate) struct AdminRequest {
    pub(crate) order: AdminCommand,
    pub(crate) selector: ServerSelector,
    pub(crate) reply: oneshot::Sender<Result<CommandReply, Unknown>>,
}

/// What has come of an order.
#[derive(Debug)]
pub(crate) struct CommandReply {
    pub(crate) ordered: Vec<CommandResult>,
    /// The order, on its way into the state file.
    pub(crate) kept: Option<WriteReceipt>,
}

/// Someone who wants the configuration to be read again, and to know what comes of it.
pub(crate) type ReloadRequest = oneshot::Sender<Result<Reloaded, NotReloaded>>;

/// Why the old configuration stays in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReloaded {
    /// In the words that it is told with when the agent starts.
    #[error("{0}")]
    Faulty(String),
    #[error("the agent was started without a configuration file, so there is none to reload")]
    NoFile,
    #[error("the kernel's table can't be read: {0}")]
    Table(#[from] IpvsError),
    #[error("the agent is stopping")]
    Stopping,
}
