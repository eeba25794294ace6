//! What is wrong with a key.

use thiserror::Error;

/// A key is unknown, missing, or doesn't belong here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyFault {
    /// There is no such key.
    #[error("unknown key {key:?} in {section}; {}", hint(nearest.as_deref(), known))]
    Unknown {
        /// The key as written.
        key: String,
        /// The section that it is in.
        section: &'static str,
        /// The known key that looks most like it.
        nearest: Option<String>,
        /// All keys that the section has.
        known: Vec<&'static str>,
    },
    /// A key must be there and isn't.
    #[error("{section} has no {key:?}; add {example}")]
    Missing {
        /// The key.
        key: &'static str,
        /// The section that it belongs into.
        section: &'static str,
        /// What could be written.
        example: &'static str,
    },
    /// A key that only some kinds of tunnel have.
    #[error("{key:?} has no meaning for a tunnel of type {kind:?}; remove it, or choose another type")]
    WrongTunnel {
        /// The key.
        key: &'static str,
        /// The tunnel's type.
        kind: &'static str,
    },
    /// A key that only some kinds of check have.
    #[error("{key:?} has no meaning for a check of type {kind:?}; remove it, or choose another type")]
    WrongCheck {
        /// The key.
        key: &'static str,
        /// The check's type.
        kind: &'static str,
    },
}

/// The second half of the message about an unknown key.
fn hint(nearest: Option<&str>, known: &[&str]) -> String {
    match nearest {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => format!("known here: {}", known.join(", ")),
    }
}
