use crate::model::{MailAbout, MailRelay, MailSettings};
use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use humantime::format_duration;
use proptest::{option, prelude::*, sample::select};

use super::{read, read_in_mode, to_toml};
mod modes;
mod notify;
mod policy;
use crate::{
    config::diagnostics::{ConfigError, FileErrorKind},
    model::{
        AddressFamily, AgentSettings, BurstSettings, Check, CheckKind, Config, ConnectionSettings,
        DetectorSettings, ForwardingMethod, FurtherChecks, HttpCheck, HttpPage, Netmask, Notifications,
        OnExit, OnFailure, PassiveSettings, Persistence, PoolPolicy, Protocol, RealServer, Scheduler,
        ServiceKey, StatusCodes, Tunnel, TunnelFlags, Unlisted, Via, VirtualService, Weight,
    },
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
        persistence: None,
        one_packet: None,
        scheduler_flags: None,
        persistence_engine: None,
        fall: 3.try_into().unwrap(),
        rise: 2.try_into().unwrap(),
        on_failure: OnFailure::Quiesce,
        check: Check {
            kind: CheckKind::Connect,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            port: None,
            via: Via::default(),
            soft_interval: None,
            connects_between: 0,
        },
        further: FurtherChecks::default(),
        servers: vec![RealServer {
            address: "10.0.0.1:80".parse().unwrap(),
            method: ForwardingMethod::Masquerade,
            tunnel: Tunnel::default(),
            weight: Weight(1),
            upper_threshold: None,
            lower_threshold: None,
            check: None,
            further: FurtherChecks::default(),
        }],
        policy: PoolPolicy::default(),
        notify: Notifications::default(),
        on_exit: None,
    };
    let passive = PassiveSettings {
        enabled: true,
        devices: vec![],
        log_faults: false,
        record: None,
        tick: Duration::from_millis(10),
        detector: DetectorSettings {
            silence_masquerade: Duration::from_millis(50),
            silence_half_seen: Duration::from_millis(50),
            silence_application: Duration::from_millis(200),
            clients: 3,
            false_alarms: 0.3,
            phi: 7.5,
            loss: 0.01,
            memory: Duration::from_mins(2),
            refusals: 3,
            resent_clients: 8,
            resent_share: 0.5,
            resent_within: Duration::from_millis(800),
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
    let agent = AgentSettings {
        metrics: Some("127.0.0.1:9747".parse().unwrap()),
        on_exit: OnExit::Keep,
        control: Some("/run/lvs-agent/control".into()),
        ..AgentSettings::default()
    };
    assert_eq!(config, Config { agent, passive, services: vec![service], unlisted: Unlisted::default() });
}

#[test]
fn the_example_says_what_holds_anyway() {
    let config = good(include_str!("example.toml"));
    assert_eq!(
        config.agent,
        AgentSettings { callback: config.agent.callback.clone(), ..AgentSettings::default() }
    );
    assert_eq!(config.passive, PassiveSettings::default());
    let service = &config.services[0];
    let policy = PoolPolicy { backups: service.policy.backups.clone(), ..PoolPolicy::default() };
    assert_eq!((&service.policy, policy.backups.len()), (&policy, 1));
    assert_eq!(policy.backups[0].check, Some(Check::default()));
    assert_eq!(
        service.check.soft_interval(),
        Check { soft_interval: None, ..service.check.clone() }.soft_interval()
    );
    assert_eq!(service.name, "web");
    assert_eq!(service.check.port, Some(8080));
    let CheckKind::Http(question) = &service.check.kind else { panic!("{:?}", service.check) };
    let page = &question.pages[0];
    assert_eq!(page.path, "/health");
    assert_eq!(page.host.as_deref(), Some("www.example.org"));
    assert_eq!(page.status, StatusCodes::from(200..=399));
    assert_eq!(page.text.as_deref(), Some("ok"));
    assert_eq!(service.servers[0].address, "10.0.0.1:8000".parse().unwrap());
    assert_eq!(service.servers[1].address, "10.0.0.2:80".parse().unwrap());
    assert_eq!(service.servers[1].method, ForwardingMethod::DirectRoute);
    let gue = Tunnel::Gue { port: 6080, flags: TunnelFlags::NO_CHECKSUM };
    assert_eq!(service.servers[2].tunnel, gue);
    let mail = |service: &VirtualService| service.notify.mail.clone().unwrap();
    let (relay, about) = (Some(MailRelay::plain("mail.example.org")), MailAbout::ALL);
    let from = Some("lvs@example.org".to_owned());
    let plain = MailSettings { to: vec!["root".to_owned()], from, relay, repeat: None, about };
    assert_eq!(mail(service), plain);
    let usual = include_str!("example.toml")
        .replace("tls = \"off\"", "")
        .replace("repeat = \"off\" ", "")
        .replace("about = [\"starting\", \"running\", \"stopping\", \"reloading\"]", "")
        .replace("tls-verify = true", "")
        .replace("tls-name = \"mail.example.org\"", "")
        .replace("password-unencrypted = false", "");
    let usual = good(&usual).services;
    assert_eq!(mail(&usual[0]), plain, "what is written holds anyway");
    let (with, without) = (mail(&config.services[1]).relay.unwrap(), mail(&usual[1]).relay.unwrap());
    assert_eq!(
        (&with.login, with.tls.as_ref().unwrap().name.as_deref()),
        (&without.login, Some("mail.example.org"))
    );
    assert_eq!(with.tls.unwrap().verify, without.tls.unwrap().verify);
    let keys: Vec<_> = config.services[1..].iter().map(|service| service.key.to_string()).collect();
    assert_eq!(keys, ["mark 1", "udp 192.0.2.53:53", "tcp 192.0.2.21:0"]);
    let without = include_str!("example.toml").replace("tunnel = { type = \"ipip\" }", "");
    assert_eq!(good(&without).services, config.services, "IP in IP holds anyway");
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
    assert!(matches!(service.check.kind, CheckKind::Http(_)));
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
    let control = |value: &str| good(&in_front(&format!("[agent]\ncontrol = \"{value}\""))).agent.control;
    assert_eq!(control("off"), None);
    assert_eq!(control("/tmp/lvs"), Some("/tmp/lvs".into()));

    let status = |value: &str| {
        let text = in_service(&format!("check = {{ type = \"http\", status = {value} }}"));
        match good(&text).services.remove(0).check.kind {
            CheckKind::Http(question) => question.pages[0].status.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(status("204"), StatusCodes::from(204..=204));
    assert_eq!(status("\"204\""), StatusCodes::from(204..=204));
    assert_eq!(status("\"200-204\""), StatusCodes::from(200..=204));

    let phi = in_front("[passive]\ndetector = { phi = 12 }");
    assert!((good(&phi).passive.detector.phi - 12.0).abs() < f64::EPSILON);
    assert_eq!(good(&format!("\u{feff}{}", in_service(""))).services.len(), 1, "a byte order mark");
    assert_eq!(good(&in_service("").replace('\n', "\r\n")).services.len(), 1);
}

#[test]
fn faults_in_the_settings() {
    let cases: &[(&str, Places)] = &[
        ("[agent]\nmetrik = 1", &[(2, 1, "did you mean \"metrics\"?")]),
        ("[agent]\non_exit = \"keep\"", &[(2, 1, "did you mean \"on-exit\"?")]),
        ("[agent]\ncolour = 1", &[(2, 1, "known here: metrics, on-exit, control")]),
        ("[agent]\non-exit = \"stay\"", &[(2, 11, "\"stay\" is unknown; write \"keep\" or \"remove\"")]),
        ("[agent]\nmetrics = \"127.0.0.1\"", &[(2, 11, "has no port")]),
        ("[agent]\nmetrics = \"127.0.0.1:0\"", &[(2, 11, "port \"0\"")]),
        ("[agent]\ncontrol = \"run/lvs\"", &[(2, 11, "not an absolute path")]),
        ("[agent]\nmetrics = \"localhost:9747\"", &[(2, 11, "names are not resolved")]),
        ("[agent]\nmetrics = 9747", &[(2, 11, "or \"off\"")]),
        ("[agent.connections]\nexpire-nodest = \"on\"", &[(2, 17, "\"on\" is unknown; write \"keep\"")]),
        ("[agent.connections]\nexpire-quiescent = 1", &[(2, 20, "true, false or \"keep\"")]),
        ("[agent.connections]\nreuse-mode = 4", &[(2, 14, "4")]),
        ("agent = 1", &[(1, 9, "the whole number 1 is not allowed here; write a table")]),
        ("[passiv]", &[(1, 2, "did you mean \"passive\"?")]),
        (
            "[passive]\nenabled = \"yes\"",
            &[(2, 11, "text (\"yes\") is not allowed here; write true or false")],
        ),
        ("[passive]\ntick = 10", &[(2, 8, "10 has no unit; write \"10ms\" or \"10s\"")]),
        ("[passive]\ntick = 0.5", &[(2, 8, "0.5 has no unit")]),
        ("[passive]\ntick = \"10\"", &[(2, 8, "10 has no unit")]),
        ("[passive]\ntick = \"10 sekunden\"", &[(2, 8, "\"10 sekunden\" is not a duration")]),
        ("[passive]\ntick = \"-1s\"", &[(2, 8, "not a duration")]),
        ("[passive]\ntick = \"\"", &[(2, 8, "not a duration")]),
        ("[passive]\ntick = true", &[(2, 8, "a duration")]),
        ("[passive]\ntick = \"0s\"", &[(2, 8, "\"0s\" is below 1ms")]),
        ("[passive]\ntick = \"0\"", &[(2, 8, "\"0\" is below 1ms")]),
        ("[passive]\ntick = \"999us\"", &[(2, 8, "is below 1ms")]),
        ("[passive]\ntick = \"25h\"", &[(2, 8, "is above 24h")]),
        ("[passive]\ntick = \"99999999999999999999s\"", &[(2, 8, "not a duration")]),
        ("[passive]\ndevices = \"eth1\"", &[(2, 11, "[\"eth1\"]")]),
        ("[passive]\nrecord = \"here\"", &[(2, 10, "not an absolute path")]),
        ("[passive]\nrecord = true", &[(2, 10, "a path in quotes")]),
        ("[passive]\ndevices = [1]", &[(2, 12, "the name of a network device")]),
        ("[passive]\ndevices = [\"\"]", &[(2, 12, "can't be the name")]),
        ("[passive]\ndevices = [\"a/b\"]", &[(2, 12, "characters")]),
        ("[passive]\ndevices = [\"abcdefghijklmnop\"]", &[(2, 12, "longer than 15 bytes")]),
        ("[passive]\ndevices = [\"eth1\", \"eth1\"]", &[(2, 20, "twice")]),
        ("[passive.detector]\nclients = 0", &[(2, 11, "0 is below 1")]),
        ("[passive.detector]\nclients = 33", &[(2, 11, "33 is above 32")]),
        ("[passive.detector]\nrefusals = 0", &[(2, 12, "0 is below 1")]),
        ("[passive.detector]\nphi = 0.5", &[(2, 7, "0.5 is below 1")]),
        ("[passive.detector]\nphi = -2", &[(2, 7, "-2 is below 1")]),
        ("[passive.detector]\nphi = nan", &[(2, 7, "a number, such as 8.0")]),
        ("[passive.detector]\nphi = inf", &[(2, 7, "inf is above 100")]),
        ("[passive.detector]\nphi = \"8\"", &[(2, 7, "a number, such as 8.0")]),
        ("[passive.detector]\nloss = 0.6", &[(2, 8, "0.6 is above 0.5")]),
        ("[passive.detector]\nfalse-alarms = 0", &[(2, 16, "0 is below 0.001")]),
        ("[passive.detector]\nresent-share = 1.1", &[(2, 16, "1.1 is above 1")]),
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
        ("rise = \"2\"", &[(4, 8, "text (\"2\") is not allowed here; write a whole number")]),
        ("fall = 1979-05-27", &[(4, 8, "a whole number")]),
        ("scheduler = \"wcl\"", &[(4, 13, "\"wcl\" is unknown; write \"rr\", \"wrr\"")]),
        ("on-failure = \"weight 0\"", &[(4, 14, "write \"quiesce\" or \"remove\"")]),
        ("persistent = 300", &[(4, 14, "300 has no unit")]),
        ("persistent = \"1500ms\"", &[(4, 14, "not whole seconds")]),
        ("persistent-netmask = 24", &[(4, 1, "no meaning without \"persistent\"")]),
        ("persistent = \"1s\"\npersistent-netmask = 33", &[(5, 22, "33 is above 32")]),
        ("persistent = \"1s\"\npersistent-netmask = 0", &[(5, 22, "0 is below 1")]),
        ("persistent = \"1s\"\npersistent-netmask = \"255.0.255.0\"", &[(5, 22, "is not a netmask")]),
        ("persistent = \"1s\"\npersistent-netmask = true", &[(5, 22, "the length of a prefix")]),
        ("one-packet = true", &[(4, 14, "UDP only")]),
        ("one-packet = 1", &[(4, 14, "true or false")]),
        ("family = \"ipv6\"", &[(4, 1, "only for a service by firewall mark")]),
        ("tunnel = \"gre\"", &[(4, 10, "a table")]),
        (
            "tunnel = { typ = \"gre\" }",
            &[(4, 10, "tunnel has no \"type\""), (4, 12, "did you mean \"type\"?")],
        ),
        (
            "protocol = \"udp\"\ncheck = { type = \"connect\" }",
            &[(5, 9, "the check has no TCP port in service udp")],
        ),
        ("protocol = \"sctp\"\ncheck = { type = \"http\" }", &[(5, 9, "add port = 80")]),
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
        // The interval is wrong: nothing can be said about the timeout.
        ("check = { interval = \"5 x\", timeout = \"2s\" }", &[(4, 22, "not a duration")]),
        ("check = { type = \"http\", path = \"\" }", &[(4, 33, "does not start with")]),
        ("check = { type = \"http\", path = \"a\" }", &[(4, 33, "write it like \"/health\"")]),
        ("check = { type = \"http\", path = \"/a b\" }", &[(4, 33, "percent-encoded")]),
        ("check = { type = \"http\", path = \"/ä\" }", &[(4, 33, "percent-encoded")]),
        ("check = { type = \"http\", path = \"/a#b\" }", &[(4, 33, "fragment")]),
        ("check = { type = \"http\", path = \"/ HTTP/1.1\\r\\nX: y\" }", &[(4, 33, "forge headers")]),
        ("check = { type = \"http\", host = \"\" }", &[(4, 33, "is empty")]),
        ("check = { type = \"http\", host = \"a\\r\\nX: y\" }", &[(4, 33, "forge headers")]),
        ("check = { type = \"http\", host = \"a b\" }", &[(4, 33, "not a valid host")]),
        ("check = { type = \"http\", host = \"a/b\" }", &[(4, 33, "not a valid host")]),
        ("check = { type = \"http\", host = \"u@a\" }", &[(4, 33, "user name")]),
        ("check = { type = \"http\", status = \"abc\" }", &[(4, 35, "\"200-399\"")]),
        ("check = { type = \"http\", status = \"399-200\" }", &[(4, 35, "\"200-399\"")]),
        ("check = { type = \"http\", status = \"100-199\" }", &[(4, 35, "from 200 to 599")]),
        ("check = { type = \"http\", status = 600 }", &[(4, 35, "from 200 to 599")]),
        (
            "check = { type = \"http\", status = [200] }",
            &[(4, 35, "an array is not allowed here; write status codes")],
        ),
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
        ("10.0.0.1-10.0.0.9", "is not a valid IP address"),
        ("10.0.0.256", "is not a valid IP address"),
        ("10.0.0.01", "is not a valid IP address"),
        (" 10.0.0.1", "is not a valid IP address"),
        ("", "is not a valid IP address"),
        ("web1.example.org:80", "names are not resolved"),
        ("2001:db8::1", "masquerade can't reach 2001:db8::1"),
        ("[2001:db8::1]:80", "the other IP version"),
        ("[2001:db8::1]", "or use \"tunnel\""),
        ("[2001:db8::1]80", "is not a valid IP address"),
        ("[2001:db8::1", "is not a valid IP address"),
        ("[10.0.0.1]:80", "is not a valid IP address"),
        ("[2001:db8::1]:0", "port \"0\""),
        ("[2001:db8::1]:", "port \"\""),
        ("::ffff:10.0.0.1", "write it as IPv4"),
        ("fe80::1", "only good together with a device"),
        ("fe80::1%eth0", "is not a valid IP address"),
        ("::", "unicast"),
        ("[ff02::1]:80", "unicast"),
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
    let cases: &[(&str, Places)] = &[
        (
            "forward = \"nat\"",
            &[(7, 11, "\"nat\" is unknown; write \"masquerade\", \"direct-route\" or \"tunnel\"")],
        ),
        ("forward = \"masquerade\"\ntunnel = { type = \"gre\" }", &[(8, 1, "or add forward = \"tunnel\"")]),
        ("forward = \"tunnel\"\ntunnel = {}", &[(8, 10, "add type = \"ipip\", \"gre\" or \"gue\"")]),
        ("forward = \"tunnel\"\ntunnel = { type = \"vxlan\" }", &[(8, 19, "\"ipip\", \"gre\" or \"gue\"")]),
        ("forward = \"tunnel\"\ntunnel = { type = \"gue\" }", &[(8, 10, "such as port = 6080")]),
        ("forward = \"tunnel\"\ntunnel = { type = \"gue\", port = 0 }", &[(8, 33, "0 is below 1")]),
        (
            "forward = \"tunnel\"\ntunnel = { type = \"gre\", port = 1 }",
            &[(8, 26, "for a tunnel of type \"gre\"")],
        ),
        (
            "forward = \"tunnel\"\ntunnel = { type = \"gre\", checksum = \"remote\" }",
            &[(8, 37, "write \"none\" or \"full\"")],
        ),
        (
            "forward = \"tunnel\"\ntunnel = { type = \"ipip\", checksum = \"full\" }",
            &[(8, 27, "for a tunnel of type \"ipip\"")],
        ),
    ];
    for (lines, expected) in cases {
        assert_faults(&in_server(&format!("address = \"10.0.0.1\"\n{lines}")), expected);
    }
    for method in ["direct-route", "tunnel"] {
        let text = format!("address = \"10.0.0.1:8080\"\nforward = \"{method}\"");
        let piece = format!("{method} can't change the port: the server's is 8080, the service's 80");
        assert_faults(&in_server(&text), &[(6, 11, &piece)]);
    }
}

/// A service by firewall mark but for `line`, which is line 3, and its only server.
fn by_mark(line: &str, server: &str) -> String {
    format!("[[service]]\nmark = 3\n{line}\n[[service.server]]\n{server}\n")
}

#[test]
fn services_without_an_address_or_a_port() {
    let masquerade = "address = \"10.0.0.1\"\nforward = \"masquerade\"";
    let service = |text: &str| good(text).services.remove(0);

    let marked = service(&by_mark("", masquerade));
    assert_eq!(marked.key, ServiceKey::Mark { mark: 3, family: AddressFamily::V4 });
    assert_eq!(marked.name, "mark 3");
    assert_eq!(marked.servers[0].address, "10.0.0.1:0".parse().unwrap());
    assert_eq!(marked.check.kind, CheckKind::Ping, "nobody has said which port answers");
    let marked = service(&by_mark("check = { port = 8080 }", masquerade));
    assert_eq!((marked.check.kind, marked.check.port), (CheckKind::Connect, Some(8080)));
    let marked = service(&by_mark("", "address = \"10.0.0.1:8080\"\nforward = \"masquerade\""));
    assert_eq!(marked.servers[0].address, "10.0.0.1:8080".parse().unwrap());
    assert_eq!(marked.check.kind, CheckKind::Connect);
    let six = "address = \"2001:db8::2\"\nforward = \"direct-route\"";
    let marked = service(&by_mark("family = \"ipv6\"", six));
    assert_eq!(marked.key, ServiceKey::Mark { mark: 3, family: AddressFamily::V6 });

    for address in ["192.0.2.80", "192.0.2.80:0"] {
        let text = in_service("persistent = \"5m\"").replace("192.0.2.80:80", address);
        let every_port = service(&text);
        let key = ServiceKey::Address { protocol: Protocol::Tcp, address: "192.0.2.80:0".parse().unwrap() };
        assert_eq!(every_port.key, key);
        let everyone = Netmask::whole_address(AddressFamily::V4);
        assert_eq!(every_port.persistence, Some(Persistence::new(Duration::from_mins(5), everyone)));
        assert_eq!(every_port.check.kind, CheckKind::Ping);
    }

    let cases: &[(String, Places)] = &[
        (by_mark("protocol = \"tcp\"", masquerade), &[(3, 1, "remove \"protocol\"")]),
        (by_mark("family = \"ipv7\"", masquerade), &[(3, 10, "write \"ipv4\" or \"ipv6\"")]),
        (by_mark("family = \"ipv6\"", masquerade), &[(5, 11, "masquerade can't reach 10.0.0.1")]),
        (by_mark("check = { type = \"connect\" }", masquerade), &[(3, 9, "service mark 3; add port")]),
        (
            by_mark("", masquerade).replace("= 3", "= 0"),
            &[(2, 8, "mark: 0 is below 1, which stands for no mark")],
        ),
        (by_mark("", masquerade).replace("= 3", "= 4294967296"), &[(2, 8, "above 4294967295")]),
        (by_mark("", masquerade).replace("= 3", "= \"3\""), &[(2, 8, "a whole number")]),
        (by_mark("", masquerade).replace("= 3", "= 0x4c565370"), &[(2, 8, "this agent's own probes")]),
        (format!("{0}{0}", by_mark("", masquerade)), &[(8, 8, "service mark 3 is already at line 2")]),
        (in_service("").replace(":80\"", "\""), &[(2, 11, "or make the service persistent")]),
        (in_service("").replace(":80\"", ":0\""), &[(2, 11, "has no port")]),
    ];
    for (text, expected) in cases {
        assert_faults(text, expected);
    }
    let checked = by_mark("", "address = \"10.0.0.1:80\"\nforward = \"direct-route\"");
    assert_eq!(good(&checked).services[0].servers[0].address.port(), 80, "it is what is checked");
    let both = by_mark("", masquerade) + &by_mark("family = \"ipv6\"", six);
    assert_eq!(good(&both).services.len(), 2, "one mark, two IP versions, two services");
}

#[test]
fn servers_of_the_other_ip_version_are_reached_by_tunnel() {
    let text = "[[service]]\naddress = \"[2001:db8::80]:80\"\nforward = \"tunnel\"\n\
                tunnel = { type = \"gue\", port = 6080, checksum = \"remote\" }\n\
                [[service.server]]\naddress = \"10.0.0.1\"\n\
                [[service.server]]\naddress = \"[2001:db8::1]:80\"\ntunnel = { type = \"gre\", checksum = \"full\" }\n\
                [[service.server]]\naddress = \"2001:db8::2\"\ntunnel = { type = \"ipip\" }\n\
                [[service.server]]\naddress = \"2001:db8::3\"\nforward = \"masquerade\"\n";
    let servers: Vec<_> = good(text)
        .services
        .remove(0)
        .servers
        .into_iter()
        .map(|server| (server.address.to_string(), server.method, server.tunnel))
        .collect();
    let gue = Tunnel::Gue { port: 6080, flags: TunnelFlags::REMOTE_CHECKSUM };
    let gre = Tunnel::Gre { flags: TunnelFlags::CHECKSUM };
    let tunnel = ForwardingMethod::Tunnel;
    let expected = [
        ("10.0.0.1:80".to_owned(), tunnel, gue),
        ("[2001:db8::1]:80".to_owned(), tunnel, gre),
        ("[2001:db8::2]:80".to_owned(), tunnel, Tunnel::Ipip),
        ("[2001:db8::3]:80".to_owned(), ForwardingMethod::Masquerade, gue),
    ];
    assert_eq!(servers, expected);
}

#[test]
fn the_check_that_suits_a_protocol() {
    let check = |lines: &str| good(&in_service(lines)).services.remove(0).check;
    assert_eq!(check("protocol = \"tcp\"").kind, CheckKind::Connect);
    assert_eq!(check("protocol = \"udp\"").kind, CheckKind::Ping);
    assert_eq!(check("protocol = \"sctp\"").kind, CheckKind::Ping);
    let faster = check("protocol = \"udp\"\ncheck = { interval = \"500ms\" }");
    assert_eq!((faster.kind, faster.interval), (CheckKind::Ping, Duration::from_millis(500)));
    let other = check("protocol = \"udp\"\ncheck = { type = \"http\", port = 8080 }");
    assert_eq!(other.port, Some(8080));
}

#[test]
fn persistence_and_its_netmask() {
    let persistence = |lines: &str| good(&in_service(lines)).services.remove(0).persistence;
    assert_eq!(persistence(""), None);
    let netmask = |value: &str| {
        let lines = format!("persistent = \"300s\"\npersistent-netmask = {value}");
        persistence(&lines).unwrap().netmask()
    };
    assert_eq!(netmask("24"), Netmask::V4([255, 255, 255, 0].into()));
    assert_eq!(netmask("1"), Netmask::V4([128, 0, 0, 0].into()));
    assert_eq!(netmask("32"), Netmask::V4([255; 4].into()));
    assert_eq!(netmask("\"255.255.240.0\""), Netmask::V4([255, 255, 240, 0].into()));
    let six = in_service("persistent = \"300s\"\npersistent-netmask = 64")
        .replace("192.0.2.80", "[2001:db8::80]")
        .replace("10.0.0.1", "2001:db8::1");
    assert_eq!(good(&six).services[0].persistence.unwrap().netmask(), Netmask::V6(64));
    assert_faults(&six.replace("= 64", "= \"ffff::\""), &[(5, 22, "the length of a prefix, such as 64")]);
    assert_faults(&six.replace("= 64", "= 129"), &[(5, 22, "129 is above 128")]);
    assert_eq!(good(&in_service("protocol = \"udp\"\none-packet = true")).services[0].one_packet, Some(true));
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
        (format!("[[service]]\naddress = \"192.0.2.80:\"\n{server}"), &[(2, 11, "port \"\"")]),
        (format!("[[service]]\naddress = \"[2001:db8::80]:80\"\n{server}"), &[(4, 11, "other IP version")]),
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
                 [[service]]\naddress = \"192.0.2.80:80\"\nprotocol = \"upd\"\n{server}"
            ),
            &[(8, 12, "\"upd\" is unknown")],
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
    let kind = |path: &Path| match crate::config::read_file(path, crate::config::Strictness::Lenient)
        .map(|reading| reading.config)
    {
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
    assert!(matches!(kind(&file), FileErrorKind::NotText { offset: 2, .. }));
    fs::write(&file, vec![b'\n'; (16 << 20) + 1]).unwrap();
    assert!(matches!(kind(&file), FileErrorKind::TooLarge { .. }));
    fs::write(&file, in_service("")).unwrap();
    assert_eq!(
        crate::config::read_file(&file, crate::config::Strictness::Lenient).unwrap().config.services.len(),
        1
    );
    fs::remove_dir_all(&directory).unwrap();
}

/// Writes a model down in the native format.
fn write(config: &Config) -> String {
    let mut text = String::new();
    let d = |duration: &Duration| format!("\"{}\"", format_duration(*duration));
    let metrics = config.agent.metrics.map_or("off".to_owned(), |metrics| metrics.to_string());
    let maintenance = config.agent.maintenance.as_deref().map_or("off", |path| path.to_str().unwrap());
    let on_exit = if config.agent.on_exit == OnExit::Keep { "keep" } else { "remove" };
    let control = config.agent.control.as_deref().map_or("off", |path| path.to_str().unwrap());
    writeln!(text, "[agent]\nmaintenance = {maintenance:?}\nmetrics = {metrics:?}\non-exit = {on_exit:?}\ncontrol = {control:?}").unwrap();
    let PassiveSettings { enabled, devices, log_faults, record, tick, detector, burst } = &config.passive;
    writeln!(text, "[passive]\nenabled = {enabled}\ndevices = {devices:?}\nlog-faults = {log_faults}")
        .unwrap();
    let record = record.as_deref().map_or("off", |path| path.to_str().unwrap());
    writeln!(text, "record = {record:?}\ntick = {}", d(tick)).unwrap();
    writeln!(text, "[passive.detector]\nsilence-masquerade = {}", d(&detector.silence_masquerade)).unwrap();
    writeln!(text, "silence-half-seen = {}", d(&detector.silence_half_seen)).unwrap();
    writeln!(text, "silence-application = {}", d(&detector.silence_application)).unwrap();
    writeln!(text, "clients = {}\nmemory = {}", detector.clients, d(&detector.memory)).unwrap();
    writeln!(text, "false-alarms = {:?}\nphi = {:?}", detector.false_alarms, detector.phi).unwrap();
    writeln!(text, "loss = {:?}\nresent-share = {:?}", detector.loss, detector.resent_share).unwrap();
    writeln!(text, "resent-clients = {}", detector.resent_clients).unwrap();
    writeln!(text, "resent-within = {}", d(&detector.resent_within)).unwrap();
    writeln!(text, "refusals = {}\nbackoff = {}", detector.refusals, d(&detector.backoff)).unwrap();
    writeln!(text, "backoff-max = {}", d(&detector.backoff_max)).unwrap();
    writeln!(text, "[passive.burst]\ngap = {}\ntimeout = {}", d(&burst.gap), d(&burst.timeout)).unwrap();
    writeln!(text, "server-rate = {}\ntotal-rate = {}", burst.server_rate, burst.total_rate).unwrap();
    config.services.iter().for_each(|service| write_service(&mut text, service));
    text
}

fn write_service(text: &mut String, service: &VirtualService) {
    writeln!(text, "[[service]]\nname = {:?}\nscheduler = \"{}\"", service.name, service.scheduler).unwrap();
    match service.key {
        ServiceKey::Address { protocol, address } => {
            writeln!(text, "address = \"{address}\"\nprotocol = \"{protocol}\"").unwrap();
        }
        ServiceKey::Mark { mark, family } => {
            let family = if family == AddressFamily::V4 { "ipv4" } else { "ipv6" };
            writeln!(text, "mark = {mark}\nfamily = \"{family}\"").unwrap();
        }
    }
    if let Some(persistence) = service.persistence {
        writeln!(text, "persistent = \"{}\"", format_duration(persistence.timeout())).unwrap();
        match persistence.netmask() {
            Netmask::V4(mask) => writeln!(text, "persistent-netmask = \"{mask}\"").unwrap(),
            Netmask::V6(length) => writeln!(text, "persistent-netmask = {length}").unwrap(),
        }
    }
    if let Some(one_packet) = service.one_packet {
        writeln!(text, "one-packet = {one_packet}").unwrap();
    }
    let on_failure = if service.on_failure == OnFailure::Quiesce { "quiesce" } else { "remove" };
    writeln!(text, "fall = {}\nrise = {}\non-failure = {on_failure:?}", service.fall, service.rise).unwrap();
    policy::write_policy(text, &service.policy);
    let Check { kind: question, interval, timeout, port, soft_interval, .. } = &service.check;
    writeln!(text, "[service.check]\ninterval = \"{}\"", format_duration(*interval)).unwrap();
    writeln!(text, "timeout = \"{}\"", format_duration(*timeout)).unwrap();
    if let Some(soft) = soft_interval {
        writeln!(text, "soft-interval = \"{}\"", format_duration(*soft)).unwrap();
    }
    if let Some(port) = port {
        writeln!(text, "port = {port}").unwrap();
    }
    match question {
        CheckKind::Ping => writeln!(text, "type = \"ping\"").unwrap(),
        CheckKind::Connect => writeln!(text, "type = \"connect\"").unwrap(),
        CheckKind::Http(HttpCheck { pages, .. }) => {
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
        let address = match server.address.port() {
            0 => server.address.ip().to_string(),
            _ => server.address.to_string(),
        };
        writeln!(text, "[[service.server]]\naddress = \"{address}\"").unwrap();
        if server.method == ForwardingMethod::Tunnel {
            writeln!(text, "tunnel = {}", tunnel_words(server.tunnel)).unwrap();
        }
        writeln!(text, "forward = \"{}\"\nweight = {}", server.method, server.weight).unwrap();
        if let (Some(upper), Some(lower)) = (server.upper_threshold, server.lower_threshold) {
            writeln!(text, "upper-threshold = {upper}\nlower-threshold = {lower}").unwrap();
        }
    }
}

fn tunnel_words(tunnel: Tunnel) -> String {
    let checksum = |flags| match flags {
        TunnelFlags::CHECKSUM => "full",
        TunnelFlags::REMOTE_CHECKSUM => "remote",
        _ => "none",
    };
    match tunnel {
        Tunnel::Ipip => "{ type = \"ipip\" }".to_owned(),
        Tunnel::Gre { flags } => format!("{{ type = \"gre\", checksum = \"{}\" }}", checksum(flags)),
        Tunnel::Gue { port, flags } => {
            format!("{{ type = \"gue\", port = {port}, checksum = \"{}\" }}", checksum(flags))
        }
        Tunnel::Other { .. } => panic!("{tunnel:?}"),
    }
}

fn duration(milliseconds: RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    milliseconds.prop_map(Duration::from_millis)
}

prop_compose! {
    fn check()(
        question in prop_oneof![
            Just(CheckKind::Ping),
            Just(CheckKind::Connect),
            ("/[a-z0-9%?&=]{0,9}", option::of("[a-z]{1,9}(:[1-9][0-9]{1,3})?"), 200_u16..=399, 0_u16..=200,
             option::of("[ -~äß]{1,9}")).prop_map(|(path, host, low, length, text)| {
                let status = StatusCodes::from(low..=low + length);
                let page = HttpPage { path, host, status, text, ..HttpPage::default() };
                CheckKind::Http(HttpCheck { pages: vec![page], ..HttpCheck::get("/") })
            }),
        ],
        interval in duration(500..=86_400_000),
        timeout in duration(1..=500),
        soft_interval in option::of(duration(1..=500)),
        port in 1_u16..,
    ) -> Check {
        // A check without a port is only for those whose servers have one that speaks TCP.
        let port = if question == CheckKind::Ping { None } else { Some(port) };
        Check { kind: question, interval, timeout, port, soft_interval, ..Check::default() }
    }
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    let flags = |known: &[TunnelFlags]| select(known.to_vec());
    let gre = flags(&[TunnelFlags::NO_CHECKSUM, TunnelFlags::CHECKSUM]);
    let gue = flags(&[TunnelFlags::NO_CHECKSUM, TunnelFlags::CHECKSUM, TunnelFlags::REMOTE_CHECKSUM]);
    prop_oneof![
        Just(Tunnel::Ipip),
        gre.prop_map(|flags| Tunnel::Gre { flags }),
        (1_u16.., gue).prop_map(|(port, flags)| Tunnel::Gue { port, flags }),
    ]
}

/// An address of this IP version that tells `host` from others.
fn address(family: AddressFamily, host: u8) -> IpAddr {
    match family {
        AddressFamily::V4 => IpAddr::from([10, 0, 0, host]),
        AddressFamily::V6 => format!("2001:db8::{host:x}").parse().unwrap(),
    }
}

/// Servers that can be in a service of this kind: `port` is the service's, where it has one.
fn servers(
    family: AddressFamily,
    port: Option<u16>,
    translates: bool,
) -> impl Strategy<Value = Vec<RealServer>> {
    use ForwardingMethod::{DirectRoute, Masquerade, Tunnel};
    let method = select(vec![Masquerade, DirectRoute, Tunnel]);
    let thresholds = option::of((0_u32..5, any::<u32>()));
    let server = (1_u8..=254, (1_u16.., any::<bool>(), any::<u16>()), method, tunnel(), thresholds);
    proptest::collection::vec(server, 1..4).prop_map(move |servers| {
        let mut servers: Vec<_> = servers
            .into_iter()
            .map(|(host, (own, other_family, weight), method, tunnel, thresholds)| {
                let kept = port.unwrap_or(0);
                let own = if method == Masquerade && translates { own } else { kept };
                let other = if family == AddressFamily::V4 { AddressFamily::V6 } else { AddressFamily::V4 };
                let of = if method == Tunnel && other_family { other } else { family };
                let tunnel = if method == Tunnel { tunnel } else { crate::model::Tunnel::default() };
                let address = SocketAddr::new(address(of, host), own);
                RealServer {
                    tunnel,
                    weight: Weight(weight),
                    upper_threshold: thresholds.map(|(lower, more)| more.max(lower)),
                    lower_threshold: thresholds.map(|(lower, _)| lower),
                    ..RealServer::new(address, method)
                }
            })
            .collect();
        servers.sort_by_key(|server| server.address);
        servers.dedup_by_key(|server| server.address);
        servers
    })
}

fn persistence(family: AddressFamily) -> impl Strategy<Value = Persistence> {
    (1_u64..=86_400, 1_u32..=32, 1_u32..=128).prop_map(move |(seconds, short, long)| {
        let netmask = match family {
            AddressFamily::V4 => Netmask::V4((u32::MAX << (32 - short)).into()),
            AddressFamily::V6 => Netmask::V6(long),
        };
        Persistence::new(Duration::from_secs(seconds), netmask)
    })
}

/// What names a service, its persistence and its servers, which depend on each other.
fn front() -> impl Strategy<Value = (ServiceKey, Option<Persistence>, Vec<RealServer>)> {
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let kind = (protocol, option::of(1_u16..), any::<bool>(), any::<bool>());
    (select(vec![AddressFamily::V4, AddressFamily::V6]), kind).prop_flat_map(
        |(family, (protocol, port, by_mark, persistent))| {
            let port = port.filter(|_| !by_mark);
            let needs_persistence = !by_mark && port.is_none();
            let is_persistent = persistent || needs_persistence;
            let key = if by_mark {
                ServiceKey::Mark { mark: 1, family }
            } else {
                ServiceKey::Address {
                    protocol,
                    address: SocketAddr::new(address(family, 0), port.unwrap_or(0)),
                }
            };
            let persistence = persistence(family).prop_map(move |some| is_persistent.then_some(some));
            (Just(key), persistence, servers(family, port, port.is_some() || (by_mark && !is_persistent)))
        },
    )
}

prop_compose! {
    fn service()(
        fall in 1_u32..=100,
        rise in 1_u32..=100,
        scheduler in select(&Scheduler::NAMES[..]),
        on_failure in select(&[OnFailure::Quiesce, OnFailure::Remove][..]),
        check in check(),
        ((key, persistence, servers), policy) in front().prop_flat_map(|front| {
            let sum = front.2.iter().map(|server| u32::from(server.weight.0)).sum();
            (Just(front), policy::policy(sum))
        }),
        one_packet in option::of(any::<bool>()),
    ) -> VirtualService {
        let udp = matches!(key, ServiceKey::Address { protocol: Protocol::Udp, .. } | ServiceKey::Mark { .. });
        VirtualService {
            name: String::new(),
            key,
            scheduler: scheduler.parse().unwrap(),
            persistence,
            one_packet: one_packet.filter(|_| udp),
            scheduler_flags: None,
            persistence_engine: None,
            fall: fall.try_into().unwrap(),
            rise: rise.try_into().unwrap(),
            on_failure,
            check,
            further: FurtherChecks::default(),
            servers,
            policy,
            notify: Notifications::default(),
            on_exit: None,
        }
    }
}

prop_compose! {
    fn passive()(
        (enabled, log_faults) in any::<(bool, bool)>(),
        record in option::of("/[a-z]{1,9}"),
        devices in proptest::collection::btree_set("[a-z]{1,3}[0-9]{1,3}", 0..3),
        durations in proptest::collection::vec(duration(1..=5000), 9),
        (clients, resent_clients, refusals) in (1_u32..=32, 1_u32..=32, 1_u32..=100),
        (false_alarms, phi) in (0.001..=1000.0, 1.0..=100.0),
        (loss, resent_share) in (0.0001..=0.5, 0.1..=1.0),
        (server_rate, total_rate) in (1_u32..=1_000_000, 1_u32..=1_000_000),
    ) -> PassiveSettings {
        let detector = DetectorSettings {
            silence_masquerade: durations[0],
            silence_half_seen: durations[1],
            silence_application: durations[6],
            clients, false_alarms, phi, loss, refusals, resent_clients, resent_share,
            memory: durations[7],
            resent_within: durations[8],
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
        let record = record.map(Into::into);
        PassiveSettings { enabled, devices, log_faults, record, tick: durations[5], detector, burst }
    }
}

/// What a service says, all others may say as well.
fn unlisted() -> impl Strategy<Value = Unlisted> {
    service().prop_map(|usual| {
        let VirtualService { fall, rise, on_failure, check, further, policy, .. } = usual;
        let policy = PoolPolicy { backups: Vec::new(), ..policy };
        Unlisted { fall, rise, on_failure, check, asks: true, further, policy }
    })
}

prop_compose! {
    fn config()(
        metrics in option::of((any::<[u8; 4]>(), 1_u16..).prop_map(SocketAddr::from)),
        on_exit in select(&[OnExit::Keep, OnExit::Remove][..]),
        control in option::of("/[a-z/]{1,30}".prop_map(PathBuf::from)),
        maintenance in option::of("/[a-z/]{1,30}".prop_map(PathBuf::from)),
        passive in passive(),
        mut services in proptest::collection::vec(service(), 1..4),
    ) -> Config {
        for (service, number) in services.iter_mut().zip(1_u8..) {
            match &mut service.key {
                ServiceKey::Address { address: vip, .. } => {
                    vip.set_ip(match vip.ip().into() {
                        AddressFamily::V4 => [192, 0, 2, number].into(),
                        AddressFamily::V6 => format!("2001:db8:1::{number}").parse().unwrap(),
                    });
                }
                ServiceKey::Mark { mark, .. } => *mark = number.into(),
            }
            service.name = format!("service {number} \"ä\\");
        }
        Config { agent: AgentSettings { metrics, on_exit, control, maintenance, ..AgentSettings::default() }, passive, services, unlisted: Unlisted::default() }
    }
}

/// Pieces that files are made of, put together at random: much closer to the reader's branches than any characters.
fn scraps() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "[[service]]",
        "[[service.server]]",
        "[[service.backup]]",
        "quorum",
        "slow-start",
        "combine",
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
    fn what_the_writer_writes_is_read(config in config(), usual in option::of(unlisted())) {
        let config = Config { unlisted: usual.unwrap_or_default(), ..config };
        let text = to_toml(&config);
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

#[test]
fn a_timeout_above_the_interval_is_a_warning() {
    let text = in_service("check = { interval = \"500ms\", timeout = \"1s\" }");
    let reading = read_in_mode(&text, "test.toml".as_ref(), None).unwrap();
    let [warning] = &reading.warnings[..] else { panic!("{:?}", reading.warnings) };
    assert_eq!((warning.place.line, warning.place.column), (4, 41));
    assert!(warning.kind.to_string().contains("timeout 1s is above the interval 500ms"));
}

#[test]
fn sysctls_may_be_set_or_left_alone() {
    let connections = |keys: &str| {
        let text = format!("[agent.connections]\n{keys}\n{}", in_service(""));
        let config = good(&text);
        assert_eq!(good(&to_toml(&config)), config, "written and read again");
        let ConnectionSettings { expire_nodest, expire_quiescent, reuse_mode } = config.agent.connections;
        (expire_nodest, expire_quiescent, reuse_mode)
    };
    assert_eq!(connections(""), (Some(true), Some(true), None));
    assert_eq!(connections("expire-nodest = false\nreuse-mode = 3"), (Some(false), Some(true), Some(3)));
    assert_eq!(connections("expire-nodest = \"keep\"\nexpire-quiescent = \"keep\""), (None, None, None));
}
