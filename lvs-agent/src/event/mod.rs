//! Everything that a person or a program may want to know of, as values: an [`Event`] for each, and the one
//! [`Publisher`] that they go through. Log, metrics and notifications are its subscribers.
//!
//! Events carry facts, never sentences: the subscribers choose the words (`telemetry::log`).

#[cfg(test)]
mod examples;
mod history;
mod kinds;
mod publisher;
mod role_reason;
mod timeline;

#[cfg(test)]
pub(crate) use self::{examples::examples, publisher::Recorded};
pub(crate) use self::{
    history::{Entry, Excerpt, History},
    kinds::{
        AnnounceWay, ChanceCause, ChanceResult, CommandRun, ConfigNotice, Consequence, ContradictionChange,
        ContradictionEnd, GivenUp, HintFate, InstanceChange, LineFile, ListChange, MailResult, ProbeKind,
        ReloadCause, StateFileChange, Subject, SyncChange, VipChange, WeightOccasion, Withdrawal,
    },
    publisher::{Publisher, Record, Subscriber},
    role_reason::{RoleReason, RoleState, Takeover},
    timeline::Timelines,
};

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    control::Reloaded,
    health::{State, Transition},
    ipvs::{DaemonRole, Edit, Sysctl, SysctlValue},
    model::{DestinationKey, DirectorRole, ForwardingMethod, Mode, Role, ServiceKey, VirtualService, Weight},
    passive::{
        Evidence, Hint, Suspicion,
        blindness::{BlindnessChange, Way},
    },
    pool::{AdminAction, PoolEvent},
    probe::{Outcome, Verdict, idle::IdleChange},
};

