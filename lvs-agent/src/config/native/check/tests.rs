use std::{fmt::Write as _, path::Path, time::Duration};

use proptest::prelude::*;

use super::{KEYS, KINDS};
use crate::{
    config::{
        diagnostics::ConfigError,
        native::{read, read_in_mode},
    },
    model::{
        AddressFamily, BodyDigest, Check, CheckKind, CommandConvention, Config, Database, DeviceName,
        DnsExpect, DnsType, GreetingProtocol, HttpMethod, HttpVersion, ServiceKey, StatusCodes, TlsStart,
        TlsVerify, Transport,
    },
};

/// A service by firewall mark, whose clients come to the server's port by every protocol.
fn config(check: &str) -> Result<Config, ConfigError> {
    config_of("mark = 1", check, "10.0.0.1:80")
}

fn config_of(service: &str, check: &str, server: &str) -> Result<Config, ConfigError> {
    let text = format!(
        "[[service]]\n{service}\ncheck = {{ {check} }}\n\
         [[service.server]]\naddress = \"{server}\"\nforward = \"masquerade\"\n"
    );
    read(&text, Path::new("lvs.toml"))
}

fn good(check: &str) -> Check {
    config(check).unwrap_or_else(|error| panic!("{error}")).services.remove(0).check
}

/// The faults must be these, each with the column of its place and some of its words.
fn bad(check: &str, expected: &[(usize, &str)]) {
    let error = config(check).expect_err(check);
    let ConfigError::Content(faults) = error else { panic!("{error}") };
    let messages: Vec<_> =
        faults.first.iter().map(|fault| (fault.place.column, fault.kind.to_string())).collect();
    assert_eq!(messages.len(), expected.len(), "{check}: {messages:?}");
    for ((column, message), (expected_column, words)) in messages.iter().zip(expected) {
        assert!(message.contains(words), "{check}: {message:?} should have {words:?}");
        assert_eq!(column, expected_column, "{check}: {message}");
    }
}

#[test]
fn where_a_check_comes_from() {
    let keys = "source = \"192.0.2.9\", device = \"eth1\", mark = 7, connect-timeout = \"100ms\"";
    let via = good(&format!("type = \"http\", {keys}, read-timeout = \"200ms\", timeout = \"300ms\"")).via;
    assert_eq!(via.source, Some("192.0.2.9".parse().unwrap()));
    assert_eq!(via.device, DeviceName::new("eth1"));
    assert_eq!(via.device.unwrap().as_bytes(), b"eth1");
    assert_eq!(via.mark, Some(7));
    assert_eq!(via.connect_timeout, Some(Duration::from_millis(100)));
    assert_eq!(via.read_timeout, Some(Duration::from_millis(200)));

    let from_six = "type = \"ping\", source = \"2001:db8::1\"";
    let six = config_of("mark = 1\nfamily = \"ipv6\"", from_six, "2001:db8::9").unwrap();
    assert_eq!(six.services[0].check.via.source, "2001:db8::1".parse().ok());
    bad(from_six, &[(9, "can't come from 2001:db8::1 to 10.0.0.1, which has the other IP version")]);
}

