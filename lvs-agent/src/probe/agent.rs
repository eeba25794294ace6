//! An agent on the server tells the server's state and weight in one line, in the words that `HAProxy` knows
//! (`agent-check` in its configuration manual, 5.2): words between spaces, tabs or commas, in any order and case, up to
//! the end of the line, or of what is sent. A description may follow after `#`.

use super::{FailureReason, Phase, context::ProbeContext, outcome::Answer, session::Session};
use crate::model::{AgentCheck, AgentOrder, AgentReport, PeerText, Reported};

/// The longest line in bytes.
const MAX_LINE: usize = 1024;
/// How much of a description is kept, in characters.
const MAX_DESCRIPTION: usize = 120;
/// The largest percentage that is heeded: weights beyond it are above all that the kernel knows.
const MAX_PERCENT: u16 = u16::MAX;

/// Asks the agent, and reads its line.
pub(super) async fn probe(context: &ProbeContext<'_>, check: &AgentCheck) -> Result<Answer, FailureReason> {
    let mut session = Session::open(context, None).await?;
    let connect = Some(session.connect_time());
    if !check.send.is_empty() {
        session.send(&check.send, Phase::Reply).await?;
    }
    let report = evaluate(&line(&mut session).await?)?;
    Ok(Answer { connect, weight: Some(Reported::Agent(report)) })
}

/// The first line, without its end. The end of the connection ends it as well.
async fn line(session: &mut Session<'_>) -> Result<Vec<u8>, FailureReason> {
    let mut line = Vec::new();
    loop {
        let piece = session.some(Phase::Reply).await?;
        line.extend_from_slice(&piece);
        if let Some(end) = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            line.truncate(end);
            return Ok(line);
        }
        match (piece.is_empty(), line.is_empty()) {
            (true, true) => return Err(FailureReason::Closed { phase: Phase::Reply }),
            (true, false) => return Ok(line),
            _ if line.len() > MAX_LINE => {
                return Err(FailureReason::Protocol(format!("a line of more than {MAX_LINE} bytes").into()));
            }
            _ => {}
        }
    }
}

/// What a line says of the server; a failure if that is down, or if there is no word in it that is known.
fn evaluate(line: &[u8]) -> Result<AgentReport, FailureReason> {
    let text = String::from_utf8_lossy(line);
    let (words, description) = text.split_once('#').unwrap_or((&text, ""));
    let (mut report, mut down, mut known) = (AgentReport::default(), None, false);
    for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        let word = word.to_ascii_lowercase();
        match word.as_str() {
            "up" => (report.is_up, down) = (Some(true), None),
            "down" | "fail" | "failed" | "stopped" => {
                (report.is_up, down) = (Some(false), Some(word.clone()));
            }
            "ready" => report.order = Some(AgentOrder::Ready),
            "drain" => report.order = Some(AgentOrder::Drain),
            "maint" => report.order = Some(AgentOrder::Maintenance),
            // The kernel has no such limit of its own for each server but the thresholds.
            _ if word.starts_with("maxconn:") => {}
            _ => match percent(&word) {
                Some(percent) => report.percent = Some(percent),
                // A word that is not known may be one of a later version.
                None => continue,
            },
        }
        known = true;
    }
    if !known {
        let wanted = "a line such as \"up 75%\", \"drain\" or \"down\"";
        return Err(FailureReason::wrong_answer(line, wanted));
    }
    match down {
        Some(word) => {
            let description = PeerText::beginning(description.trim(), MAX_DESCRIPTION);
            Err(FailureReason::Agent { report, word: word.into(), description })
        }
        None => Ok(report),
    }
}

