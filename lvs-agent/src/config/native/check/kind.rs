//! The types of check, by their names.

use crate::model::TlsStart;

/// A type of check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ping,
    Connect,
    On,
    Off,
    Http,
    Https,
    HttpProxy,
    Tcp,
    Udp,
    Smtp,
    Smtps,
    Submission,
    Pop3,
    Pop3s,
    Imap,
    Imaps,
    Nntp,
    Nntps,
    Ftp,
    Ftps,
    Dns,
    Radius,
    Sip,
    Sips,
    Ldap,
    Ldaps,
    Mysql,
    Postgresql,
    Oracle,
    Agent,
    Command,
    File,
}

/// All of them.
pub(super) const KINDS: &[(&str, Kind)] = &[
    ("ping", Kind::Ping),
    ("connect", Kind::Connect),
    ("http", Kind::Http),
    ("https", Kind::Https),
    ("http-proxy", Kind::HttpProxy),
    ("tcp", Kind::Tcp),
    ("udp", Kind::Udp),
    ("smtp", Kind::Smtp),
    ("smtps", Kind::Smtps),
    ("submission", Kind::Submission),
    ("pop3", Kind::Pop3),
    ("pop3s", Kind::Pop3s),
    ("imap", Kind::Imap),
    ("imaps", Kind::Imaps),
    ("nntp", Kind::Nntp),
    ("nntps", Kind::Nntps),
    ("ftp", Kind::Ftp),
    ("ftps", Kind::Ftps),
    ("dns", Kind::Dns),
    ("radius", Kind::Radius),
    ("sip", Kind::Sip),
    ("sips", Kind::Sips),
    ("ldap", Kind::Ldap),
    ("ldaps", Kind::Ldaps),
    ("mysql", Kind::Mysql),
    ("postgresql", Kind::Postgresql),
    ("oracle", Kind::Oracle),
    ("agent", Kind::Agent),
    ("command", Kind::Command),
    ("file", Kind::File),
    ("on", Kind::On),
    ("off", Kind::Off),
];

impl Kind {
    /// The value of `type`.
    pub(super) fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// The encryption that the name implies.
    pub(super) fn tls(self) -> Option<TlsStart> {
        let is_direct = matches!(
            self,
            Self::Https
                | Self::Smtps
                | Self::Pop3s
                | Self::Imaps
                | Self::Nntps
                | Self::Ftps
                | Self::Sips
                | Self::Ldaps
        );
        is_direct.then_some(TlsStart::Direct)
    }

    /// Whether anything is sent to the server.
    pub(super) fn asks_over_network(self) -> bool {
        !matches!(self, Self::On | Self::Off | Self::Command | Self::File)
    }

    /// Whether a port is checked.
    pub(super) fn has_port(self) -> bool {
        self.asks_over_network() && self != Self::Ping
    }

    /// Whether a port can be written.
    pub(super) fn takes_port(self) -> bool {
        self.has_port() || self == Self::Command
    }

    /// Whether there may be a connection.
    pub(super) fn connects(self) -> bool {
        self.has_port() && !matches!(self, Self::Udp | Self::Radius)
    }

    /// Whether a connection alone can stand in for the check now and then: not for one that tells more.
    pub(super) fn alternates(self) -> bool {
        self.connects() && !matches!(self, Self::Connect | Self::Agent)
    }

    /// Whether an answer is waited for after that.
    pub(super) fn reads(self) -> bool {
        self.has_port() && self != Self::Connect
    }
}
