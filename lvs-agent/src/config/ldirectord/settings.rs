//! What the directives say, before one is held against another.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use super::{
    command::{self, Command},
    directive::Directive,
    entry::{Entry, Home, is_blank},
    findings::Findings,
    kind::Kind,
    quotes::{self, Around},
    value,
};
use crate::{
    config::diagnostics::{DirectiveFault, Leniency, Note},
    model::{CommandLine, Facility, HttpMethod, LogTarget, MailAbout, Protocol, Scheduler, SchedulerFlags},
};

/// What can be said for all virtual services, and again in each.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    pub(super) checktimeout: Option<Duration>,
    pub(super) negotiatetimeout: Option<Duration>,
    pub(super) checkinterval: Option<Duration>,
    pub(super) checkcount: Option<NonZeroU32>,
    pub(super) failurecount: Option<NonZeroU32>,
    pub(super) quiescent: Option<bool>,
    pub(super) cleanstop: Option<bool>,
    pub(super) fallbackcommand: Option<Command>,
    pub(super) emailalert: Option<Vec<String>>,
    /// Zero: no mail is sent again.
    pub(super) emailalertfreq: Option<Duration>,
    pub(super) emailalertstatus: Option<MailAbout>,
    pub(super) smtp: Option<String>,
}

/// What is said for everything.
#[derive(Debug, Default)]
pub(super) struct Globals {
    pub(super) shared: Shared,
    pub(super) fallback: Option<Entry>,
    pub(super) fallback6: Option<Entry>,
    pub(super) autoreload: bool,
    pub(super) callback: Option<CommandLine>,
    pub(super) emailalertfrom: Option<String>,
    pub(super) execute: Vec<PathBuf>,
    pub(super) logfile: Option<LogTarget>,
    pub(super) maintenancedir: Option<PathBuf>,
    pub(super) supervised: bool,
    pub(super) fork: bool,
}

/// What is said for one virtual service.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) head: Entry,
    pub(super) shared: Shared,
    pub(super) reals: Vec<Entry>,
    pub(super) fallback: Option<Entry>,
    pub(super) checktype: Option<CheckType>,
    pub(super) checkcommand: Option<(Entry, String)>,
    pub(super) checkport: Option<u16>,
    pub(super) service: Option<Kind>,
    pub(super) request: Option<(Entry, String)>,
    pub(super) receive: Option<(Entry, String)>,
    pub(super) httpmethod: HttpMethod,
    pub(super) virtualhost: Option<(Entry, String)>,
    pub(super) login: Option<String>,
    pub(super) passwd: Option<String>,
    pub(super) database: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) scheduler: Option<Scheduler>,
    pub(super) persistent: Option<Duration>,
    pub(super) netmask: Option<Entry>,
    pub(super) schedflags: Option<SchedulerFlags>,
    pub(super) protocol: Option<(Entry, Traffic)>,
    pub(super) ops: Option<(Entry, bool)>,
    pub(super) monitorfile: Option<PathBuf>,
    pub(super) servicename: Option<String>,
    pub(super) comment: Option<String>,
}

/// `protocol=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    Protocol(Protocol),
    /// `fwm`: whatever has the firewall mark.
    Marked,
}

/// `checktype=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckType {
    Connect,
    Negotiate,
    Ping,
    Off,
    On,
    External,
    ExternalPerl,
    /// So many connects between two negotiates.
    Combined(u32),
}

/// Sorts the entries.
pub(super) fn read(entries: Vec<Entry>, findings: &mut Findings) -> (Globals, Vec<Draft>) {
    let mut globals = Globals::default();
    let mut drafts: Vec<Draft> = Vec::new();
    for entry in entries {
        let entry = quotes::without_needless(entry, findings);
        match entry.home {
            Home::Global => globals.take(entry, findings),
            Home::Virtual(_) if matches!(entry.directive, Directive::Virtual | Directive::Virtual6) => {
                drafts.push(Draft::new(entry));
            }
            // The heads are numbered as they come.
            Home::Virtual(number) => {
                if let Some(draft) = drafts.get_mut(number) {
                    draft.take(entry, findings);
                }
            }
        }
    }
    (globals, drafts)
}

