//! The protocols that a virtual service can be checked by, and their ports.

/// `service=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dns,
    Ftp,
    Http,
    Https,
    HttpProxy,
    Imap,
    Imaps,
    Ldap,
    Ldaps,
    Mysql,
    Nntp,
    None,
    Oracle,
    Pgsql,
    Pop,
    Pops,
    Radius,
    Simpletcp,
    Sip,
    Smtp,
    Submission,
}

/// Each one's name, and its port if it has one.
const KINDS: &[(&str, Kind, Option<u16>)] = &[
    ("dns", Kind::Dns, Some(53)),
    ("ftp", Kind::Ftp, Some(21)),
    ("http", Kind::Http, Some(80)),
    ("https", Kind::Https, Some(443)),
    ("http_proxy", Kind::HttpProxy, Some(3128)),
    ("imap", Kind::Imap, Some(143)),
    ("imaps", Kind::Imaps, Some(993)),
    ("ldap", Kind::Ldap, Some(389)),
    ("ldaps", Kind::Ldaps, Some(636)),
    ("mysql", Kind::Mysql, Some(3306)),
    ("nntp", Kind::Nntp, Some(119)),
    ("none", Kind::None, None),
    ("oracle", Kind::Oracle, Some(1521)),
    ("pgsql", Kind::Pgsql, Some(5432)),
    ("pop", Kind::Pop, Some(110)),
    ("pops", Kind::Pops, Some(995)),
    ("radius", Kind::Radius, Some(1812)),
    ("simpletcp", Kind::Simpletcp, None),
    ("sip", Kind::Sip, Some(5060)),
    ("smtp", Kind::Smtp, Some(25)),
    ("submission", Kind::Submission, Some(587)),
];

impl Kind {
    /// By its name.
    pub(super) fn of(name: &str) -> Option<Self> {
        KINDS.iter().find(|(known, ..)| *known == name).map(|(_, kind, _)| *kind)
    }

    /// The one that is usually at this port.
    pub(super) fn at(port: u16) -> Self {
        KINDS.iter().find(|(.., known)| *known == Some(port)).map_or(Self::None, |(_, kind, _)| *kind)
    }

    /// The port where it usually is.
    pub(super) fn port(self) -> Option<u16> {
        KINDS.iter().find(|(_, kind, _)| *kind == self).and_then(|(.., port)| *port)
    }

    /// All names.
    pub(super) fn names() -> Vec<&'static str> {
        KINDS.iter().map(|(name, ..)| *name).collect()
    }
}
