//! What ldirectord makes of odd lines, and what it lives with.

use super::{CheckKind, PathBuf, assert_fault, good, names, reading, service, warnings};
use crate::{
    config::{Strictness, ldirectord::read_with},
    model::{DnsExpect, ForwardingMethod, VirtualService},
};

fn with(line: &str) -> String {
    format!("virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    {line}\n")
}

/// The warnings of a file with this line, all of them about it.
fn warned(line: &str) -> Vec<String> {
    let warnings = warnings(&with(line));
    assert!(warnings.iter().all(|(at, ..)| *at == 3), "{line}: {warnings:?}");
    warnings.into_iter().map(|(.., what)| what).collect()
}

fn read(line: &str) -> VirtualService {
    good(&with(line)).services.remove(0)
}

#[test]
fn what_stands_before_a_match_in_a_real_line_has_no_effect() {
    let masq = ForwardingMethod::Masquerade;
    // Line, method, weight, thresholds, and what the warning names.
    let cases = [
        ("10.0.0.2:80 masq -w 7", masq, 7, (0, 0), "\"-w\""),
        ("10.0.0.2:80 masq weight 5", masq, 5, (0, 0), "\"weight\""),
        ("10.0.0.2:80 masq weight 5 l:1 u:2", masq, 5, (1, 2), "\"weight\""),
        ("10.0.0.2:80 -masq 2", masq, 2, (0, 0), "\"-\""),
        ("10.0.0.2:80 masq, 2", masq, 2, (0, 0), "\",\""),
        ("=10.0.0.2:80 masq 2", masq, 2, (0, 0), "\"=\""),
        ("http://10.0.0.2:80 masq 2", masq, 2, (0, 0), "\"http://\""),
        ("10.0.0.2:80 masq u:20 l:10", masq, 1, (10, 20), "l: before u:"),
        ("10.0.0.2:80 Masq 2", masq, 2, (0, 0), "\"masq\""),
        ("10.0.0.2:80 masq 2 \"/x\" , \"ok\"", masq, 2, (0, 0), "one comma"),
    ];
    for (line, method, weight, (lower, upper), words) in cases {
        let line = format!("real={line}");
        let service = read(&line);
        let server =
            service.servers.iter().find(|server| server.address.to_string() == "10.0.0.2:80").unwrap();
        assert_eq!((server.method, u32::from(server.weight.0)), (method, weight), "{line}");
        assert_eq!((server.lower_threshold, server.upper_threshold), (Some(lower), Some(upper)), "{line}");
        let warned = warned(&line);
        assert!(warned.iter().any(|what| what.contains(words)), "{line}: {warned:?}");
    }
}

/// ldirectord takes the line as well; it is the kernel that refuses the server then.
#[test]
fn the_upper_threshold_before_the_lower_one_is_a_warning_in_an_exact_file_too() {
    let text = "virtual=192.0.2.80:80\n    real=10.0.0.2:80 masq 1 u:20 l:10\n    service=http\n";
    let reading =
        read_with(text, "l.cf".as_ref(), Strictness::Strict, &names()).expect("ldirectord takes it");
    let server = &reading.config.services[0].servers[0];
    assert_eq!((server.lower_threshold, server.upper_threshold), (Some(10), Some(20)));
    let [warning] = &reading.warnings[..] else { panic!("{:?}", reading.warnings) };
    assert!(warning.kind.to_string().contains("ldirectord loses u: before l:"), "{warning}");
}

#[test]
fn what_stands_behind_a_virtual_service_has_no_effect() {
    for (head, key, rest) in [
        ("192.0.2.80:80/tcp", "tcp 192.0.2.80:80", "/tcp"),
        ("192.0.2.80:80/udp", "tcp 192.0.2.80:80", "/udp"),
        ("192.0.2.80:80,", "tcp 192.0.2.80:80", ","),
        ("192.0.2.80:80;443", "tcp 192.0.2.80:80", ";443"),
        ("192.0.2.80:80:443", "tcp 192.0.2.80:80", ":443"),
        ("192.0.2.80:http, x", "tcp 192.0.2.80:80", ", x"),
        ("3,", "mark 3", ","),
        ("3/fwm", "mark 3", "/fwm"),
        ("3 x", "mark 3", "x"),
    ] {
        let text = format!("virtual={head}\n    real=10.0.0.1:80 masq\n    service=http\n");
        assert_eq!(good(&text).services[0].key.to_string(), key, "{head}");
        let [(1, _, what)] = &warnings(&text)[..] else { panic!("{head}: {:?}", warnings(&text)) };
        assert!(what.contains(&format!("{rest:?} has no effect")), "{what}");
        assert!(read_with(&text, "l.cf".as_ref(), Strictness::Strict, &names()).is_ok(), "{head}");
    }
    let v6 = "virtual6=[2001:db8::1]:80/tcp\n    real6=[2001:db8::2]:80 masq\n";
    assert_eq!(good(v6).services[0].key.to_string(), "tcp [2001:db8::1]:80");
    for (head, words) in [
        ("192.0.2.1/24", "write 192.0.2.1:80"),
        ("192.0.2.1,", "write 192.0.2.1"),
        ("2001:db8::1", "is an IPv6 address"),
        ("[2001:db8::1]:80", "is an IPv6 address"),
        ("0,", "is not a firewall mark"),
        ("http://192.0.2.1:80", "is not a virtual service"),
    ] {
        assert_fault(&format!("virtual={head}\n    real=10.0.0.1 masq\n"), 1, words);
    }
}

