use std::{fs, os::unix::fs::PermissionsExt as _};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;
use crate::{
    model::{MailAbout, Protocol, ServiceKey},
    notify::Notifier,
};

/// What the relay says to lines that begin so; to all others `250 ok`.
type Script = &'static [(&'static str, &'static str)];

fn settings(relay: Option<String>) -> MailSettings {
    let to = ["ops@example.org", "boss@example.org"].map(str::to_owned).to_vec();
    MailSettings {
        to,
        from: Some("\"LVS\" <lvs@example.org>".to_owned()),
        smtp: relay,
        repeat: None,
        about: MailAbout::ALL,
    }
}

fn letter(subject: &str) -> Letter {
    Letter { subject: subject.to_owned(), body: "first\n.second\n.\nlast".to_owned() }
}

/// A relay that takes so many connections and tells all that it has heard.
async fn relay(script: Script, connections: usize) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        let mut heard = Vec::new();
        for _ in 0..connections {
            let (stream, _) = listener.accept().await.unwrap();
            serve(stream, script, &mut heard).await;
        }
        heard
    });
    (address, serving)
}

async fn serve(stream: TcpStream, script: Script, heard: &mut Vec<String>) {
    let mut stream = BufStream::new(stream);
    stream.write_all(b"220-relay\r\n220 ready\r\n").await.unwrap();
    stream.flush().await.unwrap();
    let (mut line, mut in_data) = (String::new(), false);
    while stream.read_line(&mut line).await.unwrap() > 0 {
        let said = std::mem::take(&mut line);
        assert!(said.ends_with("\r\n"), "{said:?}");
        let said = said.trim_end_matches("\r\n").to_owned();
        heard.push(said.clone());
        if in_data && said != "." {
            continue;
        }
        in_data = said == "DATA";
        let scripted = script.iter().find(|(start, _)| said.starts_with(start)).map(|(_, answer)| *answer);
        let answer = scripted.unwrap_or(if in_data { "354 go on" } else { "250-a\r\n250 ok" });
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
}

#[tokio::test]
async fn a_relay_gets_the_mail() {
    let (address, serving) = relay(&[], 1).await;
    let settings = settings(Some(address.clone()));
    let text = letter("Deleted real server").to_text(&settings);
    smtp::send(&address, &settings, &text).await.unwrap();
    let heard = serving.await.unwrap();
    let envelope: Vec<_> =
        heard.iter().filter(|line| line.contains("FROM:") || line.contains("TO:")).collect();
    assert_eq!(
        envelope,
        ["MAIL FROM:<lvs@example.org>", "RCPT TO:<ops@example.org>", "RCPT TO:<boss@example.org>"]
    );
    for line in [
        "From: \"LVS\" <lvs@example.org>",
        "To: ops@example.org, boss@example.org",
        "Subject: Deleted real server",
    ] {
        assert!(heard.iter().any(|other| other == line), "{line}: {heard:?}");
    }
    let body = heard.iter().position(|line| line == "first").unwrap();
    assert_eq!(heard[body..], ["first", "..second", "..", "last", ".", "QUIT"]);
}

#[tokio::test]
async fn a_relay_that_refuses_is_named_with_its_answer() {
    let cases: [(Script, &str); 4] = [
        (&[("EHLO", "554 no")], "EHLO"),
        (&[("MAIL", "550-go\r\n550 away")], "550 away"),
        (&[("RCPT", "550 unknown")], "550 unknown"),
        (&[(".", "452 full")], "452 full"),
    ];
    for (script, part) in cases {
        let (address, serving) = relay(script, 1).await;
        let settings = settings(Some(address.clone()));
        let error = smtp::send(&address, &settings, "x\r\n").await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn one_refused_address_keeps_nothing_from_the_other() {
    let (address, serving) = relay(&[("RCPT TO:<ops", "550 unknown")], 1).await;
    let settings = settings(Some(address.clone()));
    let error = smtp::send(&address, &settings, "x\r\n").await.unwrap_err();
    assert!(error.to_string().contains("ops@example.org"), "{error}");
    assert!(serving.await.unwrap().contains(&"x".to_owned()));
}

/// The time stands still but where everybody waits, so that it takes none.
#[tokio::test(start_paused = true)]
async fn a_silent_relay_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let error = smtp::send(&address, &settings(Some(address.clone())), "x\r\n").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn reminders_come_until_it_is_over() {
    let (address, serving) = relay(&[], 3).await;
    let settings = MailSettings { repeat: Some(Duration::from_millis(20)), ..settings(Some(address)) };
    let service = ServiceKey::Address { protocol: Protocol::Tcp, address: "192.0.2.1:80".parse().unwrap() };
    let key = DestinationKey { service, server: "10.0.0.1:80".parse().unwrap() };
    let (notifier, mut notify) = Notifier::new();
    notifier.mail(MailOrder::Send(letter("Quiescent").into(), settings.clone()));
    notifier.mail(MailOrder::Remind(key, letter("Inaccessible").into(), settings.clone()));
    let working = tokio::spawn(async move { carry_out(&mut notify.mails).await });
    let heard = serving.await.unwrap();
    notifier.mail(MailOrder::Over(key));
    drop(notifier);
    working.await.unwrap();
    let subjects: Vec<_> = heard.iter().filter(|line| line.starts_with("Subject: ")).collect();
    assert_eq!(subjects, ["Subject: Quiescent", "Subject: Inaccessible", "Subject: Inaccessible"]);
}

#[tokio::test]
async fn the_local_program_gets_the_mail_on_its_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let (program, told) = (folder.path().join("sendmail"), folder.path().join("told"));
    fs::write(&program, format!("#!/bin/sh\n(echo \"$@\"; cat) > {}\n", told.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let settings = settings(None);
    let text = letter("Added").to_text(&settings);
    sendmail::send_by(program.to_str().unwrap(), &settings, &text).await.unwrap();
    let told = fs::read_to_string(told).unwrap();
    assert!(told.starts_with("-i -f lvs@example.org -- ops@example.org boss@example.org\nFrom: "), "{told}");
    assert!(told.ends_with("\nfirst\n.second\n.\nlast\n") && !told.contains('\r'), "{told}");
    fs::write(&program, "#!/bin/sh\nexit 75\n").unwrap();
    let error = sendmail::send_by(program.to_str().unwrap(), &settings, "x").await;
    assert!(error.is_err());
}
