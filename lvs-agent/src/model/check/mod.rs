//! What a real server can be asked, one type for each protocol.

mod application;
mod asked;
mod database;
mod dns_name;
mod http;
mod kinds;

use std::path::PathBuf;

pub(crate) use self::{application::MAX_RADIUS_PASSWORD, dns_name::is_dns_name};
pub use application::{
    CommandCheck, CommandConvention, DnsCheck, DnsType, GreetingCheck, GreetingProtocol, LdapCheck,
    RadiusCheck, SipCheck, TcpCheck, Transport, UdpCheck,
};
pub use asked::Check;
pub use database::{Database, OracleCheck, SqlCheck};
pub use http::{BodyDigest, HttpCheck, HttpMethod, HttpPage, HttpVersion, StatusCodes};
pub use kinds::{Login, Pattern, PatternError, Secret, Tls, TlsStart, TlsVerify};

/// What a real server is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// ICMP echo: does the host answer?
    Ping,
    /// TCP connect: does something accept connections?
    Connect,
    /// Nothing: the server counts as up.
    On,
    /// Nothing: the server counts as down.
    Off,
    /// HTTP: does the service answer as it should?
    Http(HttpCheck),
    /// Text is sent over TCP, and an answer expected.
    Tcp(TcpCheck),
    /// A datagram is sent, and an answer or at least no ICMP error expected.
    Udp(UdpCheck),
    /// A protocol whose server greets first: mail, news, FTP.
    Greeting(GreetingCheck),
    /// A query for a name.
    Dns(DnsCheck),
    /// RADIUS: may this user in?
    Radius(RadiusCheck),
    /// SIP OPTIONS.
    Sip(SipCheck),
    /// LDAP: a bind, and a search if a base is given.
    Ldap(LdapCheck),
    /// MySQL or PostgreSQL: a login, and a query if one is given.
    Sql(SqlCheck),
    /// Oracle: the listener's answer to a connect.
    Oracle(OracleCheck),
    /// A command's exit status.
    Command(CommandCheck),
    /// A file whose content is the server's weight.
    File(PathBuf),
}

impl CheckKind {
    /// What carries the question to a port of the server; `None` where no port is asked: by ping, by a command or a file,
    /// or if nobody is.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        match self {
            Self::Ping | Self::On | Self::Off | Self::Command(_) | Self::File(_) => None,
            Self::Udp(_) | Self::Radius(_) => Some(Transport::Udp),
            Self::Dns(DnsCheck { transport, .. }) | Self::Sip(SipCheck { transport, .. }) => Some(*transport),
            Self::Connect
            | Self::Http(_)
            | Self::Tcp(_)
            | Self::Greeting(_)
            | Self::Ldap(_)
            | Self::Sql(_)
            | Self::Oracle(_) => Some(Transport::Tcp),
        }
    }

    /// Whether the answer is an application's, and not its kernel's or the operator's own.
    #[must_use]
    pub fn asks_application(&self) -> bool {
        !matches!(self, Self::Ping | Self::Connect | Self::On | Self::Off | Self::File(_))
    }

    /// What settles a suspicion that the traffic has raised: the part of the question that the signal has doubted.
    ///
    /// Where an answer needs a TCP connection, that is what was doubted; so it is where a command or a file decides, whose
    /// word may take longer than a suspicion can wait. What is asked over UDP has no smaller question in it.
    #[must_use]
    pub fn confirming(&self) -> Self {
        match (self, self.transport()) {
            (Self::Ping | Self::On | Self::Off, _) | (_, Some(Transport::Udp)) => self.clone(),
            _ => Self::Connect,
        }
    }
}
