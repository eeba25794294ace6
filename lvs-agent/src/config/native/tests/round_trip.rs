//! Any configuration is read as it was written; any other text is read or refused.

use super::*;

/// Writes a model down in the native format.
fn write(config: &Config) -> String {
    let mut text = String::new();
    let d = |duration: &Duration| format!("\"{}\"", format_duration(*duration));
    let metrics = config.agent.metrics.map_or("off".to_owned(), |metrics| metrics.to_string());
    let maintenance = config.agent.maintenance.as_deref().map_or("off", |path| path.to_str().unwrap());
    let on_exit = if config.agent.on_exit == OnExit::Keep { "keep" } else { "remove" };
    let control = config.agent.control.as_deref().map_or("off", |path| path.to_str().unwrap());
    writeln!(text, "[agent]\nmaintenance = {maintenance:?}\nmetrics = {metrics:?}\non-exit = {on_exit:?}\ncontrol = {control:?}").unwrap();
    let operators = config.agent.operators.as_deref().unwrap_or("off");
    writeln!(text, "probe-mark = {}\noperators = {operators:?}", config.agent.probe_mark).unwrap();
    if let Some(user) = &config.agent.script_user {
        writeln!(text, "script-user = \"{user}\"").unwrap();
    }
    let PassiveSettings { enabled, devices, log_faults, record, tick, order, detector, burst } =
        &config.passive;
    writeln!(text, "[passive]\nenabled = {enabled}\ndevices = {devices:?}\nlog-faults = {log_faults}")
        .unwrap();
    let record = record.as_deref().map_or("off", |path| path.to_str().unwrap());
    writeln!(text, "record = {record:?}\ntick = {}", d(tick)).unwrap();
    let AttachOrder { tcx, clsact_priority } = order;
    writeln!(text, "tcx-order = \"{tcx}\"\nclsact-priority = {clsact_priority}").unwrap();
    writeln!(text, "[passive.detector]\nsilence-masquerade = {}", d(&detector.silence_masquerade)).unwrap();
    writeln!(text, "silence-half-seen = {}", d(&detector.silence_half_seen)).unwrap();
    writeln!(text, "silence-application = {}", d(&detector.silence_application)).unwrap();
    writeln!(text, "clients = {}\nmemory = {}", detector.clients, d(&detector.memory)).unwrap();
    writeln!(text, "false-alarms = {:?}\nphi = {:?}", detector.false_alarms, detector.phi).unwrap();
    writeln!(text, "loss = {:?}\nresent-share = {:?}", detector.loss, detector.resent_share).unwrap();
    writeln!(text, "resent-clients = {}", detector.resent_clients).unwrap();
    writeln!(text, "resent-within = {}", d(&detector.resent_within)).unwrap();
    writeln!(text, "refusals = {}\nbackoff = {}", detector.refusals, d(&detector.backoff)).unwrap();
    writeln!(text, "backoff-max = {}", d(&detector.backoff_max)).unwrap();
    writeln!(text, "[passive.burst]\ngap = {}\ntimeout = {}", d(&burst.gap), d(&burst.timeout)).unwrap();
    writeln!(text, "server-rate = {}\ntotal-rate = {}", burst.server_rate, burst.total_rate).unwrap();
    writeln!(text, "hint-rate = {}", burst.hint_rate).unwrap();
    config.services.iter().for_each(|service| write_service(&mut text, service));
    text
}

