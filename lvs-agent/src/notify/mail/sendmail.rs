//! The local mail program. lettre has a transport for it, too, but not one that can be given up: here the program and all
//! that it has started are killed with its process group, and a local user without a domain may be written to.

use std::{io, process::Stdio};

use tokio::io::AsyncWriteExt as _;

use super::message::bare_address;
use crate::{model::MailSettings, process::ProcessGroup};

/// Where every mail server of Linux has it (FHS 4.8.2).
pub(super) const PROGRAM: &str = "/usr/sbin/sendmail";

/// Hands it over; whoever drops this kills the program.
pub(super) async fn send(settings: &MailSettings, text: &str) -> io::Result<()> {
    send_by(PROGRAM, settings, text).await
}

pub(super) async fn send_by(program: &str, settings: &MailSettings, text: &str) -> io::Result<()> {
    // `-i`: a dot alone in a line is no end.
    let mut arguments = vec!["-i".to_owned()];
    if let Some(from) = &settings.from {
        arguments.extend(["-f".to_owned(), bare_address(from).to_owned()]);
    }
    arguments.push("--".to_owned());
    arguments.extend(settings.to.iter().cloned());
    let mut group = ProcessGroup::start_with(program, arguments, Stdio::piped(), Stdio::null())?;
    if let Some(mut stdin) = group.stdin() {
        // Its mail lines end as files' lines do.
        stdin.write_all(text.replace("\r\n", "\n").as_bytes()).await?;
    }
    let status = group.wait().await?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended with {status}"))) }
}
