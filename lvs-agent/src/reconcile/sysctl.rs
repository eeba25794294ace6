//! The settings under `net.ipv4.vs` that decide about connections of servers that are out: sets those that the
//! configuration has, and warns of settings that would leave clients with a dead server.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};
use tracing::warn;

use crate::{
    event::{Event, Publisher},
    ipvs::{Sysctl, SysctlValue},
    model::{
        Config, ConnectionSettings, ForwardingMethod, Mode, OnFailure, Protocol, RealServer, ServiceKey,
        SyncRole, SyncSysctls, VirtualService,
    },
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
        for (sysctl, value) in config.sync.iter().flat_map(|sync| of_sync(&sync.sysctls)) {
            set(sysctl, value, events);
        }
    }
    for risk in risks(&values(), &config.services).into_iter().chain(sync_risks(config, &own_addresses())) {
        events.publish(Event::ConnectionRisk { risk });
    }
}

/// The values in this network namespace.
pub(crate) fn values() -> Values {
    Sysctl::ALL.into_iter().filter_map(|sysctl| Some((sysctl, sysctl.read().ok()?))).collect()
}

fn set(sysctl: Sysctl, value: Setting, events: &Publisher) {
    let value = |current| value.over(current);
    match sysctl.read_all().map(|current| (current, value(current))) {
        Ok((current, value)) if current == value => {}
        Ok((current, value)) => match sysctl.write(value) {
            Ok(()) => events.publish(Event::Sysctl { sysctl, from: current, to: value }),
            Err(error) => warn!("{sysctl} can't be set to {value}, it stays {current}: {error}"),
        },
        Err(error) => warn!("{sysctl} can't be read: {error}"),
    }
}

/// What a setting is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    One(i32),
    /// Of two numbers those that are said; the others stay.
    Two(Option<i32>, Option<i32>),
}

impl Setting {
    /// The whole value, where it is this now.
    fn over(self, current: SysctlValue) -> SysctlValue {
        match (self, current) {
            (Self::One(value), _) => SysctlValue::One(value),
            (Self::Two(first, second), SysctlValue::Two(one, other)) => {
                SysctlValue::Two(first.unwrap_or(one), second.unwrap_or(other))
            }
            (Self::Two(first, _), SysctlValue::One(one)) => SysctlValue::One(first.unwrap_or(one)),
        }
    }
}

/// The sysctls of `[sync]` that are said. The number of threads comes before the daemons start.
fn of_sync(settings: &SyncSysctls) -> impl Iterator<Item = (Sysctl, Setting)> + use<> {
    let SyncSysctls { threshold, period, refresh, retries, ports, templates_only, backup_only } = *settings;
    let seconds = |refresh: Duration| i32::try_from(refresh.as_secs()).unwrap_or(i32::MAX);
    let threshold = (threshold.is_some() || period.is_some())
        .then(|| Setting::Two(threshold.map(i32::from), period.map(i32::from)));
    let settings = [
        (Sysctl::SyncThreshold, threshold),
        (Sysctl::SyncRefreshPeriod, refresh.map(|refresh| Setting::One(seconds(refresh)))),
        (Sysctl::SyncRetries, retries.map(|retries| Setting::One(retries.into()))),
        (Sysctl::SyncPorts, ports.map(|ports| Setting::One(ports.number().into()))),
        (Sysctl::SyncPersistMode, templates_only.map(|only| Setting::One(only.into()))),
        (Sysctl::BackupOnly, backup_only.map(|only| Setting::One(only.into()))),
    ];
    settings.into_iter().filter_map(|(sysctl, setting)| Some((sysctl, setting?)))
}

/// What of a configuration would lose connections that are synchronised, as texts; from `ip_vs_proc_conn` of Linux 6.1
/// and its `Documentation/networking/ipvs-sysctl.rst`.
pub(crate) fn sync_risks(config: &Config, own: &BTreeSet<IpAddr>) -> Vec<String> {
    let Some(sync) = config.sync.as_ref().filter(|_| config.agent.mode == Mode::Manage) else {
        return Vec::new();
    };
    let services = || config.services.iter();
    let listens = sync.role != SyncRole::Master;
    let backup_only = sync.sysctls.backup_only.unwrap_or_else(|| is_on(Sysctl::BackupOnly));
    let removes = |service: &&VirtualService| service.on_failure() == OnFailure::Remove;
    // Who balances what another director has balanced already sends it in circles.
    let may_circle = |service: &&VirtualService| {
        let is_own = |server: &RealServer| own.contains(&server.address.ip());
        let is_half_seen = |server: &RealServer| server.method != ForwardingMethod::Masquerade;
        service.servers.iter().any(is_own)
            && service.servers.iter().any(|server| is_half_seen(server) && !is_own(server))
    };
    let risks = [
        risk(
            services().filter(removes).filter(|_| listens),
            "connections that another director tells of are not bound to a server that is removed: set on-failure = \
             \"quiesce\"",
        ),
        risk(
            services().filter(may_circle).filter(|_| listens && !backup_only),
            "this host is one of its real servers, and if the other director is another one, packets may go in circles \
             between them: see backup_only in docs/high-availability.md",
        ),
        risk(
            services().filter(|_| sync.role == SyncRole::Both && backup_only),
            "this director balances nothing while its backup daemon runs: net.ipv4.vs.backup_only is 1",
        ),
    ];
    risks.into_iter().flatten().collect()
}

