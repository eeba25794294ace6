use std::{fmt::Write as _, fs, net::SocketAddr, ops::RangeInclusive, path::Path, time::Duration};

use humantime::format_duration;
use proptest::{collection::btree_map, option, prelude::*, sample::select};

use super::read;
use crate::{
    config::{
        AgentSettings, BurstSettings, Check, Config, ConfigError, DetectorSettings, FileErrorKind, HttpPage,
        HttpQuestion, OnExit, OnFailure, PassiveSettings, Question, RealServer, StatusCodes, Via,
        VirtualService,
    },
    service::{ForwardingMethod, Protocol, Scheduler, ServiceKey, Weight},
};

/// What the text is called in messages.
const ORIGIN: &str = "lvs.toml";

fn good(text: &str) -> Config {
    read(text, Path::new(ORIGIN)).unwrap_or_else(|error| panic!("{error}\nin:\n{text}"))
}

/// Line, column and message of each fault.
fn faults(text: &str) -> Vec<(usize, usize, String)> {
    match read(text, Path::new(ORIGIN)) {
        Ok(config) => panic!("accepted:\n{text}\nas {config:#?}"),
        Err(ConfigError::Content(faults)) => {
            let faults = faults.first.into_iter();
            faults.map(|fault| (fault.place.line, fault.place.column, fault.kind.to_string())).collect()
        }
        Err(error) => panic!("{error}"),
    }
}

/// Line, column and a piece of the message of each fault that a text must have.
type Places = &'static [(usize, usize, &'static str)];

/// Asserts that `text` has exactly these faults: line, column, and a piece of the message.
fn assert_faults(text: &str, expected: &[(usize, usize, &str)]) {
    let found = faults(text);
    let places: Vec<_> = found.iter().map(|(line, column, _)| (*line, *column)).collect();
    let wanted: Vec<_> = expected.iter().map(|(line, column, _)| (*line, *column)).collect();
    assert_eq!(places, wanted, "in:\n{text}\nfound: {found:#?}");
    for ((_, _, message), (_, _, piece)) in found.iter().zip(expected) {
        assert!(message.contains(piece), "{message:?} lacks {piece:?}, in:\n{text}");
    }
}

/// A good file but for `line`, which is line 4, in the service.
fn in_service(line: &str) -> String {
    format!(
        "[[service]]\naddress = \"192.0.2.80:80\"\nforward = \"masquerade\"\n{line}\n\
         [[service.server]]\naddress = \"10.0.0.1\"\n"
    )
}

/// A good file but for `line`, which is line 6, in the server; `forward` is to be said there.
fn in_server(line: &str) -> String {
    format!(
        "[[service]]\naddress = \"192.0.2.80:80\"\n\n\n[[service.server]]\n{line}\n\
         [[service.server]]\naddress = \"10.0.0.9\"\nforward = \"masquerade\"\n"
    )
}

/// A good file but for `text` in front.
fn in_front(text: &str) -> String {
    format!("{text}\n{}", in_service(""))
}

#[test]
fn the_smallest_file_has_the_defaults() {
    let config = good(&in_service(""));
    let address: SocketAddr = "192.0.2.80:80".parse().unwrap();
    let service = VirtualService {
        name: "tcp 192.0.2.80:80".to_owned(),
        key: ServiceKey::Address { protocol: Protocol::Tcp, address },
        scheduler: Scheduler::default(),
        fall: 3.try_into().unwrap(),
        rise: 2.try_into().unwrap(),
        on_failure: OnFailure::Quiesce,
        check: Check {
            question: Question::Connect,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            port: None,
            via: Via::default(),
        },
        servers: vec![RealServer {
            address: "10.0.0.1:80".parse().unwrap(),
            method: ForwardingMethod::Masquerade,
            weight: Weight(1),
        }],
    };
    let passive = PassiveSettings {
        enabled: true,
        devices: vec![],
        log_faults: false,
        tick: Duration::from_millis(10),
        detector: DetectorSettings {
            silence_masquerade: Duration::from_millis(60),
            silence_half_seen: Duration::from_millis(150),
            silence_factor: 8.0,
            clients: 4,
            refusals: 3,
            backoff: Duration::from_millis(250),
            backoff_max: Duration::from_secs(5),
        },
        burst: BurstSettings {
            gap: Duration::from_millis(20),
            timeout: Duration::from_millis(100),
            server_rate: 5.try_into().unwrap(),
            total_rate: 200.try_into().unwrap(),
        },
    };
    let agent = AgentSettings { metrics: Some("127.0.0.1:9747".parse().unwrap()), on_exit: OnExit::Keep };
    assert_eq!(config, Config { agent, passive, services: vec![service] });
}

