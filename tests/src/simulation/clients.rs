//! Clients: addresses in networks, and a port for each of their connections.

use std::collections::BTreeMap;

use fastrand::Rng;

/// Linux's ephemeral ports (`net.ipv4.ip_local_port_range`), of which a client takes one after the other.
const PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// A client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// An IPv4 address: the network's number in the upper 24 bits.
    address: u32,
    port: u16,
}

impl Client {
    /// Its /24, as a number.
    pub(super) fn network(self) -> u32 {
        self.address >> 8
    }

    /// What the kernel side tells connections apart by (`Client::hash` in `lvs-ebpf/src/client.rs`), never 0.
    pub(super) fn tag(self) -> u64 {
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let address = 0xffff << 32 | u64::from(self.address);
        let mixed = (address ^ u64::from(self.port) << 32).wrapping_mul(SPREAD);
        ((mixed ^ mixed >> 32).wrapping_mul(SPREAD) ^ mixed >> 29).max(1)
    }
}

/// The ports that are next, by address.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients {
    next_ports: BTreeMap<u32, u16>,
}

impl Clients {
    /// Another connection of one of `addresses` clients in this network, whichever it is.
    pub(super) fn connect(&mut self, rng: &mut Rng, network: u32, addresses: u32) -> Client {
        let address = network << 8 | rng.u32(1..=addresses.clamp(1, 254));
        let next = self.next_ports.entry(address).or_insert_with(|| rng.u16(PORTS));
        let port = *next;
        *next = if port == *PORTS.end() { *PORTS.start() } else { port + 1 };
        Client { address, port }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Connections of a single address differ by port alone, and do differ.
    #[test]
    fn an_address_has_a_port_for_each_connection_until_all_were_used() {
        let (mut clients, mut rng) = (Clients::default(), Rng::with_seed(1));
        let ports = usize::from(PORTS.end() - PORTS.start()) + 1;
        let all: Vec<Client> = (0..=ports).map(|_| clients.connect(&mut rng, 9, 1)).collect();
        let (addresses, tags): (BTreeSet<u32>, BTreeSet<u64>) =
            all.iter().map(|client| (client.address, client.tag())).unzip();
        assert_eq!((addresses.len(), tags.len()), (1, ports));
        assert_eq!(all.first(), all.last(), "the first port again");
        assert!(all.iter().all(|client| client.network() == 9));
        let addresses: BTreeSet<u32> = (0..100).map(|_| clients.connect(&mut rng, 9, 4).address).collect();
        assert_eq!(addresses.len(), 4);
    }
}
