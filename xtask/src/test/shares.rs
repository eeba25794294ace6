//! Tests of one program, dealt out to several VMs that run at once.

use std::io;
use std::thread;

use anyhow::Result;

use super::durations::{TimedLines, Took, slowest};
use super::summary::Counts;
use super::tee::Tee;
use crate::vm::Streams;

/// How many of the slowest tests are shown: what is worth a look when the whole takes too long.
const SHOWN: usize = 10;

/// Tests dealt out into at most so many shares, like cards: neighbours are about the same subject and take as long. A
/// few are not worth a second VM.
pub(super) fn dealt(tests: &[String], shares: usize) -> Vec<Vec<String>> {
    const WORTH_A_VM: usize = 5;
    let shares = shares.min(tests.len() / WORTH_A_VM).max(1);
    (0..shares).map(|share| tests.iter().skip(share).step_by(shares).cloned().collect()).collect()
}

/// What a share's program has printed, what its tests took, and how it ended.
struct Ended {
    text: String,
    took: Vec<Took>,
    status: Result<i32>,
}

impl Ended {
    fn counts(&self) -> Counts {
        if let Err(error) = &self.status {
            println!("{error:#}");
        }
        Counts::of_tests(&self.text, self.status.as_ref().is_ok_and(|status| *status == 0))
    }
}

/// Runs each share at the same time, and shows which tests took longest. The first share's output is shown as it comes,
/// that of the others when it has ended.
pub(super) fn side_by_side(
    shares: &[Vec<String>],
    run: impl Fn(&[String], Streams<'_>) -> Result<i32> + Sync,
) -> Vec<Counts> {
    let Some((first, others)) = shares.split_first() else { return Vec::new() };
    let run = &run;
    let (counts, took): (Vec<_>, Vec<_>) = thread::scope(|scope| {
        let others: Vec<_> = others.iter().map(|share| scope.spawn(move || unseen(share, run))).collect();
        let mut out = TimedLines::new(Tee::new(io::stdout()));
        let status = run(first, Streams { out: &mut out, err: &mut io::stderr() });
        let (tee, took) = out.into_parts();
        let shown = Ended { text: tee.into_text(), took, status };
        let mut ended = vec![(shown.counts(), shown.took)];
        for other in others {
            let Ok((other, err)) = other.join() else {
                ended.push((Counts::one(false), Vec::new()));
                continue;
            };
            println!("{}{err}", other.text);
            ended.push((other.counts(), other.took));
        }
        ended.into_iter().unzip()
    });
    println!("the tests that took longest:");
    for took in slowest(took.concat(), SHOWN) {
        println!("{took}");
    }
    counts
}

/// Runs a share without showing anything; what it wrote to standard error comes beside.
fn unseen(share: &[String], run: &impl Fn(&[String], Streams<'_>) -> Result<i32>) -> (Ended, String) {
    let (mut out, mut err) = (TimedLines::new(Vec::new()), Vec::new());
    let status = run(share, Streams { out: &mut out, err: &mut err });
    let (out, took) = out.into_parts();
    let text = String::from_utf8_lossy(&out).into_owned();
    (Ended { text, took, status }, String::from_utf8_lossy(&err).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_is_in_one_share() {
        let names = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        for (tests, shares, expected) in
            [(0, 2, 1), (9, 2, 1), (10, 2, 2), (64, 2, 2), (64, 1, 1), (17, 8, 3)]
        {
            let dealt = dealt(&names(tests), shares);
            assert_eq!(dealt.len(), expected, "{tests} in {shares}");
            let mut all: Vec<String> = dealt.concat();
            all.sort_by_key(|name| name.parse::<usize>().ok());
            assert_eq!(all, names(tests));
        }
    }
}
