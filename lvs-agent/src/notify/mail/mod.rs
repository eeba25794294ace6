//! Mails: by SMTP to a relay, or by the local `sendmail`.

mod letter;
mod sendmail;
mod smtp;

use std::{collections::BTreeMap, io, time::Duration};

use metrics::counter;
use tokio::{
    sync::mpsc::Receiver,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

pub use self::letter::Letter;
use super::within;
use crate::model::{DestinationKey, MailSettings};

/// How long one mail may take in all.
const LIMIT: Duration = Duration::from_secs(30);

/// What is to be done about mails.
#[derive(Clone, Debug)]
pub enum MailOrder {
    /// One is to be sent.
    Send(Box<Letter>, MailSettings),
    /// A server is out: until it is back, this one is to be sent again and again.
    Remind(DestinationKey, Box<Letter>, MailSettings),
    /// It is back, or nobody's any more.
    Over(DestinationKey),
}

/// A mail that is sent again and again.
struct Reminder {
    next: Instant,
    every: Duration,
    letter: Box<Letter>,
    settings: MailSettings,
}

/// Sends mails in the order in which they come, one at a time, until nobody has any more.
pub(super) async fn carry_out(orders: &mut Receiver<MailOrder>) {
    let mut reminders: BTreeMap<DestinationKey, Reminder> = BTreeMap::new();
    loop {
        let due = reminders.iter().map(|(key, reminder)| (reminder.next, *key)).min();
        tokio::select! {
            // What is new goes before what is old.
            biased;
            order = orders.recv() => match order {
                Some(MailOrder::Send(letter, settings)) => send(&letter, &settings).await,
                Some(MailOrder::Remind(key, letter, settings)) => {
                    if let Some(every) = settings.repeat {
                        let next = Instant::now() + every;
                        reminders.insert(key, Reminder { next, every, letter, settings });
                    }
                }
                Some(MailOrder::Over(key)) => drop(reminders.remove(&key)),
                None => break,
            },
            key = until(due) => if let Some(reminder) = reminders.get_mut(&key) {
                reminder.next = Instant::now() + reminder.every;
                send(&reminder.letter, &reminder.settings).await;
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

async fn send(letter: &Letter, settings: &MailSettings) {
    let text = letter.to_text(settings);
    let to = settings.to.join(", ");
    let sending = async {
        match &settings.smtp {
            Some(relay) => smtp::send(relay, settings, &text).await,
            None => sendmail::send(settings, &text).await,
        }
    };
    let sent: io::Result<()> = within(LIMIT, "the mail", sending).await;
    let result = if sent.is_ok() { "sent" } else { "failed" };
    counter!("lvs_mails_total", "result" => result).increment(1);
    let subject = &letter.subject;
    match sent {
        Ok(()) => info!(event = "mail", to, "mail to {to}: {subject}"),
        Err(error) => {
            let by = settings.smtp.as_deref().unwrap_or(sendmail::PROGRAM);
            warn!(event = "mail", to, "cannot send the mail to {to} by {by}: {error}; it was: {subject}");
        }
    }
}

#[cfg(test)]
mod tests;
