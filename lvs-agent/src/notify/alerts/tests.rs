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

struct World {
    in_force: watch::Sender<Arc<Config>>,
    engine: Engine,
    alerts: Alerts,
    notify: Notify,
    now: Instant,
}

impl World {
    fn new(keys: &str, tables: &str, found: Presence) -> Self {
        let config = config(keys, tables);
        let engine = Engine::new(&config.services, |_| found);
        let (notifier, notify) = Notifier::new();
        let (in_force, reads) = watch::channel(Arc::new(config));
        let alerts = Alerts::new(notifier, &in_force.borrow().services, engine.weights(), reads);
        Self { in_force, engine, alerts, notify, now: Instant::now() }
    }

    /// A regular check of a server, as the controller takes it.
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

    /// The first lines of what was told.
    fn told(&mut self) -> Vec<String> {
        let first = |told: String| told.lines().next().unwrap_or_default().to_owned();
        self.notify.ordered().into_iter().map(first).collect()
    }
}

fn config(keys: &str, tables: &str) -> Config {
    let text = format!("{SERVICE}{keys}\n{SERVERS}{tables}");
    crate::config::native::read(&text, "test.toml".as_ref()).expect("it is a configuration")
}

const MAIL: &str = "mail = { to = [\"ops@example.org\"], repeat = \"1m\" }\ncomment = \"call me\"";

#[test]
fn mails_tell_what_ldirectords_tell() {
    let mut world = World::new(MAIL, "", Presence::Absent);
    world.check("10.0.0.1:80", true);
    let told = world.notify.ordered();
    assert_eq!(
        told,
        [
            "mail [web] Added real server: 10.0.0.1:80 (192.0.2.1:80) (Weight set to 1)\n\
             Log-Message: [web] Added real server: 10.0.0.1:80 (192.0.2.1:80) (Weight set to 1)\n\
             Daemon-Status: starting\n\nService name: web\nComment: call me\n",
            "over 10.0.0.1:80",
        ]
    );
    world.check("10.0.0.2:80", true);
    world.told();
    world.check("10.0.0.2:80", false);
    let told = world.notify.ordered();
    let body = &told[0];
    assert!(body.starts_with("mail [web] Deleted real server: 10.0.0.2:80 (192.0.2.1:80)\n"), "{body}");
    assert!(body.contains("Daemon-Status: running\nReason: ") && body.contains("refused"), "{body}");
    assert_eq!(told[1], "remind 10.0.0.2:80 [web] Inaccessible real server: 10.0.0.2:80 (192.0.2.1:80)");
    world.check("10.0.0.2:80", false);
    assert_eq!(world.told(), [""; 0], "no news");
}

#[test]
fn quiesced_servers_are_restored_and_backups_are_fallbacks() {
    let backup = "[[service.backup]]\naddress = \"10.0.0.9:80\"\nchecked = false\n";
    let mut world = World::new(MAIL, backup, Presence::In);
    world.check("10.0.0.1:80", true);
    world.check("10.0.0.2:80", false);
    assert_eq!(
        world.told().first().map(String::as_str),
        Some("mail [web] Deleted real server: 10.0.0.2:80 (192.0.2.1:80)")
    );
    world.check("10.0.0.1:80", false);
    let told = world.told();
    let has = |line: &str| assert!(told.iter().any(|told| told == line), "{line}: {told:?}");
    has("mail [web] Deleted real server: 10.0.0.1:80 (192.0.2.1:80)");
    has("mail [web] Added fallback server: 10.0.0.9:80 (192.0.2.1:80) (Weight set to 1)");
    assert!(!told.iter().any(|told| told.starts_with("remind 10.0.0.9")), "{told:?}");
}

#[test]
fn mails_are_about_what_is_wanted() {
    let about = |words: &str| format!("mail = {{ to = [\"ops@example.org\"], about = [{words}] }}");
    let mails = |words: &str| {
        let mut world = World::new(&about(words), "", Presence::Absent);
        world.check("10.0.0.1:80", true);
        world.check("10.0.0.1:80", false);
        // As by a reload.
        let services = world.in_force.borrow().services.clone();
        let effects = world.engine.replace(&services, |_| Presence::Absent, world.now);
        let weights = effects.to_events(&world.engine, Cause::Reload);
        world.publish([Event::Services { services: services.into() }].into_iter().chain(weights));
        let other = crate::config::native::read(
            &format!("[agent]\non-exit = \"remove\"\n{SERVICE}{SERVERS}"),
            "test.toml".as_ref(),
        );
        let config = Arc::new(other.expect("it is a configuration"));
        world.in_force.send_replace(config);
        world.publish([Event::Stopping]);
        assert!(world.alerts.notifier.is_none(), "or the task that sends would never end");
        world.told().iter().filter(|told| told.starts_with("mail")).cloned().collect::<Vec<_>>()
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
fn commands_are_run_when_the_quorum_goes_and_comes() {
    let keys = "fallback-command = [\"/bin/fallback\", \"x\"]\nquorum = { up = [\"/bin/up\"], down = [\"/bin/down\", \"y\"] }";
    let mut world = World::new(keys, "", Presence::Absent);
    world.check("10.0.0.1:80", true);
    let back = ["/bin/up", "/bin/fallback x stop 192.0.2.1:80 tcp"];
    assert_eq!(world.told(), back);
    world.check("10.0.0.2:80", false);
    world.check("10.0.0.1:80", false);
    assert_eq!(world.told(), ["/bin/down y", "/bin/fallback x start 192.0.2.1:80 tcp"]);
    world.check("10.0.0.2:80", true);
    assert_eq!(world.told(), back);
    let callback = CommandLine { program: "/bin/callback".into(), arguments: Vec::new() };
    world.alerts.notifier.as_ref().unwrap().callback(callback, std::path::Path::new("/etc/lvs.toml"));
    assert_eq!(world.told(), ["/bin/callback /etc/lvs.toml"]);
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
