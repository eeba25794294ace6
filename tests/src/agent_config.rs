//! The agent's configuration file, as far as the scenarios vary it.

use std::net::SocketAddr;

use anyhow::Result;
use serde::Serialize;

use crate::layout::Layout;

/// Where the agent serves its metrics, in the director's namespace.
pub const METRICS: &str = "127.0.0.1:9747";

/// A configuration file.
#[derive(Clone, Debug, Serialize)]
pub struct AgentConfig {
    /// How the agent itself behaves.
    pub agent: AgentSection,
    /// The virtual services.
    pub service: Vec<ServiceSection>,
}

/// `[agent]`
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AgentSection {
    /// Address and port of `/metrics`.
    pub metrics: String,
    /// `keep` or `remove`: what becomes of the table at a clean stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_exit: Option<String>,
}

/// `[[service]]`
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceSection {
    /// The operator's name for it.
    pub name: String,
    /// VIP and port.
    pub address: String,
    /// The kernel's name for the scheduler.
    pub scheduler: String,
    /// `quiesce` or `remove`.
    pub on_failure: String,
    /// Failures in a row.
    pub fall: u32,
    /// Successes in a row.
    pub rise: u32,
    /// What each server is asked.
    pub check: CheckSection,
    /// The real servers.
    pub server: Vec<ServerSection>,
}

/// `check = { … }`
#[derive(Clone, Debug, Serialize)]
pub struct CheckSection {
    /// `http`, `connect` or `ping`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For `http`: what is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// For `http`: the status that counts as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// From one check to the next.
    pub interval: String,
    /// The longest that one check may take.
    pub timeout: String,
}

/// `[[service.server]]`
#[derive(Clone, Debug, Serialize)]
pub struct ServerSection {
    /// Address and port, or the address alone.
    pub address: String,
    /// The forwarding method.
    pub forward: String,
    /// The weight when healthy.
    pub weight: u16,
}

impl AgentConfig {
    /// The layout's first service with all of `servers`, checked over HTTP every second.
    #[must_use]
    pub fn http(layout: &Layout, servers: &[SocketAddr]) -> Self {
        let server = |server: &SocketAddr| ServerSection {
            address: server.to_string(),
            forward: layout.method.word().to_owned(),
            weight: 1,
        };
        let service = ServiceSection {
            name: "web".to_owned(),
            address: layout.service().to_string(),
            scheduler: "rr".to_owned(),
            on_failure: "quiesce".to_owned(),
            fall: 3,
            rise: 2,
            check: CheckSection {
                kind: "http".to_owned(),
                path: Some("/".to_owned()),
                status: Some("200".to_owned()),
                interval: "1s".to_owned(),
                timeout: "1s".to_owned(),
            },
            server: servers.iter().map(server).collect(),
        };
        Self { agent: AgentSection { metrics: METRICS.to_owned(), on_exit: None }, service: vec![service] }
    }

    /// The same, but with another action on a server in hard state: `quiesce` or `remove`.
    #[must_use]
    pub fn on_failure(mut self, action: &str) -> Self {
        for service in &mut self.service {
            action.clone_into(&mut service.on_failure);
        }
        self
    }

    /// The same, but with another end for the table at a clean stop: `keep` or `remove`.
    #[must_use]
    pub fn on_exit(mut self, end: &str) -> Self {
        self.agent.on_exit = Some(end.to_owned());
        self
    }

    /// The text of the file.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }
}
