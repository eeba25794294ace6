//! Lines of a virtual service that could be global, because they stand at the beginning of their lines.

use super::{Config, OnExit, OnFailure, assert_fault, good, reading, warnings};
use crate::{
    config::{Strictness, ldirectord::read_with},
    model::{MailAbout, MailSettings, VirtualService},
};

/// A directive of both scopes with a value for each of two services, and how to see which one holds.
type Case = (&'static str, [&'static str; 2], fn(&Config, usize) -> String);

/// The mails about a service.
fn mail(config: &Config, at: usize) -> &MailSettings {
    config.services[at].notify.mail.as_ref().expect("mails are sent")
}

const CASES: &[Case] = &[
    ("checktimeout", ["2", "3"], |config, at| config.services[at].check.timeout.as_secs().to_string()),
    ("negotiatetimeout", ["2", "3"], |config, at| config.services[at].check.timeout.as_secs().to_string()),
    ("checkinterval", ["2", "3"], |config, at| config.services[at].check.interval.as_secs().to_string()),
    ("failurecount", ["2", "3"], |config, at| config.services[at].fall.to_string()),
    ("quiescent", ["yes", "no"], |config, at| {
        if config.services[at].on_failure() == OnFailure::Quiesce { "yes" } else { "no" }.to_owned()
    }),
    ("cleanstop", ["yes", "no"], |config, at| {
        if config.services[at].on_exit == Some(OnExit::Remove) { "yes" } else { "no" }.to_owned()
    }),
    ("fallback", ["127.0.0.1:8001 masq", "127.0.0.1:8002 masq"], |config, at| {
        format!("{} masq", config.services[at].policy.backups[0].server.address)
    }),
    ("fallbackcommand", ["/bin/a", "/bin/b"], |config, at| {
        let command = config.services[at].notify.fallback_command.as_ref();
        command.map(|command| command.program.display().to_string()).unwrap_or_default()
    }),
    ("emailalert", ["a@example.org", "b@example.org"], |config, at| mail(config, at).to.join(",")),
    ("emailalertfreq", ["60", "90"], |config, at| {
        mail(config, at).repeat.map(|pause| pause.as_secs().to_string()).unwrap_or_default()
    }),
    ("emailalertstatus", ["running", "starting"], |config, at| {
        let about = mail(config, at).about;
        let only = |starting, running| about == MailAbout { starting, running, ..MailAbout::NONE };
        if only(false, true) {
            "running"
        } else if only(true, false) {
            "starting"
        } else {
            ""
        }
        .to_owned()
    }),
    ("smtp", ["a.example.org", "b.example.org"], |config, at| {
        mail(config, at).relay.as_ref().map(|relay| relay.address.clone()).unwrap_or_default()
    }),
    // It multiplies the timeout of a ping.
    ("checkcount", ["2", "3"], |config, at| (config.services[at].check.timeout.as_secs() / 5).to_string()),
    ("fallback6", ["[2001:db8::1]:8001 masq", "[2001:db8::1]:8002 masq"], |config, at| {
        format!("{} masq", config.services[at].policy.backups[0].server.address)
    }),
];

/// What a directive has no effect without.
fn needed(directive: &str) -> &'static str {
    match directive {
        "emailalertfreq" | "emailalertstatus" | "smtp" => "emailalert=a@example.org\n",
        "checkcount" => "checktype=ping\n",
        _ => "",
    }
}

/// A service whose lines stand at the beginning, with the directive before or after its server.
fn flush_left(number: usize, directive: &str, value: &str, after: bool) -> String {
    let (head, real) = match directive {
        "fallback6" => (format!("virtual6=[2001:db8::8{number}]:80"), "real6=[2001:db8::2]:80 masq"),
        _ => (format!("virtual=192.0.2.{}:80", number + 1), "real=10.0.0.1:80 masq"),
    };
    let (line, others) = (format!("{directive}={value}\n"), format!("{real}\n{}", needed(directive)));
    let (first, second) = if after { (others, line) } else { (line, others) };
    format!("{head}\n{first}{second}")
}

