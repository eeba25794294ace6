//! What pauses after a suspicion that was false, and what doesn't.

use super::*;

/// A state with evidence of one kind, the newest of it at a time.
type State = fn(u64) -> ServerState;

/// Whoever forges one kind of evidence must not mute the others.
#[test]
fn only_the_kind_of_evidence_that_was_refuted_pauses() {
    let silent: State = |at| listener(waiting_after(at - 120 * MS, 12, 10 * MS));
    let kinds: [(&str, State); 3] = [
        ("refused", |at| refused(3, at, at)),
        ("unreachable", |at| unreachable(2, at)),
        ("sent again", |at| again(9, 9, at, at)),
    ];
    for (name, forged) in kinds {
        for (other, real) in kinds.into_iter().chain([("silent", silent)]) {
            let mut detector = trained(50, Duration::from_millis(1));
            let mut now = START + SECOND;
            for pause in [250, 500, 1_000, 2_000, 4_000, 5_000] {
                assert!(suspicion(evaluate(&mut detector, forged(now), now)).is_some(), "{name}");
                now += MS;
                detector.observe(ID, Observation::Cleared(Layer::Host), now);
                now += (pause - 1) * MS;
                assert!(suspicion(evaluate(&mut detector, forged(now), now)).is_none(), "{name} pauses");
                now += MS;
            }
            // Now the pause is at its longest.
            assert!(suspicion(evaluate(&mut detector, forged(now), now)).is_some(), "{name}");
            detector.observe(ID, Observation::Cleared(Layer::Host), now);
            now += 200 * MS;
            let is_raised = suspicion(evaluate(&mut detector, real(now), now)).is_some();
            assert_eq!(is_raised, name != other, "{other} after {name}");
        }
    }
}

/// A director that takes over has seen none of what waits.
#[test]
fn after_a_restart_no_silence_counts_from_before() {
    let silent = |at: u64| listener(waiting_after(at - 120 * MS, 12, 10 * MS));
    let now = START + SECOND;
    let mut detector = trained(50, Duration::from_millis(1));
    assert!(suspicion(evaluate(&mut detector, silent(now), now)).is_some(), "without a restart");
    let mut detector = trained(50, Duration::from_millis(1));
    detector.restart(now);
    assert!(suspicion(evaluate(&mut detector, silent(now), now)).is_none(), "at once");
    assert!(suspicion(evaluate(&mut detector, silent(now), now + 10 * MS)).is_none(), "soon after");
    let later = now + SECOND;
    assert!(suspicion(evaluate(&mut detector, silent(later), later)).is_some(), "later silence counts");
}
