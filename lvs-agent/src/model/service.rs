//! Virtual services, as an operator describes them.

use std::{iter, num::NonZeroU32};

use super::{
    Check, DestinationKey, FurtherChecks, Hashing, IdleConnection, Notifications, OnExit, Persistence,
    PoolPolicy, RealServer, Scheduler, SecondChance, ServiceKey, VipAnnouncement, Weight,
};

/// A virtual service: what clients connect to.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualService {
    /// The operator's name for it, unique; used in logs and metrics.
    pub name: String,
    /// What names it in the kernel's table.
    pub key: ServiceKey,
    /// How new connections are spread.
    pub scheduler: Scheduler,
    /// For how long a client stays with its server, if at all.
    pub persistence: Option<Persistence>,
    /// UDP only: whether every packet is scheduled on its own. `None`: as it is found in the kernel's table.
    pub one_packet: Option<bool>,
    /// The scheduler's own flags. `None`: as they are found in the kernel's table, and with the fallback flag.
    pub scheduler_flags: Option<SchedulerFlags>,
    /// What identifies persistent clients where it isn't the address: `sip`.
    pub persistence_engine: Option<String>,
    /// Failures in a row that make a server's soft state hard.
    pub fall: NonZeroU32,
    /// Successes in a row that bring it back.
    pub rise: NonZeroU32,
    /// What is done to a server in hard state; `None`: what suits the scheduler, see [`Self::on_failure`].
    pub on_failure: Option<OnFailure>,
    /// The check of each server.
    pub check: Check,
    /// Further checks of each server, and what their results together mean.
    pub further: FurtherChecks,
    /// Whether an idle connection to each server is kept.
    pub idle_connection: IdleConnection,
    /// Whether connections that have just begun get a second chance.
    pub second_chance: SecondChance,
    /// The real servers, no two with the same address and port. There is at least one unless there are backups, or the
    /// mode is not [`Mode::Manage`].
    pub servers: Vec<RealServer>,
    /// How the pool is run.
    pub policy: PoolPolicy,
    /// Who is notified of changes.
    pub notify: Notifications,
    /// What becomes of it at a clean stop, where it isn't as for all.
    pub on_exit: Option<OnExit>,
    /// How its address is announced; `None`: not, unless another service on the address says so.
    pub announce: Option<VipAnnouncement>,
}

impl VirtualService {
    /// Whether the configuration says who its servers are.
    #[must_use]
    pub fn has_servers(&self) -> bool {
        !self.servers.is_empty() || !self.policy.backups.is_empty()
    }

    /// What is done to a server in hard state: weight 0, unless its clients would be refused then.
    #[must_use]
    pub fn on_failure(&self) -> OnFailure {
        let usual = if self.refuses_at_weight_0() { OnFailure::Remove } else { OnFailure::Quiesce };
        self.on_failure.unwrap_or(usual)
    }

    /// Whether the kernel refuses the clients of a server at weight 0, rather than giving them to another: the
    /// schedulers that choose by a hash do, without their fallback flag (`ip_vs_dh_schedule` in
    /// `net/netfilter/ipvs/ip_vs_dh.c`, `ip_vs_sh_get` in `ip_vs_sh.c`, `ip_vs_mh_get` in `ip_vs_mh.c`).
    #[must_use]
    pub fn refuses_at_weight_0(&self) -> bool {
        match self.scheduler.hashing() {
            Some(Hashing::Fallback) => self.scheduler_flags.is_some_and(|flags| !flags.flag_1),
            Some(Hashing::NoFallback) => true,
            None => false,
        }
    }

    /// Whether the fallback flag of its scheduler is set without being asked for: so that a server at weight 0 leaves
    /// its clients to the others.
    #[must_use]
    pub fn adds_fallback(&self) -> bool {
        self.scheduler.hashing() == Some(Hashing::Fallback) && self.scheduler_flags.is_none()
    }

