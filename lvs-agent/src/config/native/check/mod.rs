//! A check: its type, interval and timeouts. One file for the keys of each family of types.

mod application;
mod http;
mod inherit;
mod kind;
mod secret_file;
#[cfg(test)]
mod tests;
mod values;
mod vip;

use std::{net::IpAddr, ops::Range, time::Duration};

use humantime::format_duration;
use toml::{Spanned, de::DeTable};

pub(super) use self::application::argv;
use self::kind::{KINDS, Kind};
pub(super) use self::{
    inherit::{Extent, MANNER},
    values::{path as file_path, tls_name, word},
    vip::{PATHS, ServiceContext, path},
};
use super::{section::Section, value};
use crate::{
    config::diagnostics::{Contradiction, FaultList, Prerequisite, WarningKind},
    model::{
        AddressFamily, Check, CheckKind, ClearSecret, Combine, FurtherChecks, RealServer, ServiceKey,
        Transport, Via,
        defaults::{CHECK_INTERVAL, CHECK_TIMEOUT},
    },
};

/// Every key that some type of check has, and not all.
const KEYS: &[&str] = &[
    "port",
    "connect-to",
    "connects-between",
    "via",
    "source",
    "device",
    "mark",
    "connect-timeout",
    "read-timeout",
    "tls",
    "tls-name",
    "tls-verify",
    "tls-ca",
    "tls-cert",
    "tls-key",
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
    "headers",
    "user-agent",
    "basic-auth-file",
    "bearer-token-file",
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
    values::UNENCRYPTED,
    "command",
    "convention",
    "file",
];

/// The checks of a service or a server, before it is known what services they are for.
#[derive(Clone)]
pub(super) struct ReadChecks<'i>(Vec<ReadCheck<'i>>);

impl<'i> ReadChecks<'i> {
    /// Takes `check` out of a section: one table, or several. What isn't said there holds as `above` says.
    pub(super) fn of(
        section: &mut Section<'i>,
        above: Option<&Self>,
        extent: Extent,
        faults: &mut FaultList,
    ) -> Option<Self> {
        let (place, before) = (section.span(), faults.len());
        let sections = section.one_or_more("check", "check", faults)?;
        if sections.is_empty() && faults.len() == before {
            faults.add(place, Contradiction::NoChecks);
        }
        let above = above.map_or(&[][..], |above| &above.0);
        let checks: Vec<_> =
            sections.into_iter().map(|section| read(section, above, extent, faults)).collect();
        (!checks.is_empty()).then_some(Self(checks))
    }

    /// The check of a backup that says nothing of its own: it is made as `above` says.
    pub(super) fn unsaid(place: Range<usize>, above: Option<&Self>, faults: &mut FaultList) -> Self {
        let section = Section::new("check", place, DeTable::new());
        let above = above.map_or(&[][..], |above| &above.0);
        Self(vec![read(section, above, Extent::Manner, faults)])
    }

    /// The checks of services that aren't known; whether it was said what the first one asks.
    pub(super) fn unresolved(
        read: Option<Self>,
        combine: Combine,
        faults: &mut FaultList,
    ) -> (Check, bool, FurtherChecks) {
        let mut checks = read.into_iter().flat_map(|read| read.0).inspect(|read| {
            read.refuse_clear_secret(faults);
            read.need_source(faults);
        });
        let first = checks.next();
        let asks = first.as_ref().is_some_and(|first| first.has_type);
        let checks = checks.map(|read| read.check).collect();
        (first.map_or_else(Check::default, |read| read.check), asks, FurtherChecks { checks, combine })
    }

    /// The number of checks, at least 1.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The checks of a service with these servers; notes those that can't be made there.
    pub(super) fn resolve(
        read: Option<Self>,
        combine: Combine,
        service: &ServiceContext,
        servers: &[RealServer],
        faults: &mut FaultList,
    ) -> (Check, FurtherChecks) {
        let mut checks = read.into_iter().flat_map(|read| read.0);
        let mut resolve = |read| ReadCheck::resolve(read, service, servers, faults).of_service(service.key);
        let first = resolve(checks.next());
        let checks = checks.map(|check| resolve(Some(check))).collect();
        (first, FurtherChecks { checks, combine })
    }
}

