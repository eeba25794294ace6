//! The sections `[agent]` and `[passive]`.

use std::time::Duration;

use super::table::{Table, command_line, float, path, text, texts, time, word};
use crate::{
    config::native::{
        notify::ON_EXIT,
        settings::{FOREIGN, MODE},
    },
    model::{AgentSettings, BurstSettings, ConnectionSettings, DetectorSettings, LogTarget, PassiveSettings},
};

/// `[agent]` and the tables in it.
pub(super) fn agent(settings: &AgentSettings) -> String {
    let default = AgentSettings::default();
    let mut table = Table::default();
    let off = || text("off");
    table.unless("metrics", &settings.metrics, &default.metrics, |metrics| {
        metrics.map_or_else(off, |address| text(address.to_string()))
    });
    table.unless("on-exit", &settings.on_exit, &default.on_exit, |on_exit| word(on_exit, &ON_EXIT));
    table.unless("control", &settings.control, &default.control, |control| {
        control.as_deref().map_or_else(off, path)
    });
    table.unless("mode", &settings.mode, &default.mode, |mode| word(mode, &MODE));
    table.unless("state", &settings.state, &default.state, |state| state.as_deref().map_or_else(off, path));
    table.unless("foreign", &settings.foreign, &default.foreign, |foreign| word(foreign, &FOREIGN));
    table.unless("autoreload", &settings.autoreload, &default.autoreload, ToString::to_string);
    table.maybe("maintenance", settings.maintenance.as_deref().map(path));
    table.maybe("callback", settings.callback.as_ref().map(command_line));
    table.maybe("on-shutdown", settings.on_shutdown.as_ref().map(command_line));
    if !settings.execute.is_empty() {
        table.add("execute", texts(settings.execute.iter().map(|path| path.to_string_lossy())));
    }
    table.unless("log", &settings.log, &default.log, |log| match log {
        LogTarget::Standard => text("standard"),
        LogTarget::File(file) => path(file),
        LogTarget::Journal => text("journal"),
        LogTarget::Syslog(facility) => text(format!("syslog:{facility}")),
    });
    table.maybe("script-user", settings.script_user.as_ref().map(|user| text(user.to_string())));
    table.unless("operators", &settings.operators, &default.operators, |group| {
        group.as_ref().map_or_else(off, text)
    });
    table.unless("probe-mark", &settings.probe_mark, &default.probe_mark, |mark| format!("{mark:#x}"));
    table.unless("vip-marks", &settings.vip_marks, &default.vip_marks, |marks| {
        format!("{:#x}", marks.first())
    });
    table.under("[agent]", false) + &connections(settings.connections)
}

fn connections(settings: ConnectionSettings) -> String {
    let default = ConnectionSettings::default();
    let mut table = Table::default();
    let keep = || text("keep");
    let switch = |flag: &Option<bool>| flag.map_or_else(keep, |flag| flag.to_string());
    table.unless("expire-nodest", &settings.expire_nodest, &default.expire_nodest, switch);
    table.unless("expire-quiescent", &settings.expire_quiescent, &default.expire_quiescent, switch);
    table.unless("reuse-mode", &settings.reuse_mode, &default.reuse_mode, |mode| {
        mode.map_or_else(keep, |mode| mode.to_string())
    });
    table.under("[agent.connections]", false)
}

/// `[passive]` and the tables in it.
pub(super) fn passive(settings: &PassiveSettings) -> String {
    let default = PassiveSettings::default();
    let mut table = Table::default();
    table.unless("enabled", &settings.enabled, &default.enabled, ToString::to_string);
    table.unless("devices", &settings.devices, &default.devices, |devices| texts(devices));
    table.unless("log-faults", &settings.log_faults, &default.log_faults, ToString::to_string);
    table.maybe("record", settings.record.as_deref().map(path));
    table.unless("tick", &settings.tick, &default.tick, time);
    let (order, usual) = (&settings.order, &default.order);
    table.unless("tcx-order", &order.tcx, &usual.tcx, |order| text(order.to_string()));
    table.unless("clsact-priority", &order.clsact_priority, &usual.clsact_priority, ToString::to_string);
    table.under("[passive]", false) + &detector(&settings.detector) + &burst(&settings.burst)
}

fn detector(settings: &DetectorSettings) -> String {
    let default = DetectorSettings::default();
    let mut table = Table::default();
    let mut times = |key, value: &Duration, default: &Duration| table.unless(key, value, default, time);
    times("silence-masquerade", &settings.silence_masquerade, &default.silence_masquerade);
    times("silence-half-seen", &settings.silence_half_seen, &default.silence_half_seen);
    times("silence-application", &settings.silence_application, &default.silence_application);
    times("memory", &settings.memory, &default.memory);
    times("resent-within", &settings.resent_within, &default.resent_within);
    // Of the two pauses one without the other may not fit the other's usual value.
    table.add("backoff", time(&settings.backoff));
    table.add("backoff-max", time(&settings.backoff_max));
    let mut numbers =
        |key, value: &u32, default: &u32| table.unless(key, value, default, ToString::to_string);
    numbers("clients", &settings.clients, &default.clients);
    numbers("refusals", &settings.refusals, &default.refusals);
    numbers("resent-clients", &settings.resent_clients, &default.resent_clients);
    let mut floats = |key, value: &f64, default: &f64| table.unless(key, value, default, float);
    floats("false-alarms", &settings.false_alarms, &default.false_alarms);
    floats("phi", &settings.phi, &default.phi);
    floats("loss", &settings.loss, &default.loss);
    floats("resent-share", &settings.resent_share, &default.resent_share);
    if *settings == default { String::new() } else { table.under("[passive.detector]", false) }
}

fn burst(settings: &BurstSettings) -> String {
    let default = BurstSettings::default();
    let mut table = Table::default();
    table.unless("gap", &settings.gap, &default.gap, time);
    table.unless("timeout", &settings.timeout, &default.timeout, time);
    table.unless("server-rate", &settings.server_rate, &default.server_rate, ToString::to_string);
    table.unless("total-rate", &settings.total_rate, &default.total_rate, ToString::to_string);
    table.unless("hint-rate", &settings.hint_rate, &default.hint_rate, ToString::to_string);
    table.under("[passive.burst]", false)
}
