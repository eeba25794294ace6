//! What is to be done to the synchronisation daemons, and when. Pure: it knows them as they were last read, and the
//! time is an argument.

use std::time::{Duration, Instant};

use crate::{
    event::{Event, SyncChange},
    ipvs::{Daemon, DaemonEdit, DaemonRole, WantedDaemon, daemon_difference},
    model::SyncSettings,
    reconcile::{
        backoff::{Failures, MAX_PAUSE_SERVICE},
        contention::Contention,
    },
};

/// The daemons as they are and as they are to be.
#[derive(Debug, Default)]
pub(super) struct DaemonPlanner {
    /// `None`: they are left alone.
    settings: Option<SyncSettings>,
    wanted: Vec<WantedDaemon>,
    /// What this agent has run for a configuration that no longer asks for it.
    released: Vec<WantedDaemon>,
    running: Vec<Daemon>,
    /// The number of the device as it is now; `None`: there is none of that name.
    device: Option<u32>,
    master: Slot,
    backup: Slot,
}

/// What is known of the daemon of one role.
#[derive(Clone, Debug, Default)]
struct Slot {
    /// The number of the device that it was last right on; `None`: it was not right yet.
    right_on: Option<u32>,
    /// Whether it has to start anew to follow the configuration.
    is_stale: bool,
    /// What others have made of it, as last told.
    changed: Vec<String>,
    contention: Contention,
    failures: Option<Failures>,
    /// The last fault, as told.
    fault: Option<String>,
}

impl DaemonPlanner {
    /// The daemons are to be as `settings` say; `None`: what this agent has started stops, all else is left alone.
    pub(super) fn want(&mut self, settings: Option<SyncSettings>) {
        if settings == self.settings {
            return;
        }
        let wanted = settings.as_ref().map(WantedDaemon::of).unwrap_or_default();
        let ports = |settings: &Option<SyncSettings>| settings.as_ref().and_then(|one| one.sysctls.ports);
        let other_threads = ports(&settings) != ports(&self.settings);
        let before = std::mem::replace(&mut self.wanted, wanted);
        self.released = if settings.is_none() { before } else { Vec::new() };
        self.settings = settings;
        for role in DaemonRole::ALL {
            let was_right = self.slot(role).right_on.is_some();
            *self.slot_mut(role) = Slot { is_stale: other_threads && was_right, ..Slot::default() };
        }
    }

    /// Whether there is anything to look after.
    pub(super) fn is_idle(&self) -> bool {
        self.settings.is_none() && self.released.is_empty()
    }

    /// The device that the daemons are to use.
    pub(super) fn device(&self) -> Option<&str> {
        self.wanted.first().map(|daemon| daemon.device.as_str())
    }

