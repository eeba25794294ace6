//! TCP with text: something is sent, and an answer expected.

use super::{FailureReason, Phase, outcome::Answer, pace::Run, talk::Talk};
use crate::model::TcpCheck;

/// How many bytes of the answer are searched.
const MAX_SEARCHED: usize = 64 << 10;

/// Sends what is to be sent, and reads until the answer is as expected, or can't be any more.
pub(super) async fn ask(run: &Run<'_>, question: &TcpCheck) -> Result<Answer, FailureReason> {
    let mut talk = Talk::open(run, question.tls.as_ref()).await?;
    let answer = Answer::connected(talk.connect_time());
    if !question.send.is_empty() {
        talk.send(&question.send, Phase::Reply).await?;
    }
    let Some(expect) = &question.expect else { return Ok(answer) };
    let mut read = Vec::new();
    // Each piece is searched together with what came before it; room that doubles keeps that from adding up.
    let mut next_search = 1;
    loop {
        let piece = talk.some(Phase::Reply).await?;
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

    fn question(send: &str, expect: &str) -> CheckKind {
        let expect = Some(Pattern::new(expect).unwrap());
        CheckKind::Tcp(TcpCheck { send: send.into(), expect, tls: None })
    }

    #[tokio::test]
    async fn answers_are_judged() {
        let not_found = |searched, cut| Err(FailureReason::TextNotFound { searched, cut });
        let cases = [
            ("hello there", Ok(())),
            ("", not_found(0, false)),
            ("goodbye", not_found(7, false)),
            ("hel", not_found(3, false)),
        ];
        for (answer, expected) in cases {
            let address = scripted(vec![Script::Line, Script::send(answer), Script::Close]).await;
            assert_eq!(testing::ask(address, question("x\n", "^hello"), LONG).await, expected, "{answer}");
        }
        let address = scripted(vec![Script::Flood(testing::LONG_TEXT, Duration::ZERO)]).await;
        let result = testing::ask(address, question("", "hello"), LONG).await;
        assert!(matches!(result, Err(FailureReason::TextNotFound { cut: true, .. })), "{result:?}");
    }

    #[tokio::test]
    async fn the_connection_alone_may_do() {
        let address = scripted(vec![]).await;
        let question = CheckKind::Tcp(TcpCheck { send: vec![], expect: None, tls: None });
        assert_eq!(testing::ask(address, question, LONG).await, Ok(()));
    }

    #[tokio::test]
    async fn failures_that_all_have() {
        testing::common_failures(&question("x\n", "^hello"), Phase::Reply, true).await;
        let address = scripted(vec![Script::Flood("h", Duration::from_millis(1))]).await;
        let result = testing::ask_silent(address, &question("", "hello"), Phase::Reply).await;
        assert_eq!(result, Err(FailureReason::TimedOut { phase: Phase::Reply }));
    }
}
