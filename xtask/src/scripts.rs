//! The step `scripts` of the tests: what shellcheck says of the shell scripts, those of the package among them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::{paths, process, tools};

/// Where scripts are.
const FOLDERS: [&str; 3] = [".ci", "contrib", "xtask/src"];

/// Whether shellcheck has nothing to say.
pub(crate) fn check(cache: &Cache) -> Result<bool> {
    let mut scripts = Vec::new();
    for folder in FOLDERS {
        collect(&paths::repository().join(folder), &mut scripts)?;
    }
    scripts.sort();
    println!("{} scripts", scripts.len());
    let shellcheck = tools::shellcheck(cache)?;
    let mut command = process::command(shellcheck.root().join("usr/bin/shellcheck"));
    command.envs(shellcheck.environment()?).arg("--severity=style").args(&scripts);
    Ok(process::status(&mut command)?.success())
}

/// Adds the scripts below a folder.
fn collect(folder: &Path, scripts: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let path = entry.path();
        if entry.file_type().with_context(context)?.is_dir() {
            collect(&path, scripts)?;
        } else if is_script(&path, &fs::read(&path).with_context(|| path.display().to_string())?) {
            scripts.push(path);
        }
    }
    Ok(())
}

/// Whether a file is for a shell, by its name or its first line.
fn is_script(path: &Path, text: &[u8]) -> bool {
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    path.extension().is_some_and(|extension| extension == "sh")
        || (first.starts_with("#!") && first.split(['/', ' ']).any(|word| matches!(word, "sh" | "bash")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_told_by_name_or_first_line() {
        for (name, text, expected) in [
            ("a.sh", "true\n", true),
            ("postinst", "#!/bin/sh\ntrue\n", true),
            ("run", "#!/usr/bin/env bash\n", true),
            ("lvs-agent", "#!/bin/sh -e", true),
            ("tool", "#!/usr/bin/perl\n", false),
            ("mod.rs", "//! #!/bin/sh\n", false),
        ] {
            assert_eq!(is_script(Path::new(name), text.as_bytes()), expected, "{name}");
        }
    }
}
