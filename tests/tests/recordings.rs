//! The detector is shown again what it was shown in recordings of real traffic.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bytemuck::Zeroable as _;
use lvs_agent::{
    model::{DetectorSettings, defaults},
    passive::{
        Detector, Finding, Layer, Observation, Readings, View, Visibility,
        trace::{Player, Recorded, Recorder},
    },
};
use lvs_common::{ServerAnswered, ServerCounters, ServerId, ServerWaiting};
use lvs_tests::{say, simulation::KernelModel};

/// How soon after the fault of each recording there must be a suspicion.
const EXPECTED: [(&str, Option<Duration>); 11] = {
    const fn within(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
    [
        ("healthy-masquerade.none", None),
        ("healthy-half-seen.none", None),
        ("slow-half-seen.none", None),
        ("killed-masquerade.0.host", Some(within(20))),
        ("killed-half-seen.0.host", Some(within(100))),
        ("filtered-masquerade.0.host", Some(within(100))),
        ("filtered-half-seen.0.host", Some(within(100))),
        ("hung-half-seen.0.application", Some(within(500))),
        ("killed-in-a-flood.0.host", Some(within(2000))),
        ("healthy-proxy.none", None),
        ("filtered-proxy.0.host", Some(within(100))),
    ]
};

/// What a replay has found.
#[derive(Debug, Default)]
struct Replay {
    /// Of which server, and when.
    fault: Option<(ServerId, u64)>,
    /// Each suspicion.
    suspicions: Vec<(u64, ServerId, Layer)>,
    /// Each hint.
    hints: Vec<(u64, ServerId, Layer)>,
}

#[test]
fn recordings_give_the_verdict_in_their_names() -> Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(stem) = name.strip_suffix(".trace") {
            names.insert(stem.to_owned());
            let replay = replay(&fs::read_to_string(&path)?).with_context(|| name.to_owned())?;
            let expected =
                EXPECTED.iter().find(|(expected, _)| *expected == stem).with_context(|| name.to_owned())?;
            check(&replay, stem, expected.1).with_context(|| format!("{name}: {replay:?}"))?;
        }
    }
    assert_eq!(names, EXPECTED.iter().map(|(name, _)| (*name).to_owned()).collect());
    Ok(())
}

/// `NAME.SERVER.LAYER` says which server must be suspected, and of what first; `NAME.none` that none may be.
fn check(replay: &Replay, stem: &str, within: Option<Duration>) -> Result<()> {
    let Some(within) = within else {
        let named = stem.split_once('.').is_some_and(|(_, found)| found == "none");
        ensure!(named && replay.fault.is_none(), "it is a recording of a fault");
        ensure!(replay.suspicions.is_empty(), "nobody is at fault");
        return Ok(());
    };
    let (faulty, at_ns) = replay.fault.context("no fault in it")?;
    for (suspected_ns, id, _) in &replay.suspicions {
        ensure!(*suspected_ns >= at_ns && *id == faulty, "nobody else is at fault, nor was before");
    }
    let (first_ns, id, layer) = replay.suspicions.first().context("nobody is suspected")?;
    ensure!(stem.ends_with(&format!(".{}.{layer}", id.0)), "another one is suspected, or of something else");
    let after = Duration::from_nanos(first_ns - at_ns);
    ensure!(after <= within, "suspected after {after:?}, not within {within:?}");
    say(&format!("{stem}: suspected after {after:?}"));
    Ok(())
}

/// A detector that is shown a recording, as the agent did: each server at each tick, and at each edge.
struct ReplayRun {
    detector: Detector,
    shown: Shown,
    views: BTreeMap<ServerId, View>,
    found: Replay,
}

/// What was shown last of each server, beside its state.
#[derive(Default)]
struct Shown {
    counters: BTreeMap<ServerId, ServerCounters>,
    waiting: BTreeMap<ServerId, ServerWaiting>,
    answered: BTreeMap<ServerId, ServerAnswered>,
}

impl Readings for Shown {
    fn counters(&self, id: ServerId) -> ServerCounters {
        self.counters.get(&id).copied().unwrap_or_else(ServerCounters::zeroed)
    }

    /// Not recorded: as many as there can be.
    fn active_flows(&self, _: ServerId, _: u64) -> u32 {
        u32::MAX
    }

    fn waiting(&self, id: ServerId) -> ServerWaiting {
        self.waiting.get(&id).copied().unwrap_or_else(ServerWaiting::zeroed)
    }

    fn answered(&self, id: ServerId, layer: Layer, network: u8) -> u32 {
        self.answered.get(&id).map_or(0, |answered| match layer {
            Layer::Host => answered.listener[usize::from(network)],
            Layer::Application => answered.application[usize::from(network)],
        })
    }
}