#[test]
fn the_example_says_what_holds_anyway() {
    let config = good(include_str!("example.toml"));
    assert_eq!(config.agent, AgentSettings::default());
    assert_eq!(config.passive, PassiveSettings::default());
    let service = &config.services[0];
    assert_eq!(service.name, "web");
    assert_eq!(service.check.port, Some(8080));
    let Question::Http(question) = &service.check.question else { panic!("{:?}", service.check) };
    let page = &question.pages[0];
    assert_eq!(page.path, "/health");
    assert_eq!(page.host.as_deref(), Some("www.example.org"));
    assert_eq!(page.status, StatusCodes::from(200..=399));
    assert_eq!(page.text.as_deref(), Some("ok"));
    assert_eq!(service.servers[0].address, "10.0.0.1:8000".parse().unwrap());
    assert_eq!(service.servers[1].address, "10.0.0.2:80".parse().unwrap());
    assert_eq!(service.servers[1].method, ForwardingMethod::DirectRoute);
}

#[test]
fn a_service_overrides_the_defaults() {
    let text = "[defaults]\nfall = 5\nrise = 7\nscheduler = \"rr\"\non-failure = \"remove\"\n\
                check = { type = \"ping\", interval = \"2s\" }\n"
        .to_owned()
        + &in_service("fall = 1\ncheck = { type = \"http\" }");
    let service = good(&text).services.remove(0);
    assert_eq!((service.fall.get(), service.rise.get()), (1, 7));
    assert_eq!(service.scheduler.name(), "rr");
    assert_eq!(service.on_failure, OnFailure::Remove);
    assert!(matches!(service.check.question, Question::Http(_)));
    assert_eq!(service.check.interval, Duration::from_secs(1), "a check replaces the default one whole");
}