#[test]
fn a_check_may_ask_another_address() {
    let asked = |keys: &str| good(keys).asked(([10, 0, 0, 1], 80).into()).to_string();
    for (keys, expected) in [
        ("connect-to = \"192.0.2.80\"", "192.0.2.80:80"),
        ("connect-to = \"192.0.2.80:8080\"", "192.0.2.80:8080"),
        ("type = \"http\", connect-to = \"192.0.2.80\", port = 8080", "192.0.2.80:8080"),
        ("type = \"ping\", connect-to = \"192.0.2.80\"", "192.0.2.80:0"),
        ("connect-to = \"127.0.0.1:8080\"", "127.0.0.1:8080"),
        ("connect-to = \"[2001:db8::80]:8080\"", "[2001:db8::80]:8080"),
        ("connect-to = \"2001:db8::80\", source = \"2001:db8::1\"", "[2001:db8::80]:80"),
    ] {
        assert_eq!(asked(keys), expected, "{keys}");
    }
    let cases: &[(&str, &[(usize, &str)])] = &[
        ("connect-to = \"192.0.2.80:8080\", port = 80", &[(24, "the port to check is written twice")]),
        ("type = \"ping\", connect-to = \"192.0.2.80:80\"", &[(39, "\"ping\" asks no port")]),
        ("type = \"on\", connect-to = \"192.0.2.80\"", &[(24, "no meaning for a check of type \"on\"")]),
        ("connect-to = \"web1\"", &[(24, "names are not resolved")]),
        ("connect-to = \"224.0.0.1\"", &[(24, "unicast")]),
        ("connect-to = \"192.0.2.80:0\"", &[(24, "port \"0\"")]),
        ("connect-to = \"2001:db8::80\", source = \"192.0.2.9\"", &[(9, "to 2001:db8::80")]),
    ];
    for (check, expected) in cases {
        bad(check, expected);
    }
}

#[test]
fn one_address_that_stands_for_several_servers_is_warned_of() {
    let check = "check = { type = \"http\", connect-to = \"192.0.2.80\" }\n";
    let warnings = |of_service: &str, of_servers: &[&str]| {
        let service =
            format!("[[service]]\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\n{of_service}");
        let server = |(number, lines): (usize, &&str)| {
            format!("[[service.server]]\naddress = \"10.0.0.{}\"\n{lines}", number + 1)
        };
        let text = service + &of_servers.iter().enumerate().map(server).collect::<String>();
        let reading = read_in_mode(&text, Path::new("lvs.toml"), None).expect("it is a configuration");
        let warnings = reading.warnings.into_iter();
        warnings.map(|one| (one.place.line, one.kind.to_string())).collect::<Vec<_>>()
    };
    let [(4, said)] = &warnings(check, &["", "", ""])[..] else {
        panic!("{:?}", warnings(check, &["", "", ""]))
    };
    assert!(said.starts_with("all 3 servers") && said.contains("asked at 192.0.2.80"), "{said}");
    for (of_service, of_servers) in [(check, &[""][..]), ("", &[check, ""][..]), ("", &[check, check][..])] {
        assert_eq!(warnings(of_service, of_servers), [], "{of_service}{of_servers:?}");
    }
}

/// Whether a check of this type is accepted in a service and with a server like these.
#[test]
fn which_checks_need_a_port() {
    let tcp = "address = \"192.0.2.1:80\"";
    let udp = "address = \"192.0.2.1:80\"\nprotocol = \"udp\"";
    let sctp = "address = \"192.0.2.1:80\"\nprotocol = \"sctp\"";
    let every_port = "address = \"192.0.2.1\"\npersistent = \"1m\"";
    let (with_port, without) = ("10.0.0.1:80", "10.0.0.1");
    let services = [
        (tcp, with_port),
        (udp, with_port),
        (sctp, with_port),
        ("mark = 1", with_port),
        ("mark = 1", without),
        (every_port, without),
    ];
    let over_tcp = [true, false, false, true, false, false];
    let over_udp = [false, true, false, true, false, false];
    let anywhere = [true; 6];
    let cases = [
        ("connect", "", over_tcp),
        ("http", "", over_tcp),
        ("https", "", over_tcp),
        ("http-proxy", "path = \"http://a.example/\"", over_tcp),
        ("tcp", "", over_tcp),
        ("smtp", "", over_tcp),
        ("imaps", "", over_tcp),
        ("ldap", "", over_tcp),
        ("mysql", "user = \"u\"", over_tcp),
        ("oracle", "", over_tcp),
        ("sips", "", over_tcp),
        ("sip", "transport = \"tcp\"", over_tcp),
        ("dns", "name = \"a.example\", transport = \"tcp\"", over_tcp),
        ("sip", "", over_udp),
        ("dns", "name = \"a.example\"", over_udp),
        ("udp", "", over_udp),
        ("radius", "user = \"u\", secret = \"s\"", over_udp),
        ("ping", "", anywhere),
        ("on", "", anywhere),
        ("off", "", anywhere),
        ("command", "command = [\"/bin/true\"]", anywhere),
        ("file", "file = \"/run/w\"", anywhere),
    ];
    for (kind, keys, expected) in cases {
        for ((service, server), accepted) in services.iter().zip(expected) {
            let keys = if keys.is_empty() { String::new() } else { format!(", {keys}") };
            let read = config_of(service, &format!("type = \"{kind}\"{keys}"), server);
            match read {
                Ok(_) => assert!(accepted, "{kind} in {service}, {server}"),
                Err(error) => {
                    let messages = error.to_string();
                    let transport = if expected == over_udp { "UDP" } else { "TCP" };
                    assert!(
                        !accepted && messages.contains(&format!("no {transport} port")),
                        "{kind}: {messages}"
                    );
                }
            }
            if expected != anywhere {
                let with_port = format!("port = 8080, type = \"{kind}\"{keys}");
                config_of(service, &with_port, server).unwrap_or_else(|error| panic!("{kind}: {error}"));
            }
        }
    }
}

