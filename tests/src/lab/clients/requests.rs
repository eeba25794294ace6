//! What clients saw: every request with its times and outcome, and sums over them.

use std::{collections::BTreeMap, fmt, net::IpAddr, time::Duration};

use serde::Serialize;

use crate::lab::clock::Moment;

/// From here on an answer is late: the request (or the SYN) had to be sent again, which TCP does after 1 s for a SYN.
const LATE: Duration = Duration::from_millis(500);

/// One request of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The client's address.
    pub client: IpAddr,
    /// When the client asked: for a new connection, its SYN.
    pub started: Moment,
    /// When the connection was there, if it ever was.
    pub connected: Option<Moment>,
    /// When the outcome was known.
    pub ended: Moment,
    /// The outcome.
    pub outcome: Outcome,
}

impl Request {
    /// Whether the answer came, but late.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.outcome.is_success() && self.ended.since(self.started) >= LATE
    }

    /// Whether it was under way without a connection at a fault, or begun after it and before `until`. A connection
    /// that was there is lost with its server.
    #[must_use]
    pub fn had_no_connection(&self, fault: Moment, until: Moment) -> bool {
        self.ended >= fault
            && self.started < until
            && self.connected.is_none_or(|connected| connected > fault)
    }

    /// Whether the client noticed that something was wrong: no answer, or a late one.
    #[must_use]
    pub fn is_harmed(&self) -> bool {
        !self.outcome.is_success() || self.is_late()
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The server of this name answered with status 200.
    Answered(String),
    /// The connection was refused: RST or ICMP port unreachable.
    Refused,
    /// The connection was there and was reset, or closed before the answer.
    Reset,
    /// No answer in time.
    TimedOut,
    /// ICMP host or network unreachable.
    Unreachable,
    /// The server of this name answered with an error status.
    ErrorStatus(String, u16),
    /// The lab's own fault, or an answer that is none.
    Broken(String),
}

impl Outcome {
    /// Whether the client got what it wanted.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Answered(_))
    }

    /// The server that answered with status 200.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Answered(server) => Some(server),
            _ => None,
        }
    }

    /// The kind of the outcome, without names.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::TimedOut => "timed out",
            Self::Unreachable => "unreachable",
            Self::ErrorStatus(..) => "error status",
            Self::Broken(_) => "broken",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(server) => write!(f, "answered by {server}"),
            Self::ErrorStatus(server, status) => write!(f, "status {status} from {server}"),
            Self::Broken(why) => write!(f, "broken: {why}"),
            other => f.write_str(other.kind()),
        }
    }
}

/// Sums over requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All of them.
    pub requests: usize,
    /// Those that got what they wanted.
    pub answered: usize,
    /// Those of the answered that waited long for it.
    pub late: usize,
    /// The others, by kind of failure.
    pub failures: BTreeMap<&'static str, usize>,
    /// Answers by server.
    pub shares: BTreeMap<String, usize>,
}

impl Summary {
    /// Sums over the requests that started at `from` or later and before `to`.
    pub fn between<'a>(requests: impl IntoIterator<Item = &'a Request>, from: Moment, to: Moment) -> Self {
        Self::of(requests.into_iter().filter(|request| (from..to).contains(&request.started)))
    }

    /// Sums over all `requests`.
    pub fn of<'a>(requests: impl IntoIterator<Item = &'a Request>) -> Self {
        let mut summary = Self::default();
        for request in requests {
            summary.requests += 1;
            if let Outcome::Answered(server) = &request.outcome {
                summary.answered += 1;
                summary.late += usize::from(request.is_late());
                *summary.shares.entry(server.clone()).or_default() += 1;
            } else {
                *summary.failures.entry(request.outcome.kind()).or_default() += 1;
            }
        }
        summary
    }

    /// How many of the requests failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.requests - self.answered
    }

    /// How many of the requests the server of this name answered.
    #[must_use]
    pub fn share(&self, server: &str) -> usize {
        self.shares.get(server).copied().unwrap_or(0)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} answered (", self.requests, self.answered)?;
        for (index, (server, count)) in self.shares.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{server}: {count}")?;
        }
        write!(f, "), {} of them late, {} failed", self.late, self.failed())?;
        for (index, (kind, count)) in self.failures.iter().enumerate() {
            let mark = if index == 0 { ": " } else { ", " };
            write!(f, "{mark}{count} {kind}")?;
        }
        Ok(())
    }
}

