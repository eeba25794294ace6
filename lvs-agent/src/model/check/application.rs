//! Checks over other protocols, and commands.

use std::fmt;

use super::{Login, Pattern, Secret, Tls};
use crate::model::{Protocol, ServiceKey};

/// The transport protocol of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams.
    #[default]
    Udp,
    /// A connection.
    Tcp,
}

impl Transport {
    /// The clients' protocol that comes to the same ports.
    #[must_use]
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Udp => Protocol::Udp,
            Self::Tcp => Protocol::Tcp,
        }
    }

    /// Whether clients of a service may come by it.
    #[must_use]
    pub fn comes_to(self, service: &ServiceKey) -> bool {
        match service {
            ServiceKey::Address { protocol, .. } => *protocol == self.protocol(),
            ServiceKey::Mark { .. } => true,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// Text is sent, and an answer expected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TcpCheck {
    /// What is sent first; may be empty.
    pub send: Vec<u8>,
    /// What must be in the answer; `None`: the connection is enough.
    pub expect: Option<Pattern>,
    /// Whether the connection is encrypted.
    pub tls: Option<Tls>,
}

/// A datagram is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UdpCheck {
    /// The datagram's bytes.
    pub send: Vec<u8>,
    /// What must be in the reply.
    pub expect: Option<Pattern>,
    /// Whether there must be a reply. If not, the check succeeds when the time is over without an ICMP error.
    pub reply: bool,
}

/// A protocol whose server greets first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GreetingCheck {
    /// The protocol, which says how to log in and to quit.
    pub protocol: GreetingProtocol,
    /// How the connection is encrypted, if at all.
    pub tls: Option<Tls>,
    /// Who logs in; `None`: nobody.
    pub login: Option<Login>,
    /// The name by which an SMTP server is greeted; `None`: the check's source address, or that of loopback.
    pub helo: Option<String>,
}

/// A protocol whose server greets first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GreetingProtocol {
    /// SMTP (RFC 5321), also as submission (RFC 6409).
    Smtp,
    /// POP3 (RFC 1939).
    Pop3,
    /// IMAP (RFC 9051).
    Imap,
    /// NNTP (RFC 3977).
    Nntp,
    /// FTP (RFC 959).
    Ftp,
}

impl GreetingProtocol {
    /// Its name in a word, lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Pop3 => "pop3",
            Self::Imap => "imap",
            Self::Nntp => "nntp",
            Self::Ftp => "ftp",
        }
    }
}

/// RADIUS: may this user in?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RadiusCheck {
    /// User and password, at most [`RadiusCheck::MAX_PASSWORD`] bytes of it.
    pub login: Login,
    /// What the director and the server share.
    pub secret: Secret,
    /// Whether a refusal is an answer, too: the server is alive, whoever may in.
    pub reject_is_alive: bool,
}

impl RadiusCheck {
    /// The longest password in bytes: eight blocks of 16 (RFC 2865, 5.2).
    pub const MAX_PASSWORD: usize = 128;
}

/// SIP OPTIONS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SipCheck {
    /// The user in `sip:user@host`; `None`: the server itself.
    pub user: Option<String>,
    /// The transport protocol.
    pub transport: Transport,
    /// Whether the connection is encrypted; only over TCP.
    pub tls: Option<Tls>,
}

/// LDAP: a bind, and a search if a base is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LdapCheck {
    /// Who binds, by distinguished name; `None`: anonymous.
    pub login: Option<Login>,
    /// The entry that must be there.
    pub base: Option<String>,
    /// What must be in one of the entry's values.
    pub expect: Option<Pattern>,
    /// How the connection is encrypted, if at all.
    pub tls: Option<Tls>,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommandCheck {
    /// The program's path, and arguments.
    pub argv: Vec<String>,
    /// How it is called, and what its exit status means.
    pub convention: CommandConvention,
    /// The virtual service that the server belongs to.
    pub service: Option<ServiceKey>,
}

/// How a command is called, and what its exit status means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CommandConvention {
    /// ldirectord's `checkcommand`: the VIP or mark, its port (0 for a mark), the server's address and port are added
    /// to the arguments; 0 is up.
    #[default]
    Ldirectord,
    /// keepalived's `MISC_CHECK`: nothing is added; 0 is up.
    Keepalived,
    /// The same with `misc_dynamic`: 2 to 255 is up, too, with two less as the weight.
    KeepalivedDynamic,
}
