//! Sends packets of second chance: into the ingress of a device, as if they had come in there, or where that can't be,
//! through a raw socket.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
};

use lvs_common::KeptSyn;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{debug, warn};

use super::packet;
use crate::{netlink::DEFAULT_TIMEOUT, network::Links, passive::Injector};

/// `IPPROTO_RAW` (`include/uapi/linux/in.h`): whoever sends brings the IP header along.
const IPPROTO_RAW: i32 = 255;

/// Sends packets.
pub(super) struct Sender {
    /// `None`: the kernel has refused the program.
    injector: Option<Injector>,
    /// The MAC addresses of devices as they were last asked for; `None`: it has none.
    devices: HashMap<u32, Option<[u8; 6]>>,
}

impl Sender {
    pub(super) fn new() -> Self {
        let injector = Injector::load().inspect_err(|error| {
            warn!("second chance uses a raw socket, which firewall marks of prerouting don't reach: {error}");
        });
        Self { injector: injector.ok(), devices: HashMap::new() }
    }

    /// Forgets the devices, which may have changed.
    pub(super) fn forget_devices(&mut self) {
        self.devices.clear();
    }

    /// Those of these devices that were not asked for yet.
    pub(super) fn unknown(&self, devices: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut unknown: Vec<u32> = devices.filter(|device| !self.devices.contains_key(device)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }

    /// Takes the addresses of devices.
    pub(super) fn learn(&mut self, devices: impl IntoIterator<Item = (u32, Option<[u8; 6]>)>) {
        self.devices.extend(devices);
    }

    /// Sends a kept SYN again.
    pub(super) fn syn(&mut self, kept: &KeptSyn, to: Option<SocketAddr>) -> io::Result<()> {
        let packet = packet::syn(kept, to).ok_or(io::ErrorKind::InvalidData)?;
        let address = to.map_or_else(|| packet::destination(kept), |to| to.ip());
        self.send(&packet, kept.device, address, kept.mark)
    }

    /// Sends a client the RST that was held back.
    pub(super) fn refusal(&mut self, kept: &KeptSyn) -> io::Result<()> {
        let packet = packet::refusal(kept).ok_or(io::ErrorKind::InvalidData)?;
        self.send(&packet, kept.reply_device, packet::client(kept), 0)
    }

    fn send(&mut self, packet: &[u8], device: u32, to: IpAddr, mark: u32) -> io::Result<()> {
        if let (Some(injector), Some(Some(mac))) = (&mut self.injector, self.devices.get(&device)) {
            match injector.inject(&packet::frame(*mac, packet), device) {
                Ok(()) => return Ok(()),
                Err(error) => debug!("{error}"),
            }
        }
        raw(packet, to, mark)
    }
}

/// The MAC addresses of devices.
pub(super) async fn addresses(devices: Vec<u32>) -> Vec<(u32, Option<[u8; 6]>)> {
    let Ok(mut links) = Links::connect(DEFAULT_TIMEOUT).await else { return Vec::new() };
    let mut found = Vec::new();
    for device in devices {
        match links.by_index(device).await {
            Ok(link) => found.push((device, link.mac)),
            Err(error) => debug!("{error}"),
        }
    }
    found
}

/// Sends an IP packet as if this machine's own programs had: it passes no prerouting, so that it bears the mark itself.
fn raw(packet: &[u8], to: IpAddr, mark: u32) -> io::Result<()> {
    let domain = if to.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
    socket.set_mark(mark)?;
    socket.send_to(packet, &SocketAddr::new(to, 0).into()).map(drop)
}
