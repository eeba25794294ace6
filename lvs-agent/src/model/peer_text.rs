//! Text that somebody else has sent: a server, a relay, a certificate's owner. It is shown to people, in the log,
//! mails, the status and on terminals, where it must not make lines, colours or directions of its own.

use std::{fmt, ops::Deref};

/// The most characters of it that are kept: enough for a few sentences, too few to hide something else in a log.
const MOST: usize = 500;

/// Text from outside, on one line and without anything invisible. There is no way to one that isn't.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PeerText(String);

impl PeerText {
    /// The beginning of `bytes`, as text that can be shown: a blank in place of each character that can't, no blanks at
    /// the end.
    #[must_use]
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        let text = String::from_utf8_lossy(bytes.as_ref());
        let shown: String = text.chars().map(|c| if is_shown(c) { c } else { ' ' }).take(MOST).collect();
        Self(shown.trim_end().to_owned())
    }

    /// The same of the first `most` bytes.
    #[must_use]
    pub fn beginning(bytes: impl AsRef<[u8]>, most: usize) -> Self {
        let bytes = bytes.as_ref();
        Self::new(bytes.get(..most).unwrap_or(bytes))
    }
}

/// Whether a character stays in its place and is seen there. A terminal obeys none that does.
#[must_use]
pub fn is_shown(c: char) -> bool {
    // C0, DEL and C1 (U+0000 to U+001F, U+007F to U+009F), among them the beginnings of all escape sequences.
    let is_control = c.is_control();
    // Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties.txt, which has the directions (Bidi_Control), and
    // what ends lines or annotates them.
    let is_invisible = matches!(
        u32::from(c),
        0x00ad
            | 0x034f
            | 0x061c
            | 0x115f..=0x1160
            | 0x17b4..=0x17b5
            | 0x180b..=0x180f
            | 0x200b..=0x200f
            | 0x2028..=0x202e
            | 0x2060..=0x206f
            | 0x3164
            | 0xfe00..=0xfe0f
            | 0xfeff
            | 0xffa0
            | 0xfff0..=0xfffb
            | 0x1_bca0..=0x1_bca3
            | 0x1_d173..=0x1_d17a
            | 0xe_0000..=0xe_0fff
    );
    // Unicode promises that these will never be characters.
    let is_none = u32::from(c) & 0xfffe == 0xfffe || matches!(u32::from(c), 0xfdd0..=0xfdef);
    !(is_control || is_invisible || is_none)
}

impl Deref for PeerText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for PeerText {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for PeerText {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// In quotes, as text.
impl fmt::Debug for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_move_the_cursor_or_hide_is_a_blank() {
        let cases = [
            ("plain text, \"quoted\"", "plain text, \"quoted\""),
            ("näïve 日本語 😀", "näïve 日本語 😀"),
            ("a\nforged line", "a forged line"),
            ("a\r\nb\tc\0d", "a  b c d"),
            ("\u{1b}[31mred\u{1b}[0m", " [31mred [0m"),
            ("\u{9b}31mred\u{85}next", " 31mred next"),
            ("\u{202e}gnp.exe\u{2066}x\u{200f}", " gnp.exe x"),
            ("a\u{2028}b\u{2029}c\u{200b}d\u{feff}e", "a b c d e"),
            ("a\u{e0041}b\u{fffe}c\u{7f}d", "a b c d"),
            ("end \n\n", "end"),
            ("\n", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(&*PeerText::new(text), expected, "{text:?}");
        }
        assert_eq!(&*PeerText::new(b"\xff\x1bx"), "\u{fffd} x");
        assert_eq!(PeerText::new("x".repeat(1000)).len(), MOST);
        assert_eq!(&*PeerText::beginning("äb", 1), "\u{fffd}");
        assert_eq!(format!("{} {:?}", PeerText::new("a\"b"), PeerText::new("a\"b")), "a\"b \"a\\\"b\"");
    }

    proptest! {
        #[test]
        fn it_is_one_line_of_bounded_length_and_stays_as_it_is(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let text = PeerText::new(&bytes);
            prop_assert!(text.chars().all(is_shown) && text.chars().count() <= MOST);
            prop_assert_eq!(text.lines().count() <= 1, true);
            prop_assert_eq!(&PeerText::new(text.as_bytes()), &text);
        }
    }
}
