//! The state of destinations and services, as gauges.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use metrics::{Gauge, Histogram, gauge, histogram};

use super::labels;
use crate::{
    engine::Engine,
    keyed::KeyMap,
    model::{AddressFamily, DestinationKey, ServiceKey},
    pool::QuorumState,
    probe::{Outcome, Verdict},
};

/// A time that is measured as an age anew is another one only if it differs by more than this.
const SAME: f64 = 1.0;

/// The gauges of all destinations and services. Each is looked up once.
#[derive(Default)]
pub(crate) struct StateGauges {
    destinations: KeyMap<DestinationKey, DestinationGauges>,
    services: KeyMap<ServiceKey, ServiceGauges>,
    /// How long checks took, by their kind.
    durations: HashMap<&'static str, Histogram>,
    /// Since when there is a state at all.
    started: Option<f64>,
}

/// The gauges of a destination.
struct DestinationGauges {
    up: Gauge,
    weight: Gauge,
    relapses: Gauge,
    admin_out: Gauge,
    /// The old name of `admin_out`.
    held: Gauge,
    contradiction: Gauge,
    since: Gauge,
    /// What `since` was last set to.
    since_s: f64,
    /// Always 1; shown as long as it is here.
    _info: Gauge,
    /// Of each check its kind, its last result, and when that was.
    checks: Vec<Option<CheckGauges>>,
}

/// The gauges of one check of a destination.
struct CheckGauges {
    kind: &'static str,
    success: Gauge,
    at: Gauge,
}

/// The gauges of a service.
struct ServiceGauges {
    quorum: Gauge,
    alarm: Gauge,
    backups: Gauge,
}

impl StateGauges {
    /// Sets all gauges.
    pub(crate) fn show_all(&mut self, engine: &Engine) {
        for (destination, ..) in engine.destinations() {
            self.show_destination(engine, &destination);
        }
        for (service, _) in engine.services() {
            self.show_service(engine, &service.key);
        }
    }

    /// Sets the gauges of one destination.
    pub(crate) fn show_destination(&mut self, engine: &Engine, destination: &DestinationKey) {
        let started = *self.started.get_or_insert_with(|| seconds(SystemTime::now()));
        let gauges = self
            .destinations
            .entry(*destination)
            .or_insert_with(|| DestinationGauges::new(&labels(engine, destination), destination));
        let since = engine
            .age(destination, Instant::now())
            .of_state
            .map_or(started, |age| seconds(SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH)));
        if (since - gauges.since_s).abs() > SAME {
            gauges.since_s = since;
            gauges.since.set(since);
        }
        let admin_state = engine.admin_state(destination);
        let up = match engine.state(destination) {
            // A destination that an administrator has set to weight 0 is never reported as failed.
            _ if admin_state.administrator => f64::NAN,
            Some(state) if state.is_up() => 1.0,
            Some(state) if state.is_down() => 0.0,
            _ => f64::NAN,
        };
        gauges.up.set(up);
        gauges.weight.set(engine.weight(destination).map_or(f64::NAN, |weight| weight.0.into()));
        gauges.relapses.set(engine.relapses(destination));
        let admin_out = if admin_state.is_enabled() { 0.0 } else { 1.0 };
        gauges.admin_out.set(admin_out);
        gauges.held.set(admin_out);
        gauges.contradiction.set(if engine.contradiction(destination).is_some() { 1.0 } else { 0.0 });
    }

    /// Sets the gauges of one service.
    pub(crate) fn show_service(&mut self, engine: &Engine, key: &ServiceKey) {
        let Some((service, status)) = engine.service(key) else { return };
        let gauges = self.services.entry(*key).or_insert_with(|| ServiceGauges::new(&service.name));
        gauges.quorum.set(match status.quorum {
            QuorumState::Unknown => f64::NAN,
            QuorumState::Has => 1.0,
            QuorumState::Lost => 0.0,
        });
        gauges.alarm.set(if status.alarm { 1.0 } else { 0.0 });
        gauges.backups.set(u32::try_from(status.backups_in).unwrap_or(u32::MAX));
    }

    /// Counts the result of a regular check: of a destination the one with this index.
    pub(crate) fn show_check(
        &mut self,
        engine: &Engine,
        destination: &DestinationKey,
        check: usize,
        outcome: &Outcome,
    ) {
        let kind = engine.checks(destination).nth(check).map(|(_, check)| check.kind.name());
        let (Some(kind), Some(gauges)) = (kind, self.destinations.get_mut(destination)) else { return };
        if gauges.checks.len() <= check {
            gauges.checks.resize_with(check + 1, || None);
        }
        let Some(place) = gauges.checks.get_mut(check) else { return };
        let shown = match place {
            Some(known) if known.kind == kind => known,
            _ => place.insert(CheckGauges::new(&labels(engine, destination), check, kind)),
        };
        shown.success.set(match Verdict::of(outcome) {
            Verdict::Alive => 1.0,
            Verdict::Dead => 0.0,
            Verdict::Unknown => f64::NAN,
        });
        shown.at.set(seconds(SystemTime::now()));
        let took = match outcome {
            Ok(success) => success.latency,
            Err(failure) => failure.after,
        };
        let duration = self.durations.entry(kind);
        duration
            .or_insert_with(|| histogram!("lvs_check_seconds", "check" => kind))
            .record(took.as_secs_f64());
    }

    /// The series of a destination that is gone, or whose service has another name, go.
    pub(crate) fn retire_destination(&mut self, destination: &DestinationKey) {
        self.destinations.remove(destination);
    }

    /// The series of a service that is gone or has another name go.
    pub(crate) fn retire_service(&mut self, key: &ServiceKey) {
        self.services.remove(key);
    }
}