/// Something that has happened. Its name for programs is [`Event::name`]; `docs/events.md` lists all of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// The agent has started.
    Ready { services: usize, mode: Mode },
    /// The agent could not start, or has ended with an error.
    Failed { error: String },
    /// The agent before this one had to end itself.
    AfterFailure { reason: String },
    /// The agent starts to stop: the engine decides nothing from now on.
    Stopping,
    /// The agent has stopped.
    Stopped,
    /// A notice for the author of the configuration.
    Config(ConfigNotice),
    /// The configuration was read again and is in force.
    Reloaded { cause: ReloadCause, summary: Reloaded },
    /// A reload has failed; the old configuration stays in force.
    ReloadFailed { cause: ReloadCause, error: String },
    /// The engine decides about these services from now on.
    Services { services: Arc<[VirtualService]> },
    /// The services in the kernel's table, where the agent adopts them.
    Adopted { services: usize, servers: usize, administered: usize },
    /// Others have changed the list of services or servers in the kernel's table.
    AdoptedChange { change: ListChange },

    /// Something is odd about a server; it is no suspicion.
    Hint { subjects: Vec<Subject>, hint: Hint, fate: HintFate },
    /// The detector suspects a server.
    Suspicion { subjects: Vec<Subject>, suspicion: Suspicion },
    /// An application may hang, and no check of the service can confirm that.
    Reported { subject: Subject, evidence: Evidence },
    /// A server is alive, but accepts no new connections.
    Overloaded { subject: Subject, evidence: Evidence },
    /// The clients of a server fail while its probes succeed, or no longer. `method`: how packets reach it.
    Contradiction { subject: Subject, method: ForwardingMethod, change: ContradictionChange },
    /// Most of a service is suspected at once.
    Correlated { subjects: Vec<Subject>, evidence: Option<Evidence> },
    /// A probe has cleared a suspicion.
    Cleared { subjects: Vec<Subject> },
    /// A suspicion was not probed because the probe budget is exhausted.
    ProbeWithheld { subjects: Vec<Subject>, reason: String },
    /// The programs see nothing, or again something, of what IPVS balances on a device. `in_front`: whose programs come
    /// before them there.
    Blind { change: BlindnessChange, in_front: Vec<String> },
    /// Programs or filters of others come before the agent's on a device; none: no longer.
    InFront { device: String, way: Way, names: Vec<String> },
    /// Something has become of the idle connection to a server.
    IdleConnection { subjects: Vec<Subject>, change: IdleChange },
    /// Not all servers have an idle connection: the process may open too few files.
    IdleLimit { wanted: usize, limit: usize },
    /// Handshakes that were open with a server were begun anew, and what became of them.
    SecondChance { subject: Subject, result: ChanceResult },
    /// A service that is to have a second chance has none.
    NoSecondChance { service: String, reason: String },
    /// A probe has ended.
    Probe { kind: ProbeKind, subjects: Vec<Subject>, outcome: Outcome, verdict: Verdict },
    /// A server's state has changed. `relapses`: how often it went down soon after it had come back.
    Transition { subject: Subject, transition: Transition, outcome: Outcome, relapses: u32 },
    /// A check of a service can't be made, by a fault of this director's own. The first server of those whose check it
    /// is, and its state, which stays; `None`: a backup that isn't checked.
    CheckBlocked { subject: Subject, state: Option<State>, reason: String },
    /// All checks of a service can be made again.
    CheckUnblocked { service: Arc<str> },
    /// A server that is down has failed for another reason than `was` for a while.
    Reason { subject: Subject, was: String, outcome: Outcome },
    /// A server seems dead, but stays in the table: the fast path may not take out so many.
    Retained { subject: Subject },
    /// A server's weight in the desired table has changed; `None`: it is not to be there.
    Weight {
        subject: Subject,
        role: Role,
        from: Option<Weight>,
        to: Option<Weight>,
        occasion: WeightOccasion,
        /// The failure of its check, if that is the reason.
        reason: Option<String>,
    },
    /// The quorum, the backups or the alarm of a service have changed.
    Pool { service: Arc<str>, key: ServiceKey, change: PoolEvent },
    /// An admin command has drained a server, put it in maintenance, or ended that.
    Admin { subject: Subject, action: AdminAction },
    /// An admin command from before the start is in effect again.
    AdminRestored { subject: Subject, reason: &'static str },
    /// An admin command from before the start is about a server that no longer exists.
    AdminForgotten { destination: DestinationKey },

    /// An edit of the kernel's table was made. `took`: how long the kernel took.
    Edit { edit: Edit, took: Duration },
    /// A dry run would have made an edit.
    EditObserved { edit: Edit },
    /// The kernel refused an edit, or gave no answer. `again`: how long until it is retried.
    EditFailed { edit: Edit, error: String, again: Option<Duration> },
    /// The kernel's table can't be read or edited.
    TableUnreachable { reason: String },
    /// The kernel's table can be read again.
    TableReachable,
    /// Others have changed a managed service. `repair_in`: how long until the change is reverted, if not at once.
    Interference { service: ServiceKey, differences: Vec<String>, repair_in: Option<Duration> },
    /// Others have changed many managed services at once.
    Interferences { services: usize, missing: usize, edits: usize, later: usize },
    /// Others keep changing a service.
    Contended { service: ServiceKey },
    /// Others no longer change a service.
    ContentionOver { service: ServiceKey },
    /// A setting of `net.ipv4.vs` was changed.
    Sysctl { sysctl: Sysctl, from: SysctlValue, to: SysctlValue },
    /// A setting of `net.ipv4.vs` would leave clients with a dead server.
    ConnectionRisk { risk: String },

    /// Something has become of a synchronisation daemon of the kernel.
    SyncDaemon { role: DaemonRole, change: SyncChange },
    /// This director is active or standby from now on. `takeover`: what it finds as it becomes active.
    Role { role: DirectorRole, reason: RoleReason, takeover: Option<Takeover> },

    /// The state file can't be used, or can again.
    StateFile { path: Option<PathBuf>, change: StateFileChange },
    /// A mail was sent, or could not be.
    Mail { to: String, subject: String, result: MailResult },
    /// A command has run, or has failed.
    Command { about: String, what: &'static str, command: String, result: CommandRun },
    /// A file for lines can't be written to, or can again.
    LineFile { path: PathBuf, change: LineFile },
    /// So many notifications were dropped because too many were waiting.
    NotificationsLost { kind: &'static str, count: u64 },
    /// So many notifications were still waiting when the agent stopped.
    NotificationsLeft { left: usize },
    /// What others read of services can't be written, or can again: a folder of files, a FIFO, or a device.
    Announcing { way: AnnounceWay, what: String, change: LineFile },
    /// A VIP was put on a device or taken away.
    Vip { address: IpAddr, device: String, change: VipChange },
    /// An agent for `execute` was started, or has ended.
    Instance { name: String, change: InstanceChange },
}

impl Event {
    /// Its name, for programs: short, lower case.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "ready",
            Self::Failed { .. } => "failed",
            Self::AfterFailure { .. } => "after-failure",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Config(_) => "config",
            Self::Reloaded { .. } => "reload",
            Self::ReloadFailed { .. } => "reload-failed",
            Self::Services { .. } => "services",
            Self::Adopted { .. } => "adopted",
            Self::AdoptedChange { .. } => "adopted-change",
            Self::Hint { .. } => "hint",
            Self::Suspicion { .. } => "suspicion",
            Self::Reported { .. } => "reported",
            Self::Overloaded { .. } => "overloaded",
            Self::Contradiction { change, .. } => match change {
                ContradictionChange::Begun { .. } => "contradiction",
                ContradictionChange::Out { .. } => "contradiction-out",
                ContradictionChange::Trial => "contradiction-trial",
                ContradictionChange::Over { .. } => "contradiction-over",
            },
            Self::Correlated { .. } => "common",
            Self::Cleared { .. } => "cleared",
            Self::ProbeWithheld { .. } => "probe-withheld",
            Self::Blind { change, .. } if change.is_blind => "signal-blind",
            Self::Blind { .. } => "signal-back",
            Self::InFront { .. } => "signal-behind",
            Self::IdleConnection { change, .. } => match change {
                IdleChange::Opened => "idle-open",
                IdleChange::Ended { .. } => "idle-closed",
                IdleChange::Off(_) => "idle-off",
                IdleChange::On => "idle-on",
            },
            Self::IdleLimit { .. } => "idle-limit",
            Self::SecondChance { .. } => "second-chance",
            Self::NoSecondChance { .. } => "no-second-chance",
            Self::Probe { .. } => "probe",
            Self::Transition { transition, .. } => match transition {
                Transition { from, to } if from.is_hard_down() && to.is_hard_down() => "agreed",
                Transition { to: State::Damped { .. }, .. } => "damped",
                Transition { .. } => "state",
            },
            Self::CheckBlocked { .. } => "check-blocked",
            Self::CheckUnblocked { .. } => "check-unblocked",
            Self::Reason { .. } => "reason",
            Self::Retained { .. } => "retained",
            Self::Weight { .. } => "weight",
            Self::Pool { change, .. } => match change {
                PoolEvent::QuorumBack => "quorum",
                PoolEvent::QuorumLost => "quorum-lost",
                PoolEvent::BackupsIn => "backups-in",
                PoolEvent::BackupsOut => "backups-out",
                PoolEvent::AlarmRaised => "alarm",
                PoolEvent::AlarmOver => "alarm-over",
            },
            Self::Admin { .. } | Self::AdminRestored { .. } | Self::AdminForgotten { .. } => "order",
            Self::Edit { .. } => "edit",
            Self::EditObserved { .. } => "observed",
            Self::EditFailed { .. } => "edit-failed",
            Self::TableUnreachable { .. } => "table-out-of-reach",
            Self::TableReachable => "table-in-reach",
            Self::Interference { .. } | Self::Interferences { .. } => "interference",
            Self::Contended { .. } => "contended",
            Self::ContentionOver { .. } => "contention-over",
            Self::Sysctl { .. } => "sysctl",
            Self::ConnectionRisk { .. } => "connections",
            Self::SyncDaemon { change, .. } => match change {
                SyncChange::Started { .. } => "sync-started",
                SyncChange::Found => "sync-found",
                SyncChange::Stopped => "sync-stopped",
                SyncChange::Changed { .. } => "sync-changed",
                SyncChange::Failed { .. } => "sync-failed",
            },
            Self::Role { .. } => "role",
            Self::StateFile { .. } => "state-file",
            Self::Mail { .. } => "mail",
            Self::Command { .. } => "command",
            Self::LineFile { .. } | Self::NotificationsLost { .. } | Self::NotificationsLeft { .. } => {
                "notify"
            }
            Self::Announcing { change: LineFile::Fails { .. }, .. } => "announce-failed",
            Self::Announcing { change: LineFile::Works, .. } => "announce-works",
            Self::Vip { change, .. } => match change {
                VipChange::Announced => "vip-announced",
                VipChange::Withdrawn(_) => "vip-withdrawn",
                VipChange::Foreign => "vip-foreign",
            },
            Self::Instance { .. } => "execute",
        }
    }
}
