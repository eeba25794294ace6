//! Virtual services and their real servers.

use std::{net::SocketAddr, ops::Range};

use toml::{Spanned, de::DeValue};

use super::{
    section::Section,
    settings::{self, ServiceSettings},
    value,
};
use crate::{
    config::{
        RealServer, VirtualService,
        error::{Contradiction, FaultList, ValueFault},
    },
    service::{ForwardingMethod, Protocol, ServiceKey, Weight},
};

/// A service that was read, and where.
pub(super) struct ReadService {
    pub(super) service: VirtualService,
    /// The place of its address.
    pub(super) address: Range<usize>,
    /// The place of its name, or of its address if that names it.
    pub(super) name: Range<usize>,
    /// The places of the servers' addresses.
    pub(super) servers: Vec<Range<usize>>,
}

/// `[[service]]`; `None` if it can't be named, which is noted.
pub(super) fn read(
    mut section: Section<'_>,
    defaults: ServiceSettings,
    faults: &mut FaultList,
) -> Option<ReadService> {
    let name = section.read("name", faults, value::name);
    let address = address(&mut section, faults);
    let says_protocol = section.has("protocol");
    let said_protocol = section.plain("protocol", faults, protocol);
    let settings = defaults.overridden_by(&mut section, faults);
    let before = faults.len();
    let server_sections = section.tables("server", "[[service.server]]", faults);
    if server_sections.is_empty() && faults.len() == before {
        faults.add(section.span(), Contradiction::NoServers);
    }
    let service_port = address.as_ref().map(|address| address.get_ref().port());
    let (places, servers) = server_sections
        .into_iter()
        .filter_map(|section| server(section, service_port, settings.forward, faults))
        .map(|server| (server.span(), server.into_inner()))
        .unzip();
    section.finish(faults);

    let address = address?;
    let protocol = if says_protocol { said_protocol? } else { Protocol::Tcp };
    let key = ServiceKey::Address { protocol, address: *address.get_ref() };
    let service = VirtualService {
        name: name.as_ref().map_or_else(|| key.to_string(), |name| name.get_ref().clone()),
        key,
        scheduler: settings.scheduler,
        fall: settings.fall,
        rise: settings.rise,
        on_failure: settings.on_failure,
        check: settings.check.of_service(key),
        servers,
    };
    let name = name.map_or_else(|| address.span(), |name| name.span());
    Some(ReadService { service, address: address.span(), name, servers: places })
}

/// The service's address; notes if there is none, or a mark.
fn address(section: &mut Section<'_>, faults: &mut FaultList) -> Option<Spanned<SocketAddr>> {
    let has_address = section.has("address");
    let has_mark = section.has("mark");
    if has_address && let Some(mark) = section.drop_key("mark") {
        faults.add(mark, Contradiction::AddressAndMark);
    }
    section.plain("mark", faults, value::mark);
    if !has_address && !has_mark {
        section.missing("address", "address = \"192.0.2.80:80\"", faults);
    }
    let address = section.read("address", faults, value::vip)?;
    Some(Spanned::new(address.span(), SocketAddr::V4(address.into_inner())))
}

/// The protocol; only TCP as yet.
fn protocol(value: &DeValue<'_>) -> Result<Protocol, ValueFault> {
    const KNOWN: [(&str, Protocol); 3] =
        [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];
    match value::word(value, &KNOWN)? {
        Protocol::Tcp => Ok(Protocol::Tcp),
        other => {
            let what = format!("\"{other}\"");
            Err(ValueFault::NotSupported { what, remedy: "write \"tcp\", or leave this service to ipvsadm" })
        }
    }
}

/// `[[service.server]]` with the place of its address. Without the service's port (which is noted elsewhere) a server
/// that relies on it is left out.
fn server(
    mut section: Section<'_>,
    service_port: Option<u16>,
    service_method: Option<ForwardingMethod>,
    faults: &mut FaultList,
) -> Option<Spanned<RealServer>> {
    if !section.has("address") {
        section.missing("address", "address = \"10.0.0.1:80\"", faults);
    }
    if !section.has("forward") && service_method.is_none() {
        let example = "forward = \"masquerade\" or \"direct-route\", here or in the service";
        section.missing("forward", example, faults);
    }
    let address = section.read("address", faults, value::server);
    let method = section.plain("forward", faults, settings::forward).or(service_method);
    let weight = section.plain("weight", faults, value::weight).unwrap_or(Weight(1));
    section.finish(faults);

    let (address, method) = (address?, method?);
    let place = address.span();
    let (ip, own_port) = address.into_inner();
    if let (ForwardingMethod::DirectRoute, Some(server), Some(service)) = (method, own_port, service_port)
        && server != service
    {
        faults.add(place.clone(), Contradiction::DirectRoutePort { server, service });
    }
    let port = own_port.or(service_port)?;
    Some(Spanned::new(place, RealServer { address: SocketAddr::from((ip, port)), method, weight }))
}
