//! Virtual services and their real servers.

use std::ops::Range;

use toml::Spanned;

use super::{
    check::{ReadChecks, ServiceContext},
    notify,
    section::Section,
    server::{self, ReadBackup, ReadServer},
    settings::ServiceSettings,
    value,
    virtual_address::{self, VirtualAddress},
};
use crate::{
    config::diagnostics::{Contradiction, FaultList, WarningKind},
    model::{Mode, Netmask, OnFailure, Persistence, PoolPolicy, Protocol, ServiceKey, VirtualService},
};

/// A service that was read, and where.
pub(super) struct ReadService {
    pub(super) service: VirtualService,
    /// The place of its address or mark.
    pub(super) address: Range<usize>,
    /// The place of its name, or of its address if that names it.
    pub(super) name: Range<usize>,
    /// The places of the servers' addresses.
    pub(super) servers: Vec<Range<usize>>,
    /// Those of the backups'.
    pub(super) backups: Vec<Range<usize>>,
}

/// `[[service]]`; `None` if it can't be named, which is noted.
pub(super) fn read<'i>(
    mut section: Section<'i>,
    defaults: ServiceSettings<'i>,
    mode: Mode,
    faults: &mut FaultList,
) -> Option<ReadService> {
    let name = section.read("name", faults, value::name);
    let address = virtual_address::read(&mut section, faults);
    let protocol = protocol(&mut section, address.as_ref(), faults);
    let (persistence, says_persistent) = persistence(&mut section, address.as_ref(), faults);
    if let Some(VirtualAddress::Address { port: None, .. }) = address.as_ref().map(Spanned::get_ref)
        && !says_persistent
        && let Some(place) = address.as_ref().map(Spanned::span)
    {
        faults.add(place, Contradiction::EveryPort);
    }
    let one_packet = one_packet(&mut section, address.as_ref(), protocol, faults);
    if section.has("announce")
        && section.text("announce") != Some("off")
        && let Some(VirtualAddress::Mark { .. }) = address.as_ref().map(Spanned::get_ref)
        && let Some(place) = section.drop_key("announce")
    {
        faults.add(place, Contradiction::AnnouncedMark);
    }
    let settings = defaults.overridden_by(&mut section, faults);
    let notify = notify::service(&mut section, faults);
    let scheduler_flags =
        section.plain("scheduler-flags", faults, |value| notify::scheduler_flags(value, &settings.scheduler));
    let on_exit = section.plain("on-exit", faults, |value| value::word(value, &notify::ON_EXIT));
    let before = faults.len();
    let server_sections = section.tables("server", "[[service.server]]", faults);
    // Those of adopted services are in the kernel's table.
    let has_servers = !server_sections.is_empty() || section.has("backup") || mode != Mode::Manage;
    if !has_servers && faults.len() == before {
        faults.add(section.span(), Contradiction::NoServers);
    }
    let server_defaults = server::ServerDefaults {
        virtual_address: address.as_ref().map(|address| *address.get_ref()),
        persistent: says_persistent,
        forward: settings.forward,
        tunnel: settings.tunnel,
        check: settings.check.as_ref(),
    };
    let servers: Vec<ReadServer<'_>> = server_sections
        .into_iter()
        .filter_map(|section| server::read(section, &server_defaults, faults))
        .collect();
    let backups: Vec<ReadBackup<'_>> = section
        .tables("backup", "[[service.backup]]", faults)
        .into_iter()
        .filter_map(|section| server::read_backup(section, &server_defaults, faults))
        .collect();
    section.finish(faults);

    let address = address?;
    let key = address.get_ref().key(protocol?);
    let places = servers.iter().map(|read| read.place.clone()).collect();
    let backup_places: Vec<_> = backups.iter().map(ReadBackup::place).collect();
    if mode == Mode::Adopt {
        for place in &backup_places {
            faults.warn(place.clone(), WarningKind::BackupInAdopt);
        }
    }
    let context = ServiceContext { key, via: settings.via.clone(), mode };
    let servers: Vec<_> = servers.into_iter().map(|read| read.resolve(&context, faults)).collect();
    let usual: Vec<_> = servers.iter().filter(|server| server.check.is_none()).cloned().collect();
    let (check, further) = ReadChecks::resolve(settings.check, settings.combine, &context, &usual, faults);
    settings.policy.compare(&servers, faults);
    let backups = backups.into_iter().map(|read| read.resolve(&context, faults)).collect();
    let service = VirtualService {
        name: name.as_ref().map_or_else(|| key.to_string(), |name| name.get_ref().clone()),
        key,
        scheduler: settings.scheduler,
        persistence,
        one_packet,
        scheduler_flags,
        persistence_engine: None,
        fall: settings.fall,
        rise: settings.rise,
        on_failure: settings.on_failure,
        check,
        further,
        idle_connection: settings.idle_connection,
        second_chance: settings.second_chance,
        servers,
        policy: PoolPolicy { backups, ..settings.policy.policy },
        notify,
        on_exit,
        // A mark has no address.
        announce: settings.announce.filter(|_| matches!(key, ServiceKey::Address { .. })),
    };
    if service.refuses_at_weight_0() && service.on_failure() == OnFailure::Quiesce {
        faults.warn(address.span(), WarningKind::Refuses { scheduler: service.scheduler.name() });
    }
    let name = name.map_or_else(|| address.span(), |name| name.span());
    Some(ReadService { service, address: address.span(), name, servers: places, backups: backup_places })
}

