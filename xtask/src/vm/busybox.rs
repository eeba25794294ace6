//! The VM's first programs: a statically linked busybox, unpacked into the cache.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cache::Cache;

const PACKAGE: &str = "busybox-static";

/// The program's path; downloads it unless it is there already.
pub(crate) fn get(cache: &Cache) -> Result<PathBuf> {
    let root = cache.packages(&[PACKAGE])?.root().to_owned();
    ["bin/busybox", "usr/bin/busybox"]
        .map(|place| root.join(place))
        .into_iter()
        .find(|program| program.is_file())
        .with_context(|| format!("the package {PACKAGE} has no busybox"))
}

/// Whether it is there already.
pub(crate) fn is_there(cache: &Cache) -> bool {
    cache.packages_if_there(&[PACKAGE]).is_some()
}
