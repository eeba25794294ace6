//! What the steps of a test run add up to.

use std::fmt;
use std::iter::Sum;

/// How many tests passed, failed, and were not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// A step that is one test itself.
    pub(crate) fn one(passed: bool) -> Self {
        Self { passed: u64::from(passed), failed: u64::from(!passed), skipped: 0 }
    }

    /// A step that was not run.
    pub(crate) fn one_skipped() -> Self {
        Self::skipped(1)
    }

    /// Tests that were not run.
    pub(crate) fn skipped(tests: usize) -> Self {
        Self { skipped: u64::try_from(tests).unwrap_or(u64::MAX), ..Self::default() }
    }

    /// What test programs have printed, and whether they ended well. A failure that no line tells of (a program that
    /// doesn't compile, or crashes) counts as one; so does a success without any test.
    pub(crate) fn of_tests(output: &str, succeeded: bool) -> Self {
        let results: Vec<Self> = output.lines().filter_map(parse_result).collect();
        let none = results.is_empty();
        let mut counts: Self = results.into_iter().sum();
        if counts.failed == 0 && (!succeeded || none) {
            counts.failed = 1;
        }
        counts
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            passed: a.passed + b.passed,
            failed: a.failed + b.failed,
            skipped: a.skipped + b.skipped,
        })
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Reads a line such as `test result: ok. 26 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 1s`.
fn parse_result(line: &str) -> Option<Counts> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |name: &str| {
        let part = counts.split("; ").find_map(|part| part.strip_suffix(name))?;
        part.trim().parse().ok()
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 2 tests
test a ... ok
test b ... ignored

test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.18s

   Doc-tests lvs_common
test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 1 filtered out; finished in 12.00s
a line with test result: ok. 9 passed; 9 failed; 9 ignored
";

    #[test]
    fn results_are_added_up() {
        assert_eq!(Counts::of_tests(OUTPUT, false), Counts { passed: 4, failed: 2, skipped: 1 });
        assert_eq!(Counts::of_tests(OUTPUT, false).to_string(), "4 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_crash_is_a_failure() {
        let good =
            "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.18s";
        assert_eq!(Counts::of_tests(good, true), Counts { passed: 5, failed: 0, skipped: 0 });
        assert_eq!(Counts::of_tests(good, false), Counts { passed: 5, failed: 1, skipped: 0 });
        assert_eq!(Counts::of_tests("", false), Counts { passed: 0, failed: 1, skipped: 0 });
    }

    #[test]
    fn no_test_at_all_is_a_failure() {
        assert_eq!(Counts::of_tests("nothing", true), Counts { passed: 0, failed: 1, skipped: 0 });
    }
}
