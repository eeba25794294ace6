//! Attributes of netlink messages as bytes (`struct nlattr` in `linux/netlink.h`): of rules, which no type here has.

/// Length and type before each attribute's payload.
const HEADER: usize = 4;
/// The bits of a type that are none: nested, and in network byte order.
const TYPE: u16 = 0x3fff;

/// The attributes in these bytes, up to the first that doesn't fit.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & TYPE;
        let payload = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// The payload of the first attribute of that type.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, payload)| payload)
}

/// A number in the machine's byte order.
pub(super) fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A number in network byte order.
pub(super) fn network_number(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind)?.try_into().ok().map(u32::from_be_bytes)
}

/// A text up to its closing NUL.
pub(super) fn text(bytes: &[u8], kind: u16) -> String {
    let bytes = find(bytes, kind).unwrap_or_default();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
pub(super) fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + payload.len()).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_packed_is_found() {
        let bytes = [attribute(1, b"abc\0"), attribute(0x8002, &7_u32.to_ne_bytes())].concat();
        assert_eq!(text(&bytes, 1), "abc");
        assert_eq!(number(&bytes, 2), Some(7));
        assert_eq!(network_number(&bytes, 2), Some(7_u32.swap_bytes()));
        assert_eq!(number(&bytes, 3), None);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(attributes(&bytes).count() <= bytes.len() / HEADER);
        }
    }
}
