//! A name server that has one address for every name.

use std::net::Ipv4Addr;

/// The bytes before the question of a message (RFC 1035, 4.1.1).
const HEADER: usize = 12;
/// A response, recursion desired and available, no error.
const FLAGS: [u8; 2] = [0x81, 0x80];
/// The beginning of a record of the question's name, type A, class IN, valid for a minute, with four bytes.
const RECORD: [u8; 12] = [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4];

/// The reply to a query with one question; more that follows it, such as EDNS, is left out.
#[must_use]
pub fn reply(query: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let mut end = HEADER;
    while *query.get(end)? != 0 {
        end += 1 + usize::from(query[end]);
    }
    let question = query.get(HEADER..end + 5)?;
    let counts = [0, 1, 0, 1, 0, 0, 0, 0];
    Some([&query[..2], &FLAGS, &counts, question, &RECORD, &address.octets()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_a_reply() {
        let query = [7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
        let reply = reply(&query, Ipv4Addr::new(192, 0, 2, 77)).expect("it is a query");
        assert_eq!(&reply[..4], [7, 9, 0x81, 0x80]);
        assert_eq!(&reply[12..19], &query[12..]);
        assert!(reply.ends_with(&[192, 0, 2, 77]));
    }
}
