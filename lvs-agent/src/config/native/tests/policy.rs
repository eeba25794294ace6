//! Pools: quorum, backups, slow start, damping, several checks.

use super::*;
use crate::model::{Backup, Combine, CommandLine, FlapDamping, OnContradiction, Quorum, StartPolicy};

/// Writes a policy down, but for its backups.
pub(super) fn write_policy(text: &mut String, policy: &PoolPolicy) {
    let PoolPolicy {
        backups: _,
        quorum,
        slow_start,
        start,
        fast_share,
        flap,
        confirm_timeout,
        on_contradiction,
    } = policy;
    let d = |duration: &Duration| format!("\"{}\"", format_duration(*duration));
    if *quorum != PoolPolicy::default().quorum {
        let (weight, hysteresis) = (quorum.weight, quorum.hysteresis);
        let argv = |command: &CommandLine| {
            let mut words = vec![command.program.to_str().unwrap().to_owned()];
            words.extend(command.arguments.iter().cloned());
            words
        };
        let up = quorum.up.as_ref().map_or(String::new(), |up| format!(", up = {:?}", argv(up)));
        let down = quorum.down.as_ref().map_or(String::new(), |down| format!(", down = {:?}", argv(down)));
        writeln!(text, "quorum = {{ weight = {weight}, hysteresis = {hysteresis}{up}{down} }}").unwrap();
    }
    let slow_start = slow_start.as_ref().map_or("\"off\"".to_owned(), d);
    let start = if *start == StartPolicy::In { "in" } else { "out" };
    writeln!(text, "slow-start = {slow_start}\nstart = \"{start}\"\nfast-share = {fast_share:?}").unwrap();
    let confirm_timeout = confirm_timeout.as_ref().map_or("\"check\"".to_owned(), d);
    writeln!(text, "confirm-timeout = {confirm_timeout}").unwrap();
    let penalty = if flap.penalty.is_zero() { "\"off\"".to_owned() } else { d(&flap.penalty) };
    let (penalty_max, memory) = (d(&flap.penalty_max), d(&flap.memory));
    writeln!(text, "flap = {{ penalty = {penalty}, penalty-max = {penalty_max}, memory = {memory} }}")
        .unwrap();
    let on_contradiction = if *on_contradiction == OnContradiction::Remove { "remove" } else { "report" };
    writeln!(text, "on-contradiction = \"{on_contradiction}\"").unwrap();
}

fn command() -> impl Strategy<Value = Option<CommandLine>> {
    let command = ("/[a-z]{1,9}", proptest::collection::vec("[ -~]{0,5}", 0..3));
    option::of(command.prop_map(|(program, arguments)| CommandLine { program: program.into(), arguments }))
}

prop_compose! {
    /// A policy of a service whose servers' weights have this sum.
    pub(super) fn policy(sum: u32)(
        (weight, hysteresis) in (1..=sum.max(1)).prop_flat_map(move |weight| (Just(weight), 0..=sum.max(1) - weight)),
        (up, down) in (command(), command()),
        slow_start in option::of(duration(1..=86_400_000)),
        start in select(&[StartPolicy::Out, StartPolicy::In][..]),
        fast_share in 0.0..=1.0,
        confirm_timeout in option::of(duration(1..=86_400_000)),
        on_contradiction in select(&[OnContradiction::Report, OnContradiction::Remove][..]),
        (penalty, longer, memory) in (duration(0..=1000), duration(1..=1000), duration(1..=86_400_000)),
    ) -> PoolPolicy {
        let quorum = Quorum { weight: weight.try_into().unwrap(), hysteresis, up, down };
        let quorum = if sum == 0 { PoolPolicy::default().quorum } else { quorum };
        let flap = FlapDamping { penalty, penalty_max: penalty + longer, memory };
        PoolPolicy { backups: vec![], quorum, slow_start, start, fast_share, flap, confirm_timeout, on_contradiction }
    }
}

fn service(lines: &str) -> VirtualService {
    good(&in_service(lines)).services.remove(0)
}

fn with_backup(lines: &str) -> String {
    in_service("") + "[[service.backup]]\n" + lines
}

fn backup(lines: &str) -> Backup {
    good(&with_backup(lines)).services.remove(0).policy.backups.remove(0)
}

