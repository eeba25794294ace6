//! Sends mails: by SMTP to a relay, or by the local `sendmail`.

mod message;
mod sendmail;
mod smtp;

use std::{collections::BTreeMap, io, sync::atomic::AtomicU64, time::Duration};

use tokio::{
    sync::mpsc::Receiver,
    time::{Instant, sleep_until},
};

pub use self::message::Mail;
use super::{Lost, within};
use crate::{
    event::{Event, MailResult, Publisher},
    model::{DestinationKey, MailSettings},
};

/// How long sending one mail may take in all.
const LIMIT: Duration = Duration::from_secs(30);

/// A command about mails.
#[derive(Clone, Debug)]
pub enum MailCommand {
    /// Sends a mail.
    Send(Box<Mail>, MailSettings),
    /// A server is out: sends a mail again and again until it is back.
    StartReminder(DestinationKey, Box<Mail>, MailSettings),
    /// The server is back, or no longer configured.
    StopReminder(DestinationKey),
}

/// A mail that is sent again and again.
struct Reminder {
    next: Instant,
    every: Duration,
    mail: Box<Mail>,
    settings: MailSettings,
}

/// Sends mails in their order, one at a time, until all senders are dropped. `lost` counts the commands that found the
/// queue full.
pub(super) async fn send_all(commands: &mut Receiver<MailCommand>, events: &Publisher, lost: &AtomicU64) {
    let mut reminders: BTreeMap<DestinationKey, Reminder> = BTreeMap::new();
    loop {
        Lost::publish("mail", lost, events);
        let due = reminders.iter().map(|(key, reminder)| (reminder.next, *key)).min();
        tokio::select! {
            // New mails go before reminders.
            biased;
            command = commands.recv() => match command {
                Some(MailCommand::Send(mail, settings)) => events.publish(send(&mail, &settings).await),
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
                events.publish(send(&reminder.mail, &reminder.settings).await);
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

async fn send(mail: &Mail, settings: &MailSettings) -> Event {
    let text = mail.to_text(settings);
    let sending = async {
        match &settings.relay {
            // On the heap, so that the task is small while no mail is sent: a session with TLS takes 20 kB.
            Some(relay) => Box::pin(smtp::send(relay, settings, &text)).await,
            None => sendmail::send(settings, &text).await,
        }
    };
    let sent: io::Result<()> = within(LIMIT, "the mail", sending).await;
    let result = match sent {
        Ok(()) => MailResult::Sent,
        Err(error) => {
            let by = settings.relay.as_ref().map_or(sendmail::PROGRAM, |relay| &relay.address);
            MailResult::Failed { by: by.to_owned(), error: error.to_string().into() }
        }
    };
    Event::Mail { to: settings.to.join(", "), subject: mail.subject.clone(), result }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
