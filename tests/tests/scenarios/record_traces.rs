//! The input of the detector is recorded, to be replayed to later versions of it (`traces/`).

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lvs_agent::passive::trace::{Player, Record, Recorded, Recorder};
use lvs_common::ServerId;
use lvs_tests::{
    lab::{
        clock::Moment,
        faults::{Fault, flood::Flood},
        layout::Method,
    },
    say,
    testbed::{Setup, Testbed},
};

use crate::expect_failover::HEALTHY;

/// How much is kept of the time before a fault, or of a time without any, and of the time after it.
const KEPT: (Duration, Duration) = (Duration::from_millis(2500), Duration::from_millis(1200));
/// No recording takes more, in bytes.
const MOST: usize = 200_000;

/// What is recorded where nobody has asked for the recordings: each method, the flood and the proxy.
const TRIED: [&str; 3] = ["killed-masquerade.0.host", "killed-in-a-flood.0.host", "filtered-proxy.0.host"];

/// Client numbers that are so far apart are in one network.
const SAME_NETWORK: u32 = 256;

/// What is recorded. The first server fails, if any does.
struct Case {
    /// With the server and the layer that must be suspected (`traces/README.md`).
    name: &'static str,
    method: Method,
    fault: Option<Fault>,
    /// Real and spoofed SYNs a second.
    rates: (f64, f64),
    /// All clients come through a proxy of four addresses in one network.
    proxy: bool,
}

const CASES: [Case; 11] = {
    use Method::{DirectRoute, Masquerade};
    const fn case(name: &'static str, method: Method, fault: Option<Fault>) -> Case {
        Case { name, method, fault, rates: (200.0, 0.0), proxy: false }
    }
    [
        case("healthy-masquerade.none", Masquerade, None),
        case("healthy-half-seen.none", DirectRoute, None),
        case("slow-half-seen.none", DirectRoute, Some(Fault::Slow)),
        case("killed-masquerade.0.host", Masquerade, Some(Fault::ProcessKilled)),
        case("killed-half-seen.0.host", DirectRoute, Some(Fault::ProcessKilled)),
        case("filtered-masquerade.0.host", Masquerade, Some(Fault::PortFiltered)),
        case("filtered-half-seen.0.host", DirectRoute, Some(Fault::PortFiltered)),
        case("hung-half-seen.0.application", DirectRoute, Some(Fault::ProcessHung)),
        Case {
            rates: (100.0, 150.0),
            ..case("killed-in-a-flood.0.host", DirectRoute, Some(Fault::ProcessKilled))
        },
        Case { proxy: true, ..case("healthy-proxy.none", DirectRoute, None) },
        Case { proxy: true, ..case("filtered-proxy.0.host", DirectRoute, Some(Fault::PortFiltered)) },
    ]
};

/// Plays a case and returns all that was recorded, with the moment of the fault.
fn played(case: &Case, file: &Path) -> Result<(String, Option<u64>)> {
    let (real, spoofed) = case.rates;
    let mut setup = Setup::new(case.method).rate(real).distance(Duration::from_millis(1));
    setup.config = setup.config.record(file);
    if case.proxy {
        (setup.load.clients, setup.load.step) = (4, SAME_NETWORK);
    }
    let from_the_start = case.fault == Some(Fault::Slow);
    if from_the_start {
        // A check of HTTP of such a server takes longer than it may.
        setup.config = setup.config.check_by_connect();
    }
    let mut testbed = Testbed::start(&setup)?;
    let flood = (spoofed > 0.0).then(|| Flood::start(&testbed.lab.network.clients, spoofed)).transpose()?;
    if let Some(fault) = case.fault.filter(|_| from_the_start) {
        testbed.inject(fault, 0)?;
        // What it takes until the detector and the checks know it no other way.
        testbed.run_for(2 * HEALTHY)?;
    }
    testbed.run_for(KEPT.0)?;
    let fault = case.fault.filter(|_| !from_the_start);
    let at = fault.map(|fault| testbed.inject(fault, 0)).transpose()?;
    if at.is_some() {
        testbed.run_for(KEPT.1)?;
    }
    drop(flood);
    // The agent writes what waits before it ends.
    testbed.agent.stop()?;
    drop(testbed);
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let at = at.map(|at| u64::try_from(at.since(Moment::from_ns(0)).as_nanos())).transpose()?;
    Ok((text, at))
}

/// What is kept of a recording.
fn cut(records: &[Record], fault_ns: Option<u64>) -> Result<String> {
    let nanos = |time: Duration| u64::try_from(time.as_nanos());
    let last_ns = records.last().map_or(0, |record| record.at_ns);
    let (from_ns, until_ns) = match fault_ns {
        Some(at_ns) => (at_ns - nanos(KEPT.0)?, at_ns + nanos(KEPT.1)?),
        None => (last_ns - nanos(KEPT.0)?, last_ns),
    };
    let mut text = Vec::new();
    let mut recorder = Recorder::new(&mut text);
    let mut fault_ns = fault_ns;
    for record in records.iter().filter(|record| (from_ns..=until_ns).contains(&record.at_ns)) {
        if let Some(at_ns) = fault_ns.take_if(|at_ns| *at_ns <= record.at_ns) {
            recorder.fault(at_ns, ServerId(0))?;
        }
        match &record.recorded {
            Recorded::State(visibility, state) => {
                recorder.state(record.at_ns, record.id, *visibility, state)?;
            }
            Recorded::Waiting(waiting) => recorder.waiting(record.at_ns, record.id, waiting)?,
            Recorded::Answered(answered) => recorder.answered(record.at_ns, record.id, answered)?,
            Recorded::Counters(counters) => recorder.counters(record.at_ns, record.id, counters)?,
            Recorded::Fault => {}
        }
    }
    recorder.flush()?;
    drop(recorder);
    Ok(String::from_utf8(text)?)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn the_input_of_the_detector_is_recorded() -> Result<()> {
    // To who asked for them, or nowhere.
    let nowhere = tempfile::tempdir()?;
    let asked = env::var_os("LVS_OUT").map(PathBuf::from);
    let place = asked.as_deref().unwrap_or(nowhere.path());
    for case in CASES.iter().filter(|case| asked.is_some() || TRIED.contains(&case.name)) {
        let file = place.join(format!("{}.trace", case.name));
        let (text, fault_ns) = played(case, &file)?;
        let text = cut(&Player::records(&text)?, fault_ns)?;
        let records = Player::records(&text)?;
        for server in 0..3 {
            let of =
                |record: &&Record| record.id.0 == server && matches!(record.recorded, Recorded::State(..));
            ensure!(records.iter().filter(of).count() > 10, "{}: server {server} was looked at", case.name);
        }
        ensure!(text.len() <= MOST, "{}: {} bytes", case.name, text.len());
        say(&format!("{}: {} records in {} bytes", case.name, records.len(), text.len()));
        fs::write(&file, text)?;
    }
    Ok(())
}
