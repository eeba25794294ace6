//! One virtual service out of what is said about it.

use std::net::{IpAddr, SocketAddr};

use lvs_common::PROBE_MARK;

use super::{
    check,
    context::ServiceContext,
    entry::{Entry, is_blank},
    findings::Findings,
    kind::Kind,
    names::Names,
    server::{self, Fallback, Real, method_name, table_address},
    settings::{Draft, Globals, Traffic},
};
use crate::{
    config::diagnostics::{DirectiveFault, Note, PortUse},
    model::{
        AddressFamily, Backup, Check, CheckKind, FlapDamping, FurtherChecks, IdleConnection, MailAbout,
        MailRelay, MailSettings, Netmask, Notifications, OnExit, OnFailure, Persistence, PoolPolicy,
        Protocol, RealServer, Scheduler, SchedulerFlags, SecondChance, ServiceKey, VirtualService,
    },
};

/// A service and the place of its head.
pub(super) struct ReadService {
    pub(super) service: VirtualService,
    pub(super) head: Entry,
    /// Whether something is missing whose host name has no address yet.
    pub(super) is_partial: bool,
}

/// What a head says, before names are resolved.
enum Head<'t> {
    Mark(u32),
    Address { host: &'t str, port: &'t str },
}

/// Puts a service together; `None` if something in it is wrong, which is noted.
pub(super) fn read(
    draft: &Draft,
    globals: &Globals,
    names: &dyn Names,
    findings: &mut Findings,
) -> Option<ReadService> {
    let (before, unresolved_before) = (findings.faults(), findings.left_out());
    let key = key(draft, names, findings)?;
    let service_port = match key {
        ServiceKey::Address { address, .. } => Some(address.port()),
        ServiceKey::Mark { .. } => None,
    };
    let kind = draft.service.unwrap_or_else(|| service_port.map_or(Kind::None, Kind::at));
    let family = key.family();
    let reals: Vec<Real> =
        draft.reals.iter().flat_map(|entry| server::reals(entry, family, names, findings)).collect();
    let persistence = persistence(draft, family, findings);
    if service_port == Some(0) && persistence.is_none() {
        findings.value(&draft.head, "is for every port, which only a persistent service can be; add persistent=300, or write the port");
    }
    let context = ServiceContext { draft, globals, key, kind, names };
    let (check, servers) = servers(&context, &reals, service_port, findings);
    let backups = backups(draft, globals, &key, &servers, names, findings);
    if servers.is_empty() && backups.is_empty() && findings.faults() == before {
        if findings.left_out() > unresolved_before {
            // There will be some.
            return None;
        }
        findings.fault(&draft.head.place, DirectiveFault::NoServers);
    }
    let shared = (&draft.shared, &globals.shared);
    let quiescent = context.is_quiescent();
    let scheduler = draft.scheduler.clone().or_else(|| "wrr".parse::<Scheduler>().ok()).unwrap_or_default();
    let mut service = VirtualService {
        name: key.to_string(),
        key,
        scheduler,
        persistence,
        one_packet: one_packet(draft, &key, findings),
        // What isn't written is taken away by ldirectord as well.
        scheduler_flags: Some(draft.schedflags.unwrap_or_default()),
        persistence_engine: None,
        fall: shared.0.failurecount.or(shared.1.failurecount).unwrap_or(std::num::NonZeroU32::MIN),
        rise: std::num::NonZeroU32::MIN,
        on_failure: Some(if quiescent { OnFailure::Quiesce } else { OnFailure::Remove }),
        check: check?.of_service(key),
        further: FurtherChecks::default(),
        idle_connection: IdleConnection::default(),
        second_chance: SecondChance::default(),
        servers,
        policy: PoolPolicy {
            backups,
            // One success brings a server back at once.
            flap: FlapDamping { penalty: std::time::Duration::ZERO, ..FlapDamping::default() },
            ..PoolPolicy::default()
        },
        notify: notifications(draft, globals),
        on_exit: draft.shared.cleanstop.map(|clean| if clean { OnExit::Remove } else { OnExit::Keep }),
        announce: None,
    };
    let is_partial = findings.left_out() > unresolved_before;
    if quiescent {
        leave_clients_to_others(&mut service, draft, findings);
    }
    Some(ReadService { service, head: draft.head.clone(), is_partial })
}

