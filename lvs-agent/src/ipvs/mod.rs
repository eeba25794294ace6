//! The kernel's IPVS table: read as a value, compared with what is wanted, edited over generic netlink.
//!
//! Facts about the kernel are from `include/uapi/linux/ip_vs.h` and `net/netfilter/ipvs/ip_vs_ctl.c` of Linux 6.1.

mod client;
pub mod codec;
mod connection;
pub(crate) mod connection_table;
mod daemon_sockets;
mod daemons;
mod difference;
mod edit;
mod editor;
mod error;
mod family;
pub(crate) mod overrides;
mod reader;
mod settings;
mod socket;
mod statistics;
mod sysctl;
mod table;
mod wanted;

pub use client::{AppliedEdit, IpvsClient};
pub use codec::{Daemon, DaemonRole, Info, Timeouts};
pub use daemon_sockets::{DaemonEditor, DaemonReader};
pub use daemons::{DaemonEdit, WantedDaemon, apply_daemon_edit, daemon_difference};
pub use difference::{difference, service_difference};
pub use edit::{Conflict, Edit};
pub use editor::TableEditor;
pub use error::{IpvsError, Operation};
pub(crate) use overrides::Snapshot;
pub use reader::{CountedTable, TableReader};
pub use statistics::{DestinationStatistics, Statistics, TableStatistics};
pub use sysctl::{Sysctl, SysctlValue};
pub use table::{
    Destination, InvalidSchedulerName, KernelWeight, SchedulerName, Service, ServiceEntry, ServiceFlags,
    Table,
};
pub use wanted::{Wanted, WantedDestination, WantedService, Wish};

#[cfg(test)]
pub(crate) mod arbitrary;
