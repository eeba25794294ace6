use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    engine::{Cause, Engine},
    health::{Sample, Source},
    model::{CommandLine, Config},
    notify::Notify,
    pool::Presence,
    probe::{Failure, FailureReason, Success},
};

const SERVICE: &str = "[[service]]\nname = \"web\"\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\n\
     fall = 1\nrise = 1\non-failure = \"remove\"\n";
const SERVERS: &str = "[[service.server]]\naddress = \"10.0.0.1:80\"\n\
     [[service.server]]\naddress = \"10.0.0.2:80\"\nweight = 5\n";

/// Alerts, fed by an engine, with a task that sends nothing.
struct Fixture {
    in_force: watch::Sender<Arc<Config>>,
    engine: Engine,
    alerts: Alerts,
    notify: Notify,
    now: Instant,
}

impl Fixture {
    fn new(keys: &str, tables: &str, presence: Presence) -> Self {
        let config = config(keys, tables);
        // Backups are not in the table.
        let servers: Vec<_> = config.services.iter().flat_map(VirtualService::destinations).collect();
        let presence = |key: &DestinationKey| if servers.contains(key) { presence } else { Presence::Absent };
        let engine = Engine::new(&config.services, presence);
        let (notifier, notify) = Notifier::new(crate::event::Publisher::default());
        let (in_force, receiver) = watch::channel(Arc::new(config));
        let alerts = Alerts::new(notifier, &in_force.borrow().services, engine.weights(), receiver);
        Self { in_force, engine, alerts, notify, now: Instant::now() }
    }

    /// Handles the result of a regular check of a server as the controller does.
    fn check(&mut self, server: &str, success: bool) {
        let service = self.engine.services().next().unwrap().0.key;
        let destination = DestinationKey { service, server: server.parse().unwrap() };
        let outcome = if success {
            Ok(Success { latency: Duration::ZERO, connect: None, weight: None })
        } else {
            Err(Failure { reason: FailureReason::Refused, after: Duration::ZERO })
        };
        self.now += Duration::from_secs(1);
        let sample = Sample { check: Some(0), success, source: Source::Baseline };
        let effects = self.engine.observe(&destination, sample, None, self.now);
        let events = effects.to_events(&self.engine, Cause::Result(&destination, &outcome));
        self.publish(events);
    }

    fn publish(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let record = Record { sequence: 1, at_ns: 0, time: SystemTime::UNIX_EPOCH, event };
            self.alerts.on_event(&record);
        }
    }

    /// The first lines of what was queued.
    fn first_lines(&mut self) -> Vec<String> {
        let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
        self.notify.take_queued().into_iter().map(first).collect()
    }
}

fn config(keys: &str, tables: &str) -> Config {
    let text = format!("{SERVICE}{keys}\n{SERVERS}{tables}");
    crate::config::native::read(&text, "test.toml".as_ref()).expect("it is a configuration")
}

const MAIL: &str = "mail = { to = [\"ops@example.org\"], repeat = \"1m\" }\ncomment = \"call me\"";

#[test]
fn mails_say_what_those_of_ldirectord_say() {
    let mut fixture = Fixture::new(MAIL, "", Presence::Absent);
    fixture.check("10.0.0.1:80", true);
    let queued = fixture.notify.take_queued();
    assert_eq!(
        queued,
        [
            "mail [web] Added real server: 10.0.0.1:80 (192.0.2.1:80) (Weight set to 1)\n\
             Log-Message: [web] Added real server: 10.0.0.1:80 (192.0.2.1:80) (Weight set to 1)\n\
             Daemon-Status: starting\n\nService name: web\nComment: call me\n",
            "over 10.0.0.1:80",
        ]
    );
    fixture.check("10.0.0.2:80", true);
    fixture.first_lines();
    fixture.check("10.0.0.2:80", false);
    let queued = fixture.notify.take_queued();
    let body = &queued[0];
    assert!(body.starts_with("mail [web] Deleted real server: 10.0.0.2:80 (192.0.2.1:80)\n"), "{body}");
    assert!(body.contains("Daemon-Status: running\nReason: ") && body.contains("refused"), "{body}");
    assert_eq!(queued[1], "remind 10.0.0.2:80 [web] Inaccessible real server: 10.0.0.2:80 (192.0.2.1:80)");
    fixture.check("10.0.0.2:80", false);
    assert_eq!(fixture.first_lines(), [""; 0], "nothing has changed");
}

