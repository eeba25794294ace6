//! What is wrong with a directive, what is read though ldirectord would not, and what should be known.

use std::{fmt, net::IpAddr};

use thiserror::Error;

use crate::model::ClearSecret;

/// Where services have their ports.
pub(crate) const SERVICES: &str = "/etc/services";

/// A name that can't be resolved.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameFault {
    /// No address has come.
    #[error(
        "{name:?} has no {family} address ({reason}); write the address itself, or correct the name's entry"
    )]
    Host {
        /// The name as it is written.
        name: String,
        /// The IP version that is needed.
        family: &'static str,
        /// What the system says.
        reason: String,
    },
    /// No such port.
    #[error("port {name:?} is not a number up to 65535, nor a name in {SERVICES}; write the number")]
    Port {
        /// The name as it is written.
        name: String,
    },
}

/// A directive that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DirectiveFault {
    /// Nothing that has a name and a value.
    #[error("{text:?} is not a directive; write one like checkinterval=5, or put # before a comment")]
    NoDirective {
        /// The line without its blanks, at most 60 characters of it.
        text: String,
    },
    /// There is no such directive.
    #[error("unknown directive {word:?}{}", nearest.map(|known| format!("; did you mean {known:?}?")).unwrap_or_default())]
    Unknown {
        /// The word before the equals sign, at most 60 characters of it.
        word: String,
        /// The directive that looks most like it.
        nearest: Option<&'static str>,
    },
    /// Nothing to do.
    #[error(
        "there is no virtual service; write one, such as virtual=192.0.2.80:80, with a real server below it"
    )]
    NoVirtual,
    /// A directive of a virtual service before the first of them.
    #[error("{directive} belongs in a virtual service; write it below a line such as virtual=192.0.2.80:80")]
    OutsideVirtual {
        /// The directive's name.
        directive: &'static str,
    },
    /// A directive that ldirectord has given up.
    #[error("{directive} is no longer supported; write {instead}")]
    GivenUp {
        /// The directive's name.
        directive: &'static str,
        /// The directive to write, or several of them with what each is for.
        instead: &'static str,
    },
    /// A value that can't be used.
    #[error("{directive}: {text:?} {problem}")]
    Value {
        /// The directive's name.
        directive: &'static str,
        /// The value as it is written; secrets are left out.
        text: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// An address without a port, which ldirectord would take for a firewall mark.
    #[error(
        "virtual: {text:?} has no port; write {text}:80 (or whichever). ldirectord takes it for the firewall mark {mark}"
    )]
    MarkOrAddress {
        /// The value as it is written; secrets are left out.
        text: String,
        /// The digits that ldirectord would take.
        mark: String,
    },
    /// The other IP version's name of a directive is needed.
    #[error("{directive}: the virtual service has the other IP version; write {instead} here")]
    OtherVersion {
        /// The directive's name.
        directive: &'static str,
        /// The name of the directive for this IP version.
        instead: &'static str,
    },
    /// A name that can't be resolved.
    #[error("{directive}: {fault}")]
    Name {
        /// The directive's name.
        directive: &'static str,
        /// Why the name has no address or port.
        fault: NameFault,
    },
    /// A range that ends before it begins.
    #[error("real: the range {first}->{last} ends before it begins; write the lower address first")]
    RangeBackwards {
        /// The range's first address.
        first: String,
        /// The range's last address.
        last: String,
    },
    /// A range of more servers than make sense.
    #[error("real: the range {first}->{last} has {count} servers; at most {most} are read")]
    RangeTooLong {
        /// The range's first address.
        first: String,
        /// The range's last address.
        last: String,
        /// How many addresses are in it.
        count: u64,
        /// The most servers that one line may stand for.
        most: u64,
    },
    /// The same server twice in a service, and not alike.
    #[error(
        "real: {server} is already in this virtual service at line {line}, with other settings; remove one"
    )]
    RealTwice {
        /// The server's `ADDRESS:PORT` in the kernel's table.
        server: String,
        /// The line of the first one, from 1.
        line: usize,
    },
    /// A virtual service without servers.
    #[error(
        "this virtual service has no servers; write a line such as real=10.0.0.1:80 masq below it, or a fallback"
    )]
    NoServers,
    /// A check that can't know which port to ask.
    #[error(
        "no port is known to check {server}; write checkport=80 (or another one), or the port after the \
         address"
    )]
    NoCheckPort {
        /// The server's address.
        server: String,
    },
    /// A page without a body in which something is looked for.
    #[error("receive: a HEAD request has no body to search; write httpmethod=GET")]
    HeadWithReceive,
    /// The same line in a file that must be exact.
    #[error("{0} (an error because of --strict)")]
    Strict(Leniency),
}

