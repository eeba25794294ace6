//! What is seen from outside: events and metrics.

pub(crate) mod events;
pub(crate) mod metrics;
