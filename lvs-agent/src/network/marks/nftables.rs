//! Rules of nftables, and those that iptables makes in it (`linux/netfilter/nf_tables.h`).

use std::{collections::HashMap, io};

use nix::sys::socket::SockProtocol;

use super::{
    MarkCondition, MarkRule,
    attributes::{attributes, find, network_number, text},
    dump::dump,
};

/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_GETRULE`.
const GET_RULE: u16 = 10 << 8 | 7;
/// `struct nfgenmsg`: family, version, and two bytes.
const HEADER: usize = 4;

/// Attributes of a rule (`NFTA_RULE_*`), …
const TABLE: u16 = 1;
const CHAIN: u16 = 2;
const EXPRESSIONS: u16 = 4;
/// … of an expression (`NFTA_EXPR_*`), …
const NAME: u16 = 1;
const DATA: u16 = 2;
/// … of a value (`NFTA_DATA_VALUE`), …
const VALUE: u16 = 1;
/// … of `meta` (`NFTA_META_*`) and its key `NFT_META_MARK`, …
const META_TO: u16 = 1;
const META_KEY: u16 = 2;
const META_MARK: u32 = 3;
/// … of `bitwise` (`NFTA_BITWISE_*`), …
const BITWISE_FROM: u16 = 1;
const BITWISE_TO: u16 = 2;
const BITWISE_MASK: u16 = 4;
const BITWISE_XOR: u16 = 5;
/// … of `cmp` (`NFTA_CMP_*`) with `NFT_CMP_EQ` and `NFT_CMP_NEQ`, …
const COMPARE_FROM: u16 = 1;
const COMPARE_BY: u16 = 2;
const COMPARE_WITH: u16 = 3;
const EQUAL: u32 = 0;
const UNEQUAL: u32 = 1;
/// … and of `match`, an extension of iptables (`NFTA_MATCH_*`).
const MATCH_NAME: u16 = 1;
const MATCH_INFO: u16 = 3;

/// All rules that look at marks.
pub(super) fn rules() -> io::Result<Vec<MarkRule>> {
    let mut rules = Vec::new();
    dump(SockProtocol::NetlinkNetFilter, GET_RULE, &[0; HEADER], |payload| rules.extend(rule(payload)))?;
    Ok(rules)
}

/// What a rule asks of marks; more than one condition is seldom.
fn rule(payload: &[u8]) -> Vec<MarkRule> {
    let Some((header, rule)) = payload.split_at_checked(HEADER) else { return Vec::new() };
    let place = format!("nft {} {} {}", family(header[0]), text(rule, TABLE), text(rule, CHAIN));
    let conditions = conditions(find(rule, EXPRESSIONS).unwrap_or_default());
    conditions.into_iter().map(|condition| MarkRule { place: place.clone(), condition }).collect()
}

/// `NFPROTO_*` in `linux/netfilter.h`.
fn family(number: u8) -> &'static str {
    match number {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "?",
    }
}

/// Follows the mark through a rule's registers: which bits are left, and what is added to them.
fn conditions(expressions: &[u8]) -> Vec<MarkCondition> {
    let mut registers: HashMap<u32, (u32, u32)> = HashMap::new();
    let mut found = Vec::new();
    for (_, expression) in attributes(expressions) {
        let data = find(expression, DATA).unwrap_or_default();
        match text(expression, NAME).as_str() {
            "meta" => {
                let Some(to) = network_number(data, META_TO) else { continue };
                if network_number(data, META_KEY) == Some(META_MARK) {
                    registers.insert(to, (u32::MAX, 0));
                } else {
                    registers.remove(&to);
                }
            }
            "bitwise" => {
                let from = network_number(data, BITWISE_FROM).and_then(|from| registers.get(&from).copied());
                let Some(to) = network_number(data, BITWISE_TO) else { continue };
                let operands = (value(data, BITWISE_MASK), value(data, BITWISE_XOR));
                match (from, operands) {
                    (Some((mask, added)), (Some(and), Some(xor))) => {
                        registers.insert(to, (mask & and, added & and ^ xor));
                    }
                    _ => drop(registers.remove(&to)),
                }
            }
            "cmp" => {
                let from = network_number(data, COMPARE_FROM).and_then(|from| registers.get(&from));
                let (Some((mask, added)), Some(with)) = (from, value(data, COMPARE_WITH)) else { continue };
                let negated = match network_number(data, COMPARE_BY) {
                    Some(EQUAL) => false,
                    Some(UNEQUAL) => true,
                    _ => continue,
                };
                found.push(MarkCondition { mask: *mask, value: with ^ added, negated });
            }
            "match" if text(data, MATCH_NAME) == "mark" => found.extend(extension(data)),
            "match" | "target" | "counter" | "limit" | "log" => {}
            // Most others write registers, perhaps the one with the mark. Rules compare it right after they have it.
            _ => registers.clear(),
        }
    }
    found
}

/// `struct xt_mark_mtinfo1` (`linux/netfilter/xt_mark.h`): mark, mask, and whether to invert.
fn extension(data: &[u8]) -> Option<MarkCondition> {
    let info = find(data, MATCH_INFO)?;
    let word = |at: usize| info.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    Some(MarkCondition { value: word(0)?, mask: word(4)?, negated: *info.get(8)? != 0 })
}

/// A value of four bytes, in the machine's byte order as marks are.
fn value(data: &[u8], kind: u16) -> Option<u32> {
    let bytes = find(find(data, kind)?, VALUE)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::{super::attributes::attribute, *};

    fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
        let name = attribute(NAME, format!("{name}\0").as_bytes());
        attribute(1, &[name, attribute(DATA, &data.concat())].concat())
    }

    fn network(kind: u16, number: u32) -> Vec<u8> {
        attribute(kind, &number.to_be_bytes())
    }

    fn operand(kind: u16, number: u32) -> Vec<u8> {
        attribute(kind, &attribute(VALUE, &number.to_ne_bytes()))
    }

    fn load(key: u32) -> Vec<u8> {
        expression("meta", &[network(META_TO, 1), network(META_KEY, key)])
    }

    fn and(mask: u32, xor: u32) -> Vec<u8> {
        let registers = [network(BITWISE_FROM, 1), network(BITWISE_TO, 1)].concat();
        expression("bitwise", &[registers, operand(BITWISE_MASK, mask), operand(BITWISE_XOR, xor)])
    }

    fn compare(by: u32, with: u32) -> Vec<u8> {
        expression("cmp", &[network(COMPARE_FROM, 1), network(COMPARE_BY, by), operand(COMPARE_WITH, with)])
    }

    fn packed(expressions: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0];
        bytes.extend(attribute(TABLE, b"mangle\0"));
        bytes.extend(attribute(CHAIN, b"OUTPUT\0"));
        bytes.extend(attribute(EXPRESSIONS, &expressions.concat()));
        bytes
    }

    #[test]
    fn conditions_on_marks_are_found_in_rules() {
        let shown = |expressions: &[Vec<u8>]| {
            rule(&packed(expressions)).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let extension = |invert: u8| {
            let info =
                [&0x1000_u32.to_ne_bytes()[..], &0xf000_u32.to_ne_bytes(), &[invert, 0, 0, 0]].concat();
            expression("match", &[attribute(MATCH_NAME, b"mark\0"), attribute(MATCH_INFO, &info)])
        };
        let place = "nft ip mangle OUTPUT";
        let cases = [
            (vec![load(META_MARK), compare(EQUAL, 7)], format!("{place} (0x7/0xffffffff)")),
            (vec![load(META_MARK), compare(UNEQUAL, 0)], format!("{place} (not 0x0/0xffffffff)")),
            (vec![load(META_MARK), and(0xf0, 0), compare(EQUAL, 0x40)], format!("{place} (0x40/0xf0)")),
            (vec![load(META_MARK), and(0xf0, 0x10), compare(EQUAL, 0x50)], format!("{place} (0x40/0xf0)")),
            (vec![extension(0)], format!("{place} (0x1000/0xf000)")),
            (vec![extension(1)], format!("{place} (not 0x1000/0xf000)")),
            // The length of the packet, and the mark written over by it.
            (vec![load(0), compare(EQUAL, 7)], String::new()),
            (vec![load(META_MARK), load(0), compare(EQUAL, 7)], String::new()),
            (vec![load(META_MARK), compare(2, 7)], String::new()),
        ];
        for (expressions, expected) in cases {
            assert_eq!(shown(&expressions), expected);
        }
        for length in 0..64 {
            let whole = packed(&[load(META_MARK), compare(EQUAL, 7)]);
            assert!(rule(&whole[..length.min(whole.len())]).len() <= 1);
        }
    }
}