impl Shared {
    /// Takes an entry, if it is one that can be said for all and for each.
    fn take(&mut self, entry: &Entry, findings: &mut Findings) {
        use Directive as D;
        match entry.directive {
            D::Checktimeout => set(&mut self.checktimeout, value::seconds(entry, findings)),
            D::Negotiatetimeout => set(&mut self.negotiatetimeout, value::seconds(entry, findings)),
            D::Checkinterval => set(&mut self.checkinterval, value::seconds(entry, findings)),
            D::Checkcount => {
                if let Some(count) = value::count(entry, findings) {
                    findings.note(&entry.place, Note::Checkcount { count: count.get() });
                    self.checkcount = Some(count);
                }
            }
            D::Failurecount => set(&mut self.failurecount, value::count(entry, findings)),
            D::Quiescent => set(&mut self.quiescent, value::yes_no(entry, findings)),
            D::Cleanstop => set(&mut self.cleanstop, value::yes_no(entry, findings)),
            D::Fallbackcommand => set(&mut self.fallbackcommand, command::fallback(entry, findings)),
            D::Emailalert => set(&mut self.emailalert, value::addresses(entry, findings)),
            D::Emailalertfreq => set(&mut self.emailalertfreq, value::repeat(entry, findings)),
            D::Emailalertstatus => set(&mut self.emailalertstatus, value::about(entry, findings)),
            D::Smtp => set(&mut self.smtp, smtp(entry, findings)),
            D::Connecttimeout => {
                let instead =
                    "negotiatetimeout=… for the answer of a service, checktimeout=… for a connection";
                findings
                    .fault(&entry.place, DirectiveFault::GivenUp { directive: "connecttimeout", instead });
            }
            _ => {}
        }
    }
}

/// A value that was read replaces the one before.
fn set<T>(place: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *place = value;
    }
}

fn smtp(entry: &Entry, findings: &mut Findings) -> Option<String> {
    let belongs = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let length = entry.value.find(|c| !belongs(c)).unwrap_or(entry.value.len());
    let (host, rest) = entry.value.split_at(length);
    if host.is_empty() {
        findings.value(entry, "is neither a name nor an address of a mail server");
        return None;
    }
    findings.rest(entry, rest);
    Some(host.to_owned())
}

impl Globals {
    fn take(&mut self, entry: Entry, findings: &mut Findings) {
        use Directive as D;
        match entry.directive {
            D::Autoreload => self.autoreload = value::yes_no(&entry, findings).unwrap_or(self.autoreload),
            D::Callback => {
                if let Some(command) = command::callback(&entry, findings) {
                    self.callback = command.line().cloned();
                }
            }
            D::Emailalertfrom => set(&mut self.emailalertfrom, value::rest(&entry, findings)),
            D::Execute => self.execute.extend(command::execute(&entry, findings)),
            D::Fork => {
                if value::yes_no(&entry, findings) == Some(true) {
                    self.fork = true;
                    let why = "checks never wait for one another, so that no processes are needed for them";
                    findings.note(&entry.place, Note::NoEffect { directive: "fork", why });
                }
            }
            D::Logfile => set(&mut self.logfile, logfile(&entry, findings)),
            D::Maintenancedir => set(&mut self.maintenancedir, maintenance(&entry, findings)),
            D::Readdquiescent => {
                if value::yes_no(&entry, findings) == Some(false) {
                    let why = "a real server that someone has taken out of the table is put back, with weight 0 while it is down";
                    findings.note(&entry.place, Note::NoEffect { directive: "readdquiescent", why });
                }
            }
            D::Supervised => {
                let bare = entry.value.is_empty();
                let on = if bare { Some(true) } else { value::yes_no(&entry, findings) };
                if on == Some(true) {
                    self.supervised = true;
                    let why = "the agent always stays in the foreground; its log goes to standard error";
                    findings.note(&entry.place, Note::NoEffect { directive: "supervised", why });
                }
            }
            D::Timeout => {
                let instead = "checktimeout=… and negotiatetimeout=…";
                findings.fault(&entry.place, DirectiveFault::GivenUp { directive: "timeout", instead });
            }
            D::Fallback => self.fallback = Some(entry),
            D::Fallback6 => self.fallback6 = Some(entry),
            _ => self.shared.take(&entry, findings),
        }
    }
}

