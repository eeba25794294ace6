//! What differs between two configurations, in words: what a reload takes over. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::model::{Backup, Check, Config, PoolPolicy, RealServer, VirtualService};

/// How many services are named where several have the same change.
const NAMED: usize = 3;

/// The kinds of settings in which `new` differs from `old`, each with the services that it is about. Services, servers
/// and backups that are only in one of them don't count.
pub(crate) fn changes(old: &Config, new: &Config) -> Vec<String> {
    let before: HashMap<_, _> = old.services.iter().map(|service| (service.key, service)).collect();
    let mut changed: BTreeMap<(usize, &'static str), Vec<&str>> = BTreeMap::new();
    for service in &new.services {
        let kinds = before.get(&service.key).map(|before| of_service(before, service)).unwrap_or_default();
        for kind in kinds.into_iter().enumerate().filter_map(|(index, kind)| Some((index, kind?))) {
            changed.entry(kind).or_default().push(&service.name);
        }
    }
    let of_services = changed.into_iter().map(|((_, kind), services)| named(kind, &services));
    let of_agent = [
        ("[agent]", old.agent != new.agent),
        ("[director]", old.role != new.role),
        ("[sync]", old.sync != new.sync),
        ("[defaults] of services that are not listed", old.adopts() && old.unlisted != new.unlisted),
    ];
    let of_agent = of_agent.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name.to_owned());
    of_services.chain(of_agent).collect()
}

/// A kind of settings with its services.
fn named(kind: &str, services: &[&str]) -> String {
    let first = services.get(..NAMED.min(services.len())).unwrap_or_default().join(", ");
    match services.len() - NAMED.min(services.len()) {
        0 => format!("{kind} of {first}"),
        more => format!("{kind} of {first} and {more} more"),
    }
}

/// The kinds of settings in which two versions of a service differ, in a fixed order.
fn of_service(old: &VirtualService, new: &VirtualService) -> Vec<Option<&'static str>> {
    let VirtualService {
        name,
        key: _,
        scheduler,
        persistence,
        one_packet,
        scheduler_flags,
        persistence_engine,
        fall,
        rise,
        on_failure,
        check: _,
        further: _,
        idle_connection,
        second_chance,
        servers: _,
        policy,
        notify,
        on_exit,
        announce,
    } = new;
    let PoolPolicy {
        backups: _,
        quorum,
        slow_start,
        start,
        fast_share,
        flap,
        confirm_timeout,
        on_contradiction,
    } = policy;
    let kinds = [
        ("name", *name != old.name),
        ("checks", checks_differ(old, new)),
        ("fall", *fall != old.fall),
        ("rise", *rise != old.rise),
        ("on-failure", *on_failure != old.on_failure),
        ("weights", servers_differ(old, new, |one, other| one.weight != other.weight)),
        ("forwarding and limits", servers_differ(old, new, is_otherwise_reached)),
        ("scheduler", (scheduler, scheduler_flags) != (&old.scheduler, &old.scheduler_flags)),
        ("one-packet", *one_packet != old.one_packet),
        ("persistence", (persistence, persistence_engine) != (&old.persistence, &old.persistence_engine)),
        ("quorum", *quorum != old.policy.quorum),
        ("slow-start", *slow_start != old.policy.slow_start),
        ("start", *start != old.policy.start),
        ("fast-share", fast_share.to_bits() != old.policy.fast_share.to_bits()),
        ("confirm-timeout", *confirm_timeout != old.policy.confirm_timeout),
        ("on-contradiction", *on_contradiction != old.policy.on_contradiction),
        ("idle-connection", *idle_connection != old.idle_connection),
        ("second-chance", *second_chance != old.second_chance),
        ("flap", *flap != old.policy.flap),
        ("mails and commands", *notify != old.notify),
        ("on-exit", *on_exit != old.on_exit),
        ("announce", *announce != old.announce),
    ];
    kinds.into_iter().map(|(kind, changed)| changed.then_some(kind)).collect()
}

