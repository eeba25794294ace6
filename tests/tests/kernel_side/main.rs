//! The eBPF programs on built packets, by `BPF_PROG_TEST_RUN`: needs root and the object file that `LVS_EBPF_OBJECT`
//! names (`cargo xtask test` sets it).
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test: the panic is the message")]
#![expect(clippy::large_types_passed_by_value, reason = "rows of tables are built, not handed around")]

mod attribution;
mod case;
mod connections;
mod datagrams;
mod edges;
mod fixture;
mod handshakes;
mod harness;
mod hostile;
mod requests;
mod second_chance;
mod unattributed;
mod unreachable;
