//! What can be wrong with a configuration, where, and what to do about it.

pub(in crate::config) mod ldirectord;
mod warning;

pub use self::{
    ldirectord::{DirectiveFault, Leniency, NameFault, Note},
    warning::{Strictness, Warning, WarningKind},
};

use std::{
    fmt, io,
    net::IpAddr,
    ops::Range,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::model::{ForwardingMethod, NotManageable, Transport};

/// How many faults are kept: a person mends a screen of them at a time, and a wrong default may fault every server.
const KEPT_FAULTS: usize = 20;
/// How many characters of a source line are shown around the fault.
const SHOWN_CHARACTERS: usize = 100;

/// A configuration that can't be used. Nothing has been touched.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read at all.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file was read, and what it says is wrong.
    #[error(transparent)]
    Content(#[from] Faults),
    /// It doesn't go with the mode that was asked for.
    #[error("--mode manage: {0}")]
    Mode(#[from] NotManageable),
}

/// The file can't be read at all.
#[derive(Debug, Error)]
#[error("{}: {kind}", path.display())]
pub struct FileError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub kind: FileErrorKind,
}

/// Why a file can't be read.
#[derive(Debug, Error)]
pub enum FileErrorKind {
    /// There is none.
    #[error("there is no such file; create it, or name another one")]
    Missing,
    /// It is a directory.
    #[error("this is a directory; name the file in it")]
    Directory,
    /// It is larger than any configuration that makes sense.
    #[error("the file is larger than {limit} bytes; is it the right one?")]
    TooLarge {
        /// The most that is read.
        limit: u64,
    },
    /// It holds bytes that are no text.
    #[error("line {line}, column {column}: byte {offset} is not UTF-8; save the file as UTF-8 text")]
    NotText {
        /// How many bytes before it are.
        offset: usize,
        /// Its line, from 1.
        line: usize,
        /// Its column in characters, from 1.
        column: usize,
    },
    /// Anything else that the operating system has to say.
    #[error("can't be read: {0}")]
    Io(#[source] io::Error),
}

/// What was found wrong in one configuration.
#[derive(Debug)]
pub struct Faults {
    /// Where the text came from.
    pub origin: PathBuf,
    /// The first faults in the order of the file, at least one.
    pub first: Vec<Fault>,
    /// How many there are beyond those.
    pub more: usize,
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.first.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            let Place { line, column, .. } = &fault.place;
            writeln!(f, "{}:{line}:{column}: {}", self.origin.display(), fault.kind)?;
            write!(f, "{}", fault.place)?;
        }
        if self.more > 0 {
            write!(f, "\n… and {} more", self.more)?;
        }
        Ok(())
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// Where.
    pub place: Place,
}

/// A place in a configuration. Displayed as the source line with carets under the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters from there on are meant, at least 1.
    pub width: usize,
    /// The whole source line, without its end.
    pub source: String,
}

