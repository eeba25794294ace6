//! POP3: answers begin with `+OK` or `-ERR`.

use super::{FailureReason, Phase, Session, start_tls};
use crate::model::{GreetingCheck, Login};

/// Greeting, STLS, USER and PASS.
pub(super) async fn probe<'a>(
    check: &GreetingCheck,
    mut session: Session<'a>,
) -> Result<Session<'a>, FailureReason> {
    ok(&mut session, Phase::Greeting, "+OK").await?;
    if let Some(tls) = start_tls(check) {
        session.send("STLS\r\n", Phase::Tls).await?;
        ok(&mut session, Phase::Tls, "+OK to STLS").await?;
        session = session.encrypted(tls).await?;
    }
    if let Some(Login { user, password, .. }) = &check.login {
        session.send(format!("USER {user}\r\n"), Phase::Login).await?;
        ok(&mut session, Phase::Login, "+OK to USER").await?;
        session.send(format!("PASS {}\r\n", password.reveal()), Phase::Login).await?;
        ok(&mut session, Phase::Login, "+OK to PASS").await?;
    }
    Ok(session)
}

async fn ok(session: &mut Session<'_>, phase: Phase, wanted: &'static str) -> Result<(), FailureReason> {
    let line = session.line(phase).await?;
    let is_ok = line.strip_prefix(b"+OK").is_some_and(|rest| rest.first().is_none_or(|next| *next == b' '));
    if is_ok { Ok(()) } else { Err(FailureReason::wrong_answer(line, wanted)) }
}
