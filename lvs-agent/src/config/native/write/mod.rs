//! A configuration written down in the native format: read again it means the same.
//!
//! Everything that holds without being written is left out; checks are written whole.

mod announce;
mod check;
mod director;
mod notify;
mod policy;
mod settings;
mod table;

use std::net::SocketAddr;

use self::{
    check::{check, checks, interval_only, of_backup, tables},
    table::{Table, text, texts, time, word},
};
use super::{
    notify::{ON_EXIT, SCHEDULER_FLAGS},
    settings::IDLE_CONNECTION,
};
use crate::model::{
    AddressFamily, Combine, Config, ForwardingMethod, IdleConnection, Netmask, OnFailure, Persistence,
    RealServer, Scheduler, SchedulerFlags, SecondChance, ServiceKey, Tunnel, TunnelFlags, Unlisted,
    VirtualService, Weight,
};

/// Writes a configuration down.
#[must_use]
pub fn to_toml(config: &Config) -> String {
    let Config { agent, passive, services, announce, unlisted, role, sync } = config;
    let usual = usual_checks(unlisted);
    let mut written = settings::agent(agent)
        + &director::role(*role)
        + &sync.as_ref().map(director::sync).unwrap_or_default()
        + &settings::passive(passive)
        + &announce::settings(announce)
        + &defaults(unlisted);
    for service in services {
        written += &self::service(service, unlisted, &usual);
    }
    written.trim_end().to_owned() + "\n"
}

/// What services say that aren't written, and all others take over where they don't say something else.
fn defaults(unlisted: &Unlisted) -> String {
    let Unlisted {
        fall,
        rise,
        on_failure,
        check: _,
        asks: _,
        further,
        idle_connection,
        second_chance,
        policy,
    } = unlisted;
    let default = Unlisted::default();
    let mut table = Table::default();
    table.unless("fall", fall, &default.fall, ToString::to_string);
    table.unless("rise", rise, &default.rise, ToString::to_string);
    table.unless("on-failure", on_failure, &default.on_failure, |action| self::on_failure(*action));
    let usual = usual_checks(unlisted);
    if !usual.is_empty() {
        checks(usual, &[], further, Combine::All, &mut table);
    }
    table.unless("idle-connection", idle_connection, &default.idle_connection, self::idle_connection);
    table.unless("second-chance", second_chance, &default.second_chance, self::second_chance);
    policy::policy(policy, &default.policy, &mut table);
    table.under("[defaults]", false)
}

/// The tables of the checks in `[defaults]`; none where they needn't be written.
fn usual_checks(unlisted: &Unlisted) -> Vec<Table> {
    let Unlisted { check: first, asks, further, .. } = unlisted;
    let default = Unlisted::default();
    if (first, asks, further) == (&default.check, &default.asks, &default.further) {
        return Vec::new();
    }
    tables(if *asks { check(first) } else { interval_only(first) }, further)
}

fn on_failure(action: Option<OnFailure>) -> String {
    match action {
        None => text("auto"),
        Some(OnFailure::Quiesce) => text("quiesce"),
        Some(OnFailure::Remove) => text("remove"),
        Some(OnFailure::Lower(weight)) => format!("{{ weight = {weight} }}"),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "it is called like all that show a value")]
fn idle_connection(idle_connection: &IdleConnection) -> String {
    word(idle_connection, &IDLE_CONNECTION)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "it is called like all that show a value")]
fn second_chance(second_chance: &SecondChance) -> String {
    second_chance.is_on().to_string()
}

