//! How people name a real server.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// A real server: at one port, or at all of them. Written `10.0.0.1`, `10.0.0.1:80`, `2001:db8::1` or
/// `[2001:db8::1]:80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName {
    address: IpAddr,
    port: Option<u16>,
}

/// A text that does not name a real server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} does not name a real server; write ADDRESS or ADDRESS:PORT, such as 10.0.0.1:80 or [2001:db8::1]:80"
)]
pub struct NoServerName(String);

impl ServerName {
    /// Whether it is this one.
    #[must_use]
    pub fn is(self, server: SocketAddr) -> bool {
        self.address == server.ip() && self.port.is_none_or(|port| port == server.port())
    }
}

impl FromStr for ServerName {
    type Err = NoServerName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(server) = text.parse::<SocketAddr>() {
            return Ok(Self { address: server.ip(), port: Some(server.port()) });
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let address = bare.parse().map_err(|_| NoServerName(text.to_owned()))?;
        Ok(Self { address, port: None })
    }
}

impl TryFrom<String> for ServerName {
    type Error = NoServerName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ServerName> for String {
    fn from(name: ServerName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_are_parsed() {
        let (four, six) = ("10.0.0.1:80", "[2001:db8::1]:80");
        let cases = [
            ("10.0.0.1", "10.0.0.1", four, true),
            ("10.0.0.1:80", "10.0.0.1:80", four, true),
            ("10.0.0.1:81", "10.0.0.1:81", four, false),
            ("2001:db8::1", "2001:db8::1", six, true),
            ("[2001:db8::1]", "2001:db8::1", six, true),
            ("[2001:db8::1]:80", "[2001:db8::1]:80", six, true),
            ("10.0.0.1", "10.0.0.1", six, false),
        ];
        for (text, shown, server, is) in cases {
            let name: ServerName = text.parse().unwrap();
            assert_eq!((name.to_string().as_str(), name.is(server.parse().unwrap())), (shown, is), "{text}");
        }
        for text in ["", "web", "10.0.0.1:", "10.0.0.1:99999", "[10.0.0.1", "10.0.0"] {
            let error = text.parse::<ServerName>().unwrap_err().to_string();
            assert!(error.contains("ADDRESS:PORT"), "{text}: {error}");
        }
    }
}