/// Since 1970.
fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

impl CheckGauges {
    fn new(labels: &[(&'static str, String); 2], index: usize, kind: &'static str) -> Self {
        let mut labels = labels.to_vec();
        labels.extend([("check", kind.to_owned()), ("index", index.to_string())]);
        Self {
            kind,
            success: gauge!("lvs_check_success", &labels),
            at: gauge!("lvs_check_timestamp_seconds", &labels),
        }
    }
}

impl DestinationGauges {
    fn new(labels: &[(&'static str, String); 2], destination: &DestinationKey) -> Self {
        let mut info = labels.to_vec();
        info.extend(of_node_exporter(destination));
        let info = gauge!("lvs_server_info", &info);
        info.set(1);
        Self {
            since: gauge!("lvs_server_state_since_timestamp_seconds", labels),
            since_s: 0.0,
            _info: info,
            checks: Vec::new(),
            up: gauge!("lvs_server_up", labels),
            weight: gauge!("lvs_server_weight", labels),
            relapses: gauge!("lvs_server_relapses", labels),
            admin_out: gauge!("lvs_server_admin_out", labels),
            held: gauge!("lvs_server_held", labels),
            contradiction: gauge!("lvs_server_contradiction", labels),
        }
    }
}

impl ServiceGauges {
    fn new(name: &str) -> Self {
        let labels = [("service", name.to_owned())];
        Self {
            quorum: gauge!("lvs_service_quorum", &labels),
            alarm: gauge!("lvs_service_alarm", &labels),
            backups: gauge!("lvs_service_backups", &labels),
        }
    }
}

/// The labels that `node_exporter` gives to a destination (its `collector/ipvs_linux.go`, with `procfs`' `ipvs.go`),
/// which has them from `/proc/net/ip_vs`: there a mark is hexadecimal and stands in place of an address and port.
fn of_node_exporter(destination: &DestinationKey) -> [(&'static str, String); 6] {
    let DestinationKey { service, server } = destination;
    let (address, port, proto, mark) = match service {
        ServiceKey::Address { protocol, address } => {
            (address.ip().to_string(), address.port(), protocol.to_string().to_uppercase(), String::new())
        }
        ServiceKey::Mark { mark, family: AddressFamily::V4 | AddressFamily::V6 } => {
            (String::new(), 0, "FWM".to_owned(), format!("{mark:08X}"))
        }
    };
    [
        ("local_address", address),
        ("local_port", port.to_string()),
        ("remote_address", server.ip().to_string()),
        ("remote_port", server.port().to_string()),
        ("proto", proto),
        ("local_mark", mark),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::native,
        pool::Presence,
        probe::{Failure, FailureReason},
        telemetry::metrics::recorder,
    };

    #[test]
    fn a_server_has_its_series_until_it_goes() {
        let text = "[[service]]\nname = \"web\"\naddress = \"192.0.2.80:80\"\nforward = \"masquerade\"\n\
                    check = { type = \"http\" }\n[[service.server]]\naddress = \"10.0.0.2:8080\"\n\
                    [[service]]\nmark = 26\nforward = \"masquerade\"\ncheck = { type = \"ping\" }\n\
                    [[service.server]]\naddress = \"10.0.0.3:80\"\n";
        let services = native::read(text, "test.toml".as_ref()).expect("it is a configuration").services;
        let engine = Engine::new(&services, |_| Presence::In);
        let (recorder, exposition) = recorder().unwrap();
        metrics::with_local_recorder(&recorder, || {
            let mut gauges = StateGauges::default();
            gauges.show_all(&engine);
            let destinations: Vec<_> = engine.destinations().map(|(key, ..)| key).collect();
            let failure = Failure { reason: FailureReason::Refused, after: Duration::from_millis(2) };
            gauges.show_check(&engine, &destinations[0], 0, &Err(failure));
            let shown = exposition.render();
            for line in [
                "lvs_server_info{service=\"web\",server=\"10.0.0.2:8080\",local_address=\"192.0.2.80\",local_port=\"80\",\
                 remote_address=\"10.0.0.2\",remote_port=\"8080\",proto=\"TCP\",local_mark=\"\"} 1",
                "lvs_server_info{service=\"mark 26\",server=\"10.0.0.3:80\",local_address=\"\",local_port=\"0\",\
                 remote_address=\"10.0.0.3\",remote_port=\"80\",proto=\"FWM\",local_mark=\"0000001A\"} 1",
                "lvs_check_success{service=\"web\",server=\"10.0.0.2:8080\",check=\"http\",index=\"0\"} 0",
                "lvs_check_seconds_bucket{check=\"http\",le=\"0.0025\"} 1",
                "lvs_server_weight{service=\"web\",server=\"10.0.0.2:8080\"} 1",
            ] {
                assert!(shown.lines().any(|one| one == line), "{line}\n{shown}");
            }
            assert!(!shown.contains("NaN") && !shown.contains("lvs_server_up{"), "nothing is known: {shown}");
            for destination in &destinations {
                gauges.retire_destination(destination);
            }
            for service in &services {
                gauges.retire_service(&service.key);
            }
            let left = exposition.render();
            assert!(!left.contains("server=") && !left.contains("service="), "{left}");
        });
    }
}
