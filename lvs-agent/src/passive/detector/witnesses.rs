//! Witnesses: siblings that have answered a client network since a server fell silent. The network and its way are fine
//! then, so that each of its connections that waits for the silent server is evidence of its own, as if it came from
//! another network.

use std::time::Duration;

use lvs_common::{LayerState, ServerAnswered, ServerId, ServerWaiting, Sketch, WaitingConnections};

use super::{Detector, finding::Layer, readings::Readings, time::nanos};

/// The connections of a layer.
pub(super) fn of_layer(waiting: &ServerWaiting, layer: Layer) -> &WaitingConnections {
    match layer {
        Layer::Host => &waiting.listener,
        Layer::Application => &waiting.application,
    }
}

impl Detector {
    /// When the connections began to wait that count beside the first ones of their networks: their networks have
    /// siblings for witnesses. `first_ns` is the beginning of this silence.
    ///
    /// Empty where as many networks wait as are remembered: that is evidence enough, or a flood.
    pub(super) fn witnessed(
        &self,
        id: ServerId,
        layer: Layer,
        state: &LayerState,
        first_ns: u64,
        readings: &impl Readings,
    ) -> Vec<u64> {
        if state.attempts <= state.waiting || state.beginnings().len() == LayerState::REMEMBERED {
            return Vec::new();
        }
        // What a sibling answered just before may be acknowledged now: it must have been asked since.
        let usual = self.histories.get(id).and_then(|history| history.listener.usual());
        let way = usual.map_or(Duration::ZERO, |usual| usual.nearly_all.unwrap_or(usual.half));
        let from_ns = first_ns.saturating_add(nanos(way));
        let has_answered = |network: u8| {
            self.siblings_up(id).any(|(sibling, _)| {
                ServerAnswered::is_after(readings.answered(sibling, layer, network), from_ns)
            })
        };
        let (mut asked, mut fine) = (Sketch::NONE, Sketch::NONE);
        let waiting = readings.waiting(id);
        let further = of_layer(&waiting, layer).further();
        let counts = |&(_, network): &(u64, u8)| {
            if asked.add(network.into()) && has_answered(network) {
                fine.add(network.into());
            }
            fine.has(network)
        };
        further.filter(counts).map(|(since_ns, _)| since_ns).collect()
    }
}
