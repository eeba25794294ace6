//! Requests and replies.

use std::{fmt, net::SocketAddr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{AddressHealth, Checked, Events, Healthiness, RoleStatus, ServerName, Status};
use crate::model::{DirectorRole, Share};

/// The version of this protocol. Another one has requests or replies that older programs would misunderstand; fields
/// and commands that are only added leave it as it is.
pub const PROTOCOL_VERSION: u32 = 1;

/// A request to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The state of all services and servers, or of one service.
    Status {
        /// Of this service only: its name, key or address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// All services' status may be so old, in ms, if nothing has happened since; not there: it is made now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_age_ms: Option<u64>,
    },
    /// Events that the agent remembers, the oldest first.
    Events {
        /// After the one with this number, of this `instance`; else all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
        /// The agent that `after` is a number of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<u64>,
        /// Not older than this, in ms.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since_ms: Option<u64>,
        /// Of this service only: its name, key or address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    /// What is logged, and from now on something else.
    LogLevel {
        /// `LEVEL` or `TARGET=LEVEL,…`; not there: it stays as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        filter: Option<String>,
    },
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
    /// Probe a server now, and show each step; nothing changes by it.
    Check {
        /// The server; without a port at all of its ports.
        server: ServerName,
        /// In this service only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    /// Whether this director is active or standby, and from now on something else.
    Role {
        /// What it is to be; not there: it stays as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<RoleOrder>,
    },
    /// Whether services are healthy: a short question with a short answer.
    Healthy {
        /// Of these services only, each by its name, key or address; none: of all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        services: Vec<String>,
        /// The share of a service's weight that must be up, in place of the quorum.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_share: Option<Share>,
        /// A service without its quorum counts as healthy while backups serve.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        backups: bool,
    },
    /// The health of the addresses of services, for whom they are announced by. In mode `observe` there is none.
    Addresses {
        /// The share of a service's weight that must be up, in place of the quorum.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_share: Option<Share>,
        /// A service without its quorum counts as healthy while backups serve.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        backups: bool,
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

impl Request {
    /// Whether its answer takes neither time nor room.
    pub(super) fn is_small(&self) -> bool {
        matches!(
            self,
            Self::Healthy { .. } | Self::Addresses { .. } | Self::Role { .. } | Self::LogLevel { .. }
        )
    }
}

/// A reply as it is sent: with the version of the protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Versioned<R> {
    /// [`PROTOCOL_VERSION`]; 0 of agents from before there were versions.
    #[serde(default)]
    pub(super) version: u32,
    #[serde(flatten)]
    pub(super) reply: R,
}

impl<R> Versioned<R> {
    /// In this program's version.
    pub(super) fn new(reply: R) -> Self {
        Self { version: PROTOCOL_VERSION, reply }
    }
}

/// A reply as it goes over the socket: one line of JSON. Clones share it.
#[derive(Clone, Debug)]
pub struct ReplyLine(Bytes);

impl ReplyLine {
    /// The line of a reply.
    pub fn new(reply: &Reply) -> serde_json::Result<Self> {
        Self::of(reply)
    }

    /// As of [`Reply::Status`].
    pub fn status(status: &Status) -> serde_json::Result<Self> {
        #[derive(Serialize)]
        #[serde(rename_all = "kebab-case")]
        enum Borrowed<'a> {
            Status(&'a Status),
        }
        Self::of(Borrowed::Status(status))
    }

    fn of(reply: impl Serialize) -> serde_json::Result<Self> {
        let mut line = serde_json::to_vec(&Versioned::new(reply))?;
        line.push(b'\n');
        Ok(Self(line.into()))
    }

    /// With the line's end.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Reads a request: one JSON object, which may name the version of the protocol. The error is for people.
pub(super) fn read_request(line: &[u8]) -> Result<Request, String> {
    let invalid = |error: serde_json::Error| format!("invalid request: {error}");
    let mut fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(line).map_err(invalid)?;
    match fields.remove("version") {
        Some(version) if version != PROTOCOL_VERSION => Err(format!(
            "version {version} of the control protocol is not spoken here: this agent ({}) speaks version \
             {PROTOCOL_VERSION}; use a program of the agent's version",
            env!("CARGO_PKG_VERSION")
        )),
        _ => serde_json::from_value(fields.into()).map_err(invalid),
    }
}

/// The agent's reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Events`].
    Events(Events),
    /// To [`Request::LogLevel`]: what is logged now.
    LogLevel(String),
    /// To [`Request::Reload`]: the file was read and is in force.
    Reloaded(Reloaded),
    /// To [`Request::Reload`]: the old configuration stays in force, for this reason.
    NotReloaded(String),
    /// To [`Request::Healthy`].
    Healthy(Healthiness),
    /// To [`Request::Addresses`].
    Addresses(Vec<AddressHealth>),
    /// To [`Request::Check`].
    Checked(Checked),
    /// To [`Request::Role`]: the role now.
    Role(RoleReply),
    /// To the other requests: the servers that are meant, in each of their services, and their state now.
    Servers(Vec<AffectedServer>),
    /// Why the request is invalid or could not be fulfilled.
    Error(String),
}

/// A role that people order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleOrder {
    /// Clients reach the services here.
    Active,
    /// Another director has the clients.
    Standby,
    /// As the configuration says.
    Auto,
}

impl RoleOrder {
    /// The role that is ordered; `None`: no order holds any more.
    #[must_use]
    pub fn role(self) -> Option<DirectorRole> {
        match self {
            Self::Active => Some(DirectorRole::Active),
            Self::Standby => Some(DirectorRole::Standby),
            Self::Auto => None,
        }
    }
}

/// The role of this director.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleReply {
    /// The role and why.
    #[serde(flatten)]
    pub status: RoleStatus,
    /// Why the next agent will know nothing of the order that holds, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
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

/// What a command does in mode `observe`.
const NOT_WRITTEN: &str = "nothing is written to the kernel's table (mode observe)";

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
    /// Nothing is written to the kernel's table (mode `observe`): the weight is what it would get.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observed: bool,
}

/// One line for people.
impl fmt::Display for AffectedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, address, weight, held, observed, .. } = self;
        write!(f, "{service} {address}: ")?;
        match (weight, observed) {
            (Some(weight), false) => write!(f, "weight {weight}")?,
            (None, false) => f.write_str("out of the table")?,
            (Some(weight), true) => write!(f, "{NOT_WRITTEN}; it would have weight {weight}")?,
            (None, true) => write!(f, "{NOT_WRITTEN}; it would be out of the table")?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{
        AgentStatus, CheckOutcome, CheckStatus, EvidenceStatus, Health, ServerStatus, ServiceStatus,
        SignalStatus, Traffic, Visibility,
    };

    #[test]
    fn a_command_in_observe_says_that_nothing_is_written() {
        let server = AffectedServer {
            service: "web".to_owned(),
            address: "10.0.0.1:80".parse().unwrap(),
            weight: Some(0),
            held: Some("it is being drained".to_owned()),
            connections: None,
            not_kept: None,
            observed: false,
        };
        let observed = |weight| AffectedServer { observed: true, weight, ..server.clone() };
        let nothing = "web 10.0.0.1:80: nothing is written to the kernel's table (mode observe)";
        let cases = [
            (server.clone(), "web 10.0.0.1:80: weight 0; it is being drained".to_owned()),
            (observed(Some(0)), format!("{nothing}; it would have weight 0; it is being drained")),
            (observed(None), format!("{nothing}; it would be out of the table; it is being drained")),
        ];
        for (server, expected) in cases {
            assert_eq!(server.to_string(), expected);
        }
    }

    /// Programs read these lines: what they look like is a promise.
    #[test]
    fn requests_and_replies_as_json() {
        assert_eq!(
            serde_json::to_string(&Request::Status { service: None, max_age_ms: None }).unwrap(),
            r#"{"command":"status"}"#
        );
        let signal = SignalStatus {
            seen: Visibility::ClientOnly,
            reason: Some("answers bypass the director".to_owned()),
            usual_wait_ms: Some(1.5),
            evidence: Some(EvidenceStatus { text: "3 refused".to_owned(), age_ms: 20 }),
        };
        let check = CheckStatus {
            check: "http".to_owned(),
            result: CheckOutcome::Failure,
            text: "connection refused".to_owned(),
            took_ms: 0.25,
            age_ms: 900,
        };
        let traffic = Traffic { active: 3, connections: 70, ..Traffic::default() };
        let server = ServerStatus {
            probe_path: None,
            address: "10.0.0.1:80".parse().unwrap(),
            method: "direct-route".to_owned(),
            weight: None,
            table_weight: Some(0),
            state: "down".to_owned(),
            backup: false,
            held: false,
            note: None,
            state_age_ms: Some(81_000),
            checks: vec![check],
            traffic: Some(traffic),
            failure: Some(EvidenceStatus { text: "connection refused".to_owned(), age_ms: 900 }),
            idle_connection: None,
            contradiction: None,
            signal,
        };
        let service = ServiceStatus {
            name: "web".to_owned(),
            key: "tcp 192.0.2.1:80".to_owned(),
            scheduler: "wlc".to_owned(),
            persistent_s: Some(300),
            health: Health::NoServer,
            alarm: false,
            quorum: None,
            second_chance: None,
            traffic: None,
            servers: vec![server.clone()],
        };
        let silent = ServerStatus { idle_connection: Some("open".to_owned()), ..server };
        assert!(serde_json::to_string(&silent).unwrap().contains(r#""idle_connection":"open","signal""#));
        let agent = AgentStatus { version: "0.1.0".to_owned(), mode: "manage".to_owned(), uptime_ms: 1000 };
        let status = Status { services: vec![service], health: Health::NoServer, agent, ..Status::default() };
        let reply = Versioned::new(Reply::Status(status));
        let line = r#"{"version":1,"status":{"version":1,"agent":{"version":"0.1.0","mode":"manage","uptime_ms":1000},"health":"no-server","services":[{"name":"web","key":"tcp 192.0.2.1:80","scheduler":"wlc","persistent_s":300,"health":"no-server","servers":[{"address":"10.0.0.1:80","method":"direct-route","weight":null,"table_weight":0,"state":"down","state_age_ms":81000,"checks":[{"check":"http","result":"failure","text":"connection refused","took_ms":0.25,"age_ms":900}],"traffic":{"active":3,"inactive":0,"persistent":0,"connections":70,"connections_per_s":0,"packets_in_per_s":0,"packets_out_per_s":0,"bytes_in_per_s":0,"bytes_out_per_s":0},"failure":{"text":"connection refused","age_ms":900},"signal":{"seen":"half","reason":"answers bypass the director","usual_wait_ms":1.5,"evidence":{"text":"3 refused","age_ms":20}}}]}]}}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), line);
        assert_eq!(serde_json::from_str::<Versioned<Reply>>(line).unwrap(), reply);
        assert_eq!(
            serde_json::to_string(&SignalStatus::none("why")).unwrap(),
            r#"{"seen":"none","reason":"why"}"#
        );
        let commands = [
            r#"{"command":"status","service":"web"}"#,
            r#"{"command":"events"}"#,
            r#"{"command":"events","after":7,"instance":1,"since_ms":600000,"service":"web"}"#,
            r#"{"command":"log-level"}"#,
            r#"{"command":"log-level","filter":"debug"}"#,
            r#"{"command":"reload"}"#,
            r#"{"command":"role"}"#,
            r#"{"command":"role","order":"standby"}"#,
            r#"{"command":"drain","server":"10.0.0.1:80"}"#,
            r#"{"command":"drain","server":"10.0.0.1","service":"web","remove":true}"#,
            r#"{"command":"undrain","server":"2001:db8::1"}"#,
            r#"{"command":"maintenance","server":"[2001:db8::1]:80","on":false}"#,
            r#"{"command":"check","server":"10.0.0.1:80","service":"web"}"#,
            r#"{"command":"connections","server":"10.0.0.1"}"#,
        ];
        for line in commands {
            let request: Request = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&request).unwrap(), line);
            let versioned = line.replacen('{', "{\"version\":1,", 1);
            assert_eq!(read_request(versioned.as_bytes()), Ok(request));
            let other = line.replacen('{', "{\"version\":2,", 1);
            let refused = read_request(other.as_bytes()).unwrap_err();
            assert!(refused.starts_with("version 2 of the control protocol"), "{refused}");
        }
        for visibility in
            [Visibility::Both, Visibility::ClientOnly, Visibility::CountersOnly, Visibility::None]
        {
            assert_eq!(serde_json::to_string(&visibility).unwrap(), format!("\"{visibility}\""));
        }
        let wrong = r#"{"command":"undrain","server":"web1"}"#;
        assert!(serde_json::from_str::<Request>(wrong).unwrap_err().to_string().contains("ADDRESS:PORT"));
        let old = r#"{"error":"no"}"#;
        let versioned: Versioned<Reply> = serde_json::from_str(old).expect("an agent from before versions");
        assert_eq!(versioned.version, 0);
        let refused = Reply::Error("no".to_owned());
        assert_eq!(serde_json::to_string(&refused).unwrap(), r#"{"error":"no"}"#);
    }
}
