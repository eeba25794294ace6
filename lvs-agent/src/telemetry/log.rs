//! The log of events. Every line has the time in `at_ns` (`CLOCK_MONOTONIC`), the `event`, and the fields that
//! `docs/events.md` lists, so that a program can follow it as well as a person.

mod announce;
mod blind;
mod contradiction;
mod directors;
mod idle;
mod second_chance;

use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use crate::{
    event::{
        CommandRun, ConfigNotice, Event, HintFate, InstanceChange, LineFile, ListChange, MailResult,
        ProbeKind, Record, StateFileChange, Subject, Subscriber,
    },
    health::{State, Transition},
    ipvs::Edit,
    passive::Hint,
    pool::{AdminAction, Drain, PoolEvent},
    probe::Outcome,
};

/// Writes every event to the log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EventLog;

impl Subscriber for EventLog {
    fn on_event(&mut self, record: &Record) {
        let line = Line { at_ns: record.at_ns, event: record.event.name() };
        line.of_agent(&record.event);
        line.of_suspicion(&record.event);
        line.of_idle_connection(&record.event);
        line.of_second_chance(&record.event);
        line.of_blindness(&record.event);
        line.of_server(&record.event);
        line.of_table(&record.event);
        line.of_directors(&record.event);
        line.of_outside(&record.event);
        line.of_announcement(&record.event);
    }
}

/// The fields that all lines have.
#[derive(Clone, Copy)]
struct Line {
    at_ns: u64,
    event: &'static str,
}

impl Line {
    /// Events of the agent itself and its configuration.
    fn of_agent(self, of: &Event) {
        let Self { at_ns, event } = self;
        match of {
            Event::Ready { services, mode } => info!(at_ns, event, services, %mode, "ready"),
            Event::Failed { error } => error!(at_ns, event, "{error}"),
            Event::AfterFailure { reason } => {
                warn!(at_ns, event, reason, "the agent before this one had to end itself: {reason}");
            }
            Event::Stopping => debug!(at_ns, event, "stopping"),
            Event::Stopped => info!(at_ns, event, "stopped"),
            Event::Config(notice) => self.config(notice),
            Event::Reloaded { cause, summary } => {
                info!(at_ns, event, %cause, "configuration reloaded: {summary}");
            }
            Event::ReloadFailed { cause, error } => {
                error!(at_ns, event, %cause, "the old configuration stays in force: {error}");
            }
            Event::Services { services } => {
                debug!(at_ns, event, services = services.len(), "the list of services has changed");
            }
            &Event::Adopted { services: 0, .. } => {
                info!(at_ns, event, services = 0, "the kernel's table has no services: waiting for some");
            }
            &Event::Adopted { services, servers, administered } => info!(
                at_ns,
                event,
                services,
                servers,
                administered,
                "the kernel's table has {services} services with {servers} servers; {administered} of them have weight 0 \
                 and keep it"
            ),
            Event::AdoptedChange { change } => self.adopted_change(*change),
            _ => {}
        }
    }

    fn config(self, notice: &ConfigNotice) {
        let Self { at_ns, event } = self;
        match notice {
            ConfigNotice::Warning { file, line, column, text } => {
                warn!(at_ns, event, line, column, "{}:{line}:{column}: {text}", file.display());
            }
            ConfigNotice::NeedsRestart { .. }
            | ConfigNotice::EditsPending { .. }
            | ConfigNotice::Doubt { .. }
            | ConfigNotice::NoLog { .. } => {
                warn!(at_ns, event, "{notice}");
            }
        }
    }

    fn adopted_change(self, change: ListChange) {
        let Self { at_ns, event } = self;
        let ListChange { services_added, services_removed, servers_added, servers_removed } = change;
        info!(
            at_ns,
            event,
            services_added,
            services_removed,
            servers_added,
            servers_removed,
            "the kernel's table was changed by others: {services_added} services and {servers_added} servers were added, \
             {services_removed} services and {servers_removed} servers removed; the rest are changed weights or settings",
        );
    }

