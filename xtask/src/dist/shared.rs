//! What a program needs of the machine that it is put on: the version of the C library.

use std::path::Path;

use anyhow::{Context, Result};

use crate::process::{self, output};
use crate::toolchain::numbers;

/// The oldest glibc that has all that the program takes from it, such as `2.34`.
pub(super) fn glibc(program: &Path) -> Result<String> {
    let listing = output(process::command("objdump").arg("--dynamic-syms").arg(program))?;
    newest(&listing).context("the program takes nothing from glibc?")
}

/// In words.
pub(super) fn needs(program: &Path) -> Result<String> {
    Ok(format!("glibc {} or newer, libgcc_s.so.1, Linux 5.10 or newer", glibc(program)?))
}

fn newest(listing: &str) -> Option<String> {
    let versions = listing.split("GLIBC_").skip(1).filter_map(|rest| {
        let version: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        (!version.is_empty()).then_some(version)
    });
    versions.max_by_key(|version| numbers(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_counts() {
        let listing = "\
0000000000000000      DF *UND*  0000000000000000 (GLIBC_2.2.5) read
0000000000000000      DF *UND*  0000000000000000 (GLIBC_2.34) pthread_create
0000000000000000      DF *UND*  0000000000000000 (GLIBC_PRIVATE) x
0000000000000000      DF *UND*  0000000000000000 (GCC_3.0) _Unwind_Backtrace
0000000000000000      DF *UND*  0000000000000000 (GLIBC_2.9) eventfd
";
        assert_eq!(newest(listing).as_deref(), Some("2.34"));
        assert_eq!(newest(""), None);
    }
}
