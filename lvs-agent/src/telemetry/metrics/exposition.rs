//! The text that is scraped: what the exporter has, the series of servers and services, and the process itself.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use metrics_exporter_prometheus::{PrometheusHandle, PrometheusRecorder};

use super::{process, series::Series};

/// Everything that is recorded. Clones share it.
#[derive(Clone)]
pub(super) struct Exposition {
    handle: PrometheusHandle,
    pub(super) series: Series,
    /// The room that the next text will need: it is long, and would be copied each time that it grows.
    length: Arc<AtomicUsize>,
}

impl Exposition {
    pub(super) fn new(exporter: &PrometheusRecorder, series: Series) -> Self {
        Self { handle: exporter.handle(), series, length: Arc::default() }
    }

    /// All metrics in Prometheus' text format.
    pub(super) fn render(&self) -> String {
        let mut text = self.handle.render();
        text.reserve(self.length.load(Ordering::Relaxed).saturating_sub(text.len()));
        self.series.render(&mut text);
        text += &process::render();
        self.length.store(text.len() + text.len() / 8, Ordering::Relaxed);
        text
    }

    /// Folds histograms that nobody scrapes, and forgets series of servers that are gone; else samples and names would
    /// pile up.
    pub(super) fn run_upkeep(&self) {
        self.handle.run_upkeep();
        self.series.forget_the_gone();
    }
}

/// The same in OpenMetrics' format (<https://prometheus.io/docs/specs/om/open_metrics_spec/>): a counter's family is
/// named without `_total`, there are no empty lines, quotes in a help are escaped, and the end is marked.
pub(super) fn open_metrics(text: &str) -> String {
    // Some bytes more for its end, and for quotes that are escaped.
    let mut open = String::with_capacity(text.len() + 256);
    for line in text.lines().filter(|line| !line.is_empty()) {
        let described = line.strip_prefix("# ").and_then(|rest| {
            let (word, rest) = rest.split_once(' ')?;
            let (name, rest) = rest.split_once(' ')?;
            Some((word, name, rest))
        });
        if let Some((word, name, rest)) = described {
            let name = name.strip_suffix("_total").unwrap_or(name);
            let rest = if word == "HELP" { rest.replace('"', "\\\"") } else { rest.to_owned() };
            // Writing into a string can't fail.
            writeln!(open, "# {word} {name} {rest}").ok();
        } else {
            open.push_str(line);
            open.push('\n');
        }
    }
    open.push_str("# EOF\n");
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_names_counters_by_their_family_and_has_an_end() {
        let text =
            "# HELP a_total all \"a\"\n# TYPE a_total counter\na_total{x=\"y\"} 1\n\n# TYPE g gauge\ng 2\n\n";
        let expected =
            "# HELP a all \\\"a\\\"\n# TYPE a counter\na_total{x=\"y\"} 1\n# TYPE g gauge\ng 2\n# EOF\n";
        assert_eq!(open_metrics(text), expected);
    }
}
