//! The keys of checks over other protocols, of commands and of files.

use std::path::PathBuf;

use toml::{Spanned, de::DeValue};

use super::{
    kind::Kind,
    values::{self, MAX_TEXT},
};
use crate::{
    config::{
        diagnostics::{Contradiction, FaultList, FileContent, Prerequisite, ValueFault},
        native::{
            section::Section,
            value::{self, text},
        },
    },
    model::{
        AgentCheck, CommandCheck, CommandConvention, Database, DnsCheck, DnsExpect, DnsType, GreetingCheck,
        GreetingProtocol, LdapCheck, Login, OracleCheck, RadiusCheck, Secret, SipCheck, SqlCheck, TcpCheck,
        TlsStart, Transport, UdpCheck, is_dns_name,
    },
};

type Start = Option<TlsStart>;

const DIRECT: [(&str, Start); 2] = [("none", None), ("direct", Some(TlsStart::Direct))];
const LATER: [(&str, Start); 2] = [("none", None), ("starttls", Some(TlsStart::StartTls))];
const ANY: [(&str, Start); 3] =
    [("none", None), ("direct", Some(TlsStart::Direct)), ("starttls", Some(TlsStart::StartTls))];
const TRANSPORTS: [(&str, Transport); 2] = [("udp", Transport::Udp), ("tcp", Transport::Tcp)];
const RECORDS: [(&str, DnsType); 8] = [
    ("A", DnsType::A),
    ("AAAA", DnsType::Aaaa),
    ("PTR", DnsType::Ptr),
    ("NS", DnsType::Ns),
    ("CNAME", DnsType::Cname),
    ("SOA", DnsType::Soa),
    ("MX", DnsType::Mx),
    ("TXT", DnsType::Txt),
];
const CONVENTIONS: [(&str, CommandConvention); 3] = [
    ("ldirectord", CommandConvention::Ldirectord),
    ("keepalived", CommandConvention::Keepalived),
    ("keepalived-dynamic", CommandConvention::KeepalivedDynamic),
];
/// The most words of a command.
const MAX_ARGUMENTS: usize = 100;

pub(super) fn tcp(section: &mut Section<'_>, faults: &mut FaultList) -> TcpCheck {
    TcpCheck {
        send: send(section, faults).unwrap_or_default(),
        expect: section.plain("expect", faults, values::pattern),
        tls: values::tls(section, None, &DIRECT, faults),
    }
}

pub(super) fn agent(section: &mut Section<'_>, faults: &mut FaultList) -> AgentCheck {
    AgentCheck { send: send(section, faults).unwrap_or_default() }
}

pub(super) fn udp(section: &mut Section<'_>, faults: &mut FaultList) -> UdpCheck {
    let expect = section.plain("expect", faults, values::pattern);
    let reply = section.read("reply", faults, value::flag);
    if let Some(reply) = &reply
        && !*reply.get_ref()
        && expect.is_some()
    {
        faults.add(reply.span(), Contradiction::ExpectWithoutReply);
    }
    UdpCheck {
        send: send(section, faults).unwrap_or_default(),
        reply: reply.map_or(expect.is_some(), Spanned::into_inner),
        expect,
    }
}

/// What is sent: as text or in hexadecimal.
fn send(section: &mut Section<'_>, faults: &mut FaultList) -> Option<Vec<u8>> {
    if section.has("send")
        && let Some(place) = section.drop_key("send-hex")
    {
        faults.add(place, Contradiction::SendTwice);
    }
    let text = section.plain("send", faults, values::bytes);
    text.or_else(|| section.plain("send-hex", faults, values::hexadecimal))
}