/// A misspelt type is all that is reported, wherever it stands.
#[test]
fn an_unknown_type_needs_no_port() {
    let error = config_of("address = \"192.0.2.1:80\"\nprotocol = \"udp\"", "type = \"htp\"", "10.0.0.1");
    let Err(ConfigError::Content(faults)) = error else { panic!("{error:?}") };
    assert_eq!(faults.first.len(), 1, "{faults}");
}

#[test]
fn http() {
    let http = |keys: &str| match good(&format!("type = \"http\", {keys}")).kind {
        CheckKind::Http(question) => question,
        other => panic!("{other:?}"),
    };
    let question = http("method = \"HEAD\", version = \"1.0\", redirects = 3, status = \"200-299, 304\"");
    assert_eq!((question.version, question.redirects), (HttpVersion::Http10, 3));
    assert_eq!(question.pages[0].method, HttpMethod::Head);
    assert_eq!(question.pages[0].status, StatusCodes::new(vec![200..=299, 304..=304]));
    assert_eq!(question.tls, None);

    let digest = format!("pattern = \"a+\", unwanted = \"b\", digest = \"md5:{}\"", "0f".repeat(16));
    let page = http(&digest).pages.remove(0);
    assert!(page.pattern.unwrap().is_in(b"xaay") && !page.unwanted.unwrap().is_in(b"xaay"));
    assert_eq!(page.digest, Some(BodyDigest::Md5([0x0f; 16])));

    let pages =
        http("status = 200, host = \"a\", pages = [{ path = \"/x\" }, { path = \"/y\", status = 204 }]")
            .pages;
    let read: Vec<_> = pages.iter().map(|page| (page.path.as_str(), page.status.to_string())).collect();
    assert_eq!(read, [("/x", "200".to_owned()), ("/y", "204".to_owned())]);
    assert!(pages.iter().all(|page| page.host.as_deref() == Some("a")));

    let CheckKind::Http(proxy) = good("type = \"http-proxy\", path = \"http://a.example/\"").kind else {
        panic!()
    };
    assert!(proxy.proxy && proxy.pages[0].path == "http://a.example/");
}

#[test]
fn encryption() {
    let tls = |keys: &str| match good(keys).kind {
        CheckKind::Http(question) => question.tls,
        CheckKind::Greeting(question) => question.tls,
        other => panic!("{other:?}"),
    };
    let https = tls("type = \"https\"").unwrap();
    assert_eq!((https.start, https.name, https.verify), (TlsStart::Direct, None, TlsVerify::No));
    assert_eq!(tls("type = \"https\", tls = \"none\""), None);
    assert_eq!(tls("type = \"smtp\""), None);
    assert_eq!(tls("type = \"imap\", tls = \"starttls\"").unwrap().start, TlsStart::StartTls);
    let verified = tls("type = \"https\", tls-name = \"a.example\", tls-verify = true").unwrap();
    assert_eq!((verified.name.as_deref(), verified.verify), (Some("a.example"), TlsVerify::System));
    let file = tls("type = \"https\", tls-ca = \"/ca.pem\"").unwrap();
    assert_eq!(file.verify, TlsVerify::File("/ca.pem".into()));
}

