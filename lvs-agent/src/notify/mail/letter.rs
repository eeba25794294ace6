//! What a mail says.

use std::{fs, process, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::model::MailSettings;

/// A mail without its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// In one line.
    pub subject: String,
    /// In several.
    pub body: String,
}

impl Letter {
    /// The whole mail with its head (RFC 5322), lines ended by CR and LF.
    pub(super) fn to_text(&self, settings: &MailSettings) -> String {
        let host = host();
        let from = settings.from.clone().unwrap_or_else(|| sender(&host));
        let now = SystemTime::now();
        let stamp = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let head = [
            format!("From: {}", one_line(&from)),
            format!("To: {}", one_line(&settings.to.join(", "))),
            format!("Subject: {}", encoded(&one_line(&self.subject))),
            format!("Date: {}", date(now)),
            format!("Message-ID: <{stamp}.{}.lvs-agent@{host}>", process::id()),
            "Auto-Submitted: auto-generated".to_owned(),
            "MIME-Version: 1.0".to_owned(),
            "Content-Type: text/plain; charset=utf-8".to_owned(),
            "Content-Transfer-Encoding: 8bit".to_owned(),
            String::new(),
            format!("Host: {host}"),
        ];
        let body = self.body.lines().map(str::to_owned);
        head.into_iter().chain(body).map(|line| line + "\r\n").collect()
    }
}

/// The name of this machine.
pub(super) fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let fits = |c: &char| c.is_ascii_alphanumeric() || ".-".contains(*c);
    let name: String = name.trim().chars().filter(fits).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// The local user, as a mail address.
pub(super) fn sender(host: &str) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    format!("{}@{host}", user.map_or_else(|| "lvs-agent".to_owned(), |user| user.name))
}

/// The bare address in `from`, which may have a name beside it.
pub(super) fn bare_address(from: &str) -> &str {
    match from.rsplit_once('<').and_then(|(_, rest)| rest.split_once('>')) {
        Some((address, _)) => address.trim(),
        None => from.trim(),
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// As RFC 2047 wants it where it isn't ASCII.
fn encoded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    // An encoded word may have 75 characters: 45 bytes become 60 of them.
    let mut words = vec![String::new()];
    for c in text.chars() {
        match words.last_mut() {
            Some(word) if word.len() + c.len_utf8() <= 45 => word.push(c),
            _ => words.push(c.to_string()),
        }
    }
    let words: Vec<_> = words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word))).collect();
    words.join("\r\n ")
}

/// `25 Nov 2026 09:46:00 +0000`.
fn date(now: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = humantime::format_rfc3339_seconds(now).to_string();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let month = part(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    format!("{} {} {} {} +0000", part(8, 10), month.unwrap_or(&"Jan"), part(0, 4), part(11, 19))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_mails() {
        let at = |seconds| date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "01 Jan 1970 00:00:00 +0000");
        assert_eq!(at(1_795_599_960), "25 Nov 2026 09:46:00 +0000");
    }

    #[test]
    fn addresses_are_found_beside_names() {
        for (from, bare) in [
            ("a@b", "a@b"),
            ("\"Alerts <x>\" <a@b>", "a@b"),
            (" <a@b> ", "a@b"),
            ("Alerts <a@b", "Alerts <a@b"),
        ] {
            assert_eq!(bare_address(from), bare);
        }
    }

    #[test]
    fn subjects_can_break_no_line() {
        assert_eq!(encoded(&one_line("a\r\nBcc: x@y")), "a  Bcc: x@y");
        let long = encoded(&"\u{e4}".repeat(60));
        assert!(long.lines().all(|line| line.len() <= 76), "{long}");
        let decoded: Vec<u8> = long
            .split("\r\n ")
            .flat_map(|word| {
                STANDARD.decode(word.trim_start_matches("=?utf-8?B?").trim_end_matches("?=")).unwrap()
            })
            .collect();
        assert_eq!(String::from_utf8(decoded).unwrap(), "\u{e4}".repeat(60));
    }
}
