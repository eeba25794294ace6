//! Notifications, and where the log goes.

use std::path::PathBuf;

use toml::de::DeValue;

use super::{check, section::Section, value};
use crate::{
    config::{
        common::is_mail_address,
        diagnostics::{Contradiction, FaultList, ValueFault},
    },
    model::{
        CommandLine, Facility, LogTarget, MailAbout, MailRelay, MailSettings, Notifications, OnExit,
        RelayLogin, RelayTls, RelayTlsStart, Scheduler, SchedulerFlags, TlsVerify,
    },
};

/// What becomes of services at a clean stop, by its name.
pub(super) const ON_EXIT: [(&str, OnExit); 2] = [("keep", OnExit::Keep), ("remove", OnExit::Remove)];

/// How the connection to a relay is encrypted, by its name.
pub(super) const RELAY_TLS: [(&str, Option<RelayTlsStart>); 4] = [
    ("off", None),
    ("opportunistic", Some(RelayTlsStart::Opportunistic)),
    ("required", Some(RelayTlsStart::Required)),
    ("direct", Some(RelayTlsStart::Direct)),
];

/// The words of `about`.
const ABOUT: [&str; 4] = ["starting", "running", "stopping", "reloading"];

type Result<T> = std::result::Result<T, ValueFault>;

/// The keys of a service.
pub(super) fn service(section: &mut Section<'_>, faults: &mut FaultList) -> Notifications {
    let mail = section.table("mail", "mail", faults);
    Notifications {
        mail: mail.and_then(|section| read_mail(section, faults)),
        monitor_file: section.plain("monitor-file", faults, value::file).flatten(),
        fallback_command: section.plain("fallback-command", faults, command_line),
        comment: section.plain("comment", faults, line),
    }
}

fn read_mail(mut section: Section<'_>, faults: &mut FaultList) -> Option<MailSettings> {
    if !section.has("to") {
        section.missing("to", "to = [\"admin@example.org\"]", faults);
    }
    let to = section.plain("to", faults, addresses);
    let repeat = section.plain("repeat", faults, |value| match value.as_str() {
        Some("off") => Ok(None),
        _ => value::duration(value).map(Some),
    });
    let from = section.plain("from", faults, line);
    let relay = read_relay(&mut section, faults);
    let about = section.plain("about", faults, about).unwrap_or(MailAbout::ALL);
    section.finish(faults);
    Some(MailSettings { to: to?, from, relay, repeat: repeat.flatten(), about })
}

fn read_relay(section: &mut Section<'_>, faults: &mut FaultList) -> Option<MailRelay> {
    if !section.has("smtp") {
        let keys =
            ["tls", "tls-name", "tls-verify", "tls-ca", "user", "password-file", "password-unencrypted"];
        for key in keys {
            if let Some(place) = section.drop_key(key) {
                faults.add(place, Contradiction::NoRelay { key });
            }
        }
    }
    let address = section.plain("smtp", faults, line);
    let tls = read_tls(section, faults);
    let login = read_login(section, tls.as_ref(), faults);
    Some(MailRelay { address: address?, tls, login })
}

fn read_tls(section: &mut Section<'_>, faults: &mut FaultList) -> Option<RelayTls> {
    // A word that isn't known is a fault, which the other keys are not blamed for.
    let unsaid = if section.has("tls") { Some(RelayTlsStart::Required) } else { None };
    let start = section.plain("tls", faults, |value| value::word(value, &RELAY_TLS)).unwrap_or(unsaid);
    let Some(start) = start else {
        for key in ["tls-name", "tls-verify", "tls-ca"] {
            if let Some(place) = section.drop_key(key) {
                faults.add(place, Contradiction::NoRelayTls { key });
            }
        }
        return None;
    };
    let name = section.plain("tls-name", faults, check::tls_name);
    let verify = section.read("tls-verify", faults, value::flag);
    let ca = section.plain("tls-ca", faults, check::file_path);
    let verify = match (verify, ca) {
        (Some(verify), Some(_)) if !*verify.get_ref() => {
            faults.add(verify.span(), Contradiction::CaWithoutVerify);
            TlsVerify::No
        }
        (Some(verify), None) if !*verify.get_ref() => TlsVerify::No,
        (_, Some(file)) => TlsVerify::File(file),
        (_, None) => TlsVerify::System,
    };
    Some(RelayTls { start, name, verify })
}

fn read_login(
    section: &mut Section<'_>,
    tls: Option<&RelayTls>,
    faults: &mut FaultList,
) -> Option<RelayLogin> {
    let allowed = section.read("password-unencrypted", faults, value::flag);
    if !section.has("user") && !section.has("password-file") {
        if let Some(allowed) = &allowed {
            faults.add(allowed.span(), Contradiction::NoPassword);
        }
    } else if !section.has("user") {
        section.missing("user", "user = \"…\" for the password", faults);
    } else if !section.has("password-file") {
        section.missing("password-file", "password-file = \"/etc/lvs-agent/mail-password\"", faults);
    }
    let user = section.read("user", faults, check::word);
    let password_file = section.plain("password-file", faults, check::file_path);
    let allow_unencrypted = allowed.is_some_and(toml::Spanned::into_inner);
    let user = user?;
    if tls.is_none() && !allow_unencrypted {
        faults.add(user.span(), Contradiction::PasswordUnencrypted);
    }
    Some(RelayLogin { user: user.into_inner(), password_file: password_file?, allow_unencrypted })
}

