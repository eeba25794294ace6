//! The keys about the headers of an HTTP check's requests.

use hyper::header::{HeaderName, HeaderValue};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::super::values;
use crate::{
    config::{
        diagnostics::{Contradiction, FaultKind, FaultList, FileContent, ValueFault},
        native::{
            section::Section,
            value::{self, text},
        },
    },
    model::{HttpAuthorization, HttpHeader, HttpHeaders, Secret},
};

/// The most headers of the operator's own; servers commonly take a hundred.
const MOST: usize = 50;

/// Headers that say how the request is sent, or that have a key of their own, and what to do instead.
const NOT_OWN: [(&str, &str); 11] = [
    ("host", "has a key of its own; write it as \"host\""),
    ("user-agent", "has a key of its own; write it as \"user-agent\""),
    ("connection", OF_AGENT),
    ("content-length", OF_AGENT),
    ("expect", OF_AGENT),
    ("keep-alive", OF_AGENT),
    ("proxy-connection", OF_AGENT),
    ("te", OF_AGENT),
    ("trailer", OF_AGENT),
    ("transfer-encoding", OF_AGENT),
    ("upgrade", OF_AGENT),
];
const OF_AGENT: &str = "says how the request is sent, which is the agent's to say; remove it";

/// Reads `headers`, `user-agent`, and the files with secrets.
pub(super) fn read(section: &mut Section<'_>, faults: &mut FaultList) -> HttpHeaders {
    let own = own(section, faults);
    let is_written = own.iter().any(|header| header.name == "authorization");
    let mut files = ["basic-auth-file", "bearer-token-file"].into_iter().filter_map(|key| section.place(key));
    if let Some(first) = files.next()
        && (is_written || files.next().is_some())
    {
        faults.add(first, Contradiction::AuthorizationTwice);
    }
    HttpHeaders {
        own,
        user_agent: section.plain("user-agent", faults, user_agent),
        authorization: authorization(section, faults),
        unencrypted: section.plain(values::UNENCRYPTED, faults, value::flag).unwrap_or_default(),
    }
}

/// How the check proves who it is: `basic-auth-file` or `bearer-token-file`.
fn authorization(section: &mut Section<'_>, faults: &mut FaultList) -> Option<HttpAuthorization> {
    let basic = values::file(section, "basic-auth-file", faults, FileContent::BasicAuthorization);
    let bearer = values::file(section, "bearer-token-file", faults, FileContent::BearerToken);
    basic.map(HttpAuthorization::Basic).or(bearer.map(HttpAuthorization::Bearer))
}

/// `headers`: a table of names and values.
fn own(section: &mut Section<'_>, faults: &mut FaultList) -> Vec<HttpHeader> {
    const WANTED: &str = "a table of headers, such as { X-Check = \"lvs\" }";
    let table = section.read("headers", faults, |value| match value {
        DeValue::Table(table) if table.len() > MOST => {
            Err(ValueFault::Text { text: "the table".to_owned(), problem: "has more than 50 headers" })
        }
        DeValue::Table(table) => Ok(table.clone()),
        other => Err(value::wrong_type(other, WANTED)),
    });
    let mut own = Vec::new();
    for (name, value) in table.map(Spanned::into_inner).iter().flat_map(DeTable::iter) {
        match header(name.get_ref(), value.get_ref()) {
            Ok(header) => own.push(header),
            Err(fault) => faults.add(value.span(), FaultKind::Value { key: "headers", fault }),
        }
    }
    own.sort_by(|one, other| one.name.cmp(&other.name));
    own
}

fn header(name: &str, value: &DeValue<'_>) -> Result<HttpHeader, ValueFault> {
    let fault = |text: &str, problem| Err(ValueFault::Text { text: text.to_owned(), problem });
    let Ok(lower) = name.parse::<HeaderName>() else {
        return fault(name, "is not the name of a header; write letters, digits and hyphens");
    };
    if let Some((_, problem)) = NOT_OWN.iter().find(|(not_own, _)| lower == *not_own) {
        return fault(name, problem);
    }
    let value = text(value, "the header's value in quotes")?;
    // Messages name the header, and never its value, which may be a secret.
    match HeaderValue::from_str(value) {
        Ok(_) if value.is_ascii() && value.len() <= values::MAX_TEXT => {
            Ok(HttpHeader { name: lower.as_str().to_owned(), value: Secret::new(value) })
        }
        Ok(_) if value.is_ascii() => fault(name, "has a value of more than 4096 bytes; shorten it"),
        _ => fault(
            name,
            "has a value with line breaks or other characters that would forge headers; remove them",
        ),
    }
}

fn user_agent(value: &DeValue<'_>) -> Result<String, ValueFault> {
    let line = values::line(value)?;
    let problem = "has characters that no header can have; write ASCII";
    if line.is_ascii() { Ok(line) } else { Err(ValueFault::Text { text: line, problem }) }
}
