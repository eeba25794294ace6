//! The mixin and its documents: each metric that it names exists, each alert has a section, and cases in which it fires
//! and in which it is silent.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use super::metrics;
use super::tree::{File, Kind, Tree};

/// Where each alert has a section.
const ALERTS: &str = "docs/alerts.md";

/// Where each alert is tried.
const CASES: &str = "contrib/mixin/tests/alerts.yaml";

/// What a histogram's series are called beside its name.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mixin: Vec<&File> = tree.files.iter().filter(|file| matches!(file.kind, Kind::Mixin)).collect();
    if mixin.is_empty() {
        return Vec::new();
    }
    let mut violations = of_metrics(tree, &mixin);
    let alerts: BTreeMap<&str, (&File, usize)> =
        mixin.iter().flat_map(|file| alerts(file).map(|(name, line)| (name, (*file, line)))).collect();
    let texts = |path: &str| tree.files.iter().find(|file| file.path == path).map_or("", |file| &file.text);
    let sections: BTreeMap<&str, usize> = (1..)
        .zip(texts(ALERTS).lines())
        .filter_map(|(line, text)| Some((text.strip_prefix("## ")?, line)))
        .collect();
    for (name, (file, line)) in &alerts {
        if !sections.contains_key(name) {
            let message = format!("{name} has no section in {ALERTS}; write what it means and what to do");
            violations.push(Violation::new(&file.path, *line, message));
        }
        let (fires, silent) = cases(texts(CASES), name);
        for (is_there, what) in [(fires, "fires"), (silent, "is silent")] {
            if !is_there {
                let message = format!("{CASES} has no case in which {name} {what}; add one");
                violations.push(Violation::new(&file.path, *line, message));
            }
        }
    }
    for (name, line) in sections.into_iter().filter(|(name, _)| !alerts.contains_key(name)) {
        let message = format!("there is no alert {name}; take its section out, or name it as the mixin does");
        violations.push(Violation::new(ALERTS, line, message));
    }
    violations
}

/// Metrics that the mixin names and that nobody documents.
fn of_metrics(tree: &Tree, mixin: &[&File]) -> Vec<Violation> {
    let documented: BTreeSet<&str> = metrics::documented(tree).into_iter().map(|(name, _)| name).collect();
    let is_known = |name: &str| {
        let series = OF_HISTOGRAMS.iter().find_map(|end| name.strip_suffix(end));
        documented.contains(name) || series.is_some_and(|name| documented.contains(name))
    };
    let mut violations = Vec::new();
    for file in mixin {
        for (number, line) in (1..).zip(file.text.lines()) {
            for name in names(line).filter(|name| !is_known(name)) {
                let message = format!("{name} is not in {}; name a metric that is", metrics::DOCUMENT);
                violations.push(Violation::new(&file.path, number, message));
            }
        }
    }
    violations
}

/// The names of metrics of the agent in a line. Names with a colon are those of recording rules.
fn names(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| metrics::is_name(word))
}

/// The alerts of a source, each with its line: the name is the line after `alert(`.
fn alerts(file: &File) -> impl Iterator<Item = (&str, usize)> {
    let lines = file.text.lines().zip(file.text.lines().skip(1)).zip(2..);
    lines.filter_map(|((before, line), number)| {
        let name = line.trim().strip_prefix('\'')?.strip_suffix("',")?;
        (before.trim() == "alert(").then_some((name, number))
    })
}

/// Whether the cases have one in which the alert fires, and one in which it is silent.
fn cases(text: &str, alert: &str) -> (bool, bool) {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let named = format!("alertname: {alert}");
    let outcomes = || lines.iter().zip(lines.iter().skip(1)).filter(|(line, _)| **line == named);
    let is = |outcome: &str| outcomes().any(|(_, next)| *next == outcome);
    (is("exp_alerts:"), is("exp_alerts: []"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::said;

    const METRICS: (&str, &str) =
        ("docs/metrics.md", "| `lvs_a_total` | counter |\n| `lvs_h` | histogram |\n");
    const SOURCE: &str =
        "      alert(\n        'LvsA',\n        'warning',\n        'rate(lvs_a_total[5m])',\n      ),\n";
    const BOTH: &str =
        "alertname: LvsA\n        exp_alerts:\n          - x\nalertname: LvsA\n  exp_alerts: []\n";

    #[test]
    fn an_alert_without_a_section_or_a_case_is_found() {
        let files = [
            METRICS,
            ("contrib/mixin/alerts.libsonnet", SOURCE),
            ("docs/alerts.md", "# Alerts\n\n## LvsB\n"),
            ("contrib/mixin/tests/alerts.yaml", "alertname: LvsA\nexp_alerts:\n"),
        ];
        assert_eq!(
            said(check, &files),
            [
                "contrib/mixin/alerts.libsonnet:2: LvsA has no section in docs/alerts.md; write what it means and what \
                 to do",
                "contrib/mixin/alerts.libsonnet:2: contrib/mixin/tests/alerts.yaml has no case in which LvsA is \
                 silent; add one",
                "docs/alerts.md:3: there is no alert LvsB; take its section out, or name it as the mixin does",
            ]
        );
    }

    #[test]
    fn a_metric_that_nobody_documents_is_found() {
        let rules = "rule('service:lvs_x:sum', 'sum(lvs_h_bucket) + lvs_a_total + lvs_gone')";
        let files = [
            METRICS,
            ("contrib/mixin/alerts.libsonnet", SOURCE),
            ("contrib/mixin/rules.libsonnet", rules),
            ("docs/alerts.md", "## LvsA\n"),
            ("contrib/mixin/tests/alerts.yaml", BOTH),
        ];
        let expected =
            "contrib/mixin/rules.libsonnet:1: lvs_gone is not in docs/metrics.md; name a metric that is";
        assert_eq!(said(check, &files), [expected]);
    }
}
