//! Real servers and how packets get to them.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    slice,
};

use toml::Spanned;

use super::{
    check::{Extent, ReadChecks, ServiceContext},
    section::Section,
    settings, tunnel, value,
    virtual_address::VirtualAddress,
};
use crate::{
    config::diagnostics::{Contradiction, FaultList},
    model::{AddressFamily, Backup, Combine, ForwardingMethod, RealServer, Tunnel, Weight},
};

/// A server that was read, and the place of its address.
pub(super) struct ReadServer<'i> {
    pub(super) server: RealServer,
    pub(super) place: Range<usize>,
    /// Its own checks, where it has some.
    check: Option<ReadChecks<'i>>,
    combine: Combine,
}

impl ReadServer<'_> {
    /// The server in a service; notes if it can't be checked there.
    pub(super) fn resolve(self, service: &ServiceContext, faults: &mut FaultList) -> RealServer {
        let Self { mut server, check, combine, .. } = self;
        if check.is_some() {
            let alone = slice::from_ref(&server);
            let (check, further) = ReadChecks::resolve(check, combine, service, alone, faults);
            (server.check, server.further) = (Some(check), further);
        }
        server
    }

    /// The backup in a service: without a check of its own it has the one that suits it.
    fn resolve_backup(self, is_checked: bool, service: &ServiceContext, faults: &mut FaultList) -> Backup {
        let Self { server, check, combine, .. } = self;
        let check = is_checked
            .then(|| ReadChecks::resolve(check, combine, service, slice::from_ref(&server), faults).0);
        Backup { server, check }
    }
}

/// A backup that was read, and the place of its address.
pub(super) struct ReadBackup<'i> {
    read: ReadServer<'i>,
    is_checked: bool,
}

impl ReadBackup<'_> {
    pub(super) fn place(&self) -> Range<usize> {
        self.read.place.clone()
    }

    pub(super) fn resolve(self, service: &ServiceContext, faults: &mut FaultList) -> Backup {
        self.read.resolve_backup(self.is_checked, service, faults)
    }
}

/// What a server takes over from its defaults.
pub(super) struct ServerDefaults<'a, 'i> {
    /// `None`: it is wrong, and noted.
    pub(super) virtual_address: Option<VirtualAddress>,
    pub(super) persistent: bool,
    pub(super) forward: Option<ForwardingMethod>,
    pub(super) tunnel: Option<Tunnel>,
    /// The checks of the service.
    pub(super) check: Option<&'a ReadChecks<'i>>,
}

/// `[[defaults.backup]]`; `None` if it has no address or forwarding method, which is noted.
pub(super) fn read_backup<'i>(
    mut section: Section<'i>,
    defaults: &ServerDefaults<'_, 'i>,
    faults: &mut FaultList,
) -> Option<ReadBackup<'i>> {
    let (has_check, place) = (section.has("check"), section.span());
    let is_checked = section.plain("checked", faults, value::flag).unwrap_or(true);
    if has_check && !is_checked {
        faults.add(place.clone(), Contradiction::UncheckedWithCheck);
    }
    let mut read = read_with(section, defaults, Extent::Manner, faults)?;
    if read.check.is_none() {
        read.check = Some(ReadChecks::unsaid(place.clone(), defaults.check, faults));
    }
    if read.check.as_ref().is_some_and(|check| check.len() > 1) {
        faults.add(place, Contradiction::BackupWithChecks);
    }
    Some(ReadBackup { read, is_checked })
}

/// `[[defaults.server]]`; `None` if it has no address or forwarding method, which is noted.
pub(super) fn read<'i>(
    section: Section<'i>,
    defaults: &ServerDefaults<'_, 'i>,
    faults: &mut FaultList,
) -> Option<ReadServer<'i>> {
    read_with(section, defaults, Extent::Whole, faults)
}