#[test]
fn accepted_variants() {
    let timeout = |line: &str| good(&in_service(line)).services.remove(0).check.timeout;
    assert_eq!(timeout("check = { interval = \"250ms\" }"), Duration::from_millis(250));
    assert_eq!(timeout("check = { interval = \"5s\" }"), Duration::from_secs(1));
    assert_eq!(timeout("check = { interval = \"1m 30s\", timeout = \"1m 29s\" }"), Duration::from_secs(89));

    let metrics = |value: &str| good(&in_front(&format!("[agent]\nmetrics = \"{value}\""))).agent.metrics;
    assert_eq!(metrics("off"), None);
    assert_eq!(metrics("[::1]:9000"), Some("[::1]:9000".parse().unwrap()));

    let status = |value: &str| {
        let text = in_service(&format!("check = {{ type = \"http\", status = {value} }}"));
        match good(&text).services.remove(0).check.question {
            Question::Http(question) => question.pages[0].status.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(status("204"), StatusCodes::from(204..=204));
    assert_eq!(status("\"204\""), StatusCodes::from(204..=204));
    assert_eq!(status("\"200-204\""), StatusCodes::from(200..=204));

    let factor = in_front("[passive]\ndetector = { silence-factor = 8 }");
    assert!((good(&factor).passive.detector.silence_factor - 8.0).abs() < f64::EPSILON);
    assert_eq!(good(&format!("\u{feff}{}", in_service(""))).services.len(), 1, "a byte order mark");
    assert_eq!(good(&in_service("").replace('\n', "\r\n")).services.len(), 1);
}

#[test]
fn faults_in_the_settings() {
    let cases: &[(&str, Places)] = &[
        ("[agent]\nmetrik = 1", &[(2, 1, "did you mean \"metrics\"?")]),
        ("[agent]\non_exit = \"keep\"", &[(2, 1, "did you mean \"on-exit\"?")]),
        ("[agent]\ncolour = 1", &[(2, 1, "known here: metrics, on-exit")]),
        ("[agent]\non-exit = \"stay\"", &[(2, 11, "\"stay\" is unknown; write \"keep\" or \"remove\"")]),
        ("[agent]\nmetrics = \"127.0.0.1\"", &[(2, 11, "has no port")]),
        ("[agent]\nmetrics = \"127.0.0.1:0\"", &[(2, 11, "port \"0\"")]),
        ("[agent]\nmetrics = \"localhost:9747\"", &[(2, 11, "names are not looked up")]),
        ("[agent]\nmetrics = 9747", &[(2, 11, "or \"off\"")]),
        ("agent = 1", &[(1, 9, "the whole number 1 can't stand here; write a table")]),
        ("[passiv]", &[(1, 2, "did you mean \"passive\"?")]),
        ("[passive]\nenabled = \"yes\"", &[(2, 11, "text (\"yes\") can't stand here; write true or false")]),
        ("[passive]\ntick = 10", &[(2, 8, "10 has no unit; write \"10ms\" or \"10s\"")]),
        ("[passive]\ntick = 0.5", &[(2, 8, "0.5 has no unit")]),
        ("[passive]\ntick = \"10\"", &[(2, 8, "10 has no unit")]),
        ("[passive]\ntick = \"10 sekunden\"", &[(2, 8, "\"10 sekunden\" is no duration")]),
        ("[passive]\ntick = \"-1s\"", &[(2, 8, "no duration")]),
        ("[passive]\ntick = \"\"", &[(2, 8, "no duration")]),
        ("[passive]\ntick = true", &[(2, 8, "a duration")]),
        ("[passive]\ntick = \"0s\"", &[(2, 8, "\"0s\" is below 1ms")]),
        ("[passive]\ntick = \"0\"", &[(2, 8, "\"0\" is below 1ms")]),
        ("[passive]\ntick = \"999us\"", &[(2, 8, "is below 1ms")]),
        ("[passive]\ntick = \"25h\"", &[(2, 8, "is above 24h")]),
        ("[passive]\ntick = \"99999999999999999999s\"", &[(2, 8, "no duration")]),
        ("[passive]\ndevices = \"eth1\"", &[(2, 11, "[\"eth1\"]")]),
        ("[passive]\ndevices = [1]", &[(2, 12, "the name of a network device")]),
        ("[passive]\ndevices = [\"\"]", &[(2, 12, "can't be the name")]),
        ("[passive]\ndevices = [\"a/b\"]", &[(2, 12, "characters")]),
        ("[passive]\ndevices = [\"abcdefghijklmnop\"]", &[(2, 12, "longer than 15 bytes")]),
        ("[passive]\ndevices = [\"eth1\", \"eth1\"]", &[(2, 20, "twice")]),
        ("[passive.detector]\nclients = 0", &[(2, 11, "0 is below 1")]),
        ("[passive.detector]\nclients = 33", &[(2, 11, "33 is above 32")]),
        ("[passive.detector]\nrefusals = 0", &[(2, 12, "0 is below 1")]),
        ("[passive.detector]\nsilence-factor = 0.5", &[(2, 18, "0.5 is below 1")]),
        ("[passive.detector]\nsilence-factor = nan", &[(2, 18, "a number, such as 8.0")]),
        ("[passive.detector]\nsilence-factor = inf", &[(2, 18, "inf is above 1000")]),
        ("[passive.detector]\nsilence-factor = \"8\"", &[(2, 18, "a number, such as 8.0")]),
        ("[passive.detector]\nsilence-masquerade = \"0ms\"", &[(2, 22, "below 1ms")]),
        ("[passive.detector]\nbackoff = \"6s\"", &[(2, 11, "6s is above backoff-max 5s")]),
        ("[passive.detector]\nbackoff-max = \"100ms\"", &[(2, 15, "250ms is above backoff-max 100ms")]),
        ("[passive.burst]\nserver-rate = 0", &[(2, 15, "0 is below 1")]),
        ("[passive.burst]\ntotal-rate = 1000001", &[(2, 14, "above 1000000")]),
        ("[passive.burst]\ntimeout = 100", &[(2, 11, "\"100ms\"")]),
        ("[passive.burst]\nrate = 100", &[(2, 1, "unknown key \"rate\" in [passive.burst]")]),
        ("[defaults]\nfall = 0", &[(2, 8, "0 is below 1")]),
        ("[defaults]\nname = \"a\"", &[(2, 1, "unknown key \"name\" in [defaults]")]),
        ("[defaults]\ncheck = \"http\"", &[(2, 9, "a table")]),
    ];
    for (front, expected) in cases {
        assert_faults(&in_front(front), expected);
    }
}

#[test]
fn faults_in_a_service() {
    let cases: &[(&str, Places)] = &[
        ("fal = 3", &[(4, 1, "unknown key \"fal\" in [[service]]; did you mean \"fall\"?")]),
        ("fall = 0", &[(4, 8, "fall: 0 is below 1; write 1 to 100")]),
        ("fall = -1", &[(4, 8, "-1 is below 1")]),
        ("fall = 101", &[(4, 8, "101 is above 100")]),
        ("fall = 0x7fffffffffffffffffffffffffffffffffff", &[(4, 8, "is above 100")]),
        ("fall = -99999999999999999999999999999999999999999", &[(4, 8, "is below 1")]),
        ("fall = 3.0", &[(4, 8, "a whole number")]),
        ("rise = \"2\"", &[(4, 8, "text (\"2\") can't stand here; write a whole number")]),
        ("fall = 1979-05-27", &[(4, 8, "a whole number")]),
        ("scheduler = \"wcl\"", &[(4, 13, "\"wcl\" is unknown; write \"rr\", \"wrr\"")]),
        ("on-failure = \"weight 0\"", &[(4, 14, "write \"quiesce\" or \"remove\"")]),
        ("protocol = \"udp\"", &[(4, 12, "\"udp\" is not supported yet")]),
        ("protocol = \"sctp\"", &[(4, 12, "\"sctp\" is not supported yet")]),
        ("protocol = \"icmp\"", &[(4, 12, "\"icmp\" is unknown")]),
        ("forward = \"tunnel\"", &[(4, 1, "duplicate key")]),
        ("name = \"\"", &[(4, 8, "is empty")]),
        ("name = \"a\\nb\"", &[(4, 8, "control characters")]),
        ("mark = 3", &[(4, 1, "either an address or a firewall mark")]),
        ("check = \"http\"", &[(4, 9, "a table, such as { … }")]),
        ("check = { type = \"web\" }", &[(4, 18, "\"ping\", \"connect\", \"http\"")]),
        ("check = { typ = \"http\" }", &[(4, 11, "did you mean \"type\"?")]),
        ("check = { path = \"/\" }", &[(4, 11, "\"path\" has no meaning for a check of type \"connect\"")]),
        ("check = { type = \"ping\", port = 1 }", &[(4, 26, "no meaning for a check of type \"ping\"")]),
        ("check = { type = \"htp\", path = \"x\" }", &[(4, 18, "unknown"), (4, 32, "does not start with")]),
        ("check = { port = 0 }", &[(4, 18, "0 is below 1")]),
        ("check = { port = 65536 }", &[(4, 18, "65536 is above 65535")]),
        ("check = { interval = 1 }", &[(4, 22, "1 has no unit; write \"1ms\" or \"1s\"")]),
        ("check = { interval = \"0s\" }", &[(4, 22, "below 1ms")]),
        (
            "check = { interval = \"500ms\", timeout = \"1s\" }",
            &[(4, 41, "timeout 1s is above the interval 500ms")],
        ),
        ("check = { timeout = \"2s\" }", &[(4, 21, "timeout 2s is above the interval 1s")]),
        // The interval is wrong: nothing can be said about the timeout.
        ("check = { interval = \"5 x\", timeout = \"2s\" }", &[(4, 22, "no duration")]),
        ("check = { type = \"http\", path = \"\" }", &[(4, 33, "does not start with")]),
        ("check = { type = \"http\", path = \"a\" }", &[(4, 33, "write it like \"/health\"")]),
        ("check = { type = \"http\", path = \"/a b\" }", &[(4, 33, "percent-encoded")]),
        ("check = { type = \"http\", path = \"/ä\" }", &[(4, 33, "percent-encoded")]),
        ("check = { type = \"http\", path = \"/a#b\" }", &[(4, 33, "fragment")]),
        ("check = { type = \"http\", path = \"/ HTTP/1.1\\r\\nX: y\" }", &[(4, 33, "forge headers")]),
        ("check = { type = \"http\", host = \"\" }", &[(4, 33, "is empty")]),
        ("check = { type = \"http\", host = \"a\\r\\nX: y\" }", &[(4, 33, "forge headers")]),
        ("check = { type = \"http\", host = \"a b\" }", &[(4, 33, "no valid host")]),
        ("check = { type = \"http\", host = \"a/b\" }", &[(4, 33, "no valid host")]),
        ("check = { type = \"http\", host = \"u@a\" }", &[(4, 33, "user name")]),
        ("check = { type = \"http\", status = \"abc\" }", &[(4, 35, "\"200-399\"")]),
        ("check = { type = \"http\", status = \"399-200\" }", &[(4, 35, "\"200-399\"")]),
        ("check = { type = \"http\", status = \"100-199\" }", &[(4, 35, "from 200 to 599")]),
        ("check = { type = \"http\", status = 600 }", &[(4, 35, "from 200 to 599")]),
        ("check = { type = \"http\", status = [200] }", &[(4, 35, "an array can't stand here")]),
        ("check = { type = \"http\", text = \"\" }", &[(4, 33, "is found in every body")]),
    ];
    for (line, expected) in cases {
        assert_faults(&in_service(line), expected);
    }
}

#[test]
fn faults_in_a_server() {
    let cases: &[(&str, Places)] = &[
        ("address = \"10.0.0.1\"", &[(5, 1, "[[service.server]] has no \"forward\"")]),
        ("forward = \"masquerade\"", &[(5, 1, "[[service.server]] has no \"address\"")]),
        ("weight = 70000", &[(5, 1, "\"address\""), (5, 1, "\"forward\""), (6, 10, "70000 is above 65535")]),
    ];
    for (line, expected) in cases {
        assert_faults(&in_server(line), expected);
    }
    let cases: &[(&str, usize, &str)] = &[
        ("weight = -1", 10, "-1 is below 0"),
        ("weight = 65536", 10, "weight: 65536 is above 65535"),
        ("weight = 1.5", 10, "a whole number"),
        ("forwart = \"masquerade\"", 1, "did you mean \"forward\"?"),
    ];
    for (line, column, piece) in cases {
        let text = format!("{line}\naddress = \"10.0.0.1\"\nforward = \"masquerade\"");
        assert_faults(&in_server(&text), &[(6, *column, piece)]);
    }
    let cases = [
        ("10.0.0.1:0", "port \"0\" in \"10.0.0.1:0\""),
        ("10.0.0.1:65536", "port \"65536\""),
        ("10.0.0.1:http", "port \"http\""),
        ("10.0.0.1:+80", "port \"+80\""),
        ("10.0.0.1:", "port \"\""),
        ("10.0.0.1-10.0.0.9", "is no IPv4 address"),
        ("10.0.0.256", "is no IPv4 address"),
        ("10.0.0.01", "is no IPv4 address"),
        (" 10.0.0.1", "is no IPv4 address"),
        ("", "is no IPv4 address"),
        ("web1.example.org:80", "names are not looked up"),
        ("2001:db8::1", "IPv6 address \"2001:db8::1\" is not supported yet"),
        ("[2001:db8::1]:80", "not supported yet"),
        ("[2001:db8::1]", "not supported yet"),
        ("::ffff:10.0.0.1", "not supported yet"),
        ("0.0.0.0", "unicast"),
        ("224.0.0.1:80", "unicast"),
        ("255.255.255.255", "unicast"),
        ("192.0.2.80:81", "is the VIP of the service at line 2"),
        ("10.0.0.9:80", "10.0.0.9:80"),
    ];
    for (address, piece) in cases {
        let text = format!("address = \"{address}\"\nforward = \"masquerade\"");
        let found = faults(&in_server(&text));
        let [(line, column, message)] = found.as_slice() else { panic!("{address}: {found:#?}") };
        // The duplicate is noted at the second of the two.
        let place = if address == "10.0.0.9:80" { (9, 11) } else { (6, 11) };
        assert_eq!((*line, *column), place, "{address}");
        assert!(message.contains(piece), "{address}: {message}");
    }
    for (forward, piece) in [("tunnel", "\"tunnel\" is not supported yet"), ("nat", "\"nat\" is unknown")] {
        let text = format!("address = \"10.0.0.1\"\nforward = \"{forward}\"");
        assert_faults(&in_server(&text), &[(7, 11, piece)]);
    }
    let text = "address = \"10.0.0.1:8080\"\nforward = \"direct-route\"";
    assert_faults(&in_server(text), &[(6, 11, "the server's is 8080, the service's 80")]);
}

#[test]
fn faults_of_the_whole() {
    let server = "[[service.server]]\naddress = \"10.0.0.1\"\nforward = \"masquerade\"\n";
    let cases: Vec<(String, Places)> = vec![
        (String::new(), &[(1, 1, "there is no service")]),
        ("[agent]\n".to_owned(), &[(1, 1, "there is no service")]),
        ("service = []".to_owned(), &[(1, 1, "there is no service")]),
        ("service = 3".to_owned(), &[(1, 11, "a table for each")]),
        ("[service]\naddress = \"192.0.2.80:80\"".to_owned(), &[(1, 1, "double brackets")]),
        ("[[service]]\naddress = \"192.0.2.80:80\"".to_owned(), &[(1, 1, "no servers")]),
        (format!("[[service]]\n{server}"), &[(1, 1, "[[service]] has no \"address\"")]),
        (format!("[[service]]\nmark = 3\n{server}"), &[(2, 8, "firewall mark (3) is not supported yet")]),
        (format!("[[service]]\naddress = \"192.0.2.80\"\n{server}"), &[(2, 11, "has no port")]),
        (format!("[[service]]\naddress = \"192.0.2.80:0\"\n{server}"), &[(2, 11, "port \"0\"")]),
        (format!("[[service]]\naddress = \"[2001:db8::80]:80\"\n{server}"), &[(2, 11, "not supported yet")]),
        (
            format!(
                "[[service]]\naddress = \"192.0.2.80:80\"\n{server}[[service]]\naddress = \"192.0.2.80:80\"\n{server}"
            ),
            &[(7, 11, "service tcp 192.0.2.80:80 is already at line 2")],
        ),
        // A service whose protocol is wrong is compared with none.
        (
            format!(
                "[[service]]\naddress = \"192.0.2.80:80\"\n{server}\
                 [[service]]\naddress = \"192.0.2.80:80\"\nprotocol = \"udp\"\n{server}"
            ),
            &[(8, 12, "not supported yet")],
        ),
        (
            format!(
                "[[service]]\nname = \"a\"\naddress = \"192.0.2.80:80\"\n{server}\
                 [[service]]\nname = \"a\"\naddress = \"192.0.2.80:81\"\n{server}"
            ),
            &[(8, 8, "the name \"a\" is already used at line 2")],
        ),
        (
            format!(
                "[[service]]\naddress = \"192.0.2.80:80\"\n{server}\
                 [[service]]\naddress = \"10.0.0.1:81\"\n[[service.server]]\naddress = \"10.0.0.2\"\n\
                 forward = \"masquerade\"\n"
            ),
            &[(4, 11, "10.0.0.1 is the VIP of the service at line 7")],
        ),
    ];
    for (text, expected) in &cases {
        assert_faults(text, expected);
    }
}

#[test]
fn faults_of_the_grammar() {
    // Only the first is told: what follows may come from it.
    let cases = [
        ("a = ", 1, 5, "string values must be quoted"),
        ("[agent", 1, 7, "unclosed table"),
        ("a = \"x", 1, 7, "invalid basic string"),
        ("[agent]\non-exit = keep\n", 2, 11, "must be quoted"),
        ("[agent]\nmetrics = \"off\"\nmetrics = \"off\"\n", 3, 1, "duplicate key"),
        ("[agent]\n[agent]\n", 2, 2, "duplicate key"),
        ("a\u{0}", 1, 2, "invalid unquoted key"),
        ("a = 1\n= 2\n= 3\n", 2, 1, "cannot be empty"),
    ];
    for (text, line, column, piece) in cases {
        assert_faults(text, &[(line, column, piece)]);
    }
}

#[test]
fn independent_faults_are_told_together() {
    let text = in_front("[agent]\nmetrics = \"x\"\n[passive]\ntick = 1") + "weight = 70000\nwight = 1\n";
    let found = faults(&text);
    let lines: Vec<_> = found.iter().map(|(line, ..)| *line).collect();
    assert_eq!(lines, [2, 4, 11, 12], "{found:#?}");
}

#[test]
fn many_faults_are_cut_short() {
    let mut text = in_service("");
    for _ in 0..50 {
        text += "[[service.server]]\naddress = \"10.0.0.x\"\n";
    }
    let error = read(&text, Path::new(ORIGIN)).unwrap_err().to_string();
    assert!(error.ends_with("… and 30 more"), "{error}");
}

#[test]
fn a_fault_is_shown_with_its_line() {
    let text = in_server("weight = 70000\naddress = \"10.0.0.1\"\nforward = \"masquerade\"");
    let error = read(&text, Path::new("/etc/lvs.toml")).unwrap_err().to_string();
    let expected = "/etc/lvs.toml:6:10: weight: 70000 is above 65535; write 0 to 65535
    6 | weight = 70000
      |          ^^^^^";
    assert_eq!(error, expected);
}

#[test]
fn files() {
    let directory = std::env::temp_dir().join(format!("lvs-config-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let kind = |path: &Path| match Config::from_file(path) {
        Err(ConfigError::File(error)) => {
            assert!(error.to_string().starts_with(path.to_str().unwrap()), "{error}");
            error.kind
        }
        other => panic!("{other:?}"),
    };
    assert!(matches!(kind(&directory.join("none.toml")), FileErrorKind::Missing));
    assert!(matches!(kind(&directory), FileErrorKind::Directory));
    let file = directory.join("lvs.toml");
    fs::write(&file, b"# \xff\n").unwrap();
    assert!(matches!(kind(&file), FileErrorKind::NotText { offset: 2 }));
    fs::write(&file, vec![b'\n'; (16 << 20) + 1]).unwrap();
    assert!(matches!(kind(&file), FileErrorKind::TooLarge { .. }));
    fs::write(&file, in_service("")).unwrap();
    assert_eq!(Config::from_file(&file).unwrap().services.len(), 1);
    fs::remove_dir_all(&directory).unwrap();
}

/// Writes a model down in the native format.
fn write(config: &Config) -> String {
    let mut text = String::new();
    let d = |duration: &Duration| format!("\"{}\"", format_duration(*duration));
    let metrics = config.agent.metrics.map_or("off".to_owned(), |metrics| metrics.to_string());
    let on_exit = if config.agent.on_exit == OnExit::Keep { "keep" } else { "remove" };
    writeln!(text, "[agent]\nmetrics = {metrics:?}\non-exit = {on_exit:?}").unwrap();
    let PassiveSettings { enabled, devices, log_faults, tick, detector, burst } = &config.passive;
    writeln!(text, "[passive]\nenabled = {enabled}\ndevices = {devices:?}\nlog-faults = {log_faults}")
        .unwrap();
    writeln!(text, "tick = {}", d(tick)).unwrap();
    writeln!(text, "[passive.detector]\nsilence-masquerade = {}", d(&detector.silence_masquerade)).unwrap();
    writeln!(text, "silence-half-seen = {}", d(&detector.silence_half_seen)).unwrap();
    writeln!(text, "silence-factor = {:?}\nclients = {}", detector.silence_factor, detector.clients).unwrap();
    writeln!(text, "refusals = {}\nbackoff = {}", detector.refusals, d(&detector.backoff)).unwrap();
    writeln!(text, "backoff-max = {}", d(&detector.backoff_max)).unwrap();
    writeln!(text, "[passive.burst]\ngap = {}\ntimeout = {}", d(&burst.gap), d(&burst.timeout)).unwrap();
    writeln!(text, "server-rate = {}\ntotal-rate = {}", burst.server_rate, burst.total_rate).unwrap();
    config.services.iter().for_each(|service| write_service(&mut text, service));
    text
}

fn write_service(text: &mut String, service: &VirtualService) {
    let ServiceKey::Address { protocol, address } = service.key else { panic!("{:?}", service.key) };
    writeln!(text, "[[service]]\nname = {:?}\naddress = \"{address}\"", service.name).unwrap();
    writeln!(text, "protocol = \"{protocol}\"\nscheduler = \"{}\"", service.scheduler).unwrap();
    let on_failure = if service.on_failure == OnFailure::Quiesce { "quiesce" } else { "remove" };
    writeln!(text, "fall = {}\nrise = {}\non-failure = {on_failure:?}", service.fall, service.rise).unwrap();
    let Check { question, interval, timeout, port, via: _ } = &service.check;
    writeln!(text, "[service.check]\ninterval = \"{}\"", format_duration(*interval)).unwrap();
    writeln!(text, "timeout = \"{}\"", format_duration(*timeout)).unwrap();
    if let Some(port) = port {
        writeln!(text, "port = {port}").unwrap();
    }
    match question {
        Question::Ping => writeln!(text, "type = \"ping\"").unwrap(),
        Question::Connect => writeln!(text, "type = \"connect\"").unwrap(),
        Question::Http(HttpQuestion { pages, .. }) => {
            let HttpPage { path, host, status, text: wanted, .. } = &pages[0];
            writeln!(text, "type = \"http\"\npath = {path:?}").unwrap();
            writeln!(text, "status = \"{status}\"").unwrap();
            if let Some(host) = host {
                writeln!(text, "host = {host:?}").unwrap();
            }
            if let Some(wanted) = wanted {
                writeln!(text, "text = {wanted:?}").unwrap();
            }
        }
        other => panic!("{other:?} is written in the tests of checks"),
    }
    for server in &service.servers {
        writeln!(text, "[[service.server]]\naddress = \"{}\"", server.address).unwrap();
        writeln!(text, "forward = \"{}\"\nweight = {}", server.method, server.weight).unwrap();
    }
}

fn duration(milliseconds: RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    milliseconds.prop_map(Duration::from_millis)
}

prop_compose! {
    fn check()(
        question in prop_oneof![
            Just(Question::Ping),
            Just(Question::Connect),
            ("/[a-z0-9%?&=]{0,9}", option::of("[a-z]{1,9}(:[1-9][0-9]{1,3})?"), 200_u16..=399, 0_u16..=200,
             option::of("[ -~äß]{1,9}")).prop_map(|(path, host, low, length, text)| {
                let status = StatusCodes::from(low..=low + length);
                let page = HttpPage { path, host, status, text, ..HttpPage::default() };
                Question::Http(HttpQuestion { pages: vec![page], ..HttpQuestion::get("/") })
            }),
        ],
        interval in duration(500..=86_400_000),
        timeout in duration(1..=500),
        port in option::of(1_u16..),
    ) -> Check {
        let port = if question == Question::Ping { None } else { port };
        Check { question, interval, timeout, port, via: Via::default() }
    }
}

prop_compose! {
    fn service()(
        fall in 1_u32..=100,
        rise in 1_u32..=100,
        scheduler in select(&Scheduler::NAMES[..]),
        on_failure in select(&[OnFailure::Quiesce, OnFailure::Remove][..]),
        check in check(),
        servers in btree_map((1_u8..=254, 1_u16..), (any::<bool>(), any::<u16>()), 1..4),
    ) -> VirtualService {
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        let servers = servers.into_iter().map(|((host, port), (direct, weight))| RealServer {
            address: SocketAddr::from(([10, 0, 0, host], if direct { 80 } else { port })),
            method: if direct { ForwardingMethod::DirectRoute } else { ForwardingMethod::Masquerade },
            weight: Weight(weight),
        });
        let mut servers: Vec<_> = servers.collect();
        servers.sort_by_key(|server| server.address);
        servers.dedup_by_key(|server| server.address);
        VirtualService {
            name: String::new(),
            key: ServiceKey::Address { protocol: Protocol::Tcp, address },
            scheduler: scheduler.parse().unwrap(),
            fall: fall.try_into().unwrap(),
            rise: rise.try_into().unwrap(),
            on_failure,
            check,
            servers,
        }
    }
}

prop_compose! {
    fn passive()(
        (enabled, log_faults) in any::<(bool, bool)>(),
        devices in proptest::collection::btree_set("[a-z]{1,3}[0-9]{1,3}", 0..3),
        durations in proptest::collection::vec(duration(1..=5000), 6),
        (silence_factor, clients, refusals) in (1.0..=1000.0, 1_u32..=32, 1_u32..=100),
        (server_rate, total_rate) in (1_u32..=1_000_000, 1_u32..=1_000_000),
    ) -> PassiveSettings {
        let detector = DetectorSettings {
            silence_masquerade: durations[0],
            silence_half_seen: durations[1],
            silence_factor, clients, refusals,
            backoff: durations[2],
            backoff_max: durations[2] + durations[3],
        };
        let burst = BurstSettings {
            gap: durations[4],
            timeout: durations[5],
            server_rate: server_rate.try_into().unwrap(),
            total_rate: total_rate.try_into().unwrap(),
        };
        let devices = devices.into_iter().collect();
        PassiveSettings { enabled, devices, log_faults, tick: durations[5], detector, burst }
    }
}

prop_compose! {
    fn config()(
        metrics in option::of((any::<[u8; 4]>(), 1_u16..).prop_map(SocketAddr::from)),
        on_exit in select(&[OnExit::Keep, OnExit::Remove][..]),
        passive in passive(),
        mut services in proptest::collection::vec(service(), 1..4),
    ) -> Config {
        for (service, number) in services.iter_mut().zip(1_u8..) {
            let address = SocketAddr::from(([192, 0, 2, number], 80));
            service.key = ServiceKey::Address { protocol: Protocol::Tcp, address };
            service.name = format!("service {number} \"ä\\");
        }
        Config { agent: AgentSettings { metrics, on_exit }, passive, services }
    }
}

/// Pieces that files are made of, put together at random: much closer to the reader's branches than any characters.
fn scraps() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "[[service]]",
        "[[service.server]]",
        "[passive]",
        "[defaults]",
        "[agent]",
        "\n",
        "\n",
        "\n",
        " = ",
        " = ",
        "address",
        "forward",
        "check",
        "fall",
        "weight",
        "name",
        "mark",
        "status",
        "{ type = \"http\", ",
        "}",
        "\"192.0.2.80:80\"",
        "\"10.0.0.1\"",
        "\"masquerade\"",
        "\"direct-route\"",
        "3",
        "-1",
        "0x",
        "1e400",
        "\"1s\"",
        "[",
        "]",
        "\"",
        "'''",
        "ä",
        "\u{0}",
        "\t",
        "#",
        ".",
        ",",
    ];
    proptest::collection::vec(select(PIECES), 0..40).prop_map(|pieces| pieces.concat())
}

/// Reads and, if it is refused, writes the messages: neither may panic.
fn read_and_complain(text: &str) {
    if let Err(error) = read(text, Path::new(ORIGIN)) {
        assert!(error.to_string().contains(ORIGIN));
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(config in config()) {
        let text = write(&config);
        prop_assert_eq!(good(&text), config, "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        read_and_complain(&text);
    }

    #[test]
    fn any_scraps_are_read_or_refused(text in scraps()) {
        read_and_complain(&text);
    }

    #[test]
    fn any_value_is_read_or_refused(
        key in select(&["address", "fall", "check", "name", "scheduler", "server", "forward", "mark"][..]),
        value in "[-+0-9a-z\"'{}.:, \\[\\]]{0,12}",
    ) {
        read_and_complain(&in_service(&format!("{key} = {value}")));
        read_and_complain(&in_server(&format!("{key} = {value}")));
    }
}
