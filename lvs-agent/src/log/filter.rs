//! What is logged, which can be changed while the agent runs.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tracing_subscriber::{EnvFilter, filter::LevelFilter, reload};

/// Puts another filter in force.
type Reload = dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync;

/// The filter of the log. Clones share it.
#[derive(Clone)]
pub struct LogFilter {
    reload: Arc<Reload>,
    current: Arc<Mutex<String>>,
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFilter").field(&self.current()).finish()
    }
}

impl LogFilter {
    /// The filter that is in force, as text, and how another one is put in force.
    pub fn new(
        text: &str,
        reload: impl Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync + 'static,
    ) -> Self {
        Self { reload: Arc::new(reload), current: Arc::new(Mutex::new(text.to_owned())) }
    }

    /// The filter in force.
    #[must_use]
    pub fn current(&self) -> String {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another one in force. The error is for people; nothing has changed then.
    pub fn set(&self, text: &str) -> Result<(), String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let filter = parse(text)?;
        (self.reload)(filter).map_err(|error| error.to_string())?;
        text.clone_into(&mut current);
        Ok(())
    }
}

/// Reads a filter: `LEVEL` or `TARGET=LEVEL,…`. The error is for people.
pub fn parse(text: &str) -> Result<EnvFilter, String> {
    let invalid = || format!("{text:?} is not a log filter; try \"info\" or \"debug\"");
    // A lone word that is no level would be the target of a filter that hides everything else.
    let is_directive = |part: &str| part.contains(['=', '[', ']']) || part.parse::<LevelFilter>().is_ok();
    if text.trim().is_empty() || !text.split(',').map(str::trim).all(is_directive) {
        return Err(invalid());
    }
    EnvFilter::try_new(text).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_filter_is_in_force_unless_it_is_none() {
        let reloaded = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&reloaded);
        let filter = LogFilter::new("info", move |filter| {
            seen.lock().unwrap().push(filter.to_string());
            Ok(())
        });
        assert_eq!(filter.set("debug"), Ok(()));
        assert_eq!(filter.set("lvs_agent=trace,info"), Ok(()));
        let refused = filter.set("lvs_agent=loud").unwrap_err();
        assert!(refused.contains("is not a log filter"), "{refused}");
        for wrong in ["", " ", "loud", "info,loud", "in fo"] {
            assert!(filter.set(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(filter.current(), "lvs_agent=trace,info");
        assert_eq!(reloaded.lock().unwrap().len(), 2);
    }
}
