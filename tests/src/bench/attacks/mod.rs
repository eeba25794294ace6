//! What surrounds the agent is hostile or fails, one way after another, while servers die: how soon they are out, what
//! becomes of the healthy ones, and what it costs in memory and in lines of the log.

mod kinds;
mod ongoing;
mod report;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};

use self::{
    kinds::{Attack, SERVERS},
    ongoing::{Ongoing, Props, is_of_attack, lost_lines, resident},
    report::{Measured, Row},
};
use crate::{
    lab::{
        Lab,
        clock::Moment,
        director::{prepare_ipvs, table_watcher::TableState},
        faults::Fault,
        wait,
    },
    say,
    testbed::{RETURN_LIMIT, Testbed},
};

/// Traffic before an attack begins.
const WARM_UP: Duration = Duration::from_secs(5);
/// From the beginning of an attack to the first fault.
const LEAD: Duration = Duration::from_secs(6);
/// Whoever has not noticed a fault by now never will.
const GIVE_UP_AFTER: Duration = Duration::from_secs(7);
/// How long a server stays out.
const OUT: Duration = Duration::from_secs(1);
/// Answers of each server that show that it serves.
const SERVED: usize = 2;
/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// What a server's text may do to a line of the log: none of it must be there, be it as JSON escapes it.
const FORBIDDEN: [&str; 6] = ["\\u001b", "\\u202e", "\u{202e}", "\u{2028}", "\\b", "\u{9b}"];

/// What is attacked
#[derive(Clone, Debug, clap::Args)]
pub struct AttackOptions {
    /// Only this attack, and what it is compared with. May be given several times
    #[arg(long)]
    pub only: Vec<String>,
    /// How long each attack goes on
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
}

/// Makes all of them and prints the table; whether all is as it must be.
pub fn attack(options: &AttackOptions) -> Result<bool> {
    let mut measured = Measured::default();
    let mut failed = Vec::new();
    for attack in Attack::chosen(&options.only)? {
        say(&format!("{attack} ({}) …", attack.word()));
        match measure(attack, Duration::from_secs(options.seconds)) {
            Ok(row) => measured.0.push(row),
            Err(error) => {
                let error = format!("{attack}: {error:#}");
                say(&error);
                failed.push(error);
            }
        }
        say(&measured.table());
    }
    let misses: Vec<_> = measured.misses().into_iter().chain(failed).collect();
    say(&if misses.is_empty() { "all as it must be".to_owned() } else { misses.join("\n") });
    Ok(misses.is_empty())
}

/// One attack, during which each server fails once.
fn measure(attack: Attack, time: Duration) -> Result<Row> {
    let folder = tempfile::Builder::new().prefix("lvs-attack-").tempdir()?;
    let setup = attack.setup(folder.path());
    let lab = Lab::build(&setup.layout)?;
    prepare_ipvs(&lab.network.director)?;
    let props = Props::new(attack, &lab, folder)?;
    let mut bed = Testbed::in_lab(lab, &setup)?;
    bed.run_for(WARM_UP)?;
    // As somebody scrapes a director all the time.
    bed.agent.metrics()?;

    let before = resident(bed.agent.pid())?;
    let memory = MemoryWatch::start(bed.agent.pid());
    let ongoing = Ongoing::begin(attack, &bed, &props)?;
    let begin = Moment::now();
    let logged = logged(attack, &bed)?;
    let mut minute = Minute { begin, time, faults: Vec::new(), at: 0 };
    for number in 0..usize::from(SERVERS) / 2 {
        if attack.ground().notices_processes() {
            minute.fail(&mut bed, Fault::ProcessKilled, number)?;
        }
        minute.fail(&mut bed, Fault::LinkDown, usize::from(SERVERS) / 2 + number)?;
    }
    bed.run_for(time.saturating_sub(Moment::now().since(begin)))?;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let lines = (self::logged(attack, &bed)? - logged) as f64 / Moment::now().since(begin).as_secs_f64();
    ongoing.end()?;
    let most = memory.end()?;
    let history = bed.watcher.history()?;
    let times = |fault| {
        let faults = minute.faults.iter().filter(move |one: &&Injected| one.fault == fault);
        faults.map(|one| one.out.map(|out| out.ms_after(one.at))).collect::<Vec<_>>()
    };
    let row = Row {
        attack,
        killed: times(Fault::ProcessKilled),
        lost: times(Fault::LinkDown),
        memory: (before, most),
        lines,
        wrong: control_characters(&bed.agent.lines()),
        healthy_out: healthy_out(&history, begin, &minute.faults),
    };
    bed.agent.check_running()?;
    Ok(row)
}

