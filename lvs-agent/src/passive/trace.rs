//! Recordings of the detector's input, to replay it later.
//!
//! A line for each change: `state AT ID VISIBILITY BYTES`, `waiting AT ID BYTES`, `answered AT ID BYTES` or
//! `counters AT ID BYTES`; and `fault AT ID`, written by the test that made the server fail. Connections that wait and
//! answered networks come before the state of the same time; older recordings have neither.
//!
//! `AT` is in ns of `CLOCK_MONOTONIC`, `VISIBILITY` is `whole` (both ways) or `half` (client only). `BYTES` are in the
//! machine's own order, each by exclusive or with its value in the server's line of the same kind before, or with zero
//! in the first one; hexadecimal, without the zeros at their end, `.NN` for so many zeros (hexadecimal as well).

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write},
};

use bytemuck::{Pod, Zeroable as _, bytes_of, bytes_of_mut};
use lvs_common::{ServerAnswered, ServerCounters, ServerId, ServerState, ServerWaiting};
use thiserror::Error;

use super::visibility::Visibility;

/// How many zeros are written as one item at most.
const MOST_ZEROS: usize = 0xff;

/// Writes a recording: what changes.
#[derive(Debug)]
pub struct Recorder<W> {
    out: W,
    states: BTreeMap<ServerId, ServerState>,
    waiting: BTreeMap<ServerId, ServerWaiting>,
    answered: BTreeMap<ServerId, ServerAnswered>,
    counters: BTreeMap<ServerId, ServerCounters>,
}

impl<W: Write> Recorder<W> {
    /// Records into `out`, which should be buffered.
    pub fn new(out: W) -> Self {
        let (states, waiting) = (BTreeMap::new(), BTreeMap::new());
        let (answered, counters) = (BTreeMap::new(), BTreeMap::new());
        Self { out, states, waiting, answered, counters }
    }

    /// A server's state at `at_ns`.
    pub fn state(
        &mut self,
        at_ns: u64,
        id: ServerId,
        visibility: Visibility,
        state: &ServerState,
    ) -> io::Result<()> {
        let visibility = match visibility {
            Visibility::Both => "whole",
            Visibility::ClientOnly => "half",
            // The detector ignores it, so that there is nothing to replay.
            Visibility::CountersOnly(_) => return Ok(()),
        };
        let state = without_stale_times(state);
        let before = self.states.insert(id, state);
        if before == Some(state) {
            return Ok(());
        }
        let before = before.unwrap_or_else(ServerState::zeroed);
        writeln!(
            self.out,
            "state {at_ns} {} {visibility} {}",
            id.0,
            hexadecimal(&difference(&before, &state))
        )
    }

    /// A server's counters at `at_ns`.
    pub fn counters(&mut self, at_ns: u64, id: ServerId, counters: &ServerCounters) -> io::Result<()> {
        write_change(&mut self.out, "counters", at_ns, id, &mut self.counters, counters)
    }

    /// The connections that wait for a server at `at_ns`.
    pub fn waiting(&mut self, at_ns: u64, id: ServerId, waiting: &ServerWaiting) -> io::Result<()> {
        write_change(&mut self.out, "waiting", at_ns, id, &mut self.waiting, waiting)
    }

    /// When a server has answered each client network, at `at_ns`.
    pub fn answered(&mut self, at_ns: u64, id: ServerId, answered: &ServerAnswered) -> io::Result<()> {
        write_change(&mut self.out, "answered", at_ns, id, &mut self.answered, answered)
    }

    /// A server was made to fail at `at_ns`.
    pub fn fault(&mut self, at_ns: u64, id: ServerId) -> io::Result<()> {
        writeln!(self.out, "fault {at_ns} {}", id.0)
    }

    /// Writes out what is still in memory.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// One line of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When, in ns.
    pub at_ns: u64,
    /// Which server.
    pub id: ServerId,
    /// The input.
    pub recorded: Recorded,
}

