//! The configuration: one model, and readers that fill it.
//!
//! A [`Config`] has been validated whole: nothing in it contradicts itself, and the rest of the agent doesn't check
//! again.

pub mod defaults;
mod error;
#[cfg(test)]
mod fuzz;
pub mod ldirectord;
pub mod native;
mod notify;
mod policy;
mod question;
mod source;
mod unlisted;
mod via;
mod warning;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    iter,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

pub use error::{
    ConfigError, Contradiction, Fault, FaultKind, Faults, FileError, FileErrorKind, KeyFault, Place,
    ValueFault,
};

pub use notify::{
    LogTarget, MailAbout, MailRelay, MailSettings, Notifications, RelayLogin, RelayTls, RelayTlsStart,
};
pub use policy::{Backup, CommandLine, FlapDamping, PoolPolicy, Quorum, StartPolicy};

pub use question::{
    BodyDigest, CommandConvention, CommandQuestion, Database, DnsQuestion, DnsType, GreetingProtocol,
    GreetingQuestion, HttpMethod, HttpPage, HttpQuestion, HttpVersion, LdapQuestion, Login, OracleQuestion,
    Pattern, PatternError, Question, RadiusQuestion, Secret, SipQuestion, SqlQuestion, StatusCodes,
    TcpQuestion, Tls, TlsStart, TlsVerify, Transport, UdpQuestion,
};
pub use source::{Fingerprint, Source};
pub use unlisted::Unlisted;
pub use via::{DeviceName, Via};
pub use warning::{Format, Reading, Strictness, Warning, WarningKind};

use crate::service::{ForwardingMethod, Persistence, Scheduler, ServiceKey, Tunnel, Weight};

/// Everything an operator can say.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How the agent itself behaves.
    pub agent: AgentSettings,
    /// The passive signal and what it may ask for.
    pub passive: PassiveSettings,
    /// The virtual services, no two with the same key or name. At least one in [`Mode::Manage`].
    pub services: Vec<VirtualService>,
    /// How other services are treated, where the table's are checked as well ([`Config::adopts`]).
    pub unlisted: Unlisted,
}

/// Why a configuration can't be used in [`Mode::Manage`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotManageable {
    /// There is no service.
    #[error(
        "the configuration has no services, so there is nothing to manage; add a [[service]], or take another mode"
    )]
    NoServices,
    /// This service has no servers.
    #[error(
        "service \"{0}\" has no servers, so it can't be managed; add a [[service.server]], or take another mode"
    )]
    NoServers(String),
}

/// The largest file that is read. 10,000 servers take about a tenth of it.
const MAX_FILE_BYTES: u64 = 16 << 20;

impl Config {
    /// What holds without a configuration: services and servers are those of the kernel's table.
    #[must_use]
    pub fn of_table(mode: Mode) -> Self {
        let agent = AgentSettings { mode, ..AgentSettings::default() };
        Self {
            agent,
            passive: PassiveSettings::default(),
            services: Vec::new(),
            unlisted: Unlisted::default(),
        }
    }

    /// The same configuration in another mode.
    pub fn in_mode(mut self, mode: Mode) -> Result<Self, NotManageable> {
        let without = |service: &&VirtualService| !service.has_servers();
        if mode == Mode::Manage {
            match self.services.iter().find(without) {
                None if self.services.is_empty() => return Err(NotManageable::NoServices),
                None => {}
                Some(service) => return Err(NotManageable::NoServers(service.name.clone())),
            }
        }
        self.agent.mode = mode;
        Ok(self)
    }

    /// Whether services and servers are those of the kernel's table: [`Mode::Observe`] does as [`Mode::Adopt`] would where
    /// the configuration leaves the servers to the table, else as [`Mode::Manage`] would.
    #[must_use]
    pub fn adopts(&self) -> bool {
        match self.agent.mode {
            Mode::Manage => false,
            Mode::Adopt => true,
            Mode::Observe => {
                self.services.is_empty() || !self.services.iter().all(VirtualService::has_servers)
            }
        }
    }

