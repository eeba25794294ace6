//! Checks, each as one table.

use std::fmt::Write as _;

use super::{
    super::check::{MANNER, PATHS},
    table::{Table, path, text, texts, time, word},
};
use crate::model::{
    BodyDigest, Check, CheckKind, Combine, CommandCheck, CommandConvention, Database, DnsCheck, DnsExpect,
    DnsType, FurtherChecks, GreetingCheck, GreetingProtocol, HttpAuthorization, HttpCheck, HttpHeaders,
    HttpMethod, HttpPage, HttpVersion, LdapCheck, Login, OracleCheck, Pattern, RadiusCheck, Secret, SipCheck,
    SqlCheck, TcpCheck, Tls, TlsIdentity, TlsStart, TlsVerify, Transport, UdpCheck,
};

/// The checks of a service or a server; `first` is the table of the first one.
pub(super) fn tables(first: Table, further: &FurtherChecks) -> Vec<Table> {
    std::iter::once(first).chain(further.checks.iter().map(check)).collect()
}

/// The keys of all checks of a service or a server, below checks with the tables `above`.
pub(super) fn checks(
    mut checks: Vec<Table>,
    above: &[Table],
    further: &FurtherChecks,
    usual: Combine,
    table: &mut Table,
) {
    for check in &mut checks {
        take_nothing_over(check, above, |_| true);
    }
    let mut tables: Vec<_> = checks.iter().map(Table::inline).collect();
    let value = match tables.len() {
        1 => tables.remove(0),
        _ => format!("[{}]", tables.join(", ")),
    };
    table.add("check", value);
    table.unless("combine", &further.combine, &usual, |combine| {
        text(if *combine == Combine::Any { "any" } else { "all" })
    });
}

/// The check of a backup, below checks of its service with the tables `above`.
pub(super) fn of_backup(check: &Check, above: &[Table]) -> String {
    let mut table = self::check(check);
    take_nothing_over(&mut table, above, |key| MANNER.contains(&key));
    table.inline()
}

/// Keeps a check from taking over what it doesn't say, if there is any such key above that could be.
fn take_nothing_over(check: &mut Table, above: &[Table], is_taken_over: impl Fn(&str) -> bool) {
    if above.iter().flat_map(Table::keys).any(|key| is_taken_over(key) && !check.has(key)) {
        check.add("inherit", "false");
    }
}

/// A check whole.
pub(super) fn check(check: &Check) -> Table {
    let mut table = Table::default();
    kind(&check.kind, &mut table);
    common(check, &mut table);
    table
}

/// A check but for what it asks, which is left to each service.
pub(super) fn interval_only(check: &Check) -> Table {
    let mut table = Table::default();
    common(check, &mut table);
    table
}

/// The keys that all checks have.
fn common(check: &Check, table: &mut Table) {
    table.add("interval", time(&check.interval));
    table.add("timeout", time(&check.timeout));
    table.maybe("soft-interval", check.soft_interval.as_ref().map(time));
    table.unless("connects-between", &check.connects_between, &0, ToString::to_string);
    table.maybe("port", check.port.map(|port| port.to_string()));
    table.maybe("connect-to", check.connect_to.map(|address| text(address.to_string())));
    let via = &check.via;
    table.maybe("via", via.path.map(|path| word(&path, &PATHS)));
    table.maybe("source", via.source.map(|source| text(source.to_string())));
    table.maybe("device", via.device.map(|device| text(String::from_utf8_lossy(device.as_bytes()))));
    table.maybe("mark", via.mark.map(|mark| mark.to_string()));
    table.maybe("connect-timeout", via.connect_timeout.as_ref().map(time));
    table.maybe("read-timeout", via.read_timeout.as_ref().map(time));
}

/// The type of a check and the keys that belong to it.
fn kind(kind: &CheckKind, table: &mut Table) {
    match kind {
        CheckKind::Ping => type_of("ping", table),
        CheckKind::Connect => type_of("connect", table),
        CheckKind::On => type_of("on", table),
        CheckKind::Off => type_of("off", table),
        CheckKind::Http(http) => self::http(http, table),
        CheckKind::Tcp(tcp) => self::tcp(tcp, table),
        CheckKind::Udp(udp) => self::udp(udp, table),
        CheckKind::Greeting(greeting) => self::greeting(greeting, table),
        CheckKind::Dns(dns) => self::dns(dns, table),
        CheckKind::Radius(radius) => self::radius(radius, table),
        CheckKind::Sip(sip) => self::sip(sip, table),
        CheckKind::Ldap(ldap) => self::ldap(ldap, table),
        CheckKind::Sql(sql) => self::sql(sql, table),
        CheckKind::Oracle(oracle) => self::oracle(oracle, table),
        CheckKind::Agent(agent) => {
            type_of("agent", table);
            send(&agent.send, table);
        }
        CheckKind::Command(command) => self::command(command, table),
        CheckKind::File(file) => {
            type_of("file", table);
            table.add("file", path(file));
        }
    }
}