/// One input of the detector.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// Signs of life.
    State(Visibility, Box<ServerState>),
    /// Connections that wait.
    Waiting(Box<ServerWaiting>),
    /// When client networks were answered.
    Answered(Box<ServerAnswered>),
    /// Counters.
    Counters(Box<ServerCounters>),
    /// Nothing: from then on the server was at fault.
    Fault,
}

/// Why a line can't be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a line of a recording: {0}")]
pub struct TraceError(&'static str);

/// Reads what a [`Recorder`] has written, line by line.
#[derive(Clone, Debug, Default)]
pub struct Player {
    states: BTreeMap<ServerId, ServerState>,
    waiting: BTreeMap<ServerId, ServerWaiting>,
    answered: BTreeMap<ServerId, ServerAnswered>,
    counters: BTreeMap<ServerId, ServerCounters>,
}

impl Player {
    /// All lines of a recording.
    pub fn records(text: &str) -> Result<Vec<Record>, TraceError> {
        let mut player = Self::default();
        text.lines().map(|line| player.read(line)).collect()
    }

    /// Reads the next line.
    pub fn read(&mut self, line: &str) -> Result<Record, TraceError> {
        let mut words = line.split_ascii_whitespace();
        let mut word = || words.next().ok_or(TraceError("it is too short"));
        let kind = word()?;
        let at_ns = word()?.parse().map_err(|_| TraceError("the time is no number"))?;
        let id = ServerId(word()?.parse().map_err(|_| TraceError("the server is no number"))?);
        let recorded = match kind {
            "state" => {
                let visibility = match word()? {
                    "whole" => Visibility::Both,
                    "half" => Visibility::ClientOnly,
                    _ => return Err(TraceError("the visibility is neither whole nor half")),
                };
                let state = self.states.entry(id).or_insert_with(ServerState::zeroed);
                read(words.next().unwrap_or_default(), state)?;
                Recorded::State(visibility, Box::new(*state))
            }
            "waiting" => {
                let waiting = self.waiting.entry(id).or_insert_with(ServerWaiting::zeroed);
                read(words.next().unwrap_or_default(), waiting)?;
                Recorded::Waiting(Box::new(*waiting))
            }
            "answered" => {
                let answered = self.answered.entry(id).or_insert_with(ServerAnswered::zeroed);
                read(words.next().unwrap_or_default(), answered)?;
                Recorded::Answered(Box::new(*answered))
            }
            "counters" => {
                let counters = self.counters.entry(id).or_insert_with(ServerCounters::zeroed);
                read(words.next().unwrap_or_default(), counters)?;
                Recorded::Counters(Box::new(*counters))
            }
            "fault" => Recorded::Fault,
            _ => return Err(TraceError("it is none of state, waiting, answered, counters and fault")),
        };
        Ok(Record { at_ns, id, recorded })
    }
}

/// Writes a value, unless it is the one before.
fn write_change<T: Pod + PartialEq>(
    out: &mut impl Write,
    kind: &str,
    at_ns: u64,
    id: ServerId,
    known: &mut BTreeMap<ServerId, T>,
    value: &T,
) -> io::Result<()> {
    let before = known.insert(id, *value);
    if before == Some(*value) {
        return Ok(());
    }
    let before = before.unwrap_or_else(T::zeroed);
    writeln!(out, "{kind} {at_ns} {} {}", id.0, hexadecimal(&difference(&before, value)))
}

/// Where the bits differ.
fn difference<T: Pod>(before: &T, now: &T) -> Vec<u8> {
    bytes_of(before).iter().zip(bytes_of(now)).map(|(before, now)| before ^ now).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut text = String::with_capacity(2 * used);
    let mut left = &bytes[..used];
    // Writing into a String can't fail.
    while let Some((first, rest)) = left.split_first() {
        let zeros = left.iter().take(MOST_ZEROS).take_while(|&&byte| byte == 0).count();
        if zeros > 1 {
            write!(text, ".{zeros:02x}").ok();
            left = &left[zeros..];
        } else {
            write!(text, "{first:02x}").ok();
            left = rest;
        }
    }
    text
}

/// Without the starting times of clients that no longer wait: nothing reads them.
fn without_stale_times(state: &ServerState) -> ServerState {
    let mut state = *state;
    for layer in [&mut state.listener, &mut state.application] {
        let waiting = layer.beginnings().len();
        layer.since_ns[waiting..].fill(0);
    }
    state
}

/// Changes `value` by a difference in hexadecimal.
fn read(text: &str, value: &mut impl Pod) -> Result<(), TraceError> {
    let bytes = bytes_of_mut(value);
    let mut left = text.as_bytes();
    let mut at = 0;
    let number = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'));
        let number = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        number.ok_or(TraceError("the bytes have a character that is no digit"))
    };
    while let Some(&first) = left.first() {
        let (start, end) = if first == b'.' { (1, 3) } else { (0, 2) };
        let digits = left.get(start..end).ok_or(TraceError("the bytes have a wrong number of digits"))?;
        left = &left[end..];
        let number = number(digits)?;
        if first == b'.' {
            at += usize::from(number);
        } else {
            *bytes.get_mut(at).ok_or(TraceError("there are more bytes than it has"))? ^= number;
            at += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unchanged_values_are_not_written() {
        let mut recorder = Recorder::new(Vec::new());
        let mut state = ServerState { refusals: 1, ..ServerState::zeroed() };
        let id = ServerId(7);
        recorder.state(1, id, Visibility::ClientOnly, &state).unwrap();
        recorder.state(2, id, Visibility::ClientOnly, &state).unwrap();
        recorder.counters(3, id, &ServerCounters::zeroed()).unwrap();
        recorder.counters(4, id, &ServerCounters::zeroed()).unwrap();
        state.refusals = 2;
        recorder.state(5, id, Visibility::ClientOnly, &state).unwrap();
        let text = String::from_utf8(recorder.out).unwrap();
        let records = Player::records(&text).unwrap();
        assert_eq!(records.iter().map(|record| record.at_ns).collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!(records[2].recorded, Recorded::State(Visibility::ClientOnly, Box::new(state)));
    }

    #[test]
    fn malformed_lines_are_refused() {
        for line in [
            "",
            "state",
            "state x 1 half",
            "state 1 x half",
            "state 1 1 both",
            "states 1 1 half",
            "state 1 1 half 0",
            "state 1 1 half +1",
            "state 1 1 half gg",
            "state 1 1 half .0",
            "state 1 1 half .ff.ff.ff01",
            "counters 1",
            "waiting 1 x",
            &format!("answered 1 1 {}", "00".repeat(size_of::<ServerAnswered>() + 1)),
            &format!("state 1 1 half {}", "00".repeat(size_of::<ServerState>() + 1)),
        ] {
            assert!(Player::default().read(line).is_err(), "{line}");
        }
    }

    proptest! {
        /// A recording is read as it was written, and any line is read or refused.
        #[test]
        fn recordings_are_read_as_they_were_written(
            bytes in proptest::collection::vec(any::<[u8; size_of::<ServerState>()]>(), 1..5),
            line in ".*",
        ) {
            let states: Vec<ServerState> = bytes.iter().map(|bytes| bytemuck::pod_read_unaligned(bytes)).collect();
            let mut recorder = Recorder::new(Vec::new());
            let mut expected: Vec<Record> = Vec::new();
            for (at_ns, state) in (9..).zip(&states) {
                recorder.state(at_ns, ServerId(3), Visibility::Both, state).unwrap();
                let recorded = Recorded::State(Visibility::Both, Box::new(without_stale_times(state)));
                expected.push(Record { at_ns, id: ServerId(3), recorded });
            }
            expected.dedup_by(|one, before| one.recorded == before.recorded);
            recorder.fault(99, ServerId(3)).unwrap();
            expected.push(Record { at_ns: 99, id: ServerId(3), recorded: Recorded::Fault });
            let text = String::from_utf8(recorder.out).unwrap();
            prop_assert_eq!(Player::records(&text), Ok(expected));
            let _read_or_refused = Player::default().read(&line);
        }
    }
}
