//! The sections that are no services: agent, passive, defaults.

use std::{num::NonZeroU32, ops::RangeInclusive};

use humantime::format_duration;
use toml::{Spanned, de::DeValue};

use super::{
    announce,
    check::{self, Extent, ReadChecks},
    notify,
    policy::{self, ReadPolicy},
    section::Section,
    tunnel, value,
};
use crate::{
    config::diagnostics::{Contradiction, FaultKind, FaultList, ValueFault},
    model::{
        AgentSettings, AttachOrder, BurstSettings, Combine, ConnectionSettings, DetectorSettings, Foreign,
        ForwardingMethod, IdleConnection, Mode, OnFailure, PassiveSettings, ProbePath, Scheduler,
        SecondChance, Tunnel, Unlisted, VipAnnouncement, defaults,
    },
};

/// What the agent may do to the kernel's table, by its name.
pub(super) const MODE: [(&str, Mode); 3] =
    [("manage", Mode::Manage), ("adopt", Mode::Adopt), ("observe", Mode::Observe)];

/// What becomes of services that are not in the configuration, by its name.
pub(super) const FOREIGN: [(&str, Foreign); 2] = [("keep", Foreign::Keep), ("remove", Foreign::Remove)];

/// Whether an idle connection is kept, by its name.
pub(super) const IDLE_CONNECTION: [(&str, IdleConnection); 3] =
    [("auto", IdleConnection::Auto), ("on", IdleConnection::On), ("off", IdleConnection::Off)];

/// `[agent]`.
pub(super) fn agent(mut section: Section<'_>, faults: &mut FaultList) -> AgentSettings {
    let default = AgentSettings::default();
    let settings = AgentSettings {
        metrics: section.plain("metrics", faults, value::listener).unwrap_or(default.metrics),
        on_exit: section
            .plain("on-exit", faults, |value| value::word(value, &notify::ON_EXIT))
            .unwrap_or(default.on_exit),
        control: section.plain("control", faults, value::socket).unwrap_or(default.control.clone()),
        mode: section.plain("mode", faults, |value| value::word(value, &MODE)).unwrap_or(default.mode),
        state: section.plain("state", faults, value::state).unwrap_or(default.state.clone()),
        foreign: section
            .plain("foreign", faults, |value| value::word(value, &FOREIGN))
            .unwrap_or(default.foreign),
        autoreload: section.plain("autoreload", faults, value::flag).unwrap_or(default.autoreload),
        callback: section.plain("callback", faults, notify::command_line),
        on_shutdown: section.plain("on-shutdown", faults, policy::command),
        execute: section.plain("execute", faults, notify::files).unwrap_or_default(),
        log: section.plain("log", faults, notify::log).unwrap_or(default.log.clone()),
        script_user: section.plain("script-user", faults, value::script_user),
        operators: section.plain("operators", faults, value::operators).unwrap_or(default.operators.clone()),
        probe_mark: section.plain("probe-mark", faults, value::mark).unwrap_or(default.probe_mark),
        vip_marks: section.plain("vip-marks", faults, value::vip_marks).unwrap_or(default.vip_marks),
        maintenance: section
            .plain("maintenance", faults, value::folder)
            .unwrap_or(default.maintenance.clone()),
        connections: section
            .table("connections", "[agent.connections]", faults)
            .map_or(default.connections, |section| connections(section, default.connections, faults)),
    };
    section.finish(faults);
    settings
}

/// `[agent.connections]`.
fn connections(
    mut section: Section<'_>,
    default: ConnectionSettings,
    faults: &mut FaultList,
) -> ConnectionSettings {
    let mut switch = |key, default| section.plain(key, faults, value::switch).unwrap_or(default);
    let (expire_nodest, expire_quiescent) = (
        switch("expire-nodest", default.expire_nodest),
        switch("expire-quiescent", default.expire_quiescent),
    );
    let reuse_mode = section.plain("reuse-mode", faults, value::reuse_mode).unwrap_or(default.reuse_mode);
    section.finish(faults);
    ConnectionSettings { expire_nodest, expire_quiescent, reuse_mode }
}

/// `[passive]`.
pub(super) fn passive(mut section: Section<'_>, faults: &mut FaultList) -> PassiveSettings {
    let default = PassiveSettings::default();
    let detector_section = section.table("detector", "[passive.detector]", faults);
    let burst_section = section.table("burst", "[passive.burst]", faults);
    let settings = PassiveSettings {
        enabled: section.plain("enabled", faults, value::flag).unwrap_or(default.enabled),
        devices: devices(&mut section, faults),
        log_faults: section.plain("log-faults", faults, value::flag).unwrap_or(default.log_faults),
        record: section.plain("record", faults, value::file).unwrap_or(default.record),
        tick: section.plain("tick", faults, value::duration).unwrap_or(default.tick),
        order: AttachOrder {
            tcx: section.plain("tcx-order", faults, value::tcx_order).unwrap_or(default.order.tcx),
            clsact_priority: section
                .plain("clsact-priority", faults, value::clsact_priority)
                .unwrap_or(default.order.clsact_priority),
        },
        detector: detector_section.map_or(default.detector, |section| detector(section, faults)),
        burst: burst_section.map_or(default.burst, |section| burst(section, faults)),
    };
    section.finish(faults);
    settings
}

