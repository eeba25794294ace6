//! The native format: each key, each fault with its place, and what is written is read.

mod announce;
mod client;
mod faults;
mod inheritance;
mod modes;
mod notify;
mod on_failure;
mod policy;
mod round_trip;
mod secrets;
mod services;
mod sync;
mod vip;

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
use crate::{
    config::diagnostics::{ConfigError, FileErrorKind},
    model::{
        AddressFamily, AgentSettings, AnnounceSettings, AttachOrder, BurstSettings, Check, CheckKind, Config,
        ConnectionSettings, DetectorSettings, ForwardingMethod, FurtherChecks, HttpCheck, HttpPage,
        IdleConnection, MailAbout, MailRelay, MailSettings, Netmask, Notifications, OnExit, OnFailure,
        PassiveSettings, Persistence, PoolPolicy, Protocol, RealServer, RoleSetting, Scheduler,
        SchedulerFlags, ScriptUser, SecondChance, ServiceKey, StatusCodes, TcxOrder, TrackAtStop, TrackFiles,
        TrackValue, Tunnel, TunnelFlags, Unlisted, Via, VipAnnouncement, VirtualService, Weight,
        defaults::ANNOUNCE_UP_AFTER,
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

fn duration(milliseconds: RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    milliseconds.prop_map(Duration::from_millis)
}

prop_compose! {
    fn check()(
        kind in prop_oneof![
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
        let port = if kind == CheckKind::Ping { None } else { Some(port) };
        Check { kind, interval, timeout, port, soft_interval, ..Check::default() }
    }
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
        on_failure: None,
        check: Check {
            kind: CheckKind::Connect,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            port: None,
            connect_to: None,
            via: Via::default(),
            soft_interval: None,
            connects_between: 0,
        },
        further: FurtherChecks::default(),
        idle_connection: IdleConnection::Auto,
        second_chance: SecondChance::Off,
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
        announce: None,
    };
    let passive = PassiveSettings {
        enabled: true,
        devices: vec![],
        log_faults: false,
        record: None,
        tick: Duration::from_millis(10),
        order: AttachOrder { tcx: TcxOrder::First, clsact_priority: 19_542.try_into().unwrap() },
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
            hint_rate: 100.try_into().unwrap(),
        },
    };
    let agent = AgentSettings {
        metrics: Some("127.0.0.1:9747".parse().unwrap()),
        on_exit: OnExit::Keep,
        control: Some("/run/lvs-agent/control".into()),
        ..AgentSettings::default()
    };
    let (unlisted, role, announce) =
        (Unlisted::default(), RoleSetting::default(), AnnounceSettings::default());
    let services = vec![service];
    assert_eq!(config, Config { agent, passive, services, announce, unlisted, role, sync: None });
}

#[test]
fn the_example_says_what_holds_anyway() {
    let config = good(include_str!("example.toml"));
    assert_eq!(
        config.agent,
        AgentSettings {
            callback: config.agent.callback.clone(),
            on_shutdown: config.agent.on_shutdown.clone(),
            script_user: ScriptUser::parse("nobody"),
            ..AgentSettings::default()
        }
    );
    assert_eq!(config.passive, PassiveSettings::default());
    let track_files = Some(TrackFiles {
        folder: "/run/lvs-agent/track".into(),
        value: TrackValue::Fault,
        up_after: ANNOUNCE_UP_AFTER,
        at_stop: TrackAtStop::Keep,
    });
    assert_eq!(config.announce, AnnounceSettings { track_files, ..AnnounceSettings::default() });
    let service = &config.services[0];
    let announced = VipAnnouncement { on_exit: Some(OnExit::Keep), ..VipAnnouncement::on("lvs0") };
    assert_eq!(service.announce, Some(announced));
    let policy = PoolPolicy { backups: service.policy.backups.clone(), ..PoolPolicy::default() };
    assert_eq!((&service.policy, policy.backups.len()), (&policy, 1));
    let Check { timeout, soft_interval, .. } = service.check;
    assert_eq!(policy.backups[0].check, Some(Check { timeout, soft_interval, ..Check::default() }));
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
    assert_eq!(service.on_failure, Some(OnFailure::Remove));
    assert!(matches!(service.check.kind, CheckKind::Http(_)));
    assert_eq!(service.check.interval, Duration::from_secs(2), "what a check doesn't say holds as above");
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
