//! How a service's pool is run.

use super::table::{self, Table, command_line, float, text, time};
use crate::model::{OnContradiction, PoolPolicy, StartPolicy};

/// The keys of a policy that differ from `usual`.
pub(super) fn policy(policy: &PoolPolicy, usual: &PoolPolicy, table: &mut Table) {
    table.unless("quorum", &policy.quorum, &usual.quorum, |quorum| {
        let mut inner = Table::default();
        inner.add("weight", quorum.weight.to_string());
        inner.add("hysteresis", quorum.hysteresis.to_string());
        inner.maybe("up", quorum.up.as_ref().map(command_line));
        inner.maybe("down", quorum.down.as_ref().map(command_line));
        inner.inline()
    });
    table.unless("slow-start", &policy.slow_start, &usual.slow_start, |time| {
        time.as_ref().map_or_else(|| text("off"), table::time)
    });
    table.unless("start", &policy.start, &usual.start, |start| {
        text(if *start == StartPolicy::In { "in" } else { "out" })
    });
    table.unless("fast-share", &policy.fast_share, &usual.fast_share, float);
    table.unless("confirm-timeout", &policy.confirm_timeout, &usual.confirm_timeout, |time| {
        time.as_ref().map_or_else(|| text("check"), table::time)
    });
    table.unless("flap", &policy.flap, &usual.flap, |flap| {
        let mut inner = Table::default();
        inner.add("penalty", if flap.penalty.is_zero() { text("off") } else { time(&flap.penalty) });
        inner.add("penalty-max", time(&flap.penalty_max));
        inner.add("memory", time(&flap.memory));
        inner.inline()
    });
    table.unless("on-contradiction", &policy.on_contradiction, &usual.on_contradiction, |on_contradiction| {
        text(if *on_contradiction == OnContradiction::Remove { "remove" } else { "report" })
    });
}
