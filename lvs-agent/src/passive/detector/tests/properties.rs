//! What holds for any state.

use bytemuck::Zeroable as _;

use super::*;

prop_compose! {
    /// Any state at all, with sensible times.
    fn states()(
        networks in any::<[u64; 4]>(),
        attempts in 0_u32..2_000,
        gaps in proptest::collection::vec(0..50 * MS, 0..=16),
        progress in prop_oneof![Just(0), START - SECOND..START],
    ) -> LayerState {
        let mut layer = LayerState { progress_ns: progress, ..LayerState::zeroed() };
        let mut at_ns = START;
        for (since_ns, gap) in layer.since_ns.iter_mut().zip(&gaps) {
            at_ns += gap;
            *since_ns = at_ns;
            layer.last_ns = at_ns;
            layer.waiting += 1;
        }
        layer.networks = lvs_common::Sketch(networks);
        if gaps.is_empty() {
            layer.networks = lvs_common::Sketch::NONE;
        } else {
            layer.networks.add(0);
        }
        layer.attempts = if gaps.is_empty() { 0 } else { attempts.max(layer.waiting) };
        layer
    }
}

proptest! {
    /// A server at rest is not looked at more closely, as nothing would come of that.
    #[test]
    fn nothing_comes_of_a_server_at_rest(
        listener in states(),
        application in states(),
        evidence in any::<[u64; 5]>(),
        after in 0..10 * SECOND,
        half in any::<bool>(),
        rate in 1_u32..1_000,
        before in proptest::option::of(0_u32..3),
    ) {
        let rest = |layer| LayerState { waiting: 0, ..layer };
        let [reply_ns, refused_since_ns, refused_last_ns, unreachable_last_ns, last_ns] =
            evidence.map(|time| START - SECOND + time % (12 * SECOND));
        let again = Retransmissions { networks: evidence[0], since_ns: evidence[1], last_ns, segments: 3, flows: 0 };
        let (listener, application) = (rest(listener), rest(application));
        let state = ServerState {
            listener, application, again, reply_ns, refused_since_ns, refused_last_ns, unreachable_last_ns,
            ..ServerState::zeroed()
        };
        let mut detector = trained(rate, Duration::from_millis(1));
        if let Some(refusals) = before {
            evaluate(&mut detector, refused(refusals, START, START), START);
        }
        let visibility = if half { Visibility::ClientOnly } else { Visibility::Both };
        let view = View { id: ID, visibility, state };
        let nothing = Counting(|_| ServerCounters::zeroed());
        prop_assert_eq!(detector.look_closely(&view, &nothing, START + after), None);
    }

    /// No demand, no suspicion; none within the floor, none of a single network or fewer than asked for.
    #[test]
    fn a_silence_needs_the_shortest_time_and_enough_clients(
        layer in states(),
        after in 0..10 * SECOND,
        half in any::<bool>(),
        rate in 1_u32..1_000,
    ) {
        let mut detector = trained(rate, Duration::from_millis(1));
        let visibility = if half { Visibility::ClientOnly } else { Visibility::Both };
        let view = View { id: ID, visibility, state: listener(layer) };
        if found(&mut detector, &view, |_| ServerCounters::zeroed(), START + after).is_some() {
            prop_assert!(layer.progress_ns > 0);
            prop_assert!(layer.networks.count() >= settings().clients);
            prop_assert!(START + after >= layer.since_ns[0] + 50 * MS);
        }
    }

    /// A proof of life at any time clears its layer, whatever the evidence before.
    #[test]
    fn a_proof_of_life_clears_its_layer(layer in states(), after in 0..10 * SECOND, rate in 1_u32..1_000) {
        let proved = LayerState { progress_ns: START + after, ..LayerState::zeroed() };
        for state in [listener(proved), application(proved)] {
            let mut detector = trained(rate, Duration::from_millis(1));
            evaluate(&mut detector, listener(layer), START + after);
            detector.not_probed(ID, START + after);
            prop_assert_eq!(evaluate(&mut detector, state, START + after), None);
        }
    }

    /// More waiting networks, or longer waits, never make a suspicion weaker.
    #[test]
    fn more_evidence_never_weakens_a_suspicion(
        layer in states(),
        after in 0..5 * SECOND,
        earlier in 0..100 * MS,
        wait_ms in prop_oneof![Just(1_u64), Just(50), Just(200)],
    ) {
        let strength = |layer: LayerState, now: u64| {
            let mut detector = trained(50, Duration::from_millis(wait_ms));
            suspicion(evaluate(&mut detector, listener(layer), now)).map(|(strength, _)| strength)
        };
        let now = START + after;
        let before = strength(layer, now);
        let mut older = layer;
        older.since_ns.iter_mut().for_each(|since_ns| *since_ns = since_ns.saturating_sub(earlier).max(START - MS));
        prop_assert!(strength(older, now) >= before, "older");
        let mut more = layer;
        if (1..16).contains(&layer.waiting) {
            more.since_ns[layer.waiting as usize] = layer.last_ns;
            more.waiting += 1;
            (0..256).find(|&network| more.networks.add(network));
        }
        prop_assert!(strength(more, now) >= before, "one more");
    }

    /// Whenever the machine was started.
    #[test]
    fn only_differences_of_times_matter(layer in states(), after in 0..5 * SECOND, shift in 0..1_000_000 * SECOND) {
        let outcome = |shift: u64| {
            let mut detector = Detector::new(settings());
            let mut counters = ServerCounters::zeroed();
            for second in 0..=60 {
                detector.learn(ID, &counters, START + shift - (60 - second) * SECOND);
                counters.syn += 50;
                counters.handshake.buckets[5] += 50;
            }
            let mut layer = layer;
            layer.since_ns.iter_mut().for_each(|since_ns| *since_ns += shift);
            layer.last_ns += shift;
            if layer.progress_ns > 0 {
                layer.progress_ns += shift;
            }
            evaluate(&mut detector, listener(layer), START + shift + after)
        };
        prop_assert_eq!(outcome(0), outcome(shift));
    }

    /// At any usual rate and wait.
    #[test]
    fn a_server_silent_for_four_times_the_usual_wait_is_suspected(rate in 4_u32..5_000, wait_ms in 1_u64..300) {
        let mut detector = trained(rate, Duration::from_millis(wait_ms));
        let gap = SECOND / u64::from(rate);
        let now = START + (4 * wait_ms * MS).max(50 * MS) + 16 * gap;
        let count = u32::try_from((now - START) / gap).unwrap();
        let state = listener(waiting(count.min(40), gap));
        let suspected = suspicion(evaluate(&mut detector, state, now));
        prop_assert_eq!(suspected, Some((Strength::Strong, Layer::Host)));
    }
}