    /// The first check of one of its servers.
    #[must_use]
    pub fn check_of<'a>(&'a self, server: &'a RealServer) -> &'a Check {
        server.check.as_ref().unwrap_or(&self.check)
    }

    /// The further checks of one of its servers: with its own check it has its own further ones, too.
    #[must_use]
    pub fn further_of<'a>(&'a self, server: &'a RealServer) -> &'a FurtherChecks {
        if server.check.is_some() { &server.further } else { &self.further }
    }

    /// All checks of one of its servers, the first one first.
    pub fn checks_of<'a>(&'a self, server: &'a RealServer) -> impl Iterator<Item = &'a Check> {
        iter::once(self.check_of(server)).chain(&self.further_of(server).checks)
    }

    /// The servers, in the order of the configuration, then the backups.
    pub fn roles(&self) -> impl Iterator<Item = Role> + Clone + use<> {
        self.servers().chain(self.backups())
    }

    /// The servers, in the order of the configuration.
    pub fn servers(&self) -> impl Iterator<Item = Role> + Clone + use<> {
        (0..self.servers.len()).map(Role::Server)
    }

    /// The backups, in the order of the configuration.
    pub fn backups(&self) -> impl Iterator<Item = Role> + Clone + use<> {
        (0..self.policy.backups.len()).map(Role::Backup)
    }

    /// A server or a backup.
    #[must_use]
    pub fn server_of(&self, role: Role) -> Option<&RealServer> {
        match role {
            Role::Server(index) => self.servers.get(index),
            Role::Backup(index) => self.policy.backups.get(index).map(|backup| &backup.server),
        }
    }

    /// What names a server or a backup of it in the kernel's table.
    #[must_use]
    pub fn destination_of(&self, role: Role) -> Option<DestinationKey> {
        let server = self.server_of(role)?.address;
        Some(DestinationKey { service: self.key, server })
    }

    /// Its servers' destinations, in their order; without the backups.
    pub fn destinations(&self) -> impl Iterator<Item = DestinationKey> {
        self.servers.iter().map(|server| DestinationKey { service: self.key, server: server.address })
    }

    /// Its servers' destinations, then those of the backups.
    pub fn all_destinations(&self) -> impl Iterator<Item = DestinationKey> {
        self.roles().filter_map(|role| self.destination_of(role))
    }

    /// The checks of a server or a backup, in their order.
    pub fn checks_of_role(&self, role: Role) -> impl Iterator<Item = &Check> {
        let (server, backup) = match role {
            Role::Server(index) => (self.servers.get(index), None),
            Role::Backup(index) => (None, self.policy.backups.get(index)),
        };
        let of_server = server.into_iter().flat_map(|server| self.checks_of(server));
        of_server.chain(backup.and_then(|backup| backup.check.as_ref()))
    }

    /// The checks of all servers and backups: whose, which of its checks, and the check.
    pub fn all_checks(&self) -> impl Iterator<Item = (DestinationKey, usize, &Check)> {
        self.roles().flat_map(move |role| {
            let checks = self.checks_of_role(role).enumerate();
            checks.filter_map(move |(index, check)| Some((self.destination_of(role)?, index, check)))
        })
    }
}

/// What a server is in its service, by its index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of the real servers.
    Server(usize),
    /// A backup (sorry server).
    Backup(usize),
}

/// Flags that a scheduler makes something of (`ipvsadm --sched-flags`): for `sh` and `mh`, 1 is fallback, 2 hashes the
/// port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedulerFlags {
    /// `flag-1`.
    pub flag_1: bool,
    /// `flag-2`.
    pub flag_2: bool,
    /// `flag-3`.
    pub flag_3: bool,
}

/// What is done to a server in hard state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Weight 0: no new connections, existing ones are left alone.
    #[default]
    Quiesce,
    /// The destination is removed from the kernel's table; its connections end.
    Remove,
    /// It keeps this weight, above 0 and at most its own: it gets fewer new connections.
    Lower(Weight),
}
