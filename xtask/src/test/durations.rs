//! How long each test of a program takes that runs one after another: libtest itself tells it only on nightly.

use std::cmp::Reverse;
use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// A test that has ended, and how long after the line before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Took {
    pub(crate) test: String,
    pub(crate) time: Duration,
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6.1} s  {}", self.time.as_secs_f64(), self.test)
    }
}

/// Passes output on to `to`, and notes when the line of each test ends.
pub(crate) struct TimedLines<W> {
    to: W,
    line: Vec<u8>,
    last: Instant,
    took: Vec<Took>,
}

impl<W: Write> TimedLines<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, line: Vec::new(), last: Instant::now(), took: Vec::new() }
    }

    /// Where the output went, and what each test took.
    pub(crate) fn into_parts(self) -> (W, Vec<Took>) {
        (self.to, self.took)
    }

    fn end_line(&mut self, now: Instant) {
        let line = String::from_utf8_lossy(&self.line);
        let test = test_of(&line);
        if test.is_some() || line.starts_with("running ") {
            let time = now - self.last;
            self.took.extend(test.map(|test| Took { test: test.to_owned(), time }));
            self.last = now;
        }
        self.line.clear();
    }

    fn note(&mut self, bytes: &[u8], now: Instant) {
        for &byte in bytes {
            if byte == b'\n' {
                self.end_line(now);
            } else {
                self.line.push(byte);
            }
        }
    }
}

impl<W: Write> Write for TimedLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.to.write(bytes)?;
        self.note(&bytes[..length], Instant::now());
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The test whose result a line tells: `test a::b ... ok`.
fn test_of(line: &str) -> Option<&str> {
    let (test, result) = line.trim_end().strip_prefix("test ")?.split_once(" ... ")?;
    (result == "ok" || result == "FAILED").then_some(test)
}

/// The tests that take longest, the longest first.
pub(crate) fn slowest(mut took: Vec<Took>, count: usize) -> Vec<Took> {
    took.sort_by_key(|took| Reverse(took.time));
    took.truncate(count);
    took
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_takes_the_time_since_the_one_before() {
        let mut lines = TimedLines::new(Vec::new());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (text, seconds) in [
            ("the kernel's log\nrunning 3 tests\n", 10),
            ("test a::one ... ", 10),
            ("ok\r\nte", 12),
            ("st b::two ... FAILED\ntest b::three ... ignored\n", 17),
            ("test c::four ... ok\n", 18),
        ] {
            lines.note(text.as_bytes(), at(seconds));
        }
        let (_, took) = lines.into_parts();
        let expected = [("a::one", 2), ("b::two", 5), ("c::four", 1)];
        let expected =
            expected.map(|(test, time)| Took { test: test.to_owned(), time: Duration::from_secs(time) });
        assert_eq!(took, expected);
        assert_eq!(slowest(took, 2), [expected[1].clone(), expected[0].clone()]);
    }

    #[test]
    fn output_goes_on_unchanged() {
        let mut lines = TimedLines::new(Vec::new());
        lines.write_all(b"running 1 test\ntest a ... ok\n").expect("memory takes it");
        let (shown, took) = lines.into_parts();
        assert_eq!((shown.as_slice(), took.len()), (b"running 1 test\ntest a ... ok\n".as_slice(), 1));
    }
}
