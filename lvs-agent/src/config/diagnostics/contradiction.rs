//! What is wrong with values that could each be used.

use std::net::IpAddr;

use thiserror::Error;

use crate::model::{ClearSecret, ForwardingMethod, Transport};

/// Each value could be used, but not all of them together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Contradiction {
    /// A step that may take longer than the whole check.
    #[error("{key} {limit} is above the timeout {timeout} of the whole check; lower it, or leave it out")]
    StepAboveTimeout {
        /// The key's name.
        key: &'static str,
        /// The step's limit with its unit, such as `2s`.
        limit: String,
        /// The whole check's timeout with its unit.
        timeout: String,
    },
    /// A key about encryption where there is none.
    #[error(
        "{key:?} has no meaning without encryption; write tls = \"direct\" or \"starttls\", or remove it"
    )]
    NoTls {
        /// The key's name.
        key: &'static str,
    },
    /// An authority where certificates are not verified.
    #[error("tls-ca has no meaning with tls-verify = false; remove one of the two")]
    CaWithoutVerify,
    /// A key about a relay where there is none.
    #[error(
        "{key:?} has no meaning without a mail server; write smtp = \"mail.example.org\" (or whichever takes the mails), \
         or remove it"
    )]
    NoRelay {
        /// The key's name.
        key: &'static str,
    },
    /// A key about the encryption to a relay where there is none.
    #[error(
        "{key:?} has no meaning without encryption; write tls = \"required\", \"direct\" or \"opportunistic\", or \
         remove it"
    )]
    NoRelayTls {
        /// The key's name.
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
    /// A secret of a check that everybody on the way could read.
    #[error(
        "{secret} would be sent unencrypted, for everybody on the way to read; write {encryption}, or \
         password-unencrypted = true if that is wanted"
    )]
    SecretUnencrypted {
        /// What would be sent.
        secret: ClearSecret,
        /// What to write instead.
        encryption: &'static str,
    },
    /// Encryption that there is none of.
    #[error("there is no encryption over UDP; write transport = \"tcp\"")]
    TlsOverUdp,
    /// A page without a body from which something is expected.
    #[error("a HEAD request has no body to search; write method = \"GET\"")]
    HeadWithBody,
    /// More pages than one check asks for.
    #[error("a check requests at most {most} pages; remove some")]
    TooManyPages {
        /// The most pages of one check.
        most: usize,
    },
    /// A list of pages with nothing in it.
    #[error("there is no page in \"pages\"; write at least one {{ path = \"/\" }}, or leave it out")]
    NoPages,
    /// Two ways of saying the same.
    #[error("what is sent is either text or hexadecimal; remove \"send\" or \"send-hex\"")]
    SendTwice,
    /// Two ways of saying which record is expected.
    #[error(
        "the record is either the one in \"expect\" or one that \"pattern\" matches; remove one of the two"
    )]
    RecordTwice,
    /// A reply that is judged and not awaited.
    #[error("\"expect\" needs a reply; remove \"expect\" or \"reply\"")]
    ExpectWithoutReply,
    /// An entry that is judged and not looked for.
    #[error("\"expect\" needs an entry to search; name it as \"base\"")]
    ExpectWithoutBase,
    /// The first pause is longer than the longest.
    #[error("backoff {backoff} is above backoff-max {max}; raise backoff-max or lower backoff")]
    BackoffAboveMax {
        /// The first pause with its unit.
        backoff: String,
        /// The longest one with its unit.
        max: String,
    },
    /// The first hold-down is longer than the longest.
    #[error("hold-down {hold_down} is above hold-down-max {max}; raise hold-down-max or lower hold-down")]
    HoldDownAboveMax {
        /// The first one with its unit.
        hold_down: String,
        /// The longest one with its unit.
        max: String,
    },
    /// An announcement of what has no address.
    #[error("a service by firewall mark has no address to announce; remove \"announce\"")]
    AnnouncedMark,
    /// Services on one address that say different things of how it is announced.
    #[error(
        "{address} is announced otherwise by the service in line {line}; write the same in both, or leave it out here: \
         all services on an address count, whether they say it or not"
    )]
    AnnouncedOtherwise {
        /// The address.
        address: String,
        /// The line of the other service.
        line: usize,
    },
    /// Two keys of which only one can be.
    #[error("a service has either an address or a firewall mark; remove \"address\" or \"mark\"")]
    AddressAndMark,
    /// An IP version where the address says it.
    #[error("\"family\" is only for a service by firewall mark; remove it, the address says it")]
    FamilyWithoutMark,
    /// A protocol where the mark means all.
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
    /// A check with a longer interval while a state is soft.
    #[error("soft-interval {soft} is above the interval {interval}; lower it, or leave it out")]
    SoftAboveInterval {
        /// The interval while a state is soft, with its unit.
        soft: String,
        /// The usual interval with its unit.
        interval: String,
    },
    /// A port for a check that has none.
    #[error("a check of type {kind:?} asks no port; write only the address in connect-to")]
    ConnectToWithPort {
        /// The value of `type` in the check's table.
        kind: &'static str,
    },
    /// Two proofs of who asks.
    #[error(
        "the Authorization header is written twice; keep one of \"basic-auth-file\", \"bearer-token-file\", and one in \
         \"headers\""
    )]
    AuthorizationTwice,
    /// Two ports for one check.
    #[error("the port to check is written twice; leave it out of connect-to, or remove \"port\"")]
    PortTwice,
    /// A list of checks with nothing in it.
    #[error("there is no check in \"check\"; write at least one {{ type = \"connect\" }}, or leave it out")]
    NoChecks,
    /// Several checks of a backup.
    #[error("a backup has one check; remove the others, or put what they do into a command")]
    BackupWithChecks,
    /// A backup with a check that isn't made.
    #[error("\"check\" has no meaning with checked = false; remove one of the two")]
    UncheckedWithCheck,
    /// The first penalty is longer than the longest.
    #[error("penalty {penalty} is above penalty-max {max}; raise penalty-max or lower penalty")]
    PenaltyAboveMax {
        /// The first penalty with its unit.
        penalty: String,
        /// The longest one with its unit.
        max: String,
    },
    /// A quorum that can't be had.
    #[error(
        "the quorum with its hysteresis is {wanted}, and all servers' weights are {sum} together; lower it, or raise the \
         weights"
    )]
    QuorumTooHigh {
        /// The sum of weights at which the quorum is back: its weight and its hysteresis.
        wanted: u64,
        /// The sum of all servers' weights.
        sum: u64,
    },
    /// A lower threshold above the upper one.
    #[error(
        "lower-threshold {lower} is above upper-threshold, which the kernel refuses; raise upper-threshold, or lower it"
    )]
    ThresholdsCrossed {
        /// The lower threshold, in connections.
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
        /// The service's key, such as `tcp 192.0.2.80:80` or `mark 3`.
        service: String,
    },
    /// A check that can't be sent to a VIP.
    #[error(
        "a check of type {kind:?} makes no TCP connection to the service's port, and only such can go to the VIP; remove \
         via, or choose another type"
    )]
    VipByKind {
        /// The value of `type` in the check's table.
        kind: &'static str,
    },
    /// The same, where the transport decides.
    #[error("only checks over TCP can go to the VIP; write transport = \"tcp\", or remove via")]
    VipOverUdp,
    /// A check to the VIP that is to go elsewhere.
    #[error(
        "{key:?} has no meaning with via = \"vip\": the probe goes to the VIP and the service's port, by a mark of its \
         own; remove one of the two"
    )]
    VipAndElsewhere {
        /// The other key.
        key: &'static str,
    },
    /// A check to the VIP of a service that has none, or no port over TCP.
    #[error(
        "service {service} has no address and port over TCP that a probe could connect to; remove via, or give that \
         service a check of its own"
    )]
    VipWithoutPort {
        /// The service's key.
        service: String,
    },
    /// A check to the VIP whose answers the director would drop.
    #[error(
        "via = \"vip\" by {method} over IPv4 needs source = \"ADDRESS\" in the check: an address in the servers' network \
         that nobody has, which the agent puts on a device of its own. The director takes answers from its own VIP for \
         forged anywhere else"
    )]
    VipWithoutSource {
        /// How the server is reached.
        method: ForwardingMethod,
    },
    /// A check that can't come from where it is said to.
    #[error(
        "the check can't come from {source_address} to {server}, which has the other IP version; remove \"source\", or \
         give that service a check of its own"
    )]
    OtherSource {
        /// The `source` of the check.
        source_address: IpAddr,
        /// The server's address.
        server: IpAddr,
    },
    /// The first packet that is told of comes after the number from which it is counted again.
    #[error(
        "threshold {threshold} is not below period {period}, which the kernel refuses; lower it, or raise period"
    )]
    SyncThreshold {
        /// With which packet a connection is told of first.
        threshold: u16,
        /// After how many packets again.
        period: u16,
    },
    /// A director that would balance nothing while it is active.
    #[error(
        "backup-only = true stops all balancing while a backup daemon runs, so that it goes with role = \"backup\" alone; \
         remove it"
    )]
    BackupOnly,
    /// A device named twice.
    #[error("device {device:?} is in the list twice; remove one")]
    DeviceTwice {
        /// The device's name.
        device: String,
    },
    /// Two services under the same key.
    #[error("service {key} is already at line {line}; put the servers of both into one")]
    ServiceTwice {
        /// The service's key, such as `tcp 192.0.2.80:80` or `mark 3`.
        key: String,
        /// The line of the first one, from 1.
        line: usize,
    },
    /// Two services with the same name.
    #[error("the name {name:?} is already used at line {line}; give one of the services another name")]
    NameTwice {
        /// The name that both have.
        name: String,
        /// The line of the first one, from 1.
        line: usize,
    },
    /// Two servers of one service with the same address and port.
    #[error("server {server} is already in this service, at line {line}; remove one, and add up the weights")]
    ServerTwice {
        /// The server's `ADDRESS:PORT`.
        server: String,
        /// The line of the first one, from 1.
        line: usize,
    },
    /// A backup that is a server of its own service.
    #[error(
        "{server} is a server of this service, at line {line}, and can't take over from itself; name another backup, or \
         remove this one"
    )]
    BackupIsServer {
        /// The server's `ADDRESS:PORT`.
        server: String,
        /// The line of the server, from 1.
        line: usize,
    },
    /// A server with a port of its own that the forwarding method can't translate to.
    #[error(
        "{method} can't change the port: the server's is {server}, the service's {service}; leave out the server's \
         port, or use \"masquerade\""
    )]
    KeptPort {
        /// The forwarding method.
        method: ForwardingMethod,
        /// The server's port.
        server: u16,
        /// The service's.
        service: u16,
    },
    /// A real server that has a VIP as its address.
    #[error("{address} is the VIP of the service at line {line}; write the real server's own address")]
    ServerIsVip {
        /// The address, without a port.
        address: String,
        /// The line of the service, from 1.
        line: usize,
    },
    /// The file has no service.
    #[error("there is no service; add a [[service]] with an address and at least one [[service.server]]")]
    NoServices,
    /// A service without servers.
    #[error("this service has no servers; add at least one [[service.server]] below it")]
    NoServers,
}
