//! Numbers that nobody outside can guess.

use std::hash::{BuildHasher, Hasher, RandomState};

/// 64 bits: a hash with keys that are new each time.
pub(super) fn number() -> u64 {
    RandomState::new().build_hasher().finish()
}
