//! As much of BER as LDAP's messages here take (X.690; RFC 4511, 5.1).

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;

/// Writes elements, one after the other.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn element(&mut self, tag: u8, content: &[u8]) {
        self.0.push(tag);
        let length = content.len();
        if let Ok(short @ ..0x80) = u8::try_from(length) {
            self.0.push(short);
        } else {
            let digits = length.to_be_bytes();
            let zeros = digits.iter().take_while(|digit| **digit == 0).count();
            // At most eight.
            self.0.push(0x80 | u8::try_from(digits.len() - zeros).unwrap_or(8));
            self.0.extend_from_slice(&digits[zeros..]);
        }
        self.0.extend_from_slice(content);
    }

    pub(super) fn nested(&mut self, tag: u8, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.element(tag, &inner.0);
    }

    pub(super) fn sequence(&mut self, fill: impl FnOnce(&mut Self)) {
        self.nested(SEQUENCE, fill);
    }

    /// A number below 128.
    pub(super) fn integer(&mut self, number: u8) {
        self.element(INTEGER, &[number]);
    }

    /// A number below 128.
    pub(super) fn enumerated(&mut self, number: u8) {
        self.element(ENUMERATED, &[number]);
    }

    pub(super) fn boolean(&mut self, value: bool) {
        self.element(BOOLEAN, &[if value { 0xff } else { 0 }]);
    }

    pub(super) fn octets(&mut self, content: &[u8]) {
        self.element(OCTETS, content);
    }
}

/// An element that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
}

impl Element<'_> {
    /// Its content as a number without sign; `None` if it is negative or too large.
    pub(super) fn number(&self) -> Option<u32> {
        match self.content {
            digits if digits.first().is_none_or(|first| *first >= 0x80) => None,
            digits if digits.len() <= 4 => {
                Some(digits.iter().fold(0, |number, digit| number << 8 | u32::from(*digit)))
            }
            _ => None,
        }
    }
}

/// The first element, and what follows it.
pub(super) fn read(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match (first < 0x80, first & 0x7f) {
        (true, length) => (usize::from(length), rest),
        (false, count @ 1..=4) => {
            let (digits, rest) = rest.split_at_checked(usize::from(count))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((Element { tag, content }, rest))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn an_encoded_value_is_decoded(length in prop_oneof![0_usize..600, 65_000_usize..70_000], byte: u8, rest in vec(any::<u8>(), 0..9)) {
            let content = std::vec![byte; length];
            let mut writer = Writer::default();
            writer.octets(&content);
            let bytes = [writer.into_bytes(), rest.clone()].concat();
            prop_assert_eq!(read(&bytes), Some((Element { tag: OCTETS, content: &content }, &rest[..])));
        }

        #[test]
        fn any_bytes_are_read(bytes in vec(any::<u8>(), 0..20)) {
            if let Some((element, rest)) = read(&bytes) {
                prop_assert!(element.content.len() + rest.len() + 2 <= bytes.len());
                element.number();
            }
        }
    }
}
