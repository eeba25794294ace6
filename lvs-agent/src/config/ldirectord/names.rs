//! Names of hosts and services, looked up while the file is read: in bounded time, and each once.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fs::File,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, ToSocketAddrs as _},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    config::diagnostics::{NameFault, SERVICES},
    model::AddressFamily,
};

/// How long one name may take.
const ONE: Duration = Duration::from_secs(5);
/// How long all names of a file may take together.
const ALL: Duration = Duration::from_secs(20);
/// The most of that which is read.
const MAX_SERVICES: u64 = 4 << 20;

/// Looks names up.
pub(super) trait Names {
    /// A host's first address of this IP version. `name` may be the address itself.
    fn host(&self, name: &str, family: AddressFamily) -> Result<IpAddr, NameFault>;
    /// The port of a service, for `protocol` or for any. `name` may be the number itself, 0 included.
    fn port(&self, name: &str, protocol: Option<&str>) -> Result<u16, NameFault>;
}

/// The system's resolver and its list of services.
#[derive(Debug, Default)]
pub(super) struct SystemNames {
    hosts: RefCell<HashMap<(String, AddressFamily), Result<IpAddr, NameFault>>>,
    services: RefCell<Option<String>>,
    /// How long was waited for names so far.
    waited: Cell<Duration>,
}

impl Names for SystemNames {
    fn host(&self, name: &str, family: AddressFamily) -> Result<IpAddr, NameFault> {
        if let Some(literal) = literal(name, family) {
            return literal;
        }
        let key = (name.to_owned(), family);
        if let Some(known) = self.hosts.borrow().get(&key) {
            return known.clone();
        }
        let address = self.look_up(name, family);
        self.hosts.borrow_mut().insert(key, address.clone());
        address
    }

    fn port(&self, name: &str, protocol: Option<&str>) -> Result<u16, NameFault> {
        if let Some(number) = port_number(name) {
            return number;
        }
        let mut services = self.services.borrow_mut();
        let services = services.get_or_insert_with(|| {
            let mut text = String::new();
            // Without the file no service has a port by its name.
            let read =
                File::open(SERVICES).and_then(|file| file.take(MAX_SERVICES).read_to_string(&mut text));
            read.map(|_| text).unwrap_or_default()
        });
        service_port(services, name, protocol).ok_or_else(|| NameFault::Port { name: name.to_owned() })
    }
}

impl SystemNames {
    /// Asks the system, in a thread of its own that may be left behind.
    fn look_up(&self, name: &str, family: AddressFamily) -> Result<IpAddr, NameFault> {
        let fault = |reason: &str| no_host(name, family, reason);
        let left = ALL.saturating_sub(self.waited.get()).min(ONE);
        if left.is_zero() {
            return Err(fault("the names before it have taken all the time there is"));
        }
        let began = Instant::now();
        let (answer, answers) = mpsc::sync_channel(1);
        let host = name.to_owned();
        let thread = thread::Builder::new().name("names".to_owned()).spawn(move || {
            let addresses = (host.as_str(), 0).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
            // The receiver may have stopped waiting.
            answer.send(addresses).ok();
        });
        if let Err(error) = thread {
            return Err(fault(&error.to_string()));
        }
        let answer = answers.recv_timeout(left);
        self.waited.set(self.waited.get() + began.elapsed());
        match answer {
            Err(_) => Err(fault(&format!("no answer within {} s", left.as_secs().max(1)))),
            Ok(Err(error)) => Err(fault(&error.to_string())),
            Ok(Ok(addresses)) => addresses
                .into_iter()
                .map(|address| address.ip())
                .find(|ip| AddressFamily::from(*ip) == family)
                .ok_or_else(|| fault("only of the other IP version")),
        }
    }
}

/// What is an address already, or can only be a wrong one; `None` for a name.
pub(super) fn literal(name: &str, family: AddressFamily) -> Option<Result<IpAddr, NameFault>> {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    match bare.parse::<IpAddr>() {
        Ok(ip) if AddressFamily::from(ip) == family => Some(Ok(ip)),
        Ok(_) => Some(Err(no_host(name, family, "it is an address of the other IP version"))),
        // The C library would make an address of "80" or "10.1", which nobody means.
        Err(_) if bare.is_empty() || bare.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ':') => {
            Some(Err(no_host(name, family, "it is not an address")))
        }
        Err(_) => None,
    }
}

