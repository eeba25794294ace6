//! What others are told of services.

use std::time::Duration;

use super::table::{self, Table, float, path, text, word};
use crate::{
    config::native::{announce::AT_STOP, notify::ON_EXIT},
    model::{AnnounceSettings, TrackFiles, TrackValue, VipAnnouncement},
};

/// `[announce]` and the table in it.
pub(super) fn settings(settings: &AnnounceSettings) -> String {
    let AnnounceSettings { min_share, backups, track_files, ready_files, notify_fifo } = settings;
    let mut table = Table::default();
    table.maybe("min-share", min_share.map(|share| float(&share.get())));
    table.unless("backups", backups, &false, ToString::to_string);
    table.maybe("ready-files", ready_files.as_deref().map(path));
    table.maybe("notify-fifo", notify_fifo.as_deref().map(path));
    table.under("[announce]", false) + &track_files.as_ref().map_or_else(String::new, self::track_files)
}

fn track_files(files: &TrackFiles) -> String {
    let TrackFiles { folder, value, up_after, at_stop } = files;
    let mut table = Table::default();
    table.add("folder", path(folder));
    table.add(
        "value",
        match value {
            TrackValue::Fault => text("fault"),
            TrackValue::Weight(weight) => weight.to_string(),
        },
    );
    table.add("up-after", time_or_off(up_after));
    table.add("at-stop", word(at_stop, &AT_STOP));
    table.under("[announce.track-files]", true)
}

/// The value of a service's `announce`.
pub(super) fn vip(announcement: &VipAnnouncement) -> String {
    let VipAnnouncement { device, create, down_after, up_after, hold_down, hold_down_max, lifetime, on_exit } =
        announcement;
    let mut table = Table::default();
    table.add("device", text(device));
    table.unless("create", create, &false, ToString::to_string);
    let times = [
        ("down-after", down_after),
        ("up-after", up_after),
        ("hold-down", hold_down),
        ("hold-down-max", hold_down_max),
    ];
    for (key, time) in times {
        table.add(key, time_or_off(time));
    }
    table.maybe("lifetime", lifetime.as_ref().map(table::time));
    table.maybe("on-exit", on_exit.map(|on_exit| word(&on_exit, &ON_EXIT)));
    table.inline()
}

fn time_or_off(time: &Duration) -> String {
    if time.is_zero() { text("off") } else { table::time(time) }
}