    /// Events of suspicions and their confirmation.
    fn of_suspicion(self, of: &Event) {
        let Self { at_ns, event } = self;
        match of {
            Event::Hint { subjects, hint, fate } => self.hint(subjects, hint, fate),
            Event::Suspicion { subjects, suspicion } => {
                for Subject { service, destination } in subjects {
                    let server = destination.server;
                    info!(
                        at_ns, event, service = &**service, %server, layer = %suspicion.layer,
                        strength = %suspicion.strength, evidence = %suspicion.evidence,
                        "{server} suspected: {}", suspicion.evidence
                    );
                }
            }
            Event::Reported { subject: Subject { service, destination }, evidence } => {
                let server = destination.server;
                warn!(
                    at_ns, event, service = &**service, %server, %evidence,
                    "{server} may hang: {evidence}; no action, because no check of this service tests the application (as \
                     http does)"
                );
            }
            Event::Overloaded { subject: Subject { service, destination }, evidence } => {
                let server = destination.server;
                warn!(
                    at_ns, event, service = &**service, %server, %evidence,
                    "{server} is overloaded: {evidence}; the regular checks decide"
                );
            }
            Event::Correlated { subjects, evidence } => {
                for Subject { service, destination } in subjects {
                    let (server, evidence) = (destination.server, evidence.as_ref().map(ToString::to_string));
                    warn!(
                        at_ns, event, service = &**service, %server, evidence,
                        "{server}: most of the service is suspected at once, possibly because of the director's own \
                         network; the regular checks decide"
                    );
                }
            }
            Event::Cleared { subjects } => {
                for Subject { service, destination } in subjects {
                    let server = destination.server;
                    debug!(at_ns, event, service = &**service, %server, "{server}: a probe has cleared the suspicion");
                }
            }
            Event::ProbeWithheld { subjects, reason } => {
                for Subject { service, destination } in subjects {
                    let server = destination.server;
                    debug!(at_ns, event, service = &**service, %server, "{server}: suspicion not probed: {reason}");
                }
            }
            Event::Contradiction { subject, method, change } => self.contradiction(subject, *method, change),
            _ => {}
        }
    }

    fn hint(self, subjects: &[Subject], hint: &Hint, fate: &HintFate) {
        let Self { at_ns, event } = self;
        let then = match fate {
            HintFate::Asked => "it is asked",
            HintFate::InProgress => "it is being asked already",
            HintFate::NothingToAsk => "nothing can tell",
            HintFate::Withheld { reason } => reason,
        };
        for Subject { service, destination } in subjects {
            let server = destination.server;
            debug!(
                at_ns, event, service = &**service, %server, layer = %hint.layer, evidence = %hint.evidence,
                result = %fate, "{server}, hint: {}; {then}", hint.evidence
            );
        }
    }

