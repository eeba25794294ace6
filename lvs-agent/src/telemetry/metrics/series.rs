//! Series of servers and services: they go when those who count for them do.
//!
//! The exporter keeps each series for ever. Here a series lives as long as somebody has its handle, so that a server
//! that is gone leaves neither a line in the exposition nor memory behind. What is not known (NaN) has no line:
//! OpenMetrics' readers take NaN for a value.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Label, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::PrometheusRecorder;

/// Labels of metrics that are kept here.
const OWNED_BY: [&str; 2] = ["server", "service"];

/// The series. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Series(Arc<Mutex<Families>>);

#[derive(Default)]
struct Families {
    by_name: BTreeMap<String, Family>,
    help: BTreeMap<String, String>,
    /// The upper bounds of a histogram's buckets.
    bounds: BTreeMap<String, Arc<[Bound]>>,
}

/// All series of one name: their labels as text, and their values.
struct Family {
    kind: Kind,
    series: BTreeMap<Box<str>, Value>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

enum Value {
    /// A count, or the bits of a gauge.
    Number(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

/// The upper bound of a bucket.
struct Bound {
    value: f64,
    /// The same as it is shown.
    text: String,
}

/// A histogram.
struct Buckets {
    bounds: Arc<[Bound]>,
    /// One for each bound, and one above all of them.
    counts: Vec<AtomicU64>,
    /// The bits of the sum.
    sum: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        let bucket = self.bounds.partition_point(|bound| bound.value < value);
        if let Some(counted) = self.counts.get(bucket) {
            counted.fetch_add(count as u64, Ordering::Relaxed);
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let more = value * count as f64;
        let add = |sum| Some((f64::from_bits(sum) + more).to_bits());
        // It fails only if the function does.
        self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok();
    }
}

impl Series {
    /// Sets the bounds of a histogram, before it is first recorded.
    pub(super) fn set_bounds(&self, name: &str, bounds: &[f64]) {
        self.lock().bounds.insert(name.to_owned(), shown(bounds));
    }

    /// Appends all series in Prometheus' text format. Those of which nobody has the handle any more are forgotten.
    ///
    /// The lock is taken for one family at a time: whoever begins to count never waits for a whole text.
    pub(super) fn render(&self, text: &mut String) {
        let names: Vec<_> = self.lock().by_name.keys().cloned().collect();
        for name in names {
            let mut families = self.lock();
            let Families { by_name, help, .. } = &mut *families;
            if let Some(family) = by_name.get_mut(&name) {
                family.forget_the_gone();
                family.render(&name, help.get(&name).map(String::as_str), text);
            }
        }
        self.lock().by_name.retain(|_, family| !family.series.is_empty());
    }

    /// Forgets the series of which nobody has the handle any more.
    pub(super) fn forget_the_gone(&self) {
        self.lock().by_name.retain(|_, family| {
            family.forget_the_gone();
            !family.series.is_empty()
        });
    }

    /// How many series are remembered, those of which nobody has the handle any more included.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.lock().by_name.values().map(|family| family.series.len()).sum()
    }

    fn number(&self, key: &Key, kind: Kind) -> Arc<AtomicU64> {
        let mut families = self.lock();
        let series = &mut families.family(key.name(), kind).series;
        let labels = labels(key.labels());
        if let Some(Value::Number(known)) = series.get(&labels)
            && Arc::strong_count(known) > 1
        {
            return known.clone();
        }
        // A gauge is not known until it is set.
        let start = if kind == Kind::Gauge { f64::NAN.to_bits() } else { 0 };
        let number = Arc::new(AtomicU64::new(start));
        series.insert(labels, Value::Number(number.clone()));
        number
    }

    fn histogram(&self, key: &Key) -> Arc<Buckets> {
        let mut families = self.lock();
        let bounds = families.bounds.get(key.name()).cloned().unwrap_or_else(|| shown(&super::SECONDS));
        let series = &mut families.family(key.name(), Kind::Histogram).series;
        let labels = labels(key.labels());
        if let Some(Value::Histogram(known)) = series.get(&labels)
            && Arc::strong_count(known) > 1
        {
            return known.clone();
        }
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        let buckets = Arc::new(Buckets { bounds, counts, sum: AtomicU64::new(0) });
        series.insert(labels, Value::Histogram(buckets.clone()));
        buckets
    }

    fn describe(&self, name: &KeyName, help: &SharedString) {
        self.lock().help.insert(name.as_str().to_owned(), help.to_string());
    }

    fn lock(&self) -> MutexGuard<'_, Families> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Families {
    fn family(&mut self, name: &str, kind: Kind) -> &mut Family {
        let new = || Family { kind, series: BTreeMap::new() };
        self.by_name.entry(name.to_owned()).or_insert_with(new)
    }
}

impl Family {
    fn forget_the_gone(&mut self) {
        self.series.retain(|_, value| match value {
            Value::Number(number) => Arc::strong_count(number) > 1,
            Value::Histogram(buckets) => Arc::strong_count(buckets) > 1,
        });
    }

