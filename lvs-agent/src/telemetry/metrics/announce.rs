//! What others read of services.

use std::net::IpAddr;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

/// What there is to count.
pub(super) fn describe() {
    describe_gauge!(
        "lvs_announced",
        "1 while the address is announced by being on a device, 0 while it is not"
    );
    describe_counter!(
        "lvs_announce_failures_total",
        Unit::Count,
        "Attempts to write files, lines or addresses for others that failed, by way"
    );
}

/// Whether an address is announced.
pub(crate) fn show_announced(address: IpAddr, is_announced: bool) {
    gauge!("lvs_announced", "address" => address.to_string()).set(if is_announced { 1.0 } else { 0.0 });
}

/// An attempt has failed.
pub(crate) fn count_announce_failure(way: &'static str) {
    counter!("lvs_announce_failures_total", "way" => way).increment(1);
}

/// So many lines for the FIFO were lost.
pub(crate) fn count_lost_lines(count: u64) {
    if count > 0 {
        counter!("lvs_notifications_lost_total", "kind" => "fifo").increment(count);
    }
}