    /// Reads and validates the file at `path`, whole.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        Self::read_file(path, Strictness::Lenient).map(|reading| reading.config)
    }

    /// The same, with what its author should know. The format is recognised by the content.
    pub fn read_file(path: &Path, strictness: Strictness) -> Result<Reading, ConfigError> {
        let bytes = read_bytes(path).map_err(|kind| FileError { path: path.to_owned(), kind })?;
        Self::read_bytes(&bytes, path, strictness)
    }

    /// Reads and validates the content of a file. `origin` names it in messages.
    pub fn read_bytes(bytes: &[u8], origin: &Path, strictness: Strictness) -> Result<Reading, ConfigError> {
        Self::read_bytes_in_mode(bytes, origin, strictness, None)
    }

    /// The same for another mode than the one that is written.
    fn read_bytes_in_mode(
        bytes: &[u8],
        origin: &Path,
        strictness: Strictness,
        mode: Option<Mode>,
    ) -> Result<Reading, ConfigError> {
        // Comments of files from before UTF-8 do no harm in ldirectord's format.
        let lossy = String::from_utf8_lossy(bytes);
        if ldirectord::is_ldirectord(&lossy) {
            let reading = ldirectord::read(&lossy, origin, strictness)?;
            return reading.in_mode(mode);
        }
        let text = str::from_utf8(bytes).map_err(|error| {
            let text = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let place = Place::new(&text, &(text.len()..text.len()));
            let (line, column) = (place.line, place.column);
            let kind = FileErrorKind::NotText { offset: error.valid_up_to(), line, column };
            FileError { path: origin.to_owned(), kind }
        })?;
        native::read_in_mode(text, origin, mode)
    }
}

/// The file's content.
fn read_bytes(path: &Path) -> Result<Vec<u8>, FileErrorKind> {
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => FileErrorKind::Missing,
        io::ErrorKind::IsADirectory => FileErrorKind::Directory,
        _ => FileErrorKind::Io(error),
    };
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits, even where the file has no
    // size of its own, such as a pipe.
    File::open(path).map_err(explain)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(explain)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(FileErrorKind::TooLarge { limit: MAX_FILE_BYTES });
    }
    Ok(bytes)
}

/// How the agent itself behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSettings {
    /// Where `/metrics` is served; `None` serves none.
    pub metrics: Option<SocketAddr>,
    /// What becomes of the configured services in the kernel's table at a clean stop.
    pub on_exit: OnExit,
    /// Where the control socket is; `None` is nowhere.
    pub control: Option<PathBuf>,
    /// What the agent may do to the kernel's table.
    pub mode: Mode,
    /// Where intended weights are kept for the next start; `None`: nowhere.
    pub state: Option<PathBuf>,
    /// Whether a changed configuration file is read again by itself.
    pub autoreload: bool,
    /// Services in the kernel's table that are not in the configuration (only looked at in [`Mode::Manage`]).
    pub foreign: Foreign,
    /// What the kernel shall do to existing connections of servers that are out.
    pub connections: ConnectionSettings,
    /// A folder; a file in it named after a server (`ADDRESS` or `ADDRESS:PORT`, or its host name) takes that server out.
    pub maintenance: Option<PathBuf>,
    /// Run with the configuration file's path after a change of it was read again.
    pub callback: Option<CommandLine>,
    /// Other configuration files for which a second agent is started and stopped along with this one.
    pub execute: Vec<PathBuf>,
    /// Where the log goes.
    pub log: LogTarget,
}

/// What the agent may do to the kernel's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The table is what the configuration says.
    #[default]
    Manage,
    /// Services and servers are those of the table; only weights are changed, or servers removed and added again.
    Adopt,
    /// Nothing is written; what would have been is logged and counted.
    Observe,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manage => "manage",
            Self::Adopt => "adopt",
            Self::Observe => "observe",
        })
    }
}

/// What becomes of services in the kernel's table that are not in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Foreign {
    /// They are left alone.
    #[default]
    Keep,
    /// They are removed.
    Remove,
}

/// Sysctls of `net.ipv4.vs` (`Documentation/networking/ipvs-sysctl.rst`); `None` leaves one as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// Whether a packet of a connection whose server is out expires it at once (`expire_nodest_conn`), so that a
    /// client's retried SYN reaches a living server.
    pub expire_nodest: Option<bool>,
    /// Whether persistence templates of servers with weight 0 expire (`expire_quiescent_template`), so that a client's
    /// next connection goes to a living server.
    pub expire_quiescent: Option<bool>,
    /// How a client's port that is used again is treated (`conn_reuse_mode`).
    pub reuse_mode: Option<u8>,
}

