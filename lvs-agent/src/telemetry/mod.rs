//! The log of events, and metrics. Both only follow events and values; nothing here may influence a decision.

pub(crate) mod lines;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod page;
pub(crate) mod source;
