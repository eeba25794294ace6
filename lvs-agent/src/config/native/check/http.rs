//! The keys of an HTTP check.

mod headers;

use std::ops::RangeInclusive;

use hyper::{Uri, http::uri::PathAndQuery};
use toml::de::DeValue;

use super::values::{self, MAX_TEXT};
use crate::{
    config::{
        diagnostics::{Contradiction, FaultList, ValueFault},
        native::{
            section::Section,
            value::{self, text},
        },
    },
    model::{BodyDigest, HttpCheck, HttpMethod, HttpPage, HttpVersion, StatusCodes, TlsStart},
};

/// The final status codes of HTTP: 1xx are never final (RFC 9110, 15.2), and there are none above 599.
const STATUS_CODES: RangeInclusive<u16> = 200..=599;
/// The longest path; servers commonly refuse longer request lines.
const MAX_PATH: usize = 4096;
/// The most pages that one check requests.
const MAX_PAGES: usize = 20;
/// The most redirects that are followed.
const MAX_REDIRECTS: i64 = 10;

const METHODS: [(&str, HttpMethod); 2] = [("GET", HttpMethod::Get), ("HEAD", HttpMethod::Head)];
const VERSIONS: [(&str, HttpVersion); 2] = [("1.0", HttpVersion::Http10), ("1.1", HttpVersion::Http11)];
const TLS: [(&str, Option<TlsStart>); 2] = [("none", None), ("direct", Some(TlsStart::Direct))];

/// Reads them. What is written outside of `pages` holds for each of these.
pub(super) fn read(
    section: &mut Section<'_>,
    tls: Option<TlsStart>,
    proxy: bool,
    faults: &mut FaultList,
) -> HttpCheck {
    let (has_pages, before) = (section.has("pages"), faults.len());
    let pages = section.tables("pages", "a page", faults);
    if has_pages && pages.is_empty() && faults.len() == before {
        faults.add(section.span(), Contradiction::NoPages);
    }
    let has_path = section.has("path");
    let usual = page(section, HttpPage::default(), proxy, faults);
    if proxy && pages.is_empty() && !has_path {
        section.missing("path", "path = \"http://www.example.org/\", which the proxy is to fetch", faults);
    }
    if pages.len() > MAX_PAGES {
        faults.add(section.span(), Contradiction::TooManyPages { most: MAX_PAGES });
    }
    let mut pages: Vec<HttpPage> = pages
        .into_iter()
        .map(|mut section| {
            let page = page(&mut section, usual.clone(), proxy, faults);
            section.finish(faults);
            page
        })
        .collect();
    if pages.is_empty() {
        pages.push(usual);
    }
    HttpCheck {
        pages,
        version: section.plain("version", faults, |value| value::word(value, &VERSIONS)).unwrap_or_default(),
        tls: values::tls(section, tls, &TLS, faults),
        proxy,
        redirects: section.plain("redirects", faults, redirects).unwrap_or_default(),
        headers: headers::read(section, faults),
    }
}

/// The keys of one page; what isn't there stays as it is in `usual`.
fn page(section: &mut Section<'_>, usual: HttpPage, proxy: bool, faults: &mut FaultList) -> HttpPage {
    let path = if proxy { url } else { path };
    let method = section.read("method", faults, |value| value::word(value, &METHODS));
    let place = method.as_ref().map(toml::Spanned::span);
    let page = HttpPage {
        path: section.plain("path", faults, path).unwrap_or(usual.path),
        method: method.map_or(usual.method, toml::Spanned::into_inner),
        host: section.plain("host", faults, values::host).or(usual.host),
        status: section.plain("status", faults, status).unwrap_or(usual.status),
        text: section.plain("text", faults, body_text).or(usual.text),
        pattern: section.plain("pattern", faults, values::pattern).or(usual.pattern),
        unwanted: section.plain("unwanted", faults, values::pattern).or(usual.unwanted),
        digest: section.plain("digest", faults, digest).or(usual.digest),
    };
    let wants_body =
        page.text.is_some() || page.pattern.is_some() || page.unwanted.is_some() || page.digest.is_some();
    if wants_body && page.method == HttpMethod::Head {
        faults.add(place.unwrap_or_else(|| section.span()), Contradiction::HeadWithBody);
    }
    page
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
            fault("is not a valid path; write special characters percent-encoded")
        }
        _ => Ok(path.to_owned()),
    }
}

/// A whole URL that a proxy is to fetch.
fn url(value: &DeValue<'_>) -> Result<String, ValueFault> {
    let url = text(value, "a URL in quotes, such as \"http://www.example.org/\"")?;
    let problem = "is not a URL that a proxy can fetch; write one like \"http://www.example.org/\"";
    let fault = || ValueFault::Text { text: url.to_owned(), problem };
    let parsed: Uri = url.parse().map_err(|_| fault())?;
    let is_whole = parsed.scheme_str() == Some("http") && parsed.host().is_some_and(|host| !host.is_empty());
    let is_plain = !url.contains(['#', '@']) && url.bytes().all(|byte| byte.is_ascii_graphic());
    if is_whole && is_plain && url.len() <= MAX_PATH { Ok(url.to_owned()) } else { Err(fault()) }
}

/// Status codes and ranges of them.
fn status(value: &DeValue<'_>) -> Result<StatusCodes, ValueFault> {
    const PROBLEM: &str = "is not a range of status codes from 200 to 599; write one like \"200-399\", \"204\" or \"200-299,304\"";
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        other => return Err(value::wrong_type(other, "status codes, such as \"200-399\" or \"204\"")),
    };
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    ranges.map(StatusCodes::new).ok_or(ValueFault::Text { text, problem: PROBLEM })
}

/// One status code, or a range of them.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| STATUS_CODES.contains(code));
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (code(low)?, code(high)?);
    (low <= high).then_some(low..=high)
}

/// Text to be found in the body.
fn body_text(value: &DeValue<'_>) -> Result<String, ValueFault> {
    let wanted = text(value, "text in quotes")?;
    let fault = |problem| Err(ValueFault::Text { text: wanted.to_owned(), problem });
    match wanted {
        "" => fault("is found in every body; write some text, or leave it out"),
        _ if wanted.len() > MAX_TEXT => fault("is longer than 4096 bytes; a part of it will do"),
        _ => Ok(wanted.to_owned()),
    }
}

/// The digest of a body.
fn digest(value: &DeValue<'_>) -> Result<BodyDigest, ValueFault> {
    let text = text(value, "a digest in quotes, such as \"sha256:…\"")?;
    let problem = "is not a digest; write \"sha256:\" and 64 hexadecimal digits, or \"md5:\" and 32";
    let fault = || ValueFault::Text { text: text.to_owned(), problem };
    let (method, digits) = text.split_once(':').ok_or_else(fault)?;
    let bytes = values::digits(digits).ok_or_else(fault)?;
    match method {
        "md5" => bytes.try_into().map(BodyDigest::Md5).map_err(|_| fault()),
        "sha256" => bytes.try_into().map(BodyDigest::Sha256).map_err(|_| fault()),
        _ => Err(fault()),
    }
}

fn redirects(value: &DeValue<'_>) -> Result<u8, ValueFault> {
    value::whole(value, 0, MAX_REDIRECTS, "").map(|count| u8::try_from(count).unwrap_or_default())
}
