//! `lvs-agent check-config`: validates a configuration file and summarises it.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::ValueEnum;
use humantime::format_duration;

use super::{
    details::{self, login, matches, sent, tls},
    exit_code,
};
use crate::{
    config::{Reading, Strictness, native, read_file},
    model::{Check, CheckKind, Mode, OnFailure, RealServer, VirtualService},
};

/// A format that a configuration can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Target {
    /// The agent's own format.
    Toml,
}

/// Whether passwords and the like are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    /// Something stands in their place.
    Hidden,
    /// Somebody has asked for them.
    Shown,
}

/// Reads `file`, prints a summary (or the file in another format) on standard output and the warnings on standard
/// error.
pub(super) fn run(
    file: &Path,
    strictness: Strictness,
    to: Option<Target>,
    secrets: Secrets,
) -> anyhow::Result<ExitCode> {
    let mut reading = read_file(file, strictness)?;
    let hidden = if secrets == Secrets::Hidden { reading.config.hide_secrets() } else { 0 };
    if to.is_some() && hidden > 0 {
        let plural = if hidden == 1 { " is" } else { "s are" };
        writeln!(
            io::stderr(),
            "{hidden} secret{plural} left out: \"(hidden)\" stands for each; --with-secrets writes them. A secret can \
             stand in a file of its own: password = {{ file = \"/…\" }}"
        )
        .context("writing to standard error")?;
    }
    let output = match to {
        Some(Target::Toml) => native::to_toml(&reading.config),
        None => summary(&reading),
    };
    io::stdout().write_all(output.as_bytes()).context("writing to standard output")?;
    let mut warnings = String::new();
    for warning in reading.warnings_of(file) {
        writeln!(warnings, "{warning}")?;
    }
    io::stderr().write_all(warnings.as_bytes()).context("writing to standard error")?;
    Ok(if warnings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit_code::WARNINGS) })
}

/// The services and their checks, one a line, for people.
fn summary(reading: &Reading) -> String {
    let services = &reading.config.services;
    let servers: usize = services.iter().map(|service| service.servers.len()).sum();
    let (format, count) = (reading.format, services.len());
    let mut text = format!("{format}: {count} services, {servers} real servers\n");
    text += match reading.config.agent.mode {
        Mode::Manage => "",
        Mode::Adopt => "mode adopt: services and servers come from the kernel's table\n",
        Mode::Observe => "mode observe: nothing is written to the kernel's table\n",
    };
    for line in details::agent(&reading.config.agent) {
        text += &line;
        text += "\n";
    }
    for service in services {
        text += "\n";
        text += &self::service(service);
    }
    text
}

fn service(service: &VirtualService) -> String {
    let is_named = service.name != service.key.to_string();
    let name = if is_named { format!("{}  ", service.name) } else { String::new() };
    let persistent = service.persistence.map_or(String::new(), |persistence| {
        format!("  persistent {}", format_duration(persistence.timeout()))
    });
    let on_failure = match service.on_failure() {
        OnFailure::Quiesce => "quiesce".to_owned(),
        OnFailure::Remove => "remove".to_owned(),
        OnFailure::Lower(weight) => format!("weight {weight}"),
    };
    let fallback = if service.adds_fallback() { " (with its fallback flag)" } else { "" };
    let mut lines = vec![format!(
        "{name}{}  {}{fallback}{persistent}{}  fall {}  rise {}  on failure {on_failure}",
        service.key,
        service.scheduler,
        details::service(service),
        service.fall,
        service.rise
    )];
    let checks = std::iter::once(&service.check).chain(&service.further.checks);
    lines.extend(checks.map(|check| format!("  check   {}", self::check(check))));
    for server in &service.servers {
        lines.push(format!("  server  {}", self::server(server)));
        let checks_of_server = server.check.iter().chain(&server.further.checks);
        lines.extend(checks_of_server.map(|check| format!("          check {}", self::check(check))));
    }
    for backup in &service.policy.backups {
        lines.push(format!("  backup  {}", server(&backup.server)));
        lines.extend(backup.check.iter().map(|check| format!("          check {}", self::check(check))));
    }
    let notifications = details::notifications(&service.notify, &service.policy);
    lines.extend(notifications.into_iter().map(|line| format!("  {line}")));
    lines.join("\n") + "\n"
}

fn server(server: &RealServer) -> String {
    format!("{}  {}  weight {}{}", server.address, server.method, server.weight, details::thresholds(server))
}

fn check(check: &Check) -> String {
    let port = match (check.connect_to, check.port) {
        (Some(ip), Some(port)) => format!(" at {}", SocketAddr::new(ip, port)),
        (Some(ip), None) => format!(" at {ip}"),
        (None, Some(port)) => format!(" at port {port}"),
        (None, None) => String::new(),
    };
    let (interval, timeout) = (format_duration(check.interval), format_duration(check.timeout));
    format!("{}{port}, every {interval}, timeout {timeout}", kind(&check.kind))
}

