//! The text of a mail with its headers.

use std::{fs, process, time::SystemTime};

use lettre::message::{
    Body, Mailbox, Mailboxes,
    header::{
        self, ContentTransferEncoding, ContentType, Date, HeaderName, HeaderValue, Headers, MIME_VERSION_1_0,
    },
};

use crate::model::MailSettings;

/// The longest line that needs no encoding (RFC 5322, 2.1.1), without its end.
const MAX_LINE: usize = 998;

/// A mail without its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The subject, one line.
    pub subject: String,
    /// The body, several lines.
    pub body: String,
}

impl Mail {
    /// The whole mail with its headers (RFC 5322), all ASCII, lines ended by CR and LF.
    pub(super) fn to_text(&self, settings: &MailSettings) -> String {
        let host = host();
        let now = SystemTime::now();
        let stamp = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let body = encoded(format!("Host: {host}\n{}", self.body));
        let mut headers = Headers::new();
        set_from(&mut headers, &settings.from.clone().unwrap_or_else(|| sender(&host)));
        // Not as lettre's mailboxes: these may be local users without a domain.
        set(&mut headers, HeaderName::new_from_ascii_str("To"), &settings.to.join(", "));
        set(&mut headers, HeaderName::new_from_ascii_str("Subject"), &self.subject);
        headers.set(Date::new(now));
        let id = format!("<{stamp}.{}.lvs-agent@{host}>", process::id());
        set(&mut headers, HeaderName::new_from_ascii_str("Message-ID"), &id);
        set(&mut headers, HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated");
        headers.set(MIME_VERSION_1_0);
        headers.set(ContentType::TEXT_PLAIN);
        headers.set(body.encoding());
        format!("{headers}\r\n{}", String::from_utf8_lossy(body.as_ref()))
    }
}

/// Sets a header, folded and encoded (RFC 2047). No text can break out of it.
fn set(headers: &mut Headers, name: HeaderName, text: &str) {
    headers.insert_raw(HeaderValue::new(name, one_line(text)));
}

fn set_from(headers: &mut Headers, from: &str) {
    match from.parse::<Mailbox>() {
        // So only the name is encoded, and not the address.
        Ok(mailbox) if !from.is_ascii() => headers.set(header::From::from(Mailboxes::from(mailbox))),
        _ => set(headers, HeaderName::new_from_ascii_str("From"), from),
    }
}

/// ASCII is left as it is if every server accepts it, for programs that search mails without decoding them.
fn encoded(text: String) -> Body {
    let plain = |line: &str| line.is_ascii() && !line.contains('\0') && line.len() <= MAX_LINE;
    if text.lines().all(plain) {
        let lines: String = text.lines().flat_map(|line| [line, "\r\n"]).collect();
        return Body::dangerous_pre_encoded(lines.into_bytes(), ContentTransferEncoding::SevenBit);
    }
    Body::new(text)
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

/// The bare address in `from`, which may have a name as well.
pub(super) fn bare_address(from: &str) -> &str {
    match from.rsplit_once('<').and_then(|(_, address)| address.split_once('>')) {
        Some((address, _)) => address.trim(),
        None => from.trim(),
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;
    use crate::model::MailAbout;

    fn settings(from: &str) -> MailSettings {
        let to = vec!["root".to_owned(), "ops@example.org".to_owned()];
        MailSettings { to, from: Some(from.to_owned()), relay: None, repeat: None, about: MailAbout::ALL }
    }

    /// The headers as a mail reader unfolds them, and the body.
    fn parts(mail: &Mail, from: &str) -> (Vec<String>, String) {
        let text = mail.to_text(&settings(from));
        assert!(text.is_ascii(), "{text}");
        assert!(text.split("\r\n").all(|line| !line.contains(['\r', '\n'])), "{text}");
        let (headers, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(headers.split("\r\n").all(|line| line.len() <= 78), "{headers}");
        let headers = headers.replace("\r\n ", " ");
        (headers.split("\r\n").map(str::to_owned).collect(), body.to_owned())
    }

    fn header<'a>(headers: &'a [String], name: &str) -> &'a str {
        let mut values = headers.iter().filter_map(|header| header.strip_prefix(&format!("{name}: ")));
        let value = values.next().unwrap_or_else(|| panic!("{name}: {headers:?}"));
        assert_eq!(values.next(), None, "{name}: {headers:?}");
        value
    }

    fn mail(subject: &str, body: &str) -> Mail {
        Mail { subject: subject.to_owned(), body: body.to_owned() }
    }

    /// Decodes `text`, which consists of encoded words (RFC 2047).
    fn decoded(text: &str) -> String {
        let words = text.split(' ').map(|word| {
            let word = word.strip_prefix("=?utf-8?b?").and_then(|word| word.strip_suffix("?="));
            STANDARD.decode(word.unwrap_or_else(|| panic!("{text}"))).unwrap()
        });
        String::from_utf8(words.collect::<Vec<_>>().concat()).unwrap()
    }

    #[test]
    fn a_mail_has_all_headers() {
        let long = "[web] Added real server: 10.0.0.1:80 (192.0.2.80:80) (Weight set to 1)";
        let body = "Comment: call me\n.\n\nReason: connection refused";
        let (headers, text) = parts(&mail(long, body), "\"LVS\" <lvs@example.org>");
        assert_eq!(header(&headers, "Subject"), long);
        assert_eq!(header(&headers, "From"), "\"LVS\" <lvs@example.org>");
        assert_eq!(header(&headers, "To"), "root, ops@example.org");
        assert_eq!(header(&headers, "MIME-Version"), "1.0");
        assert_eq!(header(&headers, "Content-Type"), "text/plain; charset=utf-8");
        assert_eq!(header(&headers, "Content-Transfer-Encoding"), "7bit");
        assert_eq!(header(&headers, "Auto-Submitted"), "auto-generated");
        let date = header(&headers, "Date");
        assert!(date.ends_with(" +0000") && date.len() == "Wed, 25 Nov 2026 09:46:00 +0000".len(), "{date}");
        let id = header(&headers, "Message-ID");
        assert!(id.starts_with('<') && id.ends_with(&format!(".lvs-agent@{}>", host())), "{id}");
        let expected =
            format!("Host: {}\r\nComment: call me\r\n.\r\n\r\nReason: connection refused\r\n", host());
        assert_eq!(text, expected);
    }

    #[test]
    fn headers_that_fit_are_not_folded() {
        let subject = "Added real server: 10.0.0.1:80 (192.0.2.80:81) (Weight set to 1)";
        let text = mail(subject, "").to_text(&settings("lvs@example.org"));
        assert!(text.contains(&format!("\r\nSubject: {subject}\r\n")), "{text}");
    }

    #[test]
    fn the_bare_address_is_taken_from_a_name_with_an_address() {
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
    fn a_subject_cannot_add_headers() {
        for subject in ["a\r\nBcc: x@y", "a\nBcc: x@y", "\u{e4}\r\nBcc: x@y", "a\r\n\r\nBcc: x@y"] {
            let (headers, _) = parts(&mail(subject, ""), "a@b");
            assert!(!headers.iter().any(|header| header.starts_with("Bcc")), "{headers:?}");
        }
        let (headers, _) = parts(&mail("a\r\nBcc: x@y", ""), "a@b");
        assert_eq!(header(&headers, "Subject"), "a  Bcc: x@y");
        let (headers, _) = parts(&mail(&"\u{e4}".repeat(60), ""), "a@b");
        assert_eq!(decoded(header(&headers, "Subject")), "\u{e4}".repeat(60));
    }

    #[test]
    fn the_name_of_a_sender_is_encoded_and_its_address_is_not() {
        let (headers, _) = parts(&mail("a", ""), "\"J\u{e4}ger\" <lvs@example.org>");
        let (name, address) = header(&headers, "From").rsplit_once(' ').unwrap();
        assert_eq!((decoded(name).as_str(), address), ("J\u{e4}ger", "<lvs@example.org>"));
        let (headers, _) = parts(&mail("a", ""), "x\r\nBcc: x@y");
        assert_eq!(header(&headers, "From"), "x  Bcc: x@y");
    }

    #[test]
    fn bodies_are_ascii_with_short_lines() {
        let (headers, body) = parts(&mail("a", "Comment: \u{e4}rger\n"), "a@b");
        assert_eq!(header(&headers, "Content-Transfer-Encoding"), "quoted-printable");
        assert!(body.contains("\r\nComment: =C3=A4rger"), "{body}");
        let (headers, body) = parts(&mail("a", &"x".repeat(MAX_LINE + 1)), "a@b");
        assert_eq!(header(&headers, "Content-Transfer-Encoding"), "quoted-printable");
        assert!(body.lines().all(|line| line.len() <= 76), "{body}");
        let (headers, body) = parts(&mail("a", &"x".repeat(MAX_LINE)), "a@b");
        assert_eq!(header(&headers, "Content-Transfer-Encoding"), "7bit");
        assert!(body.contains(&"x".repeat(MAX_LINE)));
    }
}
