//! `lvs-agent check-config`: validates a configuration file and summarises it.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::ValueEnum;
use humantime::format_duration;

use super::exit_code;
use crate::{
    config::{Reading, Strictness, native, read_file},
    model::{Check, CheckKind, Mode, RealServer, VirtualService},
};

/// A format that a configuration can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Target {
    /// The agent's own format.
    Toml,
}

/// Reads `file`, prints a summary (or the file in another format) on standard output and the warnings on standard
/// error.
pub(super) fn run(file: &Path, strictness: Strictness, to: Option<Target>) -> anyhow::Result<ExitCode> {
    let reading = read_file(file, strictness)?;
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
    let on_failure = format!("{:?}", service.on_failure()).to_lowercase();
    let fallback = if service.adds_fallback() { " (with its fallback flag)" } else { "" };
    let mut lines = vec![format!(
        "{name}{}  {}{fallback}{persistent}  fall {}  rise {}  on failure {on_failure}",
        service.key, service.scheduler, service.fall, service.rise
    )];
    let checks = std::iter::once(&service.check).chain(&service.further.checks);
    lines.extend(checks.map(|check| format!("  check   {}", self::check(check))));
    for server in &service.servers {
        lines.push(format!("  server  {}", self::server(server)));
        let checks_of_server = server.check.iter().chain(&server.further.checks);
        lines.extend(checks_of_server.map(|check| format!("          check {}", self::check(check))));
    }
    lines.extend(service.policy.backups.iter().map(|backup| format!("  backup  {}", server(&backup.server))));
    lines.join("\n") + "\n"
}

fn server(server: &RealServer) -> String {
    format!("{}  {}  weight {}", server.address, server.method, server.weight)
}

fn check(check: &Check) -> String {
    let port = check.port.map_or(String::new(), |port| format!(" at port {port}"));
    let (interval, timeout) = (format_duration(check.interval), format_duration(check.timeout));
    format!("{}{port}, every {interval}, timeout {timeout}", kind(&check.kind))
}

fn kind(kind: &CheckKind) -> String {
    match kind {
        CheckKind::Ping => "ping".to_owned(),
        CheckKind::Connect => "connect".to_owned(),
        CheckKind::On => "none: always up".to_owned(),
        CheckKind::Off => "none: never up".to_owned(),
        CheckKind::Http(http) => {
            let scheme = if http.tls.is_some() { "https" } else { "http" };
            let pages: Vec<&str> = http.pages.iter().map(|page| page.path.as_str()).collect();
            format!("{scheme} {}", pages.join(" "))
        }
        CheckKind::Tcp(_) => "tcp".to_owned(),
        CheckKind::Udp(_) => "udp".to_owned(),
        CheckKind::Greeting(greeting) => format!("{:?}", greeting.protocol).to_lowercase(),
        CheckKind::Dns(dns) => format!("dns {}", dns.name),
        CheckKind::Radius(_) => "radius".to_owned(),
        CheckKind::Sip(_) => "sip".to_owned(),
        CheckKind::Ldap(_) => "ldap".to_owned(),
        CheckKind::Sql(sql) => format!("{:?}", sql.server).to_lowercase(),
        CheckKind::Oracle(_) => "oracle".to_owned(),
        CheckKind::Command(command) => format!("command {}", command.argv.join(" ")),
        CheckKind::File(file) => format!("file {}", file.display()),
    }
}
