//! A check: its type, interval and timeouts. One file for the keys of each family of types.

mod application;
mod http;
mod kind;
#[cfg(test)]
mod tests;
mod values;

use std::{ops::Range, time::Duration};

use humantime::format_duration;

pub(super) use self::application::argv;
use self::kind::{KINDS, Kind};
pub(super) use self::values::{path, tls_name, word};
use super::{section::Section, value};
use crate::{
    config::diagnostics::{Contradiction, FaultList, WarningKind},
    model::{
        AddressFamily, Check, CheckKind, Combine, FurtherChecks, RealServer, ServiceKey, Transport, Via,
        defaults::{CHECK_INTERVAL, CHECK_TIMEOUT},
    },
};

/// Every key that some type of check has, and not all.
const KEYS: &[&str] = &[
    "port",
    "connects-between",
    "source",
    "device",
    "mark",
    "connect-timeout",
    "read-timeout",
    "tls",
    "tls-name",
    "tls-verify",
    "tls-ca",
    "user",
    "password",
    "path",
    "method",
    "host",
    "status",
    "text",
    "pattern",
    "unwanted",
    "digest",
    "version",
    "redirects",
    "pages",
    "send",
    "send-hex",
    "expect",
    "reply",
    "helo",
    "name",
    "record",
    "transport",
    "secret",
    "reject-is-alive",
    "base",
    "database",
    "query",
    "command",
    "convention",
    "file",
];

/// The checks of a service or a server, before it is known what services they are for.
#[derive(Clone)]
pub(super) struct ReadChecks(Vec<ReadCheck>);

impl ReadChecks {
    /// Takes `check` out of a section: one table, or several.
    pub(super) fn of(section: &mut Section<'_>, faults: &mut FaultList) -> Option<Self> {
        let (place, before) = (section.span(), faults.len());
        let sections = section.one_or_more("check", "check", faults)?;
        if sections.is_empty() && faults.len() == before {
            faults.add(place, Contradiction::NoChecks);
        }
        let checks: Vec<_> = sections.into_iter().map(|section| read(section, faults)).collect();
        (!checks.is_empty()).then_some(Self(checks))
    }

    /// The checks of services that aren't known; whether it was said what the first one asks.
    pub(super) fn unresolved(read: Option<Self>, combine: Combine) -> (Check, bool, FurtherChecks) {
        let mut checks = read.into_iter().flat_map(|read| read.0);
        let first = checks.next();
        let asks = first.as_ref().is_some_and(|first| first.has_type);
        let checks = checks.map(|read| read.check).collect();
        (first.map_or_else(Check::default, |read| read.check), asks, FurtherChecks { checks, combine })
    }

    /// The number of checks, at least 1.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The checks of the service `key` with these servers; notes those that can't be made there.
    pub(super) fn resolve(
        read: Option<Self>,
        combine: Combine,
        key: &ServiceKey,
        servers: &[RealServer],
        faults: &mut FaultList,
    ) -> (Check, FurtherChecks) {
        let mut checks = read.into_iter().flat_map(|read| read.0);
        let mut resolve = |read| ReadCheck::resolve(read, key, servers, faults).of_service(*key);
        let first = resolve(checks.next());
        let checks = checks.map(|check| resolve(Some(check))).collect();
        (first, FurtherChecks { checks, combine })
    }
}

/// A check that was read, before it is known what services it is for.
#[derive(Clone)]
pub(super) struct ReadCheck {
    check: Check,
    /// Whether it says its type; if not, the type is the one that suits the service.
    has_type: bool,
    place: Range<usize>,
}

impl ReadCheck {
    /// The check of the service `key` with these servers; notes if it can't be made there.
    pub(super) fn resolve(
        read: Option<Self>,
        key: &ServiceKey,
        servers: &[RealServer],
        faults: &mut FaultList,
    ) -> Check {
        let usual = || Self { check: Check::default(), has_type: false, place: 0..0 };
        let Self { mut check, has_type, place } = read.unwrap_or_else(usual);
        let has_port = |transport| check.port.is_some() || have_ports(key, servers, transport);
        if !has_type && !has_port(Transport::Tcp) {
            check.kind = CheckKind::Ping;
            check.via.connect_timeout = None;
        } else if let Some(transport) = check.kind.transport()
            && !has_port(transport)
        {
            faults
                .add(place.clone(), Contradiction::CheckWithoutPort { transport, service: key.to_string() });
        }
        let other_family = |source| {
            let of_server = |server: &&RealServer| AddressFamily::from(server.address.ip());
            servers.iter().find(|server| of_server(server) != AddressFamily::from(source))
        };
        if let Some(source) = check.via.source
            && let Some(server) = other_family(source)
        {
            let server = server.address.ip();
            faults.add(place, Contradiction::OtherSource { source_address: source, server });
        }
        check
    }
}

/// Whether each of these servers has a port to which the service's clients come by this transport.
fn have_ports(key: &ServiceKey, servers: &[RealServer], transport: Transport) -> bool {
    transport.comes_to(key) && servers.iter().all(|server| server.address.port() != 0)
}

