//! Second chance.

use metrics::{Unit, counter, describe_counter};

/// What there is to count.
pub(super) fn describe() {
    let describe = |name: &'static str, about: &'static str| {
        describe_counter!(name, Unit::Count, about);
    };
    describe("lvs_second_chance_held_total", "RSTs that refuse a client and were held back");
    describe("lvs_second_chance_retried_total", "SYNs that were sent again for their clients");
    describe(
        "lvs_second_chance_completed_total",
        "Handshakes that clients completed after their SYN was sent again for them",
    );
    describe(
        "lvs_second_chance_given_up_total",
        "Open handshakes that got no second chance, or for which it was of no use, by reason",
    );
    describe(
        "lvs_second_chance_refused_late_total",
        "RSTs that were held back and sent to their clients after all, because nothing was decided",
    );
}

/// RSTs were held back.
pub(crate) fn count_held_back(count: u64) {
    counter!("lvs_second_chance_held_total").increment(count);
}

/// A SYN was sent again.
pub(crate) fn count_retried() {
    counter!("lvs_second_chance_retried_total").increment(1);
}

/// A client was refused after all.
pub(crate) fn count_refused_late() {
    counter!("lvs_second_chance_refused_late_total").increment(1);
}

/// What became of one server's handshakes.
pub(crate) fn count_second_chance(
    completed: usize,
    given_up: impl IntoIterator<Item = (&'static str, usize)>,
) {
    counter!("lvs_second_chance_completed_total").increment(completed as u64);
    for (reason, count) in given_up {
        counter!("lvs_second_chance_given_up_total", "reason" => reason).increment(count as u64);
    }
}
