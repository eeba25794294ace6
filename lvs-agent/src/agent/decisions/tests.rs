use std::time::Duration;

use super::*;
use crate::{
    ipvs::{ServiceFlags, WantedService, Wish},
    service::{ForwardingMethod, Netmask, Persistence, Tunnel, TunnelFlags},
};

fn wanted(text: &str) -> Wanted {
    let config = crate::config::native::read(text, "test.toml".as_ref()).expect("it is a configuration");
    Decisions::new(&config.services, |_| Presence::of_found(Some(true))).wanted()
}

/// The only service of a configuration, and its servers.
fn service(text: &str) -> (ServiceKey, WantedService) {
    wanted(text).services.into_iter().next().expect("there is a service")
}

#[test]
fn what_is_written_is_wanted() {
    let (key, udp) = service(
        r#"
        [[service]]
        address = "[2001:db8::53]:53"
        protocol = "udp"
        persistent = "90s"
        persistent-netmask = 64
        one-packet = true
        forward = "tunnel"
        tunnel = { type = "gue", port = 6080, checksum = "full" }
        [[service.server]]
        address = "10.0.0.1"
        [[service.server]]
        address = "2001:db8::1"
        forward = "masquerade"
        "#,
    );
    assert_eq!(key.to_string(), "udp [2001:db8::53]:53");
    let persistence = Persistence::new(Duration::from_secs(90), Netmask::V6(64));
    assert_eq!(udp.persistence, Wish::Set(Some(persistence)));
    assert_eq!(udp.flags, Wish::Set(ServiceFlags::ONE_PACKET));
    let gue = Tunnel::Gue { port: 6080, flags: TunnelFlags::CHECKSUM };
    let destination = |server: &str| udp.destinations[&server.parse().expect("it is an address")];
    let tunnelled = destination("10.0.0.1:53");
    assert_eq!((tunnelled.method, tunnelled.tunnel), (ForwardingMethod::Tunnel, Wish::Set(gue)));
    let masqueraded = destination("[2001:db8::1]:53");
    assert_eq!((masqueraded.method, masqueraded.tunnel), (ForwardingMethod::Masquerade, Wish::Keep));
}

#[test]
fn what_is_not_written_is_plain() {
    let (key, marked) = service(
        r#"
        [[service]]
        mark = 7
        family = "ipv6"
        forward = "tunnel"
        [[service.server]]
        address = "10.0.0.1"
        "#,
    );
    assert_eq!(key.to_string(), "mark 7 (IPv6)");
    assert_eq!(marked.persistence, Wish::Set(None));
    assert_eq!(marked.flags, Wish::Keep, "the scheduler's own flags may be among them");
    let (server, tunnelled) = marked.destinations.first_key_value().expect("there is a server");
    assert_eq!(server.to_string(), "10.0.0.1:0");
    assert_eq!(tunnelled.tunnel, Wish::Set(Tunnel::Ipip));
}
