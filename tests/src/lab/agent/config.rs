//! The agent's configuration file, as far as the scenarios vary it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde::Serialize;

use crate::lab::layout::{Encapsulation, Family, GUE_PORT, Layout, Method, PORT};

/// Where the agent serves its metrics, in the director's namespace.
pub const METRICS: &str = "127.0.0.1:9747";

/// A configuration file.
#[derive(Clone, Debug, Serialize)]
pub struct AgentConfig {
    /// How the agent itself behaves.
    pub agent: AgentSection,
    /// What the passive side does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive: Option<PassiveSection>,
    /// The virtual services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
    /// Whether a changed file is read again by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub autoreload: bool,
    /// What else is written there.
    #[serde(flatten)]
    pub other: toml::Table,
}

/// `[passive]`
#[derive(Clone, Debug, Default, Serialize)]
pub struct PassiveSection {
    /// Where the programs are attached.
    pub devices: Vec<String>,
    /// Where it is written down what the detector is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<PathBuf>,
}

/// `[[service]]`
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceSection {
    /// The operator's name for it.
    pub name: String,
    /// VIP and port; nothing for a service by firewall mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The firewall mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// For a mark: `ipv4` or `ipv6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// For an address: `tcp` or `udp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// For how long a client stays with its server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent: Option<String>,
    /// The kernel's name for the scheduler.
    pub scheduler: String,
    /// `quiesce` or `remove`.
    pub on_failure: toml::Value,
    /// Failures in a row.
    pub fall: u32,
    /// Successes in a row.
    pub rise: u32,
    /// Over how long a time the weight of a server that comes back rises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<String>,
    /// `report` or `remove`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_contradiction: Option<String>,
    /// Where its changes are written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor_file: Option<PathBuf>,
    /// Whether connections that have just begun get a second chance.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub second_chance: bool,
    /// What each server is asked.
    pub check: CheckSection,
    /// The real servers.
    pub server: Vec<ServerSection>,
    /// Those that help out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backup: Vec<ServerSection>,
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
    /// For `https`: the file with the authorities.
    #[serde(rename = "tls-ca", skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
    /// Another port than the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// From one check to the next.
    pub interval: String,
    /// The longest that one check may take.
    pub timeout: String,
    /// What else is written there.
    #[serde(flatten)]
    pub other: toml::Table,
}

impl CheckSection {
    /// A check of this type every second.
    #[must_use]
    pub fn of_type(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            path: None,
            status: None,
            tls_ca: None,
            port: None,
            interval: "1s".to_owned(),
            timeout: "1s".to_owned(),
            other: toml::Table::new(),
        }
    }
}

/// `[[service.server]]`
#[derive(Clone, Debug, Serialize)]
pub struct ServerSection {
    /// Address and port, or the address alone.
    pub address: String,
    /// The forwarding method.
    pub forward: String,
    /// For `tunnel`: what the packets are wrapped in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelSection>,
    /// The weight when healthy.
    pub weight: u16,
    /// For a backup: whether it is checked; unless it is written, it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked: Option<bool>,
}

/// `tunnel = { … }`
#[derive(Clone, Debug, Serialize)]
pub struct TunnelSection {
    /// `ipip`, `gre` or `gue`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For `gue`: where the server takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl TunnelSection {
    fn of(method: Method) -> Option<Self> {
        let Method::Tunnel(encapsulation) = method else { return None };
        let (kind, port) = match encapsulation {
            Encapsulation::Ipip => ("ipip", None),
            Encapsulation::Gre => ("gre", None),
            Encapsulation::Gue => ("gue", Some(GUE_PORT)),
        };
        Some(Self { kind: kind.to_owned(), port })
    }
}

