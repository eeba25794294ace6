//! The report of the simulation: tables of times to suspicion and of false suspicions.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use lvs_agent::{model::DetectorSettings, passive::Visibility};

use super::{
    Arrivals, Detection, Disturbance, Fault, Scenario, Serving, detect, false_alarms, gaps_an_hour,
    tick_cost::{self, Condition, Ticks},
};
use crate::say;

/// Seed of the published report: each row adds its number. Nothing may be tuned to what it shows; that is done with
/// others.
pub const SEED: u64 = 52_061_338;
/// Faults in each row.
const TRIALS: u32 = 200;

/// What is wanted of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Table {
    /// Times from fault to suspicion.
    Faults,
    /// Suspicions of healthy servers.
    Healthy,
    /// What a tick takes with 10,000 servers
    Tick,
}

/// For how long healthy servers are simulated.
#[derive(Clone, Copy, Debug)]
pub enum Simulated {
    /// As long as each row needs for a bound below one suspicion an hour.
    AsNeeded,
    /// Ten times as long: half an hour of processor time and more.
    Long,
    /// So many hours each, those with up to 2,000 connections a second; the others as long as needed.
    Hours(f64),
}

/// False suspicions an hour that all four servers of a service may have together, and hints an hour and server.
const MOST: (f64, f64) = (1.0, 6.0);

/// Prints the wanted tables, all if none is named; whether healthy servers were suspected and asked no more often than
/// they may be.
///
/// Only rows whose name contains `named` are calculated.
#[must_use]
pub fn print(wanted: &[Table], simulated: Simulated, seed: u64, named: &str) -> bool {
    let mut is_kept = true;
    let settings = DetectorSettings::default();
    let is_wanted = |table| wanted.is_empty() || wanted.contains(&table);
    // Alone, before all processors are busy.
    if is_wanted(Table::Tick) {
        print_ticks(&settings);
    }
    if is_wanted(Table::Faults) {
        let mut rows = detections();
        rows.retain(|row| row.what.contains(named));
        let results = in_parallel(rows.len(), |row| detection_row(&rows[row], &settings, seed + row as u64));
        say(
            "Time from the fault to the suspicion in ms: median / 99 % / longest. Clients: round trip time, arrivals.",
        );
        say(&format!("{TRIALS} trials a row. Bound: what should be reached with clients that come evenly."));
        say("Asked: to the first hint or suspicion, which is when the first probe is sent.");
        say("");
        say(
            "| fault | suspected | seen | clients | rate | asked | first | strong | host | not found | bound |",
        );
        say("|---|---|---|---|---|---|---|---|---|---|---|");
        for row in &results {
            say(row);
        }
        say("");
    }
    if is_wanted(Table::Healthy) {
        let mut rows = alarms();
        rows.retain(|row| row.what.contains(named));
        let results = in_parallel(rows.len(), |row| {
            alarm_row(&rows[row], &settings, simulated, seed + 1_000 + row as u64)
        });
        say(
            "Suspicions of healthy servers, all four of the service together, each cleared by a probe; hints as well.",
        );
        say("Time is that of the service. Below: with a confidence of 95 %, by the simulation alone.");
        say(
            "Gaps: how many an hour chance leaves without a proof of life for as long as a suspicion needs (exact).",
        );
        say("");
        say(
            "| traffic | seen | rate | simulated | weak | strong | application | overload | common | an hour | below | gaps | hints an hour and server |",
        );
        say("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
        for (row, _) in &results {
            say(row);
        }
        is_kept = results.iter().all(|(_, is_kept)| *is_kept);
        say("");
        say(&format!(
            "Limits, fewer than {} suspicions an hour and at most {} hints an hour and server in each row: {}",
            MOST.0,
            MOST.1,
            if is_kept { "kept" } else { "NOT kept" }
        ));
    }
    is_kept
}

fn print_ticks(settings: &DetectorSettings) {
    const SERVERS: usize = 10_000;
    const COUNT: u64 = 300;
    say(&format!(
        "What a tick takes with {SERVERS} servers, in ms of one processor: median / 99 % / longest of {COUNT}."
    ));
    say("");
    say("| servers look | in services of | median / 99 % / longest | suspicions | alarms | hints |");
    say("|---|---|---|---|---|---|");
    for (condition, words) in [
        (Condition::Calm, "calm"),
        (Condition::Flooded, "flooded"),
        (Condition::Silent, "all silent at once"),
    ] {
        for each in [4, 100, SERVERS] {
            let Ticks { times, suspicions, common, hints } =
                tick_cost::measure(settings, SERVERS, each, condition, COUNT);
            let at = |percent: usize| {
                let time = times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
                time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
            };
            say(&format!(
                "| {words} | {each} | {:.1} / {:.1} / {:.1} | {suspicions} | {common} | {hints} |",
                at(50),
                at(99),
                at(100)
            ));
        }
    }
    say("");
}

/// Calculates rows on as many threads as there are processors, and returns them in order.
fn in_parallel<R: Send>(rows: usize, calculate: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let row = next.fetch_add(1, Ordering::Relaxed);
            if row >= rows {
                return done;
            }
            done.push((row, calculate(row)));
        }
    };
    let mut all: Vec<(usize, R)> = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles.into_iter().flat_map(|handle| handle.join().unwrap_or_default()).collect()
    });
    all.sort_unstable_by_key(|(row, _)| *row);
    all.into_iter().map(|(_, row)| row).collect()
}