fn service(service: &VirtualService, usual: &Unlisted, usual_checks: &[Table]) -> String {
    let mut table = Table::default();
    if service.name != service.key.to_string() {
        table.add("name", text(&service.name));
    }
    key(&service.key, &mut table);
    table.add("scheduler", text(service.scheduler.name()));
    table.maybe(
        "scheduler-flags",
        service.scheduler_flags.map(|flags| scheduler_flags(flags, &service.scheduler)),
    );
    if let Some(persistence) = service.persistence {
        self::persistence(persistence, service.key.family(), &mut table);
    }
    table.maybe("one-packet", service.one_packet.map(|on| on.to_string()));
    table.add("fall", service.fall.to_string());
    table.add("rise", service.rise.to_string());
    table.add("on-failure", on_failure(service.on_failure));
    table.maybe("announce", service.announce.as_ref().map(announce::vip));
    let own_checks = || tables(check(&service.check), &service.further);
    checks(own_checks(), usual_checks, &service.further, usual.further.combine, &mut table);
    table.unless("idle-connection", &service.idle_connection, &usual.idle_connection, idle_connection);
    table.unless("second-chance", &service.second_chance, &usual.second_chance, second_chance);
    policy::policy(&service.policy, &usual.policy, &mut table);
    notify::notifications(&service.notify, &mut table);
    table.maybe("on-exit", service.on_exit.map(|on_exit| word(&on_exit, &ON_EXIT)));
    let above = own_checks();
    let servers =
        service.servers.iter().map(|server| self::server(server, &above).under("[[service.server]]", true));
    let backups = service.policy.backups.iter().map(|backup| {
        let mut table = server(&backup.server, &above);
        match &backup.check {
            Some(one) => table.add("check", of_backup(one, &above)),
            None => table.add("checked", "false"),
        }
        table.under("[[service.backup]]", true)
    });
    table.under("[[service]]", true) + &servers.chain(backups).collect::<String>()
}

fn key(key: &ServiceKey, table: &mut Table) {
    match key {
        ServiceKey::Address { protocol, address } => {
            table.add("address", self::address(*address));
            table.add("protocol", text(protocol.to_string()));
        }
        ServiceKey::Mark { mark, family } => {
            table.add("mark", mark.to_string());
            table.add("family", text(if *family == AddressFamily::V6 { "ipv6" } else { "ipv4" }));
        }
    }
}

/// The flags by the names that ipvsadm lists them under: the scheduler's own where it has some.
fn scheduler_flags(flags: SchedulerFlags, scheduler: &Scheduler) -> String {
    let flags = [(1, flags.flag_1), (2, flags.flag_2), (3, flags.flag_3)];
    let set = flags.into_iter().filter(|(_, on)| *on);
    texts(set.filter_map(|(number, _)| {
        let is_it = |(_, only_for, its): &&(&str, Option<&str>, u8)| {
            *its == number && only_for.is_none_or(|name| name == scheduler.name())
        };
        SCHEDULER_FLAGS.iter().find(is_it).map(|(name, ..)| *name)
    }))
}

fn persistence(persistence: Persistence, family: AddressFamily, table: &mut Table) {
    table.add("persistent", time(&persistence.timeout()));
    if persistence.netmask() != Netmask::whole_address(family) {
        let netmask = match persistence.netmask() {
            Netmask::V4(mask) => text(mask.to_string()),
            Netmask::V6(length) => length.to_string(),
        };
        table.add("persistent-netmask", netmask);
    }
}

/// An address with its port, or without where that is 0.
fn address(address: SocketAddr) -> String {
    text(if address.port() == 0 { address.ip().to_string() } else { address.to_string() })
}

fn server(server: &RealServer, above: &[Table]) -> Table {
    let mut table = Table::default();
    table.add("address", address(server.address));
    table.add("forward", text(server.method.to_string()));
    if server.method == ForwardingMethod::Tunnel && server.tunnel != Tunnel::Ipip {
        table.add("tunnel", tunnel(server.tunnel));
    }
    table.unless("weight", &server.weight, &Weight(1), ToString::to_string);
    table.maybe("upper-threshold", server.upper_threshold.map(|number| number.to_string()));
    table.maybe("lower-threshold", server.lower_threshold.map(|number| number.to_string()));
    if let Some(first) = &server.check {
        let own = tables(check(first), &server.further);
        checks(own, above, &server.further, Combine::All, &mut table);
    }
    table
}

fn tunnel(tunnel: Tunnel) -> String {
    let checksum = |flags| {
        text(match flags {
            TunnelFlags::CHECKSUM => "full",
            TunnelFlags::REMOTE_CHECKSUM => "remote",
            _ => "none",
        })
    };
    let mut table = Table::default();
    match tunnel {
        Tunnel::Gue { port, flags } => {
            table.add("type", text("gue"));
            table.add("port", port.to_string());
            table.add("checksum", checksum(flags));
        }
        Tunnel::Gre { flags } => {
            table.add("type", text("gre"));
            table.add("checksum", checksum(flags));
        }
        // No reader makes another one.
        Tunnel::Ipip | Tunnel::Other { .. } => table.add("type", text("ipip")),
    }
    table.inline()
}
