//! A mail to a relay, by SMTP (RFC 5321). Without TLS and logins, as ldirectord does it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpStream,
};

use super::letter::{bare_address, host, sender};
use crate::{model::MailSettings, notify::within};

/// The usual port.
const PORT: u16 = 25;
/// How long the name and the connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long each answer may take.
const ANSWER: Duration = Duration::from_secs(15);
/// The longest line of an answer; RFC 5321 has 512.
const MAX_LINE: u64 = 2048;
/// The most lines of an answer.
const MAX_LINES: usize = 100;

/// Sends `text` from whom to whom `settings` says, by the relay at `HOST` or `HOST:PORT`.
pub(super) async fn send(relay: &str, settings: &MailSettings, text: &str) -> io::Result<()> {
    let mut session = Session::open(relay).await?;
    let own = host();
    session.ask(&format!("EHLO {own}"), 2).await?;
    let from = settings.from.as_deref().map_or_else(|| sender(&own), |from| bare_address(from).to_owned());
    session.ask(&format!("MAIL FROM:<{from}>"), 2).await?;
    let mut refused = None;
    let mut accepted = false;
    for to in &settings.to {
        match session.ask(&format!("RCPT TO:<{to}>"), 2).await {
            Ok(()) => accepted = true,
            // The others may be accepted.
            Err(error) if error.kind() == io::ErrorKind::Other => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    if !accepted {
        return Err(refused.unwrap_or_else(|| io::Error::other("nobody to send it to")));
    }
    session.ask("DATA", 3).await?;
    session.ask(&(stuffed(text) + "."), 2).await?;
    // It has been taken; what comes now is courtesy.
    session.ask("QUIT", 2).await.ok();
    refused.map_or(Ok(()), Err)
}

/// Lines that begin with a dot get another one.
fn stuffed(text: &str) -> String {
    text.split_inclusive("\r\n")
        .map(|line| if line.starts_with('.') { format!(".{line}") } else { line.to_owned() })
        .collect()
}

struct Session(BufStream<TcpStream>);

impl Session {
    async fn open(relay: &str) -> io::Result<Self> {
        let stream = within(CONNECT, "the connection", connect(relay)).await?;
        let mut session = Self(BufStream::new(stream));
        session.expect(2, "the connection").await?;
        Ok(session)
    }

    /// Says something and wants an answer of the class `class` (2: done, 3: go on).
    async fn ask(&mut self, what: &str, class: u32) -> io::Result<()> {
        let saying = async {
            self.0.write_all(what.as_bytes()).await?;
            self.0.write_all(b"\r\n").await?;
            self.0.flush().await
        };
        within(ANSWER, "sending", saying).await?;
        let short = what.lines().last().unwrap_or_default();
        self.expect(class, if short == "." { "the mail" } else { short }).await
    }

    async fn expect(&mut self, class: u32, what: &str) -> io::Result<()> {
        let answer = within(ANSWER, "the answer", self.answer()).await?;
        if answer.chars().next().and_then(|digit| digit.to_digit(10)) == Some(class) {
            return Ok(());
        }
        Err(io::Error::other(format!("the relay answers {what:?} with {answer:?}")))
    }

    /// The last line of an answer.
    async fn answer(&mut self) -> io::Result<String> {
        for _ in 0..MAX_LINES {
            let mut line = Vec::new();
            (&mut self.0).take(MAX_LINE).read_until(b'\n', &mut line).await?;
            if line.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line);
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "an endless answer"))
    }
}

async fn connect(relay: &str) -> io::Result<TcpStream> {
    if let Ok(ip) = relay.parse::<IpAddr>() {
        return TcpStream::connect(SocketAddr::new(ip, PORT)).await;
    }
    if relay.contains(':') {
        return TcpStream::connect(relay).await;
    }
    TcpStream::connect((relay, PORT)).await
}
