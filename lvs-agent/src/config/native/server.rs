//! Real servers and how packets get to them.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use toml::Spanned;

use super::{section::Section, service::Front, settings, tunnel, value};
use crate::{
    config::{
        RealServer,
        error::{Contradiction, FaultList},
    },
    service::{AddressFamily, ForwardingMethod, Tunnel, Weight},
};

/// A server that was read, and the place of its address.
pub(super) struct ReadServer {
    pub(super) server: RealServer,
    pub(super) place: Range<usize>,
}

/// What a server takes over from its service.
pub(super) struct Surroundings {
    /// `None`: it is wrong, and noted.
    pub(super) front: Option<Front>,
    pub(super) persistent: bool,
    pub(super) forward: Option<ForwardingMethod>,
    pub(super) tunnel: Option<Tunnel>,
}

/// `[[service.server]]`; `None` if it has no address or forwarding method, which is noted.
pub(super) fn read(
    mut section: Section<'_>,
    service: &Surroundings,
    faults: &mut FaultList,
) -> Option<ReadServer> {
    if !section.has("address") {
        section.missing("address", "address = \"10.0.0.1:80\"", faults);
    }
    if !section.has("forward") && service.forward.is_none() {
        let example = "forward = \"masquerade\", \"direct-route\" or \"tunnel\", here or in the service";
        section.missing("forward", example, faults);
    }
    let address = section.read("address", faults, value::server);
    let method = section.plain("forward", faults, settings::forward).or(service.forward);
    if method.is_some_and(|method| method != ForwardingMethod::Tunnel)
        && let Some(place) = section.drop_key("tunnel")
    {
        faults.add(place, Contradiction::TunnelWithoutForward);
    }
    let tunnel = section.table("tunnel", "tunnel", faults);
    let tunnel = tunnel.map_or(service.tunnel, |section| tunnel::read(section, faults));
    let weight = section.plain("weight", faults, value::weight).unwrap_or(Weight(1));
    section.finish(faults);

    let (address, method) = (address?, method?);
    let place = address.span();
    if let Some(front) = service.front
        && let Err(contradiction) = fits(&address, method, front, service.persistent)
    {
        faults.add(place.clone(), contradiction);
    }
    let (ip, own_port) = address.into_inner();
    let port = own_port.or(service.front?.port()).unwrap_or(0);
    let server = RealServer {
        tunnel: tunnel.unwrap_or_default(),
        weight,
        ..RealServer::new(SocketAddr::new(ip, port), method)
    };
    Some(ReadServer { server, place })
}

/// Whether a server can be in a service, by what the kernel makes of it.
fn fits(
    address: &Spanned<(IpAddr, Option<u16>)>,
    method: ForwardingMethod,
    front: Front,
    persistent: bool,
) -> Result<(), Contradiction> {
    let (ip, own_port) = *address.get_ref();
    // `ip_vs_genl_new_dest`: of two IP versions in one service only tunnels can make something.
    if AddressFamily::from(ip) != front.family() && method != ForwardingMethod::Tunnel {
        return Err(Contradiction::OtherFamily { address: ip.to_string(), method });
    }
    match (own_port, front.port(), method) {
        (Some(server), Some(service), ForwardingMethod::DirectRoute | ForwardingMethod::Tunnel)
            if server != service =>
        {
            Err(Contradiction::KeptPort { method, server, service })
        }
        // `ip_vs_schedule` gives the client the server's port; `ip_vs_sched_persist` doesn't, nor do the other methods.
        (Some(server), None, method) if persistent || method != ForwardingMethod::Masquerade => {
            Err(Contradiction::UnusedPort { server })
        }
        _ => Ok(()),
    }
}
