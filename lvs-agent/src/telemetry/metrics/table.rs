//! The kernel's table, as the agent knows it when somebody scrapes.

use metrics::{Gauge, gauge};

use crate::{keyed::KeyMap, model::DestinationKey, telemetry::source::TableWeight};

/// The weights in the kernel's table. A server that isn't there has no series.
#[derive(Default)]
pub(super) struct TableGauges {
    weights: KeyMap<DestinationKey, (String, Gauge)>,
}

impl TableGauges {
    /// Sets all of them; none where the table can't be read.
    pub(super) fn show(&mut self, weights: Vec<TableWeight>) {
        let mut before = std::mem::take(&mut self.weights);
        for TableWeight { service, destination, weight } in weights {
            let known = before.remove(&destination).filter(|(name, _)| *name == service);
            let (service, shown) = known.unwrap_or_else(|| {
                let labels = [("service", service.clone()), ("server", destination.server.to_string())];
                let shown = gauge!("lvs_server_table_weight", &labels);
                (service, shown)
            });
            shown.set(weight);
            self.weights.insert(destination, (service, shown));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Protocol, ServiceKey},
        telemetry::metrics::recorder,
    };

    #[test]
    fn a_server_that_left_the_table_leaves_its_series() {
        let service = ServiceKey::Address { protocol: Protocol::Tcp, address: ([192, 0, 2, 1], 80).into() };
        let weight = |host, weight| TableWeight {
            service: "web".to_owned(),
            destination: DestinationKey { service, server: ([10, 0, 0, host], 80).into() },
            weight,
        };
        let (recorder, exposition) = recorder().unwrap();
        metrics::with_local_recorder(&recorder, || {
            let mut gauges = TableGauges::default();
            let lines = |text: String| {
                let lines = text.lines().filter(|line| line.starts_with("lvs_server_table_weight"));
                lines.map(str::to_owned).collect::<Vec<_>>()
            };
            gauges.show(vec![weight(1, 1), weight(2, 0)]);
            let name = "lvs_server_table_weight{service=\"web\",server=\"10.0.0";
            assert_eq!(
                lines(exposition.render()),
                [format!("{name}.1:80\"}} 1"), format!("{name}.2:80\"}} 0")]
            );
            gauges.show(vec![weight(2, 7)]);
            assert_eq!(lines(exposition.render()), [format!("{name}.2:80\"}} 7")]);
            gauges.show(Vec::new());
            assert_eq!(lines(exposition.render()), Vec::<String>::new());
        });
    }
}
