//! A configuration written down in the native format: read again it means the same.
//!
//! Everything that holds without being written is left away; checks are written whole.

use std::{fmt::Write as _, path::Path, time::Duration};

use humantime::format_duration;

use super::{
    notify::{RELAY_TLS, about_words},
    settings::{FOREIGN, MODE},
};
use crate::model::{
    AddressFamily, AgentSettings, BodyDigest, BurstSettings, Check, CheckKind, Combine, CommandConvention,
    CommandLine, Config, ConnectionSettings, Database, DetectorSettings, DnsType, ForwardingMethod,
    FurtherChecks, GreetingProtocol, HttpCheck, HttpMethod, HttpPage, HttpVersion, LogTarget, Login,
    MailAbout, MailRelay, Netmask, Notifications, OnExit, OnFailure, PassiveSettings, PoolPolicy, RealServer,
    ServiceKey, StartPolicy, Tls, TlsStart, TlsVerify, Transport, Tunnel, TunnelFlags, Unlisted,
    VirtualService, Weight,
};

/// Keys and values of one table.
#[derive(Default)]
struct Table(Vec<(&'static str, String)>);

impl Table {
    fn add(&mut self, key: &'static str, value: impl Into<String>) {
        self.0.push((key, value.into()));
    }

    fn maybe(&mut self, key: &'static str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    /// Adds a value unless it is the one that holds anyway.
    fn unless<T: PartialEq>(
        &mut self,
        key: &'static str,
        value: &T,
        default: &T,
        show: impl Fn(&T) -> String,
    ) {
        if value != default {
            self.add(key, show(value));
        }
    }

    fn inline(&self) -> String {
        let pairs: Vec<_> = self.0.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        format!("{{ {} }}", pairs.join(", "))
    }

    /// Under its header; nothing if it is empty and need not be there.
    fn under(&self, header: &str, always: bool) -> String {
        if self.0.is_empty() && !always {
            return String::new();
        }
        let lines =
            self.0.iter().fold(String::new(), |lines, (key, value)| lines + key + " = " + value + "\n");
        format!("{header}\n{lines}\n")
    }
}

/// Text as TOML's basic string.
fn text(text: impl AsRef<str>) -> String {
    let mut quoted = String::from('"');
    for c in text.as_ref().chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            // Writing to a string does not fail.
            c if c.is_control() => write!(quoted, "\\u{:04X}", u32::from(c)).unwrap_or_default(),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn path(path: &Path) -> String {
    text(path.to_string_lossy())
}

fn time(duration: &Duration) -> String {
    text(format_duration(*duration).to_string())
}

fn texts<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(text).collect();
    format!("[{}]", items.join(", "))
}

fn command_line(command: &CommandLine) -> String {
    let program = command.program.to_string_lossy().into_owned();
    texts(std::iter::once(program).chain(command.arguments.iter().cloned()))
}

/// Whole numbers of TOML's floats have a point.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "it is called like all that show a value")]
fn float(number: &f64) -> String {
    format!("{number:?}")
}

/// The word for a value.
fn word<T: PartialEq>(value: &T, known: &[(&str, T)]) -> String {
    text(known.iter().find(|(_, one)| one == value).map_or("", |(word, _)| word))
}

fn on_exit(on_exit: OnExit) -> String {
    text(if on_exit == OnExit::Remove { "remove" } else { "keep" })
}

/// Writes a configuration down.
#[must_use]
pub fn to_toml(config: &Config) -> String {
    let Config { agent, passive, services, unlisted } = config;
    let mut written = self::agent(agent) + &self::passive(passive) + &defaults(unlisted);
    for service in services {
        written += &self::service(service, unlisted);
    }
    written.trim_end().to_owned() + "\n"
}

fn agent(settings: &AgentSettings) -> String {
    let default = AgentSettings::default();
    let mut table = Table::default();
    let off = || text("off");
    table.unless("metrics", &settings.metrics, &default.metrics, |metrics| {
        metrics.map_or_else(off, |address| text(address.to_string()))
    });
    table.unless("on-exit", &settings.on_exit, &default.on_exit, |exit| on_exit(*exit));
    table.unless("control", &settings.control, &default.control, |control| {
        control.as_deref().map_or_else(off, path)
    });
    table.unless("mode", &settings.mode, &default.mode, |mode| word(mode, &MODE));
    table.unless("state", &settings.state, &default.state, |state| state.as_deref().map_or_else(off, path));
    table.unless("foreign", &settings.foreign, &default.foreign, |foreign| word(foreign, &FOREIGN));
    table.unless("autoreload", &settings.autoreload, &default.autoreload, ToString::to_string);
    table.maybe("maintenance", settings.maintenance.as_deref().map(path));
    table.maybe("callback", settings.callback.as_ref().map(command_line));
    if !settings.execute.is_empty() {
        table.add("execute", texts(settings.execute.iter().map(|path| path.to_string_lossy())));
    }
    table.unless("log", &settings.log, &default.log, |log| match log {
        LogTarget::Standard => text("standard"),
        LogTarget::File(file) => path(file),
        LogTarget::Syslog(facility) => text(format!("syslog:{facility}")),
    });
    table.under("[agent]", false) + &connections(settings.connections)
}

fn connections(settings: ConnectionSettings) -> String {
    let default = ConnectionSettings::default();
    let mut table = Table::default();
    let keep = || text("keep");
    let switch = |flag: &Option<bool>| flag.map_or_else(keep, |flag| flag.to_string());
    table.unless("expire-nodest", &settings.expire_nodest, &default.expire_nodest, switch);
    table.unless("expire-quiescent", &settings.expire_quiescent, &default.expire_quiescent, switch);
    table.unless("reuse-mode", &settings.reuse_mode, &default.reuse_mode, |mode| {
        mode.map_or_else(keep, |mode| mode.to_string())
    });
    table.under("[agent.connections]", false)
}

fn passive(settings: &PassiveSettings) -> String {
    let default = PassiveSettings::default();
    let mut table = Table::default();
    table.unless("enabled", &settings.enabled, &default.enabled, ToString::to_string);
    table.unless("devices", &settings.devices, &default.devices, |devices| texts(devices));
    table.unless("log-faults", &settings.log_faults, &default.log_faults, ToString::to_string);
    table.maybe("record", settings.record.as_deref().map(path));
    table.unless("tick", &settings.tick, &default.tick, time);
    table.under("[passive]", false) + &detector(&settings.detector) + &burst(&settings.burst)
}

fn detector(settings: &DetectorSettings) -> String {
    let default = DetectorSettings::default();
    let mut table = Table::default();
    let mut times = |key, value: &Duration, default: &Duration| table.unless(key, value, default, time);
    times("silence-masquerade", &settings.silence_masquerade, &default.silence_masquerade);
    times("silence-half-seen", &settings.silence_half_seen, &default.silence_half_seen);
    times("silence-application", &settings.silence_application, &default.silence_application);
    times("memory", &settings.memory, &default.memory);
    times("resent-within", &settings.resent_within, &default.resent_within);
    // Of the two pauses one without the other may not fit the other's usual value.
    table.add("backoff", time(&settings.backoff));
    table.add("backoff-max", time(&settings.backoff_max));
    let mut numbers =
        |key, value: &u32, default: &u32| table.unless(key, value, default, ToString::to_string);
    numbers("clients", &settings.clients, &default.clients);
    numbers("refusals", &settings.refusals, &default.refusals);
    numbers("resent-clients", &settings.resent_clients, &default.resent_clients);
    let mut floats = |key, value: &f64, default: &f64| table.unless(key, value, default, float);
    floats("false-alarms", &settings.false_alarms, &default.false_alarms);
    floats("phi", &settings.phi, &default.phi);
    floats("loss", &settings.loss, &default.loss);
    floats("resent-share", &settings.resent_share, &default.resent_share);
    if *settings == default { String::new() } else { table.under("[passive.detector]", false) }
}

fn burst(settings: &BurstSettings) -> String {
    let default = BurstSettings::default();
    let mut table = Table::default();
    table.unless("gap", &settings.gap, &default.gap, time);
    table.unless("timeout", &settings.timeout, &default.timeout, time);
    table.unless("server-rate", &settings.server_rate, &default.server_rate, ToString::to_string);
    table.unless("total-rate", &settings.total_rate, &default.total_rate, ToString::to_string);
    table.under("[passive.burst]", false)
}

/// What services say that aren't written, and all others take over where they don't say something else.
fn defaults(unlisted: &Unlisted) -> String {
    let Unlisted { fall, rise, on_failure, check: first, asks, further, policy } = unlisted;
    let default = Unlisted::default();
    let mut table = Table::default();
    table.unless("fall", fall, &default.fall, ToString::to_string);
    table.unless("rise", rise, &default.rise, ToString::to_string);
    table.unless("on-failure", on_failure, &default.on_failure, |action| self::on_failure(*action));
    if (first, asks, further) != (&default.check, &default.asks, &default.further) {
        let first = check(first, *asks);
        checks(first, further, Combine::All, &mut table);
    }
    self::policy(policy, &default.policy, &mut table);
    table.under("[defaults]", false)
}

fn on_failure(action: OnFailure) -> String {
    text(if action == OnFailure::Quiesce { "quiesce" } else { "remove" })
}

fn service(service: &VirtualService, usual: &Unlisted) -> String {
    let mut table = Table::default();
    if service.name != service.key.to_string() {
        table.add("name", text(&service.name));
    }
    key(&service.key, &mut table);
    table.add("scheduler", text(service.scheduler.name()));
    table.maybe(
        "scheduler-flags",
        service.scheduler_flags.map(|flags| {
            let flags = [("flag-1", flags.flag_1), ("flag-2", flags.flag_2), ("flag-3", flags.flag_3)];
            texts(flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| name))
        }),
    );
    table.maybe("persistent", service.persistence.map(|persistence| time(&persistence.timeout())));
    if let Some(persistence) = service.persistence
        && persistence.netmask() != Netmask::whole_address(service.key.family())
    {
        table.add(
            "persistent-netmask",
            match persistence.netmask() {
                Netmask::V4(mask) => text(mask.to_string()),
                Netmask::V6(length) => length.to_string(),
            },
        );
    }
    table.maybe("one-packet", service.one_packet.map(|on| on.to_string()));
    table.add("fall", service.fall.to_string());
    table.add("rise", service.rise.to_string());
    table.add("on-failure", on_failure(service.on_failure));
    checks(check(&service.check, true), &service.further, usual.further.combine, &mut table);
    policy(&service.policy, &usual.policy, &mut table);
    notifications(&service.notify, &mut table);
    table.maybe("on-exit", service.on_exit.map(on_exit));
    let servers = service.servers.iter().map(|server| self::server(server).under("[[service.server]]", true));
    let backups = service.policy.backups.iter().map(|backup| {
        let mut table = server(&backup.server);
        match &backup.check {
            Some(one) => table.add("check", check(one, true)),
            None => table.add("checked", "false"),
        }
        table.under("[[service.backup]]", true)
    });
    table.under("[[service]]", true) + &servers.chain(backups).collect::<String>()
}

fn key(key: &ServiceKey, table: &mut Table) {
    match key {
        ServiceKey::Address { protocol, address } => {
            let shown = if address.port() == 0 { address.ip().to_string() } else { address.to_string() };
            table.add("address", text(shown));
            table.add("protocol", text(protocol.to_string()));
        }
        ServiceKey::Mark { mark, family } => {
            table.add("mark", mark.to_string());
            table.add("family", text(if *family == AddressFamily::V6 { "ipv6" } else { "ipv4" }));
        }
    }
}

/// Where there is nothing, it is as `usual`.
fn policy(policy: &PoolPolicy, usual: &PoolPolicy, table: &mut Table) {
    table.unless("quorum", &policy.quorum, &usual.quorum, |quorum| {
        let mut table = Table::default();
        table.add("weight", quorum.weight.to_string());
        table.add("hysteresis", quorum.hysteresis.to_string());
        table.maybe("up", quorum.up.as_ref().map(command_line));
        table.maybe("down", quorum.down.as_ref().map(command_line));
        table.inline()
    });
    table.unless("slow-start", &policy.slow_start, &usual.slow_start, |time| {
        time.as_ref().map_or_else(|| text("off"), self::time)
    });
    table.unless("start", &policy.start, &usual.start, |start| {
        text(if *start == StartPolicy::In { "in" } else { "out" })
    });
    table.unless("fast-share", &policy.fast_share, &usual.fast_share, float);
    table.unless("flap", &policy.flap, &usual.flap, |flap| {
        let mut table = Table::default();
        table.add("penalty", if flap.penalty.is_zero() { text("off") } else { time(&flap.penalty) });
        table.add("penalty-max", time(&flap.penalty_max));
        table.add("memory", time(&flap.memory));
        table.inline()
    });
}

fn notifications(notify: &Notifications, table: &mut Table) {
    table.maybe(
        "mail",
        notify.mail.as_ref().map(|mail| {
            let mut table = Table::default();
            table.add("to", texts(&mail.to));
            table.maybe("from", mail.from.as_ref().map(text));
            if let Some(relay) = &mail.relay {
                self::relay(relay, &mut table);
            }
            table.maybe("repeat", mail.repeat.as_ref().map(time));
            table.unless("about", &mail.about, &MailAbout::ALL, |about| texts(about_words(*about)));
            table.inline()
        }),
    );
    table.maybe("monitor-file", notify.monitor_file.as_deref().map(path));
    table.maybe("fallback-command", notify.fallback_command.as_ref().map(command_line));
    table.maybe("comment", notify.comment.as_ref().map(text));
}

fn relay(relay: &MailRelay, table: &mut Table) {
    table.add("smtp", text(&relay.address));
    if let Some(tls) = &relay.tls {
        table.add("tls", word(&Some(tls.start), &RELAY_TLS));
        table.maybe("tls-name", tls.name.as_ref().map(text));
        match &tls.verify {
            TlsVerify::No => table.add("tls-verify", "false"),
            TlsVerify::System => {}
            TlsVerify::File(file) => table.add("tls-ca", path(file)),
        }
    }
    if let Some(login) = &relay.login {
        table.add("user", text(&login.user));
        table.add("password-file", path(&login.password_file));
        table.unless("password-unencrypted", &login.allow_unencrypted, &false, ToString::to_string);
    }
}

fn server(server: &RealServer) -> Table {
    let mut table = Table::default();
    let address = server.address;
    table.add(
        "address",
        text(if address.port() == 0 { address.ip().to_string() } else { address.to_string() }),
    );
    table.add("forward", text(server.method.to_string()));
    if server.method == ForwardingMethod::Tunnel && server.tunnel != Tunnel::Ipip {
        table.add("tunnel", tunnel(server.tunnel));
    }
    table.unless("weight", &server.weight, &Weight(1), ToString::to_string);
    table.maybe("upper-threshold", server.upper_threshold.map(|number| number.to_string()));
    table.maybe("lower-threshold", server.lower_threshold.map(|number| number.to_string()));
    if let Some(own) = &server.check {
        checks(check(own, true), &server.further, Combine::All, &mut table);
    }
    table
}

fn tunnel(tunnel: Tunnel) -> String {
    let checksum = |flags| {
        text(match flags {
            TunnelFlags::CHECKSUM => "full",
            TunnelFlags::REMOTE_CHECKSUM => "remote",
            _ => "none",
        })
    };
    let mut table = Table::default();
    match tunnel {
        Tunnel::Gue { port, flags } => {
            table.add("type", text("gue"));
            table.add("port", port.to_string());
            table.add("checksum", checksum(flags));
        }
        Tunnel::Gre { flags } => {
            table.add("type", text("gre"));
            table.add("checksum", checksum(flags));
        }
        // No reader makes another one.
        Tunnel::Ipip | Tunnel::Other { .. } => table.add("type", text("ipip")),
    }
    table.inline()
}

/// The first check is written down already.
fn checks(first: String, further: &FurtherChecks, usual: Combine, table: &mut Table) {
    if further.checks.is_empty() {
        table.add("check", first);
    } else {
        let further = further.checks.iter().map(|one| check(one, true));
        let all: Vec<_> = std::iter::once(first).chain(further).collect();
        table.add("check", format!("[{}]", all.join(", ")));
    }
    table.unless("combine", &further.combine, &usual, |combine| {
        text(if *combine == Combine::Any { "any" } else { "all" })
    });
}

fn check(check: &Check, asks: bool) -> String {
    let mut table = Table::default();
    if asks {
        question(&check.kind, &mut table);
    }
    table.add("interval", time(&check.interval));
    table.add("timeout", time(&check.timeout));
    table.maybe("soft-interval", check.soft_interval.as_ref().map(time));
    table.unless("connects-between", &check.connects_between, &0, ToString::to_string);
    table.maybe("port", check.port.map(|port| port.to_string()));
    let via = &check.via;
    table.maybe("source", via.source.map(|source| text(source.to_string())));
    table.maybe("device", via.device.map(|device| text(String::from_utf8_lossy(device.as_bytes()))));
    table.maybe("mark", via.mark.map(|mark| mark.to_string()));
    table.maybe("connect-timeout", via.connect_timeout.as_ref().map(time));
    table.maybe("read-timeout", via.read_timeout.as_ref().map(time));
    table.inline()
}

fn kind(kind: &str, table: &mut Table) {
    table.add("type", text(kind));
}

fn question(question: &CheckKind, table: &mut Table) {
    match question {
        CheckKind::Ping => kind("ping", table),
        CheckKind::Connect => kind("connect", table),
        CheckKind::On => kind("on", table),
        CheckKind::Off => kind("off", table),
        CheckKind::Http(http) => self::http(http, table),
        CheckKind::Tcp(tcp) => {
            kind("tcp", table);
            send(&tcp.send, table);
            table.maybe("expect", tcp.expect.as_ref().map(|pattern| text(pattern.source())));
            tls(tcp.tls.as_ref(), None, table);
        }
        CheckKind::Udp(udp) => {
            kind("udp", table);
            send(&udp.send, table);
            table.maybe("expect", udp.expect.as_ref().map(|pattern| text(pattern.source())));
            table.add("reply", udp.reply.to_string());
        }
        CheckKind::Greeting(greeting) => {
            kind(
                match greeting.protocol {
                    GreetingProtocol::Smtp => "smtp",
                    GreetingProtocol::Pop3 => "pop3",
                    GreetingProtocol::Imap => "imap",
                    GreetingProtocol::Nntp => "nntp",
                    GreetingProtocol::Ftp => "ftp",
                },
                table,
            );
            login(greeting.login.as_ref(), table);
            table.maybe("helo", greeting.helo.as_ref().map(text));
            tls(greeting.tls.as_ref(), None, table);
        }
        CheckKind::Dns(dns) => {
            kind("dns", table);
            table.add("name", text(&dns.name));
            table.add(
                "record",
                text(match dns.record {
                    DnsType::A => "A",
                    DnsType::Aaaa => "AAAA",
                    DnsType::Ptr => "PTR",
                    DnsType::Ns => "NS",
                    DnsType::Cname => "CNAME",
                    DnsType::Soa => "SOA",
                    DnsType::Mx => "MX",
                    DnsType::Txt => "TXT",
                }),
            );
            table.add("transport", transport(dns.transport));
            table.maybe("expect", dns.expect.as_ref().map(text));
        }
        CheckKind::Radius(radius) => {
            kind("radius", table);
            login(Some(&radius.login), table);
            table.add("secret", text(radius.secret.reveal()));
            table.add("reject-is-alive", radius.reject_is_alive.to_string());
        }
        CheckKind::Sip(sip) => {
            kind("sip", table);
            table.maybe("user", sip.user.as_ref().map(text));
            table.add("transport", transport(sip.transport));
            tls(sip.tls.as_ref(), None, table);
        }
        CheckKind::Ldap(ldap) => {
            kind("ldap", table);
            login(ldap.login.as_ref(), table);
            table.maybe("base", ldap.base.as_ref().map(text));
            table.maybe("expect", ldap.expect.as_ref().map(|pattern| text(pattern.source())));
            tls(ldap.tls.as_ref(), None, table);
        }
        CheckKind::Sql(sql) => {
            kind(if sql.server == Database::Mysql { "mysql" } else { "postgresql" }, table);
            login(Some(&sql.login), table);
            table.maybe("database", sql.database.as_ref().map(text));
            table.maybe("query", sql.query.as_ref().map(text));
            tls(sql.tls.as_ref(), None, table);
        }
        CheckKind::Oracle(oracle) => {
            kind("oracle", table);
            table.maybe("database", oracle.service.as_ref().map(text));
        }
        CheckKind::Command(command) => {
            kind("command", table);
            table.add("command", texts(&command.argv));
            table.add(
                "convention",
                text(match command.convention {
                    CommandConvention::Ldirectord => "ldirectord",
                    CommandConvention::Keepalived => "keepalived",
                    CommandConvention::KeepalivedDynamic => "keepalived-dynamic",
                }),
            );
        }
        CheckKind::File(file) => {
            kind("file", table);
            table.add("file", path(file));
        }
    }
}

fn http(http: &HttpCheck, table: &mut Table) {
    let usual = match (&http.tls, http.proxy) {
        (_, true) => ("http-proxy", None),
        (Some(_), false) => ("https", Some(TlsStart::Direct)),
        (None, false) => ("http", None),
    };
    kind(usual.0, table);
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
    tls(http.tls.as_ref(), usual.1, table);
}

fn page(page: &HttpPage, table: &mut Table) {
    let default = HttpPage::default();
    table.add("path", text(&page.path));
    table.unless("method", &page.method, &HttpMethod::Get, |_| text("HEAD"));
    table.maybe("host", page.host.as_ref().map(text));
    table.unless("status", &page.status, &default.status, |status| text(status.to_string()));
    table.maybe("text", page.text.as_ref().map(text));
    table.maybe("pattern", page.pattern.as_ref().map(|pattern| text(pattern.source())));
    table.maybe("unwanted", page.unwanted.as_ref().map(|pattern| text(pattern.source())));
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

fn login(login: Option<&Login>, table: &mut Table) {
    if let Some(login) = login {
        // A user without a name is one that only has a password.
        table.maybe("user", Some(&login.user).filter(|user| !user.is_empty()).map(text));
        table.add("password", text(login.password.reveal()));
    }
}

/// The encryption, where it isn't what the type of the check stands for.
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
}