/// The addresses of this host; those that can't be read are missing.
pub(crate) fn own_addresses() -> BTreeSet<IpAddr> {
    let address = |address: SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|one| IpAddr::from(one.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|one| one.ip().into()))
    };
    let all = getifaddrs().into_iter().flatten();
    all.filter_map(|interface| interface.address.and_then(address)).collect()
}

fn is_on(sysctl: Sysctl) -> bool {
    sysctl.read().is_ok_and(|value| value != 0)
}

fn wanted(settings: ConnectionSettings) -> impl Iterator<Item = (Sysctl, Setting)> + use<> {
    let ConnectionSettings { expire_nodest, expire_quiescent, reuse_mode } = settings;
    let settings = [
        (Sysctl::ExpireNodestConn, expire_nodest.map(i32::from)),
        (Sysctl::ExpireQuiescentTemplate, expire_quiescent.map(i32::from)),
        (Sysctl::ConnReuseMode, reuse_mode.map(i32::from)),
    ];
    settings.into_iter().filter_map(|(sysctl, value)| Some((sysctl, Setting::One(value?))))
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
            let number = |setting| match setting {
                Setting::One(value) => value,
                Setting::Two(..) => panic!("{setting:?}"),
            };
            wanted(settings).map(|(sysctl, value)| (sysctl.name(), number(value))).collect::<Vec<_>>()
        };
        assert_eq!(set(None, None, None), []);
        assert_eq!(set(Some(true), None, Some(2)), [("expire_nodest_conn", 1), ("conn_reuse_mode", 2)]);
        assert_eq!(set(None, Some(false), None), [("expire_quiescent_template", 0)]);
    }

    #[test]
    fn what_would_lose_synchronised_connections_is_a_risk() {
        let of = |sync: &str, service: &str| {
            let text = format!(
                "[sync]\ninterface = \"eth1\"\n{sync}\n[[service]]\nname = \"web\"\naddress = \"192.0.2.1:80\"\n{service}\n\
                 [[service.server]]\naddress = \"10.0.0.1\"\n[[service.server]]\naddress = \"10.0.0.2\"\n"
            );
            let config = native::read(&text, "test.toml".as_ref()).expect("it is a configuration");
            sync_risks(&config, &BTreeSet::from([IpAddr::from([10, 0, 0, 1])]))
        };
        let (masquerade, direct) = ("forward = \"masquerade\"", "forward = \"direct-route\"");
        let cases = [
            ("backup-only = false", masquerade.to_owned(), &[][..]),
            ("backup-only = false", direct.to_owned(), &["in circles"]),
            ("backup-only = true\nrole = \"backup\"", direct.to_owned(), &[]),
            ("backup-only = false", format!("{masquerade}\non-failure = \"remove\""), &["is removed"]),
            ("role = \"master\"", format!("{direct}\non-failure = \"remove\""), &[]),
        ];
        for (sync, service, parts) in cases {
            let risks = of(sync, &service);
            assert_eq!(risks.len(), parts.len(), "{sync} {service}: {risks:?}");
            for (risk, part) in risks.iter().zip(parts) {
                assert!(risk.starts_with("web: ") && risk.contains(part), "{risk}");
            }
        }
    }

    #[test]
    fn of_two_numbers_that_which_is_not_said_stays() {
        let over = |first, second| Setting::Two(first, second).over(SysctlValue::Two(3, 50)).to_string();
        assert_eq!(
            [over(Some(1), None), over(None, Some(9)), over(Some(1), Some(9))],
            ["1 50", "3 9", "1 9"]
        );
        let sync =
            SyncSysctls { period: Some(7), refresh: Some(Duration::from_secs(5)), ..SyncSysctls::default() };
        let set: Vec<_> = of_sync(&sync).collect();
        let expected = [
            (Sysctl::SyncThreshold, Setting::Two(None, Some(7))),
            (Sysctl::SyncRefreshPeriod, Setting::One(5)),
        ];
        assert_eq!(set, expected);
        assert_eq!(of_sync(&SyncSysctls::default()).count(), 0);
    }
}