/// Whether it is a name, which may have an address at another time.
pub(super) fn is_name(text: &str) -> bool {
    literal(text, AddressFamily::V4).is_none()
}

fn no_host(name: &str, family: AddressFamily, reason: &str) -> NameFault {
    let family = match family {
        AddressFamily::V4 => "IPv4",
        AddressFamily::V6 => "IPv6",
    };
    NameFault::Host { name: name.to_owned(), family, reason: reason.to_owned() }
}

/// What is a number; `None` for a name.
pub(super) fn port_number(name: &str) -> Option<Result<u16, NameFault>> {
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| name.parse().map_err(|_| NameFault::Port { name: name.to_owned() }))
}

/// The port of a service by services(5).
fn service_port(services: &str, name: &str, protocol: Option<&str>) -> Option<u16> {
    services.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let (first, port) = (words.next()?, words.next()?);
        let (port, listed_protocol) = port.split_once('/')?;
        let is_it = first == name || words.any(|alias| alias == name);
        (is_it && protocol.is_none_or(|wanted| wanted == listed_protocol)).then(|| port.parse().ok())?
    })
}

/// Names for tests: what isn't an address or a number is looked up in these lists.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct ListedNames {
    pub(super) hosts: Vec<(&'static str, IpAddr)>,
    pub(super) services: &'static str,
}

#[cfg(test)]
impl Names for ListedNames {
    fn host(&self, name: &str, family: AddressFamily) -> Result<IpAddr, NameFault> {
        literal(name, family).unwrap_or_else(|| {
            let found =
                self.hosts.iter().find(|(known, ip)| *known == name && AddressFamily::from(*ip) == family);
            found.map(|(_, ip)| *ip).ok_or_else(|| no_host(name, family, "not listed"))
        })
    }

    fn port(&self, name: &str, protocol: Option<&str>) -> Result<u16, NameFault> {
        let by_name = || service_port(self.services, name, protocol);
        port_number(name)
            .unwrap_or_else(|| by_name().ok_or_else(|| NameFault::Port { name: name.to_owned() }))
    }
}

/// All addresses from `first` to `last`, both included.
pub(super) fn addresses(first: Ipv4Addr, last: Ipv4Addr) -> impl Iterator<Item = Ipv4Addr> {
    (first.to_bits()..=last.to_bits()).map(Ipv4Addr::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str =
        "# services\nhttp\t80/tcp www # WorldWideWeb\ndomain 53/tcp\ndomain 53/udp\nodd\nsyslog 514/udp\n";

    #[test]
    fn services_have_ports() {
        let port = |name, protocol| service_port(LIST, name, protocol);
        assert_eq!(port("http", Some("tcp")), Some(80));
        assert_eq!(port("www", None), Some(80));
        assert_eq!(port("http", Some("udp")), None);
        assert_eq!(port("domain", Some("udp")), Some(53));
        assert_eq!(port("syslog", None), Some(514));
        assert_eq!(port("WorldWideWeb", None), None);
        assert_eq!(port("odd", None), None);
    }

    #[test]
    fn addresses_are_not_looked_up() {
        let names = SystemNames::default();
        let v4 = |name| names.host(name, AddressFamily::V4);
        assert_eq!(v4("10.0.0.1"), Ok(IpAddr::from([10, 0, 0, 1])));
        for wrong in ["80", "10.1", "10.0.0.256", "[::1]", "::1", "", "."] {
            assert!(v4(wrong).is_err(), "{wrong}");
        }
        assert_eq!(names.host("[::1]", AddressFamily::V6), Ok(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])));
        assert_eq!(names.port("8080", None), Ok(8080));
        assert!(names.port("70000", None).is_err());
    }

    #[test]
    fn a_name_is_looked_up() {
        let names = SystemNames::default();
        assert_eq!(names.host("localhost", AddressFamily::V4), Ok(IpAddr::from([127, 0, 0, 1])));
        let unknown = names.host("no-such-host.invalid", AddressFamily::V4);
        assert!(unknown.is_err_and(|fault| fault.to_string().contains("has no IPv4 address")));
    }
}
