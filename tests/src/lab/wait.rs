//! Waiting for conditions: always with a limit, and an error that says what was waited for.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, bail};

use crate::lab::clock::Moment;

/// Time between two polls.
const PAUSE: Duration = Duration::from_millis(5);

/// Calls `poll` again and again until it gives something, for `limit` at most.
///
/// `what` completes the sentence "waited for …". An error of `poll` ends the waiting.
pub fn until<T>(what: &str, limit: Duration, mut poll: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Moment::now();
    loop {
        if let Some(found) = poll().with_context(|| format!("while waiting for {what}"))? {
            return Ok(found);
        }
        if Moment::now().since(start) >= limit {
            bail!("waited {limit:?} in vain for {what}");
        }
        thread::sleep(PAUSE);
    }
}

/// The same for a condition that is either true or not yet.
pub fn until_true(what: &str, limit: Duration, mut poll: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, limit, || Ok(poll()?.then_some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_was_found() {
        let mut polls = 0;
        let found = until("the third poll", Duration::from_secs(5), || {
            polls += 1;
            Ok((polls == 3).then_some(polls))
        });
        assert_eq!(found.unwrap(), 3);
    }

    #[test]
    fn says_what_it_waited_for() {
        let error = until_true("a miracle", Duration::from_millis(1), || Ok(false)).unwrap_err();
        assert!(error.to_string().contains("a miracle"), "{error}");
        let error = until_true("a miracle", Duration::from_secs(5), || bail!("no")).unwrap_err();
        assert!(format!("{error:#}").contains("while waiting for a miracle: no"), "{error:#}");
    }
}
