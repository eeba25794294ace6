//! Mails: by SMTP to a relay, or by the local `sendmail`.

mod message;
mod sendmail;
mod smtp;

use std::{collections::BTreeMap, io, time::Duration};

use metrics::counter;
use tokio::{
    sync::mpsc::Receiver,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

pub use self::message::Mail;
use super::within;
use crate::model::{DestinationKey, MailSettings};

/// How long one mail may take in all.
const LIMIT: Duration = Duration::from_secs(30);

/// What is to be done about mails.
#[derive(Clone, Debug)]
pub enum MailCommand {
    /// One is to be sent.
    Send(Box<Mail>, MailSettings),
    /// A server is out: until it is back, this one is to be sent again and again.
    StartReminder(DestinationKey, Box<Mail>, MailSettings),
    /// It is back, or nobody's any more.
    StopReminder(DestinationKey),
}

/// A mail that is sent again and again.
struct Reminder {
    next: Instant,
    every: Duration,
    mail: Box<Mail>,
    settings: MailSettings,
}

/// Sends mails in the order in which they come, one at a time, until nobody has any more.
pub(super) async fn carry_out(commands: &mut Receiver<MailCommand>) {
    let mut reminders: BTreeMap<DestinationKey, Reminder> = BTreeMap::new();
    loop {
        let due = reminders.iter().map(|(key, reminder)| (reminder.next, *key)).min();
        tokio::select! {
            // What is new goes before what is old.
            biased;
            command = commands.recv() => match command {
                Some(MailCommand::Send(mail, settings)) => send(&mail, &settings).await,
                Some(MailCommand::StartReminder(key, mail, settings)) => {
                    if let Some(every) = settings.repeat {
                        let next = Instant::now() + every;
                        reminders.insert(key, Reminder { next, every, mail, settings });
                    }
                }
                Some(MailCommand::StopReminder(key)) => drop(reminders.remove(&key)),
                None => break,
            },
            key = until(due) => if let Some(reminder) = reminders.get_mut(&key) {
                reminder.next = Instant::now() + reminder.every;
                send(&reminder.mail, &reminder.settings).await;
            },
        }
    }
}

async fn until(due: Option<(Instant, DestinationKey)>) -> DestinationKey {
    match due {
        Some((at, key)) => {
            sleep_until(at).await;
            key
        }
        None => std::future::pending().await,
    }
}

async fn send(mail: &Mail, settings: &MailSettings) {
    let text = mail.to_text(settings);
    let to = settings.to.join(", ");
    let sending = async {
        match &settings.relay {
            // On the heap, so that the task is small while no mail is sent: a session with TLS takes 20 kB.
            Some(relay) => Box::pin(smtp::send(relay, settings, &text)).await,
            None => sendmail::send(settings, &text).await,
        }
    };
    let sent: io::Result<()> = within(LIMIT, "the mail", sending).await;
    let result = if sent.is_ok() { "sent" } else { "failed" };
    counter!("lvs_mails_total", "result" => result).increment(1);
    let subject = &mail.subject;
    match sent {
        Ok(()) => info!(event = "mail", to, "mail to {to}: {subject}"),
        Err(error) => {
            let by = settings.relay.as_ref().map_or(sendmail::PROGRAM, |relay| &relay.address);
            warn!(event = "mail", to, "cannot send the mail to {to} by {by}: {error}; it was: {subject}");
        }
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
