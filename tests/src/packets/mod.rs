//! Packets for the eBPF programs, and what the programs must make of them.

pub mod attribution;
pub mod builder;
