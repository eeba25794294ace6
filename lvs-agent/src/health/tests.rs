use std::{num::NonZeroU32, time::Duration};

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn rules(combine: Combine) -> HealthRules {
    let number = |n| NonZeroU32::new(n).unwrap();
    HealthRules {
        thresholds: Thresholds { fall: number(3), rise: number(2) },
        combine,
        damping: FlapDamping::default(),
    }
}

fn baseline(check: usize, success: bool) -> Sample {
    Sample { check: Some(check), success, source: Source::Baseline }
}

/// `a`/`b`: a failure of the first or second check, `A`/`B`: a success, `x`/`X`: a confirming probe of the host.
fn states(combine: Combine, results: &str) -> Vec<String> {
    let mut health = Health::new(&rules(combine), 2);
    let now = Instant::now();
    let states = results.chars().map(|result| {
        let sample = match result {
            'x' | 'X' => Sample { check: None, success: result == 'X', source: Source::Confirm },
            _ => baseline(usize::from(result.eq_ignore_ascii_case(&'b')), result.is_uppercase()),
        };
        health.observe(sample, now);
        health.state().to_string()
    });
    states.collect()
}

#[test]
fn several_checks_are_combined_into_one_state() {
    use Combine::{All, Any};
    let cases: [(&str, Combine, &str, &[&str]); 7] = [
        ("all: known when all are", All, "AB", &["unknown", "up"]),
        ("all: one takes it down", All, "ABaaa", &["unknown", "up", "suspect", "suspect", "down"]),
        (
            "all: each counts for itself",
            All,
            "ABaabA",
            &["unknown", "up", "suspect", "suspect", "suspect", "suspect"],
        ),
        ("any: known when one is", Any, "A", &["up"]),
        (
            "any: one alone doesn't take it down, both do",
            Any,
            "ABaaabbb",
            &["up", "up", "up", "up", "up", "suspect", "suspect", "down"],
        ),
        (
            "any: and one brings it back",
            Any,
            "ABaaabbbAA",
            &["up", "up", "up", "up", "up", "suspect", "suspect", "down", "recovering", "up"],
        ),
        ("the host is all of them", Any, "ABxxx", &["up", "up", "suspect", "suspect", "down"]),
    ];
    for (name, combine, results, expected) in cases {
        assert_eq!(states(combine, results), expected, "{name}");
    }
}

#[test]
fn a_new_number_of_checks_keeps_the_state() {
    let now = Instant::now();
    let mut health = Health::new(&rules(Combine::All), 1);
    health.observe(baseline(0, true), now);
    health.set_rules(&rules(Combine::All), 2);
    assert_eq!(health.state(), State::Up);
    health.observe(baseline(1, true), now);
    assert_eq!(health.state(), State::Up);
    for _ in 0..3 {
        health.observe(baseline(1, false), now);
    }
    health.set_rules(&rules(Combine::All), 1);
    assert!(health.state().is_hard_down());
    assert!(health.observe(baseline(7, true), now).is_none(), "there is no such check");
}

/// Runs one check every quarter of a second, successful as `healthy` says. Returns the relapses known at each fall, and
/// the times of all transitions between up and down.
fn flapping(seconds: u32, healthy: impl Fn(Duration) -> bool) -> (Vec<u32>, Vec<Duration>) {
    let start = Instant::now();
    let mut health = Health::new(&rules(Combine::All), 1);
    let (mut relapses, mut moves) = (Vec::new(), Vec::new());
    for tick in 0..seconds * 4 {
        let at = tick * SECOND / 4;
        let up = health.state().is_up();
        health.observe(baseline(0, healthy(at)), start + at);
        if health.state().is_up() != up {
            moves.push(at);
            if up {
                relapses.push(health.relapses());
            }
        }
    }
    (relapses, moves)
}

#[test]
fn a_server_that_flaps_every_two_seconds_stays_out() {
    let (relapses, moves) = flapping(600, |at| at.as_secs() % 4 < 2);
    // Up, down, up, down: then it would have to be healthy for two seconds, and is so for less.
    assert_eq!((relapses.as_slice(), moves.len()), ([0, 1].as_slice(), 4), "{moves:?}");
}

