//! What ldirectord's files mean here.

mod accepted;
mod flush_left;
mod messages;
mod quotes;
mod unresolved;

use crate::model::MailRelay;
use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::{names::ListedNames, *};
use crate::{
    config::{diagnostics::WarningKind, native},
    model::{
        Check, CheckKind, CommandConvention, ForwardingMethod, MailAbout, Netmask, OnFailure, Persistence,
        StatusCodes, Transport, VirtualService, Weight,
    },
};

const PUBLISHED: &str = include_str!("published.cf");

fn names() -> ListedNames {
    ListedNames {
        hosts: vec![
            ("web1", IpAddr::from([10, 0, 0, 1])),
            ("vip", IpAddr::from([192, 0, 2, 80])),
            ("web6", "2001:db8::1".parse().unwrap()),
        ],
        services: "http 80/tcp www\nhttp 80/udp\ndomain 53/tcp\ndomain 53/udp\n",
    }
}

fn reading(text: &str) -> Result<Reading, String> {
    let read = read_with(text, "l.cf".as_ref(), Strictness::Lenient, &names());
    read.map_err(|error| error.to_string())
}

fn good(text: &str) -> Config {
    reading(text).unwrap_or_else(|error| panic!("{error}")).config
}

/// The service that these lines make, with one server unless they have some.
fn service(lines: &str) -> VirtualService {
    let reals = if lines.contains("real") { "" } else { "    real=10.0.0.1:80 masq\n" };
    let head = if lines.starts_with("virtual") { "" } else { "virtual=192.0.2.80:80\n" };
    let body: String = lines
        .lines()
        .map(|line| if line.starts_with("virtual") { format!("{line}\n") } else { format!("    {line}\n") })
        .collect();
    good(&format!("{head}{body}{reals}")).services.remove(0)
}

/// Lines and columns of all warnings, and what they say.
fn warnings(text: &str) -> Vec<(usize, usize, String)> {
    let warnings = reading(text).unwrap_or_else(|error| panic!("{error}")).warnings;
    warnings.into_iter().map(|one| (one.place.line, one.place.column, one.kind.to_string())).collect()
}

fn assert_fault(text: &str, line: usize, words: &str) {
    match reading(text) {
        Ok(reading) => panic!("{text}\nis read as {reading:#?}"),
        Err(error) => {
            assert!(error.contains(&format!("l.cf:{line}:")), "{text}\n{error}");
            assert!(error.contains(words), "{text}\n{error}");
        }
    }
}

#[test]
fn the_published_example_loads_as_published() {
    assert!(is_ldirectord(PUBLISHED));
    let config = good(PUBLISHED);
    assert!(config.agent.autoreload);
    assert_eq!(config.agent.log, LogTarget::File("/var/log/ldirectord.log".into()));
    assert_eq!(config.agent.on_exit, OnExit::Remove);
    let [service] = &config.services[..] else { panic!("one service") };
    assert_eq!(service.key.to_string(), "mark 3");
    assert_eq!(service.scheduler.name(), "wrr");
    assert_eq!((service.fall.get(), service.rise.get()), (1, 1));
    assert_eq!(service.on_failure, Some(OnFailure::Remove));
    let servers: Vec<_> =
        service.servers.iter().map(|s| (s.address.to_string(), s.method, s.weight.0)).collect();
    let gate = ForwardingMethod::DirectRoute;
    assert_eq!(servers, [("192.168.1.107:80".to_owned(), gate, 2), ("192.168.1.109:80".to_owned(), gate, 1)]);
    assert_eq!(service.policy.backups[0].server.address.to_string(), "127.0.0.1:80");
    assert_eq!(service.policy.backups[0].check, None);
    let Check { kind: CheckKind::Http(http), interval, timeout, port, .. } = &service.check else {
        panic!("{:?}", service.check)
    };
    assert_eq!((*interval, *timeout, *port), (Duration::from_secs(1), Duration::from_secs(3), Some(80)));
    assert_eq!(http.pages[0].path, "/index.html");
    assert_eq!(http.pages[0].status, StatusCodes::from(200..=299));
}

