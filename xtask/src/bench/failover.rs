//! How fast the agent takes a failed server out, against keepalived: the tables, and the published page and chart.

use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::keepalived::Comparison;
use crate::cache::Cache;
use crate::{paths, process};

/// Longer than a whole run takes on a slow machine.
const LIMIT: Duration = Duration::from_hours(12);
/// Where a run leaves its results.
const RESULTS: &str = "failover.jsonl";

/// Sets up, builds, and compares; returns the comparison's exit status.
///
/// What was measured, even if the run was cut off, is merged into `docs/measurements/failover.jsonl`, of which page and
/// chart are made: parts may be measured one after the other, or beside each other.
pub(super) fn compare(cache: &Cache, arguments: &[OsString]) -> Result<i32> {
    let comparison = Comparison::prepare(cache, "lvs-bench-failover")?;
    let out =
        tempfile::Builder::new().prefix("lvs-failover-").tempdir().context("cannot make a directory")?;
    let status = comparison.run(cache, arguments, LIMIT, Some(out.path().to_owned()), &[revision()?]);
    let results = out.path().join(RESULTS);
    if results.is_file() {
        let mut publish = Command::new(comparison.program());
        publish.arg("--publish").arg(paths::repository().join("docs")).arg("--results").arg(results);
        process::run(&mut publish).context("cannot publish what was measured")?;
    }
    status
}

/// The revision of what is measured, for the program in the guest, which has no git.
fn revision() -> Result<(OsString, OsString)> {
    let mut git = Command::new("git");
    git.arg("-C").arg(paths::repository()).args(["describe", "--always", "--dirty"]);
    let words = process::output(&mut git)?;
    Ok(("LVS_REVISION".into(), words.trim().into()))
}
