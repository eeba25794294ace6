//! What the kernel does to connections of servers that are out: set where the configuration says so, and looked at for what
//! would leave clients with a dead server.

use std::collections::BTreeMap;

use tracing::warn;

use crate::{
    event::{Event, Publisher},
    ipvs::Sysctl,
    model::{Config, ConnectionSettings, Mode, OnFailure, Protocol, ServiceKey, VirtualService},
};

/// How many services a warning names.
const NAMED: usize = 3;

/// What is set now; what can't be read is missing.
pub(crate) type Values = BTreeMap<Sysctl, i32>;

/// Sets what the configuration says, as far as this agent may, and warns of what is left.
pub(crate) fn settle(config: &Config, events: &Publisher) {
    if config.agent.mode == Mode::Manage {
        for (sysctl, value) in wanted(config.agent.connections) {
            set(sysctl, value, events);
        }
    }
    for risk in risks(&values(), &config.services) {
        events.publish(Event::ConnectionRisk { risk });
    }
}

/// What is set in this network namespace.
pub(crate) fn values() -> Values {
    Sysctl::ALL.into_iter().filter_map(|sysctl| Some((sysctl, sysctl.read().ok()?))).collect()
}

fn set(sysctl: Sysctl, value: i32, events: &Publisher) {
    match sysctl.read() {
        Ok(found) if found == value => {}
        Ok(found) => match sysctl.write(value) {
            Ok(()) => events.publish(Event::Sysctl { sysctl, from: found, to: value }),
            Err(error) => warn!("{sysctl} can't be set to {value}, it stays {found}: {error}"),
        },
        Err(error) => warn!("{sysctl} can't be read: {error}"),
    }
}

fn wanted(settings: ConnectionSettings) -> impl Iterator<Item = (Sysctl, i32)> + use<> {
    let ConnectionSettings { expire_nodest, expire_quiescent, reuse_mode } = settings;
    let all = [
        (Sysctl::ExpireNodestConn, expire_nodest.map(i32::from)),
        (Sysctl::ExpireQuiescentTemplate, expire_quiescent.map(i32::from)),
        (Sysctl::ConnReuseMode, reuse_mode.map(i32::from)),
    ];
    all.into_iter().filter_map(|(sysctl, value)| Some((sysctl, value?)))
}

/// What would leave clients with a dead server, for people; from `ip_vs_in` and `ip_vs_check_template` of Linux 6.1.
pub(crate) fn risks(values: &Values, services: &[VirtualService]) -> Vec<String> {
    let is_off = |sysctl| values.get(&sysctl) == Some(&0);
    let quiesces = |service: &&VirtualService| service.on_failure == OnFailure::Quiesce;
    let removes = |service: &&VirtualService| service.on_failure == OnFailure::Remove;
    let sends_datagrams = |service: &&VirtualService| protocol(service) == Some(Protocol::Udp);
    let (nodest, reuse) = (is_off(Sysctl::ExpireNodestConn), is_off(Sysctl::ConnReuseMode));
    let quiescent = is_off(Sysctl::ExpireQuiescentTemplate);
    let told = [
        tell(
            services.iter().filter(quiesces).filter(|one| !sends_datagrams(one) && (nodest || reuse)),
            if nodest {
                "a client's retried SYN stays with its dead server: net.ipv4.vs.expire_nodest_conn is 0"
            } else {
                "a client's retried SYN stays with its dead server: net.ipv4.vs.conn_reuse_mode is 0"
            },
        ),
        tell(
            services.iter().filter(removes).filter(|_| nodest),
            "packets of a removed server's connections are dropped silently: net.ipv4.vs.expire_nodest_conn is 0",
        ),
        tell(
            services.iter().filter(quiesces).filter(|one| one.persistence.is_some() && quiescent),
            "a persistent client's next connection goes to its dead server: net.ipv4.vs.expire_quiescent_template is 0",
        ),
        tell(
            services
                .iter()
                .filter(quiesces)
                .filter(|one| sends_datagrams(one) && one.one_packet != Some(true)),
            "a client that keeps sending datagrams stays with its dead server: set on-failure = \"remove\" or \
             one-packet to move it",
        ),
    ];
    told.into_iter().flatten().collect()
}