impl AgentConfig {
    /// The layout's first service with all of `servers`, checked over HTTP every second.
    #[must_use]
    pub fn http(layout: &Layout, servers: &[SocketAddr]) -> Self {
        let server = |server: &SocketAddr| ServerSection {
            address: server.to_string(),
            forward: layout.method.keyword().to_owned(),
            tunnel: TunnelSection::of(layout.method),
            weight: 1,
            checked: None,
        };
        let service = ServiceSection {
            name: "web".to_owned(),
            address: Some(layout.service().to_string()),
            mark: None,
            family: None,
            protocol: None,
            persistent: None,
            scheduler: "rr".to_owned(),
            on_failure: "quiesce".into(),
            fall: 3,
            rise: 2,
            slow_start: None,
            on_contradiction: None,
            monitor_file: None,
            second_chance: false,
            check: CheckSection {
                path: Some("/".to_owned()),
                status: Some("200".to_owned()),
                ..CheckSection::of_type("http")
            },
            server: servers.iter().map(server).collect(),
            backup: Vec::new(),
        };
        let agent = AgentSection {
            metrics: METRICS.to_owned(),
            on_exit: None,
            autoreload: false,
            other: toml::Table::new(),
        };
        Self { agent, passive: None, service: vec![service] }
    }

    /// The same, but servers are only asked whether they accept connections.
    #[must_use]
    pub fn check_by_connect(mut self) -> Self {
        for service in &mut self.service {
            let CheckSection { interval, timeout, port, .. } = service.check.clone();
            service.check = CheckSection { port, interval, timeout, ..CheckSection::of_type("connect") };
        }
        self
    }

    /// The same, but servers are only pinged.
    #[must_use]
    pub fn check_by_ping(mut self) -> Self {
        self = self.check_by_connect();
        for service in &mut self.service {
            "ping".clone_into(&mut service.check.kind);
            service.check.port = None;
        }
        self
    }

    /// The same, but the programs are attached to these devices.
    #[must_use]
    pub fn devices(mut self, devices: &[&str]) -> Self {
        let devices = devices.iter().map(|device| (*device).to_owned()).collect();
        self.passive.get_or_insert_default().devices = devices;
        self
    }

    /// The same, but what the detector is shown is written to `file`.
    #[must_use]
    pub fn record(mut self, file: &Path) -> Self {
        self.passive.get_or_insert_default().record = Some(file.to_owned());
        self
    }

    /// The same, but the first service is that of a firewall mark: servers have no port of their own.
    #[must_use]
    pub fn by_mark(mut self, mark: u32, layout: &Layout) -> Self {
        let service = &mut self.service[0];
        service.address = None;
        service.mark = Some(mark);
        service.family = (layout.family == Family::V6).then(|| "ipv6".to_owned());
        service.check.port = Some(PORT);
        for (number, server) in (0..).zip(&mut service.server) {
            server.address = layout.server_address(number).to_string();
        }
        self
    }

    /// The same, but the first service takes datagrams.
    #[must_use]
    pub fn by_udp(mut self) -> Self {
        let service = &mut self.service[0];
        service.protocol = Some("udp".to_owned());
        service.check.port = Some(PORT);
        self
    }

    /// The same, but with another action on a server in hard state: `quiesce` or `remove`.
    #[must_use]
    pub fn on_failure(mut self, action: &str) -> Self {
        for service in &mut self.service {
            service.on_failure = action.into();
        }
        self
    }

    /// The same with a second chance for connections that have just begun.
    #[must_use]
    pub fn second_chance(mut self) -> Self {
        for service in &mut self.service {
            service.second_chance = true;
        }
        self
    }

    /// The same, but with another action on a server whose clients fail: `report` or `remove`.
    #[must_use]
    pub fn on_contradiction(mut self, action: &str) -> Self {
        for service in &mut self.service {
            service.on_contradiction = Some(action.to_owned());
        }
        self
    }

    /// The same, but the last `count` servers of the first service are its backups.
    #[must_use]
    pub fn backups(mut self, count: usize) -> Self {
        let service = &mut self.service[0];
        service.backup = service.server.split_off(service.server.len() - count);
        self
    }

    /// The same, but the backups are not checked, as a server that says sorry.
    #[must_use]
    pub fn unchecked_backups(mut self) -> Self {
        for backup in &mut self.service[0].backup {
            backup.checked = Some(false);
        }
        self
    }

    /// The same, but with another end for the table at a clean stop: `keep` or `remove`.
    #[must_use]
    pub fn on_exit(mut self, end: &str) -> Self {
        self.agent.on_exit = Some(end.to_owned());
        self
    }

    /// The same, but with this key in `[agent]` as well.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        self.agent.other.insert(key.to_owned(), value.into());
        self
    }

    /// The text of the file.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }
}
