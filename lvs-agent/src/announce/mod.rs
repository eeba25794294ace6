//! Tells others how well services are served, so that they lead traffic to this director or away from it: keepalived by
//! track files and a FIFO, scripts by ready files, routing daemons by addresses on a device.
//!
//! | file | what is in it |
//! |---|---|
//! | `task.rs` | the task: asks the controller, and has the others do what follows |
//! | `judged.rs` | what is to be told, from how well services are served; pure |
//! | `steady.rs` | worse at once, better after a while; pure |
//! | `vips.rs` | when an address is announced and withdrawn; pure |
//! | `track.rs` | what a track file says; pure |
//! | `file_name.rs` | names of files for names of services; pure |
//! | `files.rs` | keeps folders of files as they are wanted |
//! | `devices.rs` | keeps addresses on devices as they are wanted |
//! | `trouble.rs` | that a way fails and works again, told once each |
//! | `fifo.rs`, `fifo_line.rs` | keepalived's lines; the second one pure |
//!
//! It must never decide anything about a server, nor hold up whoever does.

mod devices;
mod fifo;
mod fifo_line;
mod file_name;
mod files;
mod judged;
mod steady;
mod task;
mod track;
mod trouble;
pub(crate) mod vips;

pub(crate) use self::task::{Announcer, Parts};
