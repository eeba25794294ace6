//! Services by firewall mark and for every port, and what goes with which kind of service.

use super::*;

/// A service by firewall mark but for `line`, which is line 3, and its only server.
fn by_mark(line: &str, server: &str) -> String {
    format!("[[service]]\nmark = 3\n{line}\n[[service.server]]\n{server}\n")
}

#[test]
fn services_without_an_address_or_a_port() {
    let masquerade = "address = \"10.0.0.1\"\nforward = \"masquerade\"";
    let service = |text: &str| good(text).services.remove(0);

    let marked = service(&by_mark("", masquerade));
    assert_eq!(marked.key, ServiceKey::Mark { mark: 3, family: AddressFamily::V4 });
    assert_eq!(marked.name, "mark 3");
    assert_eq!(marked.servers[0].address, "10.0.0.1:0".parse().unwrap());
    assert_eq!(marked.check.kind, CheckKind::Ping, "nobody has said which port answers");
    let marked = service(&by_mark("check = { port = 8080 }", masquerade));
    assert_eq!((marked.check.kind, marked.check.port), (CheckKind::Connect, Some(8080)));
    let marked = service(&by_mark("", "address = \"10.0.0.1:8080\"\nforward = \"masquerade\""));
    assert_eq!(marked.servers[0].address, "10.0.0.1:8080".parse().unwrap());
    assert_eq!(marked.check.kind, CheckKind::Connect);
    let six = "address = \"2001:db8::2\"\nforward = \"direct-route\"";
    let marked = service(&by_mark("family = \"ipv6\"", six));
    assert_eq!(marked.key, ServiceKey::Mark { mark: 3, family: AddressFamily::V6 });

    for address in ["192.0.2.80", "192.0.2.80:0"] {
        let text = in_service("persistent = \"5m\"").replace("192.0.2.80:80", address);
        let every_port = service(&text);
        let key = ServiceKey::Address { protocol: Protocol::Tcp, address: "192.0.2.80:0".parse().unwrap() };
        assert_eq!(every_port.key, key);
        let everyone = Netmask::whole_address(AddressFamily::V4);
        assert_eq!(every_port.persistence, Some(Persistence::new(Duration::from_mins(5), everyone)));
        assert_eq!(every_port.check.kind, CheckKind::Ping);
    }

    let cases: &[(String, Places)] = &[
        (by_mark("protocol = \"tcp\"", masquerade), &[(3, 1, "remove \"protocol\"")]),
        (by_mark("family = \"ipv7\"", masquerade), &[(3, 10, "write \"ipv4\" or \"ipv6\"")]),
        (by_mark("family = \"ipv6\"", masquerade), &[(5, 11, "masquerade can't reach 10.0.0.1")]),
        (by_mark("check = { type = \"connect\" }", masquerade), &[(3, 9, "service mark 3; add port")]),
        (
            by_mark("", masquerade).replace("= 3", "= 0"),
            &[(2, 8, "mark: 0 is below 1, which stands for no mark")],
        ),
        (by_mark("", masquerade).replace("= 3", "= 4294967296"), &[(2, 8, "above 4294967295")]),
        (by_mark("", masquerade).replace("= 3", "= \"3\""), &[(2, 8, "a whole number")]),
        (by_mark("", masquerade).replace("= 3", "= 0x1040"), &[(2, 8, "this agent's own probes")]),
        (
            format!("[agent]\nprobe-mark = 3\n{}", by_mark("", masquerade)),
            &[(4, 8, "another `probe-mark` in `[agent]`")],
        ),
        (format!("{0}{0}", by_mark("", masquerade)), &[(8, 8, "service mark 3 is already at line 2")]),
        (in_service("").replace(":80\"", "\""), &[(2, 11, "or make the service persistent")]),
        (in_service("").replace(":80\"", ":0\""), &[(2, 11, "has no port")]),
    ];
    for (text, expected) in cases {
        assert_faults(text, expected);
    }
    let checked = by_mark("", "address = \"10.0.0.1:80\"\nforward = \"direct-route\"");
    assert_eq!(good(&checked).services[0].servers[0].address.port(), 80, "it is what is checked");
    let both = by_mark("", masquerade) + &by_mark("family = \"ipv6\"", six);
    assert_eq!(good(&both).services.len(), 2, "one mark, two IP versions, two services");
}

