//! The detector in simulated traffic, and in recordings of real traffic.
#![expect(clippy::expect_used, reason = "a test: the panic is the message")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use bytemuck::Zeroable as _;
use lvs_agent::{
    config::{DetectorSettings, defaults},
    passive::{
        Detector, Finding, Layer, Sight, Suspicion, View,
        trace::{Record, Recorder, Shown},
    },
};
use lvs_common::{ServerCounters, ServerId, ServerState};
use lvs_tests::simulation::{
    Arrivals, Disturbance, Fault, Kernel, Scenario, detect, false_alarms, gaps_an_hour,
};
use proptest::prelude::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// 200 connections a second that come evenly, as from a load generator.
fn even(sight: Sight, rtt: Duration) -> Scenario {
    Scenario {
        sight,
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
    let (whole, half) = (Sight::Whole, Sight::Half);
    let cases = [
        (Fault::Killed, whole, 1, 20),
        (Fault::Killed, half, 1, 100),
        (Fault::Silent, whole, 1, 100),
        (Fault::Silent, half, 1, 100),
        (Fault::Silent, half, 20, 160),
        (Fault::Silent, half, 50, 250),
        (Fault::Silent, half, 200, 700),
    ];
    for (fault, sight, rtt, bound) in cases {
        let took = median(&even(sight, ms(rtt)), fault, Layer::Host);
        assert!(took <= ms(bound), "{fault:?}, {sight:?}, {rtt} ms: {took:?}");
    }
    for sight in [whole, half] {
        let took = median(&even(sight, ms(1)), Fault::Hung, Layer::Application);
        assert!(took <= ms(500), "hung, {sight:?}: {took:?}");
    }
}

#[test]
fn long_flows_alone_are_enough() {
    for sight in [Sight::Whole, Sight::Half] {
        let scenario = Scenario { sight, rate: 0.01, long_flows: (10, 2.0), ..Scenario::default() };
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
    for sight in [Sight::Whole, Sight::Half] {
        let scenario = Scenario { sight, disturbance, ..Scenario::default() };
        let found = detect(&scenario, &DetectorSettings::default(), Fault::Silent, 5, PATIENCE, 13);
        for one in found {
            assert!(one.first.is_some_and(|took| took <= Duration::from_secs(2)), "{one:?}");
            assert_eq!(one.wrong, 0, "{one:?}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_course() {
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
            sight: if half { Sight::Half } else { Sight::Whole },
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
            sight: if half { Sight::Half } else { Sight::Whole },
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

/// Where independent clients come so often, chance alone doesn't leave a gap between proofs of life that is long enough for
/// a suspicion of silence once in an hour; slower traffic is simulated for hours.
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

proptest! {
    /// What the bound on gaps rests on: no silence is suspected sooner after a proof of life than the floor says, whatever
    /// else there is.
    #[test]
    fn no_silence_is_suspected_below_the_floor(
        age_ns in 0_u64..50_000_000,
        ages in proptest::collection::vec(0_u64..10_000_000_000, 16),
        networks in any::<u64>(),
        attempts in any::<u32>(),
        half in any::<bool>(),
    ) {
        let settings = DetectorSettings::default();
        let sight = if half { Sight::Half } else { Sight::Whole };
        let now_ns = 1_000_000_000_000;
        let mut state = ServerState::zeroed();
        state.listener.progress_ns = now_ns - age_ns;
        state.listener.last_ns = now_ns;
        state.listener.networks = networks;
        state.listener.attempts = attempts;
        state.listener.waiting = 16;
        for (since_ns, age) in state.listener.since_ns.iter_mut().zip(ages) {
            *since_ns = now_ns - age;
        }
        prop_assert!(settings.silence_masquerade.min(settings.silence_half_seen) >= Duration::from_millis(50));
        let view = View { id: ServerId(0), sight, state };
        let mut detector = Detector::new(settings);
        let found = detector.look(&view, || 0, |_| ServerCounters::zeroed(), now_ns);
        prop_assert_eq!(found, None);
    }
}

/// Shows each recording in `traces/` to a new detector. A name `NAME.SERVER.LAYER.trace` says which server must be
/// suspected, and of what; `NAME.none.trace` that none may be.
#[test]
fn recordings_give_what_their_names_say() -> Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let Some(stem) = name.strip_suffix(".trace") else { continue };
        let text = fs::read_to_string(&path)?;
        let mut found: Vec<String> = replay(&text)
            .with_context(|| name.clone())?
            .iter()
            .map(|suspicion| format!("{}.{}", suspicion.id.0, suspicion.layer))
            .collect();
        found.dedup();
        let expected = match stem.split_once('.') {
            Some((_, "none")) => Vec::new(),
            Some((_, expected)) => vec![expected.to_owned()],
            None => panic!("{name} doesn't say what must be found"),
        };
        assert_eq!(found, expected, "{name}");
    }
    Ok(())
}

/// A recording of three half-seen servers with 50 clients a second each, the first of which dies after 20 s of 22 if it `dies`.
fn invented_recording(dies: bool) -> Result<String> {
    const MS: u64 = 1_000_000;
    let mut servers = [Kernel::default(), Kernel::default(), Kernel::default()];
    let mut text = Vec::new();
    let mut recorder = Recorder::new(&mut text);
    for ms in 1_000..23_000 {
        let now_ns = ms * MS;
        for (number, kernel) in (0..).zip(&mut servers) {
            let is_dead = dies && number == 0 && ms >= 21_000;
            match (ms + u64::from(number) * 7) % 20 {
                3 => kernel.syn(u32::try_from(ms / 20 * 11 % 64)?, false, now_ns),
                5 if !is_dead => kernel.accepted(Some(now_ns - 2 * MS), now_ns),
                _ => {}
            }
            if ms % 10 == 9 {
                recorder.state(now_ns, ServerId(number), Sight::Half, &kernel.state)?;
            }
            if ms % 100 == 99 {
                recorder.counters(now_ns, ServerId(number), &kernel.counters)?;
            }
        }
    }
    recorder.flush()?;
    drop(recorder);
    Ok(String::from_utf8(text)?)
}

/// The test above could not fail if a replay never found anything, or always did.
#[test]
fn a_replay_finds_what_was_recorded_and_nothing_else() -> Result<()> {
    assert_eq!(replay(&invented_recording(false)?)?, []);
    let found = replay(&invented_recording(true)?)?;
    assert!(!found.is_empty());
    for suspicion in found {
        assert_eq!((suspicion.id, suspicion.layer), (ServerId(0), Layer::Host), "{suspicion:?}");
    }
    Ok(())
}

/// Ticks go on between the records, with what was shown last.
fn replay(text: &str) -> Result<Vec<Suspicion>> {
    let tick = u64::try_from(defaults::TICK.as_nanos())?;
    let mut detector = Detector::new(DetectorSettings::default());
    let mut counters: BTreeMap<ServerId, ServerCounters> = BTreeMap::new();
    let mut views: Vec<View> = Vec::new();
    let mut found = Vec::new();
    let mut next_ns = None;
    // A recording is of one service.
    let records = text.lines().map(Record::parse).collect::<Result<Vec<_>, _>>()?;
    let servers: BTreeSet<ServerId> = records.iter().map(|record| record.id).collect();
    detector.set_services([servers.into_iter().collect()]);
    for record in records {
        let mut now_ns = *next_ns.get_or_insert(record.at_ns);
        while now_ns < record.at_ns {
            detector.tick(defaults::TICK, now_ns);
            let counted = |id: ServerId| counters.get(&id).copied().unwrap_or_else(ServerCounters::zeroed);
            let findings = views.iter().filter_map(|view| detector.look(view, || u32::MAX, counted, now_ns));
            found.extend(findings.filter_map(|finding| match finding {
                Finding::Suspicion(suspicion) => Some(suspicion),
                Finding::Overloaded { .. } | Finding::Common { .. } => None,
            }));
            now_ns += tick;
        }
        next_ns = Some(now_ns);
        match record.shown {
            Shown::Counters(shown) => {
                detector.learn(record.id, &shown, record.at_ns);
                counters.insert(record.id, *shown);
            }
            Shown::State(sight, state) => {
                let view = View { id: record.id, sight, state: *state };
                match views.iter_mut().find(|known| known.id == record.id) {
                    Some(known) => *known = view,
                    None => views.push(view),
                }
            }
        }
    }
    Ok(found)
}
