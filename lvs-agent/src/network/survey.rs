//! A survey: all devices and the next hop of every server at one time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{
    error::NetworkError,
    link::{Link, Links},
    route::{NextHop, RouteLookup, RouteQuery},
};

/// A network device, by number and name: a device that was deleted and made again has another number, one that was
/// renamed another name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Its number in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// The next hop of packets to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerNextHop {
    /// They leave the director.
    Via {
        /// Index of the device that they leave through.
        device: u32,
        /// Whose MAC address they are sent to: the server's own, or a router's.
        neighbour: IpAddr,
    },
    /// None: the address is the director's own.
    Local,
    /// None: there is no route, or none to a single host.
    Unreachable(NetworkError),
}

/// The devices of the director, and where packets to each server go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteSnapshot {
    /// All devices, by index.
    pub devices: BTreeMap<u32, Device>,
    /// All servers that were looked up.
    pub servers: BTreeMap<IpAddr, ServerNextHop>,
}

impl RouteSnapshot {
    /// The neighbours that packets to servers are sent to, with the devices that lead there.
    #[must_use]
    pub fn neighbours(&self) -> BTreeSet<(u32, IpAddr)> {
        let through = |next_hop: &ServerNextHop| match next_hop {
            ServerNextHop::Via { device, neighbour } => Some((*device, *neighbour)),
            ServerNextHop::Local | ServerNextHop::Unreachable(_) => None,
        };
        self.servers.values().filter_map(through).collect()
    }

    /// The devices that lead to servers, or, if there are any, those of `named` that there are.
    #[must_use]
    pub fn watched(&self, named: &[String]) -> BTreeSet<Device> {
        if !named.is_empty() {
            return self.devices.values().filter(|device| named.contains(&device.name)).cloned().collect();
        }
        self.neighbours().iter().filter_map(|(device, _)| self.devices.get(device)).cloned().collect()
    }
}

/// Makes route snapshots.
pub struct Surveyor {
    links: Links,
    routes: RouteLookup,
}

impl Surveyor {
    /// Snapshots of the calling thread's network namespace. The kernel has `timeout` for each answer.
    pub async fn connect(timeout: Duration) -> Result<Self, NetworkError> {
        Ok(Self { links: Links::connect(timeout).await?, routes: RouteLookup::connect(timeout).await? })
    }

    /// Reads all devices and the route to each server. An error means that the kernel could not be asked; that it knows
    /// no route to a server is part of the snapshot.
    pub async fn survey(
        &mut self,
        servers: impl IntoIterator<Item = IpAddr>,
    ) -> Result<RouteSnapshot, NetworkError> {
        let links = self.links.list().await?.into_iter();
        let devices: BTreeMap<u32, Device> =
            links.map(|Link { index, name, .. }| (index, Device { index, name })).collect();
        let mut snapshot = RouteSnapshot { devices, servers: BTreeMap::new() };
        for server in servers {
            let next_hop = match self.routes.next_hop(server, RouteQuery::default()).await {
                Ok((_, NextHop::Local)) => ServerNextHop::Local,
                // It has come or gone meanwhile; the notification of that change is still to come.
                Ok((device, _)) if !snapshot.devices.contains_key(&device) => {
                    ServerNextHop::Unreachable(NetworkError::NoDeviceIndex(device))
                }
                Ok((device, NextHop::Direct)) => ServerNextHop::Via { device, neighbour: server },
                Ok((device, NextHop::Gateway(neighbour))) => ServerNextHop::Via { device, neighbour },
                Err(none @ (NetworkError::NoRoute { .. } | NetworkError::NotUnicast { .. })) => {
                    ServerNextHop::Unreachable(none)
                }
                Err(error) => return Err(error),
            };
            snapshot.servers.insert(server, next_hop);
        }
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(index: u32, name: &str) -> Device {
        Device { index, name: name.to_owned() }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_devices_that_lead_to_servers_are_watched_unless_others_are_named() {
        let through = |device, neighbour| ServerNextHop::Via { device, neighbour: address(neighbour) };
        let snapshot = RouteSnapshot {
            devices: [device(1, "lo"), device(2, "eth0"), device(3, "eth1")]
                .map(|device| (device.index, device))
                .into(),
            servers: [
                (address("10.0.0.1"), through(3, "10.0.0.1")),
                (address("10.9.0.1"), through(3, "10.0.0.254")),
                (address("10.9.0.2"), through(3, "10.0.0.254")),
                (address("10.0.0.9"), ServerNextHop::Local),
                (address("10.8.0.1"), ServerNextHop::Unreachable(NetworkError::NoDeviceIndex(9))),
            ]
            .into(),
        };
        assert_eq!(snapshot.watched(&[]), [device(3, "eth1")].into());
        assert_eq!(snapshot.watched(&["eth0".to_owned(), "gone".to_owned()]), [device(2, "eth0")].into());
        let neighbours = [(3, address("10.0.0.1")), (3, address("10.0.0.254"))];
        assert_eq!(snapshot.neighbours(), neighbours.into());
    }
}
