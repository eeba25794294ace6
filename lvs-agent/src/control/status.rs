//! The status: what `lvs-agent status` shows, and prints as JSON. Its schema is `docs/status.schema.json`.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

/// The version of the status as JSON. It changes when a field goes or means something else; fields may be added, and
/// programs ignore those that they don't know.
pub const STATUS_VERSION: u32 = 1;

/// The state of everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    /// [`STATUS_VERSION`]; 0 of agents from before there were versions.
    #[serde(default)]
    pub version: u32,
    /// The agent that says it.
    #[serde(default)]
    pub agent: AgentStatus,
    /// The worst of all services.
    #[serde(default)]
    pub health: Health,
    /// All services, in the order of the configuration.
    pub services: Vec<ServiceStatus>,
    /// Where nothing is written to the kernel's table: what would have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedStatus>,
    /// Sysctls of `net.ipv4.vs` that decide what becomes of connections whose server is out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub connections: BTreeMap<String, i32>,
    /// Whether this director is active or standby.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleStatus>,
    /// The kernel's synchronisation daemons that run, or are to run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sync_daemons: Vec<SyncDaemonStatus>,
    /// What people should know, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            version: STATUS_VERSION,
            agent: AgentStatus::default(),
            health: Health::default(),
            services: Vec::new(),
            observed: None,
            connections: BTreeMap::new(),
            role: None,
            sync_daemons: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// The agent itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AgentStatus {
    /// The version of its program.
    pub version: String,
    /// `manage`, `adopt` or `observe`.
    pub mode: String,
    /// How long it has run, in ms.
    pub uptime_ms: u64,
}

/// Whether this director is active or standby, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RoleStatus {
    /// `active` or `standby`.
    pub role: String,
    /// Why, for programs: `configured`, `ordered`, `vip-here`, `no-vip-here`, `no-vips` or `unknown`.
    pub reason: String,
    /// Why, as a phrase for people.
    pub text: String,
}

/// One line for people.
impl fmt::Display for RoleStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, text, .. } = self;
        write!(f, "{role}: {text}")
    }
}

/// A synchronisation daemon of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SyncDaemonStatus {
    /// `master`: it tells others of connections; or `backup`: it learns of theirs.
    pub role: String,
    /// `as-configured`, `differs`, `missing`, or `unmanaged` where it is no affair of this agent's.
    pub state: String,
    /// The device that it uses, or is to use.
    pub interface: String,
    /// Its number.
    pub id: u32,
    /// Its multicast group and UDP port.
    pub group: SocketAddr,
    /// What is wrong with it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How well a service is served, or all of them. The greater, the worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// All servers are up but those that people hold out.
    #[default]
    Up,
    /// A server is not up, or its clients fail, or the quorum is lost; others serve.
    Degraded,
    /// No server that may be alive gets connections.
    NoServer,
}

/// Edits of the kernel's table that would have been made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ObservedStatus {
    /// How many of them since the agent started.
    pub total: u64,
    /// The latest of them, the oldest first.
    pub latest: Vec<ObservedEdit>,
}

/// An edit that would have been made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ObservedEdit {
    /// The edit or the evidence as a phrase for people.
    pub text: String,
    /// How long ago, in ms.
    pub age_ms: u64,
}

/// The state of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServiceStatus {
    /// The operator's name for it.
    pub name: String,
    /// What names it in the kernel's table, as `tcp 192.0.2.80:80` or `mark 7`.
    pub key: String,
    /// How new connections are spread, as the kernel spells it.
    #[serde(default)]
    pub scheduler: String,
    /// For how long a client stays with its server, in seconds, if at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_s: Option<u64>,
    /// How well it is served.
    #[serde(default)]
    pub health: Health,
    /// Whether servers that look dead are retained, because the fast path may not take out so many.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alarm: bool,
    /// Whether enough servers are healthy, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<bool>,
    /// Second chance for connections that have just begun: `on`, or `off: ` and why; none where it isn't asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_chance: Option<String>,
    /// What the kernel counts, if it has the service: of connections under way the sum of its servers'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<ServerStatus>,
}

