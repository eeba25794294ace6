//! Real servers and fallback servers.

use std::net::{IpAddr, SocketAddr};

use super::{
    directive::Directive,
    entry::{Entry, is_blank},
    findings::Findings,
    flags::{self, Flags},
    names::{Names, addresses},
    written::{self, Written},
};
use crate::{
    config::diagnostics::{DirectiveFault, Note},
    model::{AddressFamily, ForwardingMethod},
};

/// The most servers of one range: a /16, which no service has.
const MAX_RANGE: u64 = 1 << 16;

/// A real server as written.
#[derive(Clone, Debug)]
pub(super) struct Real {
    pub(super) entry: Entry,
    pub(super) ip: IpAddr,
    /// As written; 0 if there is none.
    pub(super) port: u16,
    pub(super) flags: Flags,
}

/// A fallback server as written.
#[derive(Clone, Debug)]
pub(super) struct Fallback {
    pub(super) entry: Entry,
    pub(super) ip: IpAddr,
    /// As written, if it is.
    pub(super) port: Option<u16>,
    pub(super) method: ForwardingMethod,
}

/// The name of a method.
pub(super) fn method_name(method: ForwardingMethod) -> &'static str {
    match method {
        ForwardingMethod::Masquerade => "masq",
        ForwardingMethod::Tunnel => "ipip",
        _ => "gate",
    }
}

/// The servers of a line: several if it is a range. What is wrong is noted.
pub(super) fn reals(
    entry: &Entry,
    family: AddressFamily,
    names: &dyn Names,
    findings: &mut Findings,
) -> Vec<Real> {
    let Written { skipped, first, last, port, flags } = match written::real(&entry.value) {
        Ok(written) => written,
        Err(problem) => {
            findings.value(entry, problem);
            return Vec::new();
        }
    };
    findings.rest(entry, skipped);
    let Some(flags) = flags::read(entry, flags, findings) else { return Vec::new() };
    let port = port.map_or(Ok(0), |port| names.port(port, None));
    let hosts = [Some(first), last].map(|host| host.map(|host| names.host(host, family)).transpose());
    let mut noted = |fault| findings.name(entry.directive, &entry.place, fault);
    let [first, last] = hosts.map(|host| host.map_err(&mut noted).ok());
    let port = port.map_err(&mut noted).ok();
    let (Some(Some(first)), Some(last), Some(port)) = (first, last, port) else { return Vec::new() };
    let range = last.map_or_else(|| Some(vec![first]), |last| range(entry, first, last, findings));
    let servers = range.unwrap_or_default().into_iter();
    servers.map(|ip| Real { entry: entry.clone(), ip, port, flags: flags.clone() }).collect()
}

/// All addresses of a range.
fn range(entry: &Entry, first: IpAddr, last: IpAddr, findings: &mut Findings) -> Option<Vec<IpAddr>> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (first, last) else {
        findings.value(
            entry,
            "is a range of IPv6 addresses, which can't be said; write each server in a line of its own",
        );
        return None;
    };
    let (first, last) = (from.to_string(), to.to_string());
    let count = u64::from(to.to_bits()) + 1 - u64::from(from.to_bits()).min(u64::from(to.to_bits()) + 1);
    if count == 0 {
        findings.fault(&entry.place, DirectiveFault::RangeBackwards { first, last });
        return None;
    }
    if count > MAX_RANGE {
        findings.fault(&entry.place, DirectiveFault::RangeTooLong { first, last, count, most: MAX_RANGE });
        return None;
    }
    Some(addresses(from, to).map(IpAddr::V4).collect())
}

/// The fallback server of a line. What is wrong is noted.
pub(super) fn fallback(
    entry: &Entry,
    protocol: Option<&str>,
    names: &dyn Names,
    findings: &mut Findings,
) -> Option<Fallback> {
    let family = if entry.directive == Directive::Fallback6 { AddressFamily::V6 } else { AddressFamily::V4 };
    let words: Vec<&str> = entry.value.split(is_blank).filter(|word| !word.is_empty()).collect();
    // ldirectord takes the last two words.
    let (ignored, words) = words.split_at(words.len().saturating_sub(2));
    if !ignored.is_empty() {
        let rest = ignored.join(" ");
        findings.note(&entry.place, Note::Ignored { directive: entry.directive.name(), rest });
    }
    let Some((address, word)) = words.split_first() else {
        findings.value(entry, "is empty; write an address and port such as 127.0.0.1:80");
        return None;
    };
    let method = match word.first() {
        Some(word) => flags::method(entry, word, findings)?,
        None => ForwardingMethod::DirectRoute,
    };
    let (host, port) = match written::fallback(address) {
        Ok(split) => split,
        Err(problem) => {
            findings.value(entry, problem);
            return None;
        }
    };
    let ip = names.host(host, family).map_err(|fault| findings.name(entry.directive, &entry.place, fault));
    let port = port.map(|port| names.port(port, protocol)).transpose();
    let port = port.map_err(|fault| findings.name(entry.directive, &entry.place, fault));
    Some(Fallback { entry: entry.clone(), ip: ip.ok()?, port: port.ok()?, method })
}

/// Where a server stands in the table of a service: under direct route and tunnel at the service's port.
pub(super) fn table_address(
    ip: IpAddr,
    port: u16,
    method: ForwardingMethod,
    service_port: Option<u16>,
) -> SocketAddr {
    match service_port {
        // For every port: the clients' is kept.
        Some(0) => SocketAddr::new(ip, 0),
        Some(service_port) if port == 0 || method != ForwardingMethod::Masquerade => {
            SocketAddr::new(ip, service_port)
        }
        // By firewall mark and under masquerade it stays as it is written.
        _ => SocketAddr::new(ip, port),
    }
}