impl ReplayRun {
    fn look(&mut self, id: ServerId, now_ns: u64) {
        let Some(view) = self.views.get(&id) else { return };
        match self.detector.evaluate(view, &self.shown, now_ns) {
            Some(Finding::Suspicion(one)) => self.found.suspicions.push((now_ns, one.id, one.layer)),
            Some(Finding::Hint(hint)) => {
                self.found.hints.push((now_ns, hint.id, hint.layer));
                // Whoever is not at fault answers the probe.
                if self.found.fault.is_none_or(|(faulty, _)| faulty != id) {
                    self.detector.observe(id, Observation::HintRefuted(hint.layer), now_ns);
                }
            }
            Some(Finding::Overloaded { .. } | Finding::Correlated { .. }) | None => {}
        }
    }
}

/// Ticks go on between the records, with what was shown last.
fn replay(text: &str) -> Result<Replay> {
    let tick = u64::try_from(defaults::TICK.as_nanos())?;
    let mut run = ReplayRun {
        detector: Detector::new(DetectorSettings::default()),
        shown: Shown::default(),
        views: BTreeMap::new(),
        found: Replay::default(),
    };
    // A recording is of one service.
    let records = Player::records(text)?;
    let servers: BTreeSet<ServerId> = records.iter().map(|record| record.id).collect();
    run.detector.set_services([servers.iter().copied().collect()]);
    let mut next_ns = records.first().context("it is empty")?.at_ns;
    for record in records {
        while next_ns < record.at_ns {
            run.detector.tick(defaults::TICK, next_ns);
            for &id in &servers {
                run.look(id, next_ns);
            }
            next_ns += tick;
        }
        match record.recorded {
            Recorded::Counters(recorded) => {
                run.detector.learn(record.id, &recorded, record.at_ns);
                run.shown.counters.insert(record.id, *recorded);
            }
            Recorded::Waiting(waiting) => {
                run.shown.waiting.insert(record.id, *waiting);
            }
            Recorded::Answered(answered) => {
                run.shown.answered.insert(record.id, *answered);
            }
            Recorded::State(visibility, state) => {
                run.views.insert(record.id, View { id: record.id, visibility, state: *state });
                run.look(record.id, record.at_ns);
            }
            Recorded::Fault => run.found.fault = Some((record.id, record.at_ns)),
        }
    }
    Ok(run.found)
}

/// A recording of three half-seen servers with 50 clients a second each, the first of which dies after 20 s of 22 if it
/// `dies`. `networks` says from which client network that of a millisecond comes.
fn invented_recording(dies: bool, networks: impl Fn(u64) -> u32) -> Result<String> {
    const MS: u64 = 1_000_000;
    let mut servers = [KernelModel::default(), KernelModel::default(), KernelModel::default()];
    let mut text = Vec::new();
    let mut recorder = Recorder::new(&mut text);
    for ms in 1_000..23_000 {
        let now_ns = ms * MS;
        if dies && ms == 21_000 {
            recorder.fault(now_ns, ServerId(0))?;
        }
        for (number, kernel) in (0..).zip(&mut servers) {
            let is_dead = dies && number == 0 && ms >= 21_000;
            match (ms + u64::from(number) * 7) % 20 {
                3 => kernel.syn(networks(ms), ms << 32, false, now_ns),
                5 if !is_dead => kernel.accepted(networks(ms), Some(now_ns - 2 * MS), now_ns),
                _ => {}
            }
            if ms % 10 == 9 {
                recorder.waiting(now_ns, ServerId(number), &kernel.waiting)?;
                recorder.answered(now_ns, ServerId(number), &kernel.answered)?;
                recorder.state(now_ns, ServerId(number), Visibility::ClientOnly, &kernel.state)?;
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
    let (ms, stem) = (Duration::from_millis, "invented.0.host");
    let many = |ms: u64| u32::try_from(ms / 20 * 11 % 64).unwrap_or(0);
    let healthy = replay(&invented_recording(false, many)?)?;
    check(&healthy, "invented.none", None)?;
    assert!(check(&healthy, stem, Some(ms(150))).is_err());
    // With a single client network its connections count, and siblings vouch for it.
    let one = replay(&invented_recording(true, |_| 7)?)?;
    check(&one, stem, Some(ms(150)))?;
    let (fault_ns, hint) = (one.fault.context("a fault")?.1, one.hints.first().context("a hint")?);
    assert!(hint.0 - fault_ns <= 60_000_000, "{one:?}");
    let dead = replay(&invented_recording(true, many)?)?;
    check(&dead, stem, Some(ms(150)))?;
    for (name, within) in [("invented.none", None), (stem, Some(ms(5))), ("invented.1.host", Some(ms(150)))] {
        assert!(check(&dead, name, within).is_err(), "{name}");
    }
    Ok(())
}
