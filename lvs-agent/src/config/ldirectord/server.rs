//! Real servers and fallback servers.

use std::net::{IpAddr, SocketAddr};

use super::{
    directive::Directive,
    entry::{Entry, is_blank},
    findings::Findings,
    names::{Names, addresses},
    value,
};
use crate::{
    config::diagnostics::{DirectiveFault, Note},
    model::{AddressFamily, ForwardingMethod, Weight},
};

/// The most servers of one range: a /16, which no service has.
const MAX_RANGE: u64 = 1 << 16;
/// What an error about the form of the line says.
const FORM: &str =
    "is not a real server; write it like 10.0.0.1:80 masq 1, with gate, masq or ipip after the address";

/// A real server as written.
#[derive(Clone, Debug)]
pub(super) struct Real {
    pub(super) entry: Entry,
    pub(super) ip: IpAddr,
    /// As written; 0 if there is none.
    pub(super) port: u16,
    pub(super) method: ForwardingMethod,
    pub(super) weight: Weight,
    pub(super) request: Option<(String, String)>,
    pub(super) lower: u32,
    pub(super) upper: u32,
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

fn method(word: &str) -> Option<ForwardingMethod> {
    match word {
        "gate" => Some(ForwardingMethod::DirectRoute),
        "masq" => Some(ForwardingMethod::Masquerade),
        "ipip" => Some(ForwardingMethod::Tunnel),
        _ => None,
    }
}

/// The servers of a line: several if it is a range. What is wrong is noted.
pub(super) fn reals(
    entry: &Entry,
    family: AddressFamily,
    names: &dyn Names,
    findings: &mut Findings,
) -> Vec<Real> {
    let (address, flags) = entry.value.split_once(is_blank).unwrap_or((&entry.value, ""));
    let Some((first, last, port)) = split_address(address) else {
        findings.value(entry, FORM);
        return Vec::new();
    };
    let Some(flags) = flags_of(entry, flags, findings) else { return Vec::new() };
    let port = port.map_or(Ok(0), |port| names.port(port, None));
    let hosts = [Some(first), last].map(|host| host.map(|host| names.host(host, family)).transpose());
    let mut noted = |fault| findings.name(entry.directive, &entry.place, fault);
    let [first, last] = hosts.map(|host| host.map_err(&mut noted).ok());
    let port = port.map_err(&mut noted).ok();
    let (Some(Some(first)), Some(last), Some(port)) = (first, last, port) else { return Vec::new() };
    let range = last.map_or_else(|| Some(vec![first]), |last| range(entry, first, last, findings));
    let servers = range.unwrap_or_default().into_iter();
    servers.map(|ip| Real { entry: entry.clone(), ip, port, ..flags.clone() }).collect()
}

/// Address, end of the range and port. Only a first look: names and numbers are judged when they are resolved.
fn split_address(text: &str) -> Option<(&str, Option<&str>, Option<&str>)> {
    let (first, rest) = split_host(text)?;
    let (last, rest) = match rest.strip_prefix("->") {
        Some(rest) => split_host(rest).map(|(last, rest)| (Some(last), rest))?,
        None => (None, rest),
    };
    match rest.strip_prefix(':') {
        Some(port) if is_port_word(port) => Some((first, last, Some(port))),
        None if rest.is_empty() => Some((first, last, None)),
        _ => None,
    }
}

/// A host at the beginning: a name, an IPv4 address, or an IPv6 address in brackets.
fn split_host(text: &str) -> Option<(&str, &str)> {
    if text.starts_with('[') {
        return Some(text.split_at(text.find(']')? + 1));
    }
    let arrow = text.find("->").unwrap_or(text.len());
    let end = text[..arrow].find(':').unwrap_or(arrow);
    let (host, rest) = text.split_at(end);
    let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
    is_host.then_some((host, rest))
}

fn is_port_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
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

/// What follows the address: method, weight, request and receive, thresholds.
fn flags_of(entry: &Entry, flags: &str, findings: &mut Findings) -> Option<Real> {
    let flags = flags.trim_start_matches(is_blank);
    let (word, mut rest) = flags.split_once(is_blank).unwrap_or((flags, ""));
    let Some(method) = method(word) else {
        findings.value(entry, FORM);
        return None;
    };
    let mut real = Real {
        entry: entry.clone(),
        ip: IpAddr::from([0, 0, 0, 0]),
        port: 0,
        method,
        weight: Weight(1),
        request: None,
        lower: 0,
        upper: 0,
    };
    rest = rest.trim_start_matches(is_blank);
    if rest.starts_with(|c: char| c.is_ascii_digit()) {
        let (word, after) = rest.split_once(is_blank).unwrap_or((rest, ""));
        let Ok(weight) = word.parse() else {
            findings.value(entry, format!("has {word:?} where a weight from 0 to 65535 should be"));
            return None;
        };
        (real.weight, rest) = (Weight(weight), after.trim_start_matches(is_blank));
    }
    if rest.starts_with('"') {
        let Some((request, receive, after)) = two_strings(rest) else {
            findings.value(
                entry,
                "does not have two texts in quotes; write \"request\", \"what must be received\"",
            );
            return None;
        };
        (real.request, rest) = (Some((request, receive)), after.trim_start_matches(is_blank));
    }
    for word in rest.split(is_blank).filter(|word| !word.is_empty()) {
        let threshold =
            |prefix| word.strip_prefix(prefix).and_then(|number: &str| number.parse::<u32>().ok());
        if let Some(number) = threshold("l:") {
            real.lower = number;
        } else if let Some(number) = threshold("u:") {
            real.upper = number;
        } else {
            findings.value(
                entry,
                format!("has {word:?}, which is not a threshold; write l:10 or u:20, and nothing else"),
            );
            return None;
        }
    }
    // `ip_vs_add_dest` refuses it, so that ldirectord never gets the server into the table.
    if real.lower > real.upper {
        findings.value(entry, "has a lower threshold above the upper one; write l:10 u:20, or leave out l:");
        return None;
    }
    Some(real)
}

/// Two texts in quotes with a comma or blanks between, and what is behind them. Quotes within are part of the text.
fn two_strings(text: &str) -> Option<(String, String, &str)> {
    let (inner, after) = value::between_quotes(text)?;
    // The last place where one text can end and the other begin, as ldirectord takes it.
    let middle = inner.match_indices('"').map(|(at, _)| at).rev().find_map(|at| {
        let between = inner[at + 1..].trim_start_matches([' ', ',', '\t']);
        let gap = inner.len() - at - 1 - between.len();
        (gap > 0 && between.starts_with('"')).then(|| (at, inner.len() - between.len() + 1))
    })?;
    Some((inner[..middle.0].to_owned(), inner[middle.1..].to_owned(), after))
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
    let form = "is not a fallback server; write it like 127.0.0.1:80 gate";
    let Some((address, word)) = words.split_first() else {
        findings.value(entry, form);
        return None;
    };
    let method = word.first().map_or(Some(ForwardingMethod::DirectRoute), |word| method(word));
    let split = split_address(address).filter(|(_, last, _)| last.is_none());
    let (Some(method), Some((host, _, port))) = (method, split) else {
        findings.value(entry, form);
        return None;
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
