//! Mails: the relay, its encryption, and who logs in.

use super::*;
use crate::model::{RelayLogin, RelayTls, RelayTlsStart, TlsVerify};

/// `keys` in the table `mail` of a service, on line 4 from column 25 on.
fn with_mail(keys: &str) -> String {
    in_service(&format!("mail = {{ to = [\"root\"], {keys} }}"))
}

fn relay(keys: &str) -> MailRelay {
    let mut config = good(&with_mail(&format!("smtp = \"mail.example.org\", {keys}")));
    assert_eq!(good(&to_toml(&config)), config, "written and read again");
    config.services.remove(0).notify.mail.unwrap().relay.unwrap()
}

#[test]
fn a_relay_is_plain_unless_it_is_written_otherwise() {
    let config = good(&with_mail("smtp = \"192.0.2.1:2525\""));
    let mail = config.services[0].notify.mail.as_ref().unwrap();
    assert_eq!(mail.relay, Some(MailRelay::plain("192.0.2.1:2525")));
    assert_eq!(good(&with_mail("from = \"a@b\"")).services[0].notify.mail.as_ref().unwrap().relay, None);
}

#[test]
fn certificates_of_relays_are_verified_unless_that_is_switched_off() {
    let tls = |keys: &str| {
        let RelayTls { start, name, verify } = relay(keys).tls.unwrap();
        (start, name, verify)
    };
    let (required, direct) = (RelayTlsStart::Required, RelayTlsStart::Direct);
    let file = || TlsVerify::File("/etc/ca.pem".into());
    assert_eq!(relay("tls = \"off\"").tls, None);
    assert_eq!(tls("tls = \"required\""), (required, None, TlsVerify::System));
    assert_eq!(tls("tls = \"direct\", tls-verify = true"), (direct, None, TlsVerify::System));
    assert_eq!(tls("tls = \"direct\", tls-ca = \"/etc/ca.pem\""), (direct, None, file()));
    assert_eq!(tls("tls = \"direct\", tls-ca = \"/etc/ca.pem\", tls-verify = true"), (direct, None, file()));
    let opportunistic = (RelayTlsStart::Opportunistic, Some("a.example".to_owned()), TlsVerify::No);
    assert_eq!(tls("tls = \"opportunistic\", tls-verify = false, tls-name = \"a.example\""), opportunistic);
}

#[test]
fn a_login_has_a_user_and_a_file_with_the_password() {
    let login =
        |keys: &str| relay(&format!("{keys}, user = \"lvs\", password-file = \"/etc/p\"")).login.unwrap();
    let expected =
        RelayLogin { user: "lvs".to_owned(), password_file: "/etc/p".into(), allow_unencrypted: false };
    for tls in ["required", "direct", "opportunistic"] {
        assert_eq!(login(&format!("tls = \"{tls}\"")), expected);
    }
    let allowed = RelayLogin { allow_unencrypted: true, ..expected };
    assert_eq!(login("password-unencrypted = true"), allowed);
}

#[test]
fn faults_of_a_relay() {
    let relay = |keys: &str| with_mail(&format!("smtp = \"m\", {keys}"));
    let cases: &[(String, Places)] = &[
        (
            relay("tls = \"starttls\""),
            &[(4, 43, "write \"off\", \"opportunistic\", \"required\" or \"direct\"")],
        ),
        (relay("tls = \"starttls\", tls-ca = \"/a\""), &[(4, 43, "\"starttls\" is unknown")]),
        (relay("tls = true"), &[(4, 43, "true")]),
        (relay("tls = \"direct\", tls-verify = 1"), &[(4, 66, "true or false")]),
        (relay("tls = \"direct\", tls-ca = \"ca.pem\""), &[(4, 62, "not an absolute path")]),
        (relay("tls = \"direct\", tls-name = \"a b\""), &[(4, 64, "a b")]),
        (
            relay("tls = \"direct\", tls-verify = false, tls-ca = \"/a\""),
            &[(4, 66, "tls-ca has no meaning with tls-verify = false")],
        ),
        (relay("tls-ca = \"/a\""), &[(4, 37, "\"tls-ca\" has no meaning without encryption")]),
        (
            relay("tls = \"off\", tls-verify = true"),
            &[(4, 50, "\"tls-verify\" has no meaning without encryption")],
        ),
        (with_mail("tls = \"required\""), &[(4, 25, "\"tls\" has no meaning without a mail server")]),
        (
            with_mail("user = \"u\", password-file = \"/p\""),
            &[
                (4, 25, "\"user\" has no meaning without"),
                (4, 37, "\"password-file\" has no meaning without"),
            ],
        ),
        (relay("tls = \"direct\", user = \"u\""), &[(4, 8, "has no \"password-file\"")]),
        (relay("tls = \"direct\", password-file = \"/p\""), &[(4, 8, "has no \"user\"")]),
        (relay("tls = \"direct\", user = \"\", password-file = \"/p\""), &[(4, 60, "is empty")]),
        (relay("tls = \"direct\", user = \"u\", password-file = \"p\""), &[(4, 81, "not an absolute path")]),
        (relay("password-unencrypted = true"), &[(4, 60, "has no meaning without \"user\"")]),
        (relay("user = \"u\", password-file = \"/p\""), &[(4, 44, "would be sent unencrypted; write tls =")]),
        (relay("password = \"p\""), &[(4, 37, "unknown key \"password\"")]),
    ];
    for (text, expected) in cases {
        assert_faults(text, expected);
    }
}

prop_compose! {
    fn verify()(file in "/[a-z]{1,9}", which in 0..3) -> TlsVerify {
        match which {
            0 => TlsVerify::No,
            1 => TlsVerify::System,
            _ => TlsVerify::File(file.into()),
        }
    }
}

prop_compose! {
    fn tls()(
        start in select(&[RelayTlsStart::Opportunistic, RelayTlsStart::Required, RelayTlsStart::Direct][..]),
        name in option::of("[a-z]{1,9}\\.example"),
        verify in verify(),
    ) -> RelayTls {
        RelayTls { start, name, verify }
    }
}

prop_compose! {
    fn any_relay()(
        address in "[a-z]{1,9}(:[0-9]{1,4})?",
        tls in option::of(tls()),
        login in option::of(("[ -~]{1,9}", "/[a-z]{1,9}", any::<bool>())),
    ) -> MailRelay {
        let login = login.map(|(user, file, allowed)| RelayLogin {
            user,
            password_file: file.into(),
            allow_unencrypted: allowed || tls.is_none(),
        });
        MailRelay { address, tls, login }
    }
}

prop_compose! {
    fn mail()(
        to in proptest::collection::vec("[a-z]{1,9}(@[a-z]{1,9})?", 1..3),
        from in option::of("[ -~]{1,9}"),
        relay in option::of(any_relay()),
        repeat in option::of(duration(1..=86_400_000)),
        (starting, running, stopping, reloading) in any::<(bool, bool, bool, bool)>(),
    ) -> MailSettings {
        MailSettings { to, from, relay, repeat, about: MailAbout { starting, running, stopping, reloading } }
    }
}

proptest! {
    #[test]
    fn mails_that_are_written_are_read(mail in mail()) {
        let mut config = good(&in_service(""));
        config.services[0].notify.mail = Some(mail);
        let text = to_toml(&config);
        prop_assert_eq!(good(&text), config, "{}", text);
    }
}