fn write_service(text: &mut String, service: &VirtualService) {
    writeln!(text, "[[service]]\nname = {:?}\nscheduler = \"{}\"", service.name, service.scheduler).unwrap();
    match service.key {
        ServiceKey::Address { protocol, address } => {
            writeln!(text, "address = \"{address}\"\nprotocol = \"{protocol}\"").unwrap();
        }
        ServiceKey::Mark { mark, family } => {
            let family = if family == AddressFamily::V4 { "ipv4" } else { "ipv6" };
            writeln!(text, "mark = {mark}\nfamily = \"{family}\"").unwrap();
        }
    }
    if let Some(persistence) = service.persistence {
        writeln!(text, "persistent = \"{}\"", format_duration(persistence.timeout())).unwrap();
        match persistence.netmask() {
            Netmask::V4(mask) => writeln!(text, "persistent-netmask = \"{mask}\"").unwrap(),
            Netmask::V6(length) => writeln!(text, "persistent-netmask = {length}").unwrap(),
        }
    }
    if let Some(one_packet) = service.one_packet {
        writeln!(text, "one-packet = {one_packet}").unwrap();
    }
    let on_failure = match service.on_failure {
        None => "\"auto\"".to_owned(),
        Some(OnFailure::Quiesce) => "\"quiesce\"".to_owned(),
        Some(OnFailure::Remove) => "\"remove\"".to_owned(),
        Some(OnFailure::Lower(weight)) => format!("{{ weight = {weight} }}"),
    };
    writeln!(text, "fall = {}\nrise = {}\non-failure = {on_failure}", service.fall, service.rise).unwrap();
    let idle_connection = match service.idle_connection {
        IdleConnection::Auto => "auto",
        IdleConnection::On => "on",
        IdleConnection::Off => "off",
    };
    writeln!(text, "idle-connection = {idle_connection:?}").unwrap();
    writeln!(text, "second-chance = {}", service.second_chance.is_on()).unwrap();
    policy::write_policy(text, &service.policy);
    let Check { kind: question, interval, timeout, port, soft_interval, .. } = &service.check;
    writeln!(text, "[service.check]\ninterval = \"{}\"", format_duration(*interval)).unwrap();
    writeln!(text, "timeout = \"{}\"", format_duration(*timeout)).unwrap();
    if let Some(soft) = soft_interval {
        writeln!(text, "soft-interval = \"{}\"", format_duration(*soft)).unwrap();
    }
    if let Some(port) = port {
        writeln!(text, "port = {port}").unwrap();
    }
    match question {
        CheckKind::Ping => writeln!(text, "type = \"ping\"").unwrap(),
        CheckKind::Connect => writeln!(text, "type = \"connect\"").unwrap(),
        CheckKind::Http(HttpCheck { pages, .. }) => {
            let HttpPage { path, host, status, text: wanted, .. } = &pages[0];
            writeln!(text, "type = \"http\"\npath = {path:?}").unwrap();
            writeln!(text, "status = \"{status}\"").unwrap();
            if let Some(host) = host {
                writeln!(text, "host = {host:?}").unwrap();
            }
            if let Some(wanted) = wanted {
                writeln!(text, "text = {wanted:?}").unwrap();
            }
        }
        other => panic!("{other:?} is written in the tests of checks"),
    }
    for server in &service.servers {
        let address = match server.address.port() {
            0 => server.address.ip().to_string(),
            _ => server.address.to_string(),
        };
        writeln!(text, "[[service.server]]\naddress = \"{address}\"").unwrap();
        if server.method == ForwardingMethod::Tunnel {
            writeln!(text, "tunnel = {}", tunnel_words(server.tunnel)).unwrap();
        }
        writeln!(text, "forward = \"{}\"\nweight = {}", server.method, server.weight).unwrap();
        if let (Some(upper), Some(lower)) = (server.upper_threshold, server.lower_threshold) {
            writeln!(text, "upper-threshold = {upper}\nlower-threshold = {lower}").unwrap();
        }
    }
}