/// One row of the first table.
struct Row {
    fault: Fault,
    what: &'static str,
    clients: String,
    /// What must be reached, in ms, if anything must; for rows of few clients by "asked".
    bound: Option<u32>,
    scenario: Scenario,
}

fn detections() -> Vec<Row> {
    let mut rows = Vec::new();
    let ms = Duration::from_millis;
    // Bounds are for 200 connections a second and more; 0 is none.
    let mut both = |fault, what, clients: &str, bound: u32, scenario: Scenario| {
        let bound = (scenario.rate >= 200.0 && bound > 0).then_some(bound);
        let even = Scenario { arrivals: Arrivals::Regular, round_robin: true, ..scenario.clone() };
        for (arrivals, scenario) in [("even", even), ("random", scenario)] {
            rows.push(Row { fault, what, clients: format!("{clients}, {arrivals}"), bound, scenario });
        }
    };
    for rate in [20.0, 200.0, 2_000.0] {
        both(Fault::Killed, "killed", "1 ms", 20, Scenario { rate, ..Scenario::default() });
    }
    both(
        Fault::Killed,
        "killed",
        "1 ms",
        100,
        Scenario { visibility: Visibility::ClientOnly, ..Scenario::default() },
    );
    for visibility in [Visibility::Both, Visibility::ClientOnly] {
        for rate in [20.0, 200.0, 2_000.0] {
            both(Fault::Silent, "silent", "1 ms", 100, Scenario { visibility, rate, ..Scenario::default() });
        }
    }
    for (clients, rtt, bound) in [("20 ms", ms(20), 160), ("50 ms", ms(50), 250), ("200 ms", ms(200), 700)] {
        for visibility in [Visibility::Both, Visibility::ClientOnly] {
            let scenario = Scenario { visibility, distances: vec![(1.0, rtt)], ..Scenario::default() };
            both(Fault::Silent, "silent", clients, bound, scenario);
        }
    }
    let mixed = vec![(0.7, ms(1)), (0.2, ms(50)), (0.1, ms(200))];
    let mixed = Scenario { visibility: Visibility::ClientOnly, distances: mixed, ..Scenario::default() };
    both(Fault::Silent, "silent", "1, 50, 200 ms", 700, mixed);
    let lossy = Scenario { visibility: Visibility::ClientOnly, client_loss: 0.3, ..Scenario::default() };
    both(Fault::Silent, "silent, 30 % client loss", "1 ms", 0, lossy);
    rows.extend(established());
    rows.extend(few_clients());
    rows
}

