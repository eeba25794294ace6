use crate::model::{Protocol, ServiceKey};
use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{
    testing::{Script, relay},
    *,
};
use crate::{
    model::{MailAbout, MailRelay},
    notify::Notifier,
};

fn settings(relay: Option<String>) -> MailSettings {
    let to = ["ops@example.org", "boss@example.org"].map(str::to_owned).to_vec();
    MailSettings {
        to,
        from: Some("\"LVS\" <lvs@example.org>".to_owned()),
        relay: relay.map(MailRelay::plain),
        repeat: None,
        about: MailAbout::ALL,
    }
}

fn mail(subject: &str) -> Mail {
    Mail { subject: subject.to_owned(), body: "first\n.second\n.\nlast".to_owned() }
}

#[tokio::test]
async fn a_relay_gets_the_mail() {
    let (address, serving) = relay(&[], 1).await;
    let settings = settings(Some(address));
    let text = mail("Deleted real server").to_text(&settings);
    smtp::send(settings.relay.as_ref().unwrap(), &settings, &text).await.unwrap();
    let received = serving.await.unwrap();
    let envelope: Vec<_> =
        received.iter().filter(|line| line.contains("FROM:") || line.contains("TO:")).collect();
    assert_eq!(
        envelope,
        ["MAIL FROM:<lvs@example.org>", "RCPT TO:<ops@example.org>", "RCPT TO:<boss@example.org>"]
    );
    for line in [
        "From: \"LVS\" <lvs@example.org>",
        "To: ops@example.org, boss@example.org",
        "Subject: Deleted real server",
    ] {
        assert!(received.iter().any(|other| other == line), "{line}: {received:?}");
    }
    let body = received.iter().position(|line| line == "first").unwrap();
    assert_eq!(received[body..], ["first", "..second", "..", "last", ".", "QUIT"]);
}

#[tokio::test]
async fn a_relay_that_refuses_is_named_with_its_answer() {
    let cases: [(Script, &str); 4] = [
        (&[("EHLO", "554 no")], "EHLO"),
        (&[("MAIL", "550-go\r\n550 away")], "\"550 go away\""),
        (&[("RCPT", "550 unknown")], "550 unknown"),
        (&[(".", "452 full")], "452 full"),
    ];
    for (script, part) in cases {
        let (address, serving) = relay(script, 1).await;
        let settings = settings(Some(address));
        let error = smtp::send(settings.relay.as_ref().unwrap(), &settings, "x\r\n").await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_address_does_not_keep_the_mail_from_the_other() {
    let (address, serving) = relay(&[("RCPT TO:<ops", "550 unknown")], 1).await;
    let settings = settings(Some(address));
    let error = smtp::send(settings.relay.as_ref().unwrap(), &settings, "x\r\n").await.unwrap_err();
    assert!(error.to_string().contains("ops@example.org"), "{error}");
    assert!(serving.await.unwrap().contains(&"x".to_owned()));
}

/// Time is paused, and moves on while every task waits.
#[tokio::test(start_paused = true)]
async fn a_silent_relay_times_out() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let relay = MailRelay::plain(address);
    let error = smtp::send(&relay, &settings(None), "x\r\n").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn reminders_are_sent_until_they_are_stopped() {
    let (address, serving) = relay(&[], 3).await;
    let settings = MailSettings { repeat: Some(Duration::from_millis(20)), ..settings(Some(address)) };
    let service = ServiceKey::Address { protocol: Protocol::Tcp, address: "192.0.2.1:80".parse().unwrap() };
    let key = DestinationKey { service, server: "10.0.0.1:80".parse().unwrap() };
    let (notifier, mut notify) = Notifier::new(Publisher::default());
    notifier.mail(MailCommand::Send(mail("Quiescent").into(), settings.clone()));
    notifier.mail(MailCommand::StartReminder(key, mail("Inaccessible").into(), settings.clone()));
    let working = tokio::spawn(async move {
        send_all(&mut notify.mails, &Publisher::default(), &AtomicU64::new(0)).await;
    });
    let received = serving.await.unwrap();
    notifier.mail(MailCommand::StopReminder(key));
    drop(notifier);
    working.await.unwrap();
    let subjects: Vec<_> = received.iter().filter(|line| line.starts_with("Subject: ")).collect();
    assert_eq!(subjects, ["Subject: Quiescent", "Subject: Inaccessible", "Subject: Inaccessible"]);
}

#[tokio::test]
async fn the_local_program_gets_the_mail_on_its_standard_input() {
    let directory = tempfile::tempdir().unwrap();
    let (program, output) = (directory.path().join("sendmail"), directory.path().join("output"));
    fs::write(&program, format!("#!/bin/sh\n(echo \"$@\"; cat) > {}\n", output.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let settings = settings(None);
    let text = mail("Added").to_text(&settings);
    sendmail::send_by(program.to_str().unwrap(), &settings, &text).await.unwrap();
    let output = fs::read_to_string(output).unwrap();
    assert!(
        output.starts_with("-i -f lvs@example.org -- ops@example.org boss@example.org\nFrom: "),
        "{output}"
    );
    assert!(output.ends_with("\nfirst\n.second\n.\nlast\n") && !output.contains('\r'), "{output}");
    fs::write(&program, "#!/bin/sh\nexit 75\n").unwrap();
    let error = sendmail::send_by(program.to_str().unwrap(), &settings, "x").await;
    assert!(error.is_err());
}