/// A server at weight 0 is to leave its clients to the others: with `quiescent=yes`, schedulers that choose by a hash
/// get their fallback flag, unless the file has flags of its own. ldirectord leaves such clients refused.
fn leave_clients_to_others(service: &mut VirtualService, draft: &Draft, findings: &mut Findings) {
    let scheduler = service.scheduler.name();
    let said = std::mem::take(&mut service.scheduler_flags);
    if draft.schedflags.is_none() && service.adds_fallback() {
        service.scheduler_flags = Some(SchedulerFlags { flag_1: true, ..SchedulerFlags::default() });
        return findings.note(&draft.head.place, Note::FallbackAdded { scheduler });
    }
    service.scheduler_flags = said;
    if service.refuses_at_weight_0() {
        findings.note(&draft.head.place, Note::Refuses { scheduler });
    }
}

fn key(draft: &Draft, names: &dyn Names, findings: &mut Findings) -> Option<ServiceKey> {
    let head = head(draft, findings)?;
    let family = if draft.is_v6() { AddressFamily::V6 } else { AddressFamily::V4 };
    let wrong_protocol = |findings: &mut Findings, entry: &Entry, by: &str| {
        findings.value(entry, format!("does not fit: the virtual service is {by}"));
    };
    match head {
        Head::Mark(mark) => {
            if let Some((entry, Traffic::Protocol(_))) = &draft.protocol {
                wrong_protocol(findings, entry, "a firewall mark, so that only fwm is right");
            }
            Some(ServiceKey::Mark { mark, family })
        }
        Head::Address { host, port } => {
            let usual = if matches!(port, "53" | "domain") { Protocol::Udp } else { Protocol::Tcp };
            let protocol = match &draft.protocol {
                Some((entry, Traffic::Marked)) => {
                    wrong_protocol(findings, entry, "an address, so that only tcp or udp is right");
                    return None;
                }
                Some((_, Traffic::Protocol(protocol))) => *protocol,
                None => usual,
            };
            let (head, place) = (draft.head.directive, &draft.head.place);
            let ip = names.host(host, family).map_err(|fault| findings.name(head, place, fault));
            let port = names.port(port, Some(&protocol.to_string()));
            let port = port.map_err(|fault| findings.name(head, place, fault));
            let ip = ip.ok()?;
            if !is_host(ip) {
                findings.value(&draft.head, "can't be the address of one host; write a unicast address");
                return None;
            }
            Some(ServiceKey::Address { protocol, address: SocketAddr::new(ip, port.ok()?) })
        }
    }
}

/// Address and port, or a mark, at the beginning; what is behind has no effect, as with ldirectord.
fn head<'d>(draft: &'d Draft, findings: &mut Findings) -> Option<Head<'d>> {
    let entry = &draft.head;
    let text = entry.value.as_str();
    let word = &text[..text.find(is_blank).unwrap_or(text.len())];
    let is_v6 = word.parse::<std::net::Ipv6Addr>().is_ok();
    if (text.starts_with('[') || is_v6) && !draft.is_v6() {
        findings.value(
            entry,
            "is an IPv6 address; write virtual6 here, and the address in brackets: [2001:db8::1]:80",
        );
        return None;
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if let Some((host, port, rest)) = host_and_port(text).filter(|_| !is_v6) {
        ignored(entry, rest, findings);
        return Some(Head::Address { host, port });
    }
    if digits > 0 && text[digits..].starts_with('.') {
        let (address, mark) = (word.split('/').next().unwrap_or(word), &text[..digits]);
        let fault = DirectiveFault::MarkOrAddress { text: address.to_owned(), mark: mark.to_owned() };
        findings.fault(&entry.place, fault);
        return None;
    }
    if digits > 0 && !text[digits..].starts_with(':') {
        ignored(entry, &text[digits..], findings);
        return mark(entry, &text[..digits], findings).map(Head::Mark);
    }
    findings.value(
        entry,
        "is not a virtual service; write an address and port such as 192.0.2.80:80, or a firewall mark",
    );
    None
}

