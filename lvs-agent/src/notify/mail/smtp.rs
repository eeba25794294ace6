//! Sends a mail to a relay by SMTP (RFC 5321). Each command is sent by itself, so that an error says what the relay
//! refuses, and a refused address doesn't keep the mail from the others.

mod login;
mod tls;

use std::{
    fmt::Display,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lettre::transport::smtp::{
    Error,
    client::{AsyncSmtpConnection, TlsParameters},
    extension::ClientId,
};

use super::message::{bare_address, host, sender};
use crate::{
    file_work::on_file,
    model::{MailRelay, MailSettings, PeerText, RelayTls, RelayTlsStart, SYSTEM_AUTHORITIES, TlsVerify},
    notify::within,
};

/// The default port.
const PORT: u16 = 25;
/// The default port where the connection is encrypted from the start (RFC 8314).
const TLS_PORT: u16 = 465;
/// How long the connection to one address may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long resolving the relay's name, connecting, the greeting and EHLO may take together.
const OPEN: Duration = Duration::from_secs(20);
/// How long each other answer may take.
const ANSWER: Duration = Duration::from_secs(15);

/// Sends `text` by the relay, with the addresses in `settings`.
pub(super) async fn send(relay: &MailRelay, settings: &MailSettings, text: &str) -> io::Result<()> {
    let host = host();
    let from = settings.from.as_deref().map_or_else(|| sender(&host), |from| bare_address(from).to_owned());
    let mut session = Session::open(relay, ClientId::Domain(host)).await?;
    session.command(&format!("MAIL FROM:<{from}>")).await?;
    let mut refused = None;
    let mut accepted = false;
    for to in &settings.to {
        match session.command(&format!("RCPT TO:<{to}>")).await {
            Ok(()) => accepted = true,
            // Other addresses may be accepted.
            Err(error) if error.kind() == io::ErrorKind::Other => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    if !accepted {
        return Err(refused.unwrap_or_else(|| io::Error::other("nobody to send it to")));
    }
    session.command("DATA").await?;
    // lettre adds the end of the last line.
    let text = text.strip_suffix("\r\n").unwrap_or(text);
    session.answer("the mail", async |connection| connection.message(text.as_bytes()).await).await?;
    // The relay has accepted the mail; an error of QUIT changes nothing.
    session.command("QUIT").await.ok();
    refused.map_or(Ok(()), Err)
}

/// A session with a relay after EHLO, encrypted and logged in as configured.
struct Session(AsyncSmtpConnection);

impl Session {
    async fn open(relay: &MailRelay, client: ClientId) -> io::Result<Self> {
        let (name, port) = destination(relay)?;
        let direct = match &relay.tls {
            Some(tls) if tls.start == RelayTlsStart::Direct => Some(parameters(tls, &name).await?),
            _ => None,
        };
        let opening = async {
            let connected = AsyncSmtpConnection::connect_tokio1(
                (name.as_str(), port),
                Some(CONNECT),
                &client,
                direct,
                None,
            );
            connected.await.map_err(|error| failed("the connection and EHLO", &error))
        };
        let mut session = Self(within(OPEN, "the connection and EHLO", opening).await?);
        if let Some(tls) = &relay.tls
            && tls.start != RelayTlsStart::Direct
        {
            session.start_tls(tls, &name, &client).await?;
        }
        if let Some(login) = &relay.login {
            session.log_in(login).await?;
        }
        Ok(session)
    }

    async fn start_tls(&mut self, tls: &RelayTls, relay: &str, client: &ClientId) -> io::Result<()> {
        if self.0.can_starttls() {
            let parameters = parameters(tls, relay).await?;
            self.answer("STARTTLS", async |connection| connection.starttls(parameters, client).await).await
        } else if tls.start == RelayTlsStart::Opportunistic {
            Ok(())
        } else {
            Err(io::Error::other("the relay doesn't offer STARTTLS, which tls = \"required\" asks for"))
        }
    }

    /// Sends a command, which the relay must accept.
    async fn command(&mut self, command: &str) -> io::Result<()> {
        self.answer(command, async |connection| connection.command(format!("{command}\r\n")).await).await
    }

    /// Sends something and waits for the relay's answer, within a time limit.
    async fn answer<T>(
        &mut self,
        what: &str,
        send: impl AsyncFnOnce(&mut AsyncSmtpConnection) -> Result<T, Error>,
    ) -> io::Result<()> {
        let exchange = async {
            match send(&mut self.0).await {
                Ok(_) => Ok(()),
                Err(error) => Err(failed(what, &error)),
            }
        };
        within(ANSWER, &format!("the answer to {what}"), exchange).await
    }
}

/// A relay's name and port.
fn destination(relay: &MailRelay) -> io::Result<(String, u16)> {
    let address = relay.address.as_str();
    let direct = relay.tls.as_ref().is_some_and(|tls| tls.start == RelayTlsStart::Direct);
    let default_port = if direct { TLS_PORT } else { PORT };
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Ok((ip.to_string(), default_port));
    }
    if let Ok(socket) = address.parse::<SocketAddr>() {
        return Ok((socket.ip().to_string(), socket.port()));
    }
    let Some((name, port)) = address.rsplit_once(':') else { return Ok((address.to_owned(), default_port)) };
    let port = port.parse().map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{port:?} in {address:?} is no port"))
    })?;
    Ok((name.to_owned(), port))
}

/// Files of authorities are read for each mail, so that new ones need no reload.
async fn parameters(tls: &RelayTls, relay: &str) -> io::Result<TlsParameters> {
    let (name, verify) = (tls.name.clone().unwrap_or_else(|| relay.to_owned()), tls.verify.clone());
    let path = match &verify {
        TlsVerify::File(path) => path.clone(),
        TlsVerify::No | TlsVerify::System => SYSTEM_AUTHORITIES.into(),
    };
    on_file(&path, move || tls::parameters(name, &verify)).await
}

/// The error, with the relay's text if it has answered.
fn failed(what: impl Display, error: &Error) -> io::Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if let Some(code) = error.status() {
        let said = PeerText::new(format!("{code} {cause}"));
        return io::Error::other(format!("{what}: the relay says \"{said}\""));
    }
    let kind = cause.downcast_ref::<io::Error>().map_or(io::ErrorKind::InvalidData, io::Error::kind);
    io::Error::new(kind, format!("{what}: {}", PeerText::new(cause.to_string())))
}

#[cfg(test)]
mod tests;