#[test]
fn the_published_example_has_a_warning_for_each_line_that_ldirectord_refuses() {
    let lines: Vec<usize> = warnings(PUBLISHED).iter().map(|(line, ..)| *line).collect();
    assert_eq!(lines, [4, 5, 15, 16, 17, 18, 19, 23, 24, 25]);
    let strict = read_with(PUBLISHED, "l.cf".as_ref(), Strictness::Strict, &names());
    let error = strict.expect_err("it must be exact").to_string();
    assert!(error.contains("l.cf:4:26: the comment is ignored here"), "{error}");
    assert!(error.contains("because of --strict"), "{error}");
}

#[test]
fn what_ldirectord_takes_has_no_warning() {
    let text = "\
checktimeout=3 # three
checkinterval = 5
quiescent=no
# a comment
   # another
logfile=\"local0\"   # and one

virtual=192.0.2.80:http
\treal=web1:80 masq 5 \"/x\", \"ok\" l:10 u:20   # yes
# within
    real=10.0.0.2->10.0.0.3:www\tgate
    service=http # web
    checktype=negotiate # so
    persistent=600
    netmask=255.255.255.0
virtual6=[2001:db8::80]:80
    real6=[2001:db8::2]:80 masq
    real6=web6 ipip 3
    fallback6=[::1]:8080 masq
virtual=7
    real=10.0.0.1 gate
    service=smtp
";
    assert_eq!(warnings(text), []);
    assert!(read_with(text, "l.cf".as_ref(), Strictness::Strict, &names()).is_ok());
}

#[test]
fn odd_layouts() {
    let cases: &[(&str, usize, usize, &str)] = &[
        ("virtual=1.1.1.1:80\n real=10.0.0.1 masq\n", 2, 2, "at least 4 columns before it, not 1"),
        ("virtual=1.1.1.1:80\nreal=10.0.0.1 masq\n", 2, 1, "not 0"),
        ("virtual=1.1.1.1:80\n\n    real=10.0.0.1 masq\n", 3, 5, "the blank line before it"),
        (
            "virtual=1.1.1.1:80\nautoreload=no\n    real=10.0.0.1 masq\n",
            3,
            5,
            "the global directive before it",
        ),
        ("virtual=1.1.1.1:80\n     \n    real=10.0.0.1 masq\n", 2, 1, "the line of blanks"),
        (
            "  quiescent=no\nvirtual=1.1.1.1:80\n    real=10.0.0.1 masq\n",
            1,
            3,
            "at the beginning of the line",
        ),
        ("  virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n", 1, 3, "a new virtual service"),
        (
            "virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    autoreload=no\n",
            3,
            5,
            "taken as a global directive",
        ),
        (
            "virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    request=x.html\n",
            3,
            13,
            "refuses request without them",
        ),
        ("virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    receive=\"a#b\"\n", 3, 15, "the # in quotes"),
        (
            "virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    quiescent=no # x\n",
            3,
            17,
            "the blanks at the end",
        ),
        ("virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    quiescent=NO\n", 3, 15, "taken as \"no\""),
        ("virtual=1.1.1.1:80\r\n    real=10.0.0.1 masq\r\n", 1, 19, "carriage returns"),
        ("\u{feff}virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n", 1, 1, "byte order mark"),
        ("fork=yes\nvirtual=1.1.1.1:80\n    real=10.0.0.1 masq\n", 1, 6, "fork has no effect here"),
        ("supervised\nvirtual=1.1.1.1:80\n    real=10.0.0.1 masq\n", 1, 1, "supervised has no effect here"),
        ("checktimeout=5s\nvirtual=1.1.1.1:80\n    real=10.0.0.1 masq\n", 1, 14, "first digits of \"5s\""),
        ("virtual=1.1.1.1:80\n    real=10.0.0.1:8080 gate\n", 2, 10, "port 8080 is only checked"),
        (
            "virtual=1.1.1.1:80\n    real=10.0.0.1:8080 gate\n    checkport=81\n",
            2,
            10,
            "port 8080 has no effect",
        ),
        (
            "quiescent=yes\nvirtual=1.1.1.1:80\n    real=10.0.0.1:8080 gate\n    checktype=external\n",
            3,
            10,
            "port 8080 is only passed to checkcommand: gate keeps the clients' port, so that the table has 80, as \
             with ldirectord, which would never give such a server its weight",
        ),
        (
            "virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    real=10.0.0.1 masq\n",
            3,
            10,
            "at line 2; the second one",
        ),
        ("virtual=1.1.1.1:81\n    real=10.0.0.1 masq\n", 1, 9, "service is \"none\""),
        (
            "quiescent=yes\nvirtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    scheduler=sh\n",
            2,
            9,
            "scheduler sh gets its fallback flag here",
        ),
        (
            "quiescent=yes\nvirtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    scheduler=mh\n    schedflags=mh-port\n",
            2,
            9,
            "or add mh-fallback to schedflags",
        ),
        (
            "quiescent=yes\nvirtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    scheduler=dh\n",
            2,
            9,
            "under scheduler dh, for as long as it is down: write quiescent=no",
        ),
        ("virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    checkinterval=3\n", 3, 19, "is used here"),
        ("virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    load=\"x\"\n", 3, 10, "load has no effect"),
        (
            "virtual=1.1.1.1:53\n    real=10.0.0.1 masq\n    request=\"a.b\"\n",
            3,
            13,
            "a dns check needs receive",
        ),
        ("virtual=1.1.1.1:3306\n    real=10.0.0.1 masq\n", 1, 9, "needs login and request"),
    ];
    for (text, line, column, words) in cases {
        let warnings = warnings(text);
        assert_eq!(warnings.len(), 1, "{text}\n{warnings:?}");
        assert_eq!((warnings[0].0, warnings[0].1), (*line, *column), "{text}\n{warnings:?}");
        assert!(warnings[0].2.contains(words), "{text}\n{warnings:?}");
    }
}

