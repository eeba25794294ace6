//! What is wrong with a value.

use thiserror::Error;

/// A value that can't be used.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ValueFault {
    /// A value of another type is needed.
    #[error("{got} is not allowed here; write {wanted}")]
    Type {
        /// What is needed, with an example.
        wanted: &'static str,
        /// The type of what was written and, where it is short, the value.
        got: String,
    },
    /// A duration written as a bare number.
    #[error("{number} has no unit; write \"{number}ms\" or \"{number}s\", in quotes")]
    BareNumber {
        /// The number as it is written.
        number: String,
    },
    /// Text that is no duration.
    #[error(
        "{text:?} is not a duration; write a number and its unit, such as \"250ms\", \"1s\" or \"1m 30s\""
    )]
    Duration {
        /// The value as it is written; secrets are left out.
        text: String,
    },
    /// A number or duration beyond its bounds.
    #[error("{value} is {}{reason}; write {min} to {max}", beyond(*above, min, max))]
    Range {
        /// The value as it is written, with its quotes.
        value: String,
        /// Whether it is above `max`; otherwise below `min`.
        above: bool,
        /// The least value that is accepted, with its unit.
        min: String,
        /// The greatest value that is accepted, with its unit.
        max: String,
        /// Why there is that bound: empty, or a clause that starts with a comma.
        reason: &'static str,
    },
    /// A word that isn't one of those that are known.
    #[error("{word:?} is unknown; write {}", either(known))]
    Word {
        /// The word as it is written.
        word: String,
        /// The words that are accepted here.
        known: Vec<&'static str>,
    },
    /// The mark that the agent's own probes carry.
    #[error(
        "{mark} ({mark:#x}) is the mark of this agent's own probes, which would go to the VIP; choose another, or another \
         `probe-mark` in `[agent]`"
    )]
    ProbeMark {
        /// The firewall mark, as the kernel has it.
        mark: u32,
    },
    /// The mark of one of this agent's probes to VIPs.
    #[error(
        "{mark} ({mark:#x}) is one of the marks of this agent's probes to VIPs; choose another, or other `vip-marks` in \
         `[agent]`"
    )]
    VipMark {
        /// The firewall mark, as the kernel has it.
        mark: u32,
    },
    /// A range of marks that one mask doesn't tell from others.
    #[error("{first} ({first:#x}) is no multiple of 65536 (0x10000); write one, such as 0x10410000")]
    VipMarks {
        /// The first mark of the range.
        first: u32,
    },
    /// Text that is no address.
    #[error("{text:?} is not a valid {wanted}; names are not resolved")]
    Address {
        /// The value as it is written; secrets are left out.
        text: String,
        /// What is wanted, with an example.
        wanted: &'static str,
    },
    /// An address without a port where one is needed.
    #[error("{text:?} has no port; write it like \"127.0.0.1:9747\"")]
    NoPort {
        /// The address.
        text: String,
    },
    /// A port that isn't between 1 and 65535.
    #[error("port {port:?} in {text:?} is not a number from 1 to 65535")]
    Port {
        /// The port as it is written.
        port: String,
        /// The address and port as they are written.
        text: String,
    },
    /// An address that no single host can have.
    #[error("{address} can't be the address of one host; write a unicast address")]
    NotUnicast {
        /// The address as it is written, without the port where it has one.
        address: String,
    },
    /// Text that is no regular expression.
    #[error("{text:?} is not a regular expression: {problem}")]
    Pattern {
        /// The value as it is written; secrets are left out.
        text: String,
        /// What the library has to say.
        problem: String,
    },
    /// Text that is empty, too long or has characters that don't belong there.
    #[error("{text:?} {problem}")]
    Text {
        /// The value as it is written; secrets are left out.
        text: String,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
}

/// Which of its bounds a value is beyond.
fn beyond(above: bool, min: &str, max: &str) -> String {
    if above { format!("above {max}") } else { format!("below {min}") }
}

/// The words as `"a", "b" or "c"`.
fn either(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