/// The requests that failed, of those that started at `from` or later.
pub fn failures_since(requests: &[Request], from: Moment) -> impl Iterator<Item = &Request> {
    requests.iter().filter(move |request| request.started >= from && !request.outcome.is_success())
}

/// New requests a second, from the first start to the last.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^53")]
pub fn achieved_rate(requests: &[Request]) -> f64 {
    let starts = || requests.iter().map(|request| request.started);
    let span = match (starts().min(), starts().max()) {
        (Some(first), Some(last)) => last.since(first),
        _ => Duration::ZERO,
    };
    if span.is_zero() { 0.0 } else { (requests.len() - 1) as f64 / span.as_secs_f64() }
}

/// Since when each new connection was served at once, of those that were begun after `since`.
#[must_use]
pub fn served_again(requests: &[Request], since: Moment) -> Option<Moment> {
    let mut again = None;
    for request in requests.iter().filter(|request| request.started >= since) {
        if request.is_harmed() {
            again = None;
        } else if again.is_none() {
            again = Some(request.started);
        }
    }
    again
}

/// The server that has answered each client last.
#[must_use]
pub fn servers_of(requests: &[Request]) -> BTreeMap<IpAddr, String> {
    let answered = requests.iter().filter_map(|one| Some((one.client, one.outcome.server()?.to_owned())));
    answered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(started_ms: u64, outcome: Outcome) -> Request {
        let started = Moment::from_ns(started_ms * 1_000_000);
        Request {
            client: std::net::Ipv4Addr::LOCALHOST.into(),
            started,
            connected: None,
            ended: started,
            outcome,
        }
    }

    fn mixture() -> Vec<Request> {
        vec![
            request(0, Outcome::Answered("rs1".into())),
            request(10, Outcome::Answered("rs2".into())),
            request(20, Outcome::Refused),
            request(30, Outcome::Answered("rs2".into())),
            request(40, Outcome::TimedOut),
        ]
    }

    #[test]
    fn a_summary_counts_what_started_in_its_window() {
        let all = mixture();
        let ms = |ms: u64| Moment::from_ns(ms * 1_000_000);
        let summary = Summary::between(&all, ms(10), ms(40));
        assert_eq!((summary.requests, summary.answered, summary.failed()), (3, 2, 1));
        assert_eq!((summary.share("rs1"), summary.share("rs2")), (0, 2));
        assert_eq!(
            summary.to_string(),
            "3 requests, 2 answered (rs2: 2), 0 of them late, 1 failed: 1 refused"
        );
    }

    #[test]
    fn a_late_answer_harms_but_is_an_answer() {
        let mut all = mixture();
        all[3].ended = all[3].started.plus(Duration::from_secs(1));
        let harmed: Vec<_> = all.iter().map(Request::is_harmed).collect();
        assert_eq!(harmed, [false, false, true, true, true]);
        let summary = Summary::between(&all, Moment::from_ns(0), Moment::from_ns(u64::MAX));
        assert_eq!((summary.answered, summary.late, summary.failed()), (3, 1, 2));
    }

    #[test]
    fn failures_are_found_from_a_moment_on() {
        let all = mixture();
        let kinds: Vec<_> =
            failures_since(&all, Moment::from_ns(20_000_001)).map(|request| request.outcome.kind()).collect();
        assert_eq!(kinds, ["timed out"]);
        assert_eq!(failures_since(&all, Moment::from_ns(0)).count(), 2);
    }

    #[test]
    fn the_rate_is_that_of_the_starts() {
        assert!((achieved_rate(&mixture()) - 100.0).abs() < 1e-6);
        assert!(achieved_rate(&[]).abs() < 1e-6);
        assert!(achieved_rate(&mixture()[..1]).abs() < 1e-6);
    }
}
