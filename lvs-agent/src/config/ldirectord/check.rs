//! The check of the servers of a virtual service.

use std::{
    env,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::{
    context::ServiceContext,
    entry::Entry,
    findings::{Findings, Noted},
    kind::Kind,
    perl::{self, Ends},
    server::Real,
    settings::CheckType,
    url::{self, Asked, Url},
};
use crate::{
    config::diagnostics::{DirectiveFault, FileContent, Leniency, Note, Prerequisite},
    model::{
        AddressFamily, Check, CheckKind, CommandCheck, CommandConvention, Database, DnsCheck, DnsExpect,
        DnsType, GreetingCheck, GreetingProtocol, HttpCheck, HttpHeaders, HttpMethod, HttpPage, HttpVersion,
        LdapCheck, Login, OracleCheck, Pattern, Protocol, RadiusCheck, Secret, ServiceKey, SipCheck,
        SqlCheck, StatusCodes, TcpCheck, Tls, TlsStart, TlsVerify, Transport, UdpCheck, is_dns_name,
    },
};

const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
const NEGOTIATE_TIMEOUT: Duration = Duration::from_secs(30);
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How many redirects ldirectord's library follows.
const REDIRECTS: u8 = 7;
/// The longest text that is sent or looked for, as everywhere.
const MAX_TEXT: usize = 4096;
/// The longest name or password, as everywhere.
const MAX_WORD: usize = 200;

/// The check of one server that stands at `address` in the table; `None` if something is wrong, which is noted.
pub(super) fn read(
    context: &ServiceContext<'_>,
    real: Option<&Real>,
    address: SocketAddr,
    findings: &mut Findings,
) -> Option<Check> {
    let draft = context.draft;
    let checktype = draft.checktype.unwrap_or(CheckType::Negotiate);
    let is_udp = matches!(context.key, ServiceKey::Address { protocol: Protocol::Udp, .. });
    let reader = CheckReader { context, real, is_udp };
    let (mut kind, connects_between) = match checktype {
        CheckType::Ping => (CheckKind::Ping, 0),
        CheckType::Connect if is_udp => (CheckKind::Ping, 0),
        CheckType::Connect => (CheckKind::Connect, 0),
        CheckType::On => (CheckKind::On, 0),
        CheckType::Off => (CheckKind::Off, 0),
        CheckType::External => (reader.command(false, findings)?, 0),
        CheckType::ExternalPerl => (reader.command(true, findings)?, 0),
        CheckType::Negotiate => (reader.negotiate(findings)?, 0),
        CheckType::Combined(connects) => {
            let kind = reader.negotiate(findings)?;
            // Only where there is a connection can there be one alone.
            let connects = if kind.transport() == Some(Transport::Tcp) { connects } else { 0 };
            (kind, connects)
        }
    };
    reader.allow_clear_secret(&mut kind, findings);
    let written = real.map(|real| real.port).filter(|port| *port != 0);
    let port = match kind.transport() {
        // A command gets the port that is written.
        None if matches!(kind, CheckKind::Command(_)) => written.filter(|port| *port != address.port()),
        None => None,
        Some(transport) => reader.port(address, transport, findings).ok()?,
    };
    let elsewhere = match (&kind, reader.request_of_url()) {
        (CheckKind::Http(_), Asked::Url(url)) => Some((reader.resolve(&url, findings)?, url.port)),
        _ => None,
    };
    let (connect_to, port) = elsewhere.map_or((None, port), |(ip, port)| (Some(ip), Some(port)));
    let (service, global) = (&draft.shared, &context.globals.shared);
    Some(Check {
        interval: service.checkinterval.or(global.checkinterval).unwrap_or(CHECK_INTERVAL),
        timeout: reader.timeout(checktype, &kind),
        kind,
        port,
        connect_to,
        connects_between,
        ..Check::default()
    })
}

/// One server and its service.
struct CheckReader<'a> {
    context: &'a ServiceContext<'a>,
    real: Option<&'a Real>,
    is_udp: bool,
}

