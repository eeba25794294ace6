//! Keeps addresses on devices as they are wanted. Only what an agent has added is ever removed: by its mark it is known
//! after a crash as well.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use tokio::{sync::watch, time::sleep};

use super::judged::{Vips, WantedVip};
use crate::{
    event::{AnnounceWay, Event, LineFile, Publisher, VipChange, Withdrawal},
    netlink::DEFAULT_TIMEOUT,
    network::{Added, Addresses, HostAddress, Link, NetworkError},
    telemetry::metrics::{count_announce_failure, show_announced},
};

/// How often it is looked whether addresses and devices are still as they were left, and addresses with a lifetime are
/// renewed.
const LOOK: Duration = Duration::from_secs(1);

/// The addresses that are announced, on all devices.
pub(super) struct Devices {
    events: Publisher,
    /// Whether addresses that nobody wants any more are this agent's to remove: not while others run beside it.
    is_sole: bool,
    netlink: Option<Addresses>,
    /// Where this agent has seen its addresses.
    ours: BTreeMap<IpAddr, String>,
    /// Addresses of others, which were told.
    told: BTreeSet<IpAddr>,
    /// Devices that don't do as they should, and why.
    failing: BTreeMap<String, String>,
    /// Whether it was looked for what an earlier agent has left.
    has_looked: bool,
}

/// The devices and addresses that there are.
struct Found {
    links: HashMap<String, Link>,
    names: HashMap<u32, String>,
    addresses: Vec<HostAddress>,
}

impl Found {
    fn at(&self, device: u32, address: IpAddr) -> Option<HostAddress> {
        self.addresses.iter().find(|one| (one.device, one.address) == (device, address)).copied()
    }
}

impl Devices {
    pub(super) fn new(events: Publisher, is_sole: bool) -> Self {
        Self {
            events,
            is_sole,
            netlink: None,
            ours: BTreeMap::new(),
            told: BTreeSet::new(),
            failing: BTreeMap::new(),
            has_looked: false,
        }
    }

