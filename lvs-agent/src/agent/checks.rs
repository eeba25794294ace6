//! What the schedule of baseline checks begins with, and how it ends.

use tracing::error;

use crate::{
    engine::subscriptions::{ScheduleChange, Subscriptions},
    model::VirtualService,
    probe::{BaselineCheck, Scheduler},
};

/// The checks of these services, and what the schedule begins with.
pub(super) fn baseline_checks(services: &[VirtualService]) -> (Subscriptions, Vec<BaselineCheck>) {
    let mut checks = Subscriptions::default();
    let ScheduleChange { added, removed: _ } = checks.replace(services);
    (checks, added)
}

/// Waits until the schedule has ended.
pub(super) async fn checks_until_stopped(scheduler: Scheduler) {
    if let Err(error) = scheduler.stopped().await {
        error!("the checks have ended: {error}");
    }
}
