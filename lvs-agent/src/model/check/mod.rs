//! Checks of real servers, one type for each protocol.

mod agent;
mod application;
mod clear_secret;
mod database;
mod dns;
mod http;
mod http_headers;
mod login;
mod pattern;
mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

pub use agent::{AgentCheck, AgentOrder, AgentReport, Reported};
pub use application::{
    CommandCheck, CommandConvention, GreetingCheck, GreetingProtocol, LdapCheck, RadiusCheck, SipCheck,
    TcpCheck, Transport, UdpCheck,
};
pub use clear_secret::ClearSecret;
pub use database::{Database, OracleCheck, SqlCheck};
pub use dns::{DnsCheck, DnsExpect, DnsType, dns_name, is_dns_name};
pub use http::{BodyDigest, HttpCheck, HttpMethod, HttpPage, HttpVersion, StatusCodes};
pub use http_headers::{HttpAuthorization, HttpHeader, HttpHeaders};
pub use login::{Login, Secret};
pub use pattern::{Pattern, PatternError};
pub use tls::{SYSTEM_AUTHORITIES, Tls, TlsIdentity, TlsStart, TlsVerify};

use super::{ServiceKey, Via, defaults};

/// A check: its kind, and how often, how long and from where it is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// The protocol and what is expected of the server.
    pub kind: CheckKind,
    /// From the start of one check to the start of the next.
    pub interval: Duration,
    /// How long the whole check may take.
    pub timeout: Duration,
    /// The port that is checked, where it isn't the real server's own.
    pub port: Option<u16>,
    /// The address that is asked, where it isn't the real server's own (keepalived's `connect_ip`).
    pub connect_to: Option<IpAddr>,
    /// From where it is made, and how long its steps may take.
    pub via: Via,
    /// The interval while the server's state is soft; `None`: [`Check::soft_interval`] says.
    pub soft_interval: Option<Duration>,
    /// How many times only a connection is made between two whole checks; 0: never. A connection that fails brings the
    /// whole check at once (ldirectord's `checktype=N`).
    pub connects_between: u32,
}

impl Default for Check {
    /// A TCP connect to the real server's own port.
    fn default() -> Self {
        Self {
            kind: CheckKind::Connect,
            interval: defaults::CHECK_INTERVAL,
            timeout: defaults::CHECK_TIMEOUT,
            port: None,
            connect_to: None,
            via: Via::default(),
            soft_interval: None,
            connects_between: 0,
        }
    }
}

impl Check {
    /// From the start of one check to the start of the next while a state is soft; never above the interval.
    #[must_use]
    pub fn soft_interval(&self) -> Duration {
        let usual = (self.interval / defaults::SOFT_PART).max(defaults::SOFT_LEAST);
        self.soft_interval.unwrap_or(usual).min(self.interval)
    }

    /// Where the check of the real server at `server` goes: to the server itself, or where the check says. A ping has
    /// no port (0).
    #[must_use]
    pub fn asked(&self, server: SocketAddr) -> SocketAddr {
        let port = match self.kind {
            CheckKind::Ping => 0,
            _ => self.port.unwrap_or(server.port()),
        };
        SocketAddr::new(self.connect_to.unwrap_or(server.ip()), port)
    }

    /// The same check for a server of the virtual service `key`, which a command may want to know.
    #[must_use]
    pub fn of_service(mut self, key: ServiceKey) -> Self {
        if let CheckKind::Command(command) = &mut self.kind {
            command.service = Some(key);
        }
        self
    }
}

/// What a check does and expects.
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
    /// A line from an agent on the server: its state and its weight.
    Agent(AgentCheck),
    /// A command's exit status.
    Command(CommandCheck),
    /// A file whose content is the server's weight.
    File(PathBuf),
}

impl CheckKind {
    /// Its name in a word, for status and metrics: the `type` of the configuration, or the protocol that several types
    /// share.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Connect => "connect",
            Self::On => "on",
            Self::Off => "off",
            Self::Http(HttpCheck { proxy: true, .. }) => "http-proxy",
            Self::Http(HttpCheck { tls: Some(_), .. }) => "https",
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
            Self::Udp(_) => "udp",
            Self::Greeting(greeting) => greeting.protocol.name(),
            Self::Dns(_) => "dns",
            Self::Radius(_) => "radius",
            Self::Sip(_) => "sip",
            Self::Ldap(_) => "ldap",
            Self::Sql(SqlCheck { server: Database::Mysql, .. }) => "mysql",
            Self::Sql(SqlCheck { server: Database::Postgresql, .. }) => "postgresql",
            Self::Oracle(_) => "oracle",
            Self::Agent(_) => "agent",
            Self::Command(_) => "command",
            Self::File(_) => "file",
        }
    }

    /// Hides all secrets that stand in the configuration; how many there were.
    pub(super) fn hide_secrets(&mut self) -> usize {
        let secrets: Vec<&mut Secret> = match self {
            Self::Http(http) => http.headers.own.iter_mut().map(|header| &mut header.value).collect(),
            Self::Greeting(GreetingCheck { login, .. }) | Self::Ldap(LdapCheck { login, .. }) => {
                login.iter_mut().map(|login| &mut login.password).collect()
            }
            Self::Radius(RadiusCheck { login, secret, .. }) => vec![&mut login.password, secret],
            Self::Sql(SqlCheck { login, .. }) => vec![&mut login.password],
            Self::Ping
            | Self::Connect
            | Self::On
            | Self::Off
            | Self::Tcp(_)
            | Self::Udp(_)
            | Self::Dns(_)
            | Self::Sip(_)
            | Self::Oracle(_)
            | Self::Agent(_)
            | Self::Command(_)
            | Self::File(_) => Vec::new(),
        };
        secrets.into_iter().map(|secret| usize::from(secret.hide())).sum()
    }

    /// The transport to the port that is checked; `None` where there is none: with ping, a command or a file, and where
    /// nothing is checked.
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
            | Self::Oracle(_)
            | Self::Agent(_) => Some(Transport::Tcp),
        }
    }

    /// Whether it can be asked at a VIP: what goes over TCP, but for an agent, whose port is another.
    #[must_use]
    pub fn can_ask_vip(&self) -> bool {
        self.transport() == Some(Transport::Tcp) && !matches!(self, Self::Agent(_))
    }

    /// Whether the answer is an application's, and not its kernel's, the operator's own, or an agent's beside it.
    #[must_use]
    pub fn asks_application(&self) -> bool {
        !matches!(self, Self::Ping | Self::Connect | Self::On | Self::Off | Self::File(_) | Self::Agent(_))
    }

    /// What settles a suspicion that the traffic has raised: the part of the check that the signal has put in doubt.
    ///
    /// Where an answer needs a TCP connection, that is what was doubted; so it is where a command or a file decides,
    /// whose word may take longer than a suspicion can wait. A check over UDP has no smaller part.
    #[must_use]
    pub fn confirming(&self) -> Self {
        match (self, self.transport()) {
            (Self::Ping | Self::On | Self::Off, _) | (_, Some(Transport::Udp)) => self.clone(),
            _ => Self::Connect,
        }
    }
}