fn tunnel_words(tunnel: Tunnel) -> String {
    let checksum = |flags| match flags {
        TunnelFlags::CHECKSUM => "full",
        TunnelFlags::REMOTE_CHECKSUM => "remote",
        _ => "none",
    };
    match tunnel {
        Tunnel::Ipip => "{ type = \"ipip\" }".to_owned(),
        Tunnel::Gre { flags } => format!("{{ type = \"gre\", checksum = \"{}\" }}", checksum(flags)),
        Tunnel::Gue { port, flags } => {
            format!("{{ type = \"gue\", port = {port}, checksum = \"{}\" }}", checksum(flags))
        }
        Tunnel::Other { .. } => panic!("{tunnel:?}"),
    }
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    let flags = |known: &[TunnelFlags]| select(known.to_vec());
    let gre = flags(&[TunnelFlags::NO_CHECKSUM, TunnelFlags::CHECKSUM]);
    let gue = flags(&[TunnelFlags::NO_CHECKSUM, TunnelFlags::CHECKSUM, TunnelFlags::REMOTE_CHECKSUM]);
    prop_oneof![
        Just(Tunnel::Ipip),
        gre.prop_map(|flags| Tunnel::Gre { flags }),
        (1_u16.., gue).prop_map(|(port, flags)| Tunnel::Gue { port, flags }),
    ]
}

/// An address of this IP version that is different for each `host`.
fn address(family: AddressFamily, host: u8) -> IpAddr {
    match family {
        AddressFamily::V4 => IpAddr::from([10, 0, 0, host]),
        AddressFamily::V6 => format!("2001:db8::{host:x}").parse().unwrap(),
    }
}

/// Servers that can be in a service of this kind: `port` is the service's, where it has one.
fn servers(
    family: AddressFamily,
    port: Option<u16>,
    translates: bool,
) -> impl Strategy<Value = Vec<RealServer>> {
    use ForwardingMethod::{DirectRoute, Masquerade, Tunnel};
    let method = select(vec![Masquerade, DirectRoute, Tunnel]);
    let thresholds = option::of((0_u32..5, any::<u32>()));
    let server = (1_u8..=254, (1_u16.., any::<bool>(), any::<u16>()), method, tunnel(), thresholds);
    proptest::collection::vec(server, 1..4).prop_map(move |servers| {
        let mut servers: Vec<_> = servers
            .into_iter()
            .map(|(host, (own, other_family, weight), method, tunnel, thresholds)| {
                let kept = port.unwrap_or(0);
                let own = if method == Masquerade && translates { own } else { kept };
                let other = if family == AddressFamily::V4 { AddressFamily::V6 } else { AddressFamily::V4 };
                let of = if method == Tunnel && other_family { other } else { family };
                let tunnel = if method == Tunnel { tunnel } else { crate::model::Tunnel::default() };
                let address = SocketAddr::new(address(of, host), own);
                RealServer {
                    tunnel,
                    weight: Weight(weight),
                    upper_threshold: thresholds.map(|(lower, more)| more.max(lower)),
                    lower_threshold: thresholds.map(|(lower, _)| lower),
                    ..RealServer::new(address, method)
                }
            })
            .collect();
        servers.sort_by_key(|server| server.address);
        servers.dedup_by_key(|server| server.address);
        servers
    })
}

fn persistence(family: AddressFamily) -> impl Strategy<Value = Persistence> {
    (1_u64..=86_400, 1_u32..=32, 1_u32..=128).prop_map(move |(seconds, short, long)| {
        let netmask = match family {
            AddressFamily::V4 => Netmask::V4((u32::MAX << (32 - short)).into()),
            AddressFamily::V6 => Netmask::V6(long),
        };
        Persistence::new(Duration::from_secs(seconds), netmask)
    })
}

/// What names a service, its persistence and its servers, which depend on each other.
fn front() -> impl Strategy<Value = (ServiceKey, Option<Persistence>, Vec<RealServer>)> {
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let kind = (protocol, option::of(1_u16..), any::<bool>(), any::<bool>());
    (select(vec![AddressFamily::V4, AddressFamily::V6]), kind).prop_flat_map(
        |(family, (protocol, port, by_mark, persistent))| {
            let port = port.filter(|_| !by_mark);
            let needs_persistence = !by_mark && port.is_none();
            let is_persistent = persistent || needs_persistence;
            let key = if by_mark {
                ServiceKey::Mark { mark: 1, family }
            } else {
                ServiceKey::Address {
                    protocol,
                    address: SocketAddr::new(address(family, 0), port.unwrap_or(0)),
                }
            };
            let persistence = persistence(family).prop_map(move |some| is_persistent.then_some(some));
            (Just(key), persistence, servers(family, port, port.is_some() || (by_mark && !is_persistent)))
        },
    )
}