/// Reads the table of a check.
pub(super) fn read(mut section: Section<'_>, faults: &mut FaultList) -> ReadCheck {
    // `None`: the type is wrong, and noted; what else is written may be right for the one that was meant.
    let written = section.has("type");
    let place = section.span();
    let read = section.plain("type", faults, |value| value::word(value, KINDS));
    let kind = if written { read } else { Some(Kind::Connect) };
    let (interval, timeout) = times(&mut section, faults);
    let soft_interval = soft_interval(&mut section, interval, faults);
    let connects_between = if kind.is_none_or(|kind| kind.connects() && kind != Kind::Connect) {
        section.plain("connects-between", faults, value::connects).unwrap_or(0)
    } else {
        0
    };
    let asks = kind.is_none_or(Kind::asks_over_network);
    let port =
        if kind.is_none_or(Kind::takes_port) { section.plain("port", faults, value::port) } else { None };
    let via = if asks { via(&mut section, kind, timeout, faults) } else { Via::default() };
    let check_kind = if let Some(kind) = kind {
        check_kind(kind, &mut section, faults)
    } else {
        http::read(&mut section, None, false, faults);
        // Whatever was meant, it is not to be missing a port as well.
        CheckKind::Ping
    };
    for key in KEYS {
        match kind {
            // What has been read is not there any more.
            Some(kind) if section.has(key) => section.refuse_for_check(key, kind.name(), faults),
            Some(_) => {}
            None => drop(section.drop_key(key)),
        }
    }
    section.finish(faults);
    let check = Check {
        kind: check_kind,
        interval,
        timeout,
        port,
        connect_to: None,
        via,
        soft_interval,
        connects_between,
    };
    ReadCheck { check, has_type: written, place }
}

/// The keys that only this type of check has.
fn check_kind(kind: Kind, section: &mut Section<'_>, faults: &mut FaultList) -> CheckKind {
    let tls = kind.tls();
    match kind {
        Kind::Ping => CheckKind::Ping,
        Kind::Connect => CheckKind::Connect,
        Kind::On => CheckKind::On,
        Kind::Off => CheckKind::Off,
        Kind::Http | Kind::Https => CheckKind::Http(http::read(section, tls, false, faults)),
        Kind::HttpProxy => CheckKind::Http(http::read(section, tls, true, faults)),
        Kind::Tcp => CheckKind::Tcp(application::tcp(section, faults)),
        Kind::Udp => CheckKind::Udp(application::udp(section, faults)),
        Kind::Dns => CheckKind::Dns(application::dns(section, faults)),
        Kind::Radius => CheckKind::Radius(application::radius(section, faults)),
        Kind::Sip | Kind::Sips => CheckKind::Sip(application::sip(section, tls, faults)),
        Kind::Ldap | Kind::Ldaps => CheckKind::Ldap(application::ldap(section, tls, faults)),
        Kind::Mysql | Kind::Postgresql => CheckKind::Sql(application::sql(section, kind, faults)),
        Kind::Oracle => CheckKind::Oracle(application::oracle(section, faults)),
        Kind::Command => CheckKind::Command(application::command(section, faults)),
        Kind::File => CheckKind::File(application::file(section, faults)),
        Kind::Smtp
        | Kind::Smtps
        | Kind::Submission
        | Kind::Pop3
        | Kind::Pop3s
        | Kind::Imap
        | Kind::Imaps
        | Kind::Nntp
        | Kind::Nntps
        | Kind::Ftp
        | Kind::Ftps => CheckKind::Greeting(application::greeting(section, kind, faults)),
    }
}

/// The interval and the timeout. Where only the interval is written and is below the usual timeout, it is the timeout.
fn times(section: &mut Section<'_>, faults: &mut FaultList) -> (Duration, Duration) {
    let written = section.has("interval");
    let interval = section.plain("interval", faults, value::duration);
    let interval_is_sure = interval.is_some() || !written;
    let timeout = section.read("timeout", faults, value::duration);
    let interval = interval.unwrap_or(CHECK_INTERVAL);
    let Some(timeout) = timeout else {
        return (interval, CHECK_TIMEOUT.min(interval));
    };
    if interval_is_sure && *timeout.get_ref() > interval {
        let warning = WarningKind::TimeoutAboveInterval {
            timeout: format_duration(*timeout.get_ref()).to_string(),
            interval: format_duration(interval).to_string(),
        };
        faults.warn(timeout.span(), warning);
    }
    (interval, timeout.into_inner())
}

/// The interval while a state is soft.
fn soft_interval(section: &mut Section<'_>, interval: Duration, faults: &mut FaultList) -> Option<Duration> {
    let soft = section.read("soft-interval", faults, value::duration)?;
    if *soft.get_ref() > interval {
        let contradiction = Contradiction::SoftAboveInterval {
            soft: format_duration(*soft.get_ref()).to_string(),
            interval: format_duration(interval).to_string(),
        };
        faults.add(soft.span(), contradiction);
    }
    Some(soft.into_inner())
}

/// From where the check is made, and how long each step may take.
fn via(section: &mut Section<'_>, kind: Option<Kind>, timeout: Duration, faults: &mut FaultList) -> Via {
    let mut step = |key| {
        let limit = section.read(key, faults, value::duration)?;
        if *limit.get_ref() > timeout {
            let contradiction = Contradiction::StepAboveTimeout {
                key,
                limit: format_duration(*limit.get_ref()).to_string(),
                timeout: format_duration(timeout).to_string(),
            };
            faults.add(limit.span(), contradiction);
        }
        Some(limit.into_inner())
    };
    let connect_timeout = if kind.is_none_or(Kind::connects) { step("connect-timeout") } else { None };
    let read_timeout = if kind.is_none_or(Kind::reads) { step("read-timeout") } else { None };
    Via {
        source: section.plain("source", faults, values::address),
        device: section.plain("device", faults, values::device),
        mark: section.plain("mark", faults, value::any_mark),
        connect_timeout,
        read_timeout,
    }
}