    /// Events of servers and services.
    fn of_server(self, of: &Event) {
        let Self { at_ns, event } = self;
        match of {
            Event::Probe { kind, subjects, outcome, verdict: _ } => self.probe(*kind, subjects, outcome),
            Event::Transition { subject, transition, outcome, relapses } => {
                self.transition(subject, *transition, outcome, *relapses);
            }
            Event::CheckBlocked { subject: Subject { service, destination }, state, reason } => {
                let (server, state) = (destination.server, state.as_ref().map(ToString::to_string));
                warn!(
                    at_ns, event, service = &**service, %server, state, reason,
                    "{service}: {server} cannot be checked, nor can others with this check: {reason}; their states stay \
                     as they are"
                );
            }
            Event::CheckUnblocked { service } => {
                info!(at_ns, event, service = &**service, "{service}: its checks can be made again");
            }
            Event::Reason { subject: Subject { service, destination }, was, outcome } => {
                let (server, reason) = (destination.server, words(outcome));
                info!(
                    at_ns, event, service = &**service, %server, reason, was,
                    "{service}: {server} is still down, for another reason: {reason} (was: {was})"
                );
            }
            Event::Retained { subject: Subject { service, destination } } => {
                let server = destination.server;
                warn!(
                    at_ns, event, service = &**service, %server,
                    "{service}: {server} looks dead but is retained: too much of the service would be out, possibly \
                     because of the director's own network"
                );
            }
            Event::Weight { subject: Subject { service, destination }, from, to, reason, .. } => {
                let (server, from, to) =
                    (destination.server, from.map(|weight| weight.0), to.map(|weight| weight.0));
                debug!(
                    at_ns, event, service = &**service, %server, from, to, reason = reason.as_deref(),
                    "{service}: the weight of {server} changes"
                );
            }
            Event::Pool { service, change, .. } => self.pool(service, *change),
            Event::Admin { subject: Subject { service, destination }, action } => {
                let (server, done) = (destination.server, done(*action));
                info!(at_ns, event, service = &**service, %server, "{server} is {done}, by command");
            }
            Event::AdminRestored { subject: Subject { service, destination }, reason } => {
                let server = destination.server;
                info!(
                    at_ns, event, service = &**service, %server,
                    "{server}: {reason}, by a command from before this agent was started"
                );
            }
            Event::AdminForgotten { destination } => {
                let server = destination.server;
                info!(
                    at_ns, event, %server,
                    "the command for {server} is dropped: it is no longer a server of {}",
                    destination.service
                );
            }
            _ => {}
        }
    }

    fn probe(self, kind: ProbeKind, subjects: &[Subject], outcome: &Outcome) {
        let Self { at_ns, event } = self;
        for Subject { service, destination } in subjects {
            let (service, server, took_ms) = (&**service, destination.server, took_ms(outcome));
            match kind {
                ProbeKind::Baseline { is_new_failure: true } => {
                    let outcome = words(outcome);
                    info!(
                        at_ns, event, kind = "baseline", service, %server, outcome, took_ms,
                        "{server}: check failed: {outcome}"
                    );
                }
                ProbeKind::Baseline { is_new_failure: false } => debug!(
                    at_ns, event, kind = "baseline", service, %server, outcome = words(outcome), took_ms,
                    "{server}: check: {}", words(outcome)
                ),
                ProbeKind::Port => debug!(
                    at_ns, event, kind = "port", service, %server, outcome = words(outcome), took_ms,
                    "{server}: port: {}", words(outcome)
                ),
                ProbeKind::Hint if outcome.is_ok() => debug!(
                    at_ns, event, kind = "hint", service, %server, outcome = words(outcome), took_ms,
                    "{server}: probe for a hint: {}", words(outcome)
                ),
                ProbeKind::Hint => {
                    let outcome = words(outcome);
                    info!(
                        at_ns, event, kind = "hint", service, %server, outcome, took_ms,
                        "{server}: probe for a hint: {outcome}"
                    );
                }
                ProbeKind::Return => debug!(
                    at_ns, event, kind = "return", service, %server, outcome = words(outcome), took_ms,
                    "{server}: asked whether it is back: {}", words(outcome)
                ),
                ProbeKind::Confirm { number } => {
                    let outcome = words(outcome);
                    info!(
                        at_ns, event, kind = "confirm", index = number, service, %server, outcome, took_ms,
                        "{server}: confirming probe {number}: {outcome}"
                    );
                }
                ProbeKind::Ping => {
                    let outcome = words(outcome);
                    info!(
                        at_ns, event, kind = "ping", service, %server, outcome, took_ms,
                        "{server}: ping alongside the confirming probes: {outcome}"
                    );
                }
            }
        }
    }

