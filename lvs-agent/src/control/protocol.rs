//! Requests and replies.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use super::ServerName;

/// A request to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The state of all services and servers.
    Status {},
    /// Read the configuration again.
    Reload {},
    /// Give a server no new connections.
    Drain {
        /// The server; without a port at all of its ports.
        server: ServerName,
        /// In this service only: its name, key or address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// Take it out of the table.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        remove: bool,
    },
    /// A drain is over.
    Undrain {
        /// The server; without a port at all of its ports.
        server: ServerName,
        /// In this service only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    /// Take a server out as if it had failed, or no longer.
    Maintenance {
        /// The server; without a port at all of its ports.
        server: ServerName,
        /// In this service only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// Whether it is in maintenance.
        on: bool,
    },
    /// How many connections a server has.
    Connections {
        /// The server; without a port at all of its ports.
        server: ServerName,
        /// In this service only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
}

/// The agent's reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Reload`]: the file was read and is in force.
    Reloaded(Reloaded),
    /// To [`Request::Reload`]: the old configuration stays in force, for this reason.
    NotReloaded(String),
    /// To the other requests: the servers that are meant, in each of their services, and their state now.
    Servers(Vec<AffectedServer>),
    /// Why the request is invalid or could not be fulfilled.
    Error(String),
}

/// What reading the configuration again has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Whether the kernel's table is to be another one now.
    pub table_changed: bool,
    /// Services that are new.
    pub services_added: usize,
    /// Services that are no longer there.
    pub services_removed: usize,
    /// Servers that are new, in each of their services.
    pub servers_added: usize,
    /// Servers that are no longer there.
    pub servers_removed: usize,
    /// Settings that have changed, in words, each with its services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_over: Vec<String>,
    /// What the file's author should know, for people; some of it on several lines.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One line for people.
impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes = [
            (self.services_added, "service", "added"),
            (self.services_removed, "service", "removed"),
            (self.servers_added, "server", "added"),
            (self.servers_removed, "server", "removed"),
        ];
        let mut parts: Vec<String> = changes
            .into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, what, change)| {
                let plural = if count == 1 { "" } else { "s" };
                format!("{count} {what}{plural} {change}")
            })
            .collect();
        if parts.is_empty() {
            parts.push("the list of services and servers is unchanged".to_owned());
        }
        if !self.taken_over.is_empty() {
            parts.push(format!("taken over: {}", self.taken_over.join(", ")));
        }
        let table = if self.table_changed { "the table changes" } else { "the table stays as it is" };
        write!(f, "{}; {table}", parts.join(", "))
    }
}

/// A server of a service that a command was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffectedServer {
    /// The name of its service.
    pub service: String,
    /// Its address and port.
    pub address: SocketAddr,
    /// Its weight in the wanted table; `None` if it shall not be there.
    pub weight: Option<u16>,
    /// Who has taken it out, if anyone has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Why the next agent will know nothing of the command, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
    /// Its connections, where they were requested and it is in the kernel's table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
}

/// One line for people.
impl fmt::Display for AffectedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, address, weight, held, .. } = self;
        write!(f, "{service} {address}: ")?;
        match weight {
            Some(weight) => write!(f, "weight {weight}")?,
            None => f.write_str("out of the table")?,
        }
        held.as_ref().map_or(Ok(()), |held| write!(f, "; {held}"))
    }
}

/// The connections that the kernel remembers for a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Under way, half-opened ones included.
    pub active: u32,
    /// Closing, or closed and still remembered.
    pub inactive: u32,
    /// Clients that persistence holds there.
    pub persistent: u32,
}

/// The state of everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// All services, in the order of the configuration.
    pub services: Vec<ServiceStatus>,
    /// Where nothing is written to the kernel's table: what would have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedStatus>,
    /// Sysctls of `net.ipv4.vs` that decide what becomes of connections whose server is out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub connections: BTreeMap<String, i32>,
    /// What people should know, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Edits of the kernel's table that would have been made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedStatus {
    /// How many of them since the agent started.
    pub total: u64,
    /// The latest of them, the oldest first.
    pub latest: Vec<ObservedEdit>,
}

/// An edit that would have been made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedEdit {
    /// The edit or the evidence as a phrase for people.
    pub text: String,
    /// How long ago, in ms.
    pub age_ms: u64,
}

/// The state of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The operator's name for it.
    pub name: String,
    /// What names it in the kernel's table, as `tcp 192.0.2.80:80` or `mark 7`.
    pub key: String,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<ServerStatus>,
}

