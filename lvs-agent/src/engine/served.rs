//! How well services are served, for others who act on it: `lvs-agent healthy`, and what is announced. Pure.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::selection::{Unknown, is_named_so};
use crate::{
    control::{HealthVerdict, Healthiness},
    model::{ServiceKey, Share},
    pool::QuorumState,
};

/// How many services are named that aren't healthy.
const NAMED: usize = 3;

/// How well a service is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) name: Arc<str>,
    pub(crate) key: ServiceKey,
    pub(crate) quorum: QuorumState,
    /// The weight of its servers that are healthy and take connections.
    pub(crate) up: u64,
    /// The weight that they have together by the configuration.
    pub(crate) whole: u64,
    /// How many backups serve.
    pub(crate) backups_in: usize,
}

/// What a service must be like to count as healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Criterion {
    /// The share of its weight that must be up; `None`: it must have its quorum.
    pub(crate) min_share: Option<Share>,
    /// Whether backups that serve are enough.
    pub(crate) backups: bool,
}

impl Served {
    /// The share of its weight that is up.
    pub(crate) fn share(&self) -> Share {
        Share::of(self.up, self.whole)
    }

    /// Whether it counts as healthy. What is not known yet is not healthy, and may become so by itself.
    pub(crate) fn verdict(&self, criterion: Criterion) -> HealthVerdict {
        let is_well = match criterion.min_share {
            None => self.quorum == QuorumState::Has,
            Some(min) => self.whole > 0 && self.share() >= min,
        };
        match self.quorum {
            _ if is_well => HealthVerdict::Healthy,
            _ if criterion.backups && self.backups_in > 0 => HealthVerdict::Healthy,
            QuorumState::Unknown => HealthVerdict::Unknown,
            QuorumState::Has | QuorumState::Lost => HealthVerdict::Unhealthy,
        }
    }

    fn words(&self, criterion: Criterion) -> String {
        let Self { name, up, whole, .. } = self;
        let backups = if self.backups_in > 0 { ", backups serve" } else { "" };
        match (self.verdict(criterion), criterion.min_share) {
            (HealthVerdict::Unknown, _) => format!("{name}: not known yet, {up} of {whole} by weight are up"),
            (_, None) => format!("{name}: no quorum, {up} of {whole} by weight are up{backups}"),
            (_, Some(min)) => format!("{name}: {} by weight is up, {min} is wanted{backups}", self.share()),
        }
    }
}

/// The worst of the services on each address, by all of them.
pub(crate) fn addresses(served: &[Served], criterion: Criterion) -> BTreeMap<IpAddr, HealthVerdict> {
    let mut addresses = BTreeMap::new();
    for one in served {
        let ServiceKey::Address { address, .. } = one.key else { continue };
        let verdict = one.verdict(criterion);
        let worst = addresses.entry(address.ip()).or_insert(verdict);
        *worst = verdict.max(*worst);
    }
    addresses
}

/// The services with these names, keys or addresses; all, if there is none.
pub(crate) fn named(served: Vec<Served>, names: &[String]) -> Result<Vec<Served>, Unknown> {
    for name in names {
        if !served.iter().any(|one| is_named_so(&one.name, &one.key, name)) {
            return Err(Unknown::named(served.iter().map(|one| one.name.to_string()), name));
        }
    }
    let is_wanted =
        |one: &Served| names.is_empty() || names.iter().any(|name| is_named_so(&one.name, &one.key, name));
    Ok(served.into_iter().filter(is_wanted).collect())
}

