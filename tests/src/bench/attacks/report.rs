//! What was measured, as a table, and whether it is as it must be.

use std::fmt::Write as _;

use super::kinds::{Attack, Ground};

/// An attack may make it so many times as long until a server is out.
const LONGER: f64 = 2.0;
/// And the memory so many times as large.
const LARGER: f64 = 1.5;
/// And cause so many lines of the log a second.
const LINES: f64 = 10.0;
/// What a run without an attack may be lucky by, in ms: two ticks of the detector.
const LUCK: f64 = 40.0;

/// What was seen of one attack.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) attack: Attack,
    /// From the end of a server's process until it was out, in ms; `None`: never.
    pub(super) killed: Vec<Option<f64>>,
    /// The same from the loss of a server's link.
    pub(super) lost: Vec<Option<f64>>,
    /// The agent's memory before and at its most, in MiB.
    pub(super) memory: (f64, f64),
    /// Lines of the log a second.
    pub(super) lines: f64,
    /// What else took place that must not: healthy servers out, lines with control characters.
    pub(super) wrong: Vec<String>,
    /// How often a healthy server was taken out.
    pub(super) healthy_out: usize,
}

/// The median; of an even number of times the worse one, and never is worse than any. `None`: never, or nothing.
fn median(times: &[Option<f64>]) -> Option<f64> {
    let mut times = times.to_vec();
    times.sort_by(|one, other| one.unwrap_or(f64::INFINITY).total_cmp(&other.unwrap_or(f64::INFINITY)));
    times.get(times.len() / 2).copied().flatten()
}

/// `median (least–greatest)`.
fn times(times: &[Option<f64>]) -> String {
    if times.is_empty() {
        return "–".to_owned();
    }
    let Some(median) = median(times) else { return "never".to_owned() };
    let known = || times.iter().flatten().copied();
    let (least, greatest) = (known().fold(f64::INFINITY, f64::min), known().fold(0.0, f64::max));
    let missing = times.iter().filter(|time| time.is_none()).count();
    let never = if missing > 0 { format!(", {missing} × never") } else { String::new() };
    format!("{} ({}–{}{never})", ms(median), ms(least), ms(greatest))
}

/// Short times with a digit behind the point.
fn ms(time: f64) -> String {
    if time < 10.0 { format!("{time:.1}") } else { format!("{time:.0}") }
}

impl Row {
    /// What is not as it must be, beside the row without an attack.
    fn misses(&self, calm: Option<&Self>) -> Vec<String> {
        let mut misses = self.wrong.clone();
        let mut compare = |what: &str, times: &[Option<f64>], calm: Option<&[Option<f64>]>| {
            let limit = calm.and_then(median).map(|calm| LONGER * calm.max(LUCK));
            if times.is_empty() {
                return;
            }
            match (median(times), limit) {
                (None, _) => misses.push(format!("{what}: never out")),
                (Some(time), Some(limit)) if time > limit => {
                    misses.push(format!("{what}: out after {time:.0} ms, above {limit:.0}"));
                }
                _ => {}
            }
        };
        compare("killed", &self.killed, calm.map(|calm| &calm.killed[..]));
        if !self.attack.hides_packets() {
            compare("link lost", &self.lost, calm.map(|calm| &calm.lost[..]));
        }
        if self.healthy_out > 0 {
            misses.push(format!("healthy servers out: {}", self.healthy_out));
        }
        let (before, most) = self.memory;
        if most > LARGER * before {
            misses.push(format!("memory {:.2} times as large", most / before));
        }
        if self.lines > LINES {
            misses.push(format!("{:.1} lines a second", self.lines));
        }
        misses
    }

    fn text(&self) -> String {
        let (before, most) = self.memory;
        format!(
            "| {} | {} | {} | {before:.1} → {most:.1} ({:.2}) | {:.1} | {} |",
            self.attack,
            times(&self.killed),
            times(&self.lost),
            most / before,
            self.lines,
            self.healthy_out
        )
    }
}

/// All rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured(pub(super) Vec<Row>);

impl Measured {
    fn calm(&self, ground: Ground) -> Option<&Row> {
        self.0.iter().find(|row| row.attack == Attack::None(ground))
    }

    /// What each attack made not as it must be.
    pub(super) fn misses(&self) -> Vec<String> {
        let of = |row: &Row| {
            let misses = row.misses(self.calm(row.attack.ground()));
            (!misses.is_empty()).then(|| format!("{}: {}", row.attack, misses.join("; ")))
        };
        self.0.iter().filter_map(of).collect()
    }

    pub(super) fn table(&self) -> String {
        let mut text =
            "| attack | process killed, out after (ms) | link lost, out after (ms) | memory (MiB) | lines \
                        of the log/s | healthy servers out |\n|---|---:|---:|---:|---:|---:|\n"
                .to_owned();
        for row in &self.0 {
            // Writing to a string can't fail.
            writeln!(text, "{}", row.text()).unwrap_or_default();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(attack: Attack) -> Row {
        Row {
            attack,
            killed: vec![Some(2.0), Some(3.0), Some(30.0)],
            lost: vec![Some(150.0), Some(160.0), Some(500.0)],
            memory: (20.0, 21.0),
            lines: 3.0,
            wrong: Vec::new(),
            healthy_out: 0,
        }
    }

    #[test]
    fn what_is_not_as_it_must_be_is_named() {
        type Spoil = fn(&mut Row);
        let calm = row(Attack::None(Ground::Usual));
        assert_eq!(row(Attack::Control).misses(Some(&calm)), [] as [&str; 0]);
        let cases: [(Spoil, &str); 7] = [
            (|row| row.killed = vec![Some(90.0), None, Some(85.0)], "killed: out after 90 ms, above 80"),
            (|row| row.lost = vec![None, None, Some(1.0)], "link lost: never out"),
            (|row| row.lost = vec![Some(330.0); 3], "link lost: out after 330 ms, above 320"),
            (|row| row.memory.1 = 31.0, "memory 1.55 times as large"),
            (|row| row.lines = 10.1, "10.1 lines a second"),
            (|row| row.healthy_out = 1, "healthy servers out: 1"),
            (|row| row.wrong.push("a line".to_owned()), "a line"),
        ];
        for (spoil, words) in cases {
            let mut spoiled = row(Attack::Control);
            spoil(&mut spoiled);
            assert_eq!(spoiled.misses(Some(&calm)), [words]);
        }
        let blind = Row { lost: vec![Some(3000.0); 3], ..row(Attack::OtherProgram) };
        assert_eq!(blind.misses(Some(&calm)), [] as [&str; 0]);
    }

    #[test]
    fn a_row_tells_medians_and_spread() {
        let text = row(Attack::Control).text();
        assert!(text.contains("| 3.0 (2.0–30) | 160 (150–500) | 20.0 → 21.0 (1.05) | 3.0 | 0 |"), "{text}");
        assert_eq!(times(&[]), "–");
        assert_eq!(times(&[None, Some(1.0)]), "never");
        assert_eq!(times(&[None, Some(1.0), Some(1.0)]), "1.0 (1.0–1.0, 1 × never)");
    }
}
