//! The settings under `net.ipv4.vs` that decide about connections of servers that are out: sets those that the
//! configuration has, and warns of settings that would leave clients with a dead server.

use std::collections::BTreeMap;

use tracing::warn;

use crate::{
    event::{Event, Publisher},
    ipvs::Sysctl,
    model::{Config, ConnectionSettings, Mode, OnFailure, Protocol, ServiceKey, VirtualService},
};

/// How many services a warning names.
const NAMED: usize = 3;

/// The current values; settings that can't be read are missing.
pub(crate) type Values = BTreeMap<Sysctl, i32>;

/// Sets what the configuration has, if this agent manages the table, and warns of the risks that are left.
pub(crate) fn apply(config: &Config, events: &Publisher) {
    if config.agent.mode == Mode::Manage {
        for (sysctl, value) in wanted(config.agent.connections) {
            set(sysctl, value, events);
        }
    }
    for risk in risks(&values(), &config.services) {
        events.publish(Event::ConnectionRisk { risk });
    }
}

/// The values in this network namespace.
pub(crate) fn values() -> Values {
    Sysctl::ALL.into_iter().filter_map(|sysctl| Some((sysctl, sysctl.read().ok()?))).collect()
}

fn set(sysctl: Sysctl, value: i32, events: &Publisher) {
    match sysctl.read() {
        Ok(current) if current == value => {}
        Ok(current) => match sysctl.write(value) {
            Ok(()) => events.publish(Event::Sysctl { sysctl, from: current, to: value }),
            Err(error) => warn!("{sysctl} can't be set to {value}, it stays {current}: {error}"),
        },
        Err(error) => warn!("{sysctl} can't be read: {error}"),
    }
}

fn wanted(settings: ConnectionSettings) -> impl Iterator<Item = (Sysctl, i32)> + use<> {
    let ConnectionSettings { expire_nodest, expire_quiescent, reuse_mode } = settings;
    let settings = [
        (Sysctl::ExpireNodestConn, expire_nodest.map(i32::from)),
        (Sysctl::ExpireQuiescentTemplate, expire_quiescent.map(i32::from)),
        (Sysctl::ConnReuseMode, reuse_mode.map(i32::from)),
    ];
    settings.into_iter().filter_map(|(sysctl, value)| Some((sysctl, value?)))
}

/// What would leave clients with a dead server, as texts; from `ip_vs_in` and `ip_vs_check_template` of Linux 6.1.
pub(crate) fn risks(values: &Values, services: &[VirtualService]) -> Vec<String> {
    let is_off = |sysctl| values.get(&sysctl) == Some(&0);
    let quiesces = |service: &&VirtualService| service.on_failure() == OnFailure::Quiesce;
    let removes = |service: &&VirtualService| service.on_failure() == OnFailure::Remove;
    let sends_datagrams = |service: &&VirtualService| protocol(service) == Some(Protocol::Udp);
    let nodest = is_off(Sysctl::ExpireNodestConn);
    let quiescent = is_off(Sysctl::ExpireQuiescentTemplate);
    let risks = [
        risk(
            services.iter().filter(quiesces).filter(|service| !sends_datagrams(service) && nodest),
            "a client's retried SYN stays with its dead server: net.ipv4.vs.expire_nodest_conn is 0",
        ),
        risk(
            services.iter().filter(removes).filter(|_| nodest),
            "packets of a removed server's connections are dropped silently: net.ipv4.vs.expire_nodest_conn is 0",
        ),
        risk(
            services.iter().filter(quiesces).filter(|service| service.persistence.is_some() && quiescent),
            "a persistent client's next connection goes to its dead server: net.ipv4.vs.expire_quiescent_template is 0",
        ),
        risk(
            services
                .iter()
                .filter(quiesces)
                .filter(|service| sends_datagrams(service) && service.one_packet != Some(true)),
            "a client that keeps sending datagrams stays with its dead server: set on-failure = \"remove\" or \
             one-packet to move it",
        ),
        risk(
            services.iter().filter(quiesces).filter(|service| service.refuses_at_weight_0()),
            "the kernel refuses the clients of a server at weight 0, as the scheduler chooses by a hash and has no \
             fallback: set on-failure = \"remove\", or the scheduler's fallback flag",
        ),
    ];
    risks.into_iter().flatten().collect()
}

fn protocol(service: &VirtualService) -> Option<Protocol> {
    match service.key {
        ServiceKey::Address { protocol, .. } => Some(protocol),
        ServiceKey::Mark { .. } => None,
    }
}

/// A risk with the names of its services; `None` if no service has it.
fn risk<'a>(services: impl Iterator<Item = &'a VirtualService>, text: &str) -> Option<String> {
    let names: Vec<&str> = services.map(|service| service.name.as_str()).collect();
    let first = names.get(..NAMED.min(names.len())).unwrap_or_default().join(", ");
    match names.len() {
        0 => None,
        count if count > NAMED => Some(format!("{first} and {} more: {text}", count - NAMED)),
        _ => Some(format!("{first}: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::native;

    #[test]
    fn settings_that_leave_clients_with_a_dead_server_are_risks() {
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
        let expected = |risks: &[(&str, &str)]| -> Vec<(String, String)> {
            risks.iter().map(|(names, what)| ((*names).to_owned(), (*what).to_owned())).collect()
        };
        let udp = ("uuuu", "");
        assert_eq!(about(1, 1, 1), expected(&[udp]));
        assert_eq!(
            about(0, 1, 1),
            expected(&[("q, ppp", "expire_nodest_conn is 0"), ("rr", "expire_nodest_conn is 0"), udp])
        );
        assert_eq!(about(1, 0, 1), expected(&[("ppp", "expire_quiescent_template is 0"), udp]));
        assert_eq!(about(1, 1, 0), expected(&[udp]), "expire_nodest_conn counts at weight 0 all the same");
        assert_eq!(risks(&Values::new(), &services).len(), 1, "a setting that can't be read is no risk");
    }

    #[test]
    fn a_scheduler_that_refuses_clients_at_weight_0_is_a_risk() {
        let service = |number: u8, lines: &str| {
            format!(
                "[[service]]\nname = \"s{number}\"\naddress = \"192.0.2.{number}:80\"\nforward = \"masquerade\"\n{lines}\n\
                 [[service.server]]\naddress = \"10.0.0.1:80\"\n"
            )
        };
        let text = service(1, "scheduler = \"sh\"")
            + &service(2, "scheduler = \"sh\"\nscheduler-flags = []\non-failure = \"quiesce\"")
            + &service(3, "scheduler = \"dh\"")
            + &service(4, "scheduler = \"dh\"\non-failure = \"quiesce\"");
        let services = native::read(&text, "test.toml".as_ref()).expect("it is a configuration").services;
        let risks = risks(&Values::new(), &services);
        assert!(risks.len() == 1 && risks[0].starts_with("s2, s4: the kernel refuses"), "{risks:?}");
    }

    #[test]
    fn only_configured_settings_are_set() {
        let set = |nodest, quiescent, reuse_mode| {
            let settings =
                ConnectionSettings { expire_nodest: nodest, expire_quiescent: quiescent, reuse_mode };
            wanted(settings).map(|(sysctl, value)| (sysctl.name(), value)).collect::<Vec<_>>()
        };
        assert_eq!(set(None, None, None), []);
        assert_eq!(set(Some(true), None, Some(2)), [("expire_nodest_conn", 1), ("conn_reuse_mode", 2)]);
        assert_eq!(set(None, Some(false), None), [("expire_quiescent_template", 0)]);
    }
}
