//! A check: what is asked, how often and how long.

use std::{
    ops::{Range, RangeInclusive},
    time::Duration,
};

use humantime::format_duration;
use hyper::http::uri::{Authority, PathAndQuery};
use toml::de::DeValue;

use super::{section::Section, value};
use crate::{
    config::{
        Check, HttpQuestion, Question,
        defaults::{CHECK_INTERVAL, CHECK_TIMEOUT},
        error::{Contradiction, FaultList, ValueFault},
    },
    service::ServiceKey,
};

/// The final status codes of HTTP: 1xx are never final (RFC 9110, 15.2), and there are none above 599.
const STATUS_CODES: RangeInclusive<u16> = 200..=599;
/// The status codes that count as well.
const DEFAULT_STATUS: RangeInclusive<u16> = 200..=399;
/// The longest text that is searched for.
const MAX_TEXT: usize = 4096;
/// The longest path; servers commonly refuse longer request lines.
const MAX_PATH: usize = 4096;

/// The kinds of check, by their names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ping,
    Connect,
    Http,
}

const KINDS: [(&str, Kind); 3] = [("ping", Kind::Ping), ("connect", Kind::Connect), ("http", Kind::Http)];

/// A check that was read, before it is known what services it is for.
#[derive(Clone)]
pub(super) struct ReadCheck {
    /// `None`: what suits the service.
    question: Option<Question>,
    interval: Duration,
    timeout: Duration,
    port: Option<u16>,
    place: Range<usize>,
}

impl ReadCheck {
    /// The check of a service. `tcp` says whether TCP can be spoken to each of its servers' own ports: only then does a
    /// check by anything but ping need no port of its own.
    pub(super) fn resolve(read: Option<Self>, key: &ServiceKey, tcp: bool, faults: &mut FaultList) -> Check {
        let Some(Self { question, interval, timeout, port, place }) = read else {
            let question = if tcp { Question::Connect } else { Question::Ping };
            return Check { question, interval: CHECK_INTERVAL, timeout: CHECK_TIMEOUT, port: None };
        };
        let has_port = tcp || port.is_some();
        let question = question.unwrap_or(if has_port { Question::Connect } else { Question::Ping });
        if !has_port && question != Question::Ping {
            faults.add(place, Contradiction::CheckWithoutPort { service: key.to_string() });
        }
        Check { question, interval, timeout, port }
    }
}

/// Reads the table of a check.
pub(super) fn read(mut section: Section<'_>, faults: &mut FaultList) -> ReadCheck {
    // `None`: the type is wrong, and noted; what else is written may be right for the one that was meant.
    let written = section.has("type");
    let place = section.span();
    let kind = section.plain("type", faults, |value| value::word(value, &KINDS));
    let kind = if written { kind } else { Some(Kind::Connect) };
    let (interval, timeout) = times(&mut section, faults);
    if kind == Some(Kind::Ping) {
        section.refuse_for_check("port", "ping", faults);
    }
    let port = section.plain("port", faults, value::port);
    let question = match kind {
        Some(Kind::Ping) => no_http(&mut section, "ping", Question::Ping, faults),
        Some(Kind::Connect) => no_http(&mut section, "connect", Question::Connect, faults),
        Some(Kind::Http) | None => Question::Http(http(&mut section, faults)),
    };
    section.finish(faults);
    let question = written.then_some(question);
    ReadCheck { question, interval, timeout, port, place }
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
        let contradiction = Contradiction::TimeoutAboveInterval {
            timeout: format_duration(*timeout.get_ref()).to_string(),
            interval: format_duration(interval).to_string(),
        };
        faults.add(timeout.span(), contradiction);
    }
    (interval, timeout.into_inner())
}

/// Refuses the keys that only an HTTP check has.
fn no_http(
    section: &mut Section<'_>,
    kind: &'static str,
    question: Question,
    faults: &mut FaultList,
) -> Question {
    for key in ["path", "host", "status", "text"] {
        section.refuse_for_check(key, kind, faults);
    }
    question
}

/// The keys of an HTTP check.
fn http(section: &mut Section<'_>, faults: &mut FaultList) -> HttpQuestion {
    HttpQuestion {
        path: section.plain("path", faults, path).unwrap_or_else(|| "/".to_owned()),
        host: section.plain("host", faults, host),
        status: section.plain("status", faults, status).unwrap_or(DEFAULT_STATUS),
        text: section.plain("text", faults, body_text),
    }
}

/// Text in quotes, or the fault that it has.
fn text<'a>(value: &'a DeValue<'_>, wanted: &'static str) -> Result<&'a str, ValueFault> {
    value.as_str().ok_or_else(|| value::wrong_type(value, wanted))
}

/// A path and query that can stand in a request line as they are.
fn path(value: &DeValue<'_>) -> Result<String, ValueFault> {
    let path = text(value, "a path in quotes, such as \"/health\"")?;
    let fault = |problem| Err(ValueFault::Text { text: path.to_owned(), problem });
    match path {
        _ if !path.starts_with('/') => fault("does not start with \"/\"; write it like \"/health\""),
        _ if path.contains(['\r', '\n']) => fault("has a line break, which would forge headers; remove it"),
        _ if path.contains('#') => {
            fault("has a fragment, which is never sent; remove \"#\" and what follows")
        }
        _ if path.len() > MAX_PATH => fault("is longer than 4096 bytes; shorten it"),
        _ if !path.bytes().all(|byte| byte.is_ascii_graphic()) => {
            fault("has characters that a path can't have; write them percent-encoded, a space as %20")
        }
        _ if path.parse::<PathAndQuery>().is_err() => {
            fault("is no valid path; write special characters percent-encoded")
        }
        _ => Ok(path.to_owned()),
    }
}

/// A host, with or without a port, that can stand in a Host header.
fn host(value: &DeValue<'_>) -> Result<String, ValueFault> {
    let host = text(value, "a host name in quotes, such as \"www.example.org\"")?;
    let fault = |problem| Err(ValueFault::Text { text: host.to_owned(), problem });
    match host {
        "" => fault("is empty; write a host name, or leave it away"),
        _ if host.contains(['\r', '\n']) => fault("has a line break, which would forge headers; remove it"),
        _ if host.contains('@') => fault("has a user name in it; write only the host name"),
        _ if host.parse::<Authority>().is_err() => {
            fault("is no valid host name; write one like \"www.example.org\"")
        }
        _ => Ok(host.to_owned()),
    }
}

/// One status code, or a range of them.
fn status(value: &DeValue<'_>) -> Result<RangeInclusive<u16>, ValueFault> {
    const PROBLEM: &str =
        "is no range of status codes from 200 to 599; write one like \"200-399\" or \"204\"";
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        other => return Err(value::wrong_type(other, "status codes, such as \"200-399\" or \"204\"")),
    };
    let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| STATUS_CODES.contains(code));
    let (low, high) = text.split_once('-').unwrap_or((&text, &text));
    match (code(low), code(high)) {
        (Some(low), Some(high)) if low <= high => Ok(low..=high),
        _ => Err(ValueFault::Text { text, problem: PROBLEM }),
    }
}

/// Text to be found in the body.
fn body_text(value: &DeValue<'_>) -> Result<String, ValueFault> {
    let wanted = text(value, "text in quotes")?;
    let fault = |problem| Err(ValueFault::Text { text: wanted.to_owned(), problem });
    match wanted {
        "" => fault("is found in every body; write some text, or leave it away"),
        _ if wanted.len() > MAX_TEXT => fault("is longer than 4096 bytes; a part of it will do"),
        _ => Ok(wanted.to_owned()),
    }
}
