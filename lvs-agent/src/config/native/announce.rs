//! What others are told of services: the section `[announce]`, and the key `announce` of services.

use std::time::Duration;

use humantime::format_duration;
use toml::de::DeValue;

use super::{notify::ON_EXIT, policy::duration_or_off, section::Section, value};
use crate::{
    config::diagnostics::{Contradiction, FaultList, ValueFault},
    model::{
        AnnounceSettings, Share, TrackAtStop, TrackFiles, TrackValue, VipAnnouncement,
        defaults::ANNOUNCE_UP_AFTER,
    },
};

/// What track files say after a clean stop, by its name.
pub(super) const AT_STOP: [(&str, TrackAtStop); 2] =
    [("keep", TrackAtStop::Keep), ("fault", TrackAtStop::Fault)];

/// `[announce]`.
pub(super) fn settings(mut section: Section<'_>, faults: &mut FaultList) -> AnnounceSettings {
    let default = AnnounceSettings::default();
    let track_files = section.table("track-files", "[announce.track-files]", faults);
    let settings = AnnounceSettings {
        min_share: section.plain("min-share", faults, min_share).unwrap_or(default.min_share),
        backups: section.plain("backups", faults, value::flag).unwrap_or(default.backups),
        track_files: track_files.and_then(|section| self::track_files(section, faults)),
        ready_files: section.plain("ready-files", faults, value::folder).unwrap_or(default.ready_files),
        notify_fifo: section.plain("notify-fifo", faults, value::file).unwrap_or(default.notify_fifo),
    };
    section.finish(faults);
    settings
}

/// `[announce.track-files]`.
fn track_files(mut section: Section<'_>, faults: &mut FaultList) -> Option<TrackFiles> {
    if !section.has("folder") {
        section.missing("folder", "folder = \"/run/lvs-agent/track\"", faults);
    }
    let folder = section.plain("folder", faults, value::folder).flatten();
    let value = section.plain("value", faults, track_value).unwrap_or_default();
    let up_after = section.plain("up-after", faults, duration_or_off).map_or(ANNOUNCE_UP_AFTER, or_zero);
    let at_stop = section.plain("at-stop", faults, |value| value::word(value, &AT_STOP)).unwrap_or_default();
    section.finish(faults);
    Some(TrackFiles { folder: folder?, value, up_after, at_stop })
}

/// The key `announce` of a service; `before` holds where it isn't there. `None`: it isn't announced.
pub(super) fn vip(
    section: &mut Section<'_>,
    before: Option<VipAnnouncement>,
    faults: &mut FaultList,
) -> Option<VipAnnouncement> {
    if section.text("announce") == Some("off") {
        section.plain("announce", faults, |_| Ok(()));
        return None;
    }
    let Some(mut section) = section.table("announce", "announce", faults) else { return before };
    if !section.has("device") {
        section.missing("device", "device = \"lvs0\"", faults);
    }
    let place = section.span();
    let device = section.plain("device", faults, value::device);
    let usual = VipAnnouncement::on(device.clone().unwrap_or_default());
    let mut duration = |key, usual| section.plain(key, faults, duration_or_off).map_or(usual, or_zero);
    let (down_after, up_after) =
        (duration("down-after", usual.down_after), duration("up-after", usual.up_after));
    let (hold_down, hold_down_max) =
        (duration("hold-down", usual.hold_down), duration("hold-down-max", usual.hold_down_max));
    let announcement = VipAnnouncement {
        create: section.plain("create", faults, value::flag).unwrap_or(usual.create),
        down_after,
        up_after,
        hold_down,
        hold_down_max,
        lifetime: section.plain("lifetime", faults, lifetime).unwrap_or(usual.lifetime),
        on_exit: section.plain("on-exit", faults, |value| value::word(value, &ON_EXIT)),
        ..usual
    };
    section.finish(faults);
    if hold_down > hold_down_max {
        let contradiction = Contradiction::HoldDownAboveMax {
            hold_down: format_duration(hold_down).to_string(),
            max: format_duration(hold_down_max).to_string(),
        };
        faults.add(place, contradiction);
    }
    device.map(|_| announcement)
}

fn or_zero(duration: Option<Duration>) -> Duration {
    duration.unwrap_or_default()
}

/// How long the kernel keeps an address by itself: whole seconds (`ifa_valid` in `struct ifa_cacheinfo`), and enough of
/// them that a busy director has renewed it in time.
fn lifetime(value: &DeValue<'_>) -> Result<Option<Duration>, ValueFault> {
    const LEAST: Duration = Duration::from_secs(3);
    if value.as_str() == Some("off") {
        return Ok(None);
    }
    let lifetime = value::whole_seconds(value)?;
    if lifetime < LEAST {
        let problem = "is too short for an address's lifetime; write \"3s\" or more, or \"off\"";
        return Err(ValueFault::Text { text: format_duration(lifetime).to_string(), problem });
    }
    Ok(Some(lifetime))
}

/// The share that must be up; `None` for `"quorum"`.
fn min_share(value: &DeValue<'_>) -> Result<Option<Share>, ValueFault> {
    if value.as_str() == Some("quorum") {
        return Ok(None);
    }
    Ok(Share::try_from(value::number(value, &(0.0..=1.0))?).ok())
}

/// `"fault"`, or the weight that a priority loses at most.
fn track_value(value: &DeValue<'_>) -> Result<TrackValue, ValueFault> {
    if value.as_str() == Some("fault") {
        return Ok(TrackValue::Fault);
    }
    let weight = value::whole(value, 1, 253, "keepalived adds no more to a priority")?;
    Ok(TrackValue::Weight(u8::try_from(weight).unwrap_or(u8::MAX)))
}
