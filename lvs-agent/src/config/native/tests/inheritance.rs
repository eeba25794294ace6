//! What a check takes over from the one above it.

use super::*;
use crate::config::diagnostics::WarningKind;

/// A service whose clients come to the server's port by every protocol, below such `[defaults]`, with such a check, and
/// with such a check of its server's own.
fn text(defaults: &str, service: &str, server: &str) -> String {
    let check = |check: &str| if check.is_empty() { String::new() } else { format!("check = {check}\n") };
    format!(
        "[defaults]\n{}[[service]]\nmark = 1\n{}[[service.server]]\naddress = \"10.0.0.1:80\"\n\
         forward = \"masquerade\"\n{}",
        check(defaults),
        check(service),
        check(server),
    )
}

fn checks(text: &str) -> Vec<Check> {
    let service = good(text).services.remove(0);
    service.checks_of(&service.servers[0]).cloned().collect()
}

fn warnings(text: &str) -> Vec<(usize, String)> {
    let reading = read_in_mode(text, "test.toml".as_ref(), None).unwrap();
    reading.warnings.iter().map(|warning| (warning.place.line, warning.kind.to_string())).collect()
}

/// The keys above, the keys of the check itself, and those of a check with nothing above that is the same.
const CASES: &[(&str, &str, &str)] = &[
    // How it is asked goes on to every type.
    ("interval = '5s'", "type = 'http'", "type = 'http', interval = '5s'"),
    ("timeout = '300ms'", "type = 'http'", "type = 'http', timeout = '300ms'"),
    ("interval = '5s', timeout = '3s'", "type = 'ping'", "type = 'ping', interval = '5s', timeout = '3s'"),
    ("soft-interval = '200ms'", "type = 'http'", "type = 'http', soft-interval = '200ms'"),
    ("type = 'http', connects-between = 2", "type = 'smtp'", "type = 'smtp', connects-between = 2"),
    ("source = '192.0.2.9'", "type = 'http'", "type = 'http', source = '192.0.2.9'"),
    ("device = 'eth1'", "type = 'http'", "type = 'http', device = 'eth1'"),
    ("mark = 7", "type = 'http'", "type = 'http', mark = 7"),
    ("connect-timeout = '90ms'", "type = 'http'", "type = 'http', connect-timeout = '90ms'"),
    ("type = 'http', read-timeout = '90ms'", "type = 'imap'", "type = 'imap', read-timeout = '90ms'"),
    ("type = 'https', interval = '5s'", "type = 'http'", "type = 'http', interval = '5s'"),
    // What is written counts.
    ("interval = '5s', timeout = '2s'", "timeout = '1s'", "interval = '5s', timeout = '1s'"),
    ("interval = '5s', mark = 7", "mark = 8, interval = '4s'", "interval = '4s', mark = 8"),
    ("interval = '5s', timeout = '2s'", "interval = '3s'", "interval = '3s', timeout = '2s'"),
    // What can't be so here is as near as it can be.
    ("soft-interval = '900ms'", "interval = '500ms'", "interval = '500ms', soft-interval = '500ms'"),
    ("connect-timeout = '900ms'", "timeout = '500ms'", "timeout = '500ms'"),
    (
        "mark = 7, interval = '5s'",
        "type = 'command', command = ['/x']",
        "type = 'command', command = ['/x'], interval = '5s'",
    ),
    ("connect-timeout = '90ms'", "type = 'ping'", "type = 'ping'"),
    // What is asked goes on to the same type …
    (
        "type = 'http', path = '/h', host = 'a'",
        "interval = '2s'",
        "type = 'http', path = '/h', host = 'a', interval = '2s'",
    ),
    (
        "type = 'http', path = '/h', host = 'a'",
        "type = 'http', path = '/i'",
        "type = 'http', path = '/i', host = 'a'",
    ),
    ("type = 'http', port = 8080", "type = 'http', text = 'x'", "type = 'http', port = 8080, text = 'x'"),
    (
        "type = 'http', connect-to = '192.0.2.80:81'",
        "text = 'x'",
        "type = 'http', connect-to = '192.0.2.80:81', text = 'x'",
    ),
    ("connect-to = '192.0.2.80:81'", "port = 82", "connect-to = '192.0.2.80', port = 82"),
    ("port = 82", "connect-to = '192.0.2.80:81'", "connect-to = '192.0.2.80:81'"),
    ("port = 82", "connect-to = '192.0.2.80'", "connect-to = '192.0.2.80:82'"),
    ("connect-to = '192.0.2.80:81'", "type = 'ping'", "type = 'ping', connect-to = '192.0.2.80'"),
    ("port = 8080", "type = 'http'", "type = 'http', port = 8080"),
    ("port = 8080", "type = 'ping'", "type = 'ping'"),
    ("type = 'dns', name = 'a', record = 'MX'", "name = 'b'", "type = 'dns', name = 'b', record = 'MX'"),
    (
        "type = 'tcp', send = 'a', expect = 'b'",
        "send-hex = '00'",
        "type = 'tcp', send-hex = '00', expect = 'b'",
    ),
    ("type = 'tcp', send-hex = '00'", "send = 'a'", "type = 'tcp', send = 'a'"),
    ("type = 'http', pages = [{ path = '/a' }]", "path = '/b'", "type = 'http', path = '/b'"),
    (
        "type = 'http', host = 'a'",
        "pages = [{ path = '/b' }]",
        "type = 'http', host = 'a', pages = [{ path = '/b' }]",
    ),
    (
        "type = 'https', tls-ca = '/a', tls-name = 'n'",
        "tls-verify = false",
        "type = 'https', tls-verify = false, tls-name = 'n'",
    ),
    ("type = 'https', tls-verify = true", "tls-ca = '/a'", "type = 'https', tls-ca = '/a'"),
    ("type = 'https', tls-ca = '/a', tls-name = 'n'", "tls = 'none'", "type = 'https', tls = 'none'"),
    ("type = 'https', tls-cert = '/c', tls-key = '/k'", "tls-cert = '/d'", "type = 'https', tls-cert = '/d'"),
    (
        "type = 'https', tls-cert = '/c'",
        "headers = { a = 'b' }",
        "type = 'https', tls-cert = '/c', headers = { a = 'b' }",
    ),
    ("type = 'http', headers = { a = 'b' }", "headers = { c = 'd' }", "type = 'http', headers = { c = 'd' }"),
    (
        "type = 'https', user-agent = 'a', basic-auth-file = '/b'",
        "bearer-token-file = '/t'",
        "type = 'https', user-agent = 'a', bearer-token-file = '/t'",
    ),
    ("type = 'imaps', user = 'u', password = 'p'", "user = 'v'", "type = 'imaps', user = 'v'"),
    (
        "type = 'imaps', user = 'u', password = 'p'",
        "password = 'q'",
        "type = 'imaps', user = 'u', password = 'q'",
    ),
    (
        "type = 'imap', user = 'u', password = 'p', password-unencrypted = true",
        "user = 'v', password = 'q'",
        "type = 'imap', user = 'v', password = 'q', password-unencrypted = true",
    ),
    // … and to no other.
    (
        "type = 'http', path = '/h', port = 8080, interval = '5s'",
        "type = 'smtp', port = 25",
        "type = 'smtp', port = 25, interval = '5s'",
    ),
    ("type = 'mysql', user = 'u', password = 'p'", "type = 'imap'", "type = 'imap'"),
    ("type = 'http', path = '/h'", "type = 'https'", "type = 'https'"),
    ("type = 'on', interval = '5s'", "type = 'connect'", "type = 'connect', interval = '5s'"),
    // Nothing, if that is wished.
    ("type = 'http', path = '/h', interval = '5s'", "inherit = false", ""),
    (
        "type = 'http', path = '/h', interval = '5s'",
        "inherit = true, path = '/i'",
        "type = 'http', path = '/i', interval = '5s'",
    ),
];

