//! POP3: answers begin with `+OK` or `-ERR`.

use super::{FailureReason, Phase, Talk, start_tls};
use crate::model::{GreetingCheck, Login};

/// Greeting, STLS, USER and PASS.
pub(super) async fn ask<'a>(question: &GreetingCheck, mut talk: Talk<'a>) -> Result<Talk<'a>, FailureReason> {
    ok(&mut talk, Phase::Greeting, "+OK").await?;
    if let Some(tls) = start_tls(question) {
        talk.send("STLS\r\n", Phase::Tls).await?;
        ok(&mut talk, Phase::Tls, "+OK to STLS").await?;
        talk = talk.encrypted(tls).await?;
    }
    if let Some(Login { user, password }) = &question.login {
        talk.send(format!("USER {user}\r\n"), Phase::Login).await?;
        ok(&mut talk, Phase::Login, "+OK to USER").await?;
        talk.send(format!("PASS {}\r\n", password.reveal()), Phase::Login).await?;
        ok(&mut talk, Phase::Login, "+OK to PASS").await?;
    }
    Ok(talk)
}

async fn ok(talk: &mut Talk<'_>, phase: Phase, wanted: &'static str) -> Result<(), FailureReason> {
    let line = talk.line(phase).await?;
    let is_ok = line.strip_prefix(b"+OK").is_some_and(|rest| rest.first().is_none_or(|next| *next == b' '));
    if is_ok { Ok(()) } else { Err(FailureReason::wrong_answer(line, wanted)) }
}