/// Notes what is behind the value, but for a comment.
fn ignored(entry: &Entry, rest: &str, findings: &mut Findings) {
    let rest = rest.trim_start_matches(is_blank);
    if !rest.starts_with('#') {
        findings.rest(entry, rest);
    }
}

/// Host and port at the beginning, and what is behind them.
fn host_and_port(text: &str) -> Option<(&str, &str, &str)> {
    let run = |text: &str, more: &str| {
        text.find(|c: char| !(c.is_ascii_alphanumeric() || more.contains(c))).unwrap_or(text.len())
    };
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']').filter(|(host, _)| run(host, ":") == host.len())?,
        None => text.split_at(run(text, "._+-")),
    };
    let rest = rest.strip_prefix(':')?;
    let (port, rest) = rest.split_at(run(rest, "-_"));
    (!host.is_empty() && !port.is_empty()).then_some((host, port, rest))
}

fn mark(entry: &Entry, digits: &str, findings: &mut Findings) -> Option<u32> {
    match digits.parse::<u32>() {
        Ok(0) | Err(_) => {
            findings.value(entry, format!("is not a firewall mark; write a number from 1 to {}", u32::MAX));
            None
        }
        Ok(PROBE_MARK) => {
            findings.value(
                entry,
                "is the mark of this agent's own probes, which would go to the VIP; choose another",
            );
            None
        }
        Ok(mark) => Some(mark),
    }
}

/// Whether an address can be that of one host.
fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] != 0 && ip.octets()[0] < 224,
        IpAddr::V6(ip) => {
            !ip.is_unspecified()
                && !ip.is_multicast()
                && ip.to_ipv4_mapped().is_none()
                && !ip.is_unicast_link_local()
        }
    }
}

fn persistence(draft: &Draft, family: AddressFamily, findings: &mut Findings) -> Option<Persistence> {
    let netmask = draft.netmask.as_ref().and_then(|entry| netmask(entry, family, findings));
    if let (Some(entry), None) = (&draft.netmask, draft.persistent) {
        findings.note(&entry.place, Note::NetmaskAlone);
    }
    let netmask = netmask.unwrap_or_else(|| Netmask::whole_address(family));
    draft.persistent.map(|timeout| Persistence::new(timeout, netmask))
}

fn netmask(entry: &Entry, family: AddressFamily, findings: &mut Findings) -> Option<Netmask> {
    let text = entry.value.as_str();
    let netmask = match family {
        AddressFamily::V4 => text
            .parse::<std::net::Ipv4Addr>()
            .ok()
            .filter(|mask| {
                let bits = mask.to_bits();
                bits != 0 && bits.leading_ones() == bits.count_ones()
            })
            .map(Netmask::V4),
        AddressFamily::V6 => text.parse().ok().filter(|length| (1..=128).contains(length)).map(Netmask::V6),
    };
    if netmask.is_none() {
        findings.value(
            entry,
            match family {
                AddressFamily::V4 => "is not a netmask; write one such as 255.255.255.0",
                AddressFamily::V6 => "is not a prefix length; write a number from 1 to 128",
            },
        );
    }
    netmask
}

fn one_packet(draft: &Draft, key: &ServiceKey, findings: &mut Findings) -> Option<bool> {
    let is_udp = matches!(key, ServiceKey::Address { protocol: Protocol::Udp, .. });
    match &draft.ops {
        Some((entry, true)) if !is_udp => {
            findings.note(&entry.place, Note::OpsWithoutUdp);
            None
        }
        ops => is_udp.then(|| ops.as_ref().is_some_and(|(_, ops)| *ops)),
    }
}