#[test]
fn other_protocols() {
    let CheckKind::Tcp(tcp) = good("type = \"tcp\", send = \"a\\r\\n\", expect = \"b\"").kind else {
        panic!()
    };
    assert_eq!((&tcp.send[..], tcp.expect.unwrap().source()), (&b"a\r\n"[..], "b"));
    let CheckKind::Udp(udp) = good("type = \"udp\", send-hex = \"00 fF\"").kind else { panic!() };
    assert_eq!((&udp.send[..], udp.reply), (&[0, 0xff][..], false));
    let CheckKind::Udp(udp) = good("type = \"udp\", expect = \"x\"").kind else { panic!() };
    assert!(udp.reply);
    for (kind, protocol) in [
        ("smtp", GreetingProtocol::Smtp),
        ("submission", GreetingProtocol::Smtp),
        ("pop3", GreetingProtocol::Pop3),
        ("imaps", GreetingProtocol::Imap),
        ("nntp", GreetingProtocol::Nntp),
        ("ftps", GreetingProtocol::Ftp),
    ] {
        let login = "user = \"u\", password = \"p\", password-unencrypted = true";
        let check = good(&format!("type = \"{kind}\", {login}"));
        let CheckKind::Greeting(question) = check.kind else { panic!() };
        assert_eq!(question.protocol, protocol);
        let login = question.login.unwrap();
        assert_eq!((login.user.as_str(), login.password.reveal()), ("u", "p"));
        assert!(!format!("{login:?}").contains("\"p\""), "secrets are not shown");
    }
    let dns = "type = \"dns\", name = \"a.example\", record = \"MX\", transport = \"tcp\", expect = \"b\"";
    let CheckKind::Dns(dns) = good(dns).kind else { panic!() };
    assert_eq!(
        (dns.record, dns.transport, dns.expect),
        (DnsType::Mx, Transport::Tcp, Some(DnsExpect::Is("b".to_owned())))
    );
    let CheckKind::Dns(dns) = good("type = \"dns\", name = \"a.example\", pattern = \"^192\"").kind else {
        panic!()
    };
    assert!(matches!(dns.expect, Some(DnsExpect::Matches(pattern)) if pattern.source() == "^192"));
    let radius = "type = \"radius\", user = \"u\", password = \"p\", secret = \"s\", reject-is-alive = true";
    let CheckKind::Radius(radius) = good(radius).kind else { panic!() };
    assert!(radius.secret.reveal() == "s" && radius.login.password.reveal() == "p" && radius.reject_is_alive);
    let CheckKind::Sip(sip) = good("type = \"sips\", user = \"u\"").kind else { panic!() };
    assert!(sip.transport == Transport::Tcp && sip.tls.is_some());
    let CheckKind::Ldap(ldap) = good("type = \"ldap\", base = \"dc=a\", expect = \"x\"").kind else {
        panic!()
    };
    assert_eq!((ldap.base.as_deref(), ldap.login), (Some("dc=a"), None));
    let sql =
        "type = \"postgresql\", user = \"u\", database = \"d\", query = \"SELECT 1\", tls = \"starttls\"";
    let CheckKind::Sql(sql) = good(sql).kind else { panic!() };
    assert_eq!((sql.server, sql.query.as_deref()), (Database::Postgresql, Some("SELECT 1")));
    let CheckKind::Oracle(oracle) = good("type = \"oracle\", database = \"d\"").kind else { panic!() };
    assert_eq!(oracle.service.as_deref(), Some("d"));
    assert_eq!(good("type = \"on\"").kind, CheckKind::On);
    assert_eq!(good("type = \"off\"").kind, CheckKind::Off);
    assert_eq!(good("type = \"file\", file = \"/run/w\"").kind, CheckKind::File("/run/w".into()));
}