    /// The daemons that are to run, each with its fault.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (&WantedDaemon, Option<&str>)> {
        self.wanted.iter().map(|daemon| (daemon, self.slot(daemon.role).fault.as_deref()))
    }

    /// Takes note of the daemons that run, and of the device's number. Returns what others have done.
    pub(super) fn observed(&mut self, running: Vec<Daemon>, device: Option<u32>, now: Instant) -> Vec<Event> {
        (self.running, self.device) = (running, device);
        self.released.retain(|daemon| {
            self.running.iter().any(|one| one.role == daemon.role && daemon.differences(one).is_empty())
        });
        DaemonRole::ALL.into_iter().filter_map(|role| self.look_at(role, now)).collect()
    }

    fn look_at(&mut self, role: DaemonRole, now: Instant) -> Option<Event> {
        self.settings.as_ref()?;
        let differences = self.differences(role);
        let device = self.device;
        let slot = self.slot_mut(role);
        if differences.is_empty() {
            slot.changed.clear();
            // One on a device that is gone is deaf, and starts anew once there is another of that name.
            let is_found = slot.right_on.is_none() && device.is_some();
            slot.right_on = slot.right_on.or(device);
            if device.is_some() {
                (slot.failures, slot.fault) = (None, None);
            }
            let is_wanted = self.wanted.iter().any(|daemon| daemon.role == role);
            return (is_found && is_wanted).then_some(Event::SyncDaemon { role, change: SyncChange::Found });
        }
        if slot.right_on.is_none() || slot.changed == differences {
            return None;
        }
        slot.changed.clone_from(&differences);
        slot.contention.interfered(now);
        let repair_in = slot.contention.due(now).map(|at| at.saturating_duration_since(now));
        Some(Event::SyncDaemon { role, change: SyncChange::Changed { differences, repair_in } })
    }

    /// How the daemon of that role differs from what is wanted.
    fn differences(&self, role: DaemonRole) -> Vec<String> {
        let wanted = self.wanted.iter().find(|daemon| daemon.role == role);
        let running = self.running.iter().find(|daemon| daemon.role == role);
        match (wanted, running) {
            (None, None) => Vec::new(),
            (Some(_), None) => vec!["it does not run".to_owned()],
            (None, Some(_)) => vec!["it runs".to_owned()],
            (Some(wanted), Some(running)) => {
                let mut differences = wanted.differences(running);
                let slot = self.slot(role);
                if slot.right_on.is_some() && self.device.is_some() && slot.right_on != self.device {
                    differences.push("its interface was made anew".to_owned());
                }
                if slot.is_stale {
                    differences.push("it has another number of threads".to_owned());
                }
                differences
            }
        }
    }

    /// The edits that are due for the daemon of that role.
    pub(super) fn edits(&self, role: DaemonRole, now: Instant) -> Vec<DaemonEdit> {
        if self.settings.is_none() {
            let is_released = self.released.iter().any(|daemon| daemon.role == role);
            return if is_released { vec![DaemonEdit::Stop(role)] } else { Vec::new() };
        }
        if self.due(role).is_some_and(|due| due > now) {
            return Vec::new();
        }
        let wanted = self.wanted.iter().find(|daemon| daemon.role == role);
        match daemon_difference(role, &self.running, wanted) {
            edits if !edits.is_empty() => edits,
            // The kernel sees no difference: the same again, from the beginning.
            _ if !self.differences(role).is_empty() => {
                let start = wanted.map(|wanted| DaemonEdit::Start(wanted.to_daemon()));
                std::iter::once(DaemonEdit::Stop(role)).chain(start).collect()
            }
            none => none,
        }
    }

    /// When the daemon of that role may be edited; `None`: at once.
    fn due(&self, role: DaemonRole) -> Option<Instant> {
        let slot = self.slot(role);
        let contended = slot.contention.due_at();
        slot.failures.map(|failures| failures.until).into_iter().chain(contended).max()
    }

    /// When [`DaemonPlanner::edits`] is to be asked again, unless something else happens.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let waiting = DaemonRole::ALL.into_iter().filter(|role| !self.differences(*role).is_empty());
        waiting.filter_map(|role| self.due(role)).filter(|due| *due > now).min()
    }

    /// The kernel has made an edit. `instead_of`: what ran before.
    pub(super) fn made(&mut self, edit: &DaemonEdit, instead_of: &[String], now: Instant) -> Event {
        crate::ipvs::apply_daemon_edit(&mut self.running, edit);
        let role = edit.role();
        let device = self.device;
        let is_wanted = self.wanted.iter().any(|daemon| daemon.role == role);
        let slot = self.slot_mut(role);
        (slot.failures, slot.fault) = (None, None);
        if !slot.changed.is_empty() {
            slot.contention.repaired(now);
            slot.changed.clear();
        }
        let change = match edit {
            DaemonEdit::Start(daemon) => {
                (slot.right_on, slot.is_stale) = (device, false);
                SyncChange::Started {
                    device: daemon.device.clone(),
                    id: daemon.sync_id,
                    instead_of: instead_of.join(", "),
                }
            }
            DaemonEdit::Stop(_) => {
                // One that is to start again isn't right yet: its absence is nobody else's doing.
                slot.right_on = (!is_wanted).then(|| device.unwrap_or_default());
                self.released.retain(|daemon| daemon.role != role);
                SyncChange::Stopped
            }
        };
        Event::SyncDaemon { role, change }
    }

    /// What the daemon of that role is like where it isn't as wanted; empty where none runs.
    pub(super) fn found(&self, role: DaemonRole) -> Vec<String> {
        let runs = self.running.iter().any(|daemon| daemon.role == role);
        if runs { self.differences(role) } else { Vec::new() }
    }

    /// An edit has failed. `None`: that was told already.
    pub(super) fn failed(&mut self, role: DaemonRole, error: String, now: Instant) -> Option<Event> {
        let slot = self.slot_mut(role);
        let failures = Failures::after(slot.failures, MAX_PAUSE_SERVICE, now);
        slot.failures = Some(failures);
        if slot.fault.as_ref() == Some(&error) {
            return None;
        }
        slot.fault = Some(error.clone());
        let again: Duration = failures.until.saturating_duration_since(now);
        Some(Event::SyncDaemon { role, change: SyncChange::Failed { error, again } })
    }

    /// A daemon runs on a device that is gone: nothing of what it says or hears goes anywhere.
    pub(super) fn deaf(&mut self) -> Vec<Event> {
        let Some(name) = self.device().filter(|_| self.device.is_none()).map(str::to_owned) else {
            return Vec::new();
        };
        let roles: Vec<_> = self.running.iter().map(|daemon| daemon.role).collect();
        let fault = format!("there is no interface {name} any more, so that the daemon is cut off");
        let told = roles.into_iter().filter_map(|role| {
            let slot = self.slot_mut(role);
            if slot.fault.as_ref() == Some(&fault) || slot.right_on.is_none() {
                return None;
            }
            slot.fault = Some(fault.clone());
            let change = SyncChange::Failed { error: fault.clone(), again: Duration::ZERO };
            Some(Event::SyncDaemon { role, change })
        });
        told.collect()
    }

    fn slot(&self, role: DaemonRole) -> &Slot {
        match role {
            DaemonRole::Master => &self.master,
            DaemonRole::Backup => &self.backup,
        }
    }

    fn slot_mut(&mut self, role: DaemonRole) -> &mut Slot {
        match role {
            DaemonRole::Master => &mut self.master,
            DaemonRole::Backup => &mut self.backup,
        }
    }
}

#[cfg(test)]
mod tests;