    fn transition(self, subject: &Subject, transition: Transition, outcome: &Outcome, relapses: u32) {
        let Self { at_ns, event } = self;
        let (service, server) = (&*subject.service, subject.destination.server);
        let (Transition { from, to }, reason) = (transition, words(outcome));
        if from.is_hard_down() && to.is_hard_down() {
            info!(
                at_ns, event, service, %server, reason,
                "{service}: the baseline checks agree that {server} is down: {reason}"
            );
        } else if let State::Damped { until } = to {
            let wait = until.saturating_duration_since(Instant::now());
            warn!(
                at_ns, event, service, %server, relapses, wait_s = wait.as_secs_f64(),
                "{service}: {server} answers again but stays out for {wait:.1?} more: it has relapsed {relapses} times"
            );
        } else {
            info!(
                at_ns, event, service, %server, %from, %to, reason,
                "{service}: {server} changed from {from} to {to}: {reason}"
            );
        }
    }

    fn pool(self, service: &str, change: PoolEvent) {
        let Self { at_ns, event } = self;
        match change {
            PoolEvent::QuorumBack => info!(at_ns, event, service, "{service}: enough servers are healthy"),
            PoolEvent::QuorumLost => warn!(at_ns, event, service, "{service}: too few servers are healthy"),
            PoolEvent::BackupsIn => warn!(at_ns, event, service, "{service}: its backups take over"),
            PoolEvent::BackupsOut => {
                info!(at_ns, event, service, "{service}: its backups are out of the table again");
            }
            PoolEvent::AlarmRaised => warn!(
                at_ns,
                event,
                service,
                "{service}: more servers look dead at once than the fast path may take out; the regular checks decide"
            ),
            PoolEvent::AlarmOver => info!(at_ns, event, service, "{service}: no server is retained any more"),
        }
    }

    /// Events of the kernel's table.
    fn of_table(self, of: &Event) {
        let Self { at_ns, event } = self;
        match of {
            Event::Edit { edit, took } => {
                let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                let server = server_of(edit);
                info!(at_ns, event, service = %edit.service(), server, %edit, took_us, "table: {edit}");
            }
            Event::EditObserved { edit } => {
                let server = server_of(edit);
                info!(at_ns, event, service = %edit.service(), server, %edit, "table, not written: {edit}");
            }
            Event::EditFailed { edit, error, again: Some(again) } => {
                error!(at_ns, event, %edit, "{error}; trying again in {again:.1?}");
            }
            Event::EditFailed { edit, error, again: None } => {
                error!(at_ns, event, %edit, "{error}; trying again");
            }
            Event::TableUnreachable { reason } => {
                error!(at_ns, event, "{reason}; the table stays as it is; retrying until it works");
            }
            Event::TableReachable => info!(at_ns, event, "the kernel's table can be read again"),
            Event::Interference { service, differences, repair_in } => {
                let found = differences.join(", ");
                let when = repair_in.map_or_else(String::new, |wait| format!(" in {wait:.1?}"));
                warn!(
                    at_ns, event, %service, found,
                    "table: service {service} was changed by others: {found}; it is changed back{when}"
                );
            }
            Event::Interferences { services, missing, edits, later } => warn!(
                at_ns,
                event,
                services,
                found = format!("{missing} services are gone"),
                "table: {services} services were changed by others, {missing} of them are gone: {edits} edits repair them, \
                 those of {later} services later",
            ),
            Event::Contended { service } => error!(
                at_ns, event, %service,
                "table: others keep changing service {service}: it is repaired at growing intervals; find the program that \
                 changes it"
            ),
            Event::ContentionOver { service } => {
                info!(at_ns, event, %service, "table: service {service} is no longer changed by others");
            }
            Event::Sysctl { sysctl, from, to } => info!(
                at_ns,
                event, "{sysctl} was {from}, is set to {to}, as configured in [agent.connections] or [sync]"
            ),
            Event::ConnectionRisk { risk } => warn!(at_ns, event, "{risk}"),
            _ => {}
        }
    }