/// The scheduler, its flags, what is said of a failure; what is done then, whether the fallback flag is added, and
/// whether there is a warning.
type SchedulerCase = (&'static str, &'static str, &'static str, OnFailure, bool, bool);

#[test]
fn schedulers_that_choose_by_a_hash_refuse_no_clients_unless_the_file_says_so() {
    use OnFailure::{Quiesce, Remove};
    let cases: [SchedulerCase; 12] = [
        ("wlc", "", "", Quiesce, false, false),
        ("wlc", "[]", "auto", Quiesce, false, false),
        ("sh", "", "", Quiesce, true, false),
        ("mh", "", "quiesce", Quiesce, true, false),
        ("sh", "", "remove", Remove, true, false),
        ("sh", "[\"flag-1\", \"flag-2\"]", "", Quiesce, false, false),
        ("mh", "[\"flag-2\"]", "", Remove, false, false),
        ("mh", "[\"flag-2\"]", "auto", Remove, false, false),
        ("sh", "[]", "quiesce", Quiesce, false, true),
        ("mh", "[\"flag-2\"]", "quiesce", Quiesce, false, true),
        ("dh", "", "", Remove, false, false),
        ("dh", "[\"flag-1\"]", "quiesce", Quiesce, false, true),
    ];
    for (scheduler, flags, on_failure, expected, added, warned) in cases {
        let mut line = format!("scheduler = \"{scheduler}\"");
        if !flags.is_empty() {
            write!(line, "\nscheduler-flags = {flags}").unwrap();
        }
        if !on_failure.is_empty() {
            write!(line, "\non-failure = \"{on_failure}\"").unwrap();
        }
        let reading = read_in_mode(&in_service(&line), "test.toml".as_ref(), None).unwrap();
        let service = &reading.config.services[0];
        assert_eq!((service.on_failure(), service.adds_fallback()), (expected, added), "{line}");
        let warnings: Vec<_> = reading.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings.iter().any(|warning| warning.contains("refuses")),
            warned,
            "{line}: {warnings:?}"
        );
    }
}

#[test]
fn everything_about_a_pool() {
    let policy = service(
        r#"
        quorum = { weight = 1, up = ["/bin/up", "web"], down = ["/bin/down"] }
        slow-start = "30s"
        start = "in"
        fast-share = 0.25
        confirm-timeout = "300ms"
        flap = { penalty = "3s", penalty-max = "30s", memory = "10m" }
        on-contradiction = "remove"
        "#,
    )
    .policy;
    let command = |program: &str, arguments: &[&str]| {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Some(CommandLine { program: program.into(), arguments })
    };
    let expected = PoolPolicy {
        backups: vec![],
        quorum: Quorum {
            weight: 1.try_into().unwrap(),
            hysteresis: 0,
            up: command("/bin/up", &["web"]),
            down: command("/bin/down", &[]),
        },
        slow_start: Some(Duration::from_secs(30)),
        start: StartPolicy::In,
        fast_share: 0.25,
        flap: FlapDamping {
            penalty: Duration::from_secs(3),
            penalty_max: Duration::from_secs(30),
            memory: Duration::from_mins(10),
        },
        confirm_timeout: Some(Duration::from_millis(300)),
        on_contradiction: OnContradiction::Remove,
    };
    assert_eq!(policy, expected);
    assert_eq!(service("flap = { penalty = \"off\" }").policy.flap.penalty, Duration::ZERO);
    assert_eq!(service("slow-start = \"off\"").policy.slow_start, None);
}

#[test]
fn a_service_overrides_the_defaults_key_by_key() {
    let text = "[defaults]\nslow-start = \"10s\"\nfast-share = 0.1\ncombine = \"any\"\n".to_owned()
        + &in_service("slow-start = \"off\"");
    let service = good(&text).services.remove(0);
    assert_eq!((service.policy.slow_start, service.further.combine), (None, Combine::Any));
    assert!((service.policy.fast_share - 0.1).abs() < f64::EPSILON);
}

#[test]
fn several_checks() {
    let kinds = |service: &VirtualService, server: usize| {
        let checks = service.checks_of(&service.servers[server]);
        let kind =
            |question: &CheckKind| format!("{question:?}").split(['(', ' ']).next().unwrap().to_owned();
        checks.map(|check| kind(&check.kind)).collect::<Vec<_>>().join(" ")
    };
    let lines = "check = [{ type = \"ping\" }, { type = \"http\" }]\ncombine = \"any\"";
    let one = service(lines);
    assert_eq!((kinds(&one, 0).as_str(), one.further.combine), ("Ping Http", Combine::Any));
    let own = "check = { type = \"on\" }\n[[service.server]]\naddress = \"10.0.0.2\"\n\
               check = [{ type = \"ping\" }, { type = \"connect\" }, { type = \"off\" }]\ncombine = \"any\"\n";
    let text = in_service(lines) + own;
    let service = good(&text).services.remove(0);
    assert_eq!([kinds(&service, 0), kinds(&service, 1)], ["On", "Ping Connect Off"]);
    assert_eq!(service.servers[0].further.combine, Combine::All);
    assert_eq!(service.servers[1].further.combine, Combine::Any);
}

#[test]
fn intervals_of_checks() {
    let check = |lines: &str| service(&format!("check = {{ {lines} }}")).check;
    let ms = Duration::from_millis;
    for (lines, soft) in [
        ("interval = \"1s\"", 250),
        ("interval = \"200ms\"", 100),
        ("interval = \"50ms\"", 50),
        ("interval = \"1m\"", 15_000),
        ("soft-interval = \"20ms\"", 20),
    ] {
        assert_eq!(check(lines).soft_interval(), ms(soft), "{lines}");
    }
    let http = check("type = \"http\", connects-between = 5");
    assert_eq!(http.connects_between, 5);
}

