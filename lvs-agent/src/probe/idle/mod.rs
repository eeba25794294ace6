//! Idle connections: one TCP connection to each server on which nothing is sent. Its end says at once, without any
//! client, that the server's process has died, has been stopped, or that its host goes down: where the RST of a server
//! by direct route or tunnel goes past the director, this one does not.
//!
//! `policy` decides (pure), `eligible` says which servers have one (pure), `task` owns the connections, `connection` is
//! one of them, and `mailbox` is how the controller reaches the task. What comes out are [`IdleReport`]s: they are
//! facts, and what they lead to is decided elsewhere.

mod change;
mod connection;
mod descriptors;
mod eligible;
mod mailbox;
mod policy;
mod task;

pub use self::{
    change::{IdleChange, IdleEnd, IdleOff, IdleSign},
    eligible::idle_target,
    mailbox::{IdleHandle, IdleWish},
    policy::{Condition, Unasked},
    task::{IdleConnections, IdleReport},
};
