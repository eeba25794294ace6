//! The agent's command line on any machine, IPVS or not: what can't work is refused with one clear message.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lvs_tests::lab::{
    agent::config::AgentConfig,
    layout::{Layout, Method},
    process::{programs, terminal::OnTerminal},
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
    for command in [
        "run",
        "check-config",
        "status",
        "top",
        "check",
        "events",
        "log-level",
        "reload",
        "drain",
        "undrain",
        "maintenance",
    ] {
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
fn a_check_without_an_agent_takes_a_configuration() -> Result<()> {
    let asked = ["check", "10.0.0.1", "--control", "/nowhere/control"];
    assert_refused(&asked, &["no agent answers at /nowhere/control", "--config"])?;
    assert_eq!(run(&asked)?.status.code(), Some(2));
    // A port of the loopback that nobody listens at, once this listener is gone.
    let server = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (_folder, file) = configured(&format!(
        "[[service]]\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\n\
         [[service.server]]\naddress = \"{server}\"\n"
    ))?;
    let output = run(&["check", &server.to_string(), "--config", &file])?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in
        [&format!("  connect of {server}, timeout "), "    connection ", "    failed: connection refused"]
    {
        assert!(text.contains(line), "{line:?} is missing in: {text}");
    }
    assert_refused(&["check", "10.9.9.9", "--config", &file], &["no service has a server 10.9.9.9"])
}

#[test]
fn top_goes_on_without_an_agent_and_gives_the_terminal_back() -> Result<()> {
    /// As long as a loaded machine may take.
    const LIMIT: Duration = Duration::from_secs(30);
    assert_refused(&["top"], &["needs a terminal", "status --watch"])?;
    let mut command = Command::new(agent()?);
    command.args(["top", "--control", "/nowhere/control"]).env("RUST_BACKTRACE", "0");
    let mut top = OnTerminal::spawn(command)?;
    top.wait_for("no agent answers at /nowhere/control", LIMIT)?;
    top.press("?")?;
    // Only what changes is written, word by word.
    top.wait_for("configuration,", LIMIT)?;
    top.press("q")?;
    let (status, written) = top.wait_for_end(LIMIT)?;
    assert!(status.success(), "{status}: {written:?}");
    // The other screen of xterm, there and back.
    let (there, back) = (written.find("\x1b[?1049h"), written.rfind("\x1b[?1049l"));
    assert!(there.is_some() && there < back, "{written:?}");
    assert!(!written.contains("panicked"), "{written:?}");
    Ok(())
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