fn type_of(name: &str, table: &mut Table) {
    table.add("type", text(name));
}

fn tcp(tcp: &TcpCheck, table: &mut Table) {
    type_of("tcp", table);
    send(&tcp.send, table);
    table.maybe("expect", tcp.expect.as_ref().map(pattern));
    tls(tcp.tls.as_ref(), None, table);
}

fn udp(udp: &UdpCheck, table: &mut Table) {
    type_of("udp", table);
    send(&udp.send, table);
    table.maybe("expect", udp.expect.as_ref().map(pattern));
    table.add("reply", udp.reply.to_string());
}

fn greeting(greeting: &GreetingCheck, table: &mut Table) {
    let name = match greeting.protocol {
        GreetingProtocol::Smtp => "smtp",
        GreetingProtocol::Pop3 => "pop3",
        GreetingProtocol::Imap => "imap",
        GreetingProtocol::Nntp => "nntp",
        GreetingProtocol::Ftp => "ftp",
    };
    type_of(name, table);
    login(greeting.login.as_ref(), table);
    table.maybe("helo", greeting.helo.as_ref().map(text));
    tls(greeting.tls.as_ref(), None, table);
}

fn dns(dns: &DnsCheck, table: &mut Table) {
    let record = match dns.record {
        DnsType::A => "A",
        DnsType::Aaaa => "AAAA",
        DnsType::Ptr => "PTR",
        DnsType::Ns => "NS",
        DnsType::Cname => "CNAME",
        DnsType::Soa => "SOA",
        DnsType::Mx => "MX",
        DnsType::Txt => "TXT",
    };
    type_of("dns", table);
    table.add("name", text(&dns.name));
    table.add("record", text(record));
    table.add("transport", transport(dns.transport));
    match &dns.expect {
        None => {}
        Some(DnsExpect::Is(record)) => table.add("expect", text(record)),
        Some(DnsExpect::Matches(expression)) => table.add("pattern", pattern(expression)),
    }
}

fn radius(radius: &RadiusCheck, table: &mut Table) {
    type_of("radius", table);
    login(Some(&radius.login), table);
    table.add("secret", secret(&radius.secret));
    table.add("reject-is-alive", radius.reject_is_alive.to_string());
}

fn sip(sip: &SipCheck, table: &mut Table) {
    type_of("sip", table);
    table.maybe("user", sip.user.as_ref().map(text));
    table.add("transport", transport(sip.transport));
    tls(sip.tls.as_ref(), None, table);
}

fn ldap(ldap: &LdapCheck, table: &mut Table) {
    type_of("ldap", table);
    login(ldap.login.as_ref(), table);
    table.maybe("base", ldap.base.as_ref().map(text));
    table.maybe("expect", ldap.expect.as_ref().map(pattern));
    tls(ldap.tls.as_ref(), None, table);
}

fn sql(sql: &SqlCheck, table: &mut Table) {
    type_of(if sql.server == Database::Mysql { "mysql" } else { "postgresql" }, table);
    login(Some(&sql.login), table);
    table.maybe("database", sql.database.as_ref().map(text));
    table.maybe("query", sql.query.as_ref().map(text));
    tls(sql.tls.as_ref(), None, table);
}

fn oracle(oracle: &OracleCheck, table: &mut Table) {
    type_of("oracle", table);
    table.maybe("database", oracle.service.as_ref().map(text));
}

fn command(command: &CommandCheck, table: &mut Table) {
    let convention = match command.convention {
        CommandConvention::Ldirectord => "ldirectord",
        CommandConvention::Keepalived => "keepalived",
        CommandConvention::KeepalivedDynamic => "keepalived-dynamic",
    };
    type_of("command", table);
    table.add("command", texts(&command.argv));
    table.add("convention", text(convention));
}

/// A regular expression as it was written.
fn pattern(pattern: &Pattern) -> String {
    text(pattern.source())
}

