//! Which servers' connections get a second chance, how, and why not. Pure.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    net::SocketAddr,
};

use lvs_common::{ServerId, chance};

use crate::{
    model::{DestinationKey, ForwardingMethod, OnFailure, Protocol, ServiceKey, VirtualService},
    passive::{Target, Targets},
};

/// The kernel's settings that decide whether a SYN that is sent again goes elsewhere; what can't be read counts as on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `net.ipv4.vs.expire_nodest_conn`.
    pub(crate) expire_nodest: bool,
    /// `net.ipv4.vs.expire_quiescent_template`.
    pub(crate) expire_quiescent: bool,
    /// `net.ipv4.vs.conntrack`: the first SYN may be dropped while the old entry goes.
    pub(crate) conntrack: bool,
}

/// How the SYNs of one server are sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The destination that it is, under whose name it is reported what becomes of its SYNs.
    pub(super) destination: DestinationKey,
    /// Further destinations that it is, of other services.
    pub(super) others: Vec<DestinationKey>,
    pub(super) to: To,
    /// What the programs do.
    pub(super) chance: u64,
}

impl Way {
    /// All destinations that it is.
    pub(super) fn destinations(&self) -> impl Iterator<Item = &DestinationKey> {
        [&self.destination].into_iter().chain(&self.others)
    }
}

/// Where clients had sent their SYNs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// To where they went.
    Kept,
    /// To the only service.
    Address(SocketAddr),
    /// To one of several addresses: the kernel's table of connections has which.
    ConnectionTable,
}

/// Why there is no second chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Connections stay with a dead server whatever is sent.
    NodestStays,
    /// Templates do.
    TemplatesStay,
    /// The server is never out.
    StaysIn,
    /// There are no SYNs.
    NoTcp,
    /// A server is also that of a service without.
    SharedServer,
    /// The passive signal is off, or not to be had.
    NoSignal,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NodestStays => {
                "a SYN that is sent again would go to the dead server, as net.ipv4.vs.expire_nodest_conn is 0; set \
                 `expire-nodest = true` in `[agent.connections]`"
            }
            Self::TemplatesStay => {
                "a persistent client's SYN would go to the dead server, as net.ipv4.vs.expire_quiescent_template is 0; set \
                 it to 1, or on-failure = \"remove\""
            }
            Self::StaysIn => "its failed servers keep a weight, and SYNs could go there again; set another on-failure",
            Self::NoTcp => "it is not TCP",
            Self::SharedServer => {
                "a server of it is also that of a service without second chance, and a SYN does not tell which of them the \
                 client meant"
            }
            Self::NoSignal => "there is no passive detection",
        })
    }
}

/// The ways of all servers, and the services without, with the first reason of each.
pub(super) type Ways = (BTreeMap<ServerId, Way>, Vec<(String, Refusal)>);

/// Finds them.
pub(super) fn ways(targets: &Targets, services: &[VirtualService], settings: Settings) -> Ways {
    let mut ways = BTreeMap::new();
    let mut refused = Vec::new();
    let wanted: HashSet<ServiceKey> = services
        .iter()
        .filter(|service| service.second_chance.is_on() && refusal(service, settings).is_none())
        .map(|service| service.key)
        .collect();
    for service in services.iter().filter(|service| service.second_chance.is_on()) {
        if let Some(reason) = refusal(service, settings) {
            refused.push((service.name.clone(), reason));
            continue;
        }
        let mut reason = None;
        for target in targets.of_service(&service.key, Protocol::Tcp) {
            match way(target, &wanted) {
                Ok(way) => drop(ways.insert(target.id, way)),
                Err(why) => reason = reason.or(Some(why)),
            }
        }
        refused.extend(reason.map(|why| (service.name.clone(), why)));
    }
    (ways, refused)
}

/// Why a service as a whole can't have it.
fn refusal(service: &VirtualService, settings: Settings) -> Option<Refusal> {
    let on_failure = service.on_failure();
    if matches!(service.key, ServiceKey::Address { protocol, .. } if protocol != Protocol::Tcp) {
        return Some(Refusal::NoTcp);
    }
    if !settings.expire_nodest {
        return Some(Refusal::NodestStays);
    }
    let quiesces = on_failure == OnFailure::Quiesce;
    if service.persistence.is_some() && quiesces && !settings.expire_quiescent {
        return Some(Refusal::TemplatesStay);
    }
    matches!(on_failure, OnFailure::Lower(_)).then_some(Refusal::StaysIn)
}