/// What is unambiguous, though ldirectord would refuse it or make something of it that nobody means.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Leniency {
    /// A comment after the value of a global directive.
    #[error("the comment is ignored here; ldirectord takes it as part of the value, and {}", outcome(*refused))]
    TrailingComment {
        /// Whether ldirectord refuses the file; otherwise it uses the wrong value.
        refused: bool,
    },
    /// A `#` within quotes.
    #[error("the # in quotes is taken as text here; ldirectord cuts the line there, and refuses the file")]
    HashInQuotes,
    /// Blanks at the end of a value that must be exact.
    #[error("the blanks at the end are ignored here; ldirectord takes them as part of the value, and {}", outcome(*refused))]
    TrailingBlanks {
        /// Whether ldirectord refuses the file; otherwise it uses the wrong value.
        refused: bool,
    },
    /// A line of a virtual service that isn't indented by four columns.
    #[error(
        "taken as a line of the virtual service above; ldirectord wants at least 4 columns before it, not {columns}, and \
         refuses the file"
    )]
    Indentation {
        /// How many there are.
        columns: usize,
    },
    /// A line of a virtual service that ldirectord takes for a global one.
    #[error(
        "taken as a line of the virtual service above, whose other lines are written like this one or follow it; \
         ldirectord takes {directive} at the beginning of a line for all services, and refuses the file; put 4 blanks \
         before it, or write it above the first virtual service if it is meant for all"
    )]
    FlushLeft {
        /// The directive's name.
        directive: &'static str,
    },
    /// A line of a virtual service after a blank one.
    #[error(
        "taken as a line of the virtual service above; for ldirectord the blank line before it ends the service, and \
         it refuses the file"
    )]
    AfterBlankLine,
    /// A line of a virtual service after a global directive.
    #[error(
        "taken as a line of the virtual service above; for ldirectord the global directive before it ends the \
         service, and it refuses the file"
    )]
    AfterGlobal,
    /// A line of blanks within a virtual service.
    #[error("the line of blanks is ignored here; ldirectord takes it as a directive, and refuses the file")]
    BlankDirective,
    /// A global directive that is indented.
    #[error(
        "taken as a global directive; ldirectord wants it at the beginning of the line, and refuses the file"
    )]
    IndentedGlobal,
    /// A virtual service that is indented.
    #[error(
        "taken as a new virtual service; ldirectord wants it at the beginning of the line, and refuses the file"
    )]
    IndentedVirtual,
    /// Missing quotes.
    #[error("taken as if it were in quotes; ldirectord refuses {directive} without them")]
    Unquoted {
        /// The directive's name.
        directive: &'static str,
    },
    /// Quotes that ldirectord doesn't know.
    #[error(
        "the quotes {quotes} are taken as if they were \" characters; ldirectord knows only those, and refuses {directive} \
         like this or takes the quotes as part of its value"
    )]
    ForeignQuotes {
        /// The directive's name.
        directive: &'static str,
        /// The first and the last of them.
        quotes: String,
    },
    /// Quotes where none belong.
    #[error(
        "the quotes {quotes} are ignored here; leave the quotes away: ldirectord takes them as part of {directive}, and {}",
        outcome(*refused)
    )]
    NeedlessQuotes {
        /// The directive's name.
        directive: &'static str,
        /// The first and the last of them.
        quotes: String,
        /// Whether ldirectord refuses the file; otherwise it uses the wrong value.
        refused: bool,
    },
    /// A word in other letters.
    #[error("taken as {word:?}; ldirectord wants exactly that, and refuses the file")]
    OtherLetters {
        /// The word in the letters that ldirectord wants.
        word: &'static str,
    },
    /// A command of a virtual service that there is none of.
    #[error("{directive} runs nothing here, as no program is named; ldirectord refuses the file")]
    NoCommand {
        /// The directive's name.
        directive: &'static str,
    },
    /// Two texts with something else between them than ldirectord wants.
    #[error("taken as request and receive; ldirectord wants one comma between them, and refuses the file")]
    Between,
    /// A URL within a request.
    #[error(
        "taken as a path of the real server; ldirectord takes a request with {scheme:?} in it for a URL, which this is \
         not, and never finds the server up"
    )]
    UrlWithin {
        /// The scheme that ldirectord looks for, such as `http://`.
        scheme: &'static str,
    },
    /// Lines that end as on other systems.
    #[error(
        "the carriage returns at the ends of lines are ignored here; ldirectord takes them as part of each value"
    )]
    CarriageReturn,
    /// A mark at the beginning of the file.
    #[error("the byte order mark is ignored here; ldirectord takes it as a directive, and refuses the file")]
    ByteOrderMark,
    /// Bytes in a comment that are no text.
    #[error("the comment is not UTF-8")]
    ForeignBytes,
}