#[test]
fn a_url_in_a_real_line_is_asked_for_where_it_leads() {
    // Request, service, and address, path, Host header and name in the handshake of the check.
    let cases = [
        ("http://192.0.2.9:8080/x", "http", "192.0.2.9:8080", "/x", Some("10.0.0.2"), None),
        ("http://web1/x?y", "http", "10.0.0.1:80", "/x?y", Some("10.0.0.2"), None),
        ("https://web1", "https", "10.0.0.1:443", "/", Some("10.0.0.2"), Some("web1")),
        ("http://[2001:db8::9]/", "http", "[2001:db8::9]:80", "/", Some("10.0.0.2"), None),
        ("http://web6/", "http", "[2001:db8::1]:80", "/", Some("10.0.0.2"), None),
        ("https://web1/", "http", "10.0.0.2:80", "/https://web1/", None, None),
        ("x?to=http://web1/", "http", "10.0.0.2:80", "/x?to=http://web1/", None, None),
    ];
    for (request, kind, asked, path, host, name) in cases {
        let text = format!(
            "virtual=1.1.1.1:80\n    real=10.0.0.2:80 masq 1 \"{request}\", \"ok\"\n    service={kind}\n"
        );
        let service = good(&text).services.remove(0);
        let server = &service.servers[0];
        let check = service.check_of(server);
        assert_eq!(check.asked(server.address).to_string(), asked, "{request}");
        let CheckKind::Http(http) = &check.kind else { panic!("{:?}", check.kind) };
        assert_eq!((http.pages[0].path.as_str(), http.pages[0].host.as_deref()), (path, host), "{request}");
        assert_eq!(http.tls.as_ref().and_then(|tls| tls.name.as_deref()), name, "{request}");
    }
    let host =
        "virtual=1.1.1.1:80\n    real=10.0.0.2 masq \"http://web1/\" \"ok\"\n    virtualhost=www.x.org\n";
    let CheckKind::Http(http) = good(host).services.remove(0).check.kind else { panic!() };
    assert_eq!(http.pages[0].host.as_deref(), Some("www.x.org"));
    let within = "virtual=1.1.1.1:80\n    real=10.0.0.2 masq \"x?http://web1/\" \"ok\"\n";
    assert!(warnings(within)[0].2.contains("never finds the server up"), "{:?}", warnings(within));
    let unknown = "virtual=1.1.1.1:80\n    real=10.0.0.2 masq \"http://nobody/\" \"ok\"\n";
    assert_fault(unknown, 2, "\"nobody\" has no IPv4 address");
    // A request of the whole service is a path in any case.
    let service = service("request=\"http://web1/\"");
    assert!(format!("{:?}", service.check.kind).contains("\"/http://web1/\""));
}

#[test]
fn receive_of_a_dns_check_is_an_expression() {
    for (receive, address, found) in [
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.", "192.0.2.77", true),
        ("^192\\.0\\.2\\.(1|2)$", "192.0.2.2", true),
        ("^192\\.0\\.2\\.(1|2)$", "192.0.2.3", false),
        ("192.0.2.1", "192.0.2.10", true),
        ("^10", "192.0.2.10", false),
    ] {
        let lines = format!("service=dns\nrequest=\"www.example.org\"\nreceive=\"{receive}\"\nprotocol=udp");
        let CheckKind::Dns(dns) = service(&lines).check.kind else { panic!("{lines}") };
        let Some(DnsExpect::Matches(pattern)) = dns.expect else { panic!("{:?}", dns.expect) };
        assert_eq!(pattern.is_in(address.as_bytes()), found, "{receive} in {address}");
    }
}

#[test]
fn empty_commands_run_nothing() {
    let global = |line: &str| format!("{line}\n{}", with("service=http"));
    for value in ["\"\"", "''", "\" \"", "“”", "\"\" x"] {
        let text = global(&format!("fallbackcommand={value}"));
        assert_eq!(good(&text).services[0].notify.fallback_command, None, "{value}");
        assert!(
            warnings(&text)[0].2.contains("runs nothing") || warnings(&text)[1].2.contains("runs nothing")
        );
        let text = global(&format!("execute={value}"));
        assert_eq!(good(&text).agent.execute, Vec::<PathBuf>::new(), "{value}");
    }
    for text in [global("callback=\"\""), global("callback=\"  \"")] {
        assert_eq!(good(&text).agent.callback, None);
        assert!(warnings(&text)[0].2.contains("runs nothing"), "{:?}", warnings(&text));
    }
    // A service's own empty command stands in for the global one.
    let text = format!("fallbackcommand=/bin/fb\n{}", with("fallbackcommand=\"\""));
    assert_eq!(good(&text).services[0].notify.fallback_command, None);
    assert!(warnings(&text)[0].2.contains("ldirectord refuses"), "{:?}", warnings(&text));
}