/// What becomes of the configured services at a clean stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExit {
    /// They stay as they are: traffic outlives the agent.
    #[default]
    Keep,
    /// They are removed from the kernel's table.
    Remove,
}

/// The passive signal and what it may ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct PassiveSettings {
    /// Whether the kernel-side programs are loaded at all.
    pub enabled: bool,
    /// The devices to watch; empty: those that the routes to the real servers lead through.
    pub devices: Vec<String>,
    /// Whether the kernel side logs what it can't make sense of. Costs time for each such packet.
    pub log_faults: bool,
    /// The file in which is written down what the detector is shown; `None`: nowhere.
    pub record: Option<PathBuf>,
    /// How often the signs of life are looked at; edges are looked at at once.
    pub tick: Duration,
    /// The detector's thresholds.
    pub detector: DetectorSettings,
    /// The confirming burst.
    pub burst: BurstSettings,
}

/// When missing signs of life become a suspicion.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectorSettings {
    /// A server is never called silent sooner than this after the first SYN without an answer (masquerade).
    pub silence_masquerade: Duration,
    /// The same where the director sees only the clients' half (direct route, tunnel).
    pub silence_half_seen: Duration,
    /// An application is never called silent sooner than this after the first request without a response.
    pub silence_application: Duration,
    /// From how many client networks (/24, /64) SYNs or requests must be waiting, or data be sent again.
    pub clients: u32,
    /// How many false suspicions an hour of one server are bearable; sets the threshold of weak ones.
    pub false_alarms: f64,
    /// How sure a strong suspicion is: 10 to the minus this is the probability that a living server looks so.
    pub phi: f64,
    /// The share of packets that are lost anyway, from 0 to 1; more is learned where it is so.
    pub loss: f64,
    /// Over how long a time it is learned what is usual.
    pub memory: Duration,
    /// After how many refused SYNs in a row, without an accepted one between, a suspicion is strong.
    pub refusals: u32,
    /// Data sent again by so many client networks makes a strong suspicion …
    pub resent_clients: u32,
    /// … or by this share of the sampled active flows, from 0 to 1.
    pub resent_share: f64,
    /// How recent the newest of that data must be.
    pub resent_within: Duration,
    /// How long the same server is left alone after a probe has cleared it; doubles each time.
    pub backoff: Duration,
    /// The longest such pause.
    pub backoff_max: Duration,
}

/// The probes that a suspicion starts.
#[derive(Clone, Debug, PartialEq)]
pub struct BurstSettings {
    /// From the start of one confirming probe to the start of the next.
    pub gap: Duration,
    /// How long one confirming probe may take.
    pub timeout: Duration,
    /// Bursts a second that one server may be asked for.
    pub server_rate: NonZeroU32,
    /// Bursts a second in all.
    pub total_rate: NonZeroU32,
}

/// A virtual service: what clients connect to.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualService {
    /// The operator's name for it, unique; used in logs and metrics.
    pub name: String,
    /// What names it in the kernel's table.
    pub key: ServiceKey,
    /// How new connections are spread.
    pub scheduler: Scheduler,
    /// For how long a client stays with its server, if at all.
    pub persistence: Option<Persistence>,
    /// UDP only: whether every packet is scheduled on its own. `None`: as it is found in the kernel's table.
    pub one_packet: Option<bool>,
    /// The scheduler's own flags. `None`: as they are found in the kernel's table.
    pub scheduler_flags: Option<SchedulerFlags>,
    /// What tells persistent clients apart where it isn't the address: `sip`.
    pub persistence_engine: Option<String>,
    /// Failures in a row that make a server's soft state hard.
    pub fall: NonZeroU32,
    /// Successes in a row that bring it back.
    pub rise: NonZeroU32,
    /// What is done to a server in hard state.
    pub on_failure: OnFailure,
    /// The question that each server is asked.
    pub check: Check,
    /// What else each server is asked, and what the answers together mean.
    pub further: FurtherChecks,
    /// The real servers, no two with the same address and port. There is at least one unless there are backups, or the
    /// mode is not [`Mode::Manage`].
    pub servers: Vec<RealServer>,
    /// How the pool is run.
    pub policy: PoolPolicy,
    /// Who is told of changes.
    pub notify: Notifications,
    /// What becomes of it at a clean stop, where it isn't as for all.
    pub on_exit: Option<OnExit>,
}

