//! The detector in simulated traffic.
#![expect(clippy::expect_used, reason = "a test: the panic is the message")]

use std::time::Duration;

use bytemuck::Zeroable as _;
use lvs_agent::{
    model::DetectorSettings,
    passive::{Detector, Finding, Layer, Readings, View, Visibility},
};
use lvs_common::{ServerCounters, ServerId, ServerState, ServerWaiting};
use lvs_tests::simulation::{Arrivals, Disturbance, Fault, Scenario, detect, false_alarms, gaps_an_hour};
use proptest::prelude::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// 200 connections a second that come evenly, as from a load generator.
fn even(visibility: Visibility, rtt: Duration) -> Scenario {
    Scenario {
        visibility,
        arrivals: Arrivals::Regular,
        round_robin: true,
        distances: vec![(1.0, rtt)],
        ..Scenario::default()
    }
}

/// Half of the trials must have found the fault by then.
fn median(scenario: &Scenario, fault: Fault, layer: Layer) -> Duration {
    let found = detect(scenario, &DetectorSettings::default(), fault, 41, PATIENCE, 7);
    let mut times: Vec<Duration> = found
        .iter()
        .map(|one| {
            assert_eq!(one.layer, Some(layer), "{fault:?}");
            one.first.expect("every trial finds it")
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn faults_are_found_in_time() {
    let ms = Duration::from_millis;
    let (whole, half) = (Visibility::Both, Visibility::ClientOnly);
    let cases = [
        (Fault::Killed, whole, 1, 20),
        (Fault::Killed, half, 1, 100),
        (Fault::Silent, whole, 1, 100),
        (Fault::Silent, half, 1, 100),
        (Fault::Silent, half, 20, 160),
        (Fault::Silent, half, 50, 250),
        (Fault::Silent, half, 200, 700),
    ];
    for (fault, visibility, rtt, bound) in cases {
        let took = median(&even(visibility, ms(rtt)), fault, Layer::Host);
        assert!(took <= ms(bound), "{fault:?}, {visibility:?}, {rtt} ms: {took:?}");
    }
    for visibility in [whole, half] {
        let took = median(&even(visibility, ms(1)), Fault::Hung, Layer::Application);
        assert!(took <= ms(500), "hung, {visibility:?}: {took:?}");
    }
}

/// The same with a single client network, or a single address, whose packets are hardly ever lost: hints make up for
/// what a suspicion waits for. The bounds leave 140 ms of 200 for the probes, and 150 ms of 700 where few connect.
#[test]
fn faults_are_asked_about_in_time_with_one_client_network() {
    let ms = Duration::from_millis;
    for (visibility, addresses) in
        [(Visibility::Both, 250), (Visibility::ClientOnly, 250), (Visibility::ClientOnly, 1)]
    {
        for (fault, rate, layer, bound) in [
            (Fault::Silent, 200.0, Layer::Host, 60),
            (Fault::Silent, 8.0, Layer::Host, 550),
            (Fault::Hung, 200.0, Layer::Application, 130),
            (Fault::Hung, 8.0, Layer::Application, 620),
        ] {
            let base = even(visibility, ms(1));
            let scenario = Scenario { networks: 1, addresses, rate, client_loss: 0.0, ..base };
            let found = detect(&scenario, &DetectorSettings::default(), fault, 41, PATIENCE, 31);
            let mut asked: Vec<Duration> = found.iter().filter_map(|one| one.asked).collect();
            asked.sort_unstable();
            assert_eq!(asked.len(), 41, "{fault:?}, {visibility:?}, {rate}/s: each trial");
            assert!(asked[20] <= ms(bound), "{fault:?}, {visibility:?}, {rate}/s: {:?}", asked[20]);
            let suspected = found.iter().filter(|one| one.layer == Some(layer)).count();
            assert!(rate < 200.0 || suspected == 41, "{fault:?}, {visibility:?}: siblings are witnesses");
            assert!(found.iter().all(|one| one.wrong == 0), "{fault:?}, {visibility:?}, {rate}/s");
        }
    }
}

/// Few hints and hardly a suspicion, in each kind of healthy traffic with a single client network. What a server may be
/// asked in an hour, six times, may all fall into the first minutes.
#[test]
fn healthy_servers_with_one_client_network_are_seldom_asked() {
    let loss = Disturbance::Loss { share: 0.3, lasts: Duration::from_mins(5), pause: Duration::from_mins(5) };
    for visibility in [Visibility::Both, Visibility::ClientOnly] {
        let base = Scenario { visibility, networks: 1, ..Scenario::default() };
        for (what, scenario) in [
            ("8/s", Scenario { rate: 8.0, ..base.clone() }),
            ("200/s", base.clone()),
            ("1 % loss", Scenario { client_loss: 0.01, server_loss: 0.01, ..base.clone() }),
            ("30 % loss", Scenario { disturbance: loss, ..base.clone() }),
            ("one address", Scenario { addresses: 1, ..base.clone() }),
            ("a proxy of four addresses", Scenario { addresses: 4, rate: 4.0, long_flows: (8, 3.0), ..base }),
        ] {
            let time = Duration::from_mins(10);
            let alarms = false_alarms(&scenario, &DetectorSettings::default(), time, 37);
            assert!(alarms.all() <= 2, "{what}, {visibility:?}: {alarms:?}");
            assert!(alarms.hints <= 4 * 6, "{what}, {visibility:?}: {alarms:?}");
        }
    }
}

#[test]
fn long_flows_alone_are_enough() {
    for visibility in [Visibility::Both, Visibility::ClientOnly] {
        let scenario = Scenario { visibility, rate: 0.01, long_flows: (10, 2.0), ..Scenario::default() };
        let found = detect(&scenario, &DetectorSettings::default(), Fault::Silent, 20, PATIENCE, 11);
        for one in found {
            assert!(one.first.is_some_and(|took| took <= Duration::from_secs(1)), "{one:?}");
        }
    }
}

#[test]
fn a_server_that_dies_in_a_flood_is_found() {
    let disturbance =
        Disturbance::Flood { rate: 5_000.0, lasts: Duration::from_hours(1), pause: Duration::from_secs(5) };
    for visibility in [Visibility::Both, Visibility::ClientOnly] {
        let scenario = Scenario { visibility, disturbance, ..Scenario::default() };
        let found = detect(&scenario, &DetectorSettings::default(), Fault::Silent, 5, PATIENCE, 13);
        for one in found {
            assert!(one.first.is_some_and(|took| took <= Duration::from_secs(2)), "{one:?}");
            assert_eq!(one.wrong, 0, "{one:?}");
        }
    }
}

/// Few clients among spoofed ones, seen one way: only its siblings give a dead server away, and they do whether or not
/// the director has time for every tick. With the longest stalls some five in a hundred take more than 1.75 s.
#[test]
fn a_server_that_dies_in_a_flood_is_found_by_a_director_without_time() {
    let disturbance =
        Disturbance::Flood { rate: 300.0, lasts: Duration::from_hours(1), pause: Duration::from_secs(5) };
    let ms = Duration::from_millis;
    for stalls in [None, Some((ms(130), ms(40))), Some((ms(500), ms(40))), Some((ms(900), ms(200)))] {
        let scenario =
            Scenario { servers: 3, rate: 50.0, disturbance, stalls, ..even(Visibility::ClientOnly, ms(1)) };
        let found = detect(&scenario, &DetectorSettings::default(), Fault::Killed, 100, PATIENCE, 23);
        let took = |bound| found.iter().filter(|one| one.first.is_some_and(|took| took <= bound)).count();
        assert!(took(ms(1900)) >= 95, "{stalls:?}: {found:?}");
        assert_eq!(took(ms(2500)), found.len(), "{stalls:?}: {found:?}");
        assert!(found.iter().all(|one| one.wrong == 0), "{stalls:?}: {found:?}");
    }
}

/// Bursts end at the same time for all siblings, and a flood goes on: what they did before is not held against any.
#[test]
fn the_end_of_a_burst_in_a_flood_is_no_reason() {
    let minute = Duration::from_mins(1);
    let scenario = Scenario {
        visibility: Visibility::ClientOnly,
        arrivals: Arrivals::Bursts(Duration::from_secs(1)),
        disturbance: Disturbance::Flood { rate: 2_000.0, lasts: minute, pause: minute },
        ..Scenario::default()
    };
    let alarms = false_alarms(&scenario, &DetectorSettings::default(), 15 * minute, 29);
    assert_eq!(alarms.all(), 0, "{alarms:?}");
}

#[test]
fn the_same_seed_gives_the_same_events() {
    let settings = DetectorSettings::default();
    let found = |seed| detect(&Scenario::default(), &settings, Fault::Silent, 3, PATIENCE, seed);
    assert_eq!(found(3), found(3));
    assert_ne!(found(3), found(4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Healthy servers are left alone, whatever the rate, the distance and the loss.
    #[test]
    fn nobody_is_suspected_without_reason(
        seed in any::<u64>(),
        rate in 1.0..500.0,
        rtt_ms in 1_u64..250,
        client_loss in 0.0..0.01,
        half in any::<bool>(),
    ) {
        let scenario = Scenario {
            visibility: if half { Visibility::ClientOnly } else { Visibility::Both },
            rate,
            distances: vec![(1.0, Duration::from_millis(rtt_ms))],
            client_loss,
            ..Scenario::default()
        };
        let alarms = false_alarms(&scenario, &DetectorSettings::default(), Duration::from_mins(3), seed);
        prop_assert_eq!(alarms.all(), 0, "{:?}", alarms);
    }

    /// A dead server is found, and its siblings are not suspected.
    #[test]
    fn every_death_is_found(seed in any::<u64>(), rate in 40.0..500.0, rtt_ms in 1_u64..250, half in any::<bool>()) {
        let scenario = Scenario {
            visibility: if half { Visibility::ClientOnly } else { Visibility::Both },
            rate,
            distances: vec![(1.0, Duration::from_millis(rtt_ms))],
            ..Scenario::default()
        };
        let found = detect(&scenario, &DetectorSettings::default(), Fault::Silent, 2, PATIENCE, seed);
        for one in found {
            prop_assert!(one.strong.is_some(), "{:?}", one);
            prop_assert_eq!(one.wrong, 0);
        }
    }
}

/// Where independent clients come so often, chance alone doesn't leave a gap between proofs of life that is long enough
/// for a suspicion of silence once in an hour; slower traffic is simulated for hours.
#[test]
fn busy_servers_leave_no_gaps() {
    let DetectorSettings { silence_masquerade, silence_half_seen, .. } = DetectorSettings::default();
    let floor = silence_masquerade.min(silence_half_seen);
    let service = |rate: f64| 4.0 * gaps_an_hour(rate / 4.0, floor);
    for rate in [1_300.0, 2_000.0, 5_000.0, 20_000.0, 100_000.0] {
        assert!(service(rate) < 1.0, "{rate}/s: {}", service(rate));
    }
    assert!(service(1_000.0) > 1.0, "1,000/s needs more than this bound");
}

/// The formula counts what chance does.
#[test]
fn gaps_are_as_many_as_the_formula_says() {
    let (rate, floor) = (50.0, Duration::from_millis(50));
    let mut rng = fastrand::Rng::with_seed(5);
    let (mut time, mut gaps) = (0.0, 0.0);
    for _ in 0..1_000_000 {
        let gap = -(1.0 - rng.f64()).ln() / rate;
        time += gap;
        gaps += f64::from(u8::from(gap >= floor.as_secs_f64()));
    }
    let (counted, expected) = (gaps / time * 3600.0, gaps_an_hour(rate, floor));
    assert!((counted / expected - 1.0).abs() < 0.02, "{counted} counted, {expected} expected");
}

/// A kernel side that has nothing to tell beside a server's state.
struct Nothing;

impl Readings for Nothing {
    fn counters(&self, _: ServerId) -> ServerCounters {
        ServerCounters::zeroed()
    }

    fn active_flows(&self, _: ServerId, _: u64) -> u32 {
        0
    }

    fn waiting(&self, _: ServerId) -> ServerWaiting {
        ServerWaiting::zeroed()
    }

    fn answered(&self, _: ServerId, _: Layer, _: u8) -> u32 {
        0
    }
}

proptest! {
    /// What the bound on gaps rests on: no silence is suspected sooner after a proof of life than the floor says,
    /// whatever else there is.
    #[test]
    fn no_silence_is_suspected_below_the_floor(
        age_ns in 0_u64..50_000_000,
        ages in proptest::collection::vec(0_u64..10_000_000_000, 16),
        networks in any::<[u64; 4]>(),
        attempts in any::<u32>(),
        half in any::<bool>(),
    ) {
        let settings = DetectorSettings::default();
        let visibility = if half { Visibility::ClientOnly } else { Visibility::Both };
        let now_ns = 1_000_000_000_000;
        let mut state = ServerState::zeroed();
        state.listener.progress_ns = now_ns - age_ns;
        state.listener.last_ns = now_ns;
        state.listener.networks = lvs_common::Sketch(networks);
        state.listener.attempts = attempts;
        state.listener.waiting = 16;
        for (since_ns, age) in state.listener.since_ns.iter_mut().zip(ages) {
            *since_ns = now_ns - age;
        }
        prop_assert!(settings.silence_masquerade.min(settings.silence_half_seen) >= Duration::from_millis(50));
        let view = View { id: ServerId(0), visibility, state };
        let mut detector = Detector::new(settings);
        let found = detector.evaluate(&view, &Nothing, now_ns);
        prop_assert!(!matches!(found, Some(Finding::Suspicion(_))), "{:?}", found);
    }
}