    /// Keeps the addresses as they are wanted, until it is dropped.
    pub(super) async fn keep(&mut self, mut wanted: watch::Receiver<Vips>) {
        loop {
            let vips = wanted.borrow_and_update().clone();
            let is_idle =
                vips.wanted.is_empty() && self.ours.is_empty() && (self.has_looked || !self.is_sole);
            if !is_idle {
                self.pass(&vips).await;
            }
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                () = sleep(LOOK), if !is_idle => {}
            }
        }
    }

    /// Takes away at a clean stop what isn't to stay.
    pub(super) async fn stop(&mut self, mut vips: Vips) {
        vips.wanted.retain(|_, vip| vip.leaves_at_stop);
        for vip in vips.wanted.values_mut() {
            vip.announced = Some(false);
        }
        if vips.wanted.is_empty() {
            return;
        }
        let Ok(found) = self.look(&vips).await else { return };
        for (address, vip) in &vips.wanted {
            self.withdraw(*address, &vip.how.device, &found, Withdrawal::Stop).await;
        }
    }

    /// Makes everything as it is wanted, once.
    async fn pass(&mut self, vips: &Vips) {
        let found = match self.look(vips).await {
            Ok(found) => found,
            Err(error) => return self.note("rtnetlink", Err(error.to_string())),
        };
        self.note("rtnetlink", Ok(()));
        let mut devices: BTreeMap<&str, Result<(), String>> = BTreeMap::new();
        for (address, vip) in &vips.wanted {
            let device = vip.how.device.as_str();
            let done = self.make(*address, vip, vips.is_alive, &found).await;
            let outcome = devices.entry(device).or_insert(Ok(()));
            if let (Ok(()), Err(error)) = (&outcome, done) {
                *outcome = Err(error);
            }
        }
        for (device, outcome) in devices {
            self.note(device, outcome);
        }
        self.clean_up(vips, &found).await;
        let wanted: BTreeSet<IpAddr> = vips.wanted.keys().copied().collect();
        self.told.retain(|address| wanted.contains(address));
        let used: BTreeSet<&str> = vips.wanted.values().map(|vip| vip.how.device.as_str()).collect();
        self.failing.retain(|device, _| used.contains(device.as_str()) || device == "rtnetlink");
    }

    /// Removes addresses of this agent's that it no longer has, and those that one before it has left.
    async fn clean_up(&mut self, vips: &Vips, found: &Found) {
        let is_wanted = |address: IpAddr, device: &str| {
            vips.wanted.get(&address).is_some_and(|vip| vip.how.device == device)
        };
        let mut stale: Vec<(IpAddr, String, Withdrawal)> = Vec::new();
        for (address, device) in &self.ours {
            if !is_wanted(*address, device) {
                stale.push((*address, device.clone(), Withdrawal::NotConfigured));
            }
        }
        if self.is_sole {
            for one in found.addresses.iter().filter(|one| one.is_own) {
                let Some(device) = found.names.get(&one.device) else { continue };
                let is_known = self.ours.get(&one.address) == Some(device);
                if !is_known && !is_wanted(one.address, device) {
                    stale.push((one.address, device.clone(), Withdrawal::Leftover));
                }
            }
        }
        self.has_looked = true;
        for (address, device, why) in stale {
            if self.withdraw(address, &device, found, why).await && self.ours.get(&address) == Some(&device) {
                self.ours.remove(&address);
            }
        }
    }

    /// Makes one address as it is wanted.
    async fn make(
        &mut self,
        address: IpAddr,
        vip: &WantedVip,
        is_alive: bool,
        found: &Found,
    ) -> Result<(), String> {
        let WantedVip { how, announced, .. } = vip;
        let Some(link) = found.links.get(&how.device) else {
            show_announced(address, false);
            return Err(format!(
                "it isn't there; make it: ip link add {device} type dummy, ip link set {device} up; or have it made, \
                 with create = true in `announce`",
                device = how.device
            ));
        };
        if !link.up {
            if !how.create {
                show_announced(address, false);
                return Err(format!("it is switched off; switch it on: ip link set {} up", how.device));
            }
            self.addresses()?.switch_on(link.index).await.map_err(|error| error.to_string())?;
        }
        let there = found.at(link.index, address);
        match (announced, there) {
            (Some(_), Some(HostAddress { is_own: false, .. })) => {
                self.tell_of_others(address, &how.device);
                show_announced(address, true);
            }
            (Some(true) | None, Some(_)) => {
                self.ours.insert(address, how.device.clone());
                show_announced(address, true);
                if is_alive {
                    self.renew(link.index, address, how.lifetime).await?;
                }
            }
            (Some(true), None) => {
                let added = self.addresses()?.add(link.index, address, how.lifetime).await;
                if added.map_err(|error| error.to_string())? == Added::New {
                    self.publish(address, &how.device, VipChange::Announced);
                }
                self.ours.insert(address, how.device.clone());
                show_announced(address, true);
            }
            (Some(false), _) => {
                self.withdraw(address, &how.device, found, Withdrawal::Unhealthy).await;
            }
            (None, None) => show_announced(address, false),
        }
        Ok(())
    }

    /// Has the kernel keep an address for another while, where it keeps it for a while only.
    async fn renew(
        &mut self,
        device: u32,
        address: IpAddr,
        lifetime: Option<Duration>,
    ) -> Result<(), String> {
        if lifetime.is_none() {
            return Ok(());
        }
        self.addresses()?.renew(device, address, lifetime).await.map_err(|error| error.to_string())
    }

    /// Removes an address if an agent has added it. `true`: it is not there any more.
    async fn withdraw(&mut self, address: IpAddr, device: &str, found: &Found, why: Withdrawal) -> bool {
        show_announced(address, false);
        let there = found.links.get(device).and_then(|link| found.at(link.index, address));
        let Some(HostAddress { device: index, is_own: true, .. }) = there else {
            self.ours.remove(&address);
            return true;
        };
        let Ok(netlink) = self.addresses() else { return false };
        match netlink.remove(index, address).await {
            Ok(()) => {
                self.ours.remove(&address);
                self.publish(address, device, VipChange::Withdrawn(why));
                true
            }
            Err(error) => {
                show_announced(address, true);
                self.note(device, Err(error.to_string()));
                false
            }
        }
    }

    /// Looks what there is. Devices that are to be made are.
    async fn look(&mut self, vips: &Vips) -> Result<Found, NetworkError> {
        let mut netlink = match self.netlink.take() {
            Some(netlink) => netlink,
            None => Addresses::connect(DEFAULT_TIMEOUT).await?,
        };
        let mut links = netlink.devices().await?;
        let wanted: BTreeSet<&str> =
            vips.wanted.values().filter(|vip| vip.how.create).map(|vip| vip.how.device.as_str()).collect();
        for name in wanted {
            if !links.iter().any(|link| link.name == name) {
                match netlink.make_dummy(name).await {
                    Ok(link) => links.push(link),
                    Err(error) => self.note(name, Err(error.to_string())),
                }
            }
        }
        let addresses = netlink.list().await?;
        self.netlink = Some(netlink);
        let names = links.iter().map(|link| (link.index, link.name.clone())).collect();
        let links = links.into_iter().map(|link| (link.name.clone(), link)).collect();
        Ok(Found { links, names, addresses })
    }

    fn addresses(&mut self) -> Result<&mut Addresses, String> {
        self.netlink.as_mut().ok_or_else(|| "no connection to rtnetlink".to_owned())
    }

    /// Says once that an address is somebody else's, who has to take it away.
    fn tell_of_others(&mut self, address: IpAddr, device: &str) {
        if self.told.insert(address) {
            self.publish(address, device, VipChange::Foreign);
        }
    }

    /// Says once that a device doesn't do as it should, and once that it does again.
    fn note(&mut self, device: &str, outcome: Result<(), String>) {
        let change = match outcome {
            Ok(()) => self.failing.remove(device).map(|_| LineFile::Works),
            Err(error) => {
                count_announce_failure(AnnounceWay::Device.name());
                let known = self.failing.insert(device.to_owned(), error.clone());
                (known.as_ref() != Some(&error)).then_some(LineFile::Fails { error })
            }
        };
        let (way, what) = (AnnounceWay::Device, device.to_owned());
        self.events.publish_all(change.map(|change| Event::Announcing { way, what, change }));
    }

    fn publish(&self, address: IpAddr, device: &str, change: VipChange) {
        self.events.publish(Event::Vip { address, device: device.to_owned(), change });
    }
}