    /// A family of which nothing is known has no lines.
    fn render(&self, name: &str, help: Option<&str>, text: &mut String) {
        let begin = text.len();
        // Writing into a string can't fail.
        if let Some(help) = help {
            writeln!(text, "# HELP {name} {}", escaped(help, &[])).ok();
        }
        writeln!(text, "# TYPE {name} {}", self.kind.word()).ok();
        let lines = text.len();
        for (labels, value) in &self.series {
            match value {
                Value::Number(number) => self.kind.line(text, name, labels, number.load(Ordering::Relaxed)),
                Value::Histogram(buckets) => buckets.lines(text, name, labels),
            }
        }
        if text.len() == lines {
            text.truncate(begin);
        }
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }

    /// The line of a count, or of the bits of a gauge.
    fn line(self, text: &mut String, name: &str, labels: &str, number: u64) {
        let value = f64::from_bits(number);
        if self != Self::Counter && value.is_nan() {
            return;
        }
        push_all(text, [name, "{", labels, "} "]);
        if self == Self::Counter {
            push_integer(text, number);
        } else {
            push_value(text, value);
        }
        text.push('\n');
    }
}

impl Buckets {
    fn lines(&self, text: &mut String, name: &str, labels: &str) {
        let gap = if labels.is_empty() { "" } else { "," };
        let bounds = self.bounds.iter().map(|bound| bound.text.as_str()).chain(["+Inf"]);
        let mut below = 0;
        for (bound, count) in bounds.zip(&self.counts) {
            below += count.load(Ordering::Relaxed);
            push_all(text, [name, "_bucket{", labels, gap, "le=\"", bound, "\"} "]);
            push_integer(text, below);
            text.push('\n');
        }
        push_all(text, [name, "_sum{", labels, "} "]);
        push_value(text, f64::from_bits(self.sum.load(Ordering::Relaxed)));
        push_all(text, ["\n", name, "_count{", labels, "} "]);
        push_integer(text, below);
        text.push('\n');
    }
}

fn shown(bounds: &[f64]) -> Arc<[Bound]> {
    bounds.iter().map(|value| Bound { value: *value, text: value.to_string() }).collect()
}

fn push_all<const N: usize>(text: &mut String, parts: [&str; N]) {
    for part in parts {
        text.push_str(part);
    }
}

/// Tens of thousands of lines have a whole number: the way of `format!` takes several times as long.
fn push_integer(text: &mut String, number: u64) {
    text.push_str(itoa::Buffer::new().format(number));
}

fn push_value(text: &mut String, value: f64) {
    /// All integers up to here are exact (2^53).
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.trunc().to_bits() == value.to_bits() && (0.0..EXACT).contains(&value) && value.is_sign_positive()
    {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number within them"
        )]
        push_integer(text, value as u64);
    } else {
        // Writing into a string can't fail.
        write!(text, "{value}").ok();
    }
}

/// Labels as they stand between the braces.
fn labels<'a>(labels: impl Iterator<Item = &'a Label>) -> Box<str> {
    let shown = labels.map(|label| format!("{}=\"{}\"", label.key(), escaped(label.value(), &['"'])));
    shown.collect::<Vec<_>>().join(",").into()
}