#[test]
fn the_penalty_doubles_and_is_forgotten() {
    // Healthy until it is up and for five seconds more, then down for a second.
    let start = Instant::now();
    let mut health = Health::new(&rules(Combine::All), 1);
    let mut now = start;
    let mut tick = |health: &mut Health, success| {
        now += SECOND / 4;
        health.observe(baseline(0, success), now);
        now
    };
    let mut waits = Vec::new();
    for round in 0..9 {
        let recovered = tick(&mut health, true);
        let mut at = recovered;
        while !health.state().is_up() {
            at = tick(&mut health, true);
        }
        waits.push((at - recovered).as_secs_f32());
        // The last time it stays up for longer than is remembered.
        for _ in 0..if round == 7 { 4 * 301 } else { 20 } {
            tick(&mut health, true);
        }
        while !health.state().is_hard_down() {
            tick(&mut health, false);
        }
    }
    assert_eq!(waits, [0.0, 0.25, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 0.25]);
}

#[test]
fn a_penalty_of_zero_damps_nothing() {
    let start = Instant::now();
    let mut rules = rules(Combine::All);
    rules.damping.penalty = Duration::ZERO;
    let mut health = Health::new(&rules, 1);
    for tick in 0..400_u32 {
        health.observe(baseline(0, tick % 20 < 10), start + tick * SECOND);
        assert!(!matches!(health.state(), State::Damped { .. }));
    }
}

/// A failed burst takes a server down, and after `out` its baseline check answers.
fn stall(health: &mut Health, now: Instant, out: Duration) {
    for _ in 0..3 {
        health.observe(Sample { check: None, success: false, source: Source::Confirm }, now);
    }
    assert!(health.state().is_provisional());
    health.observe(baseline(0, true), now + out);
}

#[test]
fn a_stall_costs_nothing_even_a_server_that_has_relapsed() {
    let start = Instant::now();
    let mut health = Health::new(&rules(Combine::All), 1);
    let mut now = start;
    let mut results = |health: &mut Health, successes: u32, failures: u32| {
        for success in (0..successes).map(|_| true).chain((0..failures).map(|_| false)) {
            now += SECOND;
            health.observe(baseline(0, success), now);
        }
        now
    };
    results(&mut health, 1, 3);
    results(&mut health, 2, 3);
    assert_eq!((health.relapses(), health.state().is_hard_down()), (1, true));
    let mut now = results(&mut health, 20, 0);
    assert_eq!(health.state(), State::Up);
    for _ in 0..10 {
        now += 20 * SECOND;
        stall(&mut health, now, SECOND / 3);
        assert_eq!((health.state(), health.relapses()), (State::Up, 1));
    }
}

#[test]
fn the_sixth_stall_within_a_minute_counts_and_so_do_the_others() {
    let (start, mut health) = (Instant::now(), Health::new(&rules(Combine::All), 1));
    health.observe(baseline(0, true), start);
    for second in 1..=5 {
        stall(&mut health, start + second * SECOND, SECOND / 3);
        assert_eq!((health.state(), health.relapses()), (State::Up, 0));
    }
    let sixth = start + 6 * SECOND;
    stall(&mut health, sixth, SECOND / 3);
    assert_eq!(health.relapses(), 6);
    assert_eq!(health.state(), State::Damped { until: sixth + SECOND / 3 + 60 * SECOND });
}

#[test]
fn a_removal_to_which_the_baseline_check_agrees_counts_as_any() {
    let (start, mut health) = (Instant::now(), Health::new(&rules(Combine::All), 1));
    health.observe(baseline(0, true), start);
    for (round, expected) in [(1, 0), (2, 1)] {
        let now = start + 10 * round * SECOND;
        for source in [Source::Confirm, Source::Baseline] {
            for _ in 0..3 {
                health.observe(Sample { check: Some(0), success: false, source }, now);
            }
        }
        assert_eq!((health.relapses(), health.state().is_provisional()), (expected, false));
        health.observe(baseline(0, true), now + SECOND);
        health.observe(baseline(0, true), now + 2 * SECOND);
    }
    assert!(matches!(health.state(), State::Damped { .. }), "{:?}", health.state());
}

#[test]
fn all_checks_that_the_fast_path_has_failed_must_answer() {
    let now = Instant::now();
    let mut health = Health::new(&rules(Combine::All), 2);
    for check in 0..2 {
        health.observe(baseline(check, true), now);
    }
    for _ in 0..3 {
        health.observe(Sample { check: None, success: false, source: Source::Confirm }, now);
    }
    health.observe(baseline(0, true), now);
    assert!(health.state().is_provisional());
    health.observe(baseline(1, true), now);
    assert_eq!(health.state(), State::Up);
}

