//! The sections `[director]` and `[sync]`.

use super::table::{Table, text, time, word};
use crate::{
    config::native::{director, sync},
    model::{RoleSetting, SyncSettings, SyncSysctls},
};

/// `[director]`.
pub(super) fn role(role: RoleSetting) -> String {
    let mut table = Table::default();
    table.unless("role", &role, &RoleSetting::default(), |role| word(role, &director::ROLE));
    table.under("[director]", false)
}

/// `[sync]`.
pub(super) fn sync(settings: &SyncSettings) -> String {
    let usual = SyncSettings::on("");
    let SyncSettings { role, interface, id, group, port, ttl, maxlen, sysctls } = settings;
    let mut table = Table::default();
    table.add("role", word(role, &sync::ROLE));
    table.add("interface", text(interface));
    table.unless("id", id, &usual.id, ToString::to_string);
    table.unless("group", group, &usual.group, |group| text(group.to_string()));
    table.unless("port", port, &usual.port, ToString::to_string);
    table.unless("ttl", ttl, &usual.ttl, ToString::to_string);
    table.maybe("maxlen", maxlen.map(|length| length.bytes().to_string()));
    let SyncSysctls { threshold, period, refresh, retries, ports, templates_only, backup_only } = sysctls;
    table.maybe("threshold", threshold.map(|number| number.to_string()));
    table.maybe("period", period.map(|number| number.to_string()));
    table.maybe(
        "refresh",
        refresh.map(|refresh| if refresh.is_zero() { text("off") } else { time(&refresh) }),
    );
    table.maybe("retries", retries.map(|number| number.to_string()));
    table.maybe("ports", ports.map(|ports| ports.number().to_string()));
    table.maybe("templates-only", templates_only.map(|only| only.to_string()));
    table.maybe("backup-only", backup_only.map(|only| only.to_string()));
    table.under("[sync]", true)
}
