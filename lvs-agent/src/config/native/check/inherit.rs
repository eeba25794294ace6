//! What a check takes over from the one above it: a server's from the service's, and that from the one in `[defaults]`.
//!
//! Key by key: what a check says itself counts, and the rest holds as it is written above. What is asked (the type, its
//! keys and the port) only goes on to a check of the same type, since the same word means something else elsewhere; how
//! often, how long and from where it is asked goes on to any.

use toml::{Spanned, de::DeValue};

use super::{KEYS, ReadCheck};
use crate::config::native::section::Section;

/// The keys that say how a check is made, whatever it asks.
pub(in crate::config::native) const MANNER: [&str; 10] = [
    "interval",
    "soft-interval",
    "timeout",
    "connects-between",
    "via",
    "source",
    "device",
    "mark",
    "connect-timeout",
    "read-timeout",
];

/// The keys that every type has, but for those in [`KEYS`].
const OF_EVERY_TYPE: [&str; 4] = ["type", "interval", "soft-interval", "timeout"];

/// Keys of which one stands for the other, or belongs to it: if the first is written, the second is not taken over.
const INSTEAD: [(&str, &str); 9] = [
    ("path", "pages"),
    ("send", "send-hex"),
    ("send-hex", "send"),
    ("tls-ca", "tls-verify"),
    ("tls-verify", "tls-ca"),
    ("tls-cert", "tls-key"),
    ("basic-auth-file", "bearer-token-file"),
    ("bearer-token-file", "basic-auth-file"),
    ("user", "password"),
];

/// How much a check takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config::native) enum Extent {
    /// What is asked, too.
    Whole,
    /// Only how it is asked: a backup is another kind of server.
    Manner,
}

/// Adds to the table of a check what it takes over from those above it. Returns the keys above that it doesn't take
/// over, as they belong to another type of check.
pub(super) fn inherit<'i>(
    section: &mut Section<'i>,
    above: &[ReadCheck<'i>],
    extent: Extent,
) -> Vec<&'static str> {
    let alike = if extent == Extent::Whole { alike(section, above) } else { None };
    let mut left = Vec::new();
    for key in OF_EVERY_TYPE.into_iter().chain(KEYS.iter().copied()) {
        let is_manner = MANNER.contains(&key);
        let value = match alike {
            Some(check) => check.written.get(key),
            None if is_manner => agreed(above, key),
            None => None,
        };
        match value {
            Some(value) if !is_replaced(section, key) => section.inherit(key, value.clone()),
            None if alike.is_none()
                && key != "type"
                && (is_manner || extent == Extent::Whole)
                && !section.has(key)
                && above.iter().any(|check| check.written.contains_key(key)) =>
            {
                left.push(key);
            }
            _ => {}
        }
    }
    left
}

/// The check above that asks the same: the one with the type that is written here, or the only one if none is written
/// here or there.
fn alike<'a, 'i>(section: &Section<'i>, above: &'a [ReadCheck<'i>]) -> Option<&'a ReadCheck<'i>> {
    let kind = section.text("type");
    let only = match above {
        [only] if kind.is_none() || !only.has_type => Some(only),
        _ => None,
    };
    let of_kind =
        |check: &&ReadCheck<'i>| check.written.get("type").and_then(|kind| kind.get_ref().as_str()) == kind;
    above.iter().filter(|_| kind.is_some()).find(of_kind).or(only)
}

/// The value of a key that all checks above agree on.
fn agreed<'a, 'i>(above: &'a [ReadCheck<'i>], key: &str) -> Option<&'a Spanned<DeValue<'i>>> {
    let word = |value: &Spanned<DeValue<'i>>| {
        let value = value.get_ref();
        value.as_integer().map(ToString::to_string).or_else(|| value.as_str().map(str::to_owned))
    };
    let (first, others) = above.split_first()?;
    let value = first.written.get(key)?;
    let agrees = |check: &ReadCheck<'i>| check.written.get(key).map(word) == Some(word(value));
    others.iter().all(agrees).then_some(value)
}

/// Whether what is written in a check takes the place of this key.
fn is_replaced(section: &Section<'_>, key: &str) -> bool {
    let is_unencrypted = section.text("tls") == Some("none") && key.starts_with("tls-");
    is_unencrypted
        || INSTEAD.iter().any(|(written, replaced)| *replaced == key && section.is_written(written))
}