#[test]
fn a_check_takes_over_what_it_does_not_say() {
    for (above, own, same) in CASES {
        let [above, own, same] = [above, own, same].map(|keys| format!("{{ {keys} }}"));
        let expected = checks(&text("", &same, ""));
        assert_eq!(checks(&text(&above, &own, "")), expected, "{own} below {above} in [defaults]");
        assert_eq!(
            checks(&text("", &above, &own)),
            expected,
            "{own} of a server below {above} of its service"
        );
        let twice = text(&above, "{ }", &own);
        assert_eq!(checks(&twice), expected, "{own} of a server below {above} in [defaults]");
        for text in [text(&above, &own, ""), text("", &above, &own), twice] {
            let config = good(&text);
            assert_eq!(good(&to_toml(&config)), config, "written and read again: {text}");
        }
    }
}

#[test]
fn several_checks_take_over_from_the_one_of_their_type() {
    let both = "[{ type = 'ping', interval = '2s' }, { type = 'http', path = '/h', interval = '5s' }]";
    let cases = [
        // One above, several below.
        (
            "{ interval = '5s' }",
            "[{ type = 'ping' }, { type = 'http', interval = '2s' }]",
            "[{ type = 'ping', interval = '5s' }, { type = 'http', interval = '2s' }]",
        ),
        // Several above.
        (both, "{ type = 'http' }", "{ type = 'http', path = '/h', interval = '5s' }"),
        (
            both,
            "[{ type = 'http' }, { type = 'ping', mark = 7 }]",
            "[{ type = 'http', path = '/h', interval = '5s' }, { type = 'ping', interval = '2s', mark = 7 }]",
        ),
        // Above there is none of this type: what all of them say.
        (
            "[{ type = 'ping', interval = '5s', mark = 1 }, { type = 'http', interval = '5s', mark = 2 }]",
            "{ type = 'smtp' }",
            "{ type = 'smtp', interval = '5s' }",
        ),
        (
            "[{ type = 'ping', mark = 7 }, { type = 'http', mark = 7 }]",
            "{ port = 8080 }",
            "{ port = 8080, mark = 7 }",
        ),
    ];
    for (above, own, same) in cases {
        let expected = checks(&text("", same, ""));
        assert_eq!(checks(&text(above, own, "")), expected, "{own} below {above}");
        assert_eq!(checks(&text("", above, own)), expected, "{own} of a server below {above}");
    }
}

