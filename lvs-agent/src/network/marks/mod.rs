//! Which rules of this director treat packets with a mark differently from packets without one: policy routing and
//! nftables. Rules of iptables-legacy can't be read this way, nor what nftables looks up in sets and maps.

mod attributes;
mod dump;
mod nftables;
mod routing;

use std::{fmt, io, path::Path};

/// Where the kernel shows that it has nftables: asking for rules would load the module otherwise.
const NFTABLES: &str = "/sys/module/nf_tables";

/// A rule that looks at the mark of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkRule {
    /// Where it stands, in the words of `ip rule` and `nft`.
    pub place: String,
    /// What it looks at.
    pub condition: MarkCondition,
}

/// A condition on the mark of packets, in the kernel's terms: `(mark & mask) == value`, or its opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkCondition {
    /// The bits that it looks at.
    pub mask: u32,
    /// What they must be.
    pub value: u32,
    /// Whether they must be something else.
    pub negated: bool,
}

impl MarkCondition {
    fn holds(self, mark: u32) -> bool {
        (mark & self.mask == self.value) != self.negated
    }

    /// Whether packets with this mark are treated differently from packets without any.
    #[must_use]
    pub fn distinguishes(self, mark: u32) -> bool {
        self.holds(mark) != self.holds(0)
    }
}

impl fmt::Display for MarkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MarkCondition { mask, value, negated } = self.condition;
        let not = if negated { "not " } else { "" };
        write!(f, "{} ({not}{value:#x}/{mask:#x})", self.place)
    }
}

/// The rules that distinguish packets with any of these marks from those without one. Waits for the kernel's answers,
/// up to a second for each.
pub fn rules_about(marks: &[u32]) -> io::Result<Vec<MarkRule>> {
    let mut rules = routing::rules()?;
    if Path::new(NFTABLES).exists() {
        rules.extend(nftables::rules()?);
    }
    rules.retain(|rule| marks.iter().any(|mark| rule.condition.distinguishes(*mark)));
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_tells_the_mark_from_none_is_of_interest() {
        let cases = [
            // Kubernetes marks with one bit, and returns what hasn't got it.
            ((0x4000, 0x4000, false), false),
            ((0x4000, 0x4000, true), false),
            // One of our bits, and both.
            ((0x1000, 0x1000, false), true),
            ((0x1000, 0x1000, true), true),
            ((0x0040, 0x0040, false), true),
            ((0xffff_ffff, 0x1040, false), true),
            // Bits of ours with another value.
            ((0x3f00, 0x0100, false), false),
            ((0x3f00, 0x1000, false), true),
            // "Not the VPN's": we are treated as everybody is.
            ((0xffff_ffff, 0xca6c, true), false),
            // "Any mark", and "none".
            ((0xffff_ffff, 0, true), true),
            ((0xffff_ffff, 0, false), true),
            ((0xffff_0000, 0, false), false),
        ];
        for ((mask, value, negated), expected) in cases {
            let condition = MarkCondition { mask, value, negated };
            assert_eq!(condition.distinguishes(0x1040), expected, "{condition:x?}");
        }
    }

    /// The marks of others that the documentation names.
    #[test]
    fn the_usual_mark_has_no_bit_of_others() {
        let masks: [u32; 8] = [0xc000, 0x0f00, 0xffff_0000, 0x2000, 0x80, 0x00ff_0000, 0x0300, 0x1];
        assert_eq!(masks.into_iter().find(|mask| mask & lvs_common::PROBE_MARK != 0), None);
    }
}
