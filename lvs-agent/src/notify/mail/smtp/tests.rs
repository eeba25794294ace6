use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tempfile::TempDir;

use super::{
    super::testing::{Certificate, Script, relay, tls_relay},
    *,
};
use crate::model::{MailAbout, RelayLogin, TlsVerify};

const TEXT: &str = "Subject: x\r\n\r\nsecret news\r\n";
const STARTTLS: Script = &[("EHLO", "250-relay\r\n250 STARTTLS"), ("STARTTLS", "220 go on")];

/// A directory with the files that the settings name.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn trust(&self, certificate: &Certificate) -> TlsVerify {
        TlsVerify::File(self.write("authority.pem", &certificate.authority))
    }

    fn login(&self, password: &str) -> RelayLogin {
        let password_file = self.write("password", password);
        RelayLogin { user: "lvs".to_owned(), password_file, allow_unencrypted: false }
    }
}

fn tls(start: RelayTlsStart, verify: TlsVerify) -> RelayTls {
    RelayTls { start, name: None, verify }
}

async fn send_by(relay: MailRelay) -> Result<(), String> {
    let settings = MailSettings {
        to: vec!["root".to_owned()],
        from: Some("lvs@example.org".to_owned()),
        relay: None,
        repeat: None,
        about: MailAbout::ALL,
    };
    send(&relay, &settings, TEXT).await.map_err(|error| error.to_string())
}

/// The lines that a relay has received without encryption.
fn readable(received: &[String]) -> Vec<&str> {
    let verb = |line: &'static str| move |received: &&str| received.starts_with(line);
    let plain = received.iter().map(String::as_str).filter(|line| !line.starts_with('🔒'));
    plain.map(|line| if verb("EHLO")(&line) { "EHLO" } else { line }).collect()
}

#[tokio::test]
async fn a_mail_is_encrypted_after_starttls() {
    let (certificate, files) = (Certificate::new(), Files::new());
    for start in [RelayTlsStart::Required, RelayTlsStart::Opportunistic] {
        let (address, serving) = tls_relay(STARTTLS, &certificate, false).await;
        send_by(MailRelay { address, tls: Some(tls(start, files.trust(&certificate))), login: None })
            .await
            .unwrap();
        let received = serving.await.unwrap();
        assert_eq!(readable(&received), ["EHLO", "STARTTLS"]);
        assert!(received.contains(&"🔒secret news".to_owned()), "{received:?}");
    }
}

#[tokio::test]
async fn a_mail_is_encrypted_from_the_start() {
    let (certificate, files) = (Certificate::new(), Files::new());
    let (address, serving) = tls_relay(&[], &certificate, true).await;
    let tls = Some(tls(RelayTlsStart::Direct, files.trust(&certificate)));
    send_by(MailRelay { address, tls, login: None }).await.unwrap();
    let received = serving.await.unwrap();
    assert!(readable(&received).is_empty(), "{received:?}");
    assert!(received.contains(&"🔒secret news".to_owned()), "{received:?}");
}

#[tokio::test]
async fn no_mail_is_sent_without_required_encryption() {
    let (address, serving) = relay(&[], 1).await;
    let tls = Some(tls(RelayTlsStart::Required, TlsVerify::No));
    let error = send_by(MailRelay { address, tls, login: None }).await.unwrap_err();
    assert!(error.contains("doesn't offer STARTTLS") && error.contains("tls = \"required\""), "{error}");
    assert_eq!(readable(&serving.await.unwrap()), ["EHLO"]);
}

#[tokio::test]
async fn a_relay_that_offers_encryption_and_refuses_it_gets_no_mail() {
    const REFUSING: Script = &[("EHLO", "250-relay\r\n250 STARTTLS"), ("STARTTLS", "454 no entropy")];
    for start in [RelayTlsStart::Required, RelayTlsStart::Opportunistic] {
        let (address, serving) = relay(REFUSING, 1).await;
        let tls = Some(tls(start, TlsVerify::No));
        let error = send_by(MailRelay { address, tls, login: None }).await.unwrap_err();
        assert_eq!(error, "STARTTLS: the relay says \"454 no entropy\"");
        assert_eq!(readable(&serving.await.unwrap()), ["EHLO", "STARTTLS", "QUIT"]);
    }
}