#[test]
fn each_service_keeps_its_own_lines() {
    for (directive, values, shown) in CASES {
        let line_begins = format!("{directive}=");
        for after in [true, false] {
            for between in ["", "\n", "# a comment\n", "\n   \n"] {
                let text = flush_left(0, directive, values[0], after)
                    + between
                    + &flush_left(1, directive, values[1], after);
                let config = good(&text);
                assert_eq!([shown(&config, 0), shown(&config, 1)], *values, "{text}");
                for (number, line) in
                    text.lines().enumerate().filter(|(_, line)| line.starts_with(&line_begins))
                {
                    let warned = warnings(&text);
                    let warned = warned.iter().find(|(at, column, what)| {
                        (*at, *column) == (number + 1, 1)
                            && what.contains("takes")
                            && what.contains(directive)
                    });
                    assert!(warned.is_some(), "line {number}, {line}:\n{text}\n{:?}", warnings(&text));
                }
            }
        }
    }
}

#[test]
fn a_line_between_lines_of_a_service_is_the_services() {
    let text = "virtual=1.1.1.1:80\n    real=10.0.0.1 masq\nquiescent=yes\n    service=http\nvirtual=1.1.1.2:80\n    \
                real=10.0.0.1 masq\n";
    let config = good(text);
    assert_eq!(config.services[0].on_failure(), OnFailure::Quiesce);
    assert_eq!(config.services[1].on_failure(), OnFailure::Remove);
    let [(3, 1, what)] = &warnings(text)[..] else { panic!("{:?}", warnings(text)) };
    assert!(what.contains("taken as a line of the virtual service above"), "{what}");
    assert_fault_if_strict(text, 3);
}

#[test]
fn after_a_blank_line_it_still_is_where_the_others_are_written_so() {
    let text =
        "virtual=1.1.1.1:80\nreal=10.0.0.1 masq\n\nquiescent=yes\n\nvirtual=1.1.1.2:80\nreal=10.0.0.1 masq\n";
    let config = good(text);
    let on_failure = config.services.iter().map(VirtualService::on_failure).collect::<Vec<_>>();
    assert_eq!(on_failure, [OnFailure::Quiesce, OnFailure::Remove]);
    assert!(warnings(text).iter().any(|(line, ..)| *line == 4), "{:?}", warnings(text));
}

/// What ldirectord takes for a global directive in a file that it accepts is one here.
#[test]
fn what_follows_indented_lines_is_global() {
    let text = "virtual=1.1.1.1:80\n    real=10.0.0.1 masq\nquiescent=yes\nvirtual=1.1.1.2:80\n    real=10.0.0.1 masq\n";
    for service in good(text).services {
        assert_eq!(service.on_failure(), OnFailure::Quiesce);
    }
    assert_eq!(warnings(text), []);
    let text = "virtual=1.1.1.1:80\nfallback=127.0.0.1\nvirtual=1.1.1.2:80\n    real=10.0.0.1 masq\n";
    let config = good(text);
    assert!(config.services.iter().all(|service| service.policy.backups.len() == 1), "{config:?}");
}

#[test]
fn global_directives_stay_global() {
    let text =
        "virtual=1.1.1.1:80\nreal=10.0.0.1 masq\nautoreload=yes\nvirtual=1.1.1.2:80\nreal=10.0.0.1 masq\n";
    assert!(good(text).agent.autoreload);
    assert_fault("fallback=127.0.0.1\nreal=10.0.0.1 masq\n", 2, "belongs in a virtual service");
}

fn assert_fault_if_strict(text: &str, line: usize) {
    let strict = read_with(text, "l.cf".as_ref(), Strictness::Strict, &super::names());
    let error = strict.expect_err("it must be exact").to_string();
    assert!(error.contains(&format!("l.cf:{line}:")), "{error}");
    assert!(reading(text).is_ok());
}