/// With a backslash before each backslash and these characters, and `\n` for the end of a line.
fn escaped(text: &str, further: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => escaped += "\\n",
            c if c == '\\' || further.contains(&c) => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Records into the series what is about a server or service, and everything else into the exporter.
pub(super) struct SeriesRecorder {
    pub(super) exporter: PrometheusRecorder,
    pub(super) series: Series,
}

fn is_owned(key: &Key) -> bool {
    key.labels().any(|label| OWNED_BY.contains(&label.key()))
}

impl Recorder for SeriesRecorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.series.describe(&key, &help);
        self.exporter.describe_counter(key, unit, help);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.series.describe(&key, &help);
        self.exporter.describe_gauge(key, unit, help);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.series.describe(&key, &help);
        self.exporter.describe_histogram(key, unit, help);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        if is_owned(key) {
            Counter::from_arc(self.series.number(key, Kind::Counter))
        } else {
            self.exporter.register_counter(key, metadata)
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        if is_owned(key) {
            Gauge::from_arc(self.series.number(key, Kind::Gauge))
        } else {
            self.exporter.register_gauge(key, metadata)
        }
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        if is_owned(key) {
            Histogram::from_arc(self.series.histogram(key))
        } else {
            self.exporter.register_histogram(key, metadata)
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, describe_gauge, gauge, histogram};

    use crate::telemetry::metrics::recorder;

    #[test]
    fn a_series_lives_as_long_as_somebody_counts_for_it() {
        let (recorder, exposition) = recorder().unwrap();
        metrics::with_local_recorder(&recorder, || {
            let labels = |server: &str| [("service", "web".to_owned()), ("server", server.to_owned())];
            let (first, second) = (counter!("a_total", &labels("1")), counter!("a_total", &labels("2")));
            first.increment(1);
            second.increment(2);
            counter!("a_total", &labels("2")).increment(3);
            let lines = |text: String| text.lines().filter(|line| line.starts_with("a_")).count();
            let text = exposition.render();
            assert!(text.contains("a_total{service=\"web\",server=\"2\"} 5\n"), "{text}");
            assert_eq!(lines(text), 2);
            drop(second);
            assert_eq!(lines(exposition.render()), 1);
            drop(first);
            assert!(!exposition.render().contains("a_total"));
            // It begins anew, which Prometheus takes for a reset.
            let again = counter!("a_total", &labels("2"));
            again.increment(1);
            assert!(exposition.render().contains("server=\"2\"} 1\n"));
            assert!(
                exposition.series.lock().by_name["a_total"].series.len() == 1,
                "no memory is left behind"
            );
        });
    }

    #[test]
    fn values_are_written_as_numbers_are_displayed() {
        for value in [0.0, -0.0, 1.0, 0.5, -3.0, 1e-7, 1.5e9, 9_007_199_254_740_992.0, 1e300, f64::INFINITY] {
            let mut text = String::new();
            super::push_value(&mut text, value);
            assert_eq!(text, value.to_string());
        }
    }

    #[test]
    fn what_is_not_known_has_no_line() {
        let (recorder, exposition) = recorder().unwrap();
        metrics::with_local_recorder(&recorder, || {
            describe_gauge!("g", "a \"thing\" with a \\ and\na line");
            let gauge = gauge!("g", "service" => "web");
            assert!(!exposition.render().contains("TYPE g "));
            gauge.set(1.5);
            let expected =
                "# HELP g a \"thing\" with a \\\\ and\\na line\n# TYPE g gauge\ng{service=\"web\"} 1.5\n";
            assert!(exposition.render().contains(expected), "{}", exposition.render());
            gauge.set(f64::NAN);
            assert!(!exposition.render().contains("NaN") && !exposition.render().contains("g{"));
        });
    }

    #[test]
    fn names_are_escaped() {
        let (recorder, exposition) = recorder().unwrap();
        metrics::with_local_recorder(&recorder, || {
            let gauge = gauge!("g", "service" => "a\"b\\c\nd\u{1b}");
            gauge.set(1);
            let text = exposition.render();
            assert!(text.contains("g{service=\"a\\\"b\\\\c\\nd\u{1b}\"} 1\n"), "{text}");
        });
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let (recorder, exposition) = recorder().unwrap();
        exposition.series.set_bounds("h", &[0.5, 1.0]);
        metrics::with_local_recorder(&recorder, || {
            let histogram = histogram!("h", "server" => "1");
            for value in [0.5, 0.6, 1.0, 3.0] {
                histogram.record(value);
            }
            histogram.record_many(0.25, 4);
            let expected = "h_bucket{server=\"1\",le=\"0.5\"} 5\nh_bucket{server=\"1\",le=\"1\"} 7\n\
                            h_bucket{server=\"1\",le=\"+Inf\"} 8\nh_sum{server=\"1\"} 6.1\nh_count{server=\"1\"} 8\n";
            assert!(exposition.render().contains(expected), "{}", exposition.render());
        });
    }
}