/// The servers, and the check that those have that don't have one of their own.
fn servers(
    context: &ServiceContext<'_>,
    reals: &[Real],
    service_port: Option<u16>,
    findings: &mut Findings,
) -> (Option<Check>, Vec<RealServer>) {
    let mut usual: Option<Check> = None;
    let mut servers: Vec<(RealServer, &Real)> = Vec::new();
    for real in reals {
        let address = table_address(real.ip, real.port, real.flags.method, service_port);
        if !is_host(real.ip) {
            findings.note(&real.entry.place, Note::NoHost { address: real.ip });
            continue;
        }
        let Some(check) = check::read(context, Some(real), address, findings) else { continue };
        if let Some(kept) = service_port
            && real.port != 0
            && address.port() != real.port
        {
            let used = match check.kind {
                CheckKind::Command(_) => PortUse::Passed,
                _ if check.port == Some(real.port) => PortUse::Checked,
                _ => PortUse::None,
            };
            let (port, method, quiescent) =
                (real.port, method_name(real.flags.method), context.is_quiescent());
            findings.note(&real.entry.place, Note::KeptPort { port, method, kept, used, quiescent });
        }
        let usual = usual.get_or_insert_with(|| check.clone());
        let server = RealServer {
            weight: real.flags.weight,
            upper_threshold: Some(real.flags.upper),
            lower_threshold: Some(real.flags.lower),
            check: (check != *usual).then(|| check.of_service(context.key)),
            ..RealServer::new(address, real.flags.method)
        };
        match servers.iter().find(|(other, _)| other.address == address) {
            Some((other, first)) => twice(&server, other, real, first, findings),
            None => servers.push((server, real)),
        }
    }
    if reals.is_empty() {
        let nobody = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), service_port.unwrap_or(0));
        usual = check::read(context, None, nobody, findings);
    }
    (usual, servers.into_iter().map(|(server, _)| server).collect())
}

fn twice(server: &RealServer, other: &RealServer, real: &Real, first: &Real, findings: &mut Findings) {
    // Lines are counted when the warnings are shown; here only the place of the other one is known.
    let line = findings.line_of(first.entry.place.start);
    if server == other {
        findings.note(&real.entry.place, Note::RealTwice { line });
    } else {
        let fault = DirectiveFault::RealTwice { server: server.address.to_string(), line };
        findings.fault(&real.entry.place, fault);
    }
}

fn backups(
    draft: &Draft,
    globals: &Globals,
    key: &ServiceKey,
    servers: &[RealServer],
    names: &dyn Names,
    findings: &mut Findings,
) -> Vec<Backup> {
    let global = if draft.is_v6() { &globals.fallback6 } else { &globals.fallback };
    let Some(entry) = draft.fallback.as_ref().or(global.as_ref()) else { return Vec::new() };
    let (protocol, service_port) = match key {
        ServiceKey::Address { protocol, address } => (Some(protocol.to_string()), Some(address.port())),
        ServiceKey::Mark { .. } => (None, None),
    };
    let Some(fallback) = server::fallback(entry, protocol.as_deref(), names, findings) else {
        return Vec::new();
    };
    let Fallback { entry, ip, port, method } = fallback;
    if !is_host(ip) {
        findings.note(&entry.place, Note::NoHost { address: ip });
        return Vec::new();
    }
    let address = table_address(ip, port.unwrap_or(0), method, service_port);
    if servers.iter().any(|server| server.address == address) {
        findings.note(&entry.place, Note::FallbackIsReal);
        return Vec::new();
    }
    let server =
        RealServer { upper_threshold: Some(0), lower_threshold: Some(0), ..RealServer::new(address, method) };
    vec![Backup { server, check: None }]
}

fn notifications(draft: &Draft, globals: &Globals) -> Notifications {
    let (service, global) = (&draft.shared, &globals.shared);
    let mail = service.emailalert.clone().or_else(|| global.emailalert.clone()).map(|to| MailSettings {
        to,
        from: globals.emailalertfrom.clone(),
        relay: service.smtp.clone().or_else(|| global.smtp.clone()).map(MailRelay::plain),
        repeat: service.emailalertfreq.or(global.emailalertfreq).filter(|pause| !pause.is_zero()),
        about: service.emailalertstatus.or(global.emailalertstatus).unwrap_or(MailAbout::ALL),
    });
    let fallback_command = service.fallbackcommand.as_ref().or(global.fallbackcommand.as_ref());
    Notifications {
        mail,
        monitor_file: draft.monitorfile.clone(),
        fallback_command: fallback_command.and_then(|command| command.line().cloned()),
        comment: draft.comment.clone(),
    }
}