#[test]
fn quotes_of_values_for_a_shell_are_the_shells() {
    for value in ["other.cf", "\"other.cf\"", "'other.cf'", "“other.cf”", "oth\"er.cf\""] {
        let text = format!("execute={value}\n{}", with("service=http"));
        assert_eq!(good(&text).agent.execute, [PathBuf::from("other.cf")], "{value}");
    }
    for (value, program, arguments) in [
        ("\"/bin/fb\" -x", "/bin/fb", &["-x"][..]),
        ("'/bin/fb' 'a b'", "/bin/fb", &["a b"]),
        ("/bin/fb", "/bin/fb", &[]),
    ] {
        let text = format!("fallbackcommand={value}\n{}", with("service=http"));
        let command = good(&text).services[0].notify.fallback_command.clone().unwrap();
        assert_eq!(
            (command.program, command.arguments),
            (PathBuf::from(program), owned(arguments)),
            "{value}"
        );
    }
}

#[test]
fn what_ldirectord_lives_with_is_a_warning() {
    let missing = "/no/such/folder";
    for (line, words) in [
        (format!("maintenancedir={missing}"), "there is no /no/such/folder"),
        ("maintenancedir=no/such/folder".to_owned(), "taken from the root"),
    ] {
        let text = format!("{line}\n{}", with("service=http"));
        assert_eq!(good(&text).agent.maintenance, Some(PathBuf::from(missing)), "{line}");
        assert!(warnings(&text).iter().any(|(at, _, what)| *at == 1 && what.contains(words)), "{line}");
    }
    assert_eq!(read("monitorfile=var/m").notify.monitor_file, Some(PathBuf::from("/var/m")));
    assert!(warned("monitorfile=var/m")[0].contains("taken from the root"));
    for (line, to) in [
        ("emailalert=a@x.org b@x.org", &["a@x.org", "b@x.org"][..]),
        ("emailalert=Ops <a@x.org>", &["a@x.org"]),
        ("emailalert=\"Ops\" <a@x.org>, b@x.org", &["a@x.org", "b@x.org"]),
        ("emailalert=\"a@x.org; b@x.org\"", &["a@x.org", "b@x.org"]),
    ] {
        assert_eq!(read(line).notify.mail.unwrap().to, owned(to), "{line}");
    }
    assert_eq!(read("emailalert=<>").notify.mail, None);
    assert!(warned("emailalert=<>")[0].contains("no mails are sent"));
    for (line, host) in [
        ("virtualhost=", None),
        ("virtualhost=\"\"", None),
        ("virtualhost=http://www.x.org/a", Some("www.x.org")),
        ("virtualhost=\"www.x.org/\"", Some("www.x.org")),
        ("virtualhost=a b", None),
    ] {
        let CheckKind::Http(http) = read(line).check.kind else { panic!("{line}") };
        assert_eq!(http.pages[0].host.as_deref(), host, "{line}");
        assert!(warned(line)[0].contains("is not a host name"), "{line}: {:?}", warned(line));
    }
    assert_eq!(read("failurecount=1000").fall.get(), 100);
    assert_eq!(read("checkinterval=1000000").check.interval.as_secs(), 86_400);
    assert!(warned("failurecount=1000")[0].contains("which is the most"));
}

#[test]
fn a_server_that_the_kernel_refuses_is_left_out() {
    for (text, line) in [
        ("virtual6=[2001:db8::1]:80\n    real6=[fe80::1]:80 masq\n    real6=[2001:db8::2]:80 masq\n", 2),
        ("virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    real=224.0.0.1 masq\n", 3),
        ("virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    fallback=0.0.0.0:80\n", 3),
    ] {
        let service = good(text).services.remove(0);
        assert_eq!((service.servers.len(), service.policy.backups.len()), (1, 0), "{text}");
        let [(at, _, what)] = &warnings(text)[..] else { panic!("{:?}", warnings(text)) };
        assert_eq!(*at, line, "{text}");
        assert!(what.contains("left out"), "{what}");
    }
    assert_fault("virtual6=[2001:db8::1]:80\n    real6=[fe80::1]:80 masq\n", 1, "has no servers");
    assert!(reading("virtual6=[2001:db8::1]:80\n    real6=[fe80::1%eth0]:80 masq\n").is_err());
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}
