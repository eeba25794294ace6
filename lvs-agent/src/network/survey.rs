//! Where the packets of all servers leave, at one time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{Link, Links, NetworkError, NextHop, RouteLookup, RouteQuery};

/// A network device, by number and name: a device that was deleted and made again has another number, one that was
/// renamed another name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Its number in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// Where packets to a server go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Out of the director.
    Through {
        /// Index of the device that they leave through.
        device: u32,
        /// Whose MAC address they are sent to: the server's own, or a router's.
        neighbour: IpAddr,
    },
    /// Nowhere: the address is the director's own.
    Local,
    /// Nowhere: there is no route, or none to a single host.
    Nowhere(NetworkError),
}

/// The devices of the director, and where packets to each server go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// All devices, by index.
    pub devices: BTreeMap<u32, Device>,
    /// All servers that were asked about.
    pub servers: BTreeMap<IpAddr, Reach>,
}

impl Survey {
    /// The neighbours that packets to servers are sent to, with the devices that lead there.
    #[must_use]
    pub fn neighbours(&self) -> BTreeSet<(u32, IpAddr)> {
        let through = |reach: &Reach| match reach {
            Reach::Through { device, neighbour } => Some((*device, *neighbour)),
            Reach::Local | Reach::Nowhere(_) => None,
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

/// Makes surveys.
pub struct Surveyor {
    links: Links,
    routes: RouteLookup,
}

impl Surveyor {
    /// Surveys of the calling thread's network namespace. The kernel has `timeout` for each answer.
    pub async fn connect(timeout: Duration) -> Result<Self, NetworkError> {
        Ok(Self { links: Links::connect(timeout).await?, routes: RouteLookup::connect(timeout).await? })
    }

    /// Looks at all devices and at the route to each server. An error means that the kernel could not be asked; that it
    /// knows no route to a server is part of the survey.
    pub async fn survey(
        &mut self,
        servers: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Survey, NetworkError> {
        let links = self.links.list().await?.into_iter();
        let devices: BTreeMap<u32, Device> =
            links.map(|Link { index, name, .. }| (index, Device { index, name })).collect();
        let mut survey = Survey { devices, servers: BTreeMap::new() };
        for server in servers {
            let reach = match self.routes.way(server, RouteQuery::default()).await {
                Ok((_, NextHop::Local)) => Reach::Local,
                // It has come or gone while this was looked at; the change will be heard of.
                Ok((device, _)) if !survey.devices.contains_key(&device) => {
                    Reach::Nowhere(NetworkError::NoDeviceIndex(device))
                }
                Ok((device, NextHop::Direct)) => Reach::Through { device, neighbour: server },
                Ok((device, NextHop::Gateway(neighbour))) => Reach::Through { device, neighbour },
                Err(none @ (NetworkError::NoRoute { .. } | NetworkError::NotUnicast { .. })) => {
                    Reach::Nowhere(none)
                }
                Err(error) => return Err(error),
            };
            survey.servers.insert(server, reach);
        }
        Ok(survey)
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
        let through = |device, neighbour| Reach::Through { device, neighbour: address(neighbour) };
        let survey = Survey {
            devices: [device(1, "lo"), device(2, "eth0"), device(3, "eth1")]
                .map(|device| (device.index, device))
                .into(),
            servers: [
                (address("10.0.0.1"), through(3, "10.0.0.1")),
                (address("10.9.0.1"), through(3, "10.0.0.254")),
                (address("10.9.0.2"), through(3, "10.0.0.254")),
                (address("10.0.0.9"), Reach::Local),
                (address("10.8.0.1"), Reach::Nowhere(NetworkError::NoDeviceIndex(9))),
            ]
            .into(),
        };
        assert_eq!(survey.watched(&[]), [device(3, "eth1")].into());
        assert_eq!(survey.watched(&["eth0".to_owned(), "gone".to_owned()]), [device(2, "eth0")].into());
        let neighbours = [(3, address("10.0.0.1")), (3, address("10.0.0.254"))];
        assert_eq!(survey.neighbours(), neighbours.into());
    }
}
