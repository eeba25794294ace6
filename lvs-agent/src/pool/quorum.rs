//! Whether a service has enough healthy servers. Pure.

/// How a service's quorum stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuorumState {
    /// Too little is known yet.
    #[default]
    Unknown,
    /// Enough servers are healthy.
    Has,
    /// Too few are.
    Lost,
}

/// Sums of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sums {
    /// Of the servers that are healthy and take connections.
    pub(super) sure: u64,
    /// And of those that take connections or may do so soon: not yet checked, or down by the fast path alone.
    pub(super) hoped: u64,
}

/// The numbers that a quorum is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) weight: u32,
    pub(super) hysteresis: u32,
}

impl QuorumState {
    /// How it stands after `self`. The first time it needs no more than the quorum itself; once it was lost, it is back
    /// with the hysteresis on top, and it is lost with the hysteresis off, but at the latest without any server.
    pub(super) fn next(self, sums: Sums, marks: Marks) -> Self {
        let high = u64::from(marks.weight) + u64::from(marks.hysteresis);
        let low = u64::from(marks.weight.saturating_sub(marks.hysteresis).max(1));
        let (back, lost) = match self {
            Self::Unknown => (marks.weight.into(), marks.weight.into()),
            Self::Has | Self::Lost => (high, low),
        };
        match self {
            Self::Unknown | Self::Has if sums.hoped < lost => Self::Lost,
            Self::Unknown | Self::Lost if sums.sure >= back => Self::Has,
            same => same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The marks, the sums that are sure and hoped for, and how the quorum stands then.
    type Case = (&'static str, Marks, &'static [(u64, u64)], &'static [QuorumState]);

    #[test]
    fn courses() {
        use QuorumState::{Has, Lost, Unknown};
        let cases: [Case; 5] = [
            (
                "one server",
                Marks { weight: 1, hysteresis: 0 },
                &[(0, 1), (1, 1), (0, 0), (1, 1)],
                &[Unknown, Has, Lost, Has],
            ),
            (
                "dead from the start",
                Marks { weight: 1, hysteresis: 0 },
                &[(0, 2), (0, 1), (0, 0)],
                &[Unknown, Unknown, Lost],
            ),
            (
                "suspected by the fast path",
                Marks { weight: 1, hysteresis: 0 },
                &[(2, 2), (0, 2), (0, 0)],
                &[Has, Has, Lost],
            ),
            (
                "three, give or take one",
                Marks { weight: 3, hysteresis: 1 },
                &[(3, 3), (2, 2), (1, 1), (3, 3), (4, 4), (2, 2)],
                &[Has, Has, Lost, Lost, Has, Has],
            ),
            (
                "never without any",
                Marks { weight: 2, hysteresis: 9 },
                &[(2, 2), (1, 1), (0, 0)],
                &[Has, Has, Lost],
            ),
        ];
        for (name, marks, course, expected) in cases {
            let mut standing = Unknown;
            let found: Vec<_> = course
                .iter()
                .map(|(sure, hoped)| {
                    standing = standing.next(Sums { sure: *sure, hoped: *hoped }, marks);
                    assert_eq!(
                        standing.next(Sums { sure: *sure, hoped: *hoped }, marks),
                        standing,
                        "{name}: again"
                    );
                    standing
                })
                .collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