#[test]
fn faults_have_a_line() {
    let with = |lines: &str| format!("virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    {lines}\n");
    let cases: &[(&str, &str)] = &[
        ("checktimeot=3", "did you mean \"checktimeout\"?"),
        ("checktimeout=0", "is 0, which has no meaning here; write a number from 1"),
        ("checktimeout=x", "has no number in it"),
        ("connecttimeout=3", "no longer supported"),
        ("checktype=maybe", "checktype: \"maybe\" is unknown"),
        ("service=gopher", "is unknown; write dns"),
        ("scheduler=xyz", "is not a scheduler of Linux"),
        ("checkport=70000", "is not a number from 1 to 65535"),
        ("protocol=sctp", "is unknown; write tcp or udp"),
        ("protocol=fwm", "does not fit"),
        ("netmask=255.0.255.0", "is not a netmask"),
        ("quiescent=maybe", "write yes or no"),
        ("httpmethod=POST", "write GET or HEAD"),
        ("real6=[::1] masq", "write real here"),
        ("fallback6=[::1]", "write fallback here"),
        ("real=10.0.0.2", "with gate, masq or ipip"),
        ("real=10.0.0.2 nat", "has \"nat\" where gate, masq or ipip should be"),
        ("real=10.0.0.2 masq 70000", "a weight from 0 to 65535"),
        ("real=10.0.0.2 masq 1 \"/x\"", "two texts in quotes"),
        ("real=10.0.0.2 masq 1 x:3", "has \"x:3\", which is none of weight"),
        ("real=10.0.0.9->10.0.0.2 masq", "ends before it begins"),
        ("real=10.0.0.0->10.9.0.0 masq", "at most 65536"),
        ("real=nowhere masq", "\"nowhere\" has no IPv4 address"),
        ("real=10.0.0.2:gopher masq", "port \"gopher\""),
        (
            "real=10.0.0.1:80 masq 2",
            "already in this virtual service at line 2, with other settings; remove one",
        ),
        ("receive=\"(\"", "is not a regular expression that the agent supports: unclosed group"),
        ("receive=\"\"", "is empty"),
        ("request=\"x", "one quote only"),
        ("emailalertstatus=none,all", "\"none\" beside other words"),
        ("schedflags=odd", "unknown flags"),
    ];
    for (line, words) in cases {
        assert_fault(&with(line), 3, words);
    }
    assert_fault("virtual=192.168.1.1\n    real=10.0.0.1 masq\n", 1, "takes it for the firewall mark 192");
    assert_fault("virtual=[::1]:80\n", 1, "write virtual6 here");
    assert_fault("virtual=0\n    real=10.0.0.1 masq\n", 1, "is not a firewall mark");
    assert_fault("virtual=1.1.1.1:0\n    real=10.0.0.1 masq\n", 1, "only a persistent service");
    assert_fault("virtual=1.1.1.1:80\n", 1, "has no servers");
    assert_fault("real=10.0.0.1 masq\n", 1, "belongs in a virtual service");
    assert_fault("hello\n", 1, "is not a directive");
    assert_fault("timeout=5\n", 1, "no longer supported");
    assert_fault("quiescent=no\n", 1, "there is no virtual service");
    let twice = "virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n".repeat(2);
    assert_fault(&twice, 3, "is already at line 1");
}