pub(super) fn greeting(section: &mut Section<'_>, kind: Kind, faults: &mut FaultList) -> GreetingCheck {
    let protocol = match kind {
        Kind::Pop3 | Kind::Pop3s => GreetingProtocol::Pop3,
        Kind::Imap | Kind::Imaps => GreetingProtocol::Imap,
        Kind::Nntp | Kind::Nntps => GreetingProtocol::Nntp,
        Kind::Ftp | Kind::Ftps => GreetingProtocol::Ftp,
        _ => GreetingProtocol::Smtp,
    };
    let helo =
        if protocol == GreetingProtocol::Smtp { section.plain("helo", faults, values::name) } else { None };
    GreetingCheck {
        protocol,
        tls: values::tls(section, kind.tls(), &ANY, faults),
        login: values::login(section, faults),
        helo,
    }
}

pub(super) fn dns(section: &mut Section<'_>, faults: &mut FaultList) -> DnsCheck {
    let record = section.plain("record", faults, |value| value::word(value, &RECORDS)).unwrap_or_default();
    if !section.has("name") {
        section.missing("name", "name = \"www.example.org\", which is queried", faults);
    }
    let name = |value: &DeValue<'_>| {
        let name = values::name(value)?;
        let problem = "is not a name that can be queried; write one like \"www.example.org\"";
        if is_dns_name(&name, record) { Ok(name) } else { Err(ValueFault::Text { text: name, problem }) }
    };
    DnsCheck {
        name: section.plain("name", faults, name).unwrap_or_default(),
        record,
        transport: transport(section, faults),
        expect: dns_expect(section, faults),
    }
}

/// A record, or an expression for it.
fn dns_expect(section: &mut Section<'_>, faults: &mut FaultList) -> Option<DnsExpect> {
    let record = section.plain("expect", faults, values::line);
    let pattern = section.read("pattern", faults, values::pattern);
    if let (Some(_), Some(pattern)) = (&record, &pattern) {
        faults.add(pattern.span(), Contradiction::RecordTwice);
    }
    record.map(DnsExpect::Is).or_else(|| pattern.map(|pattern| DnsExpect::Matches(pattern.into_inner())))
}

fn transport(section: &mut Section<'_>, faults: &mut FaultList) -> Transport {
    section.plain("transport", faults, |value| value::word(value, &TRANSPORTS)).unwrap_or_default()
}

pub(super) fn radius(section: &mut Section<'_>, faults: &mut FaultList) -> RadiusCheck {
    if !section.has("secret") {
        section.missing("secret", "secret = \"…\", which the director and the server share", faults);
    }
    let password = |value: &DeValue<'_>| {
        let secret = values::secret(value)?;
        let problem = "is longer than 128 bytes, which RADIUS can't send; shorten it";
        if secret.reveal().len() <= RadiusCheck::MAX_PASSWORD {
            Ok(secret)
        } else {
            Err(ValueFault::Text { text: "the password".to_owned(), problem })
        }
    };
    let password = section.has("user").then(|| section.plain("password", faults, password)).flatten();
    section.refuse_for_check(values::UNENCRYPTED, Kind::Radius.name(), faults);
    let login = values::needed_login(section, faults);
    RadiusCheck {
        login: Login { password: password.unwrap_or(login.password), ..login },
        secret: section.plain("secret", faults, values::secret).unwrap_or_else(|| Secret::new("")),
        reject_is_alive: section.plain("reject-is-alive", faults, value::flag).unwrap_or_default(),
    }
}

pub(super) fn sip(section: &mut Section<'_>, tls: Start, faults: &mut FaultList) -> SipCheck {
    let usual = if tls.is_some() { Transport::Tcp } else { Transport::Udp };
    let transport = section.read("transport", faults, |value| value::word(value, &TRANSPORTS));
    let place = transport.as_ref().map(Spanned::span);
    let transport = transport.map_or(usual, Spanned::into_inner);
    let tls = values::tls(section, tls, &DIRECT, faults);
    if tls.is_some() && transport == Transport::Udp {
        faults.add(place.unwrap_or_else(|| section.span()), Contradiction::TlsOverUdp);
    }
    SipCheck { user: section.plain("user", faults, values::name), transport, tls }
}