/// A percentage such as `75%`.
fn percent(word: &str) -> Option<u16> {
    let digits = word.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    // Digits alone that don't fit are a number beyond it.
    (!digits.is_empty()).then(|| digits.parse().unwrap_or(MAX_PERCENT))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::CheckKind,
        probe::{
            Probe as _, ProbeTarget, Prober,
            testing::{self, LONG, Script, scripted},
        },
    };

    fn report(percent: Option<u16>, order: Option<AgentOrder>, is_up: Option<bool>) -> AgentReport {
        AgentReport { percent, order, is_up }
    }

    #[test]
    fn lines_as_agents_send_them() {
        use AgentOrder::{Drain, Maintenance, Ready};
        let cases = [
            ("up", report(None, None, Some(true))),
            ("up 75%", report(Some(75), None, Some(true))),
            ("75% up", report(Some(75), None, Some(true))),
            ("UP,50%", report(Some(50), None, Some(true))),
            ("0%", report(Some(0), None, None)),
            ("150%", report(Some(150), None, None)),
            ("99999999999%", report(Some(u16::MAX), None, None)),
            ("\tready\tup , 100% ", report(Some(100), Some(Ready), Some(true))),
            ("drain", report(None, Some(Drain), None)),
            ("maint # a new kernel", report(None, Some(Maintenance), None)),
            ("up drain", report(None, Some(Drain), Some(true))),
            ("maxconn:30", report(None, None, None)),
            ("up 50% maxconn:30 weather:fine", report(Some(50), None, Some(true))),
            ("down up", report(None, None, Some(true))),
        ];
        for (line, expected) in cases {
            assert_eq!(evaluate(line.as_bytes()), Ok(expected), "{line:?}");
        }
        for (line, word, description, order) in [
            ("down", "down", "", None),
            ("DOWN #no disk", "down", "no disk", None),
            ("stopped#by hand", "stopped", "by hand", None),
            ("fail # up 75%", "fail", "up 75%", None),
            ("failed", "failed", "", None),
            ("drain down", "down", "", Some(Drain)),
        ] {
            let failure = FailureReason::Agent {
                report: report(None, order, Some(false)),
                word: word.into(),
                description: description.into(),
            };
            assert_eq!(evaluate(line.as_bytes()), Err(failure), "{line:?}");
        }
        for line in ["", "#", "hello", "75", "%", "-5%", "7.5%", "+5%", "HTTP/1.1 400 Bad Request", "upp"] {
            let refused = evaluate(line.as_bytes());
            assert!(matches!(refused, Err(FailureReason::WrongAnswer { .. })), "{line:?}: {refused:?}");
        }
    }

    fn agent(send: &str) -> CheckKind {
        CheckKind::Agent(AgentCheck { send: send.into() })
    }

    #[tokio::test]
    async fn an_agent_is_asked_over_a_connection() {
        let up = Some(Reported::Agent(report(Some(75), None, Some(true))));
        for script in [
            vec![Script::send("up 75%\n")],
            vec![Script::send("up 75%\r\ndown\n")],
            vec![Script::send("up"), Script::send(" 75%"), Script::Close],
            vec![Script::Wants("web1"), Script::send("up 75%\n")],
        ] {
            let send = if matches!(script[0], Script::Wants(_)) { "web1\n" } else { "" };
            let target = ProbeTarget::at(scripted(script.clone()).await);
            let outcome = Prober::new().probe(target, &agent(send), LONG).await;
            assert_eq!(outcome.map(|success| success.weight), Ok(up), "{script:?}");
        }
        let down =
            testing::probe(scripted(vec![Script::send("down # a\u{1b}b\n")]).await, agent(""), LONG).await;
        assert_eq!(down.unwrap_err().to_string(), "the agent says \"down\": a b");
    }

    #[tokio::test]
    async fn network_failures_have_their_reason() {
        testing::common_failures(&agent("x\n"), Phase::Reply, true).await;
        let address = scripted(vec![Script::Flood("u", Duration::from_millis(1))]).await;
        let result = testing::probe_silent(address, &agent(""), Phase::Reply).await;
        assert!(
            matches!(
                result,
                Err(FailureReason::TimedOut { phase: Phase::Reply } | FailureReason::Protocol(_))
            ),
            "{result:?}"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_understood_or_refused(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Err(failure) = evaluate(&line) {
                prop_assert!(!failure.to_string().contains(char::is_control));
            }
        }
    }
}
