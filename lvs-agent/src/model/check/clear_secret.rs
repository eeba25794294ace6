//! Secrets that a check would send as they are, without encryption, so that everybody on the way can read them.
//!
//! The one rule about it: such a secret is sent only where the check says so (`password-unencrypted`), whatever the
//! address. One of the director's own is no exception: what listens there may well hand on what it gets.

use std::fmt;

use super::{CheckKind, GreetingProtocol, HttpAuthorization, HttpCheck, HttpHeaders, Login, SqlCheck};

/// Headers that prove who asks: RFC 9110, 11.6.2 and 11.7.2, RFC 6265, and two that many applications have.
const PROOFS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "x-api-key", "x-auth-token"];
/// Users of FTP that everybody is, and whose password is no secret (RFC 1635).
const EVERYBODY: [&str; 2] = ["anonymous", "ftp"];

/// A secret that is sent as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClearSecret {
    /// A password.
    Password,
    /// The same, if the server asks for the password itself: usually it wants a proof that does not tell it.
    PasswordIfAsked,
    /// User and password of `basic-auth-file`.
    BasicAuthorization,
    /// The token of `bearer-token-file`.
    BearerToken,
    /// The value of this header.
    Header(String),
}

impl ClearSecret {
    /// Whether the server decides if it is sent, so that only then it is known whether it would be.
    #[must_use]
    pub fn is_up_to_the_server(&self) -> bool {
        *self == Self::PasswordIfAsked
    }
}

impl fmt::Display for ClearSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password => f.write_str("the password"),
            Self::PasswordIfAsked => f.write_str("the password, if the server asks for it,"),
            Self::BasicAuthorization => f.write_str("the password in basic-auth-file"),
            Self::BearerToken => f.write_str("the token in bearer-token-file"),
            Self::Header(name) => write!(f, "the header {name:?}"),
        }
    }
}

impl CheckKind {
    /// The secret that everybody on the way could read, be it allowed or not; `None`: there is none, or it is
    /// encrypted. RADIUS hides passwords by the shared secret (RFC 2865, 5.2). What is in `send` nobody knows here.
    #[must_use]
    pub fn clear_secret(&self) -> Option<ClearSecret> {
        match self {
            Self::Http(HttpCheck { tls: None, headers, .. }) => of_headers(headers),
            Self::Greeting(greeting) if greeting.tls.is_none() => {
                let login = greeting.login.as_ref().filter(|login| {
                    greeting.protocol != GreetingProtocol::Ftp || !EVERYBODY.contains(&&*login.user)
                });
                login.and_then(of_login)
            }
            Self::Ldap(ldap) if ldap.tls.is_none() => ldap.login.as_ref().and_then(of_login),
            Self::Sql(SqlCheck { tls: None, login, .. }) => {
                of_login(login).map(|_| ClearSecret::PasswordIfAsked)
            }
            Self::Http(_)
            | Self::Greeting(_)
            | Self::Ldap(_)
            | Self::Sql(_)
            | Self::Ping
            | Self::Connect
            | Self::On
            | Self::Off
            | Self::Tcp(_)
            | Self::Udp(_)
            | Self::Dns(_)
            | Self::Radius(_)
            | Self::Sip(_)
            | Self::Oracle(_)
            | Self::Agent(_)
            | Self::Command(_)
            | Self::File(_) => None,
        }
    }

    /// Lets it send such a secret.
    pub(crate) fn allow_clear_secret(&mut self) {
        let login = match self {
            Self::Http(http) => {
                http.headers.unencrypted = true;
                None
            }
            Self::Greeting(greeting) => greeting.login.as_mut(),
            Self::Ldap(ldap) => ldap.login.as_mut(),
            Self::Sql(sql) => Some(&mut sql.login),
            _ => None,
        };
        if let Some(login) = login {
            login.unencrypted = true;
        }
    }

    /// Whether its configuration lets it send such a secret.
    #[must_use]
    pub fn may_be_clear(&self) -> bool {
        match self {
            Self::Http(http) => http.headers.unencrypted,
            Self::Greeting(greeting) => greeting.login.as_ref().is_some_and(|login| login.unencrypted),
            Self::Ldap(ldap) => ldap.login.as_ref().is_some_and(|login| login.unencrypted),
            Self::Sql(sql) => sql.login.unencrypted,
            _ => false,
        }
    }
}

/// An empty password is none.
fn of_login(login: &Login) -> Option<ClearSecret> {
    (!login.password.reveal().is_empty()).then_some(ClearSecret::Password)
}

fn of_headers(headers: &HttpHeaders) -> Option<ClearSecret> {
    match &headers.authorization {
        Some(HttpAuthorization::Basic(_)) => Some(ClearSecret::BasicAuthorization),
        Some(HttpAuthorization::Bearer(_)) => Some(ClearSecret::BearerToken),
        None => {
            let proof = headers.own.iter().find(|header| PROOFS.contains(&&*header.name));
            proof.map(|header| ClearSecret::Header(header.name.clone()))
        }
    }
}
