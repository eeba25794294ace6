//! ldirectord's own format, read into the same model: what ldirectord accepts means the same here.
//!
//! - What ldirectord refuses though it can only mean one thing is read, with a warning for the line: comments after a
//!   value, any indentation, blank lines within a virtual service. [`Strictness::Strict`] refuses it.
//! - Names are looked up while the file is read, in bounded time.
//! - What ldirectord doesn't know has the agent's defaults, but for what would make the table another one than
//!   ldirectord's: a server is back after one success, without damping.

mod check;
mod command;
mod context;
mod directive;
mod entry;
mod findings;
mod flags;
mod flush_left;
mod kind;
mod layout;
mod mail;
mod names;
mod perl;
mod quotes;
mod server;
mod service;
mod settings;
#[cfg(test)]
mod tests;
mod url;
mod value;
mod written;

use std::{collections::HashMap, path::Path};

use self::{
    directive::{Directive, Scope},
    findings::Findings,
    names::{Names, SystemNames},
    settings::Globals,
};
use super::{
    diagnostics::{ConfigError, Contradiction, DirectiveFault, Strictness},
    name_grace::{NamePolicy, Unresolved},
    reading::{Format, Reading},
};
use crate::model::{
    AgentSettings, AnnounceSettings, Config, LogTarget, OnExit, PassiveSettings, RoleSetting, ScriptUser,
    Unlisted, VirtualService,
};

/// Whether `text` is a configuration of ldirectord's: the first line that says so decides.
#[must_use]
pub fn is_ldirectord(text: &str) -> bool {
    let word = |line: &str| {
        let (name, _) = line.split_once('=')?;
        let directive = Directive::of(name.trim())?;
        Some(directive.scope() == Scope::Head || directive.scope().is_global())
    };
    let lines = text.lines().map(|line| line.trim_start_matches('\u{feff}').trim());
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            return false;
        }
        if word(line) == Some(true) {
            return true;
        }
    }
    false
}

/// Whether a line is a directive of a virtual service's as ldirectord has it, and not as TOML would.
pub(super) fn has_directive(line: &str) -> bool {
    let Some((name, value)) = line.split_once('=') else { return false };
    let is_toml = value.trim_start().starts_with(['"', '\'', '[', '{']);
    !is_toml && Directive::of(name.trim()).is_some_and(|directive| directive.scope().is_virtual())
}

/// Reads and validates `text`, whole. `origin` names it in messages.
pub fn read(
    text: &str,
    origin: &Path,
    strictness: Strictness,
    policy: NamePolicy,
) -> Result<Reading, ConfigError> {
    read_by(text, origin, strictness, &SystemNames::default(), policy)
}

/// The same without looking any name up.
#[cfg(test)]
pub(super) fn read_without_names(text: &str, strictness: Strictness) -> Result<Reading, ConfigError> {
    read_with(text, Path::new("fuzz"), strictness, &names::ListedNames::default())
}

#[cfg(test)]
fn read_with(
    text: &str,
    origin: &Path,
    strictness: Strictness,
    names: &dyn Names,
) -> Result<Reading, ConfigError> {
    read_by(text, origin, strictness, names, NamePolicy::Needed)
}

fn read_by(
    text: &str,
    origin: &Path,
    strictness: Strictness,
    names: &dyn Names,
    policy: NamePolicy,
) -> Result<Reading, ConfigError> {
    let mut findings = Findings::new(text, strictness, policy);
    let entries = layout::read(text, &mut findings);
    let (globals, drafts) = settings::read(entries, &mut findings);
    if drafts.is_empty() && findings.faults() == 0 {
        findings.fault(&(0..0), DirectiveFault::NoVirtual);
    }
    let mut services = Vec::new();
    for draft in &drafts {
        let read = service::read(draft, &globals, names, &mut findings);
        services.extend(read.map(|read| (read, draft.servicename.as_deref())));
    }
    let mut seen = HashMap::new();
    for (read, _) in &services {
        if let Some(other) = seen.insert(read.service.key, read.head.place.start) {
            let (key, line) = (read.service.key.to_string(), findings.line_of(other));
            findings.fault(&read.head.place, Contradiction::ServiceTwice { key, line });
        }
    }
    let partial = services.iter().filter(|(read, _)| read.is_partial).map(|(read, _)| read.service.key);
    let unresolved = Unresolved { names: findings.unresolved().clone(), partial: partial.collect() };
    let (mut services, written): (Vec<_>, Vec<_>) =
        services.into_iter().map(|(read, name)| (read.service, name)).unzip();
    name_services(&mut services, &written);
    let (passive, unlisted) = (PassiveSettings::default(), Unlisted::default());
    let (role, sync) = (RoleSetting::default(), None);
    let announce = AnnounceSettings::default();
    let config = Config { agent: agent(globals), passive, services, announce, unlisted, role, sync };
    let needs = findings.take_needs(text);
    let (config, warnings) = findings.finish(config, text, origin)?;
    Ok(Reading { config, format: Format::Ldirectord, warnings, needs, unresolved })
}

/// Services have the names that `servicename` gives them, where that is a name and no other service's.
fn name_services(services: &mut [VirtualService], names: &[Option<&str>]) {
    let keys: Vec<String> = services.iter().map(|service| service.key.to_string()).collect();
    for (service, name) in services.iter_mut().zip(names) {
        let Some(name) = name else { continue };
        let is_only_one = names.iter().filter(|other| *other == &Some(*name)).count() == 1;
        let is_name = name.chars().count() <= 100 && !name.chars().any(char::is_control);
        if is_only_one && is_name && !keys.iter().any(|key| key == name) {
            (*name).clone_into(&mut service.name);
        }
    }
}

fn agent(globals: Globals) -> AgentSettings {
    let log = if globals.supervised { None } else { globals.logfile };
    AgentSettings {
        on_exit: if globals.shared.cleanstop.unwrap_or(true) { OnExit::Remove } else { OnExit::Keep },
        autoreload: globals.autoreload,
        maintenance: globals.maintenancedir,
        callback: globals.callback,
        execute: globals.execute,
        log: log.unwrap_or(LogTarget::Standard),
        // As ldirectord runs them.
        script_user: Some(ScriptUser::root()),
        ..AgentSettings::default()
    }
}