    /// Events of the state file, notifications and other agents.
    fn of_outside(self, of: &Event) {
        let Self { at_ns, event } = self;
        match of {
            Event::StateFile { path, change } => {
                let path = path.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
                self.state_file(&path, change);
            }
            Event::Mail { to, subject, result } => match result {
                MailResult::Sent => info!(at_ns, event, to, "mail to {to}: {subject}"),
                MailResult::Failed { by, error } => {
                    warn!(
                        at_ns,
                        event, to, "cannot send the mail to {to} by {by}: {error}; it was: {subject}"
                    );
                }
            },
            Event::Command { about, what, command, result } => match result {
                CommandRun::Done { took } => info!(
                    at_ns,
                    event,
                    service = about,
                    took_ms = milliseconds(*took),
                    "{about}: {what} {command} has run"
                ),
                CommandRun::Failed { error } => {
                    warn!(at_ns, event, service = about, "{about}: {what} {command} failed: {error}");
                }
            },
            Event::LineFile { path, change } => match change {
                LineFile::Works => info!(at_ns, event, "{} is written to again", path.display()),
                LineFile::Fails { error } => {
                    warn!(at_ns, event, "cannot add lines to {}: {error}", path.display());
                }
            },
            Event::NotificationsLost { kind, count } => {
                warn!(
                    at_ns,
                    event, kind, count, "{count} notifications ({kind}) are left out: too many are waiting"
                );
            }
            Event::NotificationsLeft { left } => {
                warn!(at_ns, event, left, "stopping: {left} mails, commands and lines are left out");
            }
            Event::Instance { name, change } => self.instance(name, change),
            _ => {}
        }
    }

    fn state_file(self, path: &str, change: &StateFileChange) {
        let Self { at_ns, event } = self;
        match change {
            StateFileChange::Unavailable { error } => {
                warn!(at_ns, event, "no state is saved for the next start: {error}");
            }
            StateFileChange::Ignored { reason } => warn!(at_ns, event, "{path} is ignored: {reason}"),
            StateFileChange::Fails { error } => warn!(
                at_ns,
                event,
                "{path} can't be written: {error}; after a restart, the agent will not know which weights of 0 are its own, \
                 nor which servers were drained or put into maintenance by command"
            ),
            StateFileChange::Works => info!(at_ns, event, "{path} can be written again"),
            StateFileChange::NotWritten { error } => warn!(at_ns, event, "{path} was not written: {error}"),
        }
    }

    fn instance(self, name: &str, change: &InstanceChange) {
        let Self { at_ns, event } = self;
        match change {
            InstanceChange::NotStarted { error } => {
                error!(at_ns, event, "cannot start a second agent for {name}: {error}");
            }
            InstanceChange::Started => info!(at_ns, event, "a second agent runs for {name}"),
            InstanceChange::Ended { status } => {
                error!(at_ns, event, "the second agent for {name} has ended: {status}");
            }
            InstanceChange::Lost { error } => {
                error!(at_ns, event, "the second agent for {name} is lost: {error}");
            }
            InstanceChange::NotStopped { error } => {
                warn!(at_ns, event, "cannot stop the second agent for {name}: {error}");
            }
            InstanceChange::StopsLate => {
                warn!(at_ns, event, "the second agent for {name} did not stop in time");
            }
        }
    }
}

fn done(action: AdminAction) -> &'static str {
    match action {
        AdminAction::Drain(Drain::Quiesce) => "drained",
        AdminAction::Drain(Drain::Remove) => "drained and removed from the table",
        AdminAction::Undrain => "no longer drained",
        AdminAction::Maintenance(true) => "put in maintenance",
        AdminAction::Maintenance(false) => "no longer in maintenance",
    }
}

fn server_of(edit: &Edit) -> Option<String> {
    edit.server().map(|server| server.to_string())
}

fn words(outcome: &Outcome) -> String {
    match outcome {
        Ok(_) => "answered".to_owned(),
        Err(failure) => failure.reason.to_string(),
    }
}

/// How long the probe took, in ms.
fn took_ms(outcome: &Outcome) -> f64 {
    milliseconds(match outcome {
        Ok(success) => success.latency,
        Err(failure) => failure.after,
    })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests;