/// All clients in one network, as in front of an internal service, or a single one, as behind a proxy.
fn few_clients() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |fault, what, clients: &str, bound, scenario: Scenario| {
        let even = Scenario { arrivals: Arrivals::Regular, round_robin: true, ..scenario.clone() };
        for (arrivals, scenario) in [("even", even), ("random", scenario)] {
            rows.push(Row { fault, what, clients: format!("{clients}, {arrivals}"), bound, scenario });
        }
    };
    for visibility in [Visibility::Both, Visibility::ClientOnly] {
        // Without the losses that the other rows have: in front of an internal service there are hardly any.
        let base =
            Scenario { visibility, networks: 1, client_loss: 0.0, server_loss: 0.0, ..Scenario::default() };
        for (rate, host, application) in [(200.0, 60, 130), (8.0, 550, 620)] {
            let scenario = Scenario { rate, ..base.clone() };
            row(Fault::Silent, "silent, one client network", "1 ms", Some(host), scenario.clone());
            row(Fault::Hung, "hung, one client network", "1 ms", Some(application), scenario.clone());
            let scenario = Scenario { addresses: 1, ..scenario };
            row(Fault::Silent, "silent, one client address", "1 ms", Some(host), scenario.clone());
            row(Fault::Hung, "hung, one client address", "1 ms", Some(application), scenario);
        }
        row(Fault::Silent, "silent, one proxy before", "1 ms", None, Scenario { visibility, ..proxy() });
        let lossy = Scenario { client_loss: 0.01, server_loss: 0.001, ..base };
        row(Fault::Silent, "silent, one network, 1 % loss", "1 ms", None, lossy);
    }
    rows
}

/// A proxy of four addresses in one network: few new connections, and requests on those that it keeps.
fn proxy() -> Scenario {
    Scenario { networks: 1, addresses: 4, rate: 4.0, long_flows: (8, 3.0), ..Scenario::default() }
}

/// Faults that show on established flows.
fn established() -> Vec<Row> {
    let ms = Duration::from_millis;
    let mut rows = Vec::new();
    for (visibility, flows) in
        [(Visibility::Both, 40), (Visibility::ClientOnly, 40), (Visibility::ClientOnly, 10)]
    {
        let scenario = Scenario { visibility, rate: 0.01, long_flows: (flows, 2.0), ..Scenario::default() };
        let what = if flows == 40 { "silent, 40 long flows only" } else { "silent, 10 long flows only" };
        rows.push(Row {
            fault: Fault::Silent,
            what,
            clients: "1 ms, random".to_owned(),
            bound: Some(1_000),
            scenario,
        });
    }
    for visibility in [Visibility::Both, Visibility::ClientOnly] {
        for (clients, rtt) in [("1 ms", ms(1)), ("50 ms", ms(50))] {
            let scenario = Scenario { visibility, distances: vec![(1.0, rtt)], ..Scenario::default() };
            rows.push(Row {
                fault: Fault::Hung,
                what: "hung",
                clients: format!("{clients}, random"),
                bound: Some(500),
                scenario,
            });
        }
        let scenario = Scenario { visibility, ..Scenario::default() };
        rows.push(Row {
            fault: Fault::Slow,
            what: "slow, + 500 ms",
            clients: "1 ms, random".to_owned(),
            bound: None,
            scenario,
        });
        let scenario = Scenario { visibility, long_flows: (40, 2.0), ..Scenario::default() };
        rows.push(Row {
            fault: Fault::Overloaded,
            what: "accept queue full",
            clients: "1 ms, random".to_owned(),
            bound: None,
            scenario,
        });
        let disturbance = flood(10_000.0, Duration::from_hours(1));
        let scenario = Scenario { visibility, disturbance, ..Scenario::default() };
        rows.push(Row {
            fault: Fault::Silent,
            what: "silent, in a flood",
            clients: "1 ms, random".to_owned(),
            bound: Some(2_000),
            scenario,
        });
    }
    rows.extend(few_in_a_flood());
    rows
}

