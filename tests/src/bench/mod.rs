//! What `cargo xtask bench` measures in the VM: one module a subcommand, one program (`lvs-bench-…`) each.

pub mod attacks;
pub mod checks;
pub mod director;
mod failing;
pub mod failover;
pub mod harm;
mod keepalived_peer;
pub mod noop;
pub mod table;
pub mod visitors;