/// The devices to watch, each once.
fn devices(section: &mut Section<'_>, faults: &mut FaultList) -> Vec<String> {
    const WANTED: &str = "device names in brackets, such as [\"eth1\"]";
    let items = section.plain("devices", faults, |value| match value {
        DeValue::Array(items) => Ok(items.clone()),
        other => Err(value::wrong_type(other, WANTED)),
    });
    let mut devices = Vec::new();
    for item in items.iter().flat_map(|items| items.iter()) {
        match value::device(item.get_ref()) {
            Ok(device) if devices.contains(&device) => {
                faults.add(item.span(), Contradiction::DeviceTwice { device });
            }
            Ok(device) => devices.push(device),
            Err(fault) => faults.add(item.span(), FaultKind::Value { key: "devices", fault }),
        }
    }
    devices
}

/// `[passive.detector]`.
fn detector(mut section: Section<'_>, faults: &mut FaultList) -> DetectorSettings {
    let default = DetectorSettings::default();
    let mut duration = |key, default| section.plain(key, faults, value::duration).unwrap_or(default);
    let silence_masquerade = duration("silence-masquerade", default.silence_masquerade);
    let silence_half_seen = duration("silence-half-seen", default.silence_half_seen);
    let silence_application = duration("silence-application", default.silence_application);
    let memory = duration("memory", default.memory);
    let resent_within = duration("resent-within", default.resent_within);
    let mut clients = |key, default| section.plain(key, faults, value::clients).unwrap_or(default);
    let (clients, resent_clients) =
        (clients("clients", default.clients), clients("resent-clients", default.resent_clients));
    let mut number = |key, bounds: RangeInclusive<f64>, default| {
        section.plain(key, faults, |value| value::number(value, &bounds)).unwrap_or(default)
    };
    let false_alarms = number("false-alarms", 0.001..=1000.0, default.false_alarms);
    let phi = number("phi", 1.0..=100.0, default.phi);
    let loss = number("loss", 0.0001..=0.5, default.loss);
    let resent_share = number("resent-share", 0.1..=1.0, default.resent_share);
    let backoff = section.read("backoff", faults, value::duration);
    let backoff_max = section.read("backoff-max", faults, value::duration);
    let settings = DetectorSettings {
        silence_masquerade,
        silence_half_seen,
        silence_application,
        clients,
        false_alarms,
        phi,
        loss,
        memory,
        refusals: section.plain("refusals", faults, value::refusals).unwrap_or(default.refusals),
        resent_clients,
        resent_share,
        resent_within,
        backoff: backoff.as_ref().map_or(default.backoff, |backoff| *backoff.get_ref()),
        backoff_max: backoff_max.as_ref().map_or(default.backoff_max, |max| *max.get_ref()),
    };
    if settings.backoff > settings.backoff_max
        && let Some(place) = backoff.as_ref().or(backoff_max.as_ref()).map(Spanned::span)
    {
        let contradiction = Contradiction::BackoffAboveMax {
            backoff: format_duration(settings.backoff).to_string(),
            max: format_duration(settings.backoff_max).to_string(),
        };
        faults.add(place, contradiction);
    }
    section.finish(faults);
    settings
}

/// `[passive.burst]`.
fn burst(mut section: Section<'_>, faults: &mut FaultList) -> BurstSettings {
    let default = BurstSettings::default();
    let settings = BurstSettings {
        gap: section.plain("gap", faults, value::duration).unwrap_or(default.gap),
        timeout: section.plain("timeout", faults, value::duration).unwrap_or(default.timeout),
        server_rate: section.plain("server-rate", faults, value::rate).unwrap_or(default.server_rate),
        total_rate: section.plain("total-rate", faults, value::rate).unwrap_or(default.total_rate),
        hint_rate: section.plain("hint-rate", faults, value::rate).unwrap_or(default.hint_rate),
    };
    section.finish(faults);
    settings
}

