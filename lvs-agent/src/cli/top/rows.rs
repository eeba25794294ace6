//! The rows of the table: which services and servers, in which order. Pure.

use std::{cmp::Reverse, net::SocketAddr};

use crate::control::{ServerStatus, ServiceStatus, Status};

/// How services are ordered, and servers within each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// As in the configuration.
    #[default]
    Configuration,
    /// The worst first.
    State,
    /// The busiest first.
    Connections,
    /// The slowest first.
    Latency,
}

impl Order {
    /// The next one.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Configuration => Self::State,
            Self::State => Self::Connections,
            Self::Connections => Self::Latency,
            Self::Latency => Self::Configuration,
        }
    }

    /// In a word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::State => "state",
            Self::Connections => "connections",
            Self::Latency => "latency",
        }
    }

    /// What a server is ordered by: the least comes first.
    fn of_server(self, server: &ServerStatus) -> Reverse<u64> {
        Reverse(match self {
            Self::Configuration => 0,
            Self::State => badness(server),
            Self::Connections => server.traffic.as_ref().map_or(0, |traffic| traffic.connections_per_s),
            Self::Latency => slowest(server),
        })
    }

    fn of_service(self, service: &ServiceStatus) -> Reverse<u64> {
        let own = match self {
            Self::State => 10 * service.health as u64,
            Self::Connections => service.traffic.as_ref().map_or(0, |traffic| traffic.connections_per_s),
            Self::Configuration | Self::Latency => 0,
        };
        let of_servers = service.servers.iter().map(|server| self.of_server(server).0).max();
        Reverse(own.max(of_servers.unwrap_or_default()))
    }
}

/// How bad a server's state is.
fn badness(server: &ServerStatus) -> u64 {
    match server.state.as_str() {
        "down" => 5,
        "suspect" => 4,
        "damped" | "recovering" => 3,
        "unknown" => 2,
        _ if server.held || server.contradiction.is_some() => 1,
        _ => 0,
    }
}

/// How long its slowest check took, in microseconds.
fn slowest(server: &ServerStatus) -> u64 {
    let took = server.checks.iter().map(|check| check.took_ms * 1000.0).fold(0.0, f64::max);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates; 0 is the least"
    )]
    let took = took as u64;
    took
}

/// What a row is about, from one reading to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowKey {
    /// The key of the service.
    pub(super) service: String,
    /// `None`: the row of the service itself.
    pub(super) server: Option<SocketAddr>,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) service: &'a ServiceStatus,
    /// `None`: the row of the service itself.
    pub(super) server: Option<&'a ServerStatus>,
}

impl Row<'_> {
    /// What it is about.
    pub(super) fn key(&self) -> RowKey {
        RowKey { service: self.service.key.clone(), server: self.server.map(|server| server.address) }
    }

    /// Whether it is about that.
    pub(super) fn is(&self, key: &RowKey) -> bool {
        self.service.key == key.service && self.server.map(|server| server.address) == key.server
    }
}

/// All rows that the filter lets pass, in order. It looks for its text in the name and key of a service, which then has
/// all its servers, or in the address and state of a server.
pub(super) fn rows<'a>(status: &'a Status, order: Order, filter: &str) -> Vec<Row<'a>> {
    let filter = filter.to_lowercase();
    let has = |text: &str| text.to_lowercase().contains(&filter);
    let mut services: Vec<_> = status.services.iter().collect();
    services.sort_by_key(|service| order.of_service(service));
    let mut rows = Vec::new();
    for service in services {
        let is_named = has(&service.name) || has(&service.key);
        let is_shown = |server: &&ServerStatus| {
            is_named || has(&server.address.to_string()) || has(&server.state) || (server.held && has("held"))
        };
        let mut servers: Vec<_> = service.servers.iter().filter(is_shown).collect();
        if servers.is_empty() && !is_named {
            continue;
        }
        servers.sort_by_key(|server| order.of_server(server));
        rows.push(Row { service, server: None });
        rows.extend(servers.into_iter().map(|server| Row { service, server: Some(server) }));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::testing::{server, status};

    fn names(rows: &[Row<'_>]) -> Vec<String> {
        let name = |row: &Row<'_>| {
            row.server.map_or_else(|| row.service.name.clone(), |server| server.address.to_string())
        };
        rows.iter().map(name).collect()
    }

    #[test]
    fn rows_are_sorted_and_filtered() {
        let mut busy = server("10.0.0.3:80", "up");
        busy.traffic.as_mut().unwrap().connections_per_s = 900;
        busy.checks[0].took_ms = 0.1;
        let status = status(vec![
            ("web", vec![server("10.0.0.1:80", "up"), server("10.0.0.2:80", "down")]),
            ("mail", vec![busy]),
        ]);
        let shown = |order, filter| names(&rows(&status, order, filter));
        let all = ["web", "10.0.0.1:80", "10.0.0.2:80", "mail", "10.0.0.3:80"];
        assert_eq!(shown(Order::Configuration, ""), all);
        assert_eq!(shown(Order::State, ""), ["web", "10.0.0.2:80", "10.0.0.1:80", "mail", "10.0.0.3:80"]);
        assert_eq!(shown(Order::Connections, "")[..2], ["mail", "10.0.0.3:80"]);
        assert_eq!(shown(Order::Latency, "")[..1], ["web"]);
        assert_eq!(shown(Order::Configuration, "MAIL"), ["mail", "10.0.0.3:80"]);
        assert_eq!(shown(Order::Configuration, "down"), ["web", "10.0.0.2:80"]);
        assert_eq!(shown(Order::Configuration, "nothing"), [""; 0]);
    }
}
