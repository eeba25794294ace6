//! `[director]` and `[sync]`.

use super::*;
use crate::model::{
    DirectorRole, Mode, SyncGroup, SyncLength, SyncPorts, SyncRole, SyncSettings, SyncSysctls,
};

const SERVICE: &str = "[[service]]\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\n\
                       [[service.server]]\naddress = \"10.0.0.1\"\n";

fn role() -> impl Strategy<Value = RoleSetting> {
    let fixed = [DirectorRole::Active, DirectorRole::Standby].map(RoleSetting::Fixed);
    select([&fixed[..], &[RoleSetting::ByVip]].concat())
}

prop_compose! {
    fn sync()(
        role in select(&[SyncRole::Master, SyncRole::Backup, SyncRole::Both][..]),
        (interface, id) in ("[a-z0-9.]{3,15}", any::<u8>()),
        group in prop_oneof![
            (224_u8..240, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| IpAddr::from([a, b, c, d])),
            any::<[u8; 15]>().prop_map(|rest| {
                let mut bytes = [0xff; 16];
                bytes[1..].copy_from_slice(&rest);
                bytes.into()
            }),
        ],
        (port, ttl) in (1_u16..=65472, 1_u8..),
        maxlen in option::of(SyncLength::MIN..=SyncLength::MAX),
        (threshold, period) in (option::of(1_u16..100), option::of(prop_oneof![Just(0_u16), 100_u16..])),
        refresh in option::of(0_u64..100_000),
        (retries, ports) in (option::of(0_u8..=3), option::of(0_u32..=6)),
        (templates_only, backup_only) in (any::<Option<bool>>(), any::<Option<bool>>()),
    ) -> SyncSettings {
        let sysctls = SyncSysctls {
            threshold,
            period,
            refresh: refresh.map(Duration::from_secs),
            retries,
            ports: ports.and_then(|power| SyncPorts::new(1 << power)),
            templates_only,
            backup_only: backup_only.filter(|only| !only || role == SyncRole::Backup),
        };
        SyncSettings {
            role,
            interface,
            id,
            group: SyncGroup::new(group).unwrap(),
            port: port.try_into().unwrap(),
            ttl: ttl.try_into().unwrap(),
            maxlen: maxlen.and_then(SyncLength::new),
            sysctls,
        }
    }
}

proptest! {
    #[test]
    fn roles_and_daemons_are_read_as_they_are_written(role in role(), sync in option::of(sync())) {
        let config = Config { role, sync, ..good(SERVICE) };
        let text = to_toml(&config);
        prop_assert_eq!(good(&text), config, "{}", text);
    }
}

#[test]
fn only_the_device_must_be_said() {
    let sync = |keys: &str| good(&format!("[sync]\n{keys}\n{SERVICE}")).sync;
    assert_eq!(sync("interface = \"eth1\""), Some(SyncSettings::on("eth1")));
    let usual = SyncSettings::on("eth1");
    assert_eq!((usual.role, usual.id, usual.port.get(), usual.ttl.get()), (SyncRole::Both, 0, 8848, 1));
    assert_eq!(usual.group.to_string(), "224.0.0.81");
    assert_eq!((good(SERVICE).sync, good(SERVICE).role), (None, RoleSetting::default()));
}

#[test]
fn what_the_kernel_would_refuse_or_change_is_refused_with_its_place() {
    let cases = [
        ("id = 1", 1, "\"interface\""),
        ("interface = \"a/b\"", 2, "no network device's name has"),
        ("interface = \"eth1\"\nid = 256", 3, "256 is above 255"),
        ("interface = \"eth1\"\ngroup = \"10.0.0.1\"", 3, "is no multicast address"),
        ("interface = \"eth1\"\ngroup = \"all\"", 3, "is not a valid multicast address"),
        ("interface = \"eth1\"\nport = 65500", 3, "no room for 64 threads"),
        ("interface = \"eth1\"\nttl = 0", 3, "0 is below 1"),
        ("interface = \"eth1\"\nmaxlen = 1000", 3, "1000 is below 1024"),
        ("interface = \"eth1\"\nports = 3", 3, "no power of two"),
        ("interface = \"eth1\"\nthreshold = 5\nperiod = 5", 3, "threshold 5 is not below period 5"),
        ("interface = \"eth1\"\nbackup-only = true", 3, "stops all balancing"),
        ("interface = \"eth1\"\nrole = \"slave\"", 3, "\"slave\" is unknown"),
        ("interface = \"eth1\"\nrefresh = \"1500ms\"", 3, "is not whole seconds"),
        ("interface = \"eth1\"\nthresold = 3", 3, "thresold"),
    ];
    for (keys, line, part) in cases {
        let error = read(&format!("[sync]\n{keys}\n{SERVICE}"), Path::new(ORIGIN)).unwrap_err().to_string();
        assert!(error.contains(part), "{keys}: {error}");
        assert!(error.contains(&format!("{ORIGIN}:{line}:")), "{keys}: {error}");
    }
    let error = read(&format!("[director]\nrole = \"master\"\n{SERVICE}"), Path::new(ORIGIN)).unwrap_err();
    assert!(error.to_string().contains("\"active\", \"standby\" or \"by-vip\""), "{error}");
}

#[test]
fn in_other_modes_the_daemons_are_left_alone_and_the_author_hears_of_it() {
    let text = format!("[sync]\ninterface = \"eth1\"\n{SERVICE}");
    for (mode, expected) in [(Mode::Manage, 0), (Mode::Observe, 1)] {
        let reading = read_in_mode(&text, Path::new(ORIGIN), Some(mode)).expect("it is a configuration");
        let warnings: Vec<_> = reading.warnings.iter().map(|warning| warning.kind.to_string()).collect();
        assert_eq!(warnings.len(), expected, "{warnings:?}");
        assert!(warnings.iter().all(|text| text.starts_with("[sync] has no effect in mode observe")));
    }
}
