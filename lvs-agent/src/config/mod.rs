//! The configuration: one model, and readers that fill it.
//!
//! A [`Config`] has been validated whole: nothing in it contradicts itself, and the rest of the agent doesn't check
//! again.

pub mod defaults;
mod error;
pub mod native;
mod question;
mod via;

use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

pub use error::{
    ConfigError, Contradiction, Fault, FaultKind, Faults, FileError, FileErrorKind, KeyFault, Place,
    ValueFault,
};

pub use question::{
    BodyDigest, CommandConvention, CommandQuestion, Database, DnsQuestion, DnsType, GreetingProtocol,
    GreetingQuestion, HttpMethod, HttpPage, HttpQuestion, HttpVersion, LdapQuestion, Login, OracleQuestion,
    Pattern, PatternError, Question, RadiusQuestion, Secret, SipQuestion, SqlQuestion, StatusCodes,
    TcpQuestion, Tls, TlsStart, TlsVerify, Transport, UdpQuestion,
};
pub use via::{DeviceName, Via};

use crate::service::{ForwardingMethod, Persistence, Scheduler, ServiceKey, Tunnel, Weight};

/// Everything an operator can say.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How the agent itself behaves.
    pub agent: AgentSettings,
    /// The passive signal and what it may ask for.
    pub passive: PassiveSettings,
    /// The virtual services, at least one, no two with the same key or name.
    pub services: Vec<VirtualService>,
}

/// The largest file that is read. 10,000 servers take about a tenth of it.
const MAX_FILE_BYTES: u64 = 16 << 20;

impl Config {
    /// Reads and validates the file at `path`, whole.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text(path).map_err(|kind| FileError { path: path.to_owned(), kind })?;
        native::read(&text, path)
    }
}

/// The file's text.
fn read_text(path: &Path) -> Result<String, FileErrorKind> {
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
    String::from_utf8(bytes)
        .map_err(|error| FileErrorKind::NotText { offset: error.utf8_error().valid_up_to() })
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
    /// Failures in a row that make a server's soft state hard.
    pub fall: NonZeroU32,
    /// Successes in a row that bring it back.
    pub rise: NonZeroU32,
    /// What is done to a server in hard state.
    pub on_failure: OnFailure,
    /// The question that each server is asked.
    pub check: Check,
    /// The real servers, at least one, no two with the same address and port.
    pub servers: Vec<RealServer>,
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
}

impl Check {
    /// The same check for a server of the virtual service `key`, which a command may want to know.
    #[must_use]
    pub fn of_service(mut self, key: ServiceKey) -> Self {
        if let Question::Command(command) = &mut self.question {
            command.service = Some(key);
        }
        self
    }
}