proptest! {
    /// However the fast path and the baseline checks take it out, and however it comes back.
    #[test]
    fn a_server_goes_down_at_most_six_times_in_a_minute(
        spells in proptest::collection::vec((any::<bool>(), 1_u32..40, 1_u32..12), 1..150),
    ) {
        let (start, mut health) = (Instant::now(), Health::new(&rules(Combine::All), 1));
        let (mut now, mut down_at) = (start, Vec::new());
        for (fast, healthy, failing) in spells {
            let source = if fast { Source::Confirm } else { Source::Baseline };
            let healthy = (0..healthy).map(|_| (true, Source::Baseline));
            for (success, source) in healthy.chain((0..failing).map(|_| (false, source))) {
                now += SECOND / 4;
                let was_up = health.state().is_up();
                health.observe(Sample { check: Some(0), success, source }, now);
                if was_up && health.state().is_down() { down_at.push(now) }
            }
        }
        for (index, first) in down_at.iter().enumerate() {
            let within = down_at[index..].iter().take_while(|at| **at - *first < 60 * SECOND).count();
            prop_assert!(within <= 6, "{within} times down in a minute");
        }
    }

    /// Whatever a server does, it goes up and down a bounded number of times a minute once it is known to flap; and it
    /// has no failure within its penalty before it is up.
    #[test]
    fn a_flapping_server_has_a_bounded_number_of_transitions(
        spells in proptest::collection::vec((1_u32..120, 1_u32..30), 1..120),
    ) {
        let start = Instant::now();
        let mut health = Health::new(&rules(Combine::All), 1);
        let (mut tick, mut down_at, mut ins, mut last_failure) = (0_u32, Vec::new(), Vec::new(), start);
        for (healthy, failing) in spells {
            for success in std::iter::repeat_n(true, healthy as usize).chain(std::iter::repeat_n(false, failing as usize)) {
                tick += 1;
                let now = start + tick * SECOND / 4;
                let before = health.state();
                health.observe(baseline(0, success), now);
                let after = health.state();
                if !success { last_failure = now }
                if before.is_up() && after.is_down() { down_at.push(now) }
                if before.is_down() && after.is_up() {
                    // It has been healthy for as long as its relapses demand.
                    let doublings = health.relapses().saturating_sub(1).min(5);
                    let least = if health.relapses() == 0 { Duration::ZERO } else {
                        (2 * SECOND * 2_u32.pow(doublings)).min(60 * SECOND)
                    };
                    prop_assert!(now - last_failure >= least, "{:?} of {least:?}", now - last_failure);
                    ins.push(now);
                }
            }
        }
        // Penalties of 0, 2, 4, 8, 16 and 32 s, then 60 s each: seven in the first minute at most, then less.
        for (index, first) in down_at.iter().enumerate() {
            let within = down_at[index..].iter().take_while(|at| **at - *first < 60 * SECOND).count();
            prop_assert!(within <= 6, "{within} times down in a minute");
        }
        prop_assert!(ins.len() <= down_at.len() + 1);
    }

    /// With one check and no damping, the destination's state is the check's.
    #[test]
    fn one_undamped_check_alone_is_the_destinations_state(results in proptest::collection::vec(any::<(bool, bool)>(), 0..60)) {
        let now = Instant::now();
        let mut damping_off = rules(Combine::All);
        damping_off.damping.penalty = Duration::ZERO;
        let mut health = Health::new(&damping_off, 1);
        let mut count = Count::new(damping_off.thresholds);
        for (success, confirm) in results {
            let source = if confirm { Source::Confirm } else { Source::Baseline };
            health.observe(Sample { check: Some(0), success, source }, now);
            count.observe(success, source);
            prop_assert_eq!(health.state(), count.state());
            prop_assert_eq!(health.failures_to_fall(), count.failures_to_fall());
        }
    }

    /// All: as bad as the worst check; any: as good as the best.
    #[test]
    fn the_state_is_the_worst_or_the_best_of_the_checks(
        any: bool,
        results in proptest::collection::vec((0_usize..3, any::<bool>()), 0..80),
    ) {
        let now = Instant::now();
        let combine = if any { Combine::Any } else { Combine::All };
        let mut rules = rules(combine);
        rules.damping.penalty = Duration::ZERO;
        let mut health = Health::new(&rules, 3);
        for (check, success) in results {
            health.observe(baseline(check, success), now);
            let states: Vec<State> = (0..3).filter_map(|check| health.state_of(check)).collect();
            let up = states.iter().filter(|state| state.is_up()).count();
            let down = states.iter().filter(|state| state.is_down()).count();
            prop_assert_eq!(health.state().is_up(), if any { up > 0 } else { up == 3 });
            prop_assert_eq!(health.state().is_down(), if any { down == 3 } else { down > 0 });
        }
    }
}
