//! Maps and sets that every check looks into. Their keys come from the configuration and from the kernel's table, so that
//! they need no hash that withstands an attacker, only a fast one.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

pub(crate) type KeyMap<K, V> = HashMap<K, V, RandomState>;

pub(crate) type KeySet<K> = HashSet<K, RandomState>;
