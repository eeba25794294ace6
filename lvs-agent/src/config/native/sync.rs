//! `[sync]`: the kernel's synchronisation daemons.

use std::{
    net::IpAddr,
    num::{NonZeroU8, NonZeroU16},
    time::Duration,
};

use toml::de::DeValue;

use super::{section::Section, value};
use crate::{
    config::diagnostics::{Contradiction, FaultList, ValueFault, WarningKind},
    model::{Mode, SyncGroup, SyncLength, SyncPorts, SyncRole, SyncSettings, SyncSysctls},
};

type Result<T> = std::result::Result<T, ValueFault>;

/// Which daemons run, by its name.
pub(super) const ROLE: [(&str, SyncRole); 3] =
    [("master", SyncRole::Master), ("backup", SyncRole::Backup), ("both", SyncRole::Both)];

/// Reads the section; `None`: it lacks its device.
pub(super) fn read(mut section: Section<'_>, mode: Mode, faults: &mut FaultList) -> Option<SyncSettings> {
    if mode != Mode::Manage {
        faults.warn(section.span(), WarningKind::SyncUnmanaged { mode });
    }
    let is_written = section.has("interface");
    let interface = section.plain("interface", faults, value::device);
    if !is_written {
        section.missing("interface", "interface = \"eth1\"", faults);
    }
    let usual = SyncSettings::on(interface.clone().unwrap_or_default());
    let role = section.plain("role", faults, |value| value::word(value, &ROLE)).unwrap_or(usual.role);
    let settings = SyncSettings {
        role,
        id: section.plain("id", faults, id).unwrap_or(usual.id),
        group: section.plain("group", faults, group).unwrap_or(usual.group),
        port: section.plain("port", faults, port).unwrap_or(usual.port),
        ttl: section.plain("ttl", faults, ttl).unwrap_or(usual.ttl),
        maxlen: section.plain("maxlen", faults, maxlen),
        sysctls: sysctls(&mut section, role, faults),
        ..usual
    };
    section.finish(faults);
    interface.map(|_| settings)
}

fn sysctls(section: &mut Section<'_>, role: SyncRole, faults: &mut FaultList) -> SyncSysctls {
    let threshold = section.read("threshold", faults, |value| number(value, 1, u16::MAX));
    let period = section.read("period", faults, |value| number(value, 0, u16::MAX));
    if let (Some(threshold), Some(period)) = (&threshold, &period) {
        let (first, every) = (*threshold.get_ref(), *period.get_ref());
        if every != 0 && first >= every {
            let contradiction = Contradiction::SyncThreshold { threshold: first, period: every };
            faults.add(threshold.span(), contradiction);
        }
    }
    let backup_only = section.read("backup-only", faults, value::flag);
    if let Some(only) = backup_only.as_ref().filter(|only| *only.get_ref() && role != SyncRole::Backup) {
        faults.add(only.span(), Contradiction::BackupOnly);
    }
    SyncSysctls {
        threshold: threshold.map(toml::Spanned::into_inner),
        period: period.map(toml::Spanned::into_inner),
        refresh: section.plain("refresh", faults, refresh),
        retries: section.plain("retries", faults, |value| number(value, 0, 3)),
        ports: section.plain("ports", faults, ports),
        templates_only: section.plain("templates-only", faults, value::flag),
        backup_only: backup_only.map(toml::Spanned::into_inner),
    }
}

/// A whole number from `min` to `max`.
fn number<T: TryFrom<i64> + Into<i64> + Copy>(value: &DeValue<'_>, min: i64, max: T) -> Result<T> {
    let number = value::whole(value, min, max.into(), "")?;
    Ok(T::try_from(number).unwrap_or(max))
}

fn id(value: &DeValue<'_>) -> Result<u8> {
    number(value, 0, u8::MAX)
}

fn ttl(value: &DeValue<'_>) -> Result<NonZeroU8> {
    Ok(NonZeroU8::new(number(value, 1, u8::MAX)?).unwrap_or(NonZeroU8::MIN))
}

/// A port that leaves room for those of a daemon's other threads.
fn port(value: &DeValue<'_>) -> Result<NonZeroU16> {
    const MAX: u16 = u16::MAX - SyncPorts::MAX as u16 + 1;
    let number = value::whole(value, 1, MAX.into(), ", which leaves no room for 64 threads")?;
    Ok(u16::try_from(number).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN))
}

fn maxlen(value: &DeValue<'_>) -> Result<SyncLength> {
    let (min, max) = (SyncLength::MIN, SyncLength::MAX);
    let bytes = value::whole(value, min.into(), max.into(), ", which the kernel does not take as it is")?;
    let length = u16::try_from(bytes).ok().and_then(SyncLength::new);
    length.ok_or_else(|| value::wrong_type(value, "a number of bytes"))
}

fn group(value: &DeValue<'_>) -> Result<SyncGroup> {
    let text = value::text(value, "a multicast address in quotes, such as \"224.0.0.81\" or \"ff02::81\"")?;
    let address: IpAddr = text.parse().map_err(|_| ValueFault::Address {
        text: text.to_owned(),
        wanted: "multicast address, such as \"224.0.0.81\" or \"ff02::81\"",
    })?;
    let problem =
        "is no multicast address, and the kernel sends to no other; write one such as \"224.0.0.81\"";
    SyncGroup::new(address).ok_or_else(|| ValueFault::Text { text: text.to_owned(), problem })
}

fn ports(value: &DeValue<'_>) -> Result<SyncPorts> {
    let number = number(value, 1, SyncPorts::MAX)?;
    let problem = "is no power of two; write 1, 2, 4, 8, 16, 32 or 64";
    SyncPorts::new(number).ok_or_else(|| ValueFault::Text { text: number.to_string(), problem })
}

/// Whole seconds, or `"off"` for none.
fn refresh(value: &DeValue<'_>) -> Result<Duration> {
    match value.as_str() {
        Some("off") => Ok(Duration::ZERO),
        _ => value::whole_seconds(value),
    }
}
