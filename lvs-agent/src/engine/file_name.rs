//! Names of files in the maintenance directory: which server one means. Pure.

use std::net::{IpAddr, SocketAddr};

/// The server that a file's name means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileName {
    /// Its address, and perhaps a port.
    Address(IpAddr, Option<u16>),
    /// A host's name, and perhaps a port.
    Host(String, Option<u16>),
}

impl FileName {
    /// `None` for names that no server has, such as an editor's `.name.swp`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        if let Ok(ip) = name.trim_start_matches('[').trim_end_matches(']').parse() {
            return Some(Self::Address(ip, None));
        }
        if let Ok(address) = name.parse::<SocketAddr>() {
            return Some(Self::Address(address.ip(), Some(address.port())));
        }
        let (host, port) = match name.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (name, None),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let is_host = host.starts_with(|c: char| c.is_ascii_alphanumeric()) && host.chars().all(fits);
        is_host.then(|| Self::Host(host.to_owned(), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_an_address_or_a_host_with_or_without_a_port() {
        let address = |ip: &str, port| Some(FileName::Address(ip.parse().unwrap(), port));
        let host = |name: &str, port| Some(FileName::Host(name.to_owned(), port));
        let cases = [
            ("10.0.0.1", address("10.0.0.1", None)),
            ("10.0.0.1:80", address("10.0.0.1", Some(80))),
            ("2001:db8::1", address("2001:db8::1", None)),
            ("[2001:db8::1]", address("2001:db8::1", None)),
            ("[2001:db8::1]:80", address("2001:db8::1", Some(80))),
            ("web1", host("web1", None)),
            ("web1.example.org:8080", host("web1.example.org", Some(8080))),
            ("web1:http", None),
            (".10.0.0.1.swp", None),
            ("web 1", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(FileName::parse(name), expected, "{name:?}");
        }
    }
}
