//! What others are told of services, by which they lead traffic to this director or away from it.

use std::{path::PathBuf, time::Duration};

use super::{OnExit, Share, defaults};

/// What is told of all services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceSettings {
    /// The share of a service's weight that must be up; `None`: it must have its quorum.
    pub min_share: Option<Share>,
    /// Whether a service without its quorum counts as healthy while backups serve.
    pub backups: bool,
    /// Files for keepalived's `track_file`; `None`: none.
    pub track_files: Option<TrackFiles>,
    /// The folder of files that are there while services are healthy; `None`: there are none.
    pub ready_files: Option<PathBuf>,
    /// The FIFO for lines as keepalived writes them to its own; `None`: none are written.
    pub notify_fifo: Option<PathBuf>,
}

impl AnnounceSettings {
    /// Whether anything is told in files.
    #[must_use]
    pub fn has_files(&self) -> bool {
        self.track_files.is_some() || self.ready_files.is_some()
    }
}

/// Files for keepalived's `track_file`: one for each service, and one for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackFiles {
    /// The folder that they are in.
    pub folder: PathBuf,
    /// What is in them.
    pub value: TrackValue,
    /// How long a service must be healthy before its file says so again.
    pub up_after: Duration,
    /// What the files say after a clean stop.
    pub at_stop: TrackAtStop,
}

/// What is in a track file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrackValue {
    /// 0 while the service is healthy, else 1.
    #[default]
    Fault,
    /// 0 while all of its weight is up, else a number below 0: this one, from 1 to 253, without any or where it isn't
    /// healthy, and less of it the more is up.
    Weight(u8),
}

/// What track files say after a clean stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrackAtStop {
    /// What they said before: traffic outlives the agent.
    #[default]
    Keep,
    /// That nothing is healthy.
    Fault,
}

/// How a VIP is announced: it is on a device while the services on it are healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipAnnouncement {
    /// The device, such as a dummy one.
    pub device: String,
    /// Whether the device is made, as a dummy one, where it isn't there.
    pub create: bool,
    /// How long the services must be unhealthy before the VIP is withdrawn; zero: not at all.
    pub down_after: Duration,
    /// How long they must be healthy before it is announced again.
    pub up_after: Duration,
    /// How long it stays withdrawn at least; doubles each time that it is withdrawn soon again.
    pub hold_down: Duration,
    /// The longest of these times.
    pub hold_down_max: Duration,
    /// How long the kernel keeps the address without hearing of the agent; `None`: for ever.
    pub lifetime: Option<Duration>,
    /// What becomes of it at a clean stop; `None`: it stays where services on it do.
    pub on_exit: Option<OnExit>,
}

impl VipAnnouncement {
    /// On this device, with what else is usual.
    #[must_use]
    pub fn on(device: impl Into<String>) -> Self {
        Self {
            device: device.into(),
            create: false,
            down_after: Duration::ZERO,
            up_after: defaults::ANNOUNCE_UP_AFTER,
            hold_down: defaults::HOLD_DOWN,
            hold_down_max: defaults::HOLD_DOWN_MAX,
            lifetime: None,
            on_exit: None,
        }
    }
}
