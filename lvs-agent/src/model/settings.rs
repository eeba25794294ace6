//! Settings of the agent as a whole.

use std::{
    fmt,
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32},
    path::{Path, PathBuf},
    time::Duration,
};

use lvs_common::PROBE_MARK;

use super::{
    AnnounceSettings, CommandLine, LogTarget, OnExit, RoleSetting, ScriptUser, SecondChance, SyncSettings,
    Unlisted, VipMarks, VirtualService, defaults,
};

/// Everything an operator can say.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How the agent itself behaves.
    pub agent: AgentSettings,
    /// The passive signal and what it may ask for.
    pub passive: PassiveSettings,
    /// The virtual services, no two with the same key or name. At least one in [`Mode::Manage`].
    pub services: Vec<VirtualService>,
    /// What others are told of services.
    pub announce: AnnounceSettings,
    /// How other services are treated, where the table's are checked as well ([`Config::adopts`]).
    pub unlisted: Unlisted,
    /// Whether this director is active or standby.
    pub role: RoleSetting,
    /// The kernel's synchronisation daemons (only used in [`Mode::Manage`]); `None`: they are left alone.
    pub sync: Option<SyncSettings>,
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

impl Config {
    /// What holds without a configuration: services and servers are those of the kernel's table.
    #[must_use]
    pub fn of_table(mode: Mode) -> Self {
        let agent = AgentSettings { mode, ..AgentSettings::default() };
        Self {
            agent,
            passive: PassiveSettings::default(),
            services: Vec::new(),
            announce: AnnounceSettings::default(),
            unlisted: Unlisted::default(),
            role: RoleSetting::default(),
            sync: None,
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

    /// Whether any service may have a second chance. Where nothing is edited nobody can have one.
    #[must_use]
    pub fn second_chance(&self) -> SecondChance {
        let listed = self.services.iter().any(|service| service.second_chance.is_on());
        let unlisted = self.adopts() && self.unlisted.second_chance.is_on();
        SecondChance::from(self.agent.mode != Mode::Observe && (listed || unlisted))
    }

    /// Whether services and servers are those of the kernel's table: [`Mode::Observe`] does as [`Mode::Adopt`] would
    /// where the configuration leaves the servers to the table, else as [`Mode::Manage`] would.
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
    /// Services in the kernel's table that are not in the configuration (only used in [`Mode::Manage`]).
    pub foreign: Foreign,
    /// What the kernel shall do to existing connections of servers that are out.
    pub connections: ConnectionSettings,
    /// A folder; a file in it named after a server (`ADDRESS` or `ADDRESS:PORT`, or its host name) takes that server
    /// out.
    pub maintenance: Option<PathBuf>,
    /// Run with the configuration file's path after a change of it was read again.
    pub callback: Option<CommandLine>,
    /// Run at a clean stop, after the last edit of the table.
    pub on_shutdown: Option<CommandLine>,
    /// Other configuration files for which a second agent is started and stopped along with this one.
    pub execute: Vec<PathBuf>,
    /// Standard error, a file, or syslog.
    pub log: LogTarget,
    /// Whom the commands of checks run as; `None`: `nobody`, or the agent's own user where that isn't root.
    pub script_user: Option<ScriptUser>,
    /// The group whose members may use the control socket, besides root and the agent's own user; `None`: nobody else.
    pub operators: Option<String>,
    /// The firewall mark of the agent's own probes, never 0: by it the eBPF programs tell them from clients' packets.
    pub probe_mark: u32,
    /// The firewall marks of probes to VIPs, each of which leads to one server.
    pub vip_marks: VipMarks,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            metrics: Some(defaults::METRICS),
            on_exit: OnExit::default(),
            control: Some(defaults::CONTROL.into()),
            mode: Mode::default(),
            state: Some(defaults::STATE.into()),
            autoreload: false,
            foreign: Foreign::default(),
            connections: ConnectionSettings::default(),
            maintenance: None,
            callback: None,
            on_shutdown: None,
            execute: Vec::new(),
            log: LogTarget::default(),
            script_user: None,
            operators: Some(defaults::OPERATORS.to_owned()),
            probe_mark: PROBE_MARK,
            vip_marks: VipMarks::default(),
        }
    }
}