#[tokio::test]
async fn opportunistic_encryption_sends_without_it_if_none_is_offered() {
    let (address, serving) = relay(&[], 1).await;
    // A file of authorities that isn't needed may be missing.
    let tls = Some(tls(RelayTlsStart::Opportunistic, TlsVerify::File("/nowhere".into())));
    send_by(MailRelay { address, tls, login: None }).await.unwrap();
    assert!(serving.await.unwrap().contains(&"secret news".to_owned()));
}

#[tokio::test]
async fn certificates_are_verified_unless_that_is_disabled() {
    let (certificate, other, files) = (Certificate::new(), Certificate::new(), Files::new());
    let relay_with = async |start: RelayTlsStart, name: Option<&str>, verify| {
        let is_direct = start == RelayTlsStart::Direct;
        let (address, serving) = tls_relay(STARTTLS, &certificate, is_direct).await;
        let tls = Some(RelayTls { start, name: name.map(str::to_owned), verify });
        let sent = send_by(MailRelay { address, tls, login: None }).await;
        let received = serving.await.unwrap();
        let has_got_it = received.iter().any(|line| line.contains("secret"));
        assert_eq!(has_got_it, sent.is_ok(), "{received:?}");
        sent
    };
    for start in [RelayTlsStart::Opportunistic, RelayTlsStart::Required, RelayTlsStart::Direct] {
        let error = relay_with(start, None, files.trust(&other)).await.unwrap_err();
        assert!(error.contains("invalid peer certificate"), "{error}");
        let error =
            relay_with(start, Some("other.example.org"), files.trust(&certificate)).await.unwrap_err();
        assert!(error.contains("not valid for name"), "{error}");
        assert_eq!(relay_with(start, Some("mail.example.org"), files.trust(&certificate)).await, Ok(()));
        assert_eq!(relay_with(start, Some("other.example.org"), TlsVerify::No).await, Ok(()));
    }
    assert!(relay_with(RelayTlsStart::Required, None, TlsVerify::System).await.is_err());
    let no_authority = TlsVerify::File(files.write("empty.pem", ""));
    for start in [RelayTlsStart::Required, RelayTlsStart::Direct] {
        let (address, _serving) = tls_relay(STARTTLS, &certificate, false).await;
        let tls = Some(tls(start, no_authority.clone()));
        let error = send_by(MailRelay { address, tls, login: None }).await.unwrap_err();
        assert!(error.contains("empty.pem: no certificate"), "{error}");
    }
}

#[tokio::test]
async fn a_user_logs_in_over_encryption() {
    let (certificate, files) = (Certificate::new(), Files::new());
    let plain: Script = &[
        ("EHLO", "250-relay\r\n250-STARTTLS\r\n250 AUTH LOGIN PLAIN"),
        ("STARTTLS", "220 go on"),
        ("AUTH", "235 ok"),
    ];
    let login: Script = &[
        ("EHLO", "250-relay\r\n250-STARTTLS\r\n250 AUTH LOGIN"),
        ("STARTTLS", "220 go on"),
        ("AUTH", "334 VXNlcm5hbWU6"),
        ("bHZz", "334 UGFzc3dvcmQ6"),
        ("aHVudGVy", "235 ok"),
    ];
    let said = STANDARD.encode("\0lvs\0hunter");
    let plain_lines = vec![format!("🔒AUTH PLAIN {said}")];
    let login_lines = ["🔒AUTH LOGIN", "🔒bHZz", "🔒aHVudGVy"].map(str::to_owned).to_vec();
    for (script, lines) in [(plain, plain_lines), (login, login_lines)] {
        let (address, serving) = tls_relay(script, &certificate, false).await;
        let tls = Some(tls(RelayTlsStart::Required, files.trust(&certificate)));
        send_by(MailRelay { address, tls, login: Some(files.login("hunter\n")) }).await.unwrap();
        let received = serving.await.unwrap();
        assert!(received.windows(lines.len()).any(|window| window == lines), "{received:?}");
        assert!(received.contains(&"🔒secret news".to_owned()), "{received:?}");
    }
}

