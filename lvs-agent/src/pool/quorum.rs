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
    /// Servers that take connections; those retained, or not yet checked, count as well.
    pub(super) serving: u64,
    /// Servers that take connections, or may do so: all that are not yet checked count as well.
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

/// What the kernel's table says of a quorum that isn't known yet: how an earlier agent has left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presumed {
    /// Nothing.
    Nothing,
    /// There are backups, and servers serve without them.
    Had,
    /// Backups serve.
    Lost,
}

impl Presumed {
    /// The presumption where servers serve or not, and each of these backups does or does not.
    pub(super) fn of(servers_serve: bool, backups: impl IntoIterator<Item = bool>) -> Self {
        let backups: Vec<bool> = backups.into_iter().collect();
        match (backups.contains(&true), servers_serve && !backups.is_empty()) {
            (true, _) => Self::Lost,
            (false, true) => Self::Had,
            (false, false) => Self::Nothing,
        }
    }
}

impl QuorumState {
    /// The state that follows `self`. The first time the quorum alone is enough, unless the table shows what it was
    /// before; afterwards it is regained at the quorum plus the hysteresis, and lost below the quorum minus the
    /// hysteresis, at the latest without any server.
    pub(super) fn next(self, sums: Sums, marks: Marks, presumed: Presumed) -> Self {
        let quorum = u64::from(marks.weight);
        let high = quorum + u64::from(marks.hysteresis);
        let low = u64::from(marks.weight.saturating_sub(marks.hysteresis).max(1));
        let (back, lost) = match (self, presumed) {
            (Self::Unknown, Presumed::Nothing) => (quorum, quorum),
            (Self::Unknown, Presumed::Had) => (low, low),
            (Self::Unknown, Presumed::Lost) => (high, high),
            (Self::Has | Self::Lost, _) => (high, low),
        };
        match self {
            Self::Unknown | Self::Has if sums.possible < lost => Self::Lost,
            Self::Unknown | Self::Lost if sums.healthy >= back => Self::Has,
            // Its servers are gone, and nothing is known yet of those that came in their place.
            Self::Has if sums.serving < lost => Self::Unknown,
            same => same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name, the marks, the sums (healthy, possible; all of these serve), and the state after each.
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
                    let sums = Sums { healthy: *healthy, serving: *possible, possible: *possible };
                    state = state.next(sums, marks, Presumed::Nothing);
                    let again = state.next(sums, marks, Presumed::Nothing);
                    assert_eq!(again, state, "{name}: again");
                    state
                })
                .collect();
            assert_eq!(states, expected, "{name}");
        }
    }
    #[test]
    fn before_the_quorum_is_known_the_table_shows_what_it_was() {
        use QuorumState::{Has, Lost, Unknown};
        let marks = Marks { weight: 10, hysteresis: 3 };
        // Healthy and serving, possible; by what the table shows: nothing, it was had, it was lost.
        let cases = [
            ((0, 20), [Unknown, Unknown, Unknown]),
            ((8, 20), [Unknown, Has, Unknown]),
            ((12, 20), [Has, Has, Unknown]),
            ((13, 20), [Has, Has, Has]),
            ((8, 8), [Lost, Has, Lost]),
            ((6, 6), [Lost, Lost, Lost]),
            ((12, 12), [Has, Has, Lost]),
        ];
        for ((healthy, possible), expected) in cases {
            let sums = Sums { healthy, serving: healthy, possible };
            let known = [Presumed::Nothing, Presumed::Had, Presumed::Lost];
            assert_eq!(known.map(|presumed| Unknown.next(sums, marks, presumed)), expected, "{sums:?}");
        }
    }

    #[test]
    fn a_quorum_of_servers_that_are_gone_is_not_known() {
        let marks = Marks { weight: 5, hysteresis: 0 };
        let next = |serving, possible| {
            QuorumState::Has.next(Sums { healthy: serving, serving, possible }, marks, Presumed::Nothing)
        };
        assert_eq!(
            [next(5, 5), next(0, 5), next(0, 0)],
            [QuorumState::Has, QuorumState::Unknown, QuorumState::Lost]
        );
    }
}
