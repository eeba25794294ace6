//! The servers that people mean, by address, port and service. Pure.

use std::net::SocketAddr;

use crate::{
    control::ServerName,
    model::{DestinationKey, ServiceKey, VirtualService},
};

/// How many similar names an error proposes.
const PROPOSED: usize = 3;

/// Which servers are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSelector {
    pub(crate) server: ServerName,
    /// Only in this service: its name, its key, or its address.
    pub(crate) service: Option<String>,
}

/// There is no such server or service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    #[error("no service has a server {server}{}", instead(.near))]
    Server { server: ServerName, near: Vec<String> },
    #[error("there is no service {service:?}{}", instead(.near))]
    Service { service: String, near: Vec<String> },
    #[error("service {service:?} has no server {server}; it belongs to {}", .has_it.join(", "))]
    NotInService { server: ServerName, service: String, has_it: Vec<String> },
}

impl Unknown {
    /// That none of the services has this name, with the most similar names.
    pub(crate) fn service<'a>(services: impl Iterator<Item = &'a VirtualService>, wanted: &str) -> Self {
        Self::named(services.map(|service| service.name.clone()), wanted)
    }

    /// The same of services by their names.
    pub(crate) fn named(names: impl Iterator<Item = String>, wanted: &str) -> Self {
        Self::Service { service: wanted.to_owned(), near: nearest(names, wanted) }
    }

    /// That none of the services has this server, with the most similar addresses.
    fn server(services: &[&VirtualService], server: ServerName) -> Self {
        let mut servers: Vec<SocketAddr> = destinations(services).map(|(key, _)| key.server).collect();
        servers.sort_unstable();
        servers.dedup();
        let names = servers.into_iter().map(|server| server.to_string());
        Self::Server { server, near: nearest(names, &server.to_string()) }
    }
}

fn instead(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; there are {}, …", near.join(", ")) }
}

/// The selected servers and backups of these services, at least one.
pub(crate) fn select(
    services: &[&VirtualService],
    selector: &ServerSelector,
) -> Result<Vec<DestinationKey>, Unknown> {
    let ServerSelector { server, service } = selector;
    let matching: Vec<_> = destinations(services).filter(|(key, _)| server.is(key.server)).collect();
    let is_wanted = |of: &VirtualService| service.as_ref().is_none_or(|name| is_named(of, name));
    if let Some(name) = service
        && !services.iter().any(|service| is_wanted(service))
    {
        return Err(Unknown::service(services.iter().copied(), name));
    }
    let of_service = matching.iter().filter(|(_, service)| is_wanted(service));
    let mut selected: Vec<_> = of_service.map(|(key, _)| *key).collect();
    selected.dedup();
    match service {
        _ if !selected.is_empty() => Ok(selected),
        Some(service) if !matching.is_empty() => {
            let mut has_it: Vec<_> =
                matching.iter().map(|(_, service)| format!("{:?}", service.name)).collect();
            has_it.dedup();
            Err(Unknown::NotInService { server: *server, service: service.clone(), has_it })
        }
        _ => Err(Unknown::server(services, *server)),
    }
}

/// Whether this is the service's name, key or address.
pub(crate) fn is_named(service: &VirtualService, wanted: &str) -> bool {
    is_named_so(&service.name, &service.key, wanted)
}

/// Whether this is a name, key or address of a service with this name and key.
pub(crate) fn is_named_so(name: &str, key: &ServiceKey, wanted: &str) -> bool {
    if name == wanted {
        return true;
    }
    let key = key.to_string();
    let address = key.split_once(' ').map_or("", |(_, address)| address);
    key == wanted || address == wanted
}

fn destinations<'a>(
    services: &[&'a VirtualService],
) -> impl Iterator<Item = (DestinationKey, &'a VirtualService)> {
    let of = |service: &'a VirtualService| service.all_destinations().map(move |key| (key, service));
    services.iter().copied().flat_map(of)
}

/// The names most similar to what was written.
fn nearest(names: impl Iterator<Item = String>, wanted: &str) -> Vec<String> {
    let mut scored: Vec<(f64, String)> =
        names.map(|name| (strsim::normalized_damerau_levenshtein(&name, wanted), name)).collect();
    scored.sort_by(|(first, _), (second, _)| second.total_cmp(first));
    scored.into_iter().take(PROPOSED).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::native;

    const CONFIG: &str = r#"
        [defaults]
        forward = "masquerade"
        [[service]]
        name = "web"
        address = "192.0.2.1:80"
        [[service.server]]
        address = "10.0.0.1:80"
        [[service.server]]
        address = "10.0.0.2:80"
        [[service.backup]]
        address = "10.0.0.9:80"
        [[service]]
        name = "mail"
        address = "192.0.2.1:25"
        [[service.server]]
        address = "10.0.0.1:25"
    "#;

    #[test]
    fn servers_are_selected_by_address_port_and_service() {
        let config = native::read(CONFIG, "test.toml".as_ref()).expect("it is a configuration");
        let services: Vec<_> = config.services.iter().collect();
        let cases = [
            ("10.0.0.1", None, Ok("192.0.2.1:80 10.0.0.1:80, 192.0.2.1:25 10.0.0.1:25")),
            ("10.0.0.1:25", None, Ok("192.0.2.1:25 10.0.0.1:25")),
            ("10.0.0.1", Some("web"), Ok("192.0.2.1:80 10.0.0.1:80")),
            ("10.0.0.1", Some("tcp 192.0.2.1:25"), Ok("192.0.2.1:25 10.0.0.1:25")),
            ("10.0.0.1", Some("192.0.2.1:25"), Ok("192.0.2.1:25 10.0.0.1:25")),
            ("10.0.0.9", None, Ok("192.0.2.1:80 10.0.0.9:80")),
            (
                "10.0.0.3:80",
                None,
                Err(
                    "no service has a server 10.0.0.3:80; there are 10.0.0.1:80, 10.0.0.2:80, 10.0.0.9:80, …",
                ),
            ),
            ("10.0.0.1", Some("wbe"), Err("there is no service \"wbe\"; there are web, mail, …")),
            ("10.0.0.2", Some("mail"), Err("service \"mail\" has no server 10.0.0.2; it belongs to \"web\"")),
        ];
        for (server, service, expected) in cases {
            let selector =
                ServerSelector { server: server.parse().unwrap(), service: service.map(str::to_owned) };
            let selected = select(&services, &selector).map(|keys| {
                let name = |key: &DestinationKey| {
                    let service = key.service.to_string();
                    format!("{} {}", service.trim_start_matches("tcp "), key.server)
                };
                keys.iter().map(name).collect::<Vec<_>>().join(", ")
            });
            let selected = selected.map_err(|unknown| unknown.to_string());
            assert_eq!(selected, expected.map(str::to_owned).map_err(str::to_owned), "{server} {service:?}");
        }
    }
}