#[test]
fn backups() {
    let usual = backup("address = \"10.0.0.9:8080\"\nweight = 7\nforward = \"masquerade\"");
    assert_eq!((usual.server.address.port(), usual.server.weight), (8080, Weight(7)));
    assert_eq!(
        usual.check.map(|check| check.kind),
        Some(CheckKind::Connect),
        "what suits it, not the service's check"
    );
    let local = backup("address = \"127.0.0.1\"\nforward = \"direct-route\"\nchecked = false");
    assert_eq!((local.server.address, local.check), ("127.0.0.1:80".parse().unwrap(), None));
    let own = backup("address = \"10.0.0.9\"\ncheck = { type = \"http\", path = \"/sorry\" }");
    assert!(matches!(own.check.unwrap().kind, CheckKind::Http(_)));
    let marked = "[[service]]\nmark = 1\nforward = \"masquerade\"\n[[service.server]]\naddress = \"10.0.0.1\"\n\
                  [[service.backup]]\naddress = \"10.0.0.9\"\n";
    let marked = good(marked).services.remove(0);
    assert_eq!(marked.policy.backups[0].check.as_ref().unwrap().kind, CheckKind::Ping);
}

#[test]
fn thresholds_of_a_server() {
    let server = |lines: &str| {
        let text = in_server(&format!("address = \"10.0.0.1\"\nforward = \"masquerade\"\n{lines}"));
        let server = good(&text).services.remove(0).servers.remove(0);
        (server.upper_threshold, server.lower_threshold)
    };
    assert_eq!(server(""), (None, None));
    assert_eq!(server("upper-threshold = 100\nlower-threshold = 80"), (Some(100), Some(80)));
    assert_eq!(server("upper-threshold = 0"), (Some(0), None));
}

#[test]
fn faults() {
    let cases: &[(&str, Places)] = &[
        ("quorum = 2", &[(4, 10, "a table")]),
        ("quorum = { weight = 0 }", &[(4, 21, "0 is below 1")]),
        ("quorum = { weight = 2 }", &[(4, 10, "is 2, and all servers' weights are 1")]),
        ("quorum = { hysteresis = -1 }", &[(4, 25, "-1 is below 0")]),
        ("quorum = { up = \"/bin/true\" }", &[(4, 17, "in brackets")]),
        ("quorum = { up = [\"true\"] }", &[(4, 17, "not an absolute path")]),
        ("quorum = { wait = 1 }", &[(4, 12, "unknown key \"wait\" in quorum")]),
        ("slow-start = 30", &[(4, 14, "30 has no unit")]),
        ("start = \"maybe\"", &[(4, 9, "\"in\"")]),
        ("fast-share = 1.5", &[(4, 14, "1.5 is above 1")]),
        ("flap = { penalty = \"2m\" }", &[(4, 20, "penalty 2m is above penalty-max 1m")]),
        ("flap = { penalty-max = \"1s\" }", &[(4, 24, "penalty 2s is above penalty-max 1s")]),
        ("flap = \"off\"", &[(4, 8, "a table")]),
        ("check = []", &[(1, 1, "there is no check in \"check\"")]),
        ("check = [1]", &[(4, 10, "a table for each")]),
        ("combine = \"some\"", &[(4, 11, "\"all\" or \"any\"")]),
        ("check = [{ type = \"ping\" }, { type = \"http\", page = 1 }]", &[(4, 46, "unknown key \"page\"")]),
        ("check = { soft-interval = \"2s\" }", &[(4, 27, "soft-interval 2s is above the interval 1s")]),
        ("check = { connects-between = 5 }", &[(4, 11, "has no meaning for a check of type \"connect\"")]),
        ("check = { type = \"ping\", connects-between = 5 }", &[(4, 26, "type \"ping\"")]),
        ("check = { type = \"http\", connects-between = 10001 }", &[(4, 45, "above 10000")]),
    ];
    for (lines, expected) in cases {
        assert_faults(&in_service(lines), expected);
    }
    let server = "address = \"10.0.0.1\"\nforward = \"masquerade\"\n";
    let cases: [(&str, Places); 3] = [
        ("lower-threshold = 5", &[(8, 19, "lower-threshold 5 is above upper-threshold")]),
        ("upper-threshold = 4\nlower-threshold = 5", &[(9, 19, "lower-threshold 5")]),
        ("upper-threshold = -1", &[(8, 19, "-1 is below 0")]),
    ];
    for (lines, expected) in cases {
        assert_faults(&in_server(&format!("{server}{lines}")), expected);
    }
    let cases: [(&str, Places); 4] = [
        ("", &[(7, 1, "[[service.backup]] has no \"address\"")]),
        (
            "address = \"10.0.0.1\"",
            &[(8, 11, "10.0.0.1:80 is a server of this service, at line 6, and can't take over")],
        ),
        ("address = \"10.0.0.9\"\nchecked = false\ncheck = {}", &[(7, 1, "no meaning with checked = false")]),
        ("address = \"10.0.0.9\"\ncheck = [{}, {}]", &[(7, 1, "a backup has one check")]),
    ];
    for (lines, expected) in cases {
        assert_faults(&with_backup(lines), expected);
    }
}