/// The state of one real server in a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its address and port.
    pub address: SocketAddr,
    /// How packets reach it.
    pub method: String,
    /// Its weight in the wanted table; `None` if it shall not be there.
    pub weight: Option<u16>,
    /// `up`, `suspect`, `down`, `recovering`, `damped` or `unknown`; `unchecked` of a backup without a check.
    pub state: String,
    /// Whether it is a backup, in the table only while too few others are healthy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// Why its weight is as it is, where the state doesn't say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// For how long it has been in this state, in ms; not there: since the agent's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_age_ms: Option<u64>,
    /// The last failure of its checks, as long as they haven't brought it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<EvidenceStatus>,
    /// `open`, `not open`, or `off: ` and why; none where no idle connection is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_connection: Option<String>,
    /// For how long its clients have failed while its checks succeed, what they lack, and the likely causes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contradiction: Option<String>,
    /// What the passive signal says about it.
    pub signal: SignalStatus,
}

/// The passive signal of one server in a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalStatus {
    /// How much of its traffic is seen.
    pub seen: Visibility,
    /// Why it is no more than that, where it isn't whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long its clients usually wait for an answer, in ms, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_wait_ms: Option<f64>,
    /// The latest evidence against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceStatus>,
}

impl SignalStatus {
    /// None at all, for this reason.
    #[must_use]
    pub fn none(reason: impl Into<String>) -> Self {
        Self { seen: Visibility::None, reason: Some(reason.into()), usual_wait_ms: None, evidence: None }
    }
}

/// How much of a server's traffic the passive signal sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Visibility {
    /// Both directions.
    #[serde(rename = "whole")]
    Both,
    /// What clients send.
    #[serde(rename = "half")]
    ClientOnly,
    /// Packets are counted, and say nothing about its health.
    #[serde(rename = "counted")]
    CountersOnly,
    /// Nothing: no packet can be attributed to this server.
    None,
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Both => "whole",
            Self::ClientOnly => "half",
            Self::CountersOnly => "counted",
            Self::None => "none",
        })
    }
}

/// Evidence against a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceStatus {
    /// The edit or the evidence as a phrase for people.
    pub text: String,
    /// How long ago, in ms.
    pub age_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs read these lines: what they look like is a promise.
    #[test]
    fn requests_and_replies_as_json() {
        assert_eq!(serde_json::to_string(&Request::Status {}).unwrap(), r#"{"command":"status"}"#);
        let signal = SignalStatus {
            seen: Visibility::ClientOnly,
            reason: Some("answers bypass the director".to_owned()),
            usual_wait_ms: Some(1.5),
            evidence: Some(EvidenceStatus { text: "3 refused".to_owned(), age_ms: 20 }),
        };
        let server = ServerStatus {
            address: "10.0.0.1:80".parse().unwrap(),
            method: "direct-route".to_owned(),
            weight: None,
            state: "down".to_owned(),
            backup: false,
            note: None,
            state_age_ms: Some(81_000),
            failure: Some(EvidenceStatus { text: "connection refused".to_owned(), age_ms: 900 }),
            idle_connection: None,
            contradiction: None,
            signal,
        };
        let service = ServiceStatus {
            name: "web".to_owned(),
            key: "tcp 192.0.2.1:80".to_owned(),
            servers: vec![server.clone()],
        };
        let silent = ServerStatus { idle_connection: Some("open".to_owned()), ..server };
        assert!(serde_json::to_string(&silent).unwrap().contains(r#""idle_connection":"open","signal""#));
        let reply = Reply::Status(Status { services: vec![service], ..Status::default() });
        let line = r#"{"status":{"services":[{"name":"web","key":"tcp 192.0.2.1:80","servers":[{"address":"10.0.0.1:80","method":"direct-route","weight":null,"state":"down","state_age_ms":81000,"failure":{"text":"connection refused","age_ms":900},"signal":{"seen":"half","reason":"answers bypass the director","usual_wait_ms":1.5,"evidence":{"text":"3 refused","age_ms":20}}}]}]}}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), line);
        assert_eq!(serde_json::from_str::<Reply>(line).unwrap(), reply);
        assert_eq!(
            serde_json::to_string(&SignalStatus::none("why")).unwrap(),
            r#"{"seen":"none","reason":"why"}"#
        );
        let commands = [
            r#"{"command":"reload"}"#,
            r#"{"command":"drain","server":"10.0.0.1:80"}"#,
            r#"{"command":"drain","server":"10.0.0.1","service":"web","remove":true}"#,
            r#"{"command":"undrain","server":"2001:db8::1"}"#,
            r#"{"command":"maintenance","server":"[2001:db8::1]:80","on":false}"#,
            r#"{"command":"connections","server":"10.0.0.1"}"#,
        ];
        for line in commands {
            let request: Request = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&request).unwrap(), line);
        }
        for visibility in
            [Visibility::Both, Visibility::ClientOnly, Visibility::CountersOnly, Visibility::None]
        {
            assert_eq!(serde_json::to_string(&visibility).unwrap(), format!("\"{visibility}\""));
        }
        let wrong = r#"{"command":"undrain","server":"web1"}"#;
        assert!(serde_json::from_str::<Request>(wrong).unwrap_err().to_string().contains("ADDRESS:PORT"));
        let refused = Reply::Error("no".to_owned());
        assert_eq!(serde_json::to_string(&refused).unwrap(), r#"{"error":"no"}"#);
    }
}
