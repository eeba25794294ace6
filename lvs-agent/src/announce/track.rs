//! What keepalived's `track_file` reads: 0 is well, and anything else is not, or is added to a priority. Pure.

use crate::{
    control::HealthVerdict,
    engine::served::{Criterion, Served},
    model::TrackValue,
};

/// How well a service is, the greater the better: 0 is well.
pub(super) type Score = i16;

/// The score of a service; `None`: it isn't known yet.
pub(super) fn score(served: &Served, criterion: Criterion, value: TrackValue) -> Option<Score> {
    match (served.verdict(criterion), value) {
        (HealthVerdict::Unknown, _) => None,
        (HealthVerdict::Healthy, TrackValue::Fault) => Some(0),
        (HealthVerdict::Healthy, TrackValue::Weight(weight)) => {
            let missing = u64::from(weight) * served.whole.saturating_sub(served.up);
            // What is missing at all counts; without any weight all of it is.
            let lost = missing.div_ceil(served.whole.max(1)).min(weight.into());
            let lost = if served.whole == 0 { weight.into() } else { lost };
            Some(-Score::try_from(lost).unwrap_or(Score::MAX))
        }
        _ => Some(worst(value)),
    }
}

/// The worst score.
pub(super) fn worst(value: TrackValue) -> Score {
    match value {
        TrackValue::Fault => -1,
        TrackValue::Weight(weight) => -Score::from(weight),
    }
}

/// The file's text.
pub(super) fn text(score: Score, value: TrackValue) -> String {
    match value {
        TrackValue::Fault => format!("{}\n", u8::from(score < 0)),
        TrackValue::Weight(_) => format!("{score}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Protocol, ServiceKey},
        pool::QuorumState,
    };

    #[test]
    fn a_score_is_0_or_the_part_of_the_weight_that_is_missing() {
        let weight = TrackValue::Weight(100);
        let cases = [
            (QuorumState::Has, (4, 4), TrackValue::Fault, Some("0\n")),
            (QuorumState::Has, (1, 4), TrackValue::Fault, Some("0\n")),
            (QuorumState::Lost, (0, 4), TrackValue::Fault, Some("1\n")),
            (QuorumState::Unknown, (0, 4), TrackValue::Fault, None),
            (QuorumState::Has, (4, 4), weight, Some("0\n")),
            (QuorumState::Has, (3, 4), weight, Some("-25\n")),
            (QuorumState::Has, (2, 3), weight, Some("-34\n")),
            (QuorumState::Has, (999, 1000), TrackValue::Weight(1), Some("-1\n")),
            (QuorumState::Lost, (1, 4), weight, Some("-100\n")),
            (QuorumState::Unknown, (1, 4), weight, None),
            (QuorumState::Lost, (0, 0), TrackValue::Weight(253), Some("-253\n")),
        ];
        let address = ([192, 0, 2, 80], 80).into();
        let key = ServiceKey::Address { protocol: Protocol::Tcp, address };
        for (quorum, (up, whole), value, expected) in cases {
            let served = Served { name: "web".into(), key, quorum, up, whole, backups_in: 0 };
            let found = score(&served, Criterion::default(), value).map(|score| text(score, value));
            assert_eq!(found.as_deref(), expected, "{served:?} {value:?}");
        }
    }
}