fn logfile(entry: &Entry, findings: &mut Findings) -> Option<LogTarget> {
    let text = value::quoted(entry, findings)?;
    if text.starts_with('/') {
        return Some(LogTarget::File(text.into()));
    }
    let facility = text.to_ascii_lowercase();
    let facility = facility.strip_prefix("log_").unwrap_or(&facility);
    if let Some(facility) = Facility::named(facility) {
        return Some(LogTarget::Syslog(facility));
    }
    findings.value(entry, "is neither a path from the root nor a facility of syslog, such as \"local0\"");
    None
}

fn maintenance(entry: &Entry, findings: &mut Findings) -> Option<PathBuf> {
    let text = value::rest(entry, findings)?;
    let path = value::path(entry, text, findings);
    if !path.is_dir() {
        let path = path.display().to_string();
        findings.note(&entry.place, Note::Missing { directive: "maintenancedir", path });
    }
    Some(path)
}

impl Draft {
    fn new(head: Entry) -> Self {
        Self {
            head,
            shared: Shared::default(),
            reals: Vec::new(),
            fallback: None,
            checktype: None,
            checkcommand: None,
            checkport: None,
            service: None,
            request: None,
            receive: None,
            httpmethod: HttpMethod::Get,
            virtualhost: None,
            login: None,
            passwd: None,
            database: None,
            secret: None,
            scheduler: None,
            persistent: None,
            netmask: None,
            schedflags: None,
            protocol: None,
            ops: None,
            monitorfile: None,
            servicename: None,
            comment: None,
        }
    }

    /// Whether it is for IPv6.
    pub(super) fn is_v6(&self) -> bool {
        self.head.directive == Directive::Virtual6
    }

    fn take(&mut self, entry: Entry, findings: &mut Findings) {
        use Directive as D;
        let with_entry = |text: Option<String>| text.map(|text| (entry.clone(), text));
        match entry.directive {
            D::Real | D::Real6 if self.fits(&entry, D::Real6, findings) => self.reals.push(entry),
            D::Fallback | D::Fallback6 if self.fits(&entry, D::Fallback6, findings) => {
                self.fallback = Some(entry);
            }
            D::Real | D::Real6 | D::Fallback | D::Fallback6 => {}
            D::Checkinterval => {
                findings.note(&entry.place, Note::OwnInterval);
                self.shared.take(&entry, findings);
            }
            D::Checkcommand => {
                let command = value::maybe_quoted(&entry, findings);
                set(&mut self.checkcommand, with_entry(command));
            }
            D::Checkport => set(&mut self.checkport, value::port(&entry, findings)),
            D::Checktype => set(&mut self.checktype, checktype(&entry, findings)),
            D::Service => set(&mut self.service, service(&entry, findings)),
            D::Request => set(&mut self.request, with_entry(value::quoted(&entry, findings))),
            D::Receive => set(&mut self.receive, with_entry(value::quoted(&entry, findings))),
            D::Httpmethod => self.httpmethod = httpmethod(&entry, findings).unwrap_or(self.httpmethod),
            D::Virtualhost => set(&mut self.virtualhost, with_entry(virtualhost(&entry, findings))),
            D::Login => set(&mut self.login, value::quoted(&entry, findings)),
            D::Passwd => set(&mut self.passwd, value::quoted(&entry, findings)),
            D::Database => set(&mut self.database, value::quoted(&entry, findings)),
            D::Secret => set(&mut self.secret, value::quoted(&entry, findings)),
            D::Scheduler => set(&mut self.scheduler, scheduler(&entry, findings)),
            D::Persistent => set(&mut self.persistent, value::persistence(&entry, findings)),
            D::Netmask => self.netmask = Some(entry),
            D::Schedflags => set(&mut self.schedflags, schedflags(&entry, findings)),
            D::Protocol => {
                let protocol = protocol(&entry, findings);
                set(&mut self.protocol, protocol.map(|protocol| (entry, protocol)));
            }
            D::Ops => {
                let ops = value::yes_no(&entry, findings);
                set(&mut self.ops, ops.map(|ops| (entry, ops)));
            }
            D::Monitorfile => {
                let text = value::maybe_quoted(&entry, findings);
                set(&mut self.monitorfile, text.map(|text| value::path(&entry, text, findings)));
            }
            D::Servicename => self.servicename = Some(entry.value).filter(|text| !text.is_empty()),
            D::Comment => self.comment = Some(entry.value).filter(|text| !text.is_empty()),
            D::Load => {
                if value::quoted(&entry, findings).is_some() {
                    let why = "ldirectord reads it and does nothing with it either";
                    findings.note(&entry.place, Note::NoEffect { directive: "load", why });
                }
            }
            _ => self.shared.take(&entry, findings),
        }
    }