/// Few clients among many spoofed ones, with and without a director that has no time twice a second.
fn few_in_a_flood() -> impl Iterator<Item = Row> {
    let ms = Duration::from_millis;
    let cases = [("silent, 300/s spoofed", None), ("the same, director stalls", Some((ms(500), ms(40))))];
    cases.into_iter().map(move |(what, stalls)| {
        let disturbance = flood(300.0, Duration::from_hours(1));
        let scenario = Scenario {
            visibility: Visibility::ClientOnly,
            servers: 3,
            rate: 50.0,
            arrivals: Arrivals::Regular,
            round_robin: true,
            disturbance,
            stalls,
            ..Scenario::default()
        };
        Row { fault: Fault::Silent, what, clients: "1 ms, even".to_owned(), bound: Some(2_000), scenario }
    })
}

fn flood(rate: f64, lasts: Duration) -> Disturbance {
    Disturbance::Flood { rate, lasts, pause: Duration::from_mins(1) }
}

fn detection_row(row: &Row, settings: &DetectorSettings, seed: u64) -> String {
    const PATIENCE: Duration = Duration::from_secs(5);
    let found = detect(&row.scenario, settings, row.fault, TRIALS, PATIENCE, seed);
    let asked = spread(&found, |one| one.asked);
    let first = spread(&found, |one| if row.fault == Fault::Overloaded { one.overloaded } else { one.first });
    let strong = spread(&found, |one| one.strong);
    let host = spread(&found, |one| one.host);
    let missed = found.iter().filter(|one| one.first.is_none() && one.overloaded.is_none()).count();
    let wrong: u32 = found.iter().map(|one| one.wrong).sum();
    let layers =
        found.iter().find_map(|one| one.layer).map_or("overloaded".to_owned(), |layer| layer.to_string());
    let bound = row.bound.map_or("-".to_owned(), |bound| bound.to_string());
    format!(
        "| {} | {layers} | {} | {} | {} | {asked} | {first} | {strong} | {host} | {missed}{} | {bound} |",
        row.what,
        visibility(row.scenario.visibility),
        row.clients,
        row.scenario.rate,
        if wrong == 0 { String::new() } else { format!(" (siblings suspected: {wrong})") },
    )
}

fn visibility(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Both => "both ways",
        Visibility::ClientOnly | Visibility::CountersOnly(_) => "one way",
    }
}

/// Median, 99 % and longest in ms of those who have a time.
fn spread(found: &[Detection], time: impl Fn(&Detection) -> Option<Duration>) -> String {
    let mut times: Vec<u128> = found.iter().filter_map(time).map(|time| time.as_millis()).collect();
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    match (at(50), at(99), times.last()) {
        (Some(half), Some(most), Some(all)) => format!("{half} / {most} / {all}"),
        _ => "-".to_owned(),
    }
}

/// One row of the second table.
struct Healthy {
    what: &'static str,
    /// Simulated hours, and where more time is taken.
    hours: (f64, f64),
    scenario: Scenario,
}

fn alarms() -> Vec<Healthy> {
    let mut rows = Vec::new();
    for visibility in [Visibility::Both, Visibility::ClientOnly] {
        for (rate, hours) in [
            (1.0, (40.0, 400.0)),
            (10.0, (30.0, 300.0)),
            (200.0, (5.0, 100.0)),
            (500.0, (3.5, 30.0)),
            (1_000.0, (3.2, 20.0)),
            // Here the bound is that on gaps.
            (2_000.0, (0.2, 4.0)),
            (20_000.0, (0.02, 4.0)),
            (100_000.0, (0.01, 3.0)),
        ] {
            let scenario = Scenario { visibility, rate, ..Scenario::default() };
            rows.push(Healthy { what: "Poisson", hours, scenario });
        }
        rows.extend(disturbed(visibility));
        rows.extend(healthy_few(visibility));
    }
    rows
}