fn outcome(refused: bool) -> &'static str {
    if refused { "refuses the file" } else { "uses that" }
}

/// What is valid, and should be known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Note {
    /// A directive about processes.
    #[error("{directive} has no effect here: {why}")]
    NoEffect {
        /// The directive's name.
        directive: &'static str,
        /// The reason, as a clause for the message.
        why: &'static str,
    },
    /// The interval of one virtual service.
    #[error("checkinterval of a virtual service is used here; ldirectord uses it only with fork=yes")]
    OwnInterval,
    /// A flag that ldirectord leaves away.
    #[error(
        "with quiescent=yes scheduler {scheduler} gets its fallback flag here: without it the kernel refuses the clients \
         of a server at weight 0, as with ldirectord; write schedflags={scheduler}-fallback to say so yourself, or \
         quiescent=no"
    )]
    FallbackAdded {
        /// The scheduler's name.
        scheduler: &'static str,
    },
    /// A scheduler that refuses the clients of a server at weight 0.
    #[error(
        "the kernel refuses the clients of a server at weight 0 under scheduler {scheduler}, for as long as it is down: \
         write quiescent=no{}",
        if *scheduler == "dh" { String::new() } else { format!(", or add {scheduler}-fallback to schedflags") }
    )]
    Refuses {
        /// The scheduler's name.
        scheduler: &'static str,
    },
    /// An old directive.
    #[error(
        "checkcount is obsolete: as with ldirectord, it only multiplies the timeout of a ping by {count}; write \
         failurecount instead"
    )]
    Checkcount {
        /// By how much the timeout of a ping is multiplied.
        count: u32,
    },
    /// Thresholds in the order in which ldirectord doesn't find both.
    #[error(
        "both thresholds are taken here; ldirectord loses u: before l:, and the kernel then refuses the server; write \
         l: before u:"
    )]
    ThresholdOrder,
    /// What is written after the value.
    #[error("{directive}: {rest:?} has no effect, neither here nor with ldirectord")]
    Ignored {
        /// The directive's name.
        directive: &'static str,
        /// What is written there.
        rest: String,
    },
    /// Quotes where none belong, which do no harm.
    #[error(
        "the quotes {quotes} have no effect, neither here nor with ldirectord; leave the quotes away: {directive} needs none"
    )]
    NeedlessQuotes {
        /// The directive's name.
        directive: &'static str,
        /// The first and the last of them.
        quotes: String,
    },
    /// Quotes within ldirectord's own.
    #[error(
        "the quotes {quotes} within \" characters are part of the text, here as with ldirectord; leave these quotes away"
    )]
    QuotesInQuotes {
        /// The first and the last of them.
        quotes: String,
    },
    /// A word of which ldirectord reads a part.
    #[error(
        "{directive} is {taken:?} here as with ldirectord, which takes only small letters out of {text:?}; write small \
         letters only"
    )]
    PartOfWord {
        /// The directive's name.
        directive: &'static str,
        /// What is taken.
        taken: String,
        /// The value as it is written.
        text: String,
    },
    /// A number that comes out of a comment or a longer word.
    #[error(
        "{directive} is {number} here as with ldirectord, which takes the first digits of {text:?}; write whole numbers only"
    )]
    FirstDigits {
        /// The directive's name.
        directive: &'static str,
        /// The first digits of the value, which are used.
        number: String,
        /// The value as it is written; secrets are left out.
        text: String,
    },
    /// A number above the most that there is.
    #[error("{directive} is {most} here, which is the most; ldirectord takes more")]
    TooMuch {
        /// The directive's name.
        directive: &'static str,
        /// The number that is used.
        most: u64,
    },
    /// A server's port where the kernel keeps the clients'.
    #[error(
        "port {port} {used}: {method} keeps the clients' port, so that the table has {kept}, as with ldirectord{never_raised}",
        never_raised = if *quiescent { ", which would never give such a server its weight while quiescent=yes" } else { "" }
    )]
    KeptPort {
        /// The server's port as written.
        port: u16,
        /// The method, as written.
        method: &'static str,
        /// The port of the server in the kernel's table: the clients'.
        kept: u16,
        /// What it is good for.
        used: PortUse,
        /// Whether servers that are out have weight 0.
        quiescent: bool,
    },
    /// The same server twice, alike.
    #[error("this server is already in the virtual service at line {line}; the second one has no effect")]
    RealTwice {
        /// The line of the first one, from 1.
        line: usize,
    },
    /// A fallback server that is a real server, too.
    #[error(
        "the fallback server is also a real server of this virtual service, so it is not used as a fallback; \
         ldirectord removes it from the table once a real server is up"
    )]
    FallbackIsReal,
    /// A check that never succeeds.
    #[error("no server of this virtual service is ever up, here as with ldirectord: {why}")]
    NeverUp {
        /// The reason, as a clause for the message.
        why: &'static str,
    },
    /// A check that always succeeds.
    #[error(
        "the servers of this virtual service are not checked, here as with ldirectord: service is \"none\"; write \
             checktype=connect, or a service"
    )]
    NeverChecked,
    /// A secret that everybody on the way can read.
    #[error(
        "{secret} is sent to the servers of this virtual service unencrypted, as with ldirectord: everybody on the way \
         can read it; write service=imaps, pops or ldaps where that is what it could be, or give this agent a file of \
         its own format (check-config --to toml) with tls = \"starttls\""
    )]
    SecretUnencrypted {
        /// What is sent.
        secret: ClearSecret,
    },
    /// A check that differs from ldirectord's.
    #[error("{what}")]
    AsksOther {
        /// What the agent checks, and what ldirectord does.
        what: &'static str,
    },
    /// A netmask without persistence.
    #[error("netmask has no meaning without persistent")]
    NetmaskAlone,
    /// Per-packet scheduling of what isn't UDP.
    #[error("ops is for UDP only, here as with ldirectord")]
    OpsWithoutUdp,
    /// A command with blanks in it.
    #[error(
        "{directive}: the whole of {text:?} is the path of the program, here as with ldirectord{}",
        if *directive == "checkcommand" { "; arguments are not possible" } else { ": a shell takes quotes away last" }
    )]
    CommandWithBlanks {
        /// The directive's name.
        directive: &'static str,
        /// The value, which is taken as one path.
        text: String,
    },
    /// A command that there is none of.
    #[error("{directive} runs nothing, here as with ldirectord: {why}")]
    RunsNothing {
        /// The directive's name.
        directive: &'static str,
        /// The reason, as a clause for the message.
        why: &'static str,
    },
    /// A path that doesn't begin at the root.
    #[error(
        "{directive} is taken from the root, as ldirectord takes it while it runs: {path}; write the whole path"
    )]
    FromRoot {
        /// The directive's name.
        directive: &'static str,
        /// The path that is used.
        path: String,
    },
    /// Nobody to send mails to.
    #[error(
        "emailalert: {text:?} is no mail address, so that no mails are sent; write one like admin@example.org"
    )]
    NoMailAddress {
        /// The value, which is ignored.
        text: String,
    },
    /// Something beside mail addresses.
    #[error("emailalert: {rest:?} is no mail address and is left out; mails go to {addresses}")]
    NotMailed {
        /// What is left out.
        rest: String,
        /// Where mails go.
        addresses: String,
    },
    /// A virtual host that is no host name.
    #[error(
        "virtualhost: {text:?} is not a host name, and ldirectord sends it as it is; {} here; write one like \
         www.example.org",
        used.as_ref().map_or_else(
            || "the real server's address is sent".to_owned(),
            |used| format!("{used} is sent")
        )
    )]
    NoHostName {
        /// The value as it is written.
        text: String,
        /// The part of it that is sent, if there is one.
        used: Option<String>,
    },
    /// A name that has no address while the network may still be coming up.
    #[error(
        "{directive}: {name:?} has no address yet; what has it is left out, and the name is looked up again for 10 \
         minutes after the start"
    )]
    NoAddressYet {
        /// The directive's name.
        directive: &'static str,
        /// The name as it is written.
        name: String,
    },
    /// A server at an address that the kernel doesn't take.
    #[error(
        "{address} can't be the address of one server in the kernel's table, which refuses it, with ldirectord as well; \
         the server is left out; write a unicast address that is valid everywhere"
    )]
    NoHost {
        /// The address.
        address: IpAddr,
    },
    /// A folder that isn't there.
    #[error("{directive}: there is no {path}")]
    Missing {
        /// The directive's name.
        directive: &'static str,
        /// The path of the folder.
        path: String,
    },
}

/// What a port is used for that isn't in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortUse {
    /// The check connects or sends to it.
    Checked,
    /// It is an argument of `checkcommand`.
    Passed,
    /// It has no effect.
    None,
}

impl fmt::Display for PortUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checked => "is only checked",
            Self::Passed => "is only passed to checkcommand",
            Self::None => "has no effect",
        })
    }
}
