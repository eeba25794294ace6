//! Logs in to a relay.

use std::{io, path::Path};

use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};

use super::Session;
use crate::{
    file_work,
    model::{RelayLogin, Secret},
};

/// The longest password file: longer than any password.
const MAX_PASSWORD: u64 = 1024;

impl Session {
    pub(super) async fn log_in(&mut self, login: &RelayLogin) -> io::Result<()> {
        if !self.0.is_encrypted() && !login.allow_unencrypted {
            let problem = "the relay doesn't offer STARTTLS, and the password isn't sent without encryption";
            return Err(io::Error::other(problem));
        }
        if self.0.server_info().get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
            return Err(io::Error::other("the relay offers no login by PLAIN or LOGIN"));
        }
        let password = password(&login.password_file).await?;
        let credentials = Credentials::new(login.user.clone(), password.reveal().to_owned());
        let what = format!("the login as {:?}", login.user);
        self.answer(&what, async |connection| connection.auth(DEFAULT_MECHANISMS, &credentials).await).await
    }
}

/// Reads the password, the first line of a file. No error shows any of it.
async fn password(path: &Path) -> io::Result<Secret> {
    let fault = |kind, problem: &str| io::Error::new(kind, format!("{}: {problem}", path.display()));
    let text = file_work::read(path, MAX_PASSWORD + 1).await;
    let text = text.map_err(|error| fault(error.kind(), &error.to_string()))?;
    let line = str::from_utf8(&text).ok().map(|text| text.lines().next().unwrap_or_default());
    match line {
        _ if text.len() as u64 > MAX_PASSWORD => {
            Err(fault(io::ErrorKind::InvalidData, "is too long for a password"))
        }
        None => Err(fault(io::ErrorKind::InvalidData, "the password is not UTF-8")),
        Some("") => Err(fault(io::ErrorKind::InvalidData, "there is no password in its first line")),
        Some(line) => Ok(Secret::new(line)),
    }
}