impl Place {
    /// The place of the bytes `span` in `text`.
    #[must_use]
    pub fn new(text: &str, span: &Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |end| end + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        let end = text.floor_char_boundary(span.end).clamp(start, line_end);
        Self {
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end].chars().count().max(1),
            source: text[line_start..line_end].trim_end_matches('\r').to_owned(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = if self.column > SHOWN_CHARACTERS { self.column - SHOWN_CHARACTERS / 2 } else { 0 };
        // One character each, so that the carets stay where they belong; nothing that a terminal would obey.
        let shown: String = self
            .source
            .chars()
            .skip(skipped)
            .take(SHOWN_CHARACTERS)
            .map(|c| match c {
                '\t' => ' ',
                c if c.is_control() => '\u{fffd}',
                c => c,
            })
            .collect();
        let indent = self.column - 1 - skipped;
        let width = self.width.min((SHOWN_CHARACTERS - indent).max(1));
        writeln!(f, "{:5} | {}", self.line, shown.trim_end())?;
        write!(f, "      | {:indent$}{:^<width$}", "", "")
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum FaultKind {
    /// The text doesn't follow the format's grammar.
    #[error("not valid TOML: {message}{}", found(text))]
    Syntax {
        /// What the parser has to say.
        message: String,
        /// The text that it tripped over; empty where something is missing.
        text: String,
    },
    /// A key is unknown, missing, or doesn't belong here.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// A key's value can't be used.
    #[error("{key}: {fault}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        fault: ValueFault,
    },
    /// Each value could be used, but not all of them together.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// A directive of ldirectord's can't be used.
    #[error(transparent)]
    Directive(#[from] DirectiveFault),
}

/// The second half of the message about the grammar.
fn found(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(", found {text:?}") }
}

/// A key is unknown, missing, or doesn't belong here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyFault {
    /// There is no such key.
    #[error("unknown key {key:?} in {section}; {}", hint(nearest.as_deref(), known))]
    Unknown {
        /// The key as written.
        key: String,
        /// The section that it is in.
        section: &'static str,
        /// The known key that looks most like it.
        nearest: Option<String>,
        /// All keys that the section has.
        known: Vec<&'static str>,
    },
    /// A key must be there and isn't.
    #[error("{section} has no {key:?}; add {example}")]
    Missing {
        /// The key.
        key: &'static str,
        /// The section that it belongs into.
        section: &'static str,
        /// What could be written.
        example: &'static str,
    },
    /// A key that only some kinds of tunnel have.
    #[error("{key:?} has no meaning for a tunnel of type {kind:?}; remove it, or choose another type")]
    WrongTunnel {
        /// The key.
        key: &'static str,
        /// The tunnel's type.
        kind: &'static str,
    },
    /// A key that only some kinds of check have.
    #[error("{key:?} has no meaning for a check of type {kind:?}; remove it, or choose another type")]
    WrongCheck {
        /// The key.
        key: &'static str,
        /// The check's type.
        kind: &'static str,
    },
}

/// The second half of the message about an unknown key.
fn hint(nearest: Option<&str>, known: &[&str]) -> String {
    match nearest {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// A value that can't be used.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ValueFault {
    /// A value of another type is needed.
    #[error("{got} is not allowed here; write {wanted}")]
    Type {
        /// What is needed, with an example.
        wanted: &'static str,
        /// What was written.
        got: String,
    },
    /// A duration written as a bare number.
    #[error("{number} has no unit; write \"{number}ms\" or \"{number}s\", in quotes")]
    BareNumber {
        /// The number.
        number: String,
    },
    /// Text that is no duration.
    #[error(
        "{text:?} is not a duration; write a number and its unit, such as \"250ms\", \"1s\" or \"1m 30s\""
    )]
    Duration {
        /// The text.
        text: String,
    },
    /// A number or duration beyond its bounds.
    #[error("{value} is {}{reason}; write {min} to {max}", beyond(*above, min, max))]
    Range {
        /// The value as written.
        value: String,
        /// Whether it is above `max`; otherwise below `min`.
        above: bool,
        /// The least.
        min: String,
        /// The most.
        max: String,
        /// Why there is that bound: empty, or a clause that starts with a comma.
        reason: &'static str,
    },
    /// A word that isn't one of those that are known.
    #[error("{word:?} is unknown; write {}", either(known))]
    Word {
        /// The word.
        word: String,
        /// Those that are known.
        known: Vec<&'static str>,
    },
    /// The mark that the agent's own probes carry.
    #[error(
        "{mark} ({mark:#x}) is the mark of this agent's own probes, which would go to the VIP; choose another"
    )]
    ProbeMark {
        /// The mark.
        mark: u32,
    },
    /// Text that is no address.
    #[error("{text:?} is not a valid {wanted}; names are not resolved")]
    Address {
        /// The text.
        text: String,
        /// What is wanted, with an example.
        wanted: &'static str,
    },
    /// An address without a port where one is needed.
    #[error("{text:?} has no port; write it like \"127.0.0.1:9747\"")]
    NoPort {
        /// The address.
        text: String,
    },
    /// A port that isn't between 1 and 65535.
    #[error("port {port:?} in {text:?} is not a number from 1 to 65535")]
    Port {
        /// The port.
        port: String,
        /// The whole text.
        text: String,
    },
    /// An address that no single host can have.
    #[error("{address} can't be the address of one host; write a unicast address")]
    NotUnicast {
        /// The address.
        address: String,
    },
    /// Text that is no regular expression.
    #[error("{text:?} is not a regular expression: {problem}")]
    Pattern {
        /// The text.
        text: String,
        /// What the library has to say.
        problem: String,
    },
    /// Text that is empty, too long or has characters that don't belong there.
    #[error("{text:?} {problem}")]
    Text {
        /// The text.
        text: String,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
}

