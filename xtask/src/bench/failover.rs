//! How fast the agent takes a failed server out, against keepalived: the tables, and of a whole run the page and
//! the chart.

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::keepalived;
use crate::cache::Cache;
use crate::paths;

/// Longer than a whole run takes on a slow machine.
const LIMIT: Duration = Duration::from_hours(12);

/// What a whole run writes, and where it belongs in the repository.
const WRITTEN: [(&str, &str); 2] =
    [("failover.md", "docs/measurements/failover.md"), ("failover.svg", "docs/images/failover.svg")];

/// Sets up, builds, and compares; returns the comparison's exit status.
pub(super) fn compare(cache: &Cache, arguments: &[OsString]) -> Result<i32> {
    let out =
        tempfile::Builder::new().prefix("lvs-failover-").tempdir().context("cannot make a directory")?;
    let directory = Some(out.path().to_owned());
    let status = keepalived::compare(cache, "lvs-bench-failover", arguments, LIMIT, directory)?;
    for (name, place) in WRITTEN {
        let from = out.path().join(name);
        if from.is_file() {
            let to = paths::repository().join(place);
            fs::create_dir_all(to.parent().unwrap_or(&to)).with_context(|| place.to_owned())?;
            fs::copy(&from, &to).with_context(|| place.to_owned())?;
            println!("written: {place}");
        }
    }
    Ok(status)
}