#[test]
fn timeouts_stand_in_for_one_another() {
    let connect = |own: &str, all: &str| {
        let text = format!("{all}\nvirtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    checktype=connect\n{own}");
        good(&text).services[0].check.timeout.as_secs()
    };
    let negotiate = |own: &str, all: &str| {
        let text = format!("{all}\nvirtual=1.1.1.1:80\n    real=10.0.0.1 masq\n{own}");
        good(&text).services[0].check.timeout.as_secs()
    };
    let (own_check, own_negotiate) = ("    checktimeout=1\n", "    negotiatetimeout=2\n");
    let both = format!("{own_check}{own_negotiate}");
    let all = "checktimeout=3\nnegotiatetimeout=4";
    for (own, all, connects, negotiates) in [
        ("", "", 5, 30),
        ("", "checktimeout=3", 3, 3),
        ("", "negotiatetimeout=4", 4, 4),
        ("", all, 3, 4),
        (own_check, all, 1, 1),
        (own_negotiate, all, 2, 2),
        (&both, all, 1, 2),
    ] {
        assert_eq!((connect(own, all), negotiate(own, all)), (connects, negotiates), "{own} {all}");
    }
}

#[test]
fn a_timeout_above_the_interval_is_as_with_ldirectord() {
    let config = good(
        "checkinterval=1\nchecktimeout=9\nvirtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    checktype=connect\n",
    );
    let check = &config.services[0].check;
    assert_eq!((check.interval.as_secs(), check.timeout.as_secs()), (1, 9));
    let text = native::to_toml(&config);
    let again =
        native::read(&text, "written.toml".as_ref()).unwrap_or_else(|error| panic!("{text}\n{error}"));
    assert_eq!(again.services[0].check.timeout, check.timeout);
}

#[test]
fn a_real_server_is_in_a_service_once() {
    let text = |second: &str| format!("virtual=1.1.1.1:80\n    real=10.0.0.1 masq 2\n    real={second}\n");
    // Alike, by a range as well.
    for (second, servers) in [("10.0.0.1 masq 2", 1), ("10.0.0.1->10.0.0.3:80 masq 2", 3)] {
        let warned = warnings(&text(second));
        assert!(warned.iter().any(|(line, _, what)| *line == 3 && what.contains("no effect")), "{warned:?}");
        assert_eq!(good(&text(second)).services[0].servers.len(), servers);
    }
    for second in ["10.0.0.1 masq 3", "10.0.0.0->10.0.0.3 masq 2 l:1 u:2", "10.0.0.1:80 gate 2"] {
        assert_fault(&text(second), 3, "10.0.0.1:80");
    }
}

