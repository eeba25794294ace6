//! What a summary of a configuration says beside services, servers and the names of checks. Passwords are never part of
//! it.

use humantime::format_duration;

use crate::model::{
    AgentSettings, BodyDigest, CommandLine, DnsCheck, DnsExpect, HttpCheck, HttpMethod, HttpPage, LogTarget,
    Login, MailAbout, MailSettings, Netmask, Notifications, OnExit, Pattern, PoolPolicy, RealServer,
    SchedulerFlags, Tls, TlsStart, TlsVerify, VirtualService,
};

/// Lines about the agent as a whole, where it isn't as usual.
pub(super) fn agent(agent: &AgentSettings) -> Vec<String> {
    let mut lines = Vec::new();
    match &agent.log {
        LogTarget::Standard => {}
        LogTarget::File(path) => lines.push(format!("log {}", path.display())),
        LogTarget::Journal => lines.push("log to the systemd journal".to_owned()),
        LogTarget::Syslog(facility) => lines.push(format!("log to syslog, {facility}")),
    }
    let at_exit = if agent.on_exit == OnExit::Remove { "removed" } else { "kept" };
    lines.push(format!("at a clean stop services are {at_exit}"));
    if agent.autoreload {
        lines.push("the file is read again when it has changed".to_owned());
    }
    lines.extend(agent.callback.as_ref().map(|callback| format!("callback {}", command(callback))));
    lines.extend(agent.maintenance.as_ref().map(|path| format!("maintenance directory {}", path.display())));
    lines.extend(agent.execute.iter().map(|path| format!("another agent for {}", path.display())));
    lines
}

/// What a service has beside its name, scheduler and states.
pub(super) fn service(service: &VirtualService) -> String {
    let mut parts = Vec::new();
    match service.persistence.as_ref().map(crate::model::Persistence::netmask) {
        Some(Netmask::V4(mask)) if !mask.is_broadcast() => parts.push(format!(" netmask {mask}")),
        Some(Netmask::V6(length)) if length < 128 => parts.push(format!(" netmask /{length}")),
        _ => {}
    }
    if let Some(engine) = &service.persistence_engine {
        parts.push(format!(" by {engine}"));
    }
    if let Some(SchedulerFlags { flag_1, flag_2, flag_3 }) = service.scheduler_flags {
        let flags = [(flag_1, "flag-1"), (flag_2, "flag-2"), (flag_3, "flag-3")];
        let set: Vec<_> = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
        if !set.is_empty() {
            parts.push(format!("  {}", set.join(",")));
        }
    }
    if service.one_packet == Some(true) {
        parts.push("  one packet".to_owned());
    }
    if service.second_chance.is_on() {
        parts.push("  second chance".to_owned());
    }
    match service.on_exit {
        Some(OnExit::Remove) => parts.push("  removed at a clean stop".to_owned()),
        Some(OnExit::Keep) => parts.push("  kept at a clean stop".to_owned()),
        None => {}
    }
    parts.concat()
}

/// The thresholds of a server.
pub(super) fn thresholds(server: &RealServer) -> String {
    let upper = server.upper_threshold.filter(|upper| *upper > 0);
    let lower = server.lower_threshold.filter(|lower| *lower > 0);
    match (upper, lower) {
        (Some(upper), Some(lower)) => format!("  at most {upper} connections, again below {lower}"),
        (Some(upper), None) => format!("  at most {upper} connections"),
        (None, _) => String::new(),
    }
}

/// Lines about what is run, written and mailed for a service.
pub(super) fn notifications(notify: &Notifications, policy: &PoolPolicy) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(notify.mail.as_ref().map(|mail| format!("mail    {}", self::mail(mail))));
    let with = |when: &str, line: &Option<CommandLine>| {
        line.as_ref().map(|line| format!("command {}, {when}", command(line)))
    };
    lines.extend(with("when no server is up, and when one is again", &notify.fallback_command));
    lines.extend(with("when the quorum is back", &policy.quorum.up));
    lines.extend(with("when the quorum is lost", &policy.quorum.down));
    lines.extend(notify.monitor_file.as_ref().map(|path| format!("monitor {}", path.display())));
    lines.extend(notify.comment.as_ref().map(|comment| format!("comment {comment}")));
    lines
}

