//! Whether a service has enough healthy servers. Pure.

/// Whether a service has its quorum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuorumState {
    /// Too few servers have been checked to tell.
    #[default]
    Unknown,
    /// Enough servers are healthy.
    Has,
    /// Too few are.
    Lost,
}

/// Sums of the servers' weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sums {
    /// Servers that are healthy and take connections.
    pub(super) healthy: u64,
    /// Servers that take connections, or may do so: those not yet checked, or retained, count as well.
    pub(super) possible: u64,
}

/// The configured quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    /// The sum of weights that makes the quorum, at least 1.
    pub(super) weight: u32,
    /// How far above it must be regained, and how far below it is lost.
    pub(super) hysteresis: u32,
}

impl QuorumState {
    /// The state that follows `self`. The first time the quorum alone is enough; afterwards it is regained at the
    /// quorum plus the hysteresis, and lost below the quorum minus the hysteresis, at the latest without any server.
    pub(super) fn next(self, sums: Sums, marks: Marks) -> Self {
        let high = u64::from(marks.weight) + u64::from(marks.hysteresis);
        let low = u64::from(marks.weight.saturating_sub(marks.hysteresis).max(1));
        let (back, lost) = match self {
            Self::Unknown => (marks.weight.into(), marks.weight.into()),
            Self::Has | Self::Lost => (high, low),
        };
        match self {
            Self::Unknown | Self::Has if sums.possible < lost => Self::Lost,
            Self::Unknown | Self::Lost if sums.healthy >= back => Self::Has,
            same => same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name, the marks, the sums (healthy, possible), and the state after each.
    type Case = (&'static str, Marks, &'static [(u64, u64)], &'static [QuorumState]);

    #[test]
    fn sums_of_weights_lead_to_quorum_states() {
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
                "retained by the fast path's limit",
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
        for (name, marks, sums, expected) in cases {
            let mut state = Unknown;
            let states: Vec<_> = sums
                .iter()
                .map(|(healthy, possible)| {
                    let sums = Sums { healthy: *healthy, possible: *possible };
                    state = state.next(sums, marks);
                    assert_eq!(state.next(sums, marks), state, "{name}: again");
                    state
                })
                .collect();
            assert_eq!(states, expected, "{name}");
        }
    }
}