/// Which of its bounds a value is beyond.
fn beyond(above: bool, min: &str, max: &str) -> String {
    if above { format!("above {max}") } else { format!("below {min}") }
}

/// The words as `"a", "b" or "c"`.
fn either(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// Each value could be used, but not all of them together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Contradiction {
    /// A step that may take longer than the whole check.
    #[error("{key} {limit} is above the timeout {timeout} of the whole check; lower it, or leave it out")]
    StepAboveTimeout {
        /// The key.
        key: &'static str,
        /// The step's limit.
        limit: String,
        /// The whole check's.
        timeout: String,
    },
    /// A key about encryption where there is none.
    #[error(
        "{key:?} has no meaning without encryption; write tls = \"direct\" or \"starttls\", or remove it"
    )]
    NoTls {
        /// The key.
        key: &'static str,
    },
    /// An authority that is not looked at.
    #[error("tls-ca has no meaning with tls-verify = false; remove one of the two")]
    CaWithoutVerify,
    /// A key about a relay where there is none.
    #[error(
        "{key:?} has no meaning without a mail server; write smtp = \"mail.example.org\" (or whichever takes the mails), \
         or remove it"
    )]
    NoRelay {
        /// The key.
        key: &'static str,
    },
    /// A key about the encryption to a relay where there is none.
    #[error(
        "{key:?} has no meaning without encryption; write tls = \"required\", \"direct\" or \"opportunistic\", or \
         remove it"
    )]
    NoRelayTls {
        /// The key.
        key: &'static str,
    },
    /// A permission for a password that there is none of.
    #[error("\"password-unencrypted\" has no meaning without \"user\" and \"password-file\"; remove it")]
    NoPassword,
    /// A password that everybody on the way could read.
    #[error(
        "the password of this user would be sent unencrypted; write tls = \"required\" or \"direct\", or \
         password-unencrypted = true if that is wanted"
    )]
    PasswordUnencrypted,
    /// Encryption that there is none of.
    #[error("there is no encryption over UDP; write transport = \"tcp\"")]
    TlsOverUdp,
    /// A page without a body from which something is expected.
    #[error("a HEAD request has no body to search; write method = \"GET\"")]
    HeadWithBody,
    /// More pages than one check asks for.
    #[error("a check requests at most {most} pages; remove some")]
    TooManyPages {
        /// The most.
        most: usize,
    },
    /// A list of pages with nothing in it.
    #[error("there is no page in \"pages\"; write at least one {{ path = \"/\" }}, or leave it out")]
    NoPages,
    /// Two ways of saying the same.
    #[error("what is sent is either text or hexadecimal; remove \"send\" or \"send-hex\"")]
    SendTwice,
    /// A reply that is judged and not awaited.
    #[error("\"expect\" needs a reply; remove \"expect\" or \"reply\"")]
    ExpectWithoutReply,
    /// An entry that is judged and not looked for.
    #[error("\"expect\" needs an entry to search; name it as \"base\"")]
    ExpectWithoutBase,
    /// The first pause is longer than the longest.
    #[error("backoff {backoff} is above backoff-max {max}; raise backoff-max or lower backoff")]
    BackoffAboveMax {
        /// The first pause.
        backoff: String,
        /// The longest.
        max: String,
    },
    /// Two keys of which only one can be.
    #[error("a service has either an address or a firewall mark; remove \"address\" or \"mark\"")]
    AddressAndMark,
    /// An IP version where the address says it.
    #[error("\"family\" is only for a service by firewall mark; remove it, the address says it")]
    FamilyWithoutMark,
    /// A protocol where the mark stands for all.
    #[error("a service by firewall mark takes packets of every protocol; remove \"protocol\"")]
    MarkWithProtocol,
    /// A service for every port that isn't persistent.
    #[error(
        "the address has no port; add one, such as \":80\", or make the service persistent \
         (persistent = \"300s\"): only a persistent service can be for every port"
    )]
    EveryPort,
    /// A netmask for a persistence that isn't there.
    #[error(
        "\"persistent-netmask\" has no meaning without \"persistent\"; add persistent = \"300s\", or remove it"
    )]
    NetmaskWithoutPersistence,
    /// One-packet scheduling of what isn't UDP.
    #[error("\"one-packet\" is for UDP only; remove it, or add protocol = \"udp\"")]
    OnePacketWithoutUdp,
    /// A tunnel for a server that is reached otherwise.
    #[error("\"tunnel\" has no meaning here; remove it, or add forward = \"tunnel\"")]
    TunnelWithoutForward,
    /// A server of another IP version than its clients.
    #[error(
        "{method} can't reach {address}: the service's clients have the other IP version; write an address of theirs, \
         or use \"tunnel\""
    )]
    OtherFamily {
        /// The server's address.
        address: String,
        /// How it should be reached.
        method: ForwardingMethod,
    },
    /// A server's port that nobody would ever be sent to.
    #[error(
        "the clients' port is kept in this service, so that the server's ({server}) has no effect; leave it out"
    )]
    UnusedPort {
        /// The server's port.
        server: u16,
    },
    /// A check that is asked more seldom while there is doubt.
    #[error("soft-interval {soft} is above the interval {interval}; lower it, or leave it out")]
    SoftAboveInterval {
        /// The interval while a state is soft.
        soft: String,
        /// The usual one.
        interval: String,
    },
    /// A list of checks with nothing in it.
    #[error("there is no check in \"check\"; write at least one {{ type = \"connect\" }}, or leave it out")]
    NoChecks,
    /// Several checks of a backup.
    #[error("a backup has one check; remove the others, or put what they do into a command")]
    BackupWithChecks,
    /// A backup with a check that isn't asked.
    #[error("\"check\" has no meaning with checked = false; remove one of the two")]
    UncheckedWithCheck,
    /// The first penalty is longer than the longest.
    #[error("penalty {penalty} is above penalty-max {max}; raise penalty-max or lower penalty")]
    PenaltyAboveMax {
        /// The first penalty.
        penalty: String,
        /// The longest.
        max: String,
    },
    /// A quorum that can't be had.
    #[error(
        "the quorum with its hysteresis is {wanted}, and all servers' weights are {sum} together; lower it, or raise the \
         weights"
    )]
    QuorumTooHigh {
        /// What is needed for it to be back.
        wanted: u64,
        /// What there is.
        sum: u64,
    },
    /// A lower threshold above the upper one.
    #[error(
        "lower-threshold {lower} is above upper-threshold, which the kernel refuses; raise upper-threshold, or lower it"
    )]
    ThresholdsCrossed {
        /// The lower one.
        lower: u32,
    },
    /// A check that doesn't know which port to ask.
    #[error(
        "the check has no {transport} port in service {service}; add port = 80 (or the one that answers), choose \
         type = \"ping\", or give that service a check of its own"
    )]
    CheckWithoutPort {
        /// What carries the check.
        transport: Transport,
        /// The service.
        service: String,
    },
    /// A check that can't come from where it is said to.
    #[error(
        "the check can't come from {source_address} to {server}, which has the other IP version; remove \"source\", or \
         give that service a check of its own"
    )]
    OtherSource {
        /// From where.
        source_address: IpAddr,
        /// To which server.
        server: IpAddr,
    },
    /// A device named twice.
    #[error("device {device:?} is in the list twice; remove one")]
    DeviceTwice {
        /// The device.
        device: String,
    },
    /// Two services under the same key.
    #[error("service {key} is already at line {line}; put the servers of both into one")]
    ServiceTwice {
        /// The key.
        key: String,
        /// Line of the other one.
        line: usize,
    },
    /// Two services with the same name.
    #[error("the name {name:?} is already used at line {line}; give one of the services another name")]
    NameTwice {
        /// The name.
        name: String,
        /// Line of the other one.
        line: usize,
    },
    /// Two servers of one service with the same address and port.
    #[error("server {server} is already in this service, at line {line}; remove one, and add up the weights")]
    ServerTwice {
        /// The server.
        server: String,
        /// Line of the other one.
        line: usize,
    },
    /// A server with a port of its own that the forwarding method can't translate to.
    #[error(
        "{method} can't change the port: the server's is {server}, the service's {service}; leave out the server's \
         port, or use \"masquerade\""
    )]
    KeptPort {
        /// The method.
        method: ForwardingMethod,
        /// The server's port.
        server: u16,
        /// The service's.
        service: u16,
    },
    /// A real server that has a VIP as its address.
    #[error("{address} is the VIP of the service at line {line}; write the real server's own address")]
    ServerIsVip {
        /// The address.
        address: String,
        /// Line of the service.
        line: usize,
    },
    /// Nothing to do.
    #[error("there is no service; add a [[service]] with an address and at least one [[service.server]]")]
    NoServices,
    /// A service without servers.
    #[error("this service has no servers; add at least one [[service.server]] below it")]
    NoServers,
}

