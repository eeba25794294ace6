//! SMTP, NNTP and FTP: answers begin with a number of three digits. In SMTP and FTP a hyphen behind it says that more
//! lines follow.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::{FailureReason, Phase, ProbeContext, Session, start_tls};
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
async fn reply(session: &mut Session<'_>, phase: Phase) -> Result<Reply, FailureReason> {
    let first = session.line(phase).await?;
    let Some((number, separator)) = code(&first) else {
        return Err(FailureReason::wrong_answer(first, "a number of three digits"));
    };
    let mut line = first;
    let mut more = separator == Some(b'-');
    let mut lines = 1;
    while more {
        line = session.line(phase).await?;
        // In FTP anything may stand between the first line and the last.
        more = !matches!(code(&line), Some((again, separator)) if again == number && separator != Some(b'-'));
        lines += 1;
        if lines > MAX_LINES {
            return Err(FailureReason::Protocol(format!("an answer of more than {MAX_LINES} lines").into()));
        }
    }
    Ok(Reply { code: number, line })
}

/// Sends a command and reads the answer.
async fn command(session: &mut Session<'_>, line: &str, phase: Phase) -> Result<Reply, FailureReason> {
    session.send(format!("{line}\r\n"), phase).await?;
    reply(session, phase).await
}

/// SMTP: greeting, EHLO (or HELO for old servers), STARTTLS, AUTH PLAIN.
pub(super) async fn smtp<'a>(
    context: &ProbeContext<'_>,
    check: &GreetingCheck,
    mut session: Session<'a>,
) -> Result<Session<'a>, FailureReason> {
    reply(&mut session, Phase::Greeting).await?.must_be(&[220], "220")?;
    let name = check.helo.clone().unwrap_or_else(|| address_literal(context.target.via.source));
    hello(&mut session, &name).await?;
    if let Some(tls) = start_tls(check) {
        command(&mut session, "STARTTLS", Phase::Tls).await?.must_be(&[220], "220 to STARTTLS")?;
        session = session.encrypted(tls).await?;
        hello(&mut session, &name).await?;
    }
    if let Some(Login { user, password, .. }) = &check.login {
        let token = STANDARD.encode(format!("\0{user}\0{}", password.reveal()));
        let reply = command(&mut session, &format!("AUTH PLAIN {token}"), Phase::Login).await?;
        reply.must_be(&[235], "235 to AUTH")?;
    }
    Ok(session)
}

async fn hello(session: &mut Session<'_>, name: &str) -> Result<(), FailureReason> {
    let extended = command(session, &format!("EHLO {name}"), Phase::Reply).await?;
    if extended.code == 250 {
        return Ok(());
    }
    // 421 is a server that closes; the others are those of servers that don't know EHLO (RFC 5321, 4.1.4).
    if !matches!(extended.code, 500 | 502 | 550) {
        return extended.must_be(&[250], "250 to EHLO");
    }
    command(session, &format!("HELO {name}"), Phase::Reply).await?.must_be(&[250], "250 to HELO")
}

/// The director's address as a name. Which of its addresses it is says nothing to the server, so that of the check's
/// source will do, or none at all.
pub(super) fn address_literal(source: Option<IpAddr>) -> String {
    match source {
        Some(IpAddr::V4(ip)) => format!("[{ip}]"),
        Some(IpAddr::V6(ip)) => format!("[IPv6:{ip}]"),
        None => "[127.0.0.1]".to_owned(),
    }
}

/// NNTP: greeting, STARTTLS, AUTHINFO.
pub(super) async fn nntp<'a>(
    check: &GreetingCheck,
    mut session: Session<'a>,
) -> Result<Session<'a>, FailureReason> {
    line_reply(&mut session, Phase::Greeting).await?.must_be(&[200, 201], "200 or 201")?;
    if let Some(tls) = start_tls(check) {
        session.send("STARTTLS\r\n", Phase::Tls).await?;
        line_reply(&mut session, Phase::Tls).await?.must_be(&[382], "382 to STARTTLS")?;
        session = session.encrypted(tls).await?;
    }
    if let Some(Login { user, password, .. }) = &check.login {
        session.send(format!("AUTHINFO USER {user}\r\n"), Phase::Login).await?;
        let reply = line_reply(&mut session, Phase::Login).await?;
        if reply.code == 281 {
            return Ok(session);
        }
        reply.must_be(&[381], "381 to AUTHINFO USER")?;
        session.send(format!("AUTHINFO PASS {}\r\n", password.reveal()), Phase::Login).await?;
        line_reply(&mut session, Phase::Login).await?.must_be(&[281], "281 to AUTHINFO PASS")?;
    }
    Ok(session)
}

/// An answer of NNTP, which never has more than one line here: `200-hello` is a greeting as well.
async fn line_reply(session: &mut Session<'_>, phase: Phase) -> Result<Reply, FailureReason> {
    let line = session.line(phase).await?;
    match code(&line) {
        Some((code, _)) => Ok(Reply { code, line }),
        None => Err(FailureReason::wrong_answer(line, "a number of three digits")),
    }
}

/// FTP: greeting, AUTH TLS, USER and PASS.
pub(super) async fn ftp<'a>(
    check: &GreetingCheck,
    mut session: Session<'a>,
) -> Result<Session<'a>, FailureReason> {
    reply(&mut session, Phase::Greeting).await?.must_be(&[220], "220")?;
    if let Some(tls) = start_tls(check) {
        command(&mut session, "AUTH TLS", Phase::Tls).await?.must_be(&[234], "234 to AUTH TLS")?;
        session = session.encrypted(tls).await?;
    }
    if let Some(Login { user, password, .. }) = &check.login {
        let reply = command(&mut session, &format!("USER {user}"), Phase::Login).await?;
        if reply.code != 230 {
            reply.must_be(&[331], "331 to USER")?;
            let reply = command(&mut session, &format!("PASS {}", password.reveal()), Phase::Login).await?;
            reply.must_be(&[230, 202], "230 to PASS")?;
        }
    }
    Ok(session)
}