fn way(target: &Target, wanted: &HashSet<ServiceKey>) -> Result<Way, Refusal> {
    let Some((&destination, others)) = target.destinations.split_first() else {
        return Err(Refusal::NoSignal);
    };
    if !target.destinations.iter().all(|destination| wanted.contains(&destination.service)) {
        return Err(Refusal::SharedServer);
    }
    let (to, chance) = match destination.service {
        _ if target.method != ForwardingMethod::Masquerade => (To::Kept, chance::KEEP),
        ServiceKey::Address { address, .. } if others.is_empty() => (To::Address(address), chance::HOLD),
        _ => (To::ConnectionTable, chance::HOLD),
    };
    Ok(Way { destination, others: others.to_vec(), to, chance })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::native, passive::forwardings};

    const GOOD: Settings = Settings { expire_nodest: true, expire_quiescent: true, conntrack: false };

    fn services(text: &str) -> Vec<VirtualService> {
        native::read(text, "test.toml".as_ref()).expect("it is a configuration").services
    }

    fn service(number: u8, server: &str, lines: &str) -> String {
        format!(
            "[[service]]\nname = \"s{number}\"\naddress = \"192.0.2.{number}:80\"\nsecond-chance = true\n{lines}\n\
             [[service.server]]\naddress = \"{server}\"\n"
        )
    }

    fn found(text: &str, settings: Settings) -> (Vec<Way>, Vec<(String, Refusal)>) {
        let services = services(text);
        let targets = Targets::new(services.iter().flat_map(forwardings));
        let (ways, refused) = ways(&targets, &services, settings);
        (ways.into_values().collect(), refused)
    }

    #[test]
    fn a_service_without_it_has_no_way() {
        let text = service(1, "10.0.0.1:80", "forward = \"masquerade\"").replace("= true", "= false");
        assert_eq!(found(&text, GOOD), (vec![], vec![]));
    }

    #[test]
    fn refusals_are_held_back_where_they_are_seen() {
        let vip = To::Address("192.0.2.1:80".parse().unwrap());
        for (forward, to, chance) in [
            ("masquerade", vip, chance::HOLD),
            ("direct-route", To::Kept, chance::KEEP),
            ("tunnel", To::Kept, chance::KEEP),
        ] {
            let (ways, refused) = found(&service(1, "10.0.0.1:80", &format!("forward = {forward:?}")), GOOD);
            let [way] = &ways[..] else { panic!("{forward}: {ways:?}") };
            assert_eq!((way.to, way.chance, refused.len()), (to, chance, 0), "{forward}");
        }
    }

    #[test]
    fn what_would_not_help_is_refused_with_the_reason() {
        let masquerade = "forward = \"masquerade\"";
        let one = |lines: &str| service(1, "10.0.0.1:80", &format!("{masquerade}\n{lines}"));
        let no_nodest = Settings { expire_nodest: false, ..GOOD };
        let no_quiescent = Settings { expire_quiescent: false, ..GOOD };
        let shared = one("") + &service(2, "10.0.0.1:80", masquerade).replace("= true", "= false");
        let hindered = one("")
            + &service(2, "10.0.0.1:80", masquerade).replace("= true", "= true\npersistent = \"300s\"");
        let cases = [
            (one(""), no_nodest, Refusal::NodestStays),
            (one("persistent = \"300s\""), no_quiescent, Refusal::TemplatesStay),
            (one("on-failure = { weight = 1 }"), GOOD, Refusal::StaysIn),
            (one("protocol = \"udp\"\ncheck = { type = \"ping\" }"), GOOD, Refusal::NoTcp),
            (shared, GOOD, Refusal::SharedServer),
        ];
        for (text, settings, expected) in cases {
            let (ways, refused) = found(&text, settings);
            assert_eq!(
                (ways, refused.first().map(|(_, reason)| *reason)),
                (vec![], Some(expected)),
                "{text}"
            );
        }
        let (ways, refused) = found(&hindered, no_quiescent);
        let reasons: Vec<_> = refused.iter().map(|(name, reason)| (name.as_str(), *reason)).collect();
        let both = [("s1", Refusal::SharedServer), ("s2", Refusal::TemplatesStay)];
        assert_eq!((ways, &reasons[..]), (vec![], &both[..]), "the other one hinders it as well");
        let removed = one("persistent = \"300s\"\non-failure = \"remove\"");
        assert_eq!(
            found(&removed, no_quiescent).0.len(),
            1,
            "a template of a removed server is no hindrance"
        );
    }

    #[test]
    fn the_table_of_connections_tells_where_several_services_share_a_server() {
        let masquerade = "forward = \"masquerade\"";
        let shared = service(1, "10.0.0.1:80", masquerade) + &service(2, "10.0.0.1:80", masquerade);
        let (ways, refused) = found(&shared, GOOD);
        let [way] = &ways[..] else { panic!("{ways:?}") };
        let services: Vec<_> =
            way.destinations().map(|destination| destination.service.to_string()).collect();
        assert_eq!(services, ["tcp 192.0.2.1:80", "tcp 192.0.2.2:80"]);
        assert_eq!((way.to, way.chance, refused.len()), (To::ConnectionTable, chance::HOLD, 0));
        let mark = service(1, "10.0.0.1:80", masquerade).replace("address = \"192.0.2.1:80\"", "mark = 7");
        let (ways, refused) = found(&mark, GOOD);
        assert_eq!((ways[0].to, refused.len()), (To::ConnectionTable, 0), "{ways:?}");
    }
}
