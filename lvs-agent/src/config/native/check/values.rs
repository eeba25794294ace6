//! One reader for each kind of value that only checks have.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use hyper::http::uri::Authority;
use toml::{Spanned, de::DeValue};

use super::secret_file;
use crate::{
    config::{
        diagnostics::{Contradiction, FaultList, FileContent, Prerequisite, ValueFault},
        native::{
            section::Section,
            value::{self, text},
        },
    },
    model::{DeviceName, Login, Pattern, SYSTEM_AUTHORITIES, Secret, Tls, TlsIdentity, TlsStart, TlsVerify},
};

type Result<T> = std::result::Result<T, ValueFault>;

/// The longest text that is sent or searched for.
pub(super) const MAX_TEXT: usize = 4096;
/// The key that lets secrets be sent without encryption.
pub(super) const UNENCRYPTED: &str = "password-unencrypted";
/// The longest name or password.
const MAX_WORD: usize = 200;

/// Text of some length in one line.
pub(super) fn line(value: &DeValue<'_>) -> Result<String> {
    let text = text(value, "text in quotes")?;
    let fault = |problem| Err(ValueFault::Text { text: text.to_owned(), problem });
    match text {
        "" => fault("is empty; write some text, or leave it out"),
        _ if text.chars().any(char::is_control) => fault("has control characters; remove them"),
        _ if text.len() > MAX_TEXT => fault("is longer than 4096 bytes; shorten it"),
        _ => Ok(text.to_owned()),
    }
}

/// A short text in one line.
pub(crate) fn word(value: &DeValue<'_>) -> Result<String> {
    let line = line(value)?;
    if line.len() > MAX_WORD {
        return Err(ValueFault::Text { text: line, problem: "is longer than 200 bytes; shorten it" });
    }
    Ok(line)
}

/// A short text without spaces.
pub(super) fn name(value: &DeValue<'_>) -> Result<String> {
    let word = word(value)?;
    if word.contains(|c: char| c.is_whitespace() || "<>()\"".contains(c)) {
        return Err(ValueFault::Text { text: word, problem: "has spaces, brackets or quotes; remove them" });
    }
    Ok(word)
}

/// A secret, which may be empty, and which no message shows: text, or a table with the file that has it.
pub(super) fn secret(value: &DeValue<'_>) -> Result<Secret> {
    const WANTED: &str = "a secret in quotes, or { file = \"/…\" } with a file that has it in its first line";
    let fault = |problem| Err(ValueFault::Text { text: "the secret".to_owned(), problem });
    let checked = |text: &str| match text {
        _ if text.chars().any(char::is_control) => Some("has control characters; remove them"),
        _ if text.len() > MAX_WORD => Some("is longer than 200 bytes; shorten it"),
        _ => None,
    };
    let DeValue::Table(table) = value else {
        let text = text(value, WANTED)?;
        return checked(text).map_or_else(|| Ok(Secret::new(text)), fault);
    };
    let Some(file) = table.get("file").filter(|_| table.len() == 1) else {
        return Err(value::wrong_type(value, WANTED));
    };
    let file = path(file.get_ref())?;
    let text = match secret_file::first_line(&file) {
        Ok(text) => text,
        Err(problem) => return Err(ValueFault::Text { text: file.display().to_string(), problem }),
    };
    checked(&text).map_or_else(|| Ok(Secret::from_file(text.as_str(), file)), fault)
}

/// Text that is sent, with whatever line breaks it has.
pub(super) fn bytes(value: &DeValue<'_>) -> Result<Vec<u8>> {
    let text = text(value, "text in quotes, such as \"HELLO\\r\\n\"")?;
    if text.len() > MAX_TEXT {
        return Err(ValueFault::Text {
            text: text.to_owned(),
            problem: "is longer than 4096 bytes; shorten it",
        });
    }
    Ok(text.as_bytes().to_vec())
}

