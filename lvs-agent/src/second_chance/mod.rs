//! Second chance: the SYNs of handshakes that were open when their server died are sent again into the director's own
//! IPVS, once the server is out of the kernel's table, so that another server answers them (docs/second-chance.md).
//!
//! The kernel side keeps the SYNs ([`crate::passive::KeptSyns`]) and holds back RSTs; here it is decided about each.
//! What it is told is what everybody is told: the events. It never edits the table, and no decision about a server's
//! health depends on it.
//!
//! | file | what is in it |
//! |---|---|
//! | `ways.rs` | which servers have it, how their SYNs are sent again, and why not; pure |
//! | `servers.rs` | which destinations are dead and out of the table; pure |
//! | `book.rs` | what is decided about each SYN; pure |
//! | `failover.rs` | one server's SYNs that are sent again, and what became of them; pure |
//! | `limits.rs` | caps, and what a flood is; pure |
//! | `packet.rs` | the packets; pure |
//! | `origins.rs` | to which address a SYN was sent, where the server doesn't tell |
//! | `sender.rs` | puts them into a device's ingress, or sends them through a raw socket |
//! | `task.rs` | the task around it |

mod book;
mod failover;
mod limits;
mod origins;
mod packet;
mod sender;
mod servers;
mod task;
#[cfg(test)]
mod testing;
mod ways;

pub(crate) use self::task::{Parts, SecondChanceTask, refuse_all};
