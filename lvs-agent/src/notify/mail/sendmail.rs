//! Sends a mail by the local mail program. lettre's transport for it can't be cancelled: here the program is killed
//! with its process group, and recipients may be local users without a domain.

use std::{io, process::Stdio};

use tokio::io::AsyncWriteExt as _;

use super::message::bare_address;
use crate::{model::MailSettings, process::ProcessGroup};

/// The path that every mail server on Linux provides (FHS 4.8.2).
pub(super) const PROGRAM: &str = "/usr/sbin/sendmail";

/// Hands the mail over. If this is dropped, the program is killed.
pub(super) async fn send(settings: &MailSettings, text: &str) -> io::Result<()> {
    send_by(PROGRAM, settings, text).await
}

pub(super) async fn send_by(program: &str, settings: &MailSettings, text: &str) -> io::Result<()> {
    // `-i`: a line with only a dot doesn't end the mail.
    let mut arguments = vec!["-i".to_owned()];
    if let Some(from) = &settings.from {
        arguments.extend(["-f".to_owned(), bare_address(from).to_owned()]);
    }
    arguments.push("--".to_owned());
    arguments.extend(settings.to.iter().cloned());
    let mut group = ProcessGroup::start_with(program, arguments, Stdio::piped(), Stdio::null())?;
    if let Some(mut stdin) = group.stdin() {
        // The program expects lines as in files, without CR.
        stdin.write_all(text.replace("\r\n", "\n").as_bytes()).await?;
    }
    let status = group.wait().await?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended with {status}"))) }
}
