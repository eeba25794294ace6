//! Rules of policy routing (`ip rule`).

use std::io;

use nix::{libc::RTM_GETRULE, sys::socket::SockProtocol};

use super::{MarkCondition, MarkRule, attributes::number, dump::dump};

/// `struct fib_rule_hdr` (`linux/fib_rules.h`): family, lengths, service, table, two bytes, action, flags.
const HEADER: usize = 12;
/// `FIB_RULE_INVERT`.
const INVERT: u32 = 2;
/// Attributes (`FRA_*`).
const PRIORITY: u16 = 6;
const MARK: u16 = 10;
const TABLE: u16 = 15;
const MASK: u16 = 16;

/// All rules that look at marks.
pub(super) fn rules() -> io::Result<Vec<MarkRule>> {
    let mut rules = Vec::new();
    // All zero: of any family (`AF_UNSPEC`).
    dump(SockProtocol::NetlinkRoute, RTM_GETRULE, &[0; HEADER], |payload| rules.extend(rule(payload)))?;
    Ok(rules)
}

/// A rule, if it looks at marks.
fn rule(payload: &[u8]) -> Option<MarkRule> {
    let (header, attributes) = payload.split_at_checked(HEADER)?;
    let flags = u32::from_ne_bytes(*header.last_chunk()?);
    let value = number(attributes, MARK)?;
    let mask = number(attributes, MASK).unwrap_or(u32::MAX);
    let priority = number(attributes, PRIORITY).unwrap_or_default();
    let table = number(attributes, TABLE).unwrap_or_default();
    let condition = MarkCondition { mask, value, negated: flags & INVERT != 0 };
    Some(MarkRule { place: format!("ip rule {priority} to table {table}"), condition })
}

#[cfg(test)]
mod tests {
    use super::{super::attributes::attribute, *};

    #[test]
    fn a_rule_is_read_with_its_mark_and_mask() {
        let packed = |flags: u32, attributes: &[(u16, u32)]| {
            let mut bytes = vec![2; HEADER - 4];
            bytes.extend(flags.to_ne_bytes());
            bytes.extend(attributes.iter().flat_map(|(kind, value)| attribute(*kind, &value.to_ne_bytes())));
            bytes
        };
        let all = [(PRIORITY, 100), (MARK, 0x1000), (TABLE, 7), (MASK, 0xf000)];
        let read = rule(&packed(0, &all)).unwrap();
        assert_eq!(read.to_string(), "ip rule 100 to table 7 (0x1000/0xf000)");
        assert!(rule(&packed(INVERT, &all)).unwrap().condition.negated);
        assert_eq!(rule(&packed(0, &[(MARK, 3)])).unwrap().condition.mask, u32::MAX);
        assert_eq!(rule(&packed(0, &[(PRIORITY, 3)])), None);
        assert_eq!(rule(&[0; 4]), None);
    }
}