/// Text in one line.
fn line(value: &DeValue<'_>) -> Result<String> {
    let text = value::text(value, "text in quotes")?;
    if text.is_empty() || text.chars().any(char::is_control) || text.len() > 4096 {
        let problem = "is empty, too long, or has control characters; write one line of text";
        return Err(ValueFault::Text { text: text.to_owned(), problem });
    }
    Ok(text.to_owned())
}

/// Several texts.
fn texts(value: &DeValue<'_>, wanted: &'static str) -> Result<Vec<String>> {
    let DeValue::Array(items) = value else { return Err(value::wrong_type(value, wanted)) };
    items.iter().map(|item| value::text(item.get_ref(), wanted).map(str::to_owned)).collect()
}

fn addresses(value: &DeValue<'_>) -> Result<Vec<String>> {
    let addresses = texts(value, "mail addresses in brackets, such as [\"admin@example.org\"]")?;
    let problem = "is not a mail address; write one such as \"admin@example.org\"";
    match addresses.iter().find(|one| !is_mail_address(one)) {
        Some(wrong) => Err(ValueFault::Text { text: wrong.clone(), problem }),
        None if addresses.is_empty() => Err(ValueFault::Text { text: "[]".to_owned(), problem }),
        None => Ok(addresses),
    }
}

fn about(value: &DeValue<'_>) -> Result<MailAbout> {
    let mut about = MailAbout::NONE;
    for word in texts(value, "words in brackets, such as [\"running\"]")? {
        match word.as_str() {
            "starting" => about.starting = true,
            "running" => about.running = true,
            "stopping" => about.stopping = true,
            "reloading" => about.reloading = true,
            _ => return Err(ValueFault::Word { word, known: ABOUT.to_vec() }),
        }
    }
    Ok(about)
}

/// The words that `about` has for what mails are sent about.
pub(super) fn about_words(about: MailAbout) -> Vec<String> {
    let MailAbout { starting, running, stopping, reloading } = about;
    let said = [starting, running, stopping, reloading];
    ABOUT.iter().zip(said).filter(|(_, said)| *said).map(|(word, _)| (*word).to_owned()).collect()
}

/// A program and its arguments.
pub(super) fn command_line(value: &DeValue<'_>) -> Result<CommandLine> {
    let wanted = "the program and its arguments in brackets, such as [\"/usr/local/bin/notify\", \"-x\"]";
    let words = texts(value, wanted)?;
    let problem = "is not a program; write its path, and arguments without zero bytes";
    let fault = || ValueFault::Text { text: words.concat().replace('\0', "…"), problem };
    match words.split_first() {
        Some((program, arguments))
            if !program.is_empty() && !words.iter().any(|word| word.contains('\0')) =>
        {
            Ok(CommandLine { program: program.into(), arguments: arguments.to_vec() })
        }
        _ => Err(fault()),
    }
}

/// Other configuration files.
pub(super) fn files(value: &DeValue<'_>) -> Result<Vec<PathBuf>> {
    let files = texts(value, "paths in brackets, such as [\"/etc/lvs-agent-2.toml\"]")?;
    if files.iter().any(|file| file.is_empty() || file.contains('\0')) {
        let problem = "is not a file's path; remove it";
        return Err(ValueFault::Text { text: "\"\"".to_owned(), problem });
    }
    Ok(files.into_iter().map(PathBuf::from).collect())
}

/// Where the log goes: standard error, a file, the systemd journal, or a facility of syslog.
pub(super) fn log(value: &DeValue<'_>) -> Result<LogTarget> {
    let text =
        value::text(value, "\"standard\", \"journal\", a path, or a facility such as \"syslog:local0\"")?;
    let problem = "is neither \"standard\" or \"journal\", nor a path from the root, nor a facility such as \"syslog:local0\"";
    let fault = || ValueFault::Text { text: text.to_owned(), problem };
    match text.strip_prefix("syslog:") {
        Some(name) => Facility::named(name).map(LogTarget::Syslog).ok_or_else(fault),
        None if text == "standard" => Ok(LogTarget::Standard),
        None if text == "journal" => Ok(LogTarget::Journal),
        None if text.starts_with('/') && !text.contains('\0') => Ok(LogTarget::File(text.into())),
        None => Err(fault()),
    }
}

/// The names of the schedulers' flags, as ipvsadm has them: each with the scheduler that it is for, if it is only for
/// one, and its number (`parse_sched_flags` in ipvsadm.c).
pub(super) const SCHEDULER_FLAGS: [(&str, Option<&str>, u8); 7] = [
    ("sh-fallback", Some("sh"), 1),
    ("sh-port", Some("sh"), 2),
    ("mh-fallback", Some("mh"), 1),
    ("mh-port", Some("mh"), 2),
    ("flag-1", None, 1),
    ("flag-2", None, 2),
    ("flag-3", None, 3),
];

/// The flags of a service with this scheduler.
pub(super) fn scheduler_flags(value: &DeValue<'_>, scheduler: &Scheduler) -> Result<SchedulerFlags> {
    let mut flags = SchedulerFlags::default();
    for word in texts(value, "flags in brackets, such as [\"sh-fallback\"]")? {
        let Some((_, only_for, number)) = SCHEDULER_FLAGS.iter().find(|(name, ..)| *name == word) else {
            let known = SCHEDULER_FLAGS.iter().map(|(name, ..)| *name).collect();
            return Err(ValueFault::Word { word, known });
        };
        if only_for.is_some_and(|name| name != scheduler.name()) {
            let problem =
                "is a flag of another scheduler than the service's; remove it, or change \"scheduler\"";
            return Err(ValueFault::Text { text: word, problem });
        }
        match number {
            1 => flags.flag_1 = true,
            2 => flags.flag_2 = true,
            _ => flags.flag_3 = true,
        }
    }
    Ok(flags)
}
