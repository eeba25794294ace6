//! What is seen from outside: the log of events, and metrics.

pub(crate) mod log;
pub(crate) mod metrics;
