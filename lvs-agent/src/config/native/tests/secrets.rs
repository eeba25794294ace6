//! Passwords: in files, and shown nowhere.

use std::{fs, path::Path};

use super::super::{read, to_toml};
use crate::model::CheckKind;

fn text(check: &str) -> String {
    format!(
        "[[service]]\naddress = \"192.0.2.1:25\"\nforward = \"masquerade\"\ncheck = {{ {check} }}\n\
         [[service.server]]\naddress = \"10.0.0.1\"\n"
    )
}

#[test]
fn a_secret_in_a_file_is_read_and_the_file_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "hunter2\nnot this\n").unwrap();
    let secret = format!("password = {{ file = \"{}\" }}", file.display());
    let check = format!("type = \"smtp\", user = \"u\", password-unencrypted = true, {secret}");
    let mut config = read(&text(&check), Path::new("lvs.toml")).unwrap();
    let CheckKind::Greeting(greeting) = &config.services[0].check.kind else { panic!() };
    assert_eq!(greeting.login.as_ref().unwrap().password.reveal(), "hunter2");
    let written = to_toml(&config);
    assert!(written.contains(&format!("password = {{ file = \"{}\" }}", file.display())), "{written}");
    assert!(!written.contains("hunter2"), "{written}");
    assert_eq!(read(&written, Path::new("lvs.toml")).unwrap(), config);
    assert_eq!(config.hide_secrets(), 0);

    for (content, problem) in [
        (Some("\nhunter2"), "there is none in its first line"),
        (Some(""), "there is none in its first line"),
        (Some("hun\u{1b}ter2"), "has control characters"),
        (None, "there is no such file"),
    ] {
        match content {
            Some(content) => fs::write(&file, content).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let error = read(&text(&check), Path::new("lvs.toml")).unwrap_err().to_string();
        assert!(error.contains("lvs.toml:4:") && error.contains(problem), "{error}");
        assert!(!error.contains("hunter") && !error.contains("ter2"), "{error}");
    }
}

#[test]
fn no_secret_is_left_where_they_are_hidden() {
    let checks = [
        "type = \"imaps\", user = \"u\", password = \"PRIVATE\"",
        "type = \"ldap\", user = \"cn=u\", password = \"PRIVATE\", tls = \"starttls\"",
        "type = \"mysql\", user = \"u\", password = \"PRIVATE\"",
        "type = \"http\", path = \"/\", headers = { X-Token = \"PRIVATE\" }",
        "type = \"radius\", user = \"u\", password = \"PRIVATE\", secret = \"PRIVATE\", port = 1812",
    ];
    for check in checks {
        let of_server = text("type = \"connect\"") + &format!("check = {{ {check} }}\n");
        let backup = "[[service.backup]]\naddress = \"10.0.0.9\"\nforward = \"masquerade\"\n";
        let of_backup = text("type = \"connect\"") + backup + &format!("check = {{ {check} }}\n");
        for text in [
            text(check),
            of_server,
            of_backup,
            text("FIRST").replace("{ FIRST }", &format!("[{{ type = \"ping\" }}, {{ {check} }}]")),
        ] {
            let mut config =
                read(&text, Path::new("lvs.toml")).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(to_toml(&config).contains("PRIVATE"), "{text}");
            assert!(config.hide_secrets() > 0, "{text}");
            let written = to_toml(&config);
            assert!(!written.contains("PRIVATE") && written.contains("(hidden)"), "{written}");
            assert!(!format!("{config:?}").contains("PRIVATE"));
            read(&written, Path::new("lvs.toml")).unwrap_or_else(|error| panic!("{written}: {error}"));
        }
    }
}

/// The faults of a check with these keys, as they are told.
fn told(check: &str) -> String {
    read(&text(check), Path::new("lvs.toml")).map_or_else(|error| error.to_string(), |_| String::new())
}

/// Checks that send a secret, and what to write to have it encrypted.
const SENDING: [(&str, &str); 15] = [
    ("type = \"smtp\", user = \"u\", password = \"PRIVATE\"", "tls = \"starttls\""),
    ("type = \"submission\", user = \"u\", password = \"PRIVATE\"", "tls = \"starttls\""),
    ("type = \"pop3\", user = \"u\", password = \"PRIVATE\"", "tls = \"starttls\""),
    ("type = \"imap\", user = \"u\", password = \"PRIVATE\"", "tls = \"direct\""),
    ("type = \"nntp\", user = \"u\", password = \"PRIVATE\"", "tls = \"starttls\""),
    ("type = \"ftp\", user = \"u\", password = \"PRIVATE\"", "tls = \"starttls\""),
    ("type = \"ldap\", user = \"cn=u\", password = \"PRIVATE\"", "tls = \"starttls\""),
    ("type = \"imaps\", tls = \"none\", user = \"u\", password = \"PRIVATE\"", "tls = \"direct\""),
    ("type = \"http\", basic-auth-file = \"/f\"", "tls = \"direct\""),
    ("type = \"http\", bearer-token-file = \"/f\"", "tls = \"direct\""),
    ("type = \"http\", headers = { Authorization = \"PRIVATE\" }", "tls = \"direct\""),
    ("type = \"http\", headers = { cookie = \"PRIVATE\" }", "tls = \"direct\""),
    ("type = \"http\", headers = { X-API-Key = \"PRIVATE\" }", "tls = \"direct\""),
    ("type = \"http-proxy\", path = \"http://a.example/\", basic-auth-file = \"/f\"", "tls = \"direct\""),
    ("type = \"https\", tls = \"none\", basic-auth-file = \"/f\"", "tls = \"direct\""),
];