/// All clients in one network.
fn healthy_few(visibility: Visibility) -> impl Iterator<Item = Healthy> {
    let base = Scenario { visibility, networks: 1, ..Scenario::default() };
    let loss =
        |share| Disturbance::Loss { share, lasts: Duration::from_mins(5), pause: Duration::from_mins(5) };
    let bursts = Arrivals::Bursts(Duration::from_secs(1));
    [
        ("one client network", 10.0, Scenario { rate: 8.0, ..base.clone() }),
        ("one client network", 5.0, base.clone()),
        ("one client address", 10.0, Scenario { addresses: 1, rate: 8.0, ..base.clone() }),
        ("one client address", 5.0, Scenario { addresses: 1, ..base.clone() }),
        ("one client address, 1 % loss", 5.0, Scenario { addresses: 1, client_loss: 0.01, ..base.clone() }),
        ("one client network, 1 % loss", 5.0, Scenario { client_loss: 0.01, ..base.clone() }),
        ("one client network, bursts of 1 s", 5.0, Scenario { arrivals: bursts, ..base.clone() }),
        ("one network, 30 % loss, 5 of 10 min", 5.0, Scenario { disturbance: loss(0.3), ..base }),
        ("a proxy of four addresses", 10.0, Scenario { visibility, ..proxy() }),
        ("a proxy of four addresses, 200/s", 5.0, Scenario { visibility, rate: 200.0, ..proxy() }),
    ]
    .into_iter()
    .map(|(what, hours, scenario)| Healthy { what, hours: (hours, 10.0 * hours), scenario })
}

fn disturbed(visibility: Visibility) -> Vec<Healthy> {
    let ms = Duration::from_millis;
    let far = vec![(0.7, ms(1)), (0.2, ms(50)), (0.1, ms(200))];
    let base = Scenario { visibility, ..Scenario::default() };
    let minute = Duration::from_mins(1);
    let loss =
        |share| Disturbance::Loss { share, lasts: Duration::from_mins(5), pause: Duration::from_mins(5) };
    let flood = |rate| Disturbance::Flood { rate, lasts: minute, pause: Duration::from_mins(4) };
    let mut rows: Vec<(&'static str, f64, Scenario)> = vec![
        ("1 % loss everywhere", 5.0, Scenario { client_loss: 0.01, server_loss: 0.01, ..base.clone() }),
        ("clients 1, 50, 200 ms away", 5.0, Scenario { distances: far.clone(), ..base.clone() }),
        ("the same, 2,000/s", 0.2, Scenario { distances: far.clone(), rate: 2_000.0, ..base.clone() }),
        (
            "day and night in 10 min",
            5.0,
            Scenario { arrivals: Arrivals::Diurnal(10 * minute), ..base.clone() },
        ),
        (
            "slow: log-normal, median 200 ms, sigma 1.5",
            5.0,
            Scenario { serving: Serving { median: ms(200), sigma: 1.5, long_polls: 0.0 }, ..base.clone() },
        ),
        (
            "a tenth are long polls",
            5.0,
            Scenario { serving: Serving { long_polls: 0.1, ..base.serving }, ..base.clone() },
        ),
        ("5 long flows only", 10.0, Scenario { rate: 0.01, long_flows: (5, 1.0), ..base.clone() }),
        (
            "40 long flows only, 1 % loss",
            5.0,
            Scenario { rate: 0.01, long_flows: (40, 2.0), client_loss: 0.01, ..base.clone() },
        ),
        (
            "bad network, 2 % of the clients",
            5.0,
            Scenario { disturbance: Disturbance::BadNetwork(0.02), ..base.clone() },
        ),
        (
            "bad network, 30 % of the clients",
            5.0,
            Scenario { disturbance: Disturbance::BadNetwork(0.3), ..base.clone() },
        ),
        ("30 % client loss, 5 of 10 min", 60.0, Scenario { disturbance: loss(0.3), ..base.clone() }),
        ("flood 200/s, 1 of 5 min", 10.0, Scenario { disturbance: flood(200.0), ..base.clone() }),
        ("flood 2,000/s, 1 of 5 min", 5.0, Scenario { disturbance: flood(2_000.0), ..base.clone() }),
        ("flood 20,000/s, 1 of 5 min", 3.2, Scenario { disturbance: flood(20_000.0), ..base.clone() }),
    ];
    for (what, mean) in [
        ("bursts of 100 ms, 10 times the rate", ms(100)),
        ("bursts of 1 s", ms(1_000)),
        ("bursts of 10 s", ms(10_000)),
    ] {
        let arrivals = Arrivals::Bursts(mean);
        rows.push((what, 5.0, Scenario { arrivals, ..base.clone() }));
    }
    let bursts = Arrivals::Bursts(ms(1_000));
    let serving = Serving { long_polls: 0.1, ..base.serving };
    rows.push((
        "bursts of 1 s, mixed clients, long polls",
        10.0,
        Scenario { arrivals: bursts, distances: far, serving, ..base.clone() },
    ));
    rows.push((
        "bursts of 1 s and flood 2,000/s",
        5.0,
        Scenario { arrivals: bursts, disturbance: flood(2_000.0), ..base },
    ));
    rows.into_iter()
        .map(|(what, hours, scenario)| Healthy { what, hours: (hours, 10.0 * hours), scenario })
        .collect()
}