prop_compose! {
    fn service()(
        fall in 1_u32..=100,
        rise in 1_u32..=100,
        scheduler in select(&Scheduler::NAMES[..]),
        on_failure in option::of(select(&[OnFailure::Quiesce, OnFailure::Remove][..])),
        check in check(),
        ((key, persistence, servers), policy) in front().prop_flat_map(|front| {
            let sum = front.2.iter().map(|server| u32::from(server.weight.0)).sum();
            (Just(front), policy::policy(sum))
        }),
        one_packet in option::of(any::<bool>()),
        second_chance in any::<bool>().prop_map(SecondChance::from),
        idle_connection in select(&[IdleConnection::Auto, IdleConnection::On, IdleConnection::Off][..]),
    ) -> VirtualService {
        let udp = matches!(key, ServiceKey::Address { protocol: Protocol::Udp, .. } | ServiceKey::Mark { .. });
        VirtualService {
            name: String::new(),
            key,
            scheduler: scheduler.parse().unwrap(),
            persistence,
            one_packet: one_packet.filter(|_| udp),
            scheduler_flags: None,
            persistence_engine: None,
            fall: fall.try_into().unwrap(),
            rise: rise.try_into().unwrap(),
            on_failure,
            check,
            further: FurtherChecks::default(),
            idle_connection,
            second_chance,
            servers,
            policy,
            notify: Notifications::default(),
            on_exit: None,
            announce: None,
        }
    }
}

prop_compose! {
    fn passive()(
        (enabled, log_faults) in any::<(bool, bool)>(),
        record in option::of("/[a-z]{1,9}"),
        devices in proptest::collection::btree_set("[a-z]{1,3}[0-9]{1,3}", 0..3),
        durations in proptest::collection::vec(duration(1..=5000), 9),
        (clients, resent_clients, refusals) in (1_u32..=32, 1_u32..=32, 1_u32..=100),
        (false_alarms, phi) in (0.001..=1000.0, 1.0..=100.0),
        (loss, resent_share) in (0.0001..=0.5, 0.1..=1.0),
        (place, name, priority) in (0_u8..4, "[a-z_]{1,15}", 1_u16..),
        (server_rate, total_rate, hint_rate) in (1_u32..=1_000_000, 1_u32..=1_000_000, 1_u32..=1_000_000),
    ) -> PassiveSettings {
        let detector = DetectorSettings {
            silence_masquerade: durations[0],
            silence_half_seen: durations[1],
            silence_application: durations[6],
            clients, false_alarms, phi, loss, refusals, resent_clients, resent_share,
            memory: durations[7],
            resent_within: durations[8],
            backoff: durations[2],
            backoff_max: durations[2] + durations[3],
        };
        let burst = BurstSettings {
            gap: durations[4],
            timeout: durations[5],
            server_rate: server_rate.try_into().unwrap(),
            total_rate: total_rate.try_into().unwrap(),
            hint_rate: hint_rate.try_into().unwrap(),
        };
        let devices = devices.into_iter().collect();
        let record = record.map(Into::into);
        let tcx = match place {
            0 => TcxOrder::First,
            1 => TcxOrder::Last,
            2 => TcxOrder::Before(name),
            _ => TcxOrder::After(name),
        };
        let order = AttachOrder { tcx, clsact_priority: priority.try_into().unwrap() };
        PassiveSettings { enabled, devices, log_faults, record, tick: durations[5], order, detector, burst }
    }
}

/// What a service says, all others may say as well.
fn unlisted() -> impl Strategy<Value = Unlisted> {
    service().prop_map(|usual| {
        let VirtualService {
            fall,
            rise,
            on_failure,
            check,
            further,
            idle_connection,
            second_chance,
            policy,
            ..
        } = usual;
        let policy = PoolPolicy { backups: Vec::new(), ..policy };
        Unlisted {
            fall,
            rise,
            on_failure,
            check,
            asks: true,
            further,
            idle_connection,
            second_chance,
            policy,
        }
    })
}