/// Lines of the log so far: those that were read, or those that were lost.
fn logged(attack: Attack, bed: &Testbed) -> Result<u64> {
    if !attack.loses_log() {
        return Ok(bed.agent.lines().len() as u64);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    Ok(lost_lines(bed)? as u64)
}

/// What a hostile text did to the log.
fn control_characters(lines: &[String]) -> Vec<String> {
    let is_wrong = |line: &&String| {
        FORBIDDEN.iter().any(|word| line.contains(word)) || line.chars().any(char::is_control)
    };
    let first = lines.iter().find(is_wrong);
    first.map(|line| format!("a line with control characters: {line:?}")).into_iter().collect()
}

/// A fault and what came of it.
struct Injected {
    fault: Fault,
    server: SocketAddr,
    at: Moment,
    out: Option<Moment>,
    /// When it was in the table again.
    back: Moment,
}

/// The time of one attack.
struct Minute {
    begin: Moment,
    time: Duration,
    faults: Vec<Injected>,
    at: u32,
}

impl Minute {
    /// Lets a server fail when it is its turn, and repairs it.
    fn fail(&mut self, bed: &mut Testbed, fault: Fault, server: usize) -> Result<()> {
        let share = self.time.saturating_sub(LEAD) / u32::from(SERVERS);
        let due = self.begin.plus(LEAD + share * self.at);
        self.at += 1;
        let address = bed.lab.servers[server].address();
        let armed = fault.arm(&bed.lab.network.switch, &bed.lab.servers[server])?;
        serving(bed)?;
        bed.run_for(due.since(Moment::now()))?;
        let at = armed.inject()?;
        let out = |bed: &Testbed| -> Result<_> {
            let history = bed.watcher.history()?;
            let found = history.into_iter().find(|seen| seen.at >= at && is_out(seen, address));
            Ok(found.map(|seen| seen.at))
        };
        while out(bed)?.is_none() && Moment::now().since(at) < GIVE_UP_AFTER {
            bed.run_for(Duration::from_millis(20))?;
        }
        let found = out(bed)?;
        bed.run_for(OUT)?;
        bed.repair(fault, server)?;
        serving(bed).with_context(|| format!("after the repair of {address} ({fault})"))?;
        self.faults.push(Injected { fault, server: address, at, out: found, back: Moment::now() });
        Ok(())
    }
}

/// Waits until every server has a weight and has served since now.
fn serving(bed: &mut Testbed) -> Result<()> {
    let since = Moment::now();
    wait::until_true("every server to serve", RETURN_LIMIT, || {
        bed.agent.check_running()?;
        let table = bed.watcher.table()?;
        let serves = |server: &crate::lab::servers::RealServer| {
            !table.is_out(server.address()) && bed.served_since(&server.name, since) >= SERVED
        };
        Ok(bed.lab.servers.iter().all(serves))
    })
    .with_context(|| bed.diagnosis())
}

/// Whether a server is out everywhere: where it serves names beside pages, of both services.
fn is_out(state: &TableState, server: SocketAddr) -> bool {
    let of_names = SocketAddr::new(server.ip(), 81);
    state.table.is_out(server) && state.table.is_out(of_names)
}

/// How often a server was taken out that had not failed.
fn healthy_out(history: &[TableState], begin: Moment, faults: &[Injected]) -> usize {
    let steps = history.iter().zip(history.iter().skip(1)).filter(|(_, after)| after.at >= begin);
    steps
        .map(|(before, after)| {
            let had =
                before.table.destinations().filter(|(_, had)| had.weight > 0 && !is_of_attack(had.server));
            had.filter(|(_, had)| after.table.is_out(had.server))
                .filter(|(_, had)| {
                    let explains = |fault: &Injected| {
                        fault.server.ip() == had.server.ip() && (fault.at..=fault.back).contains(&after.at)
                    };
                    !faults.iter().any(explains)
                })
                .count()
        })
        .sum()
}

/// Looks at a process' memory all the time.
struct MemoryWatch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<f64>>,
}

impl MemoryWatch {
    fn start(process: nix::unistd::Pid) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut most: f64 = 0.0;
            while !stopped.load(Ordering::Relaxed) {
                most = most.max(resident(process)?);
                thread::sleep(LOOK);
            }
            Ok(most)
        });
        Self { stop, thread }
    }

    /// The most that it was, in MiB.
    fn end(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_panic| anyhow!("the watch of the memory panicked"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::director::table::Table;

    fn state(at: u64, weights: [u32; 2]) -> TableState {
        let lines = weights
            .iter()
            .zip(1..)
            .map(|(weight, number)| format!("  -> 0A0000{number:02X}:0050 Masq {weight} 0 0\n"));
        let lines = lines.collect::<Vec<_>>().concat();
        let text = format!("IPVS\nProt\n  -> Remote\nTCP  C0000250:0050 rr\n{lines}");
        TableState { at: Moment::from_ns(at), table: Table::parse(&text).unwrap() }
    }

    #[test]
    fn only_servers_that_failed_may_be_out() {
        let history =
            [state(1, [1, 1]), state(10, [0, 1]), state(20, [1, 1]), state(30, [1, 0]), state(40, [1, 1])];
        let fault = |server: u8, at: u64| Injected {
            fault: Fault::ProcessKilled,
            server: SocketAddr::from(([10, 0, 0, server], 80)),
            at: Moment::from_ns(at),
            out: None,
            back: Moment::from_ns(at + 10),
        };
        let count = |faults: &[Injected]| healthy_out(&history, Moment::from_ns(5), faults);
        assert_eq!(count(&[fault(1, 9), fault(2, 29)]), 0);
        assert_eq!(count(&[fault(1, 9)]), 1);
        assert_eq!(count(&[fault(2, 9), fault(1, 29)]), 2);
        assert_eq!(healthy_out(&history, Moment::from_ns(25), &[]), 1);
    }

    #[test]
    fn a_line_with_control_characters_is_found() {
        for line in ["a\u{1b}[2J", "{\"reason\":\"\\u001b\"}", "x\u{202e}y"] {
            assert_eq!(control_characters(&["well".to_owned(), line.to_owned()]).len(), 1, "{line:?}");
        }
        assert_eq!(control_characters(&["{\"message\":\"well \\\"up\\\"\"}".to_owned()]), [] as [&str; 0]);
    }
}