    /// Whether a directive that has two names is of this service's IP version; notes if not.
    fn fits(&self, entry: &Entry, name_of_v6: Directive, findings: &mut Findings) -> bool {
        let fits = (entry.directive == name_of_v6) == self.is_v6();
        if !fits {
            let instead = match (name_of_v6, self.is_v6()) {
                (Directive::Real6, true) => "real6",
                (Directive::Real6, false) => "real",
                (_, true) => "fallback6",
                (_, false) => "fallback",
            };
            let directive = entry.directive.name();
            findings.fault(&entry.place, DirectiveFault::OtherVersion { directive, instead });
        }
        fits
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The first run of such characters, in small letters where the value has others; notes what is behind it.
fn first_word(entry: &Entry, belongs: impl Fn(char) -> bool, findings: &mut Findings) -> Option<String> {
    let Some((before, word, rest)) = value::first_run(&entry.value, belongs) else {
        let problem = if entry.value.is_empty() {
            "is empty; write something, or leave the directive out"
        } else {
            "has no word in it; write one"
        };
        findings.value(entry, problem);
        return None;
    };
    findings.rest(entry, before);
    findings.rest(entry, rest);
    Some(word.to_owned())
}

fn checktype(entry: &Entry, findings: &mut Findings) -> Option<CheckType> {
    const KNOWN: [(&str, CheckType); 7] = [
        ("connect", CheckType::Connect),
        ("negotiate", CheckType::Negotiate),
        ("ping", CheckType::Ping),
        ("off", CheckType::Off),
        ("on", CheckType::On),
        ("external", CheckType::External),
        ("external-perl", CheckType::ExternalPerl),
    ];
    const MOST: u32 = 10_000;
    // A digit anywhere makes a number of it.
    if let Some((_, digits, _)) = value::first_run(&entry.value, |c| c.is_ascii_digit()) {
        if digits.len() != entry.value.len() {
            let (number, text) = (digits.to_owned(), entry.value.clone());
            findings.note(&entry.place, Note::FirstDigits { directive: "checktype", number, text });
        }
        let number = digits.parse().ok().filter(|number| *number <= MOST);
        if number.is_none() {
            findings.value(entry, format!("is above {MOST} connects between two checks; write less"));
        }
        return number.map(CheckType::Combined);
    }
    let word = first_word(entry, |c| is_word(c) || c == '-', findings)?;
    let known = KNOWN.iter().find(|(known, _)| *known == word.to_ascii_lowercase());
    let Some((name, checktype)) = known else {
        let words = KNOWN.map(|(known, _)| known).join(", ");
        findings.value(entry, format!("is unknown; write {words}, or a number of connects"));
        return None;
    };
    if word != *name {
        findings.lenient(&entry.place, Leniency::OtherLetters { word: name });
    }
    Some(*checktype)
}

fn service(entry: &Entry, findings: &mut Findings) -> Option<Kind> {
    let word = first_word(entry, is_word, findings)?;
    let kind = Kind::of(&word);
    if kind.is_none() {
        findings.value(entry, format!("is unknown; write {}", Kind::names().join(", ")));
    }
    kind
}

fn httpmethod(entry: &Entry, findings: &mut Findings) -> Option<HttpMethod> {
    match first_word(entry, is_word, findings)?.to_ascii_uppercase().as_str() {
        "GET" => Some(HttpMethod::Get),
        "HEAD" => Some(HttpMethod::Head),
        _ => {
            findings.value(entry, "is unknown; write GET or HEAD");
            None
        }
    }
}

/// A quote at the beginning may be there or not, the next one ends it. What can't be a host's name is left out, so that
/// the real server's own address is sent, and that is noted: ldirectord sends whatever is written.
fn virtualhost(entry: &Entry, findings: &mut Findings) -> Option<String> {
    let text = if let Around::Foreign { .. } = quotes::around(&entry.value) {
        value::optionally_quoted(entry, findings)?
    } else {
        let bare = entry.value.strip_prefix('"').unwrap_or(&entry.value);
        let (host, rest) = bare.split_once('"').unwrap_or((bare, ""));
        findings.rest(entry, rest);
        host.to_owned()
    };
    let host = text.trim_matches(is_blank);
    let is_host = |host: &str| {
        !host.is_empty() && !host.contains('@') && host.parse::<hyper::http::uri::Authority>().is_ok()
    };
    if is_host(host) {
        return Some(host.to_owned());
    }
    let of_url =
        host.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let used = of_url.or_else(|| host.split(['/', '?', '#']).next()).filter(|host| is_host(host));
    let used = used.map(str::to_owned);
    findings.note(&entry.place, Note::NoHostName { text: host.to_owned(), used: used.clone() });
    used
}

/// ldirectord takes the first run of small letters.
fn scheduler(entry: &Entry, findings: &mut Findings) -> Option<Scheduler> {
    let text = entry.value.as_str();
    let small = text.to_ascii_lowercase();
    let word = value::first_run(text, |c| c.is_ascii_lowercase()).map(|(_, word, _)| word);
    let known = Scheduler::NAMES.iter().find(|name| **name == small);
    match (word, known) {
        (None, Some(name)) => {
            findings.lenient(&entry.place, Leniency::OtherLetters { word: name });
            return name.parse().ok();
        }
        (Some(word), _) if word.len() < text.len() && text.chars().all(|c| c.is_ascii_alphabetic()) => {
            let (directive, taken, text) = ("scheduler", word.to_owned(), text.to_owned());
            findings.note(&entry.place, Note::PartOfWord { directive, taken, text });
        }
        (None, None) if !text.is_empty() => {}
        _ => {
            first_word(entry, |c| c.is_ascii_lowercase(), findings)?;
        }
    }
    let scheduler = word.and_then(|word| word.parse().ok());
    if scheduler.is_none() {
        findings.value(
            entry,
            format!("is not a scheduler of Linux; write one of {}", Scheduler::NAMES.join(", ")),
        );
    }
    scheduler
}

fn schedflags(entry: &Entry, findings: &mut Findings) -> Option<SchedulerFlags> {
    let word = first_word(entry, |c| !c.is_whitespace(), findings)?;
    let mut flags = SchedulerFlags::default();
    for flag in word.split(',') {
        match flag {
            "flag-1" | "sh-fallback" | "mh-fallback" => flags.flag_1 = true,
            "flag-2" | "sh-port" | "mh-port" => flags.flag_2 = true,
            "flag-3" => flags.flag_3 = true,
            _ => {
                findings.value(entry, "has unknown flags; write sh-fallback, sh-port, flag-1, flag-2 or flag-3, with commas between");
                return None;
            }
        }
    }
    Some(flags)
}

fn protocol(entry: &Entry, findings: &mut Findings) -> Option<Traffic> {
    match first_word(entry, is_word, findings)?.as_str() {
        "tcp" => Some(Traffic::Protocol(Protocol::Tcp)),
        "udp" => Some(Traffic::Protocol(Protocol::Udp)),
        "fwm" => Some(Traffic::Marked),
        _ => {
            findings.value(
                entry,
                "is unknown; write tcp or udp, or fwm where the virtual service is a firewall mark",
            );
            None
        }
    }
}
