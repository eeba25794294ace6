//! Checks over DNS.

use std::{borrow::Cow, fmt::Write as _, net::IpAddr};

use super::{Pattern, Transport};

/// The longest label of a name in bytes (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;
/// The longest name in a packet, with a length before each label and before the root (RFC 1035, 2.3.4).
const MAX_NAME: usize = 255;

/// A query for a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsCheck {
    /// The name that is queried, or for PTR records the address.
    pub name: String,
    /// The type of the records.
    pub record: DnsType,
    /// What carries the query.
    pub transport: Transport,
    /// What one of the records must be; `None`: any will do.
    pub expect: Option<DnsExpect>,
}

/// What a record must be, written as [`DnsType`] says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DnsExpect {
    /// This one: addresses by their value, names whatever their case.
    Is(String),
    /// An expression that its text matches; names are without a dot at the end.
    Matches(Pattern),
}

/// The type of a record, and how it is written as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DnsType {
    /// An IPv4 address.
    #[default]
    A,
    /// An IPv6 address.
    Aaaa,
    /// The name of an address. The name that is queried may be the address itself.
    Ptr,
    /// The name of a name server.
    Ns,
    /// A name.
    Cname,
    /// The name of the primary server.
    Soa,
    /// The name of a mail server.
    Mx,
    /// The strings of the record, one after the other.
    Txt,
}

/// The name that a query for records of this type asks for: for PTR records of an address, the one that the address has
/// in the reverse tree.
#[must_use]
pub fn dns_name(name: &str, record: DnsType) -> Cow<'_, str> {
    match (record, name.parse()) {
        (DnsType::Ptr, Ok(IpAddr::V4(ip))) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa").into()
        }
        (DnsType::Ptr, Ok(IpAddr::V6(ip))) => {
            let mut reversed = String::new();
            for byte in ip.octets().into_iter().rev() {
                // Writing to a string does not fail.
                write!(reversed, "{:x}.{:x}.", byte & 15, byte >> 4).unwrap_or_default();
            }
            (reversed + "ip6.arpa").into()
        }
        _ => name.trim_end_matches('.').into(),
    }
}

/// Whether a query can ask for `name`: its labels are a host's or a service's, and it fits into a packet.
#[must_use]
pub fn is_dns_name(name: &str, record: DnsType) -> bool {
    let name = dns_name(name, record);
    name.len() + 2 <= MAX_NAME && name.split('.').all(is_label)
}

/// Letters, digits, hyphens and underscores, where a hyphen is neither the first nor the last, and an underscore not
/// the last (RFC 1123, 2.1; RFC 8552, 1.1).
fn is_label(label: &str) -> bool {
    let belongs = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=MAX_LABEL).contains(&label.len())
        && label.chars().all(belongs)
        && !label.starts_with('-')
        && !label.ends_with(['-', '_'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::Name;

    use super::*;

    #[test]
    fn names_that_a_query_can_ask_for() {
        let label = "a".repeat(MAX_LABEL);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        for name in ["a", "www.example.org", "www.example.org.", "_sip._tcp.example.org", &label, &longest] {
            assert!(is_dns_name(name, DnsType::A), "{name}");
        }
        for name in [
            "",
            ".",
            "a..b",
            ".a",
            "-a",
            "a-",
            "a_",
            "a b",
            "ä",
            &format!("{label}a"),
            &format!("{longest}a"),
        ] {
            assert!(!is_dns_name(name, DnsType::A), "{name}");
        }
        for address in ["192.0.2.1", "2001:db8::1"] {
            assert!(is_dns_name(address, DnsType::Ptr), "{address}");
        }
    }

    proptest! {
        /// What is accepted here is what the library can put into a query.
        #[test]
        fn the_library_agrees(name in "([a-z0-9_ä-]{0,70}[.]?){0,6}") {
            let queried = dns_name(&name, DnsType::A);
            let has_empty_label = queried.split('.').any(str::is_empty);
            prop_assert_eq!(is_dns_name(&name, DnsType::A), !has_empty_label && Name::new(&queried).is_ok());
        }
    }
}