/// A check that was read, before it is known what services it is for.
#[derive(Clone)]
pub(super) struct ReadCheck<'i> {
    check: Check,
    /// Whether it says its type; if not, the type is the one that suits the service.
    has_type: bool,
    /// Whether `source` was taken over from a check above.
    lent_source: bool,
    /// Whether `via` was.
    lent_path: bool,
    place: Range<usize>,
    /// All that is written in it or above it.
    written: DeTable<'i>,
}

impl ReadCheck<'_> {
    /// The check of a service with these servers; notes if it can't be made there.
    pub(super) fn resolve(
        read: Option<Self>,
        service: &ServiceContext,
        servers: &[RealServer],
        faults: &mut FaultList,
    ) -> Check {
        let key = &service.key;
        let usual = || Self {
            check: Check::default(),
            has_type: false,
            lent_source: false,
            lent_path: false,
            place: 0..0,
            written: DeTable::new(),
        };
        let read = read.unwrap_or_else(usual);
        read.refuse_clear_secret(faults);
        let Self { check, has_type, lent_source, place, .. } = &read;
        let (mut check, has_type, lent_source, place) =
            (check.clone(), *has_type, *lent_source, place.clone());
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
        check.via.path = read.resolve_path(&check.kind, service, servers, faults);
        if check.via.wants_vip() {
            return check;
        }
        read.need_source(faults);
        if let Some(address) = check.connect_to.filter(|_| servers.len() > 1) {
            faults.warn(place.clone(), WarningKind::OneAddressForAll { servers: servers.len(), address });
        }
        let asked = |server: &RealServer| check.connect_to.unwrap_or(server.address.ip());
        let of_server = |server: &&RealServer| AddressFamily::from(asked(server));
        let other_family =
            |source| servers.iter().find(|server| of_server(server) != AddressFamily::from(source));
        if let Some(source) = check.via.source
            && let Some(server) = other_family(source)
        {
            if lent_source && servers.iter().all(|server| of_server(&server) != AddressFamily::from(source)) {
                // It was not written with these servers in mind.
                check.via.source = None;
                return check;
            }
            let server = asked(server);
            faults.add(place, Contradiction::OtherSource { source_address: source, server });
        }
        check
    }

    /// Notes a secret that everybody on the way could read, unless that is allowed. Not before the check is whole: the
    /// one above it may leave the encryption to it.
    fn refuse_clear_secret(&self, faults: &mut FaultList) {
        let kind = &self.check.kind;
        let Some(secret) = kind.clear_secret().filter(|secret| !secret.is_up_to_the_server()) else { return };
        if kind.may_be_clear() {
            return;
        }
        let key = match &secret {
            ClearSecret::Password | ClearSecret::PasswordIfAsked => "password",
            ClearSecret::BasicAuthorization => "basic-auth-file",
            ClearSecret::BearerToken => "bearer-token-file",
            ClearSecret::Header(_) => "headers",
        };
        let place = self.written.get_key_value(key).map_or_else(|| self.place.clone(), |(key, _)| key.span());
        let encryption = match kind {
            CheckKind::Http(http) if http.proxy => "tls = \"direct\"",
            CheckKind::Http(_) => "type = \"https\"",
            _ => "tls = \"starttls\" or \"direct\"",
        };
        faults.add(place, Contradiction::SecretUnencrypted { secret, encryption });
    }
}

/// Whether each of these servers has a port to which the service's clients come by this transport.
fn have_ports(key: &ServiceKey, servers: &[RealServer], transport: Transport) -> bool {
    transport.comes_to(key) && servers.iter().all(|server| server.address.port() != 0)
}