/// The servers and backups that are in both, old and new.
fn both<'a>(
    old: &'a VirtualService,
    new: &'a VirtualService,
) -> impl Iterator<Item = (&'a RealServer, &'a RealServer)> {
    let all = |service: &'a VirtualService| service.roles().filter_map(move |role| service.server_of(role));
    let before: HashMap<_, _> = all(old).map(|server| (server.address, server)).collect();
    all(new).filter_map(move |server| Some((*before.get(&server.address)?, server)))
}

fn servers_differ(
    old: &VirtualService,
    new: &VirtualService,
    differs: impl Fn(&RealServer, &RealServer) -> bool,
) -> bool {
    both(old, new).any(|(old, new)| differs(old, new))
}

fn is_otherwise_reached(old: &RealServer, new: &RealServer) -> bool {
    let reached =
        |server: &RealServer| (server.method, server.tunnel, server.upper_threshold, server.lower_threshold);
    reached(old) != reached(new)
}

fn checks_differ(old: &VirtualService, new: &VirtualService) -> bool {
    let checks = |service: &VirtualService| {
        let of = |backup: &Backup| (backup.server.address, backup.check.clone());
        service.policy.backups.iter().map(of).collect::<HashMap<_, Option<Check>>>()
    };
    let (before, after) = (checks(old), checks(new));
    (&old.check, &old.further) != (&new.check, &new.further)
        || servers_differ(old, new, |one, other| (&one.check, &one.further) != (&other.check, &other.further))
        || after.iter().any(|(address, check)| before.get(address).is_some_and(|before| before != check))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::native;

    #[test]
    fn what_a_reload_takes_over_is_named() {
        let config = |front: &str, lines: &str, server: &str| {
            let service = |number: u8| {
                format!(
                    "[[service]]\nname = \"web{number}\"\naddress = \"192.0.2.{number}:80\"\nforward = \"masquerade\"\n\
                     {lines}\n[[service.server]]\naddress = \"10.0.0.1\"\n{server}\n\
                     [[service.backup]]\naddress = \"10.0.0.9\"\n"
                )
            };
            let text = front.to_owned() + &(1..=4).map(service).collect::<String>();
            native::read(&text, "test.toml".as_ref()).expect("it is a configuration")
        };
        let all = |kind: &str| format!("{kind} of web1, web2, web3 and 1 more");
        let old = config("", "", "");
        let cases = [
            ("", "", "", vec![]),
            ("", "check = { type = \"http\" }", "", vec![all("checks")]),
            ("", "check = { interval = \"7s\" }", "", vec![all("checks")]),
            ("", "", "check = { type = \"ping\" }", vec![all("checks")]),
            ("", "fall = 7\nrise = 9", "", vec![all("fall"), all("rise")]),
            (
                "",
                "on-failure = \"remove\"\nslow-start = \"9s\"",
                "",
                vec![all("on-failure"), all("slow-start")],
            ),
            ("", "quorum = { weight = 1, down = [\"/bin/false\"] }", "", vec![all("quorum")]),
            ("", "comment = \"call\"", "", vec![all("mails and commands")]),
            ("", "scheduler = \"rr\"", "weight = 9", vec![all("weights"), all("scheduler")]),
            ("[agent]\non-exit = \"remove\"\n", "", "", vec!["[agent]".to_owned()]),
        ];
        for (front, lines, server, expected) in cases {
            assert_eq!(changes(&old, &config(front, lines, server)), expected, "{front} {lines} {server}");
        }
        let mut one = old.clone();
        one.services[1].fall = 9.try_into().unwrap();
        one.services[1].policy.backups[0].check = None;
        one.services.pop();
        assert_eq!(
            changes(&old, &one),
            ["checks of web2", "fall of web2"],
            "who is gone is counted elsewhere"
        );
    }
}
