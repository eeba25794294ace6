//! What people are told of faults.

use super::{assert_fault, reading, warnings};

fn with(line: &str) -> String {
    format!("virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    {line}\n")
}

#[test]
fn the_part_that_is_wrong_is_named() {
    for (line, words) in [
        ("real=10.0.0.2::5060 gate", "one colon too many in \"10.0.0.2::5060\"; write 10.0.0.2:5060"),
        (
            "real=10.0.0.2 80",
            "has \"80\" where gate, masq or ipip should be; a port is written after a colon",
        ),
        ("real=10.0.0.2 80 gate", "has \"80\" where gate, masq or ipip should be"),
        ("real=10.0.0.2:80, gate", "has ',' in the address"),
        ("real=10.0.0.2:80 nat 1", "has \"nat\" where gate, masq or ipip should be"),
        ("real=10.0.0.2:80 gate weight=5", "has \"weight=5\", which is none of"),
        (
            "fallback=127.0.0.1 80",
            "has \"80\" where gate, masq or ipip should be; a port is written after a colon",
        ),
        ("fallback=127.0.0.1::80", "write 127.0.0.1:80"),
        ("fallback=", "is empty; write an address and port"),
        ("scheduler=", "is empty"),
        ("scheduler=WRRR", "is not a scheduler of Linux"),
        ("scheduler=12", "is not a scheduler of Linux"),
    ] {
        assert_fault(&with(line), 3, words);
    }
}

#[test]
fn words_in_other_letters_are_taken_and_shown() {
    for (line, words, column) in [
        ("scheduler=WRR", "taken as \"wrr\"", 15),
        ("real=10.0.0.2:80 MASQ 1", "taken as \"masq\"", 22),
        ("fallback=127.0.0.1:80 Gate", "taken as \"gate\"", 27),
        ("scheduler=Wrr", "scheduler is \"rr\" here as with ldirectord", 15),
    ] {
        let text = with(line);
        let [(3, at, what)] = &warnings(&text)[..] else { panic!("{line}: {:?}", warnings(&text)) };
        assert!(what.contains(words), "{line}: {what}");
        assert_eq!(*at, column, "{line}");
    }
}

#[test]
fn no_message_has_words_of_the_other_format() {
    let files = [
        "virtual=1.1.1.1:80\n",
        "quiescent=no\n",
        "virtual=1.1.1.1:80\n    fallback=10.0.0.1\n    real=0.0.0.0 masq\n    checkport=0\n",
        "virtual=1.1.1.1:0\n    real=10.0.0.1 masq\n",
        "virtual=1.1.1.1:80\n    real=10.0.0.1 masq\nvirtual=1.1.1.1:80\n    real=10.0.0.1 masq\n",
        "virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    service=dns\n    request=\"a b\"\n    receive=\"1\"\n",
        "virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    receive=\"a\"\n    httpmethod=HEAD\n",
        "virtual=5\n    real=10.0.0.1 gate\n    checktype=connect\n",
    ];
    for text in files {
        let error = reading(text).expect_err(text);
        for word in ["[[", "TOML", "\"server\"", " = "] {
            assert!(!error.contains(word), "{word}: {error}");
        }
    }
}

#[test]
fn a_password_in_the_clear_is_warned_of_once_for_each_check() {
    let service = |vip: u8, service: &str, login: &str| {
        format!(
            "virtual=1.1.1.{vip}:99\n    real=10.0.0.1:99 masq\n    real=10.0.0.2:99 masq\n    service={service}\n    \
             request=\"select 1\"\n    {login}\n"
        )
    };
    let password = "login=\"u\"\n    passwd=\"PRIVATE\"";
    for (name, login, warned) in [
        ("pop", password, true),
        ("imap", password, true),
        ("ftp", password, true),
        ("ldap", password, true),
        ("pgsql", password, true),
        ("pops", password, false),
        ("imaps", password, false),
        ("ldaps", password, false),
        // Its library never sends the password itself.
        ("mysql", password, false),
        ("radius", password, false),
        ("smtp", password, false),
        ("ftp", "comment=x", false),
        ("imap", "login=\"u\"", false),
    ] {
        let text = service(1, name, login) + &service(2, name, login);
        let found = warnings(&text);
        let lines: Vec<_> = found
            .iter()
            .filter(|(_, _, what)| what.contains("unencrypted"))
            .map(|(line, ..)| *line)
            .collect();
        let second = service(1, name, login).lines().count() + 1;
        assert_eq!(lines, if warned { vec![1, second] } else { Vec::new() }, "{name}: {found:?}");
        assert!(found.iter().all(|(_, _, what)| !what.contains("PRIVATE")), "{found:?}");
        // What it says can be said in the other format.
        let config = reading(&text).unwrap().config;
        let written = crate::config::native::to_toml(&config);
        assert_eq!(written.matches("password-unencrypted = true").count() > 0, warned, "{written}");
    }
}