impl VirtualService {
    /// Whether the configuration says who its servers are.
    #[must_use]
    pub fn has_servers(&self) -> bool {
        !self.servers.is_empty() || !self.policy.backups.is_empty()
    }

    /// What a server of it is asked first of all.
    #[must_use]
    pub fn check_of<'a>(&'a self, server: &'a RealServer) -> &'a Check {
        server.check.as_ref().unwrap_or(&self.check)
    }

    /// What a server of it is asked besides: with its own check it has its own further ones, too.
    #[must_use]
    pub fn further_of<'a>(&'a self, server: &'a RealServer) -> &'a FurtherChecks {
        if server.check.is_some() { &server.further } else { &self.further }
    }

    /// All that a server of it is asked, the first of all first.
    pub fn checks_of<'a>(&'a self, server: &'a RealServer) -> impl Iterator<Item = &'a Check> {
        iter::once(self.check_of(server)).chain(&self.further_of(server).checks)
    }
}

/// Checks beside the first one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FurtherChecks {
    /// The checks; each counts its own failures and successes.
    pub checks: Vec<Check>,
    /// What they and the first one together mean.
    pub combine: Combine,
}

/// When a server with several checks is healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Combine {
    /// When all of them say so.
    #[default]
    All,
    /// When at least one of them says so.
    Any,
}

/// Flags that a scheduler makes something of (`ipvsadm --sched-flags`): for `sh` and `mh`, 1 is fallback, 2 hashes the port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedulerFlags {
    /// `flag-1`.
    pub flag_1: bool,
    /// `flag-2`.
    pub flag_2: bool,
    /// `flag-3`.
    pub flag_3: bool,
}

/// What is done to a server in hard state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Weight 0: no new connections, existing ones are left alone.
    #[default]
    Quiesce,
    /// The destination is removed.
    Remove,
}

/// A real server in a service.
#[derive(Clone, Debug, PartialEq)]
pub struct RealServer {
    /// Address and port; under direct route and tunnel the port is the service's. Port 0 where the service has none and
    /// the client's is kept.
    pub address: SocketAddr,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// How they are wrapped; only looked at where the method is a tunnel.
    pub tunnel: Tunnel,
    /// Its weight when it is healthy.
    pub weight: Weight,
    /// From how many connections on it gets no new ones; 0: no limit. `None`: as it is found in the kernel's table.
    pub upper_threshold: Option<u32>,
    /// Below how many it gets new ones again; 0: three quarters of the upper one.
    pub lower_threshold: Option<u32>,
    /// What it is asked, where that isn't what the service's servers are asked.
    pub check: Option<Check>,
    /// What else it is asked; only looked at where it has a check of its own.
    pub further: FurtherChecks,
}

impl RealServer {
    /// A server of which only that is said what must be.
    #[must_use]
    pub fn new(address: SocketAddr, method: ForwardingMethod) -> Self {
        Self {
            address,
            method,
            tunnel: Tunnel::default(),
            weight: Weight(1),
            upper_threshold: None,
            lower_threshold: None,
            check: None,
            further: FurtherChecks::default(),
        }
    }
}

/// A question and how often, how long and where it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// What is asked.
    pub question: Question,
    /// From the start of one check to the start of the next.
    pub interval: Duration,
    /// How long the whole check may take.
    pub timeout: Duration,
    /// The port that is asked, where it isn't the real server's own.
    pub port: Option<u16>,
    /// From where it is asked, and how long its steps may take.
    pub via: Via,
    /// The interval while the server's state is soft; `None`: [`Check::soft_interval`] says.
    pub soft_interval: Option<Duration>,
    /// How many times only a connection is asked for between two times that the question is; 0: never. A connection that
    /// fails brings the question at once (ldirectord's `checktype=N`).
    pub connects_between: u32,
}

impl Check {
    /// From the start of one check to the start of the next while a state is soft; never above the interval.
    #[must_use]
    pub fn soft_interval(&self) -> Duration {
        let usual = (self.interval / defaults::SOFT_PART).max(defaults::SOFT_LEAST);
        self.soft_interval.unwrap_or(usual).min(self.interval)
    }

    /// The same check for a server of the virtual service `key`, which a command may want to know.
    #[must_use]
    pub fn of_service(mut self, key: ServiceKey) -> Self {
        if let Question::Command(command) = &mut self.question {
            command.service = Some(key);
        }
        self
    }
}