fn mail(mail: &MailSettings) -> String {
    let mut parts = vec![mail.to.join(", ")];
    if let Some(from) = &mail.from {
        parts.push(format!("  from {from}"));
    }
    if let Some(relay) = &mail.relay {
        parts.push(format!("  by {}", relay.address));
    }
    if let Some(pause) = mail.repeat {
        parts.push(format!("  again every {}", format_duration(pause)));
    }
    let MailAbout { starting, running, stopping, reloading } = mail.about;
    let about =
        [(starting, "starting"), (running, "running"), (stopping, "stopping"), (reloading, "reloading")];
    let named: Vec<_> = about.into_iter().filter(|(named, _)| *named).map(|(_, name)| name).collect();
    match named.len() {
        0 => parts.push("  about nothing".to_owned()),
        4 => {}
        _ => parts.push(format!("  about {}", named.join(", "))),
    }
    parts.concat()
}

fn command(line: &CommandLine) -> String {
    let words = std::iter::once(line.program.display().to_string()).chain(line.arguments.iter().cloned());
    let quoted = |word: String| {
        let is_plain = !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || "\"'$".contains(c));
        if is_plain { word } else { format!("{word:?}") }
    };
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// What an HTTP check asks for and expects.
pub(super) fn http(http: &HttpCheck) -> String {
    let scheme = match (&http.tls, http.proxy) {
        (_, true) => "http-proxy",
        (Some(_), false) => "https",
        (None, false) => "http",
    };
    let pages: Vec<_> = http.pages.iter().map(page).collect();
    let redirects = match http.redirects {
        0 => String::new(),
        most => format!(", up to {most} redirects"),
    };
    format!("{scheme} {}{redirects}{}", pages.join("; "), tls(http.tls.as_ref()))
}

fn page(page: &HttpPage) -> String {
    let mut parts =
        vec![if page.method == HttpMethod::Head { format!("HEAD {}", page.path) } else { page.path.clone() }];
    if let Some(host) = &page.host {
        parts.push(format!(", host {host}"));
    }
    parts.push(format!(", status {}", page.status));
    if let Some(wanted) = &page.text {
        parts.push(format!(", body contains {wanted:?}"));
    }
    parts.push(matches("body matches", page.pattern.as_ref()));
    parts.push(matches("body does not match", page.unwanted.as_ref()));
    match page.digest {
        Some(BodyDigest::Md5(_)) => parts.push(", body has an MD5 digest".to_owned()),
        Some(BodyDigest::Sha256(_)) => parts.push(", body has a SHA-256 digest".to_owned()),
        None => {}
    }
    parts.concat()
}

/// An expression after some words, without the flags that the reader of ldirectord's format puts before it.
pub(super) fn matches(words: &str, pattern: Option<&Pattern>) -> String {
    let Some(source) = pattern.map(Pattern::source) else { return String::new() };
    let bare = ["(?-u)", "(?m-u)"].iter().find_map(|flags| source.strip_prefix(flags)).unwrap_or(source);
    format!(", {words} \"{bare}\"")
}

/// What a DNS check asks for and expects.
pub(super) fn dns(dns: &DnsCheck) -> String {
    let expect = match &dns.expect {
        None => String::new(),
        Some(DnsExpect::Is(record)) => format!(", record is {record}"),
        Some(DnsExpect::Matches(pattern)) => matches("record matches", Some(pattern)),
    };
    format!("{} {:?} by {}{expect}", dns.name, dns.record, dns.transport)
}

/// Who logs in, without the password.
pub(super) fn login(login: Option<&Login>) -> String {
    login
        .filter(|login| !login.user.is_empty())
        .map_or(String::new(), |login| format!(", user {}", login.user))
}

/// Bytes that are sent first.
pub(super) fn sent(bytes: &[u8]) -> String {
    if bytes.is_empty() { String::new() } else { format!(", sends \"{}\"", bytes.escape_ascii()) }
}

/// How a connection is encrypted and what its certificate must be like.
pub(super) fn tls(tls: Option<&Tls>) -> String {
    let Some(tls) = tls else { return String::new() };
    let start = if tls.start == TlsStart::StartTls { "STARTTLS" } else { "TLS" };
    let name = tls.name.as_ref().map_or(String::new(), |name| format!(" for {name}"));
    let verify = match &tls.verify {
        TlsVerify::No => " with any certificate".to_owned(),
        TlsVerify::System => " verified by the system's authorities".to_owned(),
        TlsVerify::File(path) => format!(" verified by {}", path.display()),
    };
    format!(", {start}{name}{verify}")
}