#[test]
fn servers_of_the_other_ip_version_are_reached_by_tunnel() {
    let text = "[[service]]\naddress = \"[2001:db8::80]:80\"\nforward = \"tunnel\"\n\
                tunnel = { type = \"gue\", port = 6080, checksum = \"remote\" }\n\
                [[service.server]]\naddress = \"10.0.0.1\"\n\
                [[service.server]]\naddress = \"[2001:db8::1]:80\"\ntunnel = { type = \"gre\", checksum = \"full\" }\n\
                [[service.server]]\naddress = \"2001:db8::2\"\ntunnel = { type = \"ipip\" }\n\
                [[service.server]]\naddress = \"2001:db8::3\"\nforward = \"masquerade\"\n";
    let servers: Vec<_> = good(text)
        .services
        .remove(0)
        .servers
        .into_iter()
        .map(|server| (server.address.to_string(), server.method, server.tunnel))
        .collect();
    let gue = Tunnel::Gue { port: 6080, flags: TunnelFlags::REMOTE_CHECKSUM };
    let gre = Tunnel::Gre { flags: TunnelFlags::CHECKSUM };
    let tunnel = ForwardingMethod::Tunnel;
    let expected = [
        ("10.0.0.1:80".to_owned(), tunnel, gue),
        ("[2001:db8::1]:80".to_owned(), tunnel, gre),
        ("[2001:db8::2]:80".to_owned(), tunnel, Tunnel::Ipip),
        ("[2001:db8::3]:80".to_owned(), ForwardingMethod::Masquerade, gue),
    ];
    assert_eq!(servers, expected);
}

#[test]
fn the_check_that_suits_a_protocol() {
    let check = |lines: &str| good(&in_service(lines)).services.remove(0).check;
    assert_eq!(check("protocol = \"tcp\"").kind, CheckKind::Connect);
    assert_eq!(check("protocol = \"udp\"").kind, CheckKind::Ping);
    assert_eq!(check("protocol = \"sctp\"").kind, CheckKind::Ping);
    let faster = check("protocol = \"udp\"\ncheck = { interval = \"500ms\" }");
    assert_eq!((faster.kind, faster.interval), (CheckKind::Ping, Duration::from_millis(500)));
    let other = check("protocol = \"udp\"\ncheck = { type = \"http\", port = 8080 }");
    assert_eq!(other.port, Some(8080));
}

#[test]
fn persistence_and_its_netmask() {
    let persistence = |lines: &str| good(&in_service(lines)).services.remove(0).persistence;
    assert_eq!(persistence(""), None);
    let netmask = |value: &str| {
        let lines = format!("persistent = \"300s\"\npersistent-netmask = {value}");
        persistence(&lines).unwrap().netmask()
    };
    assert_eq!(netmask("24"), Netmask::V4([255, 255, 255, 0].into()));
    assert_eq!(netmask("1"), Netmask::V4([128, 0, 0, 0].into()));
    assert_eq!(netmask("32"), Netmask::V4([255; 4].into()));
    assert_eq!(netmask("\"255.255.240.0\""), Netmask::V4([255, 255, 240, 0].into()));
    let six = in_service("persistent = \"300s\"\npersistent-netmask = 64")
        .replace("192.0.2.80", "[2001:db8::80]")
        .replace("10.0.0.1", "2001:db8::1");
    assert_eq!(good(&six).services[0].persistence.unwrap().netmask(), Netmask::V6(64));
    assert_faults(&six.replace("= 64", "= \"ffff::\""), &[(5, 22, "the length of a prefix, such as 64")]);
    assert_faults(&six.replace("= 64", "= 129"), &[(5, 22, "129 is above 128")]);
    assert_eq!(good(&in_service("protocol = \"udp\"\none-packet = true")).services[0].one_packet, Some(true));
}

#[test]
fn scheduler_flags_have_the_names_of_ipvsadm() {
    let read = |scheduler: &str, flags: &str| {
        let text = in_service(&format!("scheduler = \"{scheduler}\"\nscheduler-flags = {flags}"));
        let config = good(&text);
        let written = to_toml(&config);
        assert_eq!(good(&written), config, "written and read again");
        let SchedulerFlags { flag_1, flag_2, flag_3 } = config.services[0].scheduler_flags.unwrap();
        let line = written.lines().find_map(|line| line.strip_prefix("scheduler-flags = ")).unwrap();
        ((flag_1, flag_2, flag_3), line.to_owned())
    };
    let cases = [
        ("sh", "['sh-fallback']", (true, false, false), "[\"sh-fallback\"]"),
        ("sh", "['sh-port', 'flag-1']", (true, true, false), "[\"sh-fallback\", \"sh-port\"]"),
        ("mh", "['mh-fallback', 'mh-port']", (true, true, false), "[\"mh-fallback\", \"mh-port\"]"),
        ("mh", "['mh-port', 'flag-3']", (false, true, true), "[\"mh-port\", \"flag-3\"]"),
        ("rr", "['flag-1', 'flag-2']", (true, true, false), "[\"flag-1\", \"flag-2\"]"),
        ("sh", "[]", (false, false, false), "[]"),
    ];
    for (scheduler, flags, expected, line) in cases {
        assert_eq!(read(scheduler, flags), (expected, line.to_owned()), "{scheduler} {flags}");
    }
    let faulty = |flag: &str| in_service(&format!("scheduler = \"mh\"\nscheduler-flags = [\"{flag}\"]"));
    assert_faults(&faulty("sh-port"), &[(5, 19, "is a flag of another scheduler")]);
    assert_faults(&faulty("fallback"), &[(5, 19, "write \"sh-fallback\", \"sh-port\"")]);
}