/// The state of one real server in a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerStatus {
    /// Its address and port.
    pub address: SocketAddr,
    /// How packets reach it.
    pub method: String,
    /// Its weight in the wanted table; `None` if it shall not be there.
    pub weight: Option<u16>,
    /// Its weight in the kernel's table as it is; `None` if it isn't there, or the table can't be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_weight: Option<i32>,
    /// `up`, `suspect`, `down`, `recovering`, `damped` or `unknown`; `unchecked` of a backup without a check.
    pub state: String,
    /// Whether it is a backup, in the table only while too few others are healthy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// Whether people hold it out, whatever its health: by a drain, maintenance, or an administrator's weight 0.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Why its weight is as it is, where the state doesn't say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// For how long it has been in this state, in ms; not there: since the agent's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_age_ms: Option<u64>,
    /// The last result of each of its checks, in the order of the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckStatus>,
    /// What the kernel counts, if the server is in its table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// The last failure of its checks or confirming probes, as long as the checks haven't brought it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<EvidenceStatus>,
    /// Where probes go, if not to the server's own address: to the VIP as clients do, and by which way, or to another
    /// address that a check names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_path: Option<String>,
    /// `open`, `not open`, or `off: ` and why; none where no idle connection is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_connection: Option<String>,
    /// For how long its clients have failed while its checks succeed, what they lack, and the likely causes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contradiction: Option<String>,
    /// What the passive signal says about it.
    pub signal: SignalStatus,
}

/// The last result of one check of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CheckStatus {
    /// The kind of check, such as `http`.
    pub check: String,
    /// What it says about the server.
    pub result: CheckOutcome,
    /// `answered`, or why it failed.
    pub text: String,
    /// How long it took, in ms.
    pub took_ms: f64,
    /// How long ago it ended, in ms.
    pub age_ms: u64,
}

/// What a check says about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CheckOutcome {
    /// It answered as it should.
    Success,
    /// It didn't.
    Failure,
    /// Nothing: the check could not be made.
    Inconclusive,
}

/// What the kernel counts of a service or server. Rates are the kernel's estimates, made anew every two seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Traffic {
    /// Connections under way, half-opened ones included.
    pub active: u32,
    /// Connections that are closing, or closed and still remembered.
    pub inactive: u32,
    /// Clients that persistence holds there.
    pub persistent: u32,
    /// Connections since it was added to the table.
    pub connections: u64,
    /// New connections a second.
    pub connections_per_s: u64,
    /// Packets from clients a second.
    pub packets_in_per_s: u64,
    /// Packets to clients a second; 0 where answers bypass the director.
    pub packets_out_per_s: u64,
    /// Bytes from clients a second.
    pub bytes_in_per_s: u64,
    /// Bytes to clients a second; 0 where answers bypass the director.
    pub bytes_out_per_s: u64,
}

/// The passive signal of one server in a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EvidenceStatus {
    /// The edit or the evidence as a phrase for people.
    pub text: String,
    /// How long ago, in ms.
    pub age_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the schema is published, from this package's folder.
    const SCHEMA: &str = "../docs/status.schema.json";

    /// `LVS_WRITE_SCHEMA=1` writes it anew.
    #[test]
    fn the_published_schema_is_that_of_the_types() {
        let schema = schemars::generate::SchemaSettings::draft2020_12()
            .with(|settings| settings.contract = schemars::generate::Contract::Serialize)
            .into_generator()
            .into_root_schema_for::<Status>();
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(SCHEMA);
        if std::env::var_os("LVS_WRITE_SCHEMA").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            published, text,
            "write it anew: LVS_WRITE_SCHEMA=1 cargo test -p lvs-agent published_schema"
        );
    }
}