/// The protocol; `None` if it is wrong, which is noted. A mark means every one.
fn protocol(
    section: &mut Section<'_>,
    address: Option<&Spanned<VirtualAddress>>,
    faults: &mut FaultList,
) -> Option<Protocol> {
    const KNOWN: [(&str, Protocol); 3] =
        [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];
    if matches!(address.map(Spanned::get_ref), Some(VirtualAddress::Mark { .. }))
        && let Some(place) = section.drop_key("protocol")
    {
        faults.add(place, Contradiction::MarkWithProtocol);
    }
    let says_protocol = section.has("protocol");
    let said = section.plain("protocol", faults, |value| value::word(value, &KNOWN));
    if says_protocol { said } else { Some(Protocol::Tcp) }
}

/// For how long clients stay with their server, and whether anything was said about it, right or wrong.
fn persistence(
    section: &mut Section<'_>,
    address: Option<&Spanned<VirtualAddress>>,
    faults: &mut FaultList,
) -> (Option<Persistence>, bool) {
    let says_persistent = section.has("persistent");
    if !says_persistent && let Some(netmask) = section.drop_key("persistent-netmask") {
        faults.add(netmask, Contradiction::NetmaskWithoutPersistence);
    }
    let timeout = section.plain("persistent", faults, value::whole_seconds);
    // Without the service's IP version nothing can be said about a netmask.
    let Some(family) = address.map(|address| address.get_ref().family()) else {
        section.drop_key("persistent-netmask");
        return (None, says_persistent);
    };
    let netmask = section.plain("persistent-netmask", faults, |value| value::netmask(value, family));
    let netmask = netmask.unwrap_or_else(|| Netmask::whole_address(family));
    (timeout.map(|timeout| Persistence::new(timeout, netmask)), says_persistent)
}

/// Whether every packet is scheduled on its own, which only UDP knows.
fn one_packet(
    section: &mut Section<'_>,
    address: Option<&Spanned<VirtualAddress>>,
    protocol: Option<Protocol>,
    faults: &mut FaultList,
) -> Option<bool> {
    let one_packet = section.read("one-packet", faults, value::flag)?;
    let by_address = matches!(address.map(Spanned::get_ref), Some(VirtualAddress::Address { .. }));
    if by_address && matches!(protocol, Some(Protocol::Tcp | Protocol::Sctp)) {
        faults.add(one_packet.span(), Contradiction::OnePacketWithoutUdp);
    }
    Some(one_packet.into_inner())
}
