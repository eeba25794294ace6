//! IMAP: the answer to a command begins with its tag; other lines may come before it.

use super::{FailureReason, Phase, Talk, start_tls};
use crate::model::{GreetingCheck, Login};

/// How many lines may come before an answer.
const MAX_LINES: usize = 200;

/// Greeting, STARTTLS, LOGIN.
pub(super) async fn ask<'a>(question: &GreetingCheck, mut talk: Talk<'a>) -> Result<Talk<'a>, FailureReason> {
    let greeting = talk.line(Phase::Greeting).await?;
    let known = has_state(&greeting, b"* OK");
    if !known && !has_state(&greeting, b"* PREAUTH") {
        return Err(FailureReason::wrong_answer(greeting, "* OK"));
    }
    if let Some(tls) = start_tls(question) {
        talk.send("a STARTTLS\r\n", Phase::Tls).await?;
        ok(&mut talk, "a", Phase::Tls, "OK to STARTTLS").await?;
        talk = talk.encrypted(tls).await?;
    }
    if let Some(Login { user, password }) = &question.login {
        let line = format!("b LOGIN {} {}\r\n", quoted(user), quoted(password.reveal()));
        talk.send(line, Phase::Login).await?;
        ok(&mut talk, "b", Phase::Login, "OK to LOGIN").await?;
    }
    Ok(talk)
}

/// Whether a line begins with this, as a word.
fn has_state(line: &[u8], start: &[u8]) -> bool {
    let (Some(head), rest) = (line.get(..start.len()), line.get(start.len())) else { return false };
    head.eq_ignore_ascii_case(start) && rest.is_none_or(|next| *next == b' ')
}

/// Waits for the answer to the command with this tag.
async fn ok(talk: &mut Talk<'_>, tag: &str, phase: Phase, wanted: &'static str) -> Result<(), FailureReason> {
    for _ in 0..MAX_LINES {
        let line = talk.line(phase).await?;
        if has_state(&line, format!("{tag} OK").as_bytes()) {
            return Ok(());
        }
        if !line.starts_with(b"* ") {
            return Err(FailureReason::wrong_answer(line, wanted));
        }
    }
    Err(FailureReason::Protocol(format!("more than {MAX_LINES} lines before an answer")))
}

/// A quoted string (RFC 9051, 4.3).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_quoted() {
        assert_eq!(quoted(r#"a"b\c"#), r#""a\"b\\c""#);
    }
}