#[test]
fn a_contradiction_is_mailed_when_it_begins_and_when_it_is_over() {
    let mut fixture = Fixture::new(MAIL, "", Presence::In);
    fixture.publish(crate::event::examples().into_iter().filter_map(|event| match event {
        Event::Contradiction { subject, method, change } => {
            let service = config(MAIL, "").services.remove(0).key;
            let server = "10.0.0.1:80".parse().unwrap();
            let subject =
                crate::event::Subject { destination: DestinationKey { service, server }, ..subject };
            Some(Event::Contradiction { subject, method, change })
        }
        _ => None,
    }));
    let queued = fixture.notify.take_queued();
    let subject = "mail [web] Contradiction, clients fail while checks succeed: 10.0.0.1:80 (192.0.2.1:80)\n";
    let begun: Vec<_> = queued.iter().filter(|mail| mail.starts_with(subject)).collect();
    assert_eq!(begun.len(), 3, "{queued:?}");
    assert!(
        begun[0].contains("Reason: none of 375 SYNs") && begun[0].contains("Likely causes: the VIP"),
        "{begun:?}"
    );
    let over = "mail [web] Contradiction over: 10.0.0.1:80 (192.0.2.1:80)\n";
    assert_eq!(queued.iter().filter(|mail| mail.starts_with(over)).count(), 2, "{queued:?}");
    assert_eq!(queued.len(), 5, "trials are in the log: {queued:?}");
}

#[test]
fn mails_call_backups_fallback_servers() {
    let backup = "[[service.backup]]\naddress = \"10.0.0.9:80\"\nchecked = false\n";
    let mut fixture = Fixture::new(MAIL, backup, Presence::In);
    fixture.check("10.0.0.1:80", true);
    fixture.check("10.0.0.2:80", false);
    assert_eq!(
        fixture.first_lines().first().map(String::as_str),
        Some("mail [web] Deleted real server: 10.0.0.2:80 (192.0.2.1:80)")
    );
    fixture.check("10.0.0.1:80", false);
    let queued = fixture.first_lines();
    let has = |line: &str| assert!(queued.iter().any(|queued| queued == line), "{line}: {queued:?}");
    has("mail [web] Deleted real server: 10.0.0.1:80 (192.0.2.1:80)");
    has("mail [web] Added fallback server: 10.0.0.9:80 (192.0.2.1:80) (Weight set to 1)");
    assert!(!queued.iter().any(|queued| queued.starts_with("remind 10.0.0.9")), "{queued:?}");
}

#[test]
fn mails_are_sent_on_the_configured_occasions() {
    let about = |words: &str| format!("mail = {{ to = [\"ops@example.org\"], about = [{words}] }}");
    let mails = |words: &str| {
        let mut fixture = Fixture::new(&about(words), "", Presence::Absent);
        fixture.check("10.0.0.1:80", true);
        fixture.check("10.0.0.1:80", false);
        // As after a reload.
        let services = fixture.in_force.borrow().services.clone();
        let effects = fixture.engine.replace(&services, |_| Presence::Absent, fixture.now);
        let weights = effects.to_events(&fixture.engine, Cause::Reload);
        fixture.publish([Event::Services { services: services.into() }].into_iter().chain(weights));
        let other = crate::config::native::read(
            &format!("[agent]\non-exit = \"remove\"\n{SERVICE}{SERVERS}"),
            "test.toml".as_ref(),
        );
        let config = Arc::new(other.expect("it is a configuration"));
        fixture.in_force.send_replace(config);
        fixture.publish([Event::Stopping]);
        assert!(fixture.alerts.notifier.is_none(), "or the notify task would never end");
        fixture.first_lines().iter().filter(|queued| queued.starts_with("mail")).cloned().collect::<Vec<_>>()
    };
    let added = "mail [web] Added real server: 10.0.0.1:80 (192.0.2.1:80) (Weight set to 1)";
    let deleted = "mail [web] Deleted real server: 10.0.0.1:80 (192.0.2.1:80)";
    let purged = "mail [web] Purged virtual server (stop): 192.0.2.1:80";
    assert_eq!(mails("\"starting\""), [added]);
    assert_eq!(mails("\"running\""), [deleted]);
    assert_eq!(mails("\"stopping\""), [purged]);
    assert_eq!(mails("\"starting\", \"running\", \"stopping\""), [added, deleted, purged]);
    assert_eq!(mails(""), [""; 0]);
}

