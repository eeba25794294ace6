//! How a service's pool is run: the keys of `[defaults]` and `[[service]]` that say so.

use std::time::Duration;

use humantime::format_duration;
use toml::{Spanned, de::DeValue};

use super::{check::argv, section::Section, value};
use crate::{
    config::diagnostics::{Contradiction, FaultList, ValueFault},
    model::{CommandLine, FlapDamping, OnContradiction, PoolPolicy, Quorum, RealServer, StartPolicy},
};

/// A policy that was read, and where.
#[derive(Clone, Default)]
pub(super) struct ReadPolicy {
    pub(super) policy: PoolPolicy,
    /// The place of the quorum, where one is written.
    quorum: Option<std::ops::Range<usize>>,
}

impl ReadPolicy {
    /// Takes these keys out of a section; what isn't there stays as it is in `self`.
    pub(super) fn overridden_by(self, section: &mut Section<'_>, faults: &mut FaultList) -> Self {
        const START: [(&str, StartPolicy); 2] = [("out", StartPolicy::Out), ("in", StartPolicy::In)];
        const ON_CONTRADICTION: [(&str, OnContradiction); 2] =
            [("report", OnContradiction::Report), ("remove", OnContradiction::Remove)];
        let Self { policy: before, quorum: quorum_place } = self;
        let quorum = section.table("quorum", "quorum", faults);
        let quorum_place = quorum.as_ref().map(Section::span).or(quorum_place);
        let flap = section.table("flap", "flap", faults);
        let policy = PoolPolicy {
            quorum: quorum.map_or(before.quorum, |section| read_quorum(section, faults)),
            slow_start: section.plain("slow-start", faults, duration_or_off).unwrap_or(before.slow_start),
            start: section.plain("start", faults, |value| value::word(value, &START)).unwrap_or(before.start),
            fast_share: section
                .plain("fast-share", faults, |value| value::number(value, &(0.0..=1.0)))
                .unwrap_or(before.fast_share),
            flap: flap.map_or(before.flap, |section| read_flap(section, faults)),
            confirm_timeout: section
                .plain("confirm-timeout", faults, duration_or_check)
                .unwrap_or(before.confirm_timeout),
            on_contradiction: section
                .plain("on-contradiction", faults, |value| value::word(value, &ON_CONTRADICTION))
                .unwrap_or(before.on_contradiction),
            backups: before.backups,
        };
        Self { policy, quorum: quorum_place }
    }

    /// Notes a quorum that these servers could never make.
    pub(super) fn compare(&self, servers: &[RealServer], faults: &mut FaultList) {
        let Quorum { weight, hysteresis, .. } = self.policy.quorum;
        let wanted = u64::from(weight.get()) + u64::from(hysteresis);
        let sum: u64 = servers.iter().map(|server| u64::from(server.weight.0)).sum();
        if let Some(place) = self.quorum.clone()
            && wanted > sum
            && !servers.is_empty()
        {
            faults.add(place, Contradiction::QuorumTooHigh { wanted, sum });
        }
    }
}

fn read_quorum(mut section: Section<'_>, faults: &mut FaultList) -> Quorum {
    let Quorum { weight, hysteresis, .. } = PoolPolicy::default().quorum;
    let quorum = Quorum {
        weight: section.plain("weight", faults, value::quorum).unwrap_or(weight),
        hysteresis: section.plain("hysteresis", faults, value::hysteresis).unwrap_or(hysteresis),
        up: section.plain("up", faults, command),
        down: section.plain("down", faults, command),
    };
    section.finish(faults);
    quorum
}

fn read_flap(mut section: Section<'_>, faults: &mut FaultList) -> FlapDamping {
    let default = FlapDamping::default();
    let penalty = section.read("penalty", faults, duration_or_off);
    let penalty_max = section.read("penalty-max", faults, value::duration);
    let place = penalty.as_ref().map(Spanned::span).or(penalty_max.as_ref().map(Spanned::span));
    let damping = FlapDamping {
        penalty: penalty.map_or(default.penalty, |penalty| penalty.into_inner().unwrap_or(Duration::ZERO)),
        penalty_max: penalty_max.map_or(default.penalty_max, Spanned::into_inner),
        memory: section.plain("memory", faults, value::duration).unwrap_or(default.memory),
    };
    if damping.penalty > damping.penalty_max
        && let Some(place) = place
    {
        let contradiction = Contradiction::PenaltyAboveMax {
            penalty: format_duration(damping.penalty).to_string(),
            max: format_duration(damping.penalty_max).to_string(),
        };
        faults.add(place, contradiction);
    }
    section.finish(faults);
    damping
}

/// A duration; `None` for `"check"`.
fn duration_or_check(value: &DeValue<'_>) -> Result<Option<Duration>, ValueFault> {
    if value.as_str() == Some("check") { Ok(None) } else { value::duration(value).map(Some) }
}

/// A duration; `None` for `"off"`.
pub(super) fn duration_or_off(value: &DeValue<'_>) -> Result<Option<Duration>, ValueFault> {
    if value.as_str() == Some("off") { Ok(None) } else { value::duration(value).map(Some) }
}

/// A program and its arguments.
pub(super) fn command(value: &DeValue<'_>) -> Result<CommandLine, ValueFault> {
    let mut words = argv(value)?.into_iter();
    let program = words.next().unwrap_or_default().into();
    Ok(CommandLine { program, arguments: words.collect() })
}