impl CheckReader<'_> {
    /// `checktimeout` and `negotiatetimeout` stand in for one another.
    fn timeout(&self, checktype: CheckType, kind: &CheckKind) -> Duration {
        let (service, global) = (&self.context.draft.shared, &self.context.globals.shared);
        let check = service
            .checktimeout
            .or(service.negotiatetimeout)
            .or(global.checktimeout)
            .or(global.negotiatetimeout);
        let negotiate = service
            .negotiatetimeout
            .or(service.checktimeout)
            .or(global.negotiatetimeout)
            .or(global.checktimeout);
        let (check, negotiate) = (check.unwrap_or(CHECK_TIMEOUT), negotiate.unwrap_or(NEGOTIATE_TIMEOUT));
        match (checktype, kind) {
            (_, CheckKind::Ping) => {
                let count = service.checkcount.or(global.checkcount).map_or(1, std::num::NonZeroU32::get);
                check.saturating_mul(count).min(Duration::from_hours(24))
            }
            // There ldirectord has an alarm after the shorter one.
            (CheckType::Negotiate | CheckType::Combined(_), CheckKind::Ldap(_) | CheckKind::Radius(_)) => {
                check.min(negotiate)
            }
            (CheckType::Negotiate | CheckType::Combined(_), _) => negotiate,
            _ => check,
        }
    }

    /// The port that is checked, where it isn't the one in the table.
    fn port(
        &self,
        address: SocketAddr,
        transport: Transport,
        findings: &mut Findings,
    ) -> Result<Option<u16>, Noted> {
        if let Some(port) = self.context.draft.checkport {
            return Ok(Some(port));
        }
        let written = self.real.map(|real| real.port).filter(|port| *port != 0);
        let Some(port) =
            written.or(self.context.kind.port()).or(Some(address.port()).filter(|port| *port != 0))
        else {
            let server = address.ip().to_string();
            let place = self.real.map_or(&self.context.draft.head.place, |real| &real.entry.place);
            findings.fault(place, DirectiveFault::NoCheckPort { server });
            return Err(Noted);
        };
        let comes = match self.context.key {
            ServiceKey::Address { protocol, .. } => protocol == transport.protocol(),
            // A server of it may have no port.
            ServiceKey::Mark { .. } => false,
        };
        Ok((port != address.port() || !comes).then_some(port))
    }

    /// The request and where it is written.
    fn request(&self) -> Option<(&Entry, &str)> {
        match self
            .real
            .and_then(|real| real.flags.request.as_ref().map(|texts| (&real.entry, texts.0.as_str())))
        {
            Some(text_of_server) => Some(text_of_server),
            None => self.context.draft.request.as_ref().map(|(entry, text)| (entry, text.as_str())),
        }
    }

    /// The request without the slash that ldirectord puts before it and takes away again.
    fn bare_request(&self) -> &str {
        let text = self.request().map_or("", |(_, text)| text);
        text.strip_prefix('/').unwrap_or(text)
    }

    /// What the request of the real server's own line asks for, where ldirectord looks for a URL in it.
    fn request_of_url(&self) -> Asked {
        let scheme = match self.context.kind {
            Kind::Http => "http://",
            Kind::Https => "https://",
            _ => return Asked::Path,
        };
        let own = self.real.and_then(|real| real.flags.request.as_ref());
        own.map_or(Asked::Path, |(request, _)| url::asked(request, scheme))
    }

    /// The address of a URL's host.
    fn resolve(&self, url: &Url, findings: &mut Findings) -> Option<IpAddr> {
        let names = self.context.names;
        let v4 = names.host(&url.host, AddressFamily::V4);
        let found = v4.or_else(|fault| names.host(&url.host, AddressFamily::V6).map_err(|_| fault));
        let entry = self.real.map_or(&self.context.draft.head, |real| &real.entry);
        found.map_err(|fault| findings.name(entry.directive, &entry.place, fault)).ok()
    }

    /// What must be received.
    fn receive(&self) -> Option<(&Entry, &str)> {
        match self
            .real
            .and_then(|real| real.flags.request.as_ref().map(|texts| (&real.entry, texts.1.as_str())))
        {
            Some(text_of_server) => Some(text_of_server),
            None => self.context.draft.receive.as_ref().map(|(entry, text)| (entry, text.as_str())),
        }
        .filter(|(_, text)| !text.is_empty())
    }

    /// The same as an expression.
    fn expression(&self, ends: Ends, findings: &mut Findings) -> Result<Option<Pattern>, Noted> {
        let Some((entry, text)) = self.receive() else { return Ok(None) };
        if text.len() > MAX_TEXT {
            findings.value(entry, "is longer than 4096 bytes; shorten it");
            return Err(Noted);
        }
        match perl::pattern(text, ends) {
            Ok(pattern) => Ok(Some(pattern)),
            Err(error) => {
                findings
                    .value(entry, format!("is not a regular expression that the agent supports: {error}"));
                Err(Noted)
            }
        }
    }

    fn note(&self, note: Note, findings: &mut Findings) {
        let place = match &self.context.draft.request {
            Some((entry, _)) => entry.place.clone(),
            None => self.context.draft.head.place.clone(),
        };
        findings.note(&place, note);
    }

    fn never_up(&self, why: &'static str, findings: &mut Findings) -> CheckKind {
        self.note(Note::NeverUp { why }, findings);
        CheckKind::Off
    }

    /// What ldirectord sends in the clear goes on to be: its format has no word for anything else. MySQL's library,
    /// which it uses, never sends the password itself; PostgreSQL's sends it in whatever way the server asks for.
    fn allow_clear_secret(&self, kind: &mut CheckKind, findings: &mut Findings) {
        let is_mysql = matches!(kind, CheckKind::Sql(SqlCheck { server: Database::Mysql, .. }));
        let Some(secret) = kind.clear_secret().filter(|_| !is_mysql) else { return };
        kind.allow_clear_secret();
        // Without a password of its own there may be one that is none.
        if self.context.draft.passwd.as_deref().is_some_and(|passwd| !passwd.is_empty()) {
            findings.note(&self.context.draft.head.place, Note::SecretUnencrypted { secret });
        }
    }

    fn login(&self) -> Option<Login> {
        let user = self.context.draft.login.clone()?;
        Some(Login { user, password: self.password(), unencrypted: false })
    }

    fn password(&self) -> Secret {
        Secret::new(self.context.draft.passwd.clone().unwrap_or_default())
    }

    /// Whether the words of a login fit into a check; notes if not.
    fn words_fit(&self, findings: &mut Findings) -> bool {
        let draft = self.context.draft;
        let words = [&draft.login, &draft.passwd, &draft.database, &draft.secret];
        let fits = words.into_iter().flatten().all(|word| word.len() <= MAX_WORD && !word.contains('\t'));
        if !fits {
            findings.value(
                &draft.head,
                "has a login, passwd, database or secret of more than 200 bytes; shorten it",
            );
        }
        fits
    }

    /// The check of the service's protocol.
    fn negotiate(&self, findings: &mut Findings) -> Option<CheckKind> {
        if !self.words_fit(findings) {
            return None;
        }
        let (draft, kind) = (self.context.draft, self.context.kind);
        let check = match kind {
            Kind::None => {
                findings.note(&draft.head.place, Note::NeverChecked);
                CheckKind::On
            }
            Kind::Http | Kind::Https | Kind::HttpProxy => return self.http(findings),
            Kind::Smtp | Kind::Submission => greeting(GreetingProtocol::Smtp, false, None),
            Kind::Nntp => greeting(GreetingProtocol::Nntp, false, None),
            Kind::Pop => greeting(GreetingProtocol::Pop3, false, self.login()),
            Kind::Pops => greeting(GreetingProtocol::Pop3, true, self.login()),
            Kind::Imap => greeting(GreetingProtocol::Imap, false, self.login()),
            Kind::Imaps => greeting(GreetingProtocol::Imap, true, self.login()),
            Kind::Ftp => self.ftp(findings),
            Kind::Dns => return self.dns(findings),
            Kind::Ldap | Kind::Ldaps => return self.ldap(kind == Kind::Ldaps, findings),
            Kind::Radius => CheckKind::Radius(RadiusCheck {
                login: Login {
                    user: draft.login.clone().unwrap_or_default(),
                    password: self.password(),
                    unencrypted: false,
                },
                secret: Secret::new(draft.secret.clone().unwrap_or_default()),
                reject_is_alive: false,
            }),
            Kind::Mysql | Kind::Pgsql | Kind::Oracle => self.sql(kind, findings),
            Kind::Sip => CheckKind::Sip(SipCheck {
                user: draft
                    .login
                    .as_deref()
                    .map(|login| login.split('@').next().unwrap_or_default().to_owned())
                    .filter(|user| {
                        !user.is_empty()
                            && !user.contains(|c: char| c.is_whitespace() || "<>()\"".contains(c))
                    })
                    .or_else(|| Some("ldirectord".to_owned())),
                transport: if self.is_udp { Transport::Udp } else { Transport::Tcp },
                tls: None,
            }),
            Kind::Simpletcp => return self.simpletcp(findings),
        };
        Some(check)
    }

    fn ftp(&self, findings: &mut Findings) -> CheckKind {
        if self.receive().is_some() || self.request().is_some() {
            let what = "the login is what counts here; ldirectord fetches the file in request and looks for receive in it";
            self.note(Note::AsksOther { what }, findings);
        }
        let host = env::var("HOSTNAME").unwrap_or_else(|_| "localhost".to_owned());
        let password = Secret::new(format!("ldirectord@{host}"));
        let anonymous = Login { user: "anonymous".to_owned(), password, unencrypted: false };
        let login = self.login().map(|login| match &self.context.draft.passwd {
            Some(_) => login,
            None => Login { password: anonymous.password.clone(), ..login },
        });
        greeting(GreetingProtocol::Ftp, false, login.or(Some(anonymous)))
    }

    fn http(&self, findings: &mut Findings) -> Option<CheckKind> {
        let (draft, kind) = (self.context.draft, self.context.kind);
        let pattern = self.expression(Ends::Text, findings).ok()?;
        if let (Some(_), HttpMethod::Head, Some((entry, _))) = (&pattern, draft.httpmethod, self.receive()) {
            findings.fault(&entry.place, DirectiveFault::HeadWithReceive);
            return None;
        }
        let proxy = kind == Kind::HttpProxy;
        let asked = self.request_of_url();
        if let (Asked::Within(scheme), Some((entry, _))) = (&asked, self.request()) {
            findings.lenient(&entry.place, Leniency::UrlWithin { scheme });
        }
        let path = match &asked {
            Asked::Url(url) => encoded(&url.path),
            Asked::Path | Asked::Within(_) if proxy => encoded(self.bare_request()),
            Asked::Path | Asked::Within(_) => format!("/{}", encoded(self.bare_request())),
        };
        let entry = self.request().map_or(&draft.head, |(entry, _)| entry);
        let is_good = if proxy {
            let url = path.parse::<hyper::Uri>().ok();
            url.is_some_and(|url| {
                url.scheme_str() == Some("http") && url.host().is_some_and(|host| !host.is_empty())
            }) && !path.contains('@')
        } else {
            path.parse::<hyper::http::uri::PathAndQuery>().is_ok()
        };
        if !is_good || path.len() > MAX_TEXT {
            let problem = if proxy {
                "has no request that a proxy can fetch; write request=\"http://www.example.org/\""
            } else {
                "has a request that is not a path; write one like request=\"/health\""
            };
            findings.value(entry, problem);
            return None;
        }
        let page = HttpPage {
            path,
            method: draft.httpmethod,
            host: draft
                .virtualhost
                .as_ref()
                .map(|(_, host)| host.clone())
                .or_else(|| self.host_of_url(&asked)),
            status: StatusCodes::from(200..=299),
            pattern,
            ..HttpPage::default()
        };
        Some(CheckKind::Http(HttpCheck {
            pages: vec![page],
            version: HttpVersion::Http11,
            tls: (kind == Kind::Https).then(|| Tls { name: name_of_url(&asked), ..direct() }),
            proxy,
            redirects: REDIRECTS,
            headers: HttpHeaders::default(),
        }))
    }

    /// The Host header of a request for a URL: the real server's address all the same.
    fn host_of_url(&self, asked: &Asked) -> Option<String> {
        let (Asked::Url(_), Some(real)) = (asked, self.real) else { return None };
        Some(if real.ip.is_ipv6() { format!("[{}]", real.ip) } else { real.ip.to_string() })
    }

    fn dns(&self, findings: &mut Findings) -> Option<CheckKind> {
        let name = self.bare_request().to_owned();
        let record = if name.parse::<IpAddr>().is_ok() { DnsType::Ptr } else { DnsType::A };
        if self.receive().is_none() {
            let why = "a dns check needs receive, the address or name that must be answered";
            return Some(self.never_up(why, findings));
        }
        let expect = self.expression(Ends::Text, findings).ok()?.map(DnsExpect::Matches);
        if !is_dns_name(&name, record) {
            let place = self.request().map_or(&self.context.draft.head, |(entry, _)| entry);
            findings.value(place, "has no name that can be queried; write request=\"www.example.org\"");
            return None;
        }
        let transport = if self.is_udp || !matches!(self.context.key, ServiceKey::Address { .. }) {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        Some(CheckKind::Dns(DnsCheck { name, record, transport, expect }))
    }

    fn ldap(&self, encrypted: bool, findings: &mut Findings) -> Option<CheckKind> {
        let base = Some(self.bare_request().to_owned()).filter(|base| !base.is_empty());
        let expect = self.expression(Ends::Text, findings).ok()?;
        if let (Some(expect), Some((entry, _))) = (&expect, self.receive())
            && !expect.is_in(base.as_deref().unwrap_or_default().as_bytes())
        {
            findings.value(entry, "is not found in the name of the entry that request asks for, which is where ldirectord looks");
            return None;
        }
        let login = self.login().filter(|login| !login.password.reveal().is_empty());
        Some(CheckKind::Ldap(LdapCheck { login, base, expect: None, tls: encrypted.then(direct) }))
    }

    fn sql(&self, kind: Kind, findings: &mut Findings) -> CheckKind {
        let query = self.bare_request();
        let (Some(login), false) = (self.login(), query.trim().is_empty()) else {
            return self.never_up("a check of a database needs login and request (a query)", findings);
        };
        let database = self.context.draft.database.clone();
        if kind == Kind::Oracle {
            let what =
                "the listener is asked for the service in database; ldirectord logs in and makes a query";
            self.note(Note::AsksOther { what }, findings);
            return CheckKind::Oracle(OracleCheck { service: database });
        }
        let server = if kind == Kind::Mysql { Database::Mysql } else { Database::Postgresql };
        let query = Some(query.to_owned());
        CheckKind::Sql(SqlCheck { server, login, database, query, tls: None })
    }

    fn simpletcp(&self, findings: &mut Findings) -> Option<CheckKind> {
        let send = self.bare_request().replace("\\n", "\n").into_bytes();
        let expect = match self.expression(Ends::Lines, findings).ok()? {
            Some(pattern) => pattern,
            // Any line will do, but there must be one.
            None => perl::pattern(r"[\s\S]", Ends::Text).ok()?,
        };
        Some(if self.is_udp {
            CheckKind::Udp(UdpCheck { send, expect: Some(expect), reply: true })
        } else {
            CheckKind::Tcp(TcpCheck { send, expect: Some(expect), tls: None })
        })
    }

    fn command(&self, perl: bool, findings: &mut Findings) -> Option<CheckKind> {
        let Some((entry, text)) = &self.context.draft.checkcommand else {
            return Some(CheckKind::Command(command(vec!["/bin/true".to_owned()])));
        };
        if text.contains(char::is_whitespace) {
            let (directive, text) = ("checkcommand", text.clone());
            findings.note(&entry.place, Note::CommandWithBlanks { directive, text });
        }
        let program = if perl { "perl" } else { text.as_str() };
        let Some(path) = on_path(program) else {
            findings.value(entry, "is not found in PATH; write the whole path of the program");
            return None;
        };
        let mut argv = vec![path.display().to_string()];
        if perl {
            argv.push(text.clone());
        }
        let (key, content) = ("checkcommand", FileContent::Any);
        findings.need(
            entry,
            if perl {
                Prerequisite::File { key, path: text.into(), content }
            } else {
                Prerequisite::Program { key, path }
            },
        );
        Some(CheckKind::Command(command(argv)))
    }
}

fn greeting(protocol: GreetingProtocol, encrypted: bool, login: Option<Login>) -> CheckKind {
    CheckKind::Greeting(GreetingCheck { protocol, tls: encrypted.then(direct), login, helo: None })
}

fn command(argv: Vec<String>) -> CommandCheck {
    CommandCheck { argv, convention: CommandConvention::Ldirectord, service: None }
}

/// Where a program is, as a shell would find it.
fn on_path(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(program.into());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// The name that is sent in the handshake for a URL.
fn name_of_url(asked: &Asked) -> Option<String> {
    let Asked::Url(url) = asked else { return None };
    let is_address = url.host.starts_with('[') || url.host.parse::<IpAddr>().is_ok();
    (!is_address).then(|| url.host.clone())
}

fn direct() -> Tls {
    Tls { start: TlsStart::Direct, name: None, verify: TlsVerify::No, identity: None }
}

/// A path with what can't stand in a request line percent-encoded.
fn encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(encoded, "%{byte:02X}").unwrap_or_default();
        }
    }
    encoded
}
