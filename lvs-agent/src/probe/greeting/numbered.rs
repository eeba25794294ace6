//! SMTP, NNTP and FTP: answers begin with a number of three digits. In SMTP and FTP a hyphen behind it says that more
//! lines follow.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::{FailureReason, Phase, Run, Talk, start_tls};
use crate::model::{GreetingCheck, Login};

/// How many lines an answer may have.
const MAX_LINES: usize = 200;

/// An answer: its number, and the line that ends it.
struct Reply {
    code: u16,
    line: Bytes,
}

impl Reply {
    /// Nothing, unless it is another answer than `wanted`.
    fn must_be(self, codes: &[u16], wanted: &'static str) -> Result<(), FailureReason> {
        if codes.contains(&self.code) { Ok(()) } else { Err(FailureReason::wrong_answer(self.line, wanted)) }
    }
}

/// The number at the beginning of a line, and what follows it at once.
fn code(line: &[u8]) -> Option<(u16, Option<u8>)> {
    let digits: [u8; 3] = line.get(..3)?.try_into().ok()?;
    let number = digits.iter().try_fold(0_u16, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u16::from(digit - b'0'))
    })?;
    match line.get(3) {
        None => Some((number, None)),
        Some(separator @ (b' ' | b'-')) => Some((number, Some(*separator))),
        Some(_) => None,
    }
}

/// Reads an answer to its end.
async fn reply(talk: &mut Talk<'_>, phase: Phase) -> Result<Reply, FailureReason> {
    let first = talk.line(phase).await?;
    let Some((number, separator)) = code(&first) else {
        return Err(FailureReason::wrong_answer(first, "a number of three digits"));
    };
    let mut line = first;
    let mut more = separator == Some(b'-');
    let mut lines = 1;
    while more {
        line = talk.line(phase).await?;
        // In FTP anything may stand between the first line and the last.
        more = !matches!(code(&line), Some((again, separator)) if again == number && separator != Some(b'-'));
        lines += 1;
        if lines > MAX_LINES {
            return Err(FailureReason::Protocol(format!("an answer of more than {MAX_LINES} lines")));
        }
    }
    Ok(Reply { code: number, line })
}

/// Sends a command and reads the answer.
async fn command(talk: &mut Talk<'_>, line: &str, phase: Phase) -> Result<Reply, FailureReason> {
    talk.send(format!("{line}\r\n"), phase).await?;
    reply(talk, phase).await
}

/// SMTP: greeting, EHLO (or HELO for old servers), STARTTLS, AUTH PLAIN.
pub(super) async fn smtp<'a>(
    run: &Run<'_>,
    question: &GreetingCheck,
    mut talk: Talk<'a>,
) -> Result<Talk<'a>, FailureReason> {
    reply(&mut talk, Phase::Greeting).await?.must_be(&[220], "220")?;
    let name = question.helo.clone().unwrap_or_else(|| address_literal(run));
    hello(&mut talk, &name).await?;
    if let Some(tls) = start_tls(question) {
        command(&mut talk, "STARTTLS", Phase::Tls).await?.must_be(&[220], "220 to STARTTLS")?;
        talk = talk.encrypted(tls).await?;
        hello(&mut talk, &name).await?;
    }
    if let Some(Login { user, password }) = &question.login {
        let token = STANDARD.encode(format!("\0{user}\0{}", password.reveal()));
        let reply = command(&mut talk, &format!("AUTH PLAIN {token}"), Phase::Login).await?;
        reply.must_be(&[235], "235 to AUTH")?;
    }
    Ok(talk)
}

async fn hello(talk: &mut Talk<'_>, name: &str) -> Result<(), FailureReason> {
    let extended = command(talk, &format!("EHLO {name}"), Phase::Reply).await?;
    if extended.code == 250 {
        return Ok(());
    }
    // 421 is a server that closes; the others are those of servers that don't know EHLO (RFC 5321, 4.1.4).
    if !matches!(extended.code, 500 | 502 | 550) {
        return extended.must_be(&[250], "250 to EHLO");
    }
    command(talk, &format!("HELO {name}"), Phase::Reply).await?.must_be(&[250], "250 to HELO")
}

/// The director's address as a name. Which of its addresses it is says nothing to the server, so that of the check's
/// source will do, or none at all.
fn address_literal(run: &Run<'_>) -> String {
    match run.target.via.source {
        Some(IpAddr::V4(ip)) => format!("[{ip}]"),
        Some(IpAddr::V6(ip)) => format!("[IPv6:{ip}]"),
        None => "[127.0.0.1]".to_owned(),
    }
}

/// NNTP: greeting, STARTTLS, AUTHINFO.
pub(super) async fn nntp<'a>(
    question: &GreetingCheck,
    mut talk: Talk<'a>,
) -> Result<Talk<'a>, FailureReason> {
    line_reply(&mut talk, Phase::Greeting).await?.must_be(&[200, 201], "200 or 201")?;
    if let Some(tls) = start_tls(question) {
        talk.send("STARTTLS\r\n", Phase::Tls).await?;
        line_reply(&mut talk, Phase::Tls).await?.must_be(&[382], "382 to STARTTLS")?;
        talk = talk.encrypted(tls).await?;
    }
    if let Some(Login { user, password }) = &question.login {
        talk.send(format!("AUTHINFO USER {user}\r\n"), Phase::Login).await?;
        let reply = line_reply(&mut talk, Phase::Login).await?;
        if reply.code == 281 {
            return Ok(talk);
        }
        reply.must_be(&[381], "381 to AUTHINFO USER")?;
        talk.send(format!("AUTHINFO PASS {}\r\n", password.reveal()), Phase::Login).await?;
        line_reply(&mut talk, Phase::Login).await?.must_be(&[281], "281 to AUTHINFO PASS")?;
    }
    Ok(talk)
}

/// An answer of NNTP, which never has more than one line here: `200-hello` is a greeting as well.
async fn line_reply(talk: &mut Talk<'_>, phase: Phase) -> Result<Reply, FailureReason> {
    let line = talk.line(phase).await?;
    match code(&line) {
        Some((code, _)) => Ok(Reply { code, line }),
        None => Err(FailureReason::wrong_answer(line, "a number of three digits")),
    }
}

/// FTP: greeting, AUTH TLS, USER and PASS.
pub(super) async fn ftp<'a>(question: &GreetingCheck, mut talk: Talk<'a>) -> Result<Talk<'a>, FailureReason> {
    reply(&mut talk, Phase::Greeting).await?.must_be(&[220], "220")?;
    if let Some(tls) = start_tls(question) {
        command(&mut talk, "AUTH TLS", Phase::Tls).await?.must_be(&[234], "234 to AUTH TLS")?;
        talk = talk.encrypted(tls).await?;
    }
    if let Some(Login { user, password }) = &question.login {
        let reply = command(&mut talk, &format!("USER {user}"), Phase::Login).await?;
        if reply.code != 230 {
            reply.must_be(&[331], "331 to USER")?;
            let reply = command(&mut talk, &format!("PASS {}", password.reveal()), Phase::Login).await?;
            reply.must_be(&[230, 202], "230 to PASS")?;
        }
    }
    Ok(talk)
}
