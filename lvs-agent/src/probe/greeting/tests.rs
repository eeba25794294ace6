use super::*;
use crate::{
    model::{CheckKind, Login, Secret, Via},
    probe::{
        Probe, ProbeTarget, Prober,
        testing::{self, LONG, Script, scripted},
    },
};

fn check(protocol: GreetingProtocol, login: bool) -> CheckKind {
    let login = login.then(|| Login { user: "u".to_owned(), password: Secret::new("p"), unencrypted: true });
    CheckKind::Greeting(GreetingCheck { protocol, tls: None, login, helo: Some("h".to_owned()) })
}

/// A server that sends and expects these lines: `< ` before those that it sends.
async fn server(lines: &[&'static str]) -> std::net::SocketAddr {
    let script = lines.iter().map(|line| match line.strip_prefix("< ") {
        Some(says) => Script::send(format!("{says}\r\n")),
        None => Script::Wants(line),
    });
    scripted(script.collect()).await
}

#[tokio::test]
async fn sessions_pass_or_fail_the_check() {
    use GreetingProtocol::{Ftp, Imap, Nntp, Pop3, Smtp};
    let cases: &[(GreetingProtocol, bool, &[&str], &str)] = &[
        (Smtp, false, &["< 220 hello", "EHLO h\r\n", "< 250-x", "< 250 y", "QUIT"], ""),
        (Smtp, false, &["< 220-a", "< 220 b", "EHLO", "< 502 what", "HELO h\r\n", "< 250 y"], ""),
        (Smtp, false, &["< 554 go away"], "554 go away"),
        (Smtp, false, &["< 421 busy"], "421 busy"),
        (Smtp, false, &["< 220 hello", "EHLO", "< 421 busy"], "421 busy"),
        (Smtp, true, &["< 220 a", "EHLO", "< 250 b", "AUTH PLAIN AHUAcA==\r\n", "< 235 in"], ""),
        (Smtp, true, &["< 220 a", "EHLO", "< 250 b", "AUTH PLAIN", "< 535 out"], "535 out"),
        (Pop3, false, &["< +OK hello", "QUIT"], ""),
        (Pop3, false, &["< -ERR busy"], "-ERR busy"),
        (Pop3, false, &["< +OKAY"], "+OKAY"),
        (Pop3, true, &["< +OK", "USER u\r\n", "< +OK", "PASS p\r\n", "< +OK in"], ""),
        (Pop3, true, &["< +OK", "USER u\r\n", "< +OK", "PASS p\r\n", "< -ERR out"], "-ERR out"),
        (Imap, false, &["< * OK hello", "z LOGOUT"], ""),
        (Imap, false, &["< * PREAUTH hello"], ""),
        (Imap, false, &["< * BYE busy"], "* BYE busy"),
        (Imap, true, &["< * OK a", "b LOGIN \"u\" \"p\"\r\n", "< * CAPABILITY x", "< b OK in"], ""),
        (Imap, true, &["< * OK a", "b LOGIN", "< b NO out"], "b NO out"),
        (Nntp, false, &["< 200 hello", "QUIT"], ""),
        (Nntp, false, &["< 201-no posting", "QUIT"], ""),
        (Nntp, false, &["< 400 closed"], "400 closed"),
        (Nntp, true, &["< 200 a", "AUTHINFO USER u\r\n", "< 381 b", "AUTHINFO PASS p\r\n", "< 281 in"], ""),
        (Nntp, true, &["< 200 a", "AUTHINFO USER u\r\n", "< 281 in"], ""),
        (Nntp, true, &["< 200 a", "AUTHINFO USER", "< 381 b", "AUTHINFO PASS", "< 481 out"], "481 out"),
        (Ftp, false, &["< 220-a", "< anything", "< 220-", "< 220 b", "QUIT"], ""),
        (Ftp, true, &["< 220 a", "USER u\r\n", "< 331 b", "PASS p\r\n", "< 230 in"], ""),
        (Ftp, true, &["< 220 a", "USER u\r\n", "< 230 in"], ""),
        (Ftp, true, &["< 220 a", "USER u\r\n", "< 331 b", "PASS p\r\n", "< 530 out"], "530 out"),
    ];
    for (protocol, login, lines, wrong) in cases {
        let result = testing::probe(server(lines).await, check(*protocol, *login), LONG).await;
        match result {
            Ok(()) => assert_eq!(*wrong, "", "{protocol:?} {lines:?}"),
            Err(FailureReason::WrongAnswer { got, .. }) => {
                assert_eq!(&*got, *wrong, "{protocol:?} {lines:?}");
            }
            Err(reason) => panic!("{protocol:?} {lines:?}: {reason}"),
        }
    }
}

/// The name in EHLO where none is written.
#[tokio::test]
async fn without_a_name_smtp_is_told_the_source() {
    for (source, name) in [
        (None, "[127.0.0.1]"),
        (Some("192.0.2.10"), "[192.0.2.10]"),
        (Some("2001:db8::10"), "[IPv6:2001:db8::10]"),
    ] {
        assert_eq!(numbered::address_literal(source.map(|ip| ip.parse().unwrap())), name);
    }
    let protocol = GreetingProtocol::Smtp;
    let kind = CheckKind::Greeting(GreetingCheck { protocol, tls: None, login: None, helo: None });
    for (source, hello) in [(None, "EHLO [127.0.0.1]\r\n"), (Some("127.0.0.2"), "EHLO [127.0.0.2]\r\n")] {
        let address = server(&["< 220 hello", hello, "< 250 y", "QUIT"]).await;
        let via = Via { source: source.map(|ip| ip.parse().unwrap()), ..Via::default() };
        let outcome = Prober::new().probe(ProbeTarget::by(address, via), &kind, LONG).await;
        assert!(outcome.is_ok(), "{hello}: {outcome:?}");
    }
}

#[tokio::test]
async fn network_failures_have_their_reason() {
    use GreetingProtocol::{Ftp, Imap, Nntp, Pop3, Smtp};
    for protocol in [Smtp, Pop3, Imap, Nntp, Ftp] {
        testing::common_failures(&check(protocol, true), Phase::Greeting, true).await;
    }
}

#[tokio::test]
async fn endless_replies_are_bounded() {
    for line in ["220-x\r\n", testing::LONG_TEXT] {
        let flood = scripted(vec![Script::send("220-x\r\n"), Script::Flood(line, std::time::Duration::ZERO)]);
        let result = testing::probe(flood.await, check(GreetingProtocol::Smtp, false), LONG).await;
        assert!(matches!(result, Err(FailureReason::Protocol(_))), "{line}: {result:?}");
    }
}

/// Whoever sits between the director and the server must not be able to answer for it before the encryption.
#[tokio::test]
async fn data_before_the_tls_handshake_is_refused() {
    let script = vec![
        Script::send("* OK hello\r\n"),
        Script::Wants("a STARTTLS"),
        Script::send("a OK go on\r\nb OK logged in\r\n"),
    ];
    let CheckKind::Greeting(plain) = check(GreetingProtocol::Imap, true) else { unreachable!() };
    let tls = Some(testing::any_tls(TlsStart::StartTls));
    let result =
        testing::probe(scripted(script).await, CheckKind::Greeting(GreetingCheck { tls, ..plain }), LONG)
            .await;
    assert_eq!(result, Err(FailureReason::Protocol("data before the TLS handshake".into())));
}
