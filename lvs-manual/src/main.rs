//! Writes the manual pages and the shells' completions into a folder: `lvs-manual FOLDER`.
//!
//! Both come from what the agent itself reads: its command line, and the example of its configuration.
#![expect(clippy::print_stderr, reason = "a command line tool talks to its user")]

mod commands;
mod configuration;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};
use lvs_agent::cli::Cli;

/// The section of the manual for commands of administrators.
const COMMANDS: &str = "8";

/// Where completions of each shell are, below the folder, and the name under which that shell finds them.
const COMPLETIONS: [(Shell, &str, &str); 3] = [
    (Shell::Bash, "bash", "lvs-agent"),
    (Shell::Zsh, "zsh", "_lvs-agent"),
    (Shell::Fish, "fish", "lvs-agent.fish"),
];

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: lvs-manual FOLDER");
        return ExitCode::FAILURE;
    };
    match write(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lvs-manual: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> Result<()> {
    let pages = folder.join("man");
    fs::create_dir_all(&pages).with_context(|| format!("making {}", pages.display()))?;
    let mut all = commands::pages(Cli::command())?;
    all.push(("lvs-agent.toml.5".to_owned(), configuration::page()));
    for (name, text) in all {
        let path = pages.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    for (shell, name, file) in COMPLETIONS {
        let completions = folder.join(name);
        fs::create_dir_all(&completions).with_context(|| format!("making {}", completions.display()))?;
        let written = generate_to(shell, &mut Cli::command(), "lvs-agent", &completions)?;
        fs::rename(written, completions.join(file))?;
    }
    Ok(())
}
