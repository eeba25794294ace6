//! How many files this process may have open: each check, each confirming probe and each client of the control socket
//! takes one.

use std::num::NonZeroUsize;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{debug, warn};

/// The part of the open files that checks may take at once; the others are for confirming probes, `status`, the table.
const PART_OF_CHECKS: usize = 2;

/// Raises the soft limit to the hard one: the usual soft limit of 1024 is for programs with `select`, and a director
/// with a thousand silent servers needs more. Returns the limit that holds now.
pub(super) fn raise_limit() -> Option<usize> {
    let limits = getrlimit(Resource::RLIMIT_NOFILE);
    let raised = limits.and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    match raised {
        Ok(limit) => {
            debug!("up to {limit} open files");
            usize::try_from(limit).ok()
        }
        Err(error) => {
            warn!("cannot raise the limit of open files: {error}; set LimitNOFILE in the agent's unit");
            limits.ok().and_then(|(soft, _)| usize::try_from(soft).ok())
        }
    }
}

/// How many checks may run at once with this limit of open files: no more than `most`.
pub(super) fn checks_at_once(limit: Option<usize>, most: NonZeroUsize) -> NonZeroUsize {
    let room = limit.and_then(|limit| NonZeroUsize::new(limit / PART_OF_CHECKS));
    room.map_or(most, |room| room.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_leave_files_for_the_rest() {
        let most = NonZeroUsize::new(1024).unwrap();
        let cases =
            [(None, 1024), (Some(0), 1024), (Some(256), 128), (Some(1024), 512), (Some(524_288), 1024)];
        for (limit, expected) in cases {
            assert_eq!(checks_at_once(limit, most).get(), expected, "{limit:?}");
        }
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);
    }
}