#[test]
fn a_command_knows_its_service() {
    let check =
        good("type = \"command\", command = [\"/bin/check\", \"-x\"], convention = \"keepalived-dynamic\"");
    let CheckKind::Command(command) = check.kind else { panic!() };
    assert_eq!(command.argv, ["/bin/check", "-x"]);
    assert_eq!(command.convention, CommandConvention::KeepalivedDynamic);
    assert_eq!(command.service, Some(ServiceKey::Mark { mark: 1, family: AddressFamily::V4 }));
}

/// Columns count from `check = { ` on, which is 10 characters.
#[test]
fn faults() {
    let cases: &[(&str, &[(usize, &str)])] = &[
        ("type = \"dns\"", &[(9, "has no \"name\"")]),
        (
            "type = \"dns\", name = \"a\", expect = \"b\", pattern = \"c\"",
            &[(61, "the one in \"expect\" or one that \"pattern\" matches")],
        ),
        ("type = \"dns\", name = \"a..b\"", &[(32, "not a name that can be queried")]),
        (
            "type = \"dns\", name = \"a\", record = \"AAA\"",
            &[(46, "\"AAA\" is unknown; write \"A\", \"AAAA\"")],
        ),
        ("type = \"radius\", user = \"u\"", &[(9, "has no \"secret\"")]),
        ("type = \"mysql\"", &[(9, "has no \"user\"")]),
        ("type = \"smtp\", password = \"p\"", &[(9, "has no \"user\"")]),
        ("type = \"smtp\", helo = \"a b\"", &[(33, "spaces")]),
        ("type = \"smtp\", user = \"u\\r\\nQUIT\"", &[(33, "control characters")]),
        (
            "type = \"pop3\", user = \"u\", password = \"hidden\\n\"",
            &[(49, "\"the secret\" has control characters")],
        ),
        ("type = \"pop3\", helo = \"a\"", &[(26, "\"helo\" has no meaning for a check of type \"pop3\"")]),
        ("type = \"on\", port = 80", &[(24, "\"port\" has no meaning for a check of type \"on\"")]),
        ("type = \"ping\", connect-timeout = \"1s\"", &[(26, "no meaning for a check of type \"ping\"")]),
        ("type = \"http\", connect-timeout = \"2s\"", &[(44, "connect-timeout 2s is above the timeout 1s")]),
        ("type = \"http\", tls-verify = true", &[(26, "no meaning without encryption")]),
        ("type = \"https\", tls = \"starttls\"", &[(33, "write \"none\" or \"direct\"")]),
        ("type = \"https\", tls-name = \"a_b c\"", &[(38, "not a valid host")]),
        ("type = \"https\", tls-ca = \"ca.pem\"", &[(36, "not an absolute path")]),
        ("type = \"https\", tls-ca = \"/a\", tls-verify = false", &[(55, "tls-ca has no meaning")]),
        ("type = \"sip\", tls = \"direct\"", &[(9, "no encryption over UDP")]),
        ("type = \"sips\", transport = \"udp\"", &[(38, "no encryption over UDP")]),
        ("type = \"http\", pattern = \"a(\"", &[(36, "is not a regular expression: unclosed group")]),
        ("type = \"http\", pattern = \"\"", &[(36, "matches everything")]),
        ("type = \"http\", pattern = \"(a{1000}){1000}\"", &[(36, "regular expression")]),
        ("type = \"http\", method = \"HEAD\", text = \"x\"", &[(35, "a HEAD request has no body")]),
        ("type = \"http\", method = \"POST\"", &[(35, "\"GET\" or \"HEAD\"")]),
        ("type = \"http\", redirects = 11", &[(38, "11 is above 10")]),
        ("type = \"http\", digest = \"md5:00\"", &[(35, "is not a digest")]),
        ("type = \"http\", status = \"200,\"", &[(35, "not a range of status codes")]),
        ("type = \"http\", pages = [{ path = \"x\" }]", &[(44, "does not start with")]),
        ("type = \"http\", pages = [{ pathe = \"/\" }]", &[(37, "did you mean \"path\"?")]),
        ("type = \"http-proxy\"", &[(9, "has no \"path\"")]),
        ("type = \"http-proxy\", path = \"/x\"", &[(39, "not a URL")]),
        ("type = \"tcp\", send = \"a\", send-hex = \"00\"", &[(37, "either text or hexadecimal")]),
        ("type = \"tcp\", send-hex = \"0\"", &[(36, "not an even number")]),
        ("type = \"udp\", expect = \"a\", reply = false", &[(47, "needs a reply")]),
        ("type = \"ldap\", expect = \"a\"", &[(35, "name it as \"base\"")]),
        ("type = \"command\"", &[(9, "has no \"command\"")]),
        ("type = \"command\", command = \"/bin/x\"", &[(39, "in brackets")]),
        ("type = \"command\", command = [\"x\"]", &[(39, "not an absolute path")]),
        ("type = \"command\", command = []", &[(39, "has no program")]),
        ("type = \"file\", file = \"w\"", &[(33, "not an absolute path")]),
        (
            "type = \"connect\", source = \"x\"",
            &[(38, "\"x\" is not a valid address, such as \"192.0.2.10\"")],
        ),
        ("type = \"connect\", source = \"0.0.0.0\"", &[(38, "can't be the address of one host")]),
        ("type = \"connect\", device = \"an-overlong-name\"", &[(38, "longer than 15 bytes")]),
        ("type = \"connect\", mark = 0", &[(36, "0 is below 1")]),
        ("type = \"mysql\", user = \"u\", query = \" \"", &[(47, "is empty")]),
    ];
    for (check, expected) in cases {
        bad(check, expected);
    }
}