/// A row, and whether it is within the limits.
fn alarm_row(row: &Healthy, settings: &DetectorSettings, simulated: Simulated, seed: u64) -> (String, bool) {
    let hours = match simulated {
        Simulated::Long => row.hours.1,
        Simulated::Hours(hours) if row.scenario.rate <= 2_000.0 => hours,
        Simulated::AsNeeded | Simulated::Hours(_) => row.hours.0,
    };
    let alarms = false_alarms(&row.scenario, settings, Duration::from_secs_f64(hours * 3600.0), seed);
    let gaps = match (row.scenario.arrivals, row.scenario.disturbance) {
        (Arrivals::Poisson, Disturbance::None) if row.scenario.rate >= 1.0 => {
            likely_gaps(&row.scenario, settings)
        }
        _ => "-".to_owned(),
    };
    let reasons = alarms
        .reasons
        .iter()
        .fold(String::new(), |all, (_, times, first)| format!("{all}\n<!-- {times} like this: {first} -->"));
    let (suspicions, hints) =
        (f64::from(alarms.all()) / hours, alarms.hints_an_hour_and_server(row.scenario.servers));
    let text = format!(
        "| {} | {} | {} | {hours} h | {} | {} | {} | {} | {} | {:.3} | {:.3} | {gaps} | {:.2} |{reasons}",
        row.what,
        visibility(row.scenario.visibility),
        row.scenario.rate,
        alarms.weak,
        alarms.strong,
        alarms.application,
        alarms.overloaded,
        alarms.common,
        suspicions,
        upper_bound(alarms.all()) / hours,
        hints,
    );
    (text, suspicions < MOST.0 && hints <= MOST.1)
}

/// How many gaps an hour all servers together may have that are long enough for a suspicion of silence.
fn likely_gaps(scenario: &Scenario, settings: &DetectorSettings) -> String {
    let floor = match scenario.visibility {
        Visibility::Both => settings.silence_masquerade,
        Visibility::ClientOnly | Visibility::CountersOnly(_) => settings.silence_half_seen,
    };
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let servers = scenario.servers as f64;
    // Two packets must get through for a proof of life.
    let lost = 1.0 - (1.0 - scenario.client_loss).powi(2) * (1.0 - scenario.server_loss).powi(2);
    let rate = scenario.rate * (1.0 - lost) / servers;
    format!("{:.1e}", servers * gaps_an_hour(rate, floor))
}

/// The largest mean of a Poisson distribution that gives at most `count` with a probability of 5 %.
fn upper_bound(count: u32) -> f64 {
    let at_most = |mean: f64| {
        let mut term = (-mean).exp();
        let mut sum = term;
        for k in 1..=count {
            term *= mean / f64::from(k);
            sum += term;
        }
        sum
    };
    let (mut low, mut high) = (0.0, 10.0 + 3.0 * f64::from(count));
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most(middle) > 0.05 { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_in_three_hours_is_fewer_than_one_an_hour() {
        assert!((upper_bound(0) - 2.996).abs() < 0.001);
        assert!((upper_bound(5) - 10.513).abs() < 0.001);
    }
}