/// What can be said once for all services, and again in each.
#[derive(Clone)]
pub(super) struct ServiceSettings<'i> {
    pub(super) scheduler: Scheduler,
    pub(super) fall: NonZeroU32,
    pub(super) rise: NonZeroU32,
    /// `None`: what suits the scheduler.
    pub(super) on_failure: Option<OnFailure>,
    /// `None`: what suits the service.
    pub(super) check: Option<ReadChecks<'i>>,
    /// `None`: each check says it, or goes to the server.
    pub(super) via: Option<Spanned<ProbePath>>,
    pub(super) combine: Combine,
    pub(super) idle_connection: IdleConnection,
    pub(super) second_chance: SecondChance,
    pub(super) policy: ReadPolicy,
    pub(super) announce: Option<VipAnnouncement>,
    /// `None`: each server must say it.
    pub(super) forward: Option<ForwardingMethod>,
    /// `None`: IP in IP.
    pub(super) tunnel: Option<Tunnel>,
}

impl Default for ServiceSettings<'_> {
    fn default() -> Self {
        Self {
            scheduler: Scheduler::default(),
            fall: defaults::FALL,
            rise: defaults::RISE,
            on_failure: None,
            check: None,
            via: None,
            combine: Combine::default(),
            idle_connection: IdleConnection::default(),
            second_chance: SecondChance::default(),
            policy: ReadPolicy::default(),
            announce: None,
            forward: None,
            tunnel: None,
        }
    }
}

impl<'i> ServiceSettings<'i> {
    /// Takes these keys out of a section; what isn't there stays as it is in `self`.
    pub(super) fn overridden_by(self, section: &mut Section<'i>, faults: &mut FaultList) -> Self {
        let idle_connection = |value: &DeValue<'_>| value::word(value, &IDLE_CONNECTION);
        let check = ReadChecks::of(section, self.check.as_ref(), Extent::Whole, faults);
        let tunnel = section.table("tunnel", "tunnel", faults);
        Self {
            scheduler: section.plain("scheduler", faults, value::scheduler).unwrap_or(self.scheduler),
            fall: section.plain("fall", faults, value::count).unwrap_or(self.fall),
            rise: section.plain("rise", faults, value::count).unwrap_or(self.rise),
            on_failure: section.plain("on-failure", faults, on_failure).unwrap_or(self.on_failure),
            check: check.or(self.check),
            via: section.read("via", faults, check::path).or(self.via),
            combine: section.plain("combine", faults, combine).unwrap_or(self.combine),
            idle_connection: section
                .plain("idle-connection", faults, idle_connection)
                .unwrap_or(self.idle_connection),
            second_chance: section
                .plain("second-chance", faults, value::flag)
                .map_or(self.second_chance, SecondChance::from),
            policy: self.policy.overridden_by(section, faults),
            announce: announce::vip(section, self.announce, faults),
            forward: section.plain("forward", faults, forward).or(self.forward),
            tunnel: tunnel.map_or(self.tunnel, |section| tunnel::read(section, faults)),
        }
    }
}

impl ServiceSettings<'_> {
    /// The same for services that are in the kernel's table only.
    pub(super) fn into_unlisted(self, faults: &mut FaultList) -> Unlisted {
        let Self { fall, rise, on_failure, check, combine, idle_connection, second_chance, policy, .. } =
            self;
        let (check, asks, further) = ReadChecks::unresolved(check, combine, faults);
        let policy = policy.policy;
        Unlisted { fall, rise, on_failure, check, asks, further, idle_connection, second_chance, policy }
    }
}

/// What is done to a server that is down: a word, or the weight that it keeps; `None`: what suits the scheduler.
fn on_failure(value: &DeValue<'_>) -> Result<Option<OnFailure>, ValueFault> {
    const WORDS: [(&str, Option<OnFailure>); 3] =
        [("auto", None), ("quiesce", Some(OnFailure::Quiesce)), ("remove", Some(OnFailure::Remove))];
    let problem = "has other keys than \"weight\"; write { weight = 1 }";
    match value {
        DeValue::Table(table) => match table.get("weight") {
            Some(weight) if table.len() == 1 => value::weight(weight.get_ref()).map(|weight| {
                Some(if weight.is_quiescent() { OnFailure::Quiesce } else { OnFailure::Lower(weight) })
            }),
            _ => Err(ValueFault::Text { text: "the table".to_owned(), problem }),
        },
        word => value::word(word, &WORDS),
    }
}

/// What several checks mean together.
pub(super) fn combine(value: &DeValue<'_>) -> Result<Combine, ValueFault> {
    value::word(value, &[("all", Combine::All), ("any", Combine::Any)])
}

/// How packets reach a server.
pub(super) fn forward(value: &DeValue<'_>) -> Result<ForwardingMethod, ValueFault> {
    const METHODS: [(&str, ForwardingMethod); 3] = [
        ("masquerade", ForwardingMethod::Masquerade),
        ("direct-route", ForwardingMethod::DirectRoute),
        ("tunnel", ForwardingMethod::Tunnel),
    ];
    value::word(value, &METHODS)
}
