//! Notifications.

use super::table::{Table, command_line, path, text, texts, time, word};
use crate::{
    config::native::notify::{RELAY_TLS, about_words},
    model::{MailAbout, MailRelay, Notifications, TlsVerify},
};

/// The keys of a service about notifications.
pub(super) fn notifications(notify: &Notifications, table: &mut Table) {
    table.maybe(
        "mail",
        notify.mail.as_ref().map(|mail| {
            let mut table = Table::default();
            table.add("to", texts(&mail.to));
            table.maybe("from", mail.from.as_ref().map(text));
            if let Some(relay) = &mail.relay {
                self::relay(relay, &mut table);
            }
            table.maybe("repeat", mail.repeat.as_ref().map(time));
            table.unless("about", &mail.about, &MailAbout::ALL, |about| texts(about_words(*about)));
            table.inline()
        }),
    );
    table.maybe("monitor-file", notify.monitor_file.as_deref().map(path));
    table.maybe("fallback-command", notify.fallback_command.as_ref().map(command_line));
    table.maybe("comment", notify.comment.as_ref().map(text));
}

fn relay(relay: &MailRelay, table: &mut Table) {
    table.add("smtp", text(&relay.address));
    if let Some(tls) = &relay.tls {
        table.add("tls", word(&Some(tls.start), &RELAY_TLS));
        table.maybe("tls-name", tls.name.as_ref().map(text));
        match &tls.verify {
            TlsVerify::No => table.add("tls-verify", "false"),
            TlsVerify::System => {}
            TlsVerify::File(file) => table.add("tls-ca", path(file)),
        }
    }
    if let Some(login) = &relay.login {
        table.add("user", text(&login.user));
        table.add("password-file", path(&login.password_file));
        table.unless("password-unencrypted", &login.allow_unencrypted, &false, ToString::to_string);
    }
}
