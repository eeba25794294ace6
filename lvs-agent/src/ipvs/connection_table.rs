//! The kernel's table of connections, `/proc/net/ip_vs_conn`: to which virtual address a client had sent what IPVS has
//! rewritten.
//!
//! A line has the protocol, the client, the virtual address, the destination, each with its port in hexadecimal, the
//! state and more (`ip_vs_conn_seq_show` in Linux' `net/netfilter/ipvs/ip_vs_conn.c`, 5.10 to 7.2). IPv4 addresses are
//! eight hexadecimal digits, IPv6 addresses eight groups.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

const PLACE: &str = "/proc/net/ip_vs_conn";
/// How many lines are read between two looks at the clock.
const LINES: usize = 1024;

/// A TCP connection through a destination: its client, and the destination.
pub(crate) type ThroughDestination = (SocketAddr, SocketAddr);

/// The virtual addresses of these connections, as far as they are found in time: a table has as many lines as the
/// director has connections. What is there twice, with two virtual addresses, is not told.
pub(crate) fn virtual_addresses(
    wanted: &HashSet<ThroughDestination>,
    limit: Duration,
) -> io::Result<HashMap<ThroughDestination, SocketAddr>> {
    find(BufReader::with_capacity(1 << 16, File::open(PLACE)?), wanted, Instant::now() + limit)
}

fn find(
    table: impl BufRead,
    wanted: &HashSet<ThroughDestination>,
    until: Instant,
) -> io::Result<HashMap<ThroughDestination, SocketAddr>> {
    let mut found: HashMap<ThroughDestination, Option<SocketAddr>> = HashMap::new();
    for (number, line) in table.lines().enumerate() {
        if number % LINES == 0 && Instant::now() >= until {
            break;
        }
        let line = line?;
        let Some((key, virtual_address)) = connection(&line).filter(|(key, _)| wanted.contains(key)) else {
            continue;
        };
        let known = found.entry(key).or_insert(Some(virtual_address));
        *known = known.filter(|known| *known == virtual_address);
    }
    Ok(found.into_iter().filter_map(|(key, address)| Some((key, address?))).collect())
}

/// What a line says, if it is about a TCP connection.
fn connection(line: &str) -> Option<(ThroughDestination, SocketAddr)> {
    let mut words = line.split_ascii_whitespace();
    if words.next()? != "TCP" {
        return None;
    }
    let mut end =
        || Some(SocketAddr::new(address(words.next()?)?, u16::from_str_radix(words.next()?, 16).ok()?));
    let (client, virtual_address, destination) = (end()?, end()?, end()?);
    Some(((client, destination), virtual_address))
}

fn address(word: &str) -> Option<IpAddr> {
    if word.contains(':') {
        return word.parse().ok().map(IpAddr::V6);
    }
    u32::from_str_radix(word, 16).ok().map(|number| Ipv4Addr::from(number).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.1 prints it; the last client has used its port twice.
    const TABLE: &str = "\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP C6336407 9C40 C0000250 0050 0A000001 0050 SYN_RECV         59
UDP C6336408 9C40 C0000250 0050 0A000001 0050 UDP             299
TCP 2001:0db8:0007:0000:0000:0000:0000:0007 9C40 2001:0db8:0000:0000:0000:0000:0000:0080 0050 \
fd00:0000:0000:0000:0000:0000:0000:0001 1F90 SYN_RECV         59
TCP C6336409 9C40 C0000250 0050 0A000001 0050 SYN_RECV         59
TCP C6336409 9C40 C0000251 0050 0A000001 0050 CLOSE             9
TCP broken
";

    fn key(client: &str, destination: &str) -> ThroughDestination {
        (client.parse().unwrap(), destination.parse().unwrap())
    }

    #[test]
    fn what_is_wanted_is_found() {
        let (four, six) =
            (key("198.51.100.7:40000", "10.0.0.1:80"), key("[2001:db8:7::7]:40000", "[fd00::1]:8080"));
        let twice = key("198.51.100.9:40000", "10.0.0.1:80");
        let datagrams = key("198.51.100.8:40000", "10.0.0.1:80");
        let wanted = HashSet::from([four, six, twice, datagrams]);
        let later = Instant::now() + Duration::from_hours(1);
        let expected = HashMap::from([
            (four, "192.0.2.80:80".parse().unwrap()),
            (six, "[2001:db8::80]:80".parse().unwrap()),
        ]);
        assert_eq!(find(TABLE.as_bytes(), &wanted, later).unwrap(), expected);
        assert!(find(TABLE.as_bytes(), &HashSet::new(), later).unwrap().is_empty());
        assert!(find(TABLE.as_bytes(), &wanted, Instant::now()).unwrap().is_empty(), "no time");
    }
}
