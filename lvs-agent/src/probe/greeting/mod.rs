//! Protocols whose server greets first: SMTP, POP3, IMAP, NNTP, FTP. One file for each way of answering.

mod imap;
mod numbered;
mod pop3;
#[cfg(test)]
mod tests;

use super::{FailureReason, Phase, outcome::Answer, pace::Run, talk::Talk};
use crate::model::{GreetingCheck, GreetingProtocol, Tls, TlsStart};

/// Waits for the greeting, encrypts the connection and logs in as far as that is asked for, and says goodbye.
pub(super) async fn ask(run: &Run<'_>, question: &GreetingCheck) -> Result<Answer, FailureReason> {
    let talk = Talk::open(run, question.tls.as_ref()).await?;
    let answer = Answer::connected(talk.connect_time());
    let (talk, goodbye) = match question.protocol {
        GreetingProtocol::Smtp => (numbered::smtp(run, question, talk).await?, "QUIT\r\n"),
        GreetingProtocol::Nntp => (numbered::nntp(question, talk).await?, "QUIT\r\n"),
        GreetingProtocol::Ftp => (numbered::ftp(question, talk).await?, "QUIT\r\n"),
        GreetingProtocol::Pop3 => (pop3::ask(question, talk).await?, "QUIT\r\n"),
        GreetingProtocol::Imap => (imap::ask(question, talk).await?, "z LOGOUT\r\n"),
    };
    talk.farewell(goodbye).await;
    Ok(answer)
}

/// The encryption that is to begin after the greeting.
fn start_tls(question: &GreetingCheck) -> Option<&Tls> {
    question.tls.as_ref().filter(|tls| tls.start == TlsStart::StartTls)
}
