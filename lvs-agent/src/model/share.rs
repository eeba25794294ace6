//! A part of a whole.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A part of a whole, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Share(f64);

/// A number that is no part of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a share is a number from 0 to 1, such as 0.5")]
pub struct NoShare;

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self(1.0);

    /// `part` of `whole`, never more than all of it; of nothing it is none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "sums of weights are far below 2^52")]
    pub fn of(part: u64, whole: u64) -> Self {
        if whole == 0 { Self(0.0) } else { Self((part as f64 / whole as f64).min(1.0)) }
    }

    /// As a number from 0 to 1.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// In whole percent, rounded down, so that only all of it is 100.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is from 0 to 100 before it becomes an integer"
    )]
    pub fn percent(self) -> u8 {
        // A hair above, as 0.57 * 100 is below 57.
        (self.0 * 100.0 + 1e-9) as u8
    }
}

/// It is never NaN.
impl Eq for Share {}

impl TryFrom<f64> for Share {
    type Error = NoShare;

    fn try_from(number: f64) -> Result<Self, NoShare> {
        if (0.0..=1.0).contains(&number) { Ok(Self(number)) } else { Err(NoShare) }
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> Self {
        share.0
    }
}

impl FromStr for Share {
    type Err = NoShare;

    fn from_str(text: &str) -> Result<Self, NoShare> {
        text.parse::<f64>().map_err(|_| NoShare)?.try_into()
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.percent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_from_0_to_1() {
        for text in ["-0.1", "1.01", "NaN", "inf", "half", ""] {
            assert_eq!(text.parse::<Share>(), Err(NoShare), "{text}");
        }
        let shares =
            [(0, 0, 0), (0, 5, 0), (1, 3, 33), (57, 100, 57), (999, 1000, 99), (3, 3, 100), (9, 3, 100)];
        for (part, whole, percent) in shares {
            assert_eq!(Share::of(part, whole).percent(), percent, "{part} of {whole}");
        }
        assert_eq!("0.5".parse(), Ok(Share::of(1, 2)));
    }
}
