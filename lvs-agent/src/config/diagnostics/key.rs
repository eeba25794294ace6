//! What is wrong with a key.

use thiserror::Error;

/// A key is unknown, missing, or doesn't belong here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyFault {
    /// There is no such key.
    #[error("unknown key {key:?} in {section}; {}", hint(nearest.as_deref(), known))]
    Unknown {
        /// The key as it is written.
        key: String,
        /// The section's header as messages have it, such as `[[service]]`.
        section: &'static str,
        /// The known key that looks most like it.
        nearest: Option<String>,
        /// All keys that the section has.
        known: Vec<&'static str>,
    },
    /// A key must be there and isn't.
    #[error("{section} has no {key:?}; add {example}")]
    Missing {
        /// The key's name.
        key: &'static str,
        /// The section's header as messages have it, such as `[[service]]`.
        section: &'static str,
        /// A line that could be added, or a choice of them.
        example: &'static str,
    },
    /// A key that only some kinds of tunnel have.
    #[error("{key:?} has no meaning for a tunnel of type {kind:?}; remove it, or choose another type")]
    WrongTunnel {
        /// The key's name.
        key: &'static str,
        /// The value of `type` in the tunnel's table.
        kind: &'static str,
    },
    /// A key that only some kinds of check have.
    #[error("{key:?} has no meaning for a check of type {kind:?}; remove it, or choose another type")]
    WrongCheck {
        /// The key's name.
        key: &'static str,
        /// The value of `type` in the check's table.
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