#[test]
fn names_are_looked_up_at_each_reading() {
    let text = "virtual=vip:80\n    real=web1 masq\n";
    let mut names = names();
    let servers = |names: &ListedNames| {
        let read = read_with(text, "l.cf".as_ref(), Strictness::Lenient, names);
        let servers = read.map(|reading| reading.config.services[0].servers.clone());
        servers
            .map(|servers| servers.iter().map(|server| server.address.ip().to_string()).collect::<Vec<_>>())
    };
    assert_eq!(servers(&names).unwrap(), ["10.0.0.1"]);
    names.hosts[0].1 = IpAddr::from([10, 0, 0, 7]);
    assert_eq!(servers(&names).unwrap(), ["10.0.0.7"]);
    names.hosts.clear();
    let error = servers(&names).unwrap_err().to_string();
    assert!(error.contains("l.cf:1:") && error.contains("vip"), "{error}");
}

#[test]
fn ports_to_check() {
    let port = |lines: &str| {
        let service = service(lines);
        let address = service.servers[0].address;
        service.check.port.unwrap_or(address.port())
    };
    assert_eq!(port("real=10.0.0.1:8080 masq"), 8080);
    assert_eq!(port("real=10.0.0.1:8080 masq\ncheckport=9"), 9);
    assert_eq!(port("real=10.0.0.1:8080 gate"), 8080);
    assert_eq!(
        port("virtual=192.0.2.80:8080\nservice=http\nreal=10.0.0.1 masq"),
        80,
        "the usual one, as there"
    );
    assert_eq!(port("virtual=5\nservice=imaps\nreal=10.0.0.1 gate"), 993);
    assert_fault(
        "virtual=5\n    real=10.0.0.1 gate\n    checktype=connect\n",
        2,
        "no port is known to check 10.0.0.1; write checkport=80",
    );
}

