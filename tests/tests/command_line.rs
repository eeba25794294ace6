//! The agent's command line on any machine, IPVS or not: what can't work is refused with one clear message.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use anyhow::{Context as _, Result, ensure};
use lvs_tests::lab::{
    agent::config::AgentConfig,
    layout::{Layout, Method},
    process::programs,
};

/// The agent's program; built first, where nobody has said which it is.
fn agent() -> Result<&'static Path> {
    static AGENT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = AGENT.get() {
        return Ok(path);
    }
    let path = if env::var_os(programs::AGENT_VARIABLE).is_some() { programs::agent()? } else { build()? };
    Ok(AGENT.get_or_init(|| path))
}

fn build() -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).args(["build", "--quiet", "--package", "lvs-agent"]).status()?;
    ensure!(built.success(), "cannot build the agent");
    let folder = Path::new(env!("CARGO_BIN_EXE_lvs-lab-server")).parent().context("a build folder")?;
    // Built for this profile or for the usual one.
    let places = [folder.to_owned(), folder.with_file_name("debug")];
    let found = places.iter().map(|place| place.join("lvs-agent")).find(|path| path.is_file());
    found.context("cargo built no lvs-agent")
}

fn run(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(agent()?).args(arguments).env_remove("LVS_LOG").env("RUST_BACKTRACE", "0").output()?)
}

/// It must fail with a message that has all of `words`, and say nothing on standard output.
fn assert_refused(arguments: &[&str], words: &[&str]) -> Result<()> {
    let output = run(arguments)?;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code != 0), "{arguments:?}: {}: {text}", output.status);
    for word in words {
        assert!(text.contains(word), "{arguments:?}: \"{word}\" is missing in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// A folder with a configuration file, and the file's path.
fn configured(text: &str) -> Result<(tempfile::TempDir, String)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("agent.toml");
    fs::write(&file, text)?;
    let name = file.to_str().context("a path in UTF-8")?.to_owned();
    Ok((folder, name))
}

fn good_config() -> Result<String> {
    let servers = ["127.0.0.2:8080", "127.0.0.3:8080"].map(str::parse::<SocketAddr>);
    AgentConfig::http(&Layout::new(Method::Masquerade), &servers.into_iter().collect::<Result<Vec<_>, _>>()?)
        .to_toml()
}

#[test]
fn help_and_version_are_printed() -> Result<()> {
    for (argument, words) in [("--help", "Usage"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let output = run(&[argument])?;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(words), "{argument}: {text}");
    }
    Ok(())
}

#[test]
fn arguments_that_are_none_are_refused() -> Result<()> {
    for arguments in [&["fly"][..], &["run", "--mode", "rule"], &["run", "--config"], &["run", "--colour"]] {
        assert_refused(arguments, &["--help"])?;
    }
    Ok(())
}

#[test]
fn a_configuration_that_is_not_there_is_named_once() -> Result<()> {
    for arguments in
        [&["run", "--config", "/nowhere/agent.toml"][..], &["check-config", "/nowhere/agent.toml"]]
    {
        assert_refused(arguments, &["/nowhere/agent.toml"])?;
        let output = run(arguments)?;
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(text.matches("there is no such file").count(), 1, "{arguments:?}: {text}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    }
    Ok(())
}

#[test]
fn each_command_has_help_with_its_exit_codes() -> Result<()> {
    for command in
        ["run", "check-config", "status", "events", "log-level", "reload", "drain", "undrain", "maintenance"]
    {
        let output = run(&[command, "--help"])?;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("Exit codes:\n  0  "), "{command}: {text}");
    }
    Ok(())
}

#[test]
fn a_status_without_an_agent_has_an_exit_code_of_its_own() -> Result<()> {
    for arguments in [&["status"][..], &["status", "web", "--json"]] {
        let arguments = [arguments, &["--control", "/nowhere/control"]].concat();
        assert_refused(&arguments, &["no agent answers at /nowhere/control"])?;
        assert_eq!(run(&arguments)?.status.code(), Some(3), "{arguments:?}");
    }
    assert_refused(&["events", "--since", "soon"], &["--since"])
}

#[test]
fn the_place_of_a_fault_in_the_configuration_is_named() -> Result<()> {
    let (_folder, file) = configured(&good_config()?.replace("rise = 2", "rise = \"often\""))?;
    assert_refused(&["run", "--config", &file], &[&file, "rise"])
}

#[test]
fn without_ipvs_or_privileges_it_says_what_to_do() -> Result<()> {
    if Path::new("/proc/net/ip_vs").exists() {
        // Never against the table of the machine that the tests run on.
        return Ok(());
    }
    let (_folder, file) = configured(&good_config()?)?;
    assert_refused(&["run", "--config", &file], &["ip_vs"])
}