/// The same, where a check takes over so much of the service's.
fn read_with<'i>(
    mut section: Section<'i>,
    defaults: &ServerDefaults<'_, 'i>,
    extent: Extent,
    faults: &mut FaultList,
) -> Option<ReadServer<'i>> {
    if !section.has("address") {
        section.missing("address", "address = \"10.0.0.1:80\"", faults);
    }
    if !section.has("forward") && defaults.forward.is_none() {
        let example = "forward = \"masquerade\", \"direct-route\" or \"tunnel\", here or in the service";
        section.missing("forward", example, faults);
    }
    let address = section.read("address", faults, value::server);
    let method = section.plain("forward", faults, settings::forward).or(defaults.forward);
    if method.is_some_and(|method| method != ForwardingMethod::Tunnel)
        && let Some(place) = section.drop_key("tunnel")
    {
        faults.add(place, Contradiction::TunnelWithoutForward);
    }
    let tunnel = section.table("tunnel", "tunnel", faults);
    let tunnel = tunnel.map_or(defaults.tunnel, |section| tunnel::read(section, faults));
    let weight = section.plain("weight", faults, value::weight).unwrap_or(Weight(1));
    let (upper_threshold, lower_threshold) = thresholds(&mut section, faults);
    let check = ReadChecks::of(&mut section, defaults.check, extent, faults);
    let combine = section.plain("combine", faults, settings::combine).unwrap_or_default();
    section.finish(faults);

    let (address, method) = (address?, method?);
    let place = address.span();
    if let Some(virtual_address) = defaults.virtual_address
        && let Err(contradiction) = fits(&address, method, virtual_address, defaults.persistent)
    {
        faults.add(place.clone(), contradiction);
    }
    let (ip, own_port) = address.into_inner();
    let port = own_port.or(defaults.virtual_address?.port()).unwrap_or(0);
    let server = RealServer {
        tunnel: tunnel.unwrap_or_default(),
        weight,
        upper_threshold,
        lower_threshold,
        ..RealServer::new(SocketAddr::new(ip, port), method)
    };
    Some(ReadServer { server, place, check, combine })
}

/// The numbers of connections from which on, and below which, a server gets no new ones, or new ones again.
fn thresholds(section: &mut Section<'_>, faults: &mut FaultList) -> (Option<u32>, Option<u32>) {
    let says_upper = section.has("upper-threshold");
    let upper = section.plain("upper-threshold", faults, value::threshold);
    let lower = section.read("lower-threshold", faults, value::threshold);
    // `ip_vs_add_dest` and `ip_vs_edit_dest` refuse this.
    if let Some(lower) = lower.as_ref().filter(|lower| *lower.get_ref() > upper.unwrap_or(0))
        && (upper.is_some() || !says_upper)
    {
        faults.add(lower.span(), Contradiction::ThresholdsCrossed { lower: *lower.get_ref() });
    }
    (upper, lower.map(Spanned::into_inner))
}

/// Whether a server can be in a service, by what the kernel makes of it.
fn fits(
    address: &Spanned<(IpAddr, Option<u16>)>,
    method: ForwardingMethod,
    virtual_address: VirtualAddress,
    persistent: bool,
) -> Result<(), Contradiction> {
    let (ip, own_port) = *address.get_ref();
    // `ip_vs_genl_new_dest`: of two IP versions in one service only tunnels can make something.
    if AddressFamily::from(ip) != virtual_address.family() && method != ForwardingMethod::Tunnel {
        return Err(Contradiction::OtherFamily { address: ip.to_string(), method });
    }
    match (own_port, virtual_address.port(), method) {
        (Some(server), Some(service), ForwardingMethod::DirectRoute | ForwardingMethod::Tunnel)
            if server != service =>
        {
            Err(Contradiction::KeptPort { method, server, service })
        }
        // `ip_vs_schedule` gives the client the server's port; `ip_vs_sched_persist` doesn't, nor do the other methods.
        // By firewall mark it is at least the port that is checked.
        (Some(server), None, method)
            if matches!(virtual_address, VirtualAddress::Address { .. })
                && (persistent || method != ForwardingMethod::Masquerade) =>
        {
            Err(Contradiction::UnusedPort { server })
        }
        _ => Ok(()),
    }
}