impl AgentSettings {
    /// Has the control socket and the state file in another folder, where they are at their usual places.
    pub fn place_in(&mut self, folder: &Path) {
        let usual = [(&mut self.control, defaults::CONTROL), (&mut self.state, defaults::STATE)];
        for (path, usual) in usual {
            if path.as_deref() == Some(Path::new(usual)) {
                *path = Path::new(usual).file_name().map(|name| folder.join(name));
            }
        }
    }
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

impl Default for ConnectionSettings {
    /// A client's retried SYN, and a persistent client's next connection, reach a living server. Ports that are used
    /// again are left to the kernel's own default.
    fn default() -> Self {
        Self { expire_nodest: Some(true), expire_quiescent: Some(true), reuse_mode: None }
    }
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
    /// How often the counters are evaluated; edges are evaluated at once.
    pub tick: Duration,
    /// Where the programs are put among those of others.
    pub order: AttachOrder,
    /// The detector's thresholds.
    pub detector: DetectorSettings,
    /// How many probes a suspicion may start, and how fast.
    pub burst: BurstSettings,
}

impl Default for PassiveSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            devices: Vec::new(),
            log_faults: false,
            record: None,
            tick: defaults::TICK,
            order: AttachOrder::default(),
            detector: DetectorSettings::default(),
            burst: BurstSettings::default(),
        }
    }
}

/// Where the eBPF programs are put among those of others on the same device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachOrder {
    /// From Linux 6.6 on.
    pub tcx: TcxOrder,
    /// Before that: the priority of the filters on the clsact qdisc. Lower ones come first.
    pub clsact_priority: NonZeroU16,
}

impl Default for AttachOrder {
    fn default() -> Self {
        Self { tcx: TcxOrder::First, clsact_priority: defaults::CLSACT_PRIORITY }
    }
}

/// A place among the programs on a device's tcx hook (`BPF_F_BEFORE`, `BPF_F_AFTER`; `kernel/bpf/mprog.c`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TcxOrder {
    /// Before all others.
    #[default]
    First,
    /// After all others.
    Last,
    /// Right before the program of that name; first where there is none.
    Before(String),
    /// Right after the program of that name; last where there is none.
    After(String),
}

impl fmt::Display for TcxOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first"),
            Self::Last => f.write_str("last"),
            Self::Before(name) => write!(f, "before {name}"),
            Self::After(name) => write!(f, "after {name}"),
        }
    }
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
    /// The longest such pause; it is no longer doubled then.
    pub backoff_max: Duration,
}

impl Default for DetectorSettings {
    fn default() -> Self {
        Self {
            silence_masquerade: defaults::SILENCE,
            silence_half_seen: defaults::SILENCE,
            silence_application: defaults::SILENCE_APPLICATION,
            clients: defaults::CLIENTS,
            false_alarms: defaults::FALSE_ALARMS,
            phi: defaults::PHI,
            loss: defaults::LOSS,
            memory: defaults::MEMORY,
            refusals: defaults::REFUSALS,
            resent_clients: defaults::RESENT_CLIENTS,
            resent_share: defaults::RESENT_SHARE,
            resent_within: defaults::RESENT_WITHIN,
            backoff: defaults::BACKOFF,
            backoff_max: defaults::BACKOFF_MAX,
        }
    }
}

/// The probes that a suspicion starts.
#[derive(Clone, Debug, PartialEq)]
pub struct BurstSettings {
    /// From the start of one confirming probe to the start of the next.
    pub gap: Duration,
    /// How long one confirming connection or ping of a server may take that isn't known yet. A burst of them goes on
    /// for this time and [`Self::gap`] at least, so that a host may stall for so long.
    pub timeout: Duration,
    /// Bursts a second for one server.
    pub server_rate: NonZeroU32,
    /// Bursts a second in all.
    pub total_rate: NonZeroU32,
    /// Hints a second in all that are followed by a probe; the bursts are counted apart.
    pub hint_rate: NonZeroU32,
}

impl Default for BurstSettings {
    fn default() -> Self {
        Self {
            gap: defaults::BURST_GAP,
            timeout: defaults::BURST_TIMEOUT,
            server_rate: defaults::SERVER_RATE,
            total_rate: defaults::TOTAL_RATE,
            hint_rate: defaults::HINT_RATE,
        }
    }
}