/// Collects faults while a reader goes on with what it can still make sense of.
#[derive(Debug, Default)]
pub(super) struct FaultList {
    faults: Vec<(Range<usize>, FaultKind)>,
    warnings: Vec<(Range<usize>, WarningKind)>,
}

impl FaultList {
    /// Notes a fault at the bytes `span` of the text.
    pub(super) fn add(&mut self, span: Range<usize>, kind: impl Into<FaultKind>) {
        self.faults.push((span, kind.into()));
    }

    /// Notes what is no fault and should be known all the same.
    pub(super) fn warn(&mut self, span: Range<usize>, kind: impl Into<WarningKind>) {
        self.warnings.push((span, kind.into()));
    }

    /// How many faults were noted.
    pub(super) fn len(&self) -> usize {
        self.faults.len()
    }

    /// The warnings in the order of the text.
    pub(super) fn take_warnings(&mut self, text: &str) -> Vec<Warning> {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.sort_by_key(|(span, _)| (span.start, span.end));
        warnings.into_iter().map(|(span, kind)| Warning { kind, place: Place::new(text, &span) }).collect()
    }

    /// `value`, unless a fault was noted.
    pub(super) fn finish<T>(mut self, value: T, text: &str, origin: &Path) -> Result<T, Faults> {
        self.faults.sort_by_key(|(span, _)| (span.start, span.end));
        if self.faults.is_empty() {
            return Ok(value);
        }
        let more = self.faults.len().saturating_sub(KEPT_FAULTS);
        self.faults.truncate(KEPT_FAULTS);
        let faults = self.faults.into_iter();
        let first = faults.map(|(span, kind)| Fault { kind, place: Place::new(text, &span) }).collect();
        Err(Faults { origin: origin.to_owned(), first, more })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn place_counts_lines_and_characters() {
        let text = "eins\nzwäi = 'ü'\r\ndrei";
        let start = text.find('\'').unwrap();
        let place = Place::new(text, &(start..start + 4));
        assert_eq!((place.line, place.column, place.width), (2, 8, 3));
        assert_eq!(place.source, "zwäi = 'ü'");
        assert_eq!(place.to_string(), "    2 | zwäi = 'ü'\n      |        ^^^");
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let shown = Place::new(&text, &(500..501)).to_string();
        let (source, carets) = shown.split_once('\n').unwrap();
        assert_eq!(source.find('X'), carets.find('^'));
        assert!(source.len() < 120, "{source}");
    }

    #[test]
    fn control_characters_are_not_shown() {
        let shown = Place::new("a\u{1b}[31mb", &(0..1)).to_string();
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }

    proptest! {
        #[test]
        fn any_span_has_a_place(text in "\\PC*[\n\r\tä]*\\PC*", start in 0_usize..80, length in 0_usize..200) {
            let place = Place::new(&text, &(start..start + length));
            prop_assert!(place.line >= 1 && place.column >= 1 && place.width >= 1);
            prop_assert!(place.to_string().contains('^'));
        }
    }
}
