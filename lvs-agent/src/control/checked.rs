//! What `lvs-agent check` shows: probes that were made on request, step by step.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    CheckOutcome, Style,
    terminal::{Colour, escaped},
};

/// The version of this as JSON. It changes when a field goes or means something else; fields may be added.
pub const CHECKED_VERSION: u32 = 1;

/// The servers that were checked on request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// [`CHECKED_VERSION`].
    pub version: u32,
    /// Each of them in each of its services, in the order of the configuration.
    pub servers: Vec<CheckedServer>,
}

/// A server of a service, and its checks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckedServer {
    /// The name of its service.
    pub service: String,
    /// Its address and port.
    pub address: SocketAddr,
    /// All its checks, in the order of the configuration.
    pub checks: Vec<CheckReport>,
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// The kind of the check, such as `http`.
    pub check: String,
    /// Where it was sent, without a port for a ping; `None` where nothing was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// How long it could take, in ms.
    pub timeout_ms: f64,
    /// What it says of the server.
    pub result: CheckOutcome,
    /// The answer in words, or why there is none.
    pub text: String,
    /// From its start to its end, in ms.
    pub took_ms: f64,
    /// Its steps. One that failed is the last one.
    pub steps: Vec<CheckStep>,
}

/// One step of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckStep {
    /// What was waited for.
    pub step: String,
    /// From the start of the probe to the start of the step, in ms.
    pub from_ms: f64,
    /// From the start of the step to its end, in ms.
    pub took_ms: f64,
}

impl Checked {
    /// These servers, in this program's version.
    #[must_use]
    pub fn new(servers: Vec<CheckedServer>) -> Self {
        Self { version: CHECKED_VERSION, servers }
    }

    /// Whether all checks of all servers have succeeded.
    #[must_use]
    pub fn all_answered(&self) -> bool {
        let mut checks = self.servers.iter().flat_map(|server| &server.checks);
        checks.all(|check| check.result == CheckOutcome::Success)
    }

    /// For people, a server after the other.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let servers: Vec<_> = self.servers.iter().map(|server| server.text(style)).collect();
        servers.join("\n")
    }
}

impl CheckedServer {
    fn text(&self, style: Style) -> String {
        let title = format!("{}  {}", self.address, escaped(&self.service));
        let mut text = format!("{}\n", style.paint(Colour::Strong, &title));
        for check in &self.checks {
            check.write(&mut text, style);
        }
        text
    }
}

impl CheckReport {
    fn write(&self, text: &mut String, style: Style) {
        let asked = self.asked.as_ref().map(|asked| format!(" of {}", escaped(asked))).unwrap_or_default();
        let timeout = Duration::from_secs_f64(self.timeout_ms.clamp(0.0, 1e12) / 1000.0);
        // Writing into a string can't fail.
        writeln!(text, "  {}{asked}, timeout {timeout:?}", escaped(&self.check)).ok();
        let width = self.steps.iter().map(|step| step.step.chars().count()).max().unwrap_or_default();
        for CheckStep { step, from_ms, took_ms } in &self.steps {
            let pad = " ".repeat(width - step.chars().count());
            writeln!(text, "    {}{pad}  {took_ms:>9.2} ms  (from {from_ms:.2} ms)", escaped(step)).ok();
        }
        let (colour, word) = match self.result {
            CheckOutcome::Success => (Colour::Good, "ok"),
            CheckOutcome::Failure => (Colour::Bad, "failed"),
            CheckOutcome::Inconclusive => (Colour::Warning, "not made"),
        };
        let verdict = style.paint(colour, word);
        writeln!(text, "    {verdict}: {}, after {:.2} ms", escaped(&self.text), self.took_ms).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(result: CheckOutcome, text: &str, steps: &[(&str, f64, f64)]) -> CheckReport {
        let steps = steps.iter().map(|&(step, from_ms, took_ms)| CheckStep {
            step: step.to_owned(),
            from_ms,
            took_ms,
        });
        CheckReport {
            check: "http".to_owned(),
            asked: Some("10.0.0.1:80".to_owned()),
            timeout_ms: 1000.0,
            result,
            text: text.to_owned(),
            took_ms: 1.5,
            steps: steps.collect(),
        }
    }

    #[test]
    fn a_check_is_shown_step_by_step() {
        let steps = [("connection", 0.0, 0.25), ("reply", 0.25, 1.25)];
        let server = CheckedServer {
            service: "web\x1b".to_owned(),
            address: "10.0.0.1:80".parse().unwrap(),
            checks: vec![
                report(CheckOutcome::Success, "answered", &steps),
                report(CheckOutcome::Failure, "no connection in time", &[("connection", 0.0, 1000.0)]),
            ],
        };
        let checked = Checked::new(vec![server]);
        assert!(!checked.all_answered());
        let expected = "\
10.0.0.1:80  web\\u{1b}
  http of 10.0.0.1:80, timeout 1s
    connection       0.25 ms  (from 0.00 ms)
    reply            1.25 ms  (from 0.25 ms)
    ok: answered, after 1.50 ms
  http of 10.0.0.1:80, timeout 1s
    connection    1000.00 ms  (from 0.00 ms)
    failed: no connection in time, after 1.50 ms
";
        assert_eq!(checked.text(Style::default()), expected);
    }

    /// Programs read it: what it looks like is a promise.
    #[test]
    fn checks_as_json() {
        let server = CheckedServer {
            service: "web".to_owned(),
            address: "10.0.0.1:80".parse().unwrap(),
            checks: vec![report(CheckOutcome::Success, "answered", &[("connection", 0.0, 0.25)])],
        };
        let json = r#"{"version":1,"servers":[{"service":"web","address":"10.0.0.1:80","checks":[{"check":"http","asked":"10.0.0.1:80","timeout_ms":1000.0,"result":"success","text":"answered","took_ms":1.5,"steps":[{"step":"connection","from_ms":0.0,"took_ms":0.25}]}]}]}"#;
        let checked = Checked::new(vec![server]);
        assert!(checked.all_answered());
        assert_eq!(serde_json::to_string(&checked).unwrap(), json);
        assert_eq!(serde_json::from_str::<Checked>(json).unwrap(), checked);
    }
}
