//! IMAP: the answer to a command begins with its tag; other lines may come before it.

use super::{FailureReason, Phase, Session, start_tls};
use crate::model::{GreetingCheck, Login};

/// How many lines may come before an answer.
const MAX_LINES: usize = 200;

/// Greeting, STARTTLS, LOGIN.
pub(super) async fn probe<'a>(
    check: &GreetingCheck,
    mut session: Session<'a>,
) -> Result<Session<'a>, FailureReason> {
    let greeting = session.line(Phase::Greeting).await?;
    let known = has_state(&greeting, b"* OK");
    if !known && !has_state(&greeting, b"* PREAUTH") {
        return Err(FailureReason::wrong_answer(greeting, "* OK"));
    }
    if let Some(tls) = start_tls(check) {
        session.send("a STARTTLS\r\n", Phase::Tls).await?;
        ok(&mut session, "a", Phase::Tls, "OK to STARTTLS").await?;
        session = session.encrypted(tls).await?;
    }
    if let Some(Login { user, password, .. }) = &check.login {
        let line = format!("b LOGIN {} {}\r\n", quoted(user), quoted(password.reveal()));
        session.send(line, Phase::Login).await?;
        ok(&mut session, "b", Phase::Login, "OK to LOGIN").await?;
    }
    Ok(session)
}

/// Whether a line begins with this, as a word.
fn has_state(line: &[u8], start: &[u8]) -> bool {
    let (Some(head), rest) = (line.get(..start.len()), line.get(start.len())) else { return false };
    head.eq_ignore_ascii_case(start) && rest.is_none_or(|next| *next == b' ')
}

/// Waits for the answer to the command with this tag.
async fn ok(
    session: &mut Session<'_>,
    tag: &str,
    phase: Phase,
    wanted: &'static str,
) -> Result<(), FailureReason> {
    for _ in 0..MAX_LINES {
        let line = session.line(phase).await?;
        if has_state(&line, format!("{tag} OK").as_bytes()) {
            return Ok(());
        }
        if !line.starts_with(b"* ") {
            return Err(FailureReason::wrong_answer(line, wanted));
        }
    }
    Err(FailureReason::Protocol(format!("more than {MAX_LINES} lines before an answer").into()))
}

/// A quoted string (RFC 9051, 4.3).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_in_a_login_are_escaped() {
        assert_eq!(quoted(r#"a"b\c"#), r#""a\"b\\c""#);
    }
}
