//! What an HTTP or TLS check says about the client itself: its certificate, its headers, its secrets.

use super::*;
use crate::model::{HttpAuthorization, TlsIdentity};

fn check(keys: &str) -> String {
    in_service(&format!("check = {{ {keys} }}"))
}

fn read_check(keys: &str) -> CheckKind {
    let config = good(&check(keys));
    assert_eq!(good(&to_toml(&config)), config, "written and read again: {keys}");
    config.services[0].check.kind.clone()
}

fn page(keys: &str) -> HttpCheck {
    match read_check(keys) {
        CheckKind::Http(page) => page,
        other => panic!("{other:?}"),
    }
}

/// Line, column and message of each warning on this director.
fn warnings(keys: &str) -> Vec<(usize, usize, String)> {
    let reading = read_in_mode(&check(keys), Path::new(ORIGIN), None).unwrap();
    assert_eq!(reading.warnings, [], "reading looks at no file");
    let reading = reading.on_this_director();
    let warnings = reading.warnings.iter();
    warnings.map(|one| (one.place.line, one.place.column, one.kind.to_string())).collect()
}

#[test]
fn a_certificate_of_the_agents_own() {
    let identity = |keys: &str| page(keys).tls.unwrap().identity;
    assert_eq!(identity("type = 'https'"), None);
    let both = Some(TlsIdentity { certificate: "/c.pem".into(), key: "/k.pem".into() });
    assert_eq!(identity("type = 'https', tls-cert = '/c.pem', tls-key = '/k.pem'"), both);
    let one = Some(TlsIdentity { certificate: "/c.pem".into(), key: "/c.pem".into() });
    assert_eq!(identity("type = 'https', tls-cert = '/c.pem'"), one);
    for kind in ["tcp", "ldap", "imap", "ftp"] {
        read_check(&format!("type = '{kind}', tls = 'direct', tls-cert = '/c.pem'"));
    }
    let cases: &[(&str, Places)] = &[
        ("type = 'https', tls-key = '/k.pem'", &[(4, 9, "has no \"tls-cert\"")]),
        ("type = 'http', tls-cert = '/c.pem'", &[(4, 26, "no meaning without encryption")]),
        ("type = 'https', tls-cert = 'c.pem'", &[(4, 38, "not an absolute path")]),
        ("type = 'ping', tls-cert = '/c.pem'", &[(4, 26, "no meaning for a check of type \"ping\"")]),
    ];
    for (keys, expected) in cases {
        assert_faults(&check(keys), expected);
    }
}

#[test]
fn headers_of_the_operators_own() {
    let headers =
        page("type = 'http', user-agent = 'a/1', headers = { X-Check = 'a, b', accept = '' }").headers;
    let own: Vec<_> = headers.own.iter().map(|one| (one.name.as_str(), one.value.reveal())).collect();
    assert_eq!(
        (own, headers.user_agent.as_deref()),
        (vec![("accept", ""), ("x-check", "a, b")], Some("a/1"))
    );
    let secret = page("type = 'https', headers = { authorization = 'Token hidden' }");
    assert!(!format!("{secret:?}").contains("hidden"), "a header may be a secret: {secret:?}");
    let cases: &[(&str, Places)] = &[
        ("headers = { X-A = \"a\\r\\nX-B: c\" }", &[(4, 44, "would forge headers")]),
        ("headers = { X-A = \"a\\nb\" }", &[(4, 44, "would forge headers")]),
        ("headers = { X-A = 'ä' }", &[(4, 44, "would forge headers")]),
        ("headers = { 'X A' = 'a' }", &[(4, 46, "not the name of a header")]),
        ("headers = { \"X\\r\\nY\" = 'a' }", &[(4, 49, "not the name of a header")]),
        ("headers = { '' = 'a' }", &[(4, 43, "not the name of a header")]),
        ("headers = { Host = 'a' }", &[(4, 45, "write it as \"host\"")]),
        ("headers = { User-Agent = 'a' }", &[(4, 51, "write it as \"user-agent\"")]),
        ("headers = { Content-Length = '1' }", &[(4, 55, "is the agent's to say")]),
        ("headers = { Transfer-Encoding = 'chunked' }", &[(4, 58, "is the agent's to say")]),
        ("headers = { X-A = 1 }", &[(4, 44, "the header's value in quotes")]),
        ("headers = 'X-A: a'", &[(4, 36, "a table of headers")]),
        ("user-agent = \"a\\r\\nX: y\"", &[(4, 39, "control characters")]),
        ("user-agent = 'ä'", &[(4, 39, "write ASCII")]),
    ];
    for (keys, expected) in cases {
        assert_faults(&check(&format!("type = 'http', {keys}")), expected);
    }
}

#[test]
fn secrets_come_from_files() {
    let authorization = |keys: &str| page(keys).headers.authorization;
    let basic = authorization("type = 'https', basic-auth-file = '/b'");
    assert_eq!(basic, Some(HttpAuthorization::Basic("/b".into())));
    let bearer = authorization("type = 'https', bearer-token-file = '/b'");
    assert_eq!(bearer, Some(HttpAuthorization::Bearer("/b".into())));
    for (keys, column) in [
        ("basic-auth-file = '/b', bearer-token-file = '/b'", 27),
        ("bearer-token-file = '/b', headers = { Authorization = 'x' }", 27),
        ("basic-auth-file = '/b', headers = { authorization = 'x' }", 27),
    ] {
        let faulty = check(&format!("type = 'https', {keys}"));
        assert_faults(&faulty, &[(4, column, "the Authorization header is written twice")]);
    }
}

/// What is wrong with a file is said when the configuration is read, and changes nothing: it may come later.
#[test]
fn a_file_that_is_not_as_it_should_be_is_a_warning_at_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (certificate, key) = (file("c", &certificate.pem()), file("k", &key.serialize_pem()));
    let (basic, token, empty) = (file("basic", "u:p\n"), file("token", "secret\n"), file("empty", ""));
    let folder = directory.path().to_str().unwrap();
    let well =
        format!("type = 'https', tls-cert = '{certificate}', tls-key = '{key}', basic-auth-file = '{basic}'");
    assert_eq!(warnings(&well), []);
    assert_eq!(warnings(&format!("type = 'https', bearer-token-file = '{token}'")), []);
    let cases = [
        ("tls-cert", "/nowhere/at/all", 38, "No such file"),
        ("tls-cert", folder, 38, "not a file"),
        ("tls-cert", &key, 38, "no certificate"),
        ("basic-auth-file", &token, 45, "not USER:PASSWORD"),
        ("basic-auth-file", &empty, 45, "is empty"),
        ("bearer-token-file", "/nowhere/at/all", 47, "No such file"),
    ];
    for (name, path, column, words) in cases {
        let found = warnings(&format!("type = 'https', {name} = '{path}'"));
        let [(4, at, warning)] = &found[..] else { panic!("{name} {path}: {found:?}") };
        assert_eq!(*at, column, "{warning}");
        assert!(warning.starts_with(&format!("{name}: {path}: ")) && warning.contains(words), "{warning}");
        assert!(!warning.contains("secret"), "{warning}");
    }
    let other = warnings(&format!("type = 'https', tls-cert = '{certificate}', tls-key = '{basic}'"));
    assert!(matches!(&other[..], [(4, _, warning)] if warning.contains("no private key")), "{other:?}");
}
