//! TCP with text: something is sent, and a reply expected.

use super::{FailureReason, Phase, context::ProbeContext, outcome::Answer, session::Session};
use crate::model::TcpCheck;

/// How many bytes of the reply are searched.
const MAX_SEARCHED: usize = 64 << 10;

/// Sends the text, and reads until the reply fits, or can't fit any more.
pub(super) async fn probe(context: &ProbeContext<'_>, check: &TcpCheck) -> Result<Answer, FailureReason> {
    let mut session = Session::open(context, check.tls.as_ref()).await?;
    let answer = Answer::connected(session.connect_time());
    if !check.send.is_empty() {
        session.send(&check.send, Phase::Reply).await?;
    }
    let Some(expect) = &check.expect else {
        session.accepted().await?;
        return Ok(answer);
    };
    let mut read = Vec::new();
    // Each piece is searched together with what came before it; room that doubles keeps that from adding up.
    let mut next_search = 1;
    loop {
        let piece = session.some(Phase::Reply).await?;
        let ended = piece.is_empty();
        read.extend_from_slice(&piece);
        let full = read.len() >= MAX_SEARCHED;
        if (ended || full || read.len() >= next_search) && expect.is_in(&read) {
            return Ok(answer);
        }
        if ended || full {
            return Err(FailureReason::TextNotFound { searched: read.len(), cut: full });
        }
        if read.len() > 4096 {
            next_search = read.len() + read.len() / 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        model::{CheckKind, Pattern},
        probe::testing::{self, LONG, Script, scripted},
    };

    fn check(send: &str, expect: &str) -> CheckKind {
        let expect = Some(Pattern::new(expect).unwrap());
        CheckKind::Tcp(TcpCheck { send: send.into(), expect, tls: None })
    }

    #[tokio::test]
    async fn replies_pass_or_fail_the_check() {
        let not_found = |searched, cut| Err(FailureReason::TextNotFound { searched, cut });
        let cases = [
            ("hello there", Ok(())),
            ("", not_found(0, false)),
            ("goodbye", not_found(7, false)),
            ("hel", not_found(3, false)),
        ];
        for (answer, expected) in cases {
            let address = scripted(vec![Script::Line, Script::send(answer), Script::Close]).await;
            assert_eq!(testing::probe(address, check("x\n", "^hello"), LONG).await, expected, "{answer}");
        }
        let address = scripted(vec![Script::Flood(testing::LONG_TEXT, Duration::ZERO)]).await;
        let result = testing::probe(address, check("", "hello"), LONG).await;
        assert!(matches!(result, Err(FailureReason::TextNotFound { cut: true, .. })), "{result:?}");
    }

    #[tokio::test]
    async fn a_check_without_expected_text_passes_on_connect() {
        let address = scripted(vec![]).await;
        let check = CheckKind::Tcp(TcpCheck { send: vec![], expect: None, tls: None });
        assert_eq!(testing::probe(address, check, LONG).await, Ok(()));
    }

    #[tokio::test]
    async fn network_failures_have_their_reason() {
        testing::common_failures(&check("x\n", "^hello"), Phase::Reply, true).await;
        let address = scripted(vec![Script::Flood("h", Duration::from_millis(1))]).await;
        let result = testing::probe_silent(address, &check("", "hello"), Phase::Reply).await;
        assert_eq!(result, Err(FailureReason::TimedOut { phase: Phase::Reply }));
    }
}
