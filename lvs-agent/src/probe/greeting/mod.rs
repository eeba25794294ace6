//! Protocols whose server greets first: SMTP, POP3, IMAP, NNTP, FTP. One file for each way of answering.

mod imap;
mod numbered;
mod pop3;
#[cfg(test)]
mod tests;

use super::{FailureReason, Phase, context::ProbeContext, outcome::Answer, session::Session};
use crate::model::{GreetingCheck, GreetingProtocol, Tls, TlsStart};

/// Waits for the greeting, encrypts the connection and logs in as far as the check asks for it, and quits.
pub(super) async fn probe(
    context: &ProbeContext<'_>,
    check: &GreetingCheck,
) -> Result<Answer, FailureReason> {
    let session = Session::open(context, check.tls.as_ref()).await?;
    let answer = Answer::connected(session.connect_time());
    let (session, goodbye) = match check.protocol {
        GreetingProtocol::Smtp => (numbered::smtp(context, check, session).await?, "QUIT\r\n"),
        GreetingProtocol::Nntp => (numbered::nntp(check, session).await?, "QUIT\r\n"),
        GreetingProtocol::Ftp => (numbered::ftp(check, session).await?, "QUIT\r\n"),
        GreetingProtocol::Pop3 => (pop3::probe(check, session).await?, "QUIT\r\n"),
        GreetingProtocol::Imap => (imap::probe(check, session).await?, "z LOGOUT\r\n"),
    };
    session.quit(goodbye).await;
    Ok(answer)
}

/// The encryption that is to begin after the greeting.
fn start_tls(check: &GreetingCheck) -> Option<&Tls> {
    check.tls.as_ref().filter(|tls| tls.start == TlsStart::StartTls)
}