#[test]
fn commands_run_when_the_quorum_is_lost_and_regained() {
    let keys = "fallback-command = [\"/bin/fallback\", \"x\"]\nquorum = { up = [\"/bin/up\"], down = [\"/bin/down\", \"y\"] }";
    let mut fixture = Fixture::new(keys, "", Presence::Absent);
    fixture.check("10.0.0.1:80", true);
    let back = ["/bin/up", "/bin/fallback x stop 192.0.2.1:80 tcp"];
    assert_eq!(fixture.first_lines(), back);
    fixture.check("10.0.0.2:80", false);
    fixture.check("10.0.0.1:80", false);
    assert_eq!(fixture.first_lines(), ["/bin/down y", "/bin/fallback x start 192.0.2.1:80 tcp"]);
    fixture.check("10.0.0.2:80", true);
    assert_eq!(fixture.first_lines(), back);
    let callback = CommandLine { program: "/bin/callback".into(), arguments: Vec::new() };
    fixture.alerts.notifier.as_ref().unwrap().callback(callback, std::path::Path::new("/etc/lvs.toml"));
    assert_eq!(fixture.first_lines(), ["/bin/callback /etc/lvs.toml"]);
}

#[test]
fn each_check_has_a_line_in_the_monitor_file() {
    let service = "192.0.2.1:80".parse().unwrap();
    let service = ServiceKey::Address { protocol: crate::model::Protocol::Tcp, address: service };
    let destination = DestinationKey { service, server: "10.0.0.1:80".parse().unwrap() };
    let success = Ok(Success { latency: Duration::ZERO, connect: None, weight: None });
    let pid = std::process::id();
    assert_eq!(
        monitor_line(&destination, &success, SystemTime::UNIX_EPOCH),
        format!("[1970-01-01T00:00:00Z] [{pid}] 10.0.0.1:80 [up] -")
    );
    let failure = Err(Failure { reason: FailureReason::Refused, after: Duration::ZERO });
    let line = monitor_line(&destination, &failure, SystemTime::UNIX_EPOCH);
    assert!(line.starts_with(&format!("[1970-01-01T00:00:00Z] [{pid}] 10.0.0.1:80 [down] ")), "{line}");
}

fn role(role: DirectorRole, takeover: Option<Takeover>) -> Event {
    Event::Role { role, reason: RoleReason::Ordered, takeover }
}

#[test]
fn a_standby_tells_nobody_and_who_takes_over_tells_once() {
    let keys = format!("{MAIL}\nquorum = {{ up = [\"/bin/up\"], down = [\"/bin/down\"] }}");
    let mut fixture = Fixture::new(&keys, "", Presence::In);
    fixture.publish([role(DirectorRole::Standby, None)]);
    fixture.check("10.0.0.1:80", true);
    for server in ["10.0.0.1:80", "10.0.0.2:80"] {
        for _ in 0..5 {
            fixture.check(server, false);
        }
    }
    let told: Vec<_> = fixture.first_lines().into_iter().filter(|line| !line.starts_with("over")).collect();
    assert_eq!(told, [""; 0], "both servers are down");
    let takeover = Takeover { services: 1, servers: 2, down: 2, asked: 2 };
    fixture.publish([role(DirectorRole::Active, Some(takeover))]);
    let told: Vec<_> = fixture.first_lines().into_iter().filter(|line| !line.starts_with("over")).collect();
    let expected = [
        "/bin/down",
        "mail Takeover: this director is active, 2 of 2 real servers are down",
        "remind 10.0.0.1:80 [web] Inaccessible real server: 10.0.0.1:80 (192.0.2.1:80)",
        "remind 10.0.0.2:80 [web] Inaccessible real server: 10.0.0.2:80 (192.0.2.1:80)",
    ];
    let sorted = |mut lines: Vec<String>| {
        lines.sort_unstable();
        lines
    };
    assert_eq!(sorted(told), sorted(expected.map(str::to_owned).to_vec()));
    fixture.publish([role(DirectorRole::Standby, None)]);
    assert_eq!(sorted(fixture.first_lines()), ["over 10.0.0.1:80", "over 10.0.0.2:80"], "no more reminders");
}
