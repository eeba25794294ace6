//! Host names that have no address yet while the network comes up.

use super::{names, read_by};
use crate::config::{Source, Strictness, diagnostics::WarningKind, name_grace::NamePolicy, reading::Reading};

fn at_start(text: &str) -> Reading {
    let names = names();
    read_by(text, "l.cf".as_ref(), Strictness::Lenient, &names, NamePolicy::MayBeMissing)
        .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_has_no_address_yet_is_left_out_and_the_rest_is_read() {
    let text = "virtual=192.0.2.1:80\n    real=10.0.0.1:80 masq\n    real=later:80 masq\n    fallback=later2:80\n    \
                servicename=first\nvirtual=later3:80\n    real=10.0.0.1:80 masq\nvirtual=192.0.2.3:80\n    \
                real=later:80 masq\nvirtual=192.0.2.4:80\n    real=web1:80 masq\n    servicename=last\n";
    let reading = at_start(text);
    let services: Vec<_> = reading
        .config
        .services
        .iter()
        .map(|service| (service.name.as_str(), service.servers.len(), service.policy.backups.len()))
        .collect();
    assert_eq!(services, [("first", 1, 0), ("last", 1, 0)]);
    let unresolved: Vec<_> = reading.unresolved.names.iter().map(String::as_str).collect();
    assert_eq!(unresolved, ["later", "later2", "later3"]);
    let partial: Vec<_> = reading.unresolved.partial.iter().map(ToString::to_string).collect();
    assert_eq!(partial, ["tcp 192.0.2.1:80"]);
    let warned: Vec<_> = reading.warnings.iter().map(|warning| warning.place.line).collect();
    assert_eq!(warned, [3, 4, 6, 9]);
    assert!(reading.warnings.iter().all(|warning| matches!(warning.kind, WarningKind::Note(_))));
    // When it must be whole, it is a fault, at once.
    let error = super::reading(text).expect_err("not all names have addresses");
    assert!(error.contains("\"later\" has no IPv4 address") && error.contains("\"later3\""), "{error}");
}

#[test]
fn what_can_never_be_an_address_is_a_fault_at_the_start_too() {
    let names = names();
    for host in ["10.0.0.256", "[::1]", "80"] {
        let text = format!("virtual=192.0.2.1:80\n    real={host} masq\n");
        let read = read_by(&text, "l.cf".as_ref(), Strictness::Lenient, &names, NamePolicy::MayBeMissing);
        assert!(read.is_err(), "{host}");
    }
}

#[test]
fn all_may_be_missing() {
    let reading = at_start("virtual=later:80\n    real=10.0.0.1 masq\n");
    assert_eq!(reading.config.services, []);
    assert_eq!(reading.unresolved.names.len(), 1);
}

/// Once the time is over, and wherever there is none, as in `check-config`, a missing name is a fault.
#[test]
fn a_file_is_read_without_its_missing_names_only_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ldirectord.cf");
    let text = "virtual=192.0.2.1:80\n    real=10.0.0.1:80 masq\n    real=no-such-host.invalid:80 masq\n\
                virtual=192.0.2.2:80\n    real=10.0.0.1:80 masq\n";
    std::fs::write(&path, text).unwrap();
    let keys = |reading: &Reading| {
        reading.config.services.iter().map(|service| service.key.to_string()).collect::<Vec<_>>()
    };
    let source = Source::new(path, Strictness::Lenient, None);
    assert!(source.read().is_err());
    let source = source.at_start();
    let reading = source.read().unwrap();
    assert_eq!(keys(&reading), ["tcp 192.0.2.1:80", "tcp 192.0.2.2:80"]);
    assert_eq!(reading.config.services[0].servers.len(), 1);
    // A service that is in the kernel's table already is left as it is.
    source.names.keep(reading.unresolved.partial);
    assert_eq!(keys(&source.read().unwrap()), ["tcp 192.0.2.2:80"]);
    source.names.end();
    assert!(source.read().is_err());
}