#[test]
fn servers_as_written() {
    let service = service(
        "real=10.0.0.254->10.0.1.1:81 masq 3\nreal=web1:www masq 0 \"x y.html\", \"o \"k\" l:5 u:9\nrequest=\"all\"\nreceive=\"ok\"",
    );
    let addresses: Vec<_> = service.servers.iter().map(|server| server.address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.254:81", "10.0.0.255:81", "10.0.1.0:81", "10.0.1.1:81", "10.0.0.1:80"]);
    let last = &service.servers[4];
    assert_eq!((last.weight, last.lower_threshold, last.upper_threshold), (Weight(0), Some(5), Some(9)));
    let page = |check: &Check| match &check.kind {
        CheckKind::Http(http) => {
            (http.pages[0].path.clone(), http.pages[0].pattern.clone().map(|p| p.source().to_owned()))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(page(&service.check), ("/all".to_owned(), Some("(?-u)ok".to_owned())));
    assert_eq!(page(last.check.as_ref().unwrap()), ("/x%20y.html".to_owned(), Some("(?-u)o \"k".to_owned())));
}

#[test]
fn fallbacks() {
    let backup = |globals: &str, lines: &str| {
        let text = format!("{globals}\n{lines}\n    real=10.0.0.1:80 masq\n    service=http\n");
        good(&text).services[0]
            .policy
            .backups
            .iter()
            .map(|b| (b.server.address.to_string(), b.server.method))
            .next()
    };
    let gate = ForwardingMethod::DirectRoute;
    let at = |address: &str, method| Some((address.to_owned(), method));
    let global = "fallback=127.0.0.1";
    assert_eq!(backup(global, "virtual=1.1.1.1:8000"), at("127.0.0.1:8000", gate));
    assert_eq!(backup(global, "virtual=9"), at("127.0.0.1:0", gate), "marks have one, too");
    assert_eq!(backup("fallback=127.0.0.1:81", "virtual=9"), at("127.0.0.1:81", gate));
    assert_eq!(
        backup("fallback=127.0.0.1:81", "virtual=1.1.1.1:80"),
        at("127.0.0.1:80", gate),
        "as ipvsadm has it"
    );
    let masq = ForwardingMethod::Masquerade;
    assert_eq!(backup("fallback=127.0.0.1:81 masq", "virtual=1.1.1.1:80"), at("127.0.0.1:81", masq));
    assert_eq!(backup(global, "virtual=1.1.1.1:80\n    fallback=web1:81 masq"), at("10.0.0.1:81", masq));
    assert_eq!(backup("", "virtual=1.1.1.1:80\n    fallback=10.0.0.1:80 masq"), None, "it is a real server");
    assert_eq!(backup("fallback6=[::1]", "virtual=1.1.1.1:80"), None);
}

#[test]
fn checks_of_each_service() {
    let question = |lines: &str| service(lines).check.kind;
    assert_eq!(question("checktype=connect"), CheckKind::Connect);
    assert_eq!(question("checktype=connect\nprotocol=udp\ncheckport=5"), CheckKind::Ping);
    assert_eq!(question("checktype=ping"), CheckKind::Ping);
    assert_eq!(question("checktype=on"), CheckKind::On);
    assert_eq!(question("checktype=off"), CheckKind::Off);
    assert_eq!(question("service=none"), CheckKind::On);
    let combined = service("checktype=3");
    assert_eq!(combined.check.connects_between, 3);
    assert!(matches!(combined.check.kind, CheckKind::Http(_)));
    for (name, wanted) in [
        ("smtp", "Smtp"),
        ("submission", "Smtp"),
        ("nntp", "Nntp"),
        ("pop", "Pop3"),
        ("pops", "Direct"),
        ("imap", "Imap"),
        ("imaps", "Direct"),
        ("ftp", "anonymous"),
        ("radius", "Radius"),
        ("sip", "Sip"),
        ("ldap", "Ldap"),
        ("ldaps", "Direct"),
        ("https", "Direct"),
        ("simpletcp", "Tcp"),
    ] {
        let question = format!("{:?}", question(&format!("service={name}")));
        assert!(question.contains(wanted), "{name}: {question}");
    }
    let dns = question("service=dns\nrequest=\"www.example.org\"\nreceive=\"192.0.2.1\"\nprotocol=udp");
    let CheckKind::Dns(dns) = dns else { panic!("{dns:?}") };
    assert_eq!((dns.name.as_str(), dns.transport), ("www.example.org", Transport::Udp));
    let sql = question("service=mysql\nlogin=\"u\"\npasswd=\"p\"\ndatabase=\"d\"\nrequest=\"select 1\"");
    let CheckKind::Sql(sql) = sql else { panic!("{sql:?}") };
    assert_eq!((sql.query.as_deref(), sql.database.as_deref()), (Some("select 1"), Some("d")));
    let external = question("checktype=external\ncheckcommand=\"/bin/false\"");
    let CheckKind::Command(command) = external else { panic!("{external:?}") };
    assert_eq!(
        (command.argv, command.convention),
        (vec!["/bin/false".to_owned()], CommandConvention::Ldirectord)
    );
    let proxy = question("service=http_proxy\nrequest=\"http://www.example.org/\"");
    assert!(format!("{proxy:?}").contains("\"http://www.example.org/\""));
}

#[test]
fn everything_else() {
    let text = "\
emailalert=\"a@example.org, b@example.org\"
emailalertfrom=lvs@example.org
emailalertfreq=3600
emailalertstatus=running,stopping
smtp=mail.example.org
failurecount=4
quiescent=yes
cleanstop=no
fallbackcommand=/bin/fb -x
callback=\"/bin/cb\"
execute=other.cf
maintenancedir=/
supervised=yes
virtual=vip:domain
    real=10.0.0.1 masq
    real=10.0.0.2 masq
    servicename=the names
    comment=call me
    persistent=60
    netmask=255.255.0.0
    schedflags=sh-port
    scheduler=sh
    ops=yes
    checktype=ping
    checkcount=2
    monitorfile=\"/var/log/m\"
    quiescent=no
    cleanstop=yes
    failurecount=2
    emailalertfreq=0
    fallbackcommand=\"/bin/own; echo\"
";
    let config = good(text);
    assert_eq!(config.agent.on_exit, OnExit::Keep);
    assert_eq!(config.agent.log, LogTarget::Standard, "supervised: on standard error");
    assert_eq!(config.agent.callback.as_ref().map(|c| c.program.clone()), Some(PathBuf::from("/bin/cb")));
    assert_eq!(config.agent.execute, [PathBuf::from("other.cf")]);
    assert_eq!(config.agent.maintenance, Some(PathBuf::from("/")));
    let service = &config.services[0];
    assert_eq!((service.name.as_str(), service.key.to_string().as_str()), ("the names", "udp 192.0.2.80:53"));
    assert_eq!(
        (service.fall.get(), service.on_failure, service.on_exit),
        (2, Some(OnFailure::Remove), Some(OnExit::Remove))
    );
    assert_eq!(service.one_packet, Some(true));
    assert!(service.scheduler_flags.unwrap().flag_2);
    let netmask = Netmask::V4("255.255.0.0".parse().unwrap());
    assert_eq!(service.persistence, Some(Persistence::new(Duration::from_mins(1), netmask)));
    assert_eq!(service.check.timeout, Duration::from_secs(10), "two pings");
    let mail = service.notify.mail.as_ref().unwrap();
    assert_eq!(mail.to, ["a@example.org", "b@example.org"]);
    assert_eq!(
        (mail.from.as_deref(), mail.relay.clone(), mail.repeat),
        (Some("lvs@example.org"), Some(MailRelay::plain("mail.example.org")), None)
    );
    assert_eq!(mail.about, MailAbout { running: true, stopping: true, ..MailAbout::NONE });
    assert_eq!(service.notify.monitor_file, Some("/var/log/m".into()));
    assert_eq!(service.notify.comment.as_deref(), Some("call me"));
    let command = service.notify.fallback_command.as_ref().unwrap();
    assert_eq!(command.program, PathBuf::from("/bin/sh"));
    assert_eq!(command.arguments[1], "/bin/own; echo \"$@\"");
}

#[test]
fn the_format_is_recognised() {
    for text in [
        "virtual=1\n",
        "# x\n\nchecktimeout = 3\n",
        "  quiescent=no\n",
        "chektimeout=3\nvirtual=1\n",
        PUBLISHED,
    ] {
        assert!(is_ldirectord(text), "{text}");
    }
    for text in [
        "",
        "[agent]\n",
        "[[service]]\nname = \"virtual=1\"\n",
        "service = []\n",
        "agent.metrics = \"off\"\n",
    ] {
        assert!(!is_ldirectord(text), "{text}");
    }
}

#[test]
fn other_bytes_in_comments_do_no_harm() {
    let bytes = b"# gr\xfcn\nvirtual=192.0.2.1:80\n    real=10.0.0.1 masq # gr\xfcn\n";
    let reading = crate::config::read_bytes(bytes, "l.cf".as_ref(), Strictness::Lenient).unwrap();
    assert_eq!(reading.format, Format::Ldirectord);
    assert!(
        reading
            .warnings
            .iter()
            .all(|warning| warning.kind == WarningKind::Lenient(crate::config::Leniency::ForeignBytes))
    );
    let bytes = b"virtual=192.0.2.1:80\n    real=10.0.0.1 masq\n    request=\"gr\xfcn\"\n";
    let error = crate::config::read_bytes(bytes, "l.cf".as_ref(), Strictness::Lenient)
        .expect_err("no text")
        .to_string();
    assert!(error.contains("l.cf:3:13"), "{error}");
}
