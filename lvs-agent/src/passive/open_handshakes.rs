//! How many handshakes are open: the fill of the one map whose entries come and go with packets.

use aya::maps::{HashMap, Map, MapData};
use lvs_common::{Handshake, HandshakeKey, map};

use super::error::{PassiveError, map_error};

/// The map of open handshakes, to be counted.
pub struct OpenHandshakes {
    map: HashMap<MapData, [u8; size_of::<HandshakeKey>()], [u8; size_of::<Handshake>()]>,
    capacity: u32,
}

impl OpenHandshakes {
    pub(super) fn new(map: Map, capacity: u32) -> Result<Self, PassiveError> {
        Ok(Self { map: map.try_into().map_err(map_error(map::HANDSHAKES))?, capacity })
    }

    /// How many there is room for; then the least recently used one gives way.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many there are. The kernel keeps no count: this walks over all of them, a system call for each, which is
    /// below 0.1 s for the largest map. Where entries go meanwhile the walk may begin anew, so that it is bounded.
    #[must_use]
    pub fn count(&self) -> u32 {
        let most = usize::try_from(self.capacity).unwrap_or(usize::MAX);
        let found = self.map.keys().take(most).flatten().count();
        u32::try_from(found).unwrap_or(u32::MAX)
    }
}
