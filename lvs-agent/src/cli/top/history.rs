//! What the servers did lately, for sparklines. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

use crate::control::{CheckOutcome, ServerStatus, Status};

/// How many readings are kept of a server: as many as the widest sparkline shows.
pub(super) const KEPT: usize = 120;

/// One reading of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// New connections a second, by the kernel's count.
    pub(super) connections_per_s: u64,
    /// How long its slowest check took that has succeeded, in microseconds.
    pub(super) latency_us: u64,
    /// Checks whose last result is no success.
    pub(super) failures: u64,
}

impl Reading {
    fn of(server: &ServerStatus) -> Self {
        let (answered, failed): (Vec<_>, Vec<_>) =
            server.checks.iter().partition(|check| check.result == CheckOutcome::Success);
        let slowest = answered.iter().map(|check| check.took_ms).fold(0.0, f64::max);
        Self {
            connections_per_s: server.traffic.as_ref().map_or(0, |traffic| traffic.connections_per_s),
            latency_us: microseconds(slowest),
            failures: failed.len() as u64,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and 0 is the least"
)]
fn microseconds(ms: f64) -> u64 {
    (ms * 1000.0).max(0.0) as u64
}

/// The readings of all servers, the latest last.
#[derive(Debug, Default)]
pub(super) struct Histories(BTreeMap<(String, SocketAddr), VecDeque<Reading>>);

impl Histories {
    /// Takes a reading of each server. Servers that are gone are forgotten.
    pub(super) fn add(&mut self, status: &Status) {
        let mut before = std::mem::take(&mut self.0);
        for service in &status.services {
            for server in &service.servers {
                let key = (service.key.clone(), server.address);
                let mut readings = before.remove(&key).unwrap_or_default();
                if readings.len() == KEPT {
                    readings.pop_front();
                }
                readings.push_back(Reading::of(server));
                self.0.insert(key, readings);
            }
        }
    }

    /// A server's last readings, the latest last; fewer than `most` where there are no more.
    pub(super) fn last(
        &self,
        service: &str,
        server: SocketAddr,
        most: usize,
    ) -> impl Iterator<Item = Reading> + '_ {
        let readings = self.0.get(&(service.to_owned(), server));
        let skipped = readings.map_or(0, |readings| readings.len().saturating_sub(most));
        readings.into_iter().flatten().skip(skipped).copied()
    }
}

/// Values as bars of a character each, the greatest of them the highest.
pub(super) fn bars(values: impl Iterator<Item = u64> + Clone) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let greatest = values.clone().max().unwrap_or_default().max(1);
    let bar = |value: u64| {
        let height = u128::from(value) * 8 / u128::from(greatest);
        // What is there is shown, however little.
        let height = usize::try_from(height).unwrap_or(8).max(usize::from(value > 0));
        BARS.get(height).copied().unwrap_or('█')
    };
    values.map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::testing::{server, status};

    #[test]
    fn bars_are_as_high_as_their_values() {
        let of = |values: &[u64]| bars(values.iter().copied());
        assert_eq!(of(&[0, 1, 4, 8]), " ▁▄█");
        assert_eq!(of(&[0, 0]), "  ");
        assert_eq!(of(&[1, u64::MAX]), "▁█");
        assert_eq!(of(&[]), "");
    }

    #[test]
    fn the_latest_readings_of_servers_that_are_there_are_kept() {
        let mut histories = Histories::default();
        let one = |rate| {
            let mut one = server("10.0.0.1:80", "up");
            one.traffic.as_mut().unwrap().connections_per_s = rate;
            status(vec![("web", vec![one])])
        };
        for rate in 0..KEPT as u64 + 5 {
            histories.add(&one(rate));
        }
        let rates = |histories: &Histories, most| {
            let address = "10.0.0.1:80".parse().unwrap();
            let last = histories.last("tcp 192.0.2.1:80", address, most);
            last.map(|reading| reading.connections_per_s).collect::<Vec<_>>()
        };
        assert_eq!(rates(&histories, 3), [122, 123, 124]);
        assert_eq!(rates(&histories, 1000).len(), KEPT);
        histories.add(&status(vec![("web", vec![server("10.0.0.2:80", "up")])]));
        assert_eq!(rates(&histories, 3), [0_u64; 0]);
    }
}