fn kind(kind: &CheckKind) -> String {
    match kind {
        CheckKind::Ping => "ping".to_owned(),
        CheckKind::Connect => "connect".to_owned(),
        CheckKind::On => "none: always up".to_owned(),
        CheckKind::Off => "none: never up".to_owned(),
        CheckKind::Http(http) => details::http(http),
        CheckKind::Tcp(tcp) => {
            format!(
                "tcp{}{}{}",
                sent(&tcp.send),
                matches("receives", tcp.expect.as_ref()),
                tls(tcp.tls.as_ref())
            )
        }
        CheckKind::Udp(udp) => format!("udp{}{}", sent(&udp.send), matches("receives", udp.expect.as_ref())),
        CheckKind::Greeting(greeting) => {
            let protocol = format!("{:?}", greeting.protocol).to_lowercase();
            format!("{protocol}{}{}", login(greeting.login.as_ref()), tls(greeting.tls.as_ref()))
        }
        CheckKind::Dns(dns) => format!("dns {}", details::dns(dns)),
        CheckKind::Radius(radius) => format!("radius{}", login(Some(&radius.login))),
        CheckKind::Sip(sip) => {
            let user = sip.user.as_ref().map_or(String::new(), |user| format!(", user {user}"));
            format!("sip by {}{user}{}", sip.transport, tls(sip.tls.as_ref()))
        }
        CheckKind::Ldap(ldap) => {
            let base = ldap.base.as_ref().map_or(String::new(), |base| format!(" {base}"));
            let expect = matches("entry matches", ldap.expect.as_ref());
            format!("ldap{base}{expect}{}{}", login(ldap.login.as_ref()), tls(ldap.tls.as_ref()))
        }
        CheckKind::Sql(sql) => {
            let database = sql.database.as_ref().map_or(String::new(), |name| format!(" {name}"));
            let query = sql.query.as_ref().map_or(String::new(), |query| format!(", query {query:?}"));
            let server = format!("{:?}", sql.server).to_lowercase();
            format!("{server}{database}{query}{}{}", login(Some(&sql.login)), tls(sql.tls.as_ref()))
        }
        CheckKind::Agent(_) => "agent".to_owned(),
        CheckKind::Oracle(oracle) => {
            format!("oracle{}", oracle.service.as_ref().map_or(String::new(), |name| format!(" {name}")))
        }
        CheckKind::Command(command) => format!("command {}", command.argv.join(" ")),
        CheckKind::File(file) => format!("file {}", file.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_bytes;

    #[test]
    fn a_summary_says_all_that_is_checked_and_who_is_told() {
        let text = "\
logfile=\"local3\"
callback=\"/bin/cb\"
cleanstop=no
virtual=192.0.2.80:443
    real=10.0.0.1:443 masq 2 l:5 u:10
    service=https
    request=\"health\"
    receive=\"all is (well|fine)\"
    virtualhost=www.example.org
    httpmethod=GET
    persistent=600
    netmask=255.255.255.0
    scheduler=sh
    schedflags=sh-port
    fallback=127.0.0.1:443
    fallbackcommand=\"/bin/fb -x\"
    emailalert=ops@example.org
    emailalertfreq=60
    emailalertstatus=running,stopping
    smtp=mail.example.org
    monitorfile=/var/m
    comment=call somebody
virtual=192.0.2.80:3306
    real=10.0.0.1:3306 masq
    login=\"joe\"
    passwd=\"s3cret\"
    database=\"d\"
    request=\"SELECT 1\"
virtual=192.0.2.80:53
    real=10.0.0.1:53 masq
    request=\"www.example.org\"
    receive=\"^192.0.2\"
";
        let reading = read_bytes(text.as_bytes(), "l.cf".as_ref(), Strictness::Lenient).unwrap();
        let summary = summary(&reading);
        for words in [
            "log to syslog, local3\n",
            "callback /bin/cb\n",
            "services are kept\n",
            "persistent 10m netmask 255.255.255.0  flag-2",
            "https /health, host www.example.org, status 200-299, body matches \"all is (well|fine)\"",
            "TLS with any certificate",
            "weight 2  at most 10 connections, again below 5",
            "backup  127.0.0.1:443",
            "command /bin/fb -x, when no server is up",
            "mail    ops@example.org  by mail.example.org  again every 1m  about running, stopping",
            "monitor /var/m",
            "comment call somebody",
            "mysql d, query \"SELECT 1\", user joe",
            "dns www.example.org A by UDP, record matches \"^192.0.2\"",
        ] {
            assert!(summary.contains(words), "{words}\n{summary}");
        }
        assert!(!summary.contains("s3cret"), "{summary}");
    }
}