fn protocol(service: &VirtualService) -> Option<Protocol> {
    match service.key {
        ServiceKey::Address { protocol, .. } => Some(protocol),
        ServiceKey::Mark { .. } => None,
    }
}

fn tell<'a>(services: impl Iterator<Item = &'a VirtualService>, what: &str) -> Option<String> {
    let names: Vec<&str> = services.map(|service| service.name.as_str()).collect();
    let first = names.get(..NAMED.min(names.len())).unwrap_or_default().join(", ");
    match names.len() {
        0 => None,
        count if count > NAMED => Some(format!("{first} and {} more: {what}", count - NAMED)),
        _ => Some(format!("{first}: {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::native;

    #[test]
    fn what_would_leave_clients_with_a_dead_server() {
        let service = |name: &str, more: &str| {
            format!(
                "[[service]]\nname = \"{name}\"\naddress = \"192.0.2.{}:80\"\nforward = \"masquerade\"\n{more}\n\
                 [[service.server]]\naddress = \"10.0.0.1:80\"\n",
                name.len()
            )
        };
        let text = [
            service("q", ""),
            service("rr", "on-failure = \"remove\""),
            service("ppp", "persistent = \"300s\""),
            service("uuuu", "protocol = \"udp\"\ncheck = { type = \"ping\" }"),
            service("ooooo", "protocol = \"udp\"\ncheck = { type = \"ping\" }\none-packet = true"),
        ]
        .concat();
        let services = native::read(&text, "test.toml".as_ref()).expect("it is a configuration").services;
        let about = |nodest, quiescent, reuse| {
            let values = Values::from([
                (Sysctl::ExpireNodestConn, nodest),
                (Sysctl::ExpireQuiescentTemplate, quiescent),
                (Sysctl::ConnReuseMode, reuse),
            ]);
            let risks = risks(&values, &services);
            let about = risks.iter().map(|risk| {
                let (names, what) = risk.split_once(": ").unwrap();
                (names.to_owned(), what.rsplit_once("net.ipv4.vs.").map_or("", |(_, name)| name).to_owned())
            });
            about.collect::<Vec<_>>()
        };
        let told = |risks: &[(&str, &str)]| -> Vec<(String, String)> {
            risks.iter().map(|(names, what)| ((*names).to_owned(), (*what).to_owned())).collect()
        };
        let udp = ("uuuu", "");
        assert_eq!(about(1, 1, 1), told(&[udp]));
        assert_eq!(
            about(0, 1, 1),
            told(&[("q, ppp", "expire_nodest_conn is 0"), ("rr", "expire_nodest_conn is 0"), udp])
        );
        assert_eq!(about(1, 0, 1), told(&[("ppp", "expire_quiescent_template is 0"), udp]));
        assert_eq!(about(1, 1, 0), told(&[("q, ppp", "conn_reuse_mode is 0"), udp]));
        assert_eq!(risks(&Values::new(), &services).len(), 1, "what isn't known is no risk");
    }

    #[test]
    fn only_what_is_written_is_set() {
        let all = |nodest, quiescent, reuse_mode| {
            let settings =
                ConnectionSettings { expire_nodest: nodest, expire_quiescent: quiescent, reuse_mode };
            wanted(settings).map(|(sysctl, value)| (sysctl.name(), value)).collect::<Vec<_>>()
        };
        assert_eq!(all(None, None, None), []);
        assert_eq!(all(Some(true), None, Some(2)), [("expire_nodest_conn", 1), ("conn_reuse_mode", 2)]);
        assert_eq!(all(None, Some(false), None), [("expire_quiescent_template", 0)]);
    }
}