pub(super) fn ldap(section: &mut Section<'_>, tls: Start, faults: &mut FaultList) -> LdapCheck {
    let expect = section.read("expect", faults, values::pattern);
    if let Some(expect) = &expect
        && !section.has("base")
    {
        faults.add(expect.span(), Contradiction::ExpectWithoutBase);
    }
    LdapCheck {
        login: values::login(section, faults),
        base: section.plain("base", faults, values::line),
        expect: expect.map(Spanned::into_inner),
        tls: values::tls(section, tls, &ANY, faults),
    }
}

pub(super) fn sql(section: &mut Section<'_>, kind: Kind, faults: &mut FaultList) -> SqlCheck {
    let server = if kind == Kind::Mysql { Database::Mysql } else { Database::Postgresql };
    SqlCheck {
        server,
        login: values::needed_login(section, faults),
        database: section.plain("database", faults, values::word),
        query: section.plain("query", faults, query),
        tls: values::tls(section, None, &LATER, faults),
    }
}

fn query(value: &DeValue<'_>) -> Result<String, ValueFault> {
    let query = text(value, "a query in quotes, such as \"SELECT 1\"")?;
    let fault = |problem| Err(ValueFault::Text { text: query.to_owned(), problem });
    match query {
        _ if query.trim().is_empty() => fault("is empty; write a query, or leave it out"),
        _ if query.contains('\0') => fault("has a zero byte in it; remove it"),
        _ if query.len() > MAX_TEXT => fault("is longer than 4096 bytes; shorten it"),
        _ => Ok(query.to_owned()),
    }
}

pub(super) fn oracle(section: &mut Section<'_>, faults: &mut FaultList) -> OracleCheck {
    OracleCheck { service: section.plain("database", faults, values::name) }
}

pub(super) fn command(section: &mut Section<'_>, faults: &mut FaultList) -> CommandCheck {
    if !section.has("command") {
        section.missing("command", "command = [\"/usr/local/bin/check\", \"-x\"]", faults);
    }
    let convention =
        section.plain("convention", faults, |value| value::word(value, &CONVENTIONS)).unwrap_or_default();
    let argv = section.read("command", faults, argv);
    if let Some(argv) = &argv
        && let Some(program) = argv.get_ref().first()
    {
        faults.need(argv.span(), Prerequisite::Program { key: "command", path: program.into() });
    }
    CommandCheck { argv: argv.map(Spanned::into_inner).unwrap_or_default(), convention, service: None }
}

/// A program and its arguments; no shell reads them.
pub(crate) fn argv(value: &DeValue<'_>) -> Result<Vec<String>, ValueFault> {
    const WANTED: &str =
        "the program and its arguments in brackets, such as [\"/usr/local/bin/check\", \"-x\"]";
    let DeValue::Array(items) = value else { return Err(value::wrong_type(value, WANTED)) };
    let words: Result<Vec<String>, ValueFault> =
        items.iter().map(|item| text(item.get_ref(), WANTED).map(str::to_owned)).collect();
    let words = words?;
    let fault = |text: &str, problem| Err(ValueFault::Text { text: text.to_owned(), problem });
    match words.first() {
        None => fault("[]", "has no program in it; write its path"),
        Some(program) if !program.starts_with('/') => {
            fault(program, "is not an absolute path; write it from \"/\" on")
        }
        Some(program) if words.len() > MAX_ARGUMENTS => fault(program, "has more than 100 arguments"),
        Some(_) => match words.iter().find(|word| word.contains('\0') || word.len() > MAX_TEXT) {
            Some(word) => fault(word, "has a zero byte in it, or more than 4096 bytes"),
            None => Ok(words),
        },
    }
}

pub(super) fn file(section: &mut Section<'_>, faults: &mut FaultList) -> PathBuf {
    if !section.has("file") {
        section.missing("file", "file = \"/run/weight\"", faults);
    }
    values::file(section, "file", faults, FileContent::Any).unwrap_or_default()
}
