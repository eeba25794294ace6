//! A full ring buffer.

use lvs_tests::packets::{
    attribution::Direction,
    builder::{ACK, RST, SYN, tcp},
};

use crate::{
    fixture::{MASQUERADED, client, server},
    harness::{Harness, OUT},
};

/// More edges than the ring buffer holds; each refusal and proof of life is one.
const TURNS: u32 = 2800;

#[test]
fn edges_that_find_the_ring_full_are_counted_and_the_state_still_shows_the_refusals() {
    let mut harness = Harness::new();
    let mut sequence = 0_u32;
    let mut turn = |harness: &mut Harness, refused: bool| {
        sequence += 1000;
        harness.run(OUT, &tcp(client(), server(), SYN).sequence(sequence).frame());
        let flags = if refused { RST | ACK } else { SYN | ACK };
        harness.run(Direction::In, &tcp(server(), client(), flags).acknowledging(sequence + 1).frame());
    };
    for _ in 0..TURNS {
        turn(&mut harness, true);
        turn(&mut harness, false);
    }
    let lost = harness.unattributed().edge_lost;
    assert!(lost > 0, "{TURNS} turns don't fill the ring");
    turn(&mut harness, true);
    assert_eq!(harness.unattributed().edge_lost, lost + 1);
    let state = harness.state(MASQUERADED);
    assert_eq!(state.refusals, 1);
    assert!(state.refused_since_ns > 0 && state.refused_last_ns == state.refused_since_ns);
    let kept = harness.edges().len() as u64;
    assert_eq!(kept + lost + 1, u64::from(2 * TURNS + 1));
}