#[test]
fn secrets_are_sent_unencrypted_only_where_that_is_allowed() {
    for (check, encryption) in SENDING {
        let told = told(check);
        assert!(
            told.starts_with("lvs.toml:4:") && told.contains("would be sent unencrypted"),
            "{check}: {told}"
        );
        assert!(told.contains("password-unencrypted = true if that is wanted"), "{check}: {told}");
        // The message quotes the line, and goes to the log.
        assert!(!told.contains("PRIVATE"), "{check}: {told}");
        assert_eq!(self::told(&format!("{check}, password-unencrypted = true")), "", "{check}");
        assert!(
            self::told(&format!("{check}, password-unencrypted = false"))
                .contains("would be sent unencrypted"),
            "{check}"
        );
        if !check.contains("tls =") {
            assert_eq!(self::told(&format!("{check}, {encryption}")), "", "{check}");
        }
    }
    for fine in [
        "type = \"smtp\"",
        "type = \"imap\", user = \"u\"",
        "type = \"pop3s\", user = \"u\", password = \"PRIVATE\"",
        "type = \"ftp\", user = \"anonymous\", password = \"lvs@example.org\"",
        "type = \"ldap\", base = \"dc=a\"",
        "type = \"http\", headers = { X-Check = \"lvs\" }",
        // The server decides, and the probe obeys the same key.
        "type = \"mysql\", user = \"u\", password = \"PRIVATE\"",
        "type = \"postgresql\", user = \"u\", password = \"PRIVATE\"",
        // It hides the password by itself.
        "type = \"radius\", user = \"u\", password = \"PRIVATE\", secret = \"PRIVATE\", port = 1812",
    ] {
        assert_eq!(told(fine), "", "{fine}");
    }
    for without in ["radius\", user = \"u\", secret = \"s\", port = 1812", "dns\", name = \"a\"", "ping\""] {
        let told = told(&format!("type = \"{without}, password-unencrypted = true"));
        assert!(told.contains("\"password-unencrypted\" has no meaning"), "{without}: {told}");
    }
}

#[test]
fn what_is_no_toml_is_told_without_the_secret_in_it() {
    for written in ["PRIVATE", "PRIVATE x", "'PRIVATE", "\"PRIVATE\" \"PRIVATE\"", "\"PRIVATE\\x\""] {
        let told = told(&format!("type = \"imaps\", user = \"u\", password = {written}"));
        assert!(told.contains("lvs.toml:4:") && !told.contains("PRIVATE"), "{written}: {told}");
    }
}

#[test]
fn a_check_is_judged_when_it_is_whole() {
    let defaults = "[defaults]\ncheck = { type = \"imap\", user = \"u\", password = \"PRIVATE\" }\n";
    let service = |check: &str| {
        format!(
            "{defaults}[[service]]\naddress = \"192.0.2.1:143\"\nforward = \"masquerade\"\n{check}\
             [[service.server]]\naddress = \"10.0.0.1\"\n"
        )
    };
    let read = |text: &str| read(text, Path::new("lvs.toml"));
    assert!(read(&service("check = { tls = \"starttls\" }\n")).is_ok());
    assert!(read(&service("check = { password-unencrypted = true }\n")).is_ok());
    assert!(read(&service("check = { type = \"connect\" }\n")).is_ok());
    // Where the password is written, once for all services.
    let twice = service("") + &service("").replace(defaults, "").replace("2.1:143", "2.2:143");
    let told = read(&twice).unwrap_err().to_string();
    assert!(
        told.starts_with("lvs.toml:2:38: ") && told.matches("would be sent unencrypted").count() == 1,
        "{told}"
    );
    let adopting = format!("[agent]\nmode = \"adopt\"\n{defaults}");
    assert!(read(&adopting).unwrap_err().to_string().starts_with("lvs.toml:4:38: "));
}

#[test]
fn what_may_be_sent_unencrypted_is_written_and_read_again() {
    for (check, _) in SENDING {
        let config =
            read(&text(&format!("{check}, password-unencrypted = true")), Path::new("lvs.toml")).unwrap();
        let written = to_toml(&config);
        assert!(written.contains("password-unencrypted = true"), "{written}");
        assert_eq!(read(&written, Path::new("lvs.toml")).unwrap(), config, "{written}");
    }
}
