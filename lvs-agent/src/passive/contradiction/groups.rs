//! The servers of each service, which have the same clients.

use super::layer::Exchange;
use crate::{
    model::{Protocol, VirtualService},
    passive::{targets::Targets, visibility::Visibility},
};
use lvs_common::ServerId;

/// The endpoints of one service for one protocol: they see the same clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiblingGroup {
    /// The protocol of their packets.
    pub protocol: Protocol,
    /// How clients come to them.
    pub spread: Spread,
    /// The endpoints that tell anything, and how much is seen of each.
    pub members: Vec<(ServerId, Visibility)>,
}

/// How the connections of one client network come to the servers of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Over all of them.
    Even,
    /// To one of them, by the client's address: persistence, or a scheduler that goes by addresses.
    Pinned,
}

/// Schedulers that choose a server by addresses: `ip_vs_sh.c`, `ip_vs_mh.c` (the client's), `ip_vs_dh.c`,
/// `ip_vs_lblc.c`, `ip_vs_lblcr.c` (the destination's).
const BY_ADDRESS: [&str; 5] = ["sh", "mh", "dh", "lblc", "lblcr"];

impl Spread {
    /// How the clients of a service come to its servers.
    #[must_use]
    pub fn of(service: &VirtualService) -> Self {
        let is_pinned = service.persistence.is_some() || BY_ADDRESS.contains(&service.scheduler.name());
        if is_pinned { Self::Pinned } else { Self::Even }
    }
}

impl SiblingGroup {
    /// The groups of all services. Endpoints that are only counted belong to none.
    #[must_use]
    pub fn all(targets: &Targets, services: &[VirtualService]) -> Vec<Self> {
        let of = |service: &VirtualService, protocol| {
            let endpoints = targets.of_service(&service.key, protocol);
            let members = endpoints.map(|target| (target.id, target.visibility()));
            let telling =
                members.filter(|(_, visibility)| !matches!(visibility, Visibility::CountersOnly(_)));
            Self { protocol, spread: Spread::of(service), members: telling.collect() }
        };
        let groups = services
            .iter()
            .flat_map(|service| [Protocol::Tcp, Protocol::Udp].map(|protocol| of(service, protocol)));
        groups.filter(|group| !group.members.is_empty()).collect()
    }

    /// Its members' ids.
    #[must_use]
    pub fn ids(&self) -> Vec<ServerId> {
        self.members.iter().map(|(id, _)| *id).collect()
    }
}

/// A group and what its members have exchanged with clients in all.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) spread: Spread,
    pub(super) members: Vec<ServerId>,
    pub(super) listener: Exchange,
    pub(super) application: Exchange,
}

impl Group {
    /// The siblings of a server, as many as are compared with at most.
    pub(super) fn compared(&self, with: ServerId) -> impl Iterator<Item = ServerId> + '_ {
        /// In most services that is all of them.
        const COMPARED: usize = 32;
        self.members.iter().copied().filter(move |one| *one != with).take(COMPARED)
    }
}
