//! The scenarios that decide whether it works: a real IPVS kernel, real TCP, the agent as a process. They need root, a
//! kernel with IPVS and the agent's program (`LVS_AGENT`, or beside this one): `cargo xtask test` runs them in a VM.
//!
//! Network namespaces, addresses and processes are each scenario's own; run one at a time (`--test-threads=1`), they
//! don't take each other's time.

mod admin_commands;
mod announce;
mod attribution;
mod bad_input;
mod clean_stop;
mod closed_ways;
mod connections;
mod contradiction;
mod datagrams;
mod ecmp;
mod expect_failover;
mod failover;
mod false_positives;
mod hardening;
mod healthy;
mod hung;
mod idle_connection;
mod interference;
mod ipvs_table;
mod keepalived_pair;
mod ldirectord;
mod many_servers;
mod modes;
mod names_at_start;
mod network_variants;
mod notifications;
mod odd_servers;
mod others_asked;
mod policy;
mod privileges;
mod prometheus;
mod record_traces;
mod reload;
mod second_chance;
mod slow;
mod stalls;
mod strangers;
mod sync_daemons;
mod vip_path;
mod who_serves;