/// Each type takes the keys that are its own; every other key of checks is refused for it by name.
#[test]
fn every_key_is_known_or_refused() {
    for (kind, _) in KINDS {
        for key in KEYS {
            let Err(ConfigError::Content(faults)) = config(&format!("type = \"{kind}\", {key} = []")) else {
                panic!("{kind}: {key} = [] can't be right");
            };
            let messages = faults.to_string();
            assert!(!messages.contains("unknown key"), "{kind}: {key}: {messages}");
        }
    }
}

/// The documentation's examples are right, and it tells of every type and key.
#[test]
fn the_documentation_is_whole() {
    let text = include_str!("../../../../../docs/checks.md");
    let examples: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("check = { ")).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        good(example.trim_end().strip_suffix('}').unwrap());
    }
    for word in KINDS.iter().map(|(kind, _)| kind).chain(KEYS) {
        assert!(text.contains(&format!("`{word}`")), "{word}");
    }
}

#[test]
fn what_settles_a_suspicion() {
    let confirming = |check: &str| good(check).kind.confirming();
    for check in [
        "type = \"http\"",
        "type = \"command\", command = [\"/x\"]",
        "type = \"dns\", name = \"a\", transport = \"tcp\"",
    ] {
        assert_eq!(confirming(check), CheckKind::Connect, "{check}");
    }
    for check in [
        "type = \"ping\"",
        "type = \"on\"",
        "type = \"udp\"",
        "type = \"dns\", name = \"a\"",
        "type = \"sip\"",
    ] {
        assert_eq!(confirming(check), good(check).kind, "{check}");
    }
}

fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}".prop_map(|text| format!("{text:?}")),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        Just("[\"/bin/true\", \"x\"]".to_owned()),
        Just("[{ path = \"/\" }]".to_owned()),
        Just("\"/\"".to_owned()),
    ]
}

proptest! {
    #[test]
    fn any_keys_are_read(kind in 0..KINDS.len(), keys in proptest::collection::btree_map(0..KEYS.len(), values(), 0..8)) {
        let mut check = format!("type = \"{}\"", KINDS[kind].0);
        for (key, value) in keys {
            write!(check, ", {} = {value}", KEYS[key]).unwrap();
        }
        if let Err(error) = config(&check) {
            assert!(error.to_string().contains("lvs.toml:"));
        }
    }
}
