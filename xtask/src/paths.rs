//! Where things are: the repository and its target directory.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The repository's root: the directory above this package.
///
/// Where `cargo xtask` runs, not where this program was built: a clone that was copied with its target directory has a
/// program that cargo takes for its own.
pub(crate) fn repository() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let package = env::var_os("CARGO_MANIFEST_DIR");
        let package = package.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        package.parent().map_or_else(|| package.clone(), Path::to_path_buf)
    });
    &ROOT
}

/// Cargo's target directory: `CARGO_TARGET_DIR` when the user has set it, else `target` in the repository.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => repository().join(directory),
        None => repository().join("target"),
    }
}
