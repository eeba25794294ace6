//! The kernel's IPVS table as `/proc/net/ip_vs` shows it, and what changed from one reading to the next.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use anyhow::{Context as _, Result, bail};
use lvs_agent::model::VipMarks;

/// Whether a service is one of the agent's own, by its mark.
fn is_private(name: &str) -> bool {
    let mark = name.strip_prefix("FWM ").and_then(|mark| mark.parse().ok());
    mark.is_some_and(|mark| VipMarks::default().contains(mark))
}

/// The whole table, without the numbers of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The virtual services, in the kernel's order.
    pub services: Vec<Service>,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What names it: `TCP 192.0.2.80:80` or `FWM 1`.
    pub name: String,
    /// Its scheduler.
    pub scheduler: String,
    /// Its destinations, in the kernel's order.
    pub destinations: Vec<Destination>,
}

/// A real server in a virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its address and port.
    pub server: SocketAddr,
    /// The kernel's word for the forwarding method: `Masq`, `Route`, `Tunnel`, `Local`.
    pub method: String,
    /// Its weight.
    pub weight: u32,
}

/// A difference in one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The name of the virtual service.
    pub service: String,
    /// The real server.
    pub server: SocketAddr,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new, with this weight.
    Added(u32),
    /// It is gone.
    Removed,
    /// Its weight was, and is now.
    Weight(u32, u32),
    /// It is reached in another way.
    Method,
}

impl Table {
    /// Reads the text of `/proc/net/ip_vs`, without the agent's private services for probes to VIPs.
    pub fn parse(text: &str) -> Result<Self> {
        let mut table = Self::default();
        for line in text.lines().skip_while(|line| !line.starts_with("  ->")).skip(1) {
            table.add(line).with_context(|| format!("in the line \"{line}\" of the IPVS table"))?;
        }
        table.services.retain(|service| !is_private(&service.name));
        Ok(table)
    }

    fn add(&mut self, line: &str) -> Result<()> {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["->", server, method, weight, ..] => {
                let service = self.services.last_mut().context("a destination without a service")?;
                let (server, weight) = (endpoint(server)?, weight.parse()?);
                service.destinations.push(Destination { server, method: method.to_owned(), weight });
            }
            ["FWM", mark, scheduler, ..] => {
                self.start(format!("FWM {}", u32::from_str_radix(mark, 16)?), scheduler);
            }
            [protocol, address, scheduler, ..] => {
                self.start(format!("{protocol} {}", endpoint(address)?), scheduler);
            }
            _ => bail!("neither a service nor a destination"),
        }
        Ok(())
    }

    fn start(&mut self, name: String, scheduler: &str) {
        self.services.push(Service { name, scheduler: scheduler.to_owned(), destinations: Vec::new() });
    }

    /// Every destination with the name of its service.
    pub fn destinations(&self) -> impl Iterator<Item = (&str, &Destination)> {
        self.services.iter().flat_map(|service| {
            service.destinations.iter().map(move |destination| (service.name.as_str(), destination))
        })
    }

    /// The weight of a server in the first service that has it.
    #[must_use]
    pub fn weight(&self, server: SocketAddr) -> Option<u32> {
        self.destinations().find(|(_, found)| found.server == server).map(|(_, found)| found.weight)
    }

    /// Whether every service keeps new connections away from a server: weight 0, or not there at all.
    #[must_use]
    pub fn is_out(&self, server: SocketAddr) -> bool {
        let mut found = self.destinations().filter(|(_, found)| same_server(found.server, server));
        found.all(|(_, found)| found.weight == 0)
    }

    /// Whether a server, at whatever port, has a weight in every service.
    #[must_use]
    pub fn is_in_everywhere(&self, server: SocketAddr) -> bool {
        let has = |service: &Service| {
            let mut found = service.destinations.iter();
            found.any(|found| found.server.ip() == server.ip() && found.weight > 0)
        };
        self.services.iter().all(has)
    }

    /// What is different in `later`.
    #[must_use]
    pub fn changes_to(&self, later: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut note = |service: &str, server, kind| {
            changes.push(Change { service: service.to_owned(), server, kind });
        };
        for (service, old) in self.destinations() {
            match later.find(service, old.server) {
                None => note(service, old.server, ChangeKind::Removed),
                Some(new) if new.weight != old.weight => {
                    note(service, old.server, ChangeKind::Weight(old.weight, new.weight));
                }
                Some(new) if new.method != old.method => note(service, old.server, ChangeKind::Method),
                Some(_) => {}
            }
        }
        for (service, new) in later.destinations() {
            if self.find(service, new.server).is_none() {
                note(service, new.server, ChangeKind::Added(new.weight));
            }
        }
        changes
    }

    fn find(&self, service: &str, server: SocketAddr) -> Option<&Destination> {
        let mut found =
            self.destinations().filter(|(name, found)| *name == service && found.server == server);
        found.next().map(|(_, destination)| destination)
    }
}

