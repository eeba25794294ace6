//! A health checker for LVS directors: a passive signal raises a suspicion, active probes confirm it, and only then
//! the kernel's IPVS table is changed.
//!
//! The way of the data, one direction only: `passive` and `probe` → `health` → `pool` → `ipvs`, decided in `engine`,
//! written by `reconcile`, wired in `agent`.
#![deny(unsafe_code)]

mod admin;
pub mod agent;
mod announce;
mod backoff;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod engine;
mod event;
mod file_lock;
mod file_watch;
mod file_work;
pub mod health;
pub mod ipvs;
mod keyed;
pub mod log;
mod messages;
pub mod model;
mod monitor;
pub mod netlink;
pub mod network;
pub mod notify;
pub mod passive;
pub mod pool;
mod privileges;
pub mod probe;
mod process;
mod reconcile;
mod second_chance;
mod service_manager;
mod state_file;
mod supervision;
mod telemetry;

pub use self::supervision::{TaskKind, TaskName};
