//! The agent's own format: TOML.
//!
//! An example that says everything, most of it with the values that hold anyway:
//!
//! ```toml
#![doc = include_str!("example.toml")]
//! ```
//!
//! The rules behind it:
//! - A duration is text with a unit (`"250ms"`, `"1s"`, `"1m 30s"`), from 1 ms to 24 hours.
//! - An address is a number, never a name: looking names up could hang, and answer differently tomorrow. IPv6 with a
//!   port is in brackets: `"[2001:db8::80]:80"`.
//! - A service has an address or a firewall mark. An address without a port means every port, which needs
//!   persistence; a mark means every port and protocol.
//! - A service that doesn't say `persistent` isn't, whatever the kernel's table says; `one-packet` stays as it is found
//!   unless it is written.
//! - A `check` is one table, or several in an array: then `combine` says whether all of them must be well or any. A
//!   server may have a `check` and a `combine` of its own.
//! - What a service's `check` doesn't say holds as the one in `[defaults]` says, key by key; so does what a server's
//!   doesn't say, as its service's says. What is asked (`type`, its keys, `port`) only goes on to a check of the same
//!   type; a key that could be meant for another type as well is a warning. `inherit = false` takes nothing over.
//! - A check's timeout should not be above its interval: a check doesn't overlap itself, so a silent server is checked
//!   less often than written, which is a warning. Where only the interval is written, the timeout follows it down.
//! - A real server's forwarding method must be written: in the server, the service, or `[defaults]`. A wrong guess
//!   would lose packets without a word.
//! - Under direct route and tunnel the kernel leaves the port alone, so the server's port must be the service's. Where
//!   the service has none, a server has one only under masquerade by firewall mark without persistence: elsewhere the
//!   kernel keeps the client's.
//! - A server of another IP version than the service can only be reached by tunnel. The kernel refuses such a mix while
//!   its connection synchronisation runs.
//! - A tunnel is IP in IP unless `tunnel` says otherwise: in the server, the service, or `[defaults]`.
//! - Without a `check`, or one without a `type`, a server is checked by TCP connect; by ping where there is no TCP port
//!   to check: in UDP and SCTP services, by firewall mark and in services for every port. A check of a port must say
//!   which, unless the service's clients come to that of each server over the same transport. Checks go to the real
//!   server's own address, whatever the forwarding method.
//! - The `source` of a check must be of the same IP version as each of the servers.
//! - A `[[service.backup]]` is written like a server. Without a `check` it is checked by TCP connect, or by ping where
//!   it has no port; `checked = false` takes it to be well. Its check takes over how the service's is made (intervals,
//!   timeouts, source), and not what it asks.
//! - Unknown keys are faults: a misspelt `fall` must not become the default.

mod announce;
mod check;
mod compare;
mod director;
mod notify;
mod policy;
mod section;
mod server;
mod service;
mod settings;
mod sync;
#[cfg(test)]
mod tests;
mod tunnel;
mod value;
mod virtual_address;
mod write;

use std::path::Path;

pub use write::to_toml;

use toml::{Spanned, de::DeTable};

use super::{
    diagnostics::{ConfigError, Contradiction, FaultKind, FaultList, Faults, Place},
    name_grace::Unresolved,
    reading::{Format, Reading},
};
use crate::model::{AgentSettings, AnnounceSettings, Config, Mode, PassiveSettings, RoleSetting};
use section::Section;
use settings::ServiceSettings;

/// Reads and validates `text`, whole. `origin` names it in messages.
pub fn read(text: &str, origin: &Path) -> Result<Config, ConfigError> {
    read_in_mode(text, origin, None).map(|reading| reading.config)
}

/// The same, with what its author should know. `mode`: another one than is written.
pub(super) fn read_in_mode(text: &str, origin: &Path, mode: Option<Mode>) -> Result<Reading, ConfigError> {
    let document = parse(text, origin)?;
    let mut faults = FaultList::default();
    let config = document_to_config(document, text, mode, &mut faults);
    let (warnings, needs) = (faults.take_warnings(text), faults.take_needs(text));
    let config = faults.finish(config, text, origin)?;
    let unresolved = Unresolved::default();
    Reading { config, format: Format::Native, warnings, needs, unresolved }.in_mode(mode)
}

/// The grammar. If it isn't followed, only the first fault is reported: the others may only come from that one.
fn parse<'i>(text: &'i str, origin: &Path) -> Result<Spanned<DeTable<'i>>, Faults> {
    let mut faults = FaultList::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    if let Some(error) = errors.into_iter().min_by_key(|error| error.span().map_or(0, |span| span.start)) {
        let span = error.span().unwrap_or(0..0);
        // As the line is shown: without secrets.
        let Place { column, width, source, .. } = Place::new(text, &span);
        let width = if span.is_empty() { 0 } else { width };
        let tripped_over = source.chars().skip(column - 1).take(width).collect();
        let kind = FaultKind::Syntax { message: error.message().to_owned(), text: tripped_over };
        faults.add(span, kind);
    }
    faults.finish(document, text, origin)
}

/// Reads what follows the grammar, and notes what is wrong with it.
fn document_to_config(
    document: Spanned<DeTable<'_>>,
    text: &str,
    mode: Option<Mode>,
    faults: &mut FaultList,
) -> Config {
    let mut top = Section::new("the file", 0..0, document.into_inner());
    let agent = top.table("agent", "[agent]", faults);
    let passive = top.table("passive", "[passive]", faults);
    let director = top.table("director", "[director]", faults);
    let sync = top.table("sync", "[sync]", faults);
    let announce = top.table("announce", "[announce]", faults);
    let defaults = top.table("defaults", "[defaults]", faults);
    let before = faults.len();
    let sections = top.tables("service", "[[service]]", faults);
    let sections_are_well = faults.len() == before;
    top.finish(faults);

    let agent = agent.map_or_else(AgentSettings::default, |section| settings::agent(section, faults));
    let mode = mode.unwrap_or(agent.mode);
    if sections.is_empty() && sections_are_well && mode == Mode::Manage {
        faults.add(0..0, Contradiction::NoServices);
    }
    let passive = passive.map_or_else(PassiveSettings::default, |section| settings::passive(section, faults));
    let role = director.map_or_else(RoleSetting::default, |section| director::read(section, faults));
    let sync = sync.and_then(|section| sync::read(section, mode, faults));
    let announce =
        announce.map_or_else(AnnounceSettings::default, |section| announce::settings(section, faults));
    let defaults = defaults.map_or_else(ServiceSettings::default, |mut section| {
        let settings = ServiceSettings::default().overridden_by(&mut section, faults);
        section.finish(faults);
        settings
    });
    let services: Vec<_> = sections
        .into_iter()
        .filter_map(|section| service::read(section, defaults.clone(), mode, faults))
        .collect();
    compare::services(&services, &agent, text, faults);
    let services: Vec<_> = services.into_iter().map(|read| read.service).collect();
    // What nobody asks needs to be nothing that can be asked.
    let mut unused = FaultList::default();
    let is_used = mode == Mode::Adopt || services.is_empty();
    let unlisted = defaults.into_unlisted(if is_used { faults } else { &mut unused });
    Config { agent, passive, services, announce, unlisted, role, sync }
}
