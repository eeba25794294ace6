//! The state of destinations and services, as gauges.

use metrics::{Gauge, gauge};

use super::labels;
use crate::{
    engine::Engine,
    keyed::KeyMap,
    model::{DestinationKey, ServiceKey},
    pool::QuorumState,
};

/// The gauges of all destinations and services. Each is looked up once.
#[derive(Default)]
pub(crate) struct StateGauges {
    destinations: KeyMap<DestinationKey, DestinationGauges>,
    services: KeyMap<ServiceKey, ServiceGauges>,
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
        let gauges = self
            .destinations
            .entry(*destination)
            .or_insert_with(|| DestinationGauges::new(&labels(engine, destination)));
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

    /// Sets the gauges of a destination that is gone, or whose service has another name, to NaN.
    pub(crate) fn retire_destination(&mut self, destination: &DestinationKey) {
        if let Some(DestinationGauges { up, weight, relapses, admin_out, held, contradiction }) =
            self.destinations.remove(destination)
        {
            retire([up, weight, relapses, admin_out, held, contradiction]);
        }
    }

    /// Sets the gauges of a service that is gone or has another name to NaN.
    pub(crate) fn retire_service(&mut self, key: &ServiceKey) {
        if let Some(ServiceGauges { quorum, alarm, backups }) = self.services.remove(key) {
            retire([quorum, alarm, backups]);
        }
    }
}

impl DestinationGauges {
    fn new(labels: &[(&'static str, String); 2]) -> Self {
        Self {
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

fn retire(gauges: impl IntoIterator<Item = Gauge>) {
    for gauge in gauges {
        gauge.set(f64::NAN);
    }
}