#[test]
fn a_backup_takes_over_how_it_is_asked_and_not_what() {
    let check = |defaults: &str, service: &str, backup: &str| {
        let backup =
            format!("[[service.backup]]\naddress = \"10.0.0.9:80\"\nforward = \"masquerade\"\n{backup}");
        let config = good(&(text(defaults, service, "") + &backup));
        assert_eq!(good(&to_toml(&config)), config, "written and read again");
        config.services[0].policy.backups[0].check.clone()
    };
    let page = "{ type = 'http', path = '/h', port = 8080, interval = '5s', timeout = '2s' }";
    let (interval, timeout) = (Duration::from_secs(5), Duration::from_secs(2));
    let connect = Some(Check { interval, timeout, ..Check::default() });
    assert_eq!(check("", page, ""), connect);
    assert_eq!(check(page, "", ""), connect);
    let kind = CheckKind::Http(HttpCheck::get("/"));
    let own = Some(Check { kind, interval, ..Check::default() });
    assert_eq!(check("", page, "check = { type = 'http', timeout = '1s' }"), own);
    assert_eq!(check("", page, "check = { inherit = false }"), Some(Check::default()));
    assert_eq!(check("", page, "checked = false"), None);
}

/// A `source` above is not meant for servers of the other IP version.
#[test]
fn a_source_goes_on_to_servers_of_its_ip_version() {
    let six = |check: &str| {
        let text = format!(
            "[defaults]\ncheck = {{ source = '192.0.2.9' }}\n[[service]]\nmark = 1\nfamily = 'ipv6'\n{check}\n\
             [[service.server]]\naddress = '[2001:db8::1]:80'\nforward = 'masquerade'"
        );
        read(&text, Path::new(ORIGIN))
    };
    assert_eq!(six("check = { type = 'http' }").unwrap().services[0].check.via.source, None);
    assert!(six("check = { source = '192.0.2.9' }").is_err());
    assert!(six("").is_err(), "nobody has said that this service is another");
}

#[test]
fn what_could_be_misread_is_a_warning() {
    let left =
        |own: &str| warnings(&text("{ type = 'http', path = '/h', port = 8080, interval = '5s' }", own, ""));
    let [(line, warning)] = &left("{ type = 'https' }")[..] else { panic!() };
    assert_eq!(*line, 5);
    assert!(warning.starts_with("\"port\", \"path\": not taken over"), "{warning}");
    assert!(warning.contains("another type than \"https\""), "{warning}");
    for own in [
        "{ type = 'https', port = 443, path = '/' }",
        "{ type = 'https', inherit = false }",
        "{ type = 'ping' }",
        "{ path = '/i' }",
    ] {
        assert_eq!(left(own), [], "{own}");
    }
    let several = "[{ type = 'ping', interval = '2s' }, { type = 'http', interval = '5s' }]";
    let [(_, warning)] = &warnings(&text(several, "{ type = 'smtp' }", ""))[..] else { panic!() };
    assert!(warning.starts_with("\"interval\": not taken over"), "{warning}");
    // The timeout is written above, and the interval that it doesn't go with, here.
    let [(line, warning)] =
        &warnings(&text("{ interval = '5s', timeout = '2s' }", "{ interval = '1s' }", ""))[..]
    else {
        panic!()
    };
    assert_eq!(*line, 5);
    assert!(warning.contains("timeout 2s is above the interval 1s"), "{warning}");
    let kind = WarningKind::NotTakenOver { keys: vec!["a", "b"], kind: "http" };
    assert!(kind.to_string().starts_with("\"a\", \"b\": "));
}

/// What is wrong above is reported once, at its place, however many take it over.
#[test]
fn a_fault_above_is_reported_once() {
    let wrong = text("{ type = 'http', path = 'h', interval = 5 }", "{ text = 'x' }", "{ text = 'y' }");
    assert_faults(&wrong, &[(2, 33, "does not start with"), (2, 49, "5 has no unit")]);
    // What only contradicts together is reported where it is written.
    let together = text("{ type = 'http', text = 'x' }", "{ method = 'HEAD' }", "");
    assert_faults(&together, &[(5, 20, "a HEAD request has no body")]);
    assert_faults(&text("", "{ inherit = 'no' }", ""), &[(4, 21, "true or false")]);
}