/// Reads the table of a check. What isn't said there holds as `above` says.
fn read<'i>(
    mut section: Section<'i>,
    above: &[ReadCheck<'i>],
    extent: Extent,
    faults: &mut FaultList,
) -> ReadCheck<'i> {
    let inherits = section.plain("inherit", faults, value::flag).unwrap_or(true);
    let mut left = if inherits { inherit::inherit(&mut section, above, extent) } else { Vec::new() };
    let (all, lent_source) = (section.values().clone(), section.is_inherited("source"));
    let lent_path = section.is_inherited("via");
    // `None`: the type is wrong, and noted; what else is written may be right for the one that was meant.
    let written = section.has("type");
    let place = section.span();
    let read = section.plain("type", faults, |value| value::word(value, KINDS));
    let kind = if written { read } else { Some(Kind::Connect) };
    let (interval, timeout) = times(&mut section, faults);
    let soft_interval = soft_interval(&mut section, interval, faults);
    let connects_between = if kind.is_none_or(Kind::alternates) {
        section.plain("connects-between", faults, value::connects).unwrap_or(0)
    } else {
        0
    };
    let asks = kind.is_none_or(Kind::asks_over_network);
    let via = if asks { via(&mut section, kind, timeout, faults) } else { Via::default() };
    let (connect_to, port) = asked(&mut section, kind, faults);
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
            _ if section.is_inherited(key) => drop(section.drop_key(key)),
            Some(kind) if section.has(key) => section.refuse_for_check(key, kind.name(), faults),
            Some(_) => {}
            None => drop(section.drop_key(key)),
        }
    }
    left.retain(|key| section.takes(key));
    if let Some(kind) = kind.filter(|_| !left.is_empty()) {
        faults.warn(place.clone(), WarningKind::NotTakenOver { keys: left, kind: kind.name() });
    }
    section.finish(faults);
    let check =
        Check { kind: check_kind, interval, timeout, port, connect_to, via, soft_interval, connects_between };
    ReadCheck { check, has_type: written, lent_source, lent_path, place, written: all }
}

/// The address and the port that are asked, where they aren't the server's own. Of a port in `connect-to` and one in
/// `port` the one that is written in this check counts.
fn asked(
    section: &mut Section<'_>,
    kind: Option<Kind>,
    faults: &mut FaultList,
) -> (Option<IpAddr>, Option<u16>) {
    let is_lent = section.is_inherited("connect-to");
    let address = if kind.is_none_or(Kind::asks_over_network) {
        section.read("connect-to", faults, values::address_and_port)
    } else {
        None
    };
    let (mut ip, mut its_port) = (None, None);
    if let Some(address) = address {
        let place = address.span();
        (ip, its_port) = (Some(address.get_ref().0), address.into_inner().1);
        let ambiguity = match kind {
            Some(kind) if !kind.takes_port() => Some(Contradiction::ConnectToWithPort { kind: kind.name() }),
            _ => section.is_written("port").then_some(Contradiction::PortTwice),
        };
        if let Some(contradiction) = ambiguity.filter(|_| its_port.is_some() && !is_lent) {
            faults.add(place, contradiction);
        }
    }
    let takes_port = kind.is_none_or(Kind::takes_port);
    its_port = its_port.filter(|_| takes_port && !(is_lent && section.is_written("port")));
    let port = if takes_port { section.plain("port", faults, value::port) } else { None };
    (ip, its_port.or(port))
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
        Kind::Agent => CheckKind::Agent(application::agent(section, faults)),
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
    let interval = section.read("interval", faults, value::duration);
    let interval_is_sure = interval.is_some() || !written;
    let timeout = section.read("timeout", faults, value::duration);
    let place = interval.as_ref().map(Spanned::span).filter(|_| section.is_inherited("timeout"));
    let interval = interval.map_or(CHECK_INTERVAL, Spanned::into_inner);
    let Some(timeout) = timeout else {
        return (interval, CHECK_TIMEOUT.min(interval));
    };
    if interval_is_sure && *timeout.get_ref() > interval {
        let warning = WarningKind::TimeoutAboveInterval {
            timeout: format_duration(*timeout.get_ref()).to_string(),
            interval: format_duration(interval).to_string(),
        };
        faults.warn(place.unwrap_or_else(|| timeout.span()), warning);
    }
    (interval, timeout.into_inner())
}

/// The interval while a state is soft.
fn soft_interval(section: &mut Section<'_>, interval: Duration, faults: &mut FaultList) -> Option<Duration> {
    let soft = section.read("soft-interval", faults, value::duration)?;
    if *soft.get_ref() > interval && section.is_inherited("soft-interval") {
        return Some(interval);
    }
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
    let path = vip::read(section, kind, faults);
    let mut step = |key| {
        let limit = section.read(key, faults, value::duration)?;
        if *limit.get_ref() > timeout && section.is_inherited(key) {
            return None;
        }
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
    let source = section.read("source", faults, values::address);
    let device = section.read("device", faults, values::device);
    if let Some(device) = &device {
        let name = String::from_utf8_lossy(device.get_ref().as_bytes()).into_owned();
        faults.need(device.span(), Prerequisite::Device(name));
    }
    Via {
        path,
        lane: None,
        source: source.map(Spanned::into_inner),
        device: device.map(Spanned::into_inner),
        mark: section.plain("mark", faults, value::mark),
        connect_timeout,
        read_timeout,
    }
}