/// Bytes as hexadecimal digits.
pub(super) fn hexadecimal(value: &DeValue<'_>) -> Result<Vec<u8>> {
    let text = text(value, "hexadecimal digits in quotes, such as \"0a ff\"")?;
    let problem = "is not an even number of hexadecimal digits, at most 8192; write them like \"0a ff\"";
    let fault = || ValueFault::Text { text: text.to_owned(), problem };
    digits(text).filter(|bytes| bytes.len() <= MAX_TEXT).ok_or_else(fault)
}

/// The bytes that hexadecimal digits stand for; spaces between them don't count.
pub(super) fn digits(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// A regular expression.
pub(super) fn pattern(value: &DeValue<'_>) -> Result<Pattern> {
    let text = text(value, "a regular expression in quotes")?;
    if text.is_empty() {
        let problem = "matches everything; write an expression, or leave it out";
        return Err(ValueFault::Text { text: text.to_owned(), problem });
    }
    if text.len() > MAX_TEXT {
        return Err(ValueFault::Text {
            text: text.to_owned(),
            problem: "is longer than 4096 bytes; shorten it",
        });
    }
    Pattern::new(text)
        .map_err(|error| ValueFault::Pattern { text: text.to_owned(), problem: error.to_string() })
}

/// An absolute path of a file.
pub(crate) fn path(value: &DeValue<'_>) -> Result<PathBuf> {
    let text = line(value)?;
    if !text.starts_with('/') {
        return Err(ValueFault::Text { text, problem: "is not an absolute path; write it from \"/\" on" });
    }
    Ok(PathBuf::from(text))
}

/// The source address of a check.
pub(super) fn address(value: &DeValue<'_>) -> Result<IpAddr> {
    let text = text(value, "an address in quotes, such as \"192.0.2.10\"")?;
    let fault = || ValueFault::Address { text: text.to_owned(), wanted: "address, such as \"192.0.2.10\"" };
    let ip: IpAddr = text.parse().map_err(|_| fault())?;
    value::unicast(ip)?;
    Ok(ip)
}

/// An address to ask, and its port if it is written.
pub(super) fn address_and_port(value: &DeValue<'_>) -> Result<(IpAddr, Option<u16>)> {
    value::address_and_port(value, "an address in quotes, such as \"192.0.2.80:80\" or \"192.0.2.80\"")
}

/// The device of a check.
pub(super) fn device(value: &DeValue<'_>) -> Result<DeviceName> {
    let name = value::device(value)?;
    let problem = "can't be the name of a network device";
    DeviceName::new(&name).ok_or(ValueFault::Text { text: name, problem })
}

/// A host, with or without a port, that can stand in a Host header.
pub(super) fn host(value: &DeValue<'_>) -> Result<String> {
    let host = text(value, "a host name in quotes, such as \"www.example.org\"")?;
    let fault = |problem| Err(ValueFault::Text { text: host.to_owned(), problem });
    match host {
        "" => fault("is empty; write a host name, or leave it out"),
        _ if host.contains(['\r', '\n']) => fault("has a line break, which would forge headers; remove it"),
        _ if host.contains('@') => fault("has a user name in it; write only the host name"),
        _ if host.parse::<Authority>().is_err() => {
            fault("is not a valid host name; write one like \"www.example.org\"")
        }
        _ => Ok(host.to_owned()),
    }
}

/// A name that a certificate can be for.
pub(crate) fn tls_name(value: &DeValue<'_>) -> Result<String> {
    let host = host(value)?;
    if rustls::pki_types::ServerName::try_from(host.as_str()).is_err() {
        let problem = "is not a name that a certificate can be for; write one like \"www.example.org\"";
        return Err(ValueFault::Text { text: host, problem });
    }
    Ok(host)
}

/// The keys of the encryption. `usual` is what the type of the check implies, `known` what it can be.
pub(super) fn tls(
    section: &mut Section<'_>,
    usual: Option<TlsStart>,
    known: &[(&'static str, Option<TlsStart>)],
    faults: &mut FaultList,
) -> Option<Tls> {
    let start = section.plain("tls", faults, |value| value::word(value, known)).unwrap_or(usual);
    let Some(start) = start else {
        for key in ["tls-name", "tls-verify", "tls-ca", "tls-cert", "tls-key"] {
            if let Some(place) = section.drop_key(key) {
                faults.add(place, Contradiction::NoTls { key });
            }
        }
        return None;
    };
    let name = section.plain("tls-name", faults, tls_name);
    let verify = section.read("tls-verify", faults, value::flag);
    let file = section.read("tls-ca", faults, path);
    let need = |key, path: &Path| Prerequisite::File {
        key,
        path: path.to_owned(),
        content: FileContent::Certificate,
    };
    match (&verify, &file) {
        (_, Some(file)) => faults.need(file.span(), need("tls-ca", file.get_ref())),
        (Some(verify), None) if *verify.get_ref() => {
            faults.need(verify.span(), need("tls-verify", Path::new(SYSTEM_AUTHORITIES)));
        }
        _ => {}
    }
    let verify = match (verify, file.map(Spanned::into_inner)) {
        (Some(verify), Some(_)) if !*verify.get_ref() => {
            faults.add(verify.span(), Contradiction::CaWithoutVerify);
            TlsVerify::No
        }
        (_, Some(file)) => TlsVerify::File(file),
        (Some(verify), None) if *verify.get_ref() => TlsVerify::System,
        _ => TlsVerify::No,
    };
    Some(Tls { start, name, verify, identity: identity(section, faults) })
}

/// The agent's own certificate: `tls-cert`, and `tls-key` where the key is in a file of its own.
fn identity(section: &mut Section<'_>, faults: &mut FaultList) -> Option<TlsIdentity> {
    if section.has("tls-key") && !section.has("tls-cert") {
        section.missing("tls-cert", "tls-cert = \"/etc/lvs-agent/client.pem\" for the key", faults);
    }
    let has_key = section.has("tls-key");
    let content = if has_key { FileContent::Certificate } else { FileContent::CertificateAndKey };
    let certificate = file(section, "tls-cert", faults, content);
    let key = file(section, "tls-key", faults, FileContent::PrivateKey);
    let certificate = certificate?;
    let key = if has_key { key? } else { certificate.clone() };
    Some(TlsIdentity { certificate, key })
}

/// The path of a file that must have some content when the check is made.
pub(super) fn file(
    section: &mut Section<'_>,
    key: &'static str,
    faults: &mut FaultList,
    content: FileContent,
) -> Option<PathBuf> {
    let path = section.read(key, faults, path)?;
    faults.need(path.span(), Prerequisite::File { key, path: path.get_ref().clone(), content });
    Some(path.into_inner())
}

/// The keys of a login; `None` if nobody is to log in.
pub(super) fn login(section: &mut Section<'_>, faults: &mut FaultList) -> Option<Login> {
    if !section.has("user") && section.has("password") {
        section.missing("user", "user = \"…\" for the password", faults);
    }
    let password = section.plain("password", faults, secret);
    let unencrypted = section.plain(UNENCRYPTED, faults, value::flag).unwrap_or_default();
    let user = section.plain("user", faults, word)?;
    Some(Login { user, password: password.unwrap_or_else(|| Secret::new("")), unencrypted })
}

/// The keys of a login that must be there.
pub(super) fn needed_login(section: &mut Section<'_>, faults: &mut FaultList) -> Login {
    if !section.has("user") && !section.has("password") {
        section.missing("user", "user = \"…\" and password = \"…\"", faults);
    }
    let nobody = || Login { user: String::new(), password: Secret::new(""), unencrypted: false };
    login(section, faults).unwrap_or_else(nobody)
}
