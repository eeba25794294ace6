//! The eBPF programs by `BPF_PROG_TEST_RUN` in this machine's kernel, against the references beside them.

use std::ffi::OsString;

use anyhow::Result;

use crate::build::{self, OBJECT_VARIABLE, REFERENCE_VARIABLE};
use crate::cache::Cache;
use crate::process;

pub(super) fn ebpf(cache: &Cache, arguments: &[OsString]) -> Result<bool> {
    let object = build::kernel_side(cache)?;
    let mut cargo = process::cargo();
    cargo.args(["bench", "--package", "lvs-tests", "--bench", "ebpf", "--"]).args(arguments);
    cargo.env(REFERENCE_VARIABLE, build::reference(&object)).env(OBJECT_VARIABLE, &object);
    Ok(process::status(&mut cargo)?.success())
}
