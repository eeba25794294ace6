//! Which servers' connections get a second chance, how, and why not. Pure.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use lvs_common::{ServerId, chance};

use crate::{
    keyed::KeyMap,
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
    /// The destination that it is.
    pub(super) destination: DestinationKey,
    /// Where clients send their SYNs to, where IPVS has rewritten that.
    pub(super) to: Option<SocketAddr>,
    /// What the programs do.
    pub(super) chance: u64,
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
    /// What clients had sent their SYNs to isn't known once IPVS has rewritten it.
    ManyServices,
    /// The same where a service is a mark.
    Marked,
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
            Self::ManyServices => {
                "a masqueraded server of it is also another service's, and a SYN does not tell which one the client meant"
            }
            Self::Marked => {
                "a SYN to a masqueraded server does not tell to which address of a firewall-mark service the client had \
                 sent it"
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
    let wanted: KeyMap<ServiceKey, &VirtualService> = services
        .iter()
        .filter(|service| service.second_chance.is_on())
        .map(|service| (service.key, service))
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

fn way(target: &Target, wanted: &KeyMap<ServiceKey, &VirtualService>) -> Result<Way, Refusal> {
    let [destination] = target.destinations[..] else { return Err(Refusal::ManyServices) };
    if target.method != ForwardingMethod::Masquerade {
        return Ok(Way { destination, to: None, chance: chance::KEEP });
    }
    match destination.service {
        ServiceKey::Address { address, .. } if wanted.contains_key(&destination.service) => {
            Ok(Way { destination, to: Some(address), chance: chance::HOLD })
        }
        ServiceKey::Address { .. } => Err(Refusal::ManyServices),
        ServiceKey::Mark { .. } => Err(Refusal::Marked),
    }
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
        let vip = Some("192.0.2.1:80".parse().unwrap());
        for (forward, to, chance) in [
            ("masquerade", vip, chance::HOLD),
            ("direct-route", None, chance::KEEP),
            ("tunnel", None, chance::KEEP),
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
        let shared = one("") + &service(2, "10.0.0.1:80", masquerade);
        let cases = [
            (one(""), no_nodest, Refusal::NodestStays),
            (one("persistent = \"300s\""), no_quiescent, Refusal::TemplatesStay),
            (one("on-failure = { weight = 1 }"), GOOD, Refusal::StaysIn),
            (one("protocol = \"udp\"\ncheck = { type = \"ping\" }"), GOOD, Refusal::NoTcp),
            (shared, GOOD, Refusal::ManyServices),
        ];
        for (text, settings, expected) in cases {
            let (ways, refused) = found(&text, settings);
            assert_eq!(
                (ways, refused.first().map(|(_, reason)| *reason)),
                (vec![], Some(expected)),
                "{text}"
            );
        }
        let removed = one("persistent = \"300s\"\non-failure = \"remove\"");
        assert_eq!(
            found(&removed, no_quiescent).0.len(),
            1,
            "a template of a removed server is no hindrance"
        );
    }
}