fn http(http: &HttpCheck, table: &mut Table) {
    let (name, usual_tls) = match (&http.tls, http.proxy) {
        (_, true) => ("http-proxy", None),
        (Some(_), false) => ("https", Some(TlsStart::Direct)),
        (None, false) => ("http", None),
    };
    type_of(name, table);
    match &http.pages[..] {
        [only] => page(only, table),
        pages => {
            let pages: Vec<_> = pages
                .iter()
                .map(|one| {
                    let mut table = Table::default();
                    page(one, &mut table);
                    table.inline()
                })
                .collect();
            table.add("pages", format!("[{}]", pages.join(", ")));
        }
    }
    table.unless("version", &http.version, &HttpVersion::Http11, |_| text("1.0"));
    table.unless("redirects", &http.redirects, &0, ToString::to_string);
    headers(&http.headers, table);
    tls(http.tls.as_ref(), usual_tls, table);
}

fn headers(headers: &HttpHeaders, table: &mut Table) {
    if !headers.own.is_empty() {
        let own: Vec<_> = headers
            .own
            .iter()
            .map(|header| format!("{} = {}", text(&header.name), text(header.value.reveal())))
            .collect();
        table.add("headers", format!("{{ {} }}", own.join(", ")));
    }
    table.maybe("user-agent", headers.user_agent.as_ref().map(text));
    unencrypted(headers.unencrypted, table);
    match &headers.authorization {
        Some(HttpAuthorization::Basic(file)) => table.add("basic-auth-file", path(file)),
        Some(HttpAuthorization::Bearer(file)) => table.add("bearer-token-file", path(file)),
        None => {}
    }
}

fn page(page: &HttpPage, table: &mut Table) {
    let default = HttpPage::default();
    table.add("path", text(&page.path));
    table.unless("method", &page.method, &HttpMethod::Get, |_| text("HEAD"));
    table.maybe("host", page.host.as_ref().map(text));
    table.unless("status", &page.status, &default.status, |status| text(status.to_string()));
    table.maybe("text", page.text.as_ref().map(text));
    table.maybe("pattern", page.pattern.as_ref().map(pattern));
    table.maybe("unwanted", page.unwanted.as_ref().map(pattern));
    table.maybe(
        "digest",
        page.digest.map(|digest| {
            text(match digest {
                BodyDigest::Md5(bytes) => format!("md5:{}", hexadecimal(&bytes)),
                BodyDigest::Sha256(bytes) => format!("sha256:{}", hexadecimal(&bytes)),
            })
        }),
    );
}

fn send(bytes: &[u8], table: &mut Table) {
    match str::from_utf8(bytes) {
        Ok("") => {}
        Ok(sent) => table.add("send", text(sent)),
        Err(_) => table.add("send-hex", text(hexadecimal(bytes))),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string does not fail.
        write!(digits, "{byte:02x}").unwrap_or_default();
        digits
    })
}

fn transport(transport: Transport) -> String {
    text(if transport == Transport::Tcp { "tcp" } else { "udp" })
}

fn secret(secret: &Secret) -> String {
    secret.file().map_or_else(|| text(secret.reveal()), |file| format!("{{ file = {} }}", path(file)))
}

fn login(login: Option<&Login>, table: &mut Table) {
    if let Some(login) = login {
        // A user without a name is one that only has a password.
        table.maybe("user", Some(&login.user).filter(|user| !user.is_empty()).map(text));
        table.add("password", secret(&login.password));
        unencrypted(login.unencrypted, table);
    }
}

/// Whether secrets may be sent without encryption.
fn unencrypted(allowed: bool, table: &mut Table) {
    table.unless("password-unencrypted", &allowed, &false, ToString::to_string);
}

/// The encryption, where the type of the check doesn't imply it.
fn tls(tls: Option<&Tls>, usual: Option<TlsStart>, table: &mut Table) {
    let Some(tls) = tls else { return };
    if usual != Some(tls.start) {
        table.add("tls", text(if tls.start == TlsStart::Direct { "direct" } else { "starttls" }));
    }
    table.maybe("tls-name", tls.name.as_ref().map(text));
    match &tls.verify {
        TlsVerify::No => {}
        TlsVerify::System => table.add("tls-verify", "true"),
        TlsVerify::File(file) => table.add("tls-ca", path(file)),
    }
    if let Some(TlsIdentity { certificate, key }) = &tls.identity {
        table.add("tls-cert", path(certificate));
        table.unless("tls-key", key, certificate, |key| path(key));
    }
}