prop_compose! {
    fn config()(
        metrics in option::of((any::<[u8; 4]>(), 1_u16..).prop_map(SocketAddr::from)),
        on_exit in select(&[OnExit::Keep, OnExit::Remove][..]),
        control in option::of("/[a-z/]{1,30}".prop_map(PathBuf::from)),
        maintenance in option::of("/[a-z/]{1,30}".prop_map(PathBuf::from)),
        script_user in option::of("[a-z]{1,8}(:[0-9]{1,5})?".prop_map(|text| ScriptUser::parse(&text).unwrap())),
        // Long enough to be none of the words that stand for nobody.
        operators in option::of("[a-z]{4,8}"),
        // Above the services' marks.
        probe_mark in 100_u32..,
        passive in passive(),
        mut services in proptest::collection::vec(service(), 1..4),
    ) -> Config {
        for (service, number) in services.iter_mut().zip(1_u8..) {
            match &mut service.key {
                ServiceKey::Address { address: vip, .. } => {
                    vip.set_ip(match vip.ip().into() {
                        AddressFamily::V4 => [192, 0, 2, number].into(),
                        AddressFamily::V6 => format!("2001:db8:1::{number}").parse().unwrap(),
                    });
                }
                ServiceKey::Mark { mark, .. } => *mark = number.into(),
            }
            service.name = format!("service {number} \"ä\\");
        }
        Config { agent: AgentSettings { metrics, on_exit, control, maintenance, script_user, operators, probe_mark, ..AgentSettings::default() }, passive, services, announce: AnnounceSettings::default(), unlisted: Unlisted::default(), role: RoleSetting::default(), sync: None }
    }
}

/// Pieces that files are made of, put together at random: much closer to the reader's branches than any characters.
fn scraps() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "[[service]]",
        "[[service.server]]",
        "[[service.backup]]",
        "quorum",
        "slow-start",
        "combine",
        "[passive]",
        "[defaults]",
        "[agent]",
        "\n",
        "\n",
        "\n",
        " = ",
        " = ",
        "address",
        "forward",
        "check",
        "fall",
        "weight",
        "name",
        "mark",
        "status",
        "{ type = \"http\", ",
        "}",
        "\"192.0.2.80:80\"",
        "\"10.0.0.1\"",
        "\"masquerade\"",
        "\"direct-route\"",
        "3",
        "-1",
        "0x",
        "1e400",
        "\"1s\"",
        "[",
        "]",
        "\"",
        "'''",
        "ä",
        "\u{0}",
        "\t",
        "#",
        ".",
        ",",
    ];
    proptest::collection::vec(select(PIECES), 0..40).prop_map(|pieces| pieces.concat())
}

/// Reads and, if it is refused, writes the messages: neither may panic.
fn read_and_complain(text: &str) {
    if let Err(error) = read(text, Path::new(ORIGIN)) {
        assert!(error.to_string().contains(ORIGIN));
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(config in config()) {
        let text = write(&config);
        prop_assert_eq!(good(&text), config, "{}", text);
    }

    #[test]
    fn what_the_writer_writes_is_read(config in config(), usual in option::of(unlisted())) {
        let config = Config { unlisted: usual.unwrap_or_default(), ..config };
        let text = to_toml(&config);
        prop_assert_eq!(good(&text), config, "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        read_and_complain(&text);
    }

    #[test]
    fn any_scraps_are_read_or_refused(text in scraps()) {
        read_and_complain(&text);
    }

    #[test]
    fn any_value_is_read_or_refused(
        key in select(&["address", "fall", "check", "name", "scheduler", "server", "forward", "mark"][..]),
        value in "[-+0-9a-z\"'{}.:, \\[\\]]{0,12}",
    ) {
        read_and_complain(&in_service(&format!("{key} = {value}")));
        read_and_complain(&in_server(&format!("{key} = {value}")));
    }
}