/// Whether all of these services are healthy. None at all is not known yet: an agent that adopts a table waits for
/// services.
pub(crate) fn healthiness(served: &[Served], criterion: Criterion) -> Healthiness {
    let verdict = served.iter().map(|one| one.verdict(criterion)).max().unwrap_or(HealthVerdict::Unknown);
    let others: Vec<_> =
        served.iter().filter(|one| one.verdict(criterion) != HealthVerdict::Healthy).collect();
    // What is wrong is named before what is not known yet.
    let (wrong, unknown): (Vec<&Served>, Vec<&Served>) =
        others.iter().copied().partition(|one| one.verdict(criterion) == HealthVerdict::Unhealthy);
    let first = wrong.into_iter().chain(unknown).take(NAMED).map(|one| one.words(criterion));
    let more = others.len().saturating_sub(NAMED);
    let text = match (served, others.len()) {
        ([], _) => "there are no services".to_owned(),
        ([one], 0) => format!("{} is healthy", one.name),
        (all, 0) => format!("all {} services are healthy", all.len()),
        (_, _) if more > 0 => format!("{}; and {more} more", first.collect::<Vec<_>>().join("; ")),
        (_, _) => first.collect::<Vec<_>>().join("; "),
    };
    Healthiness { verdict, text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Protocol;

    const QUORUM: Criterion = Criterion { min_share: None, backups: false };

    fn served(name: &str, quorum: QuorumState, (up, whole): (u64, u64), backups_in: usize) -> Served {
        let address = ([192, 0, 2, 80], u16::try_from(name.len()).unwrap()).into();
        let key = ServiceKey::Address { protocol: Protocol::Tcp, address };
        Served { name: name.into(), key, quorum, up, whole, backups_in }
    }

    #[test]
    fn the_quorum_or_a_share_or_backups_make_a_service_healthy() {
        use HealthVerdict::{Healthy, Unhealthy, Unknown};
        let half = Criterion { min_share: Some(Share::of(1, 2)), backups: false };
        let backups = Criterion { backups: true, ..QUORUM };
        let cases = [
            (QuorumState::Has, (1, 4), 0, [Healthy, Unhealthy, Healthy]),
            (QuorumState::Has, (2, 4), 0, [Healthy; 3]),
            (QuorumState::Unknown, (0, 4), 0, [Unknown; 3]),
            (QuorumState::Unknown, (2, 4), 0, [Unknown, Healthy, Unknown]),
            (QuorumState::Lost, (0, 4), 0, [Unhealthy; 3]),
            (QuorumState::Lost, (0, 4), 1, [Unhealthy, Unhealthy, Healthy]),
            (QuorumState::Lost, (0, 0), 1, [Unhealthy, Unhealthy, Healthy]),
            (QuorumState::Lost, (3, 4), 0, [Unhealthy, Healthy, Unhealthy]),
        ];
        for (quorum, weights, backups_in, expected) in cases {
            let one = served("web", quorum, weights, backups_in);
            assert_eq!([QUORUM, half, backups].map(|criterion| one.verdict(criterion)), expected, "{one:?}");
        }
    }

    #[test]
    fn one_line_says_what_is_wrong() {
        let up = served("web", QuorumState::Has, (3, 3), 0);
        let down = |name: &str| served(name, QuorumState::Lost, (0, 2), 1);
        let new = served("mail", QuorumState::Unknown, (0, 1), 0);
        let text = |services: &[Served]| healthiness(services, QUORUM).text;
        assert_eq!(text(&[]), "there are no services");
        assert_eq!(text(std::slice::from_ref(&up)), "web is healthy");
        assert_eq!(text(&[up.clone(), up.clone()]), "all 2 services are healthy");
        let lost = "dns: no quorum, 0 of 2 by weight are up, backups serve";
        let unknown = "mail: not known yet, 0 of 1 by weight are up";
        assert_eq!(text(&[new.clone(), up, down("dns")]), format!("{lost}; {unknown}"));
        let many = [down("a"), down("b"), down("c"), down("d"), new];
        assert!(text(&many).ends_with("; and 2 more"), "{}", text(&many));
    }

    #[test]
    fn services_are_named_by_name_key_or_address() {
        let all =
            vec![served("web", QuorumState::Has, (1, 1), 0), served("mail", QuorumState::Has, (1, 1), 0)];
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            named(all.clone(), &names).map(|found| found.iter().map(|one| one.name.to_string()).collect())
        };
        assert_eq!(names(&[]), Ok(vec!["web".to_owned(), "mail".to_owned()]));
        assert_eq!(names(&["mail", "tcp 192.0.2.80:3"]), Ok(vec!["web".to_owned(), "mail".to_owned()]));
        assert_eq!(names(&["192.0.2.80:4"]), Ok(vec!["mail".to_owned()]));
        let unknown: Result<Vec<String>, _> = names(&["web", "wbe"]);
        assert!(unknown.unwrap_err().to_string().starts_with("there is no service \"wbe\""));
    }

    #[test]
    fn an_address_is_as_well_as_the_worst_of_its_services() {
        use HealthVerdict::{Healthy, Unhealthy, Unknown};
        let one = |address: &str, quorum| {
            let key = ServiceKey::Address { protocol: Protocol::Tcp, address: address.parse().unwrap() };
            Served { name: "web".into(), key, quorum, up: 1, whole: 1, backups_in: 0 }
        };
        let served = [
            one("192.0.2.1:80", QuorumState::Has),
            one("192.0.2.1:443", QuorumState::Lost),
            one("192.0.2.2:80", QuorumState::Has),
            one("192.0.2.3:80", QuorumState::Has),
            one("192.0.2.3:81", QuorumState::Unknown),
            one("[2001:db8::1]:80", QuorumState::Has),
        ];
        let found: Vec<_> = addresses(&served, Criterion::default()).into_iter().collect();
        let expected = [
            ("192.0.2.1", Unhealthy),
            ("192.0.2.2", Healthy),
            ("192.0.2.3", Unknown),
            ("2001:db8::1", Healthy),
        ];
        assert_eq!(found, expected.map(|(address, health)| (address.parse().unwrap(), health)));
    }

    proptest! {
        /// Asking for less never makes anything worse.
        #[test]
        fn a_lower_share_is_never_harder_to_reach(up in 0_u64..9, whole in 0_u64..9, low in 0.0..=1.0_f64, high in 0.0..=1.0_f64) {
            let (low, high) = (low.min(high), low.max(high));
            let of = |share: f64| Criterion { min_share: Some(Share::try_from(share).unwrap()), backups: false };
            for quorum in [QuorumState::Has, QuorumState::Lost, QuorumState::Unknown] {
                let one = served("web", quorum, (up, whole), 0);
                prop_assert!(one.verdict(of(low)) <= one.verdict(of(high)));
            }
        }
    }
}
