//! The name that a DNS check queries, and whether it is one.

use std::{borrow::Cow, fmt::Write, net::IpAddr};

use simple_dns::Name;

use super::{DnsCheck, DnsType};

impl DnsCheck {
    /// The name as it is queried: without the dot at its end, and for the name of an address in the reverse tree.
    pub(crate) fn query_name(&self) -> Cow<'_, str> {
        query_name(&self.name, self.record)
    }
}

/// Whether a DNS server can be queried for `name` (RFC 1035, 2.3.4: labels up to 63 bytes, 255 in all).
pub(crate) fn is_dns_name(name: &str, record: DnsType) -> bool {
    let name = query_name(name, record);
    // The library accepts an empty label.
    name.split('.').all(|label| !label.is_empty()) && Name::new(&name).is_ok()
}

/// An address becomes its name in `in-addr.arpa` (RFC 1035, 3.5) or `ip6.arpa` (RFC 3596, 2.5).
fn query_name(name: &str, record: DnsType) -> Cow<'_, str> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_queried_in_the_reverse_tree() {
        let name = |text| query_name(text, DnsType::Ptr).into_owned();
        assert_eq!(name("192.0.2.1"), "1.2.0.192.in-addr.arpa");
        let v6 = "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa";
        assert_eq!(name("4321:0:1:2:3:4:567:89ab"), v6, "the example in RFC 3596, 2.5");
        assert_eq!(name("1.2.0.192.in-addr.arpa."), "1.2.0.192.in-addr.arpa");
        assert_eq!(query_name("192.0.2.1", DnsType::A), "192.0.2.1");
    }
}
