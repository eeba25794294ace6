//! The messages between the tasks. A leaf: it must never import a task.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tokio::sync::oneshot;

use crate::{
    control::{Reloaded, RoleOrder, SignalStatus},
    engine::{
        admin::{AdminCommand, CommandResult},
        selection::{ServerSelector, Unknown},
        served::Served,
        status::ServiceSummary,
    },
    event::{ListChange, RoleState},
    ipvs::{IpvsError, KernelWeight, Table},
    model::{DestinationKey, VirtualService},
    state_file::WriteReceipt,
};

/// Asks the reconciler for the weights in the kernel's table.
pub(crate) type WeightsRequest = oneshot::Sender<HashMap<DestinationKey, KernelWeight>>;

/// A new list of services for the controller.
pub(crate) struct ServiceUpdate {
    /// All services of a validated configuration.
    pub(crate) services: Vec<VirtualService>,
    /// The kernel's table as it was last read, for the presence of new destinations in it.
    pub(crate) table: Arc<Table>,
    /// The destinations that an administrator has set to weight 0.
    pub(crate) administered: BTreeSet<DestinationKey>,
    /// What becomes of services that are no longer in the list.
    pub(crate) dropped: RemovedServices,
    /// Answered when the controller has the list and the reconciler the edits.
    pub(crate) reply: oneshot::Sender<UpdateSummary>,
}

/// What becomes of services that are no longer in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemovedServices {
    /// They are deleted in the kernel's table.
    Deleted,
    /// They stay in the kernel's table, and are no longer managed.
    LeftAlone,
}

/// What a new list of services has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UpdateSummary {
    /// Whether the desired table has changed.
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

/// Numbers of services and destinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) services: usize,
    pub(crate) destinations: usize,
}

/// The services whose servers are watched.
pub(crate) type WatchedServices = Arc<[VirtualService]>;

/// Why services that ask for a second chance have none, by the services' names; `None`: nobody gives one.
pub(crate) type RefusedChances = Option<Arc<BTreeMap<String, String>>>;

/// A request for the passive signal of all destinations.
pub(crate) type SignalRequest = oneshot::Sender<HashMap<DestinationKey, SignalStatus>>;

/// A request for the status of all services, or of one, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct StatusRequest {
    /// The name, key or address of the only one.
    pub(crate) service: Option<String>,
    pub(crate) reply: oneshot::Sender<Result<Vec<ServiceSummary>, Unknown>>,
}

/// A request for how well services are served. Cheap, for thousands of servers as well.
pub(crate) type ServedRequest = oneshot::Sender<ServedNow>;

/// How well services are served.
#[derive(Clone, Debug)]
pub(crate) struct ServedNow {
    /// In the order of the configuration.
    pub(crate) services: Vec<Served>,
    /// Whether this director may lead traffic to itself, by its role.
    pub(crate) may_announce: bool,
}

/// An admin command, and where its result goes.
#[derive(Debug)]
pub(crate) struct AdminRequest {
    pub(crate) command: AdminCommand,
    pub(crate) selector: ServerSelector,
    pub(crate) reply: oneshot::Sender<Result<CommandReply, Unknown>>,
}

/// The result of an admin command.
#[derive(Debug)]
pub(crate) struct CommandReply {
    pub(crate) results: Vec<CommandResult>,
    /// Says when the command is in the state file; `None`: there is no such file.
    pub(crate) saved: Option<WriteReceipt>,
}

/// Asks for the role of this director, and orders one if it says so.
#[derive(Debug)]
pub(crate) struct RoleRequest {
    pub(crate) order: Option<RoleOrder>,
    pub(crate) reply: oneshot::Sender<RoleAnswer>,
}

/// The role now.
#[derive(Debug)]
pub(crate) struct RoleAnswer {
    pub(crate) state: RoleState,
    /// Whether people have ordered it.
    pub(crate) is_ordered: bool,
    /// Says when the order is in the state file; `None`: there is no such file.
    pub(crate) saved: Option<WriteReceipt>,
}

/// A request to reload the configuration.
pub(crate) type ReloadRequest = oneshot::Sender<Result<Reloaded, NotReloaded>>;

/// Why a reload has failed: the old configuration stays in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReloaded {
    /// The configuration has faults; the text is the same as when the agent starts.
    #[error("{0}")]
    Faulty(String),
    /// The file may be half of what it is to be.
    #[error("the file lacks what was at its end, and changes all the time; reload when its writer is done")]
    Unfinished,
    #[error("the agent was started without a configuration file, so there is none to reload")]
    NoFile,
    #[error("the kernel's table can't be read: {0}")]
    Table(IpvsError),
    #[error("the agent is stopping")]
    Stopping,
}
