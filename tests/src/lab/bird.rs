//! bird: on a real server as the other end of keepalived's BFD sessions, on the director as the routing daemon.

use std::{
    env, fs,
    net::IpAddr,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::lab::{namespace::Namespace, network::LAN, process::Process};

/// The variable that names the program.
const PROGRAM: &str = "LVS_BIRD";
/// The one with the folders of the libraries that it needs.
const LIBRARIES: &str = "LVS_BIRD_LIBRARIES";

/// Whether there is one.
#[must_use]
pub fn is_there() -> bool {
    env::var_os(PROGRAM).is_some()
}

/// A running bird. Dropping it kills it.
#[derive(Debug)]
pub struct Bird {
    _process: Process,
    /// Holds its configuration and its socket.
    folder: TempDir,
}

impl Bird {
    /// Starts it at `server`, which has the IPv4 address `own`, with one BFD session to `director`: a packet each 10
    /// ms, down after 5 that are missing.
    pub fn start(server: &Namespace, own: IpAddr, director: IpAddr) -> Result<Self> {
        let config = format!(
            "router id {own};\nprotocol device {{ }}\nprotocol bfd {{\n  interface \"{LAN}\" {{ min rx interval 10 ms; \
             min tx interval 10 ms; idle tx interval 10 ms; multiplier 5; }};\n  \
             neighbor {director} dev \"{LAN}\" local {own};\n}}\n"
        );
        Self::with_config(server, &config)
    }

    /// Starts it in `namespace` with this configuration.
    pub fn with_config(namespace: &Namespace, config: &str) -> Result<Self> {
        let program = env::var_os(PROGRAM).context("no bird")?;
        let folder = tempfile::Builder::new().prefix("lvs-lab-").tempdir()?;
        let at = |name: &str| folder.path().join(name);
        fs::write(at("bird.conf"), config)?;
        let mut command = Command::new(program);
        command
            .arg("-f")
            .arg("-c")
            .arg(at("bird.conf"))
            .arg("-s")
            .arg(at("control"))
            .arg("-P")
            .arg(at("pid"));
        if let Some(libraries) = env::var_os(LIBRARIES) {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { _process: Process::start(namespace, "bird", &mut command)?, folder })
    }

    /// The routes that it has, as `birdc` shows them; an error until it listens.
    pub fn routes(&self, namespace: &Namespace) -> Result<String> {
        let program = PathBuf::from(env::var_os(PROGRAM).context("no bird")?).with_file_name("birdc");
        let mut command = Command::new(program);
        command.arg("-s").arg(self.folder.path().join("control")).args(["show", "route"]);
        // It would wait for more commands.
        command.stdin(Stdio::null());
        if let Some(libraries) = env::var_os(LIBRARIES) {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let output = namespace.run(|| Ok(command.output()?))?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
