//! Failures that most servers share: they say nothing of any one of them. Pure.
//!
//! A director whose own link flaps sees all its servers fail together. None of them flaps, and each is as good as
//! before when it answers again. So a server's failures count as shared if, within the time that regular checks take
//! to notice an outage, more than half of its service began to fail with it, two hosts at least; or more than half of
//! all hosts that the director checks, which is what tells for services of one server. Hosts are counted rather than
//! servers: one machine with several ports is one. One that has failed for longer counts on neither side.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Instant,
};

use super::{Engine, Place, service::Service};
use crate::model::{DestinationKey, Role};

/// Which hosts fail, by service and all in all.
#[derive(Debug, Default)]
pub(super) struct SharedFailures {
    /// In the order of the services: their servers, without backups.
    services: Vec<Group>,
    /// All hosts that are asked.
    all: Group,
    /// The destinations on each host.
    destinations: HashMap<IpAddr, Vec<DestinationKey>>,
}

/// Hosts that are compared with each other.
#[derive(Debug, Default)]
struct Group {
    hosts: HashMap<IpAddr, Host>,
    /// How many hosts have a destination that answers.
    answering: usize,
    /// The others, by the time from which on all of their destinations have failed.
    failing: VecDeque<Onset>,
}

/// How many destinations a host has in a group, and how many of them fail.
#[derive(Clone, Copy, Debug, Default)]
struct Host {
    destinations: usize,
    failing: usize,
}

/// A host that began to fail as a whole.
#[derive(Clone, Copy, Debug)]
struct Onset {
    at: Instant,
    host: IpAddr,
    /// Whether most of the group failed with it.
    shared: bool,
}

impl Engine {
    /// A destination began to fail, or no longer does: failures that most servers share are excused.
    pub(super) fn share_failure(
        &mut self,
        destination: &DestinationKey,
        place: Place,
        fails: bool,
        now: Instant,
    ) {
        let Place { service: index, role } = place;
        let host = destination.server.ip();
        let Some(service) = self.services.get(index).filter(|service| service.is_asked(role)) else { return };
        if !fails {
            return self.shared_failures.ends(index, role, host);
        }
        let from = now.checked_sub(service.notice_time(role)).unwrap_or(now);
        for one in self.shared_failures.begins(index, role, host, (from, now)) {
            let Some(place) = self.places.get(&one) else { continue };
            let service = self.services.get_mut(place.service);
            if let Some(health) = service.and_then(|service| service.health_mut(place.role)) {
                health.excuse(from);
            }
        }
    }
}

impl SharedFailures {
    /// The failures that these services have now.
    pub(super) fn of(services: &[Service]) -> Self {
        let mut failures = Self::default();
        let mut failing = Vec::new();
        for (index, service) in services.iter().enumerate() {
            let mut group = Group::default();
            for role in service.config.roles().filter(|role| service.is_asked(*role)) {
                let Some(destination) = service.config.destination_of(role) else { continue };
                let host = destination.server.ip();
                failures.all.add(host);
                if matches!(role, Role::Server(_)) {
                    group.add(host);
                }
                failures.destinations.entry(host).or_default().push(destination);
                if let Some(health) = service.health(role)
                    && let Some(at) = health.failing_since()
                {
                    failing.push((at, index, role, host, health.is_excused()));
                }
            }
            failures.services.push(group);
        }
        failing.sort_by_key(|(at, ..)| *at);
        for (at, service, role, host, shared) in failing {
            for group in failures.groups(service, role) {
                group.begin(host, at, shared);
            }
        }
        failures
    }

    /// A destination of a service began to fail at `now`. Returns those whose failures are shared, if they began at
    /// `from` or later.
    pub(super) fn begins(
        &mut self,
        service: usize,
        role: Role,
        host: IpAddr,
        (from, now): (Instant, Instant),
    ) -> Vec<DestinationKey> {
        let mut hosts = Vec::new();
        for group in self.groups(service, role) {
            group.begin(host, now, false);
            hosts.extend(group.newly_shared(from));
        }
        // A backup is no sibling of the servers, but it fails with them where the network does.
        let with_servers = matches!(role, Role::Backup(_))
            && self.services.get(service).is_some_and(|group| group.is_shared_since(from));
        hosts.extend(with_servers.then_some(host));
        let destinations = hosts.iter().filter_map(|host| self.destinations.get(host));
        destinations.flatten().copied().collect()
    }

    /// A destination of a service no longer fails.
    pub(super) fn ends(&mut self, service: usize, role: Role, host: IpAddr) {
        for group in self.groups(service, role) {
            group.end(host);
        }
    }

    /// The groups that a destination is counted in.
    fn groups(&mut self, service: usize, role: Role) -> impl Iterator<Item = &mut Group> {
        let of_service = self.services.get_mut(service).filter(|_| matches!(role, Role::Server(_)));
        std::iter::once(&mut self.all).chain(of_service)
    }
}

impl Group {
    /// One more destination of a host, which answers so far.
    fn add(&mut self, host: IpAddr) {
        let known = self.hosts.entry(host).or_default();
        known.destinations += 1;
        self.answering += usize::from(known.destinations == 1);
    }

    fn begin(&mut self, host: IpAddr, at: Instant, shared: bool) {
        let Some(known) = self.hosts.get_mut(&host) else { return };
        known.failing += 1;
        if known.failing == known.destinations {
            self.answering = self.answering.saturating_sub(1);
            self.failing.push_back(Onset { at, host, shared });
        }
    }

    fn end(&mut self, host: IpAddr) {
        let Some(known) = self.hosts.get_mut(&host) else { return };
        if known.failing == known.destinations {
            self.answering += 1;
            self.failing.retain(|onset| onset.host != host);
        }
        known.failing = known.failing.saturating_sub(1);
    }

    /// If more hosts began to fail at `from` or later than answer, two at least: those of them that weren't known to
    /// share their failure.
    fn newly_shared(&mut self, from: Instant) -> Vec<IpAddr> {
        let first = self.failing.partition_point(|onset| onset.at < from);
        let together = self.failing.len() - first;
        if together < 2 || together <= self.answering {
            return Vec::new();
        }
        let new = self.failing.iter_mut().rev().take(together).take_while(|onset| !onset.shared);
        new.map(|onset| {
            onset.shared = true;
            onset.host
        })
        .collect()
    }

    /// Whether hosts that began to fail at `from` or later share that.
    fn is_shared_since(&self, from: Instant) -> bool {
        self.failing.back().is_some_and(|onset| onset.shared && onset.at >= from)
    }
}