/// Whether both are the same server, by its address and by its port where both have one: firewall-mark services have
/// port 0.
#[must_use]
pub fn same_server(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip() == other.ip() && (one.port() == other.port() || one.port() == 0 || other.port() == 0)
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}: ", self.service, self.server)?;
        match self.kind {
            ChangeKind::Added(weight) => write!(f, "added with weight {weight}"),
            ChangeKind::Removed => f.write_str("removed"),
            ChangeKind::Weight(from, to) => write!(f, "weight {from} -> {to}"),
            ChangeKind::Method => f.write_str("another forwarding method"),
        }
    }
}

/// `0A000001:0050` or `[2001:0db8:…]:0050`: the port is in hexadecimal digits, an IPv4 address too.
fn endpoint(text: &str) -> Result<SocketAddr> {
    let (address, port) = text.rsplit_once(':').context("an endpoint without a port")?;
    let address = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => IpAddr::V6(v6.parse()?),
        None => IpAddr::V4(Ipv4Addr::from_bits(u32::from_str_radix(address, 16)?)),
    };
    Ok(SocketAddr::new(address, u16::from_str_radix(port, 16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0000250:0050 rr  
  -> 0A000002:0050      Masq    1      0          12        
  -> 0A000001:0050      Route   0      3          0         
TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:01BB wrr persistent 300 FFFFFFFF
  -> [2001:0db8:0000:0000:0000:0000:0000:0002]:01BB      Tunnel  5      0          0         
FWM  0000000A wlc 
";

    fn table() -> Table {
        Table::parse(TEXT).unwrap()
    }

    fn server(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn reads_services_and_destinations() {
        let names: Vec<_> = table().services.iter().map(|service| service.name.clone()).collect();
        assert_eq!(names, ["TCP 192.0.2.80:80", "TCP [2001:db8::1]:443", "FWM 10"]);
        let schedulers: Vec<_> = table().services.iter().map(|service| service.scheduler.clone()).collect();
        assert_eq!(schedulers, ["rr", "wrr", "wlc"]);
        let found: Vec<_> = table()
            .destinations()
            .map(|(_, found)| (found.server.to_string(), found.method.clone(), found.weight))
            .collect();
        let expected =
            [("10.0.0.2:80", "Masq", 1), ("10.0.0.1:80", "Route", 0), ("[2001:db8::2]:443", "Tunnel", 5)];
        assert_eq!(found, expected.map(|(server, method, weight)| (server.into(), method.into(), weight)));
    }

    #[test]
    fn an_empty_table_has_no_services() {
        let head = TEXT.split_inclusive('\n').take(3).collect::<Vec<_>>().concat();
        assert_eq!(Table::parse(&head).unwrap(), Table::default());
    }

    #[test]
    fn nonsense_is_an_error_that_quotes_the_line() {
        for line in ["TCP", "  -> 0A000001:0050      Masq    x", "UDP  C0000250 rr", "FWM zz rr"] {
            let error = Table::parse(&format!("{TEXT}{line}\n")).unwrap_err();
            assert!(format!("{error:#}").contains(line), "{error:#}");
        }
    }

    #[test]
    fn out_is_quiescent_or_absent() {
        for (address, out) in [("10.0.0.2:80", false), ("10.0.0.1:80", true), ("10.0.0.9:80", true)] {
            assert_eq!(table().is_out(server(address)), out, "{address}");
        }
    }

    #[test]
    fn changes_name_exactly_what_is_different() {
        assert_eq!(table().changes_to(&table()), []);
        let mut later = table();
        later.services[0].destinations[0].weight = 0;
        later.services[0].destinations.remove(1);
        later.services[1].destinations[0].method = "Route".into();
        later.services[2].destinations.push(Destination {
            server: server("10.0.0.3:0"),
            method: "Masq".into(),
            weight: 7,
        });
        let changes: Vec<_> = table().changes_to(&later).iter().map(ToString::to_string).collect();
        assert_eq!(
            changes,
            [
                "TCP 192.0.2.80:80 -> 10.0.0.2:80: weight 1 -> 0",
                "TCP 192.0.2.80:80 -> 10.0.0.1:80: removed",
                "TCP [2001:db8::1]:443 -> [2001:db8::2]:443: another forwarding method",
                "FWM 10 -> 10.0.0.3:0: added with weight 7",
            ]
        );
        assert_eq!(later.changes_to(&table()).len(), changes.len());
    }

    #[test]
    fn the_number_of_connections_is_no_change() {
        let busier = Table::parse(&TEXT.replace("3          0 ", "9          7 ")).unwrap();
        assert_eq!(table(), busier);
    }
}