#[tokio::test]
async fn a_failed_login_is_named_without_the_password() {
    let (certificate, files) = (Certificate::new(), Files::new());
    let cases: [(Script, &str, &str); 5] = [
        (
            &[("EHLO", "250-a\r\n250 AUTH PLAIN"), ("AUTH", "535-5.7.8 wrong\r\n535 5.7.8 password")],
            "hunter",
            "the login as \"lvs\": the relay says \"535 5.7.8 wrong password\"",
        ),
        (&[], "hunter", "the relay offers no login by PLAIN or LOGIN"),
        (&[("EHLO", "250-a\r\n250 AUTH CRAM-MD5")], "hunter", "the relay offers no login by PLAIN or LOGIN"),
        (&[("EHLO", "250-a\r\n250 AUTH PLAIN")], "\nhunter", "there is no password in its first line"),
        (&[("EHLO", "250-a\r\n250 AUTH PLAIN")], &"hunter".repeat(200), "is too long for a password"),
    ];
    for (script, password, words) in cases {
        let (address, serving) = tls_relay(script, &certificate, true).await;
        let tls = Some(tls(RelayTlsStart::Direct, files.trust(&certificate)));
        let relay = MailRelay { address, tls, login: Some(files.login(password)) };
        assert!(!format!("{relay:?}").contains("hunter"), "{relay:?}");
        let error = send_by(relay).await.unwrap_err();
        assert!(error.contains(words) && !error.contains("hunter"), "{words}: {error}");
        assert!(!serving.await.unwrap().iter().any(|line| line.contains("MAIL")));
    }
    let missing = RelayLogin { password_file: files.0.path().join("missing"), ..files.login("") };
    let (address, serving) = tls_relay(&[("EHLO", "250-a\r\n250 AUTH PLAIN")], &certificate, true).await;
    let tls = Some(tls(RelayTlsStart::Direct, TlsVerify::No));
    let error = send_by(MailRelay { address, tls, login: Some(missing) }).await.unwrap_err();
    assert!(error.contains("missing: No such file"), "{error}");
    serving.await.unwrap();
}

#[tokio::test]
async fn a_password_is_sent_without_encryption_only_if_allowed() {
    const AUTH: Script = &[("EHLO", "250-a\r\n250 AUTH PLAIN"), ("AUTH", "235 ok")];
    let files = Files::new();
    for tls in [None, Some(tls(RelayTlsStart::Opportunistic, TlsVerify::No))] {
        let (address, serving) = relay(AUTH, 2).await;
        let login = files.login("hunter");
        let refusing = MailRelay { address, tls, login: Some(login.clone()) };
        let error = send_by(refusing.clone()).await.unwrap_err();
        assert!(error.contains("the password isn't sent without encryption"), "{error}");
        let login = Some(RelayLogin { allow_unencrypted: true, ..login });
        send_by(MailRelay { login, ..refusing }).await.unwrap();
        let received = serving.await.unwrap();
        assert_eq!(received.iter().filter(|line| line.starts_with("AUTH")).count(), 1, "{received:?}");
    }
}

#[test]
fn a_relay_has_a_default_port() {
    let at = |address: &str, start: Option<RelayTlsStart>| {
        let tls = start.map(|start| tls(start, TlsVerify::No));
        destination(&MailRelay { tls, ..MailRelay::plain(address) }).map_err(|error| error.to_string())
    };
    for (address, start, name, port) in [
        ("mail.example.org", None, "mail.example.org", 25),
        ("mail.example.org", Some(RelayTlsStart::Required), "mail.example.org", 25),
        ("mail.example.org", Some(RelayTlsStart::Direct), "mail.example.org", 465),
        ("mail.example.org:587", Some(RelayTlsStart::Direct), "mail.example.org", 587),
        ("192.0.2.1", None, "192.0.2.1", 25),
        ("192.0.2.1:2525", None, "192.0.2.1", 2525),
        ("2001:db8::1", None, "2001:db8::1", 25),
        ("[2001:db8::1]:587", None, "2001:db8::1", 587),
    ] {
        assert_eq!(at(address, start), Ok((name.to_owned(), port)), "{address}");
    }
    assert!(at("mail.example.org:smtp", None).unwrap_err().contains("\"smtp\""));
}
