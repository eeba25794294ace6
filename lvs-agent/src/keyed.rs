//! Maps and sets on the hot path of checks. Their keys come from the configuration and from the kernel's table, so that
//! they need a fast hash, and none that withstands an attacker.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

/// A map with a fast hash that is not safe against chosen keys.
pub(crate) type KeyMap<K, V> = HashMap<K, V, RandomState>;

/// A set with the same hash.
pub(crate) type KeySet<K> = HashSet<K, RandomState>;
