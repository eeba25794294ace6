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
    let check = format!("type = \"smtp\", user = \"u\", password = {{ file = \"{}\" }}", file.display());
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
        "type = \"imap\", user = \"u\", password = \"PRIVATE\"",
        "type = \"ldap\", user = \"cn=u\", password = \"PRIVATE\"",
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
