//! Devices, routes and neighbours: where packets to a real server leave, and whose MAC address is whose.
//!
//! All of it is about the network namespace of the thread that connects. Facts about the kernel are from
//! `net/core/{rtnetlink,neighbour}.c`, `net/ipv4/route.c` and `net/ipv6/route.c` of Linux 6.1.
//!
//! | file | what is in it |
//! |---|---|
//! | `addresses.rs` | this host's own addresses, and the task that follows them |
//! | `link.rs` | network devices |
//! | `device_addresses.rs` | VIPs that are announced by being on a device |
//! | `probe_devices.rs` | devices for the source addresses of probes to VIPs |
//! | `filters.rs` | filters on a device's clsact qdisc |
//! | `route.rs` | the route to an address |
//! | `neighbour/` | the neighbour table: reading, resolving, watching |
//! | `change.rs` | notifications that devices, addresses, routes or rules have changed |
//! | `survey.rs` | all devices and the routes to all servers at one time |
//! | `survey_task.rs` | the task that takes such a snapshot whenever something has changed |
//! | `marks/` | which rules of the director look at a mark |
//! | `topology.rs` | the route to each server and what changes about it; pure |
//! | `attributes.rs`, `netlink.rs` | rtnetlink messages and the socket for them |
//! | `error.rs` | what can go wrong |

mod addresses;
mod attributes;
mod change;
mod device_addresses;
mod error;
mod filters;
pub mod link;
pub mod marks;
pub mod neighbour;
mod netlink;
mod probe_devices;
pub mod route;
mod survey;
mod survey_task;
mod topology;

pub use crate::model::Mac;
pub(crate) use addresses::OwnAddresses;
pub use change::NetworkChanges;
pub use device_addresses::{Added, Addresses, HostAddress};
pub use error::NetworkError;
pub use filters::Filters;
pub use link::{Link, Links};
pub use neighbour::{NeighbourChange, NeighbourState, NeighbourWatch, Neighbours};
pub use probe_devices::{ProbeDevices, ProbeSource};
pub use route::{NextHop, Route, RouteLookup, RouteQuery};
pub use survey::{Device, RouteSnapshot, ServerNextHop, Surveyor};
pub(crate) use survey_task::SurveyTask;
pub use topology::{DevicePlan, ServerRoute, Topology};
