//! What a director finds as it becomes active. Pure.

use super::Engine;
use crate::{event::Takeover, health::State, model::DestinationKey};

impl Engine {
    /// How things are, and the servers whose state is in doubt: those that are not well for sure. Servers that people
    /// hold out are among them only if they are not well either.
    pub(crate) fn takeover(&self) -> (Takeover, Vec<DestinationKey>) {
        let states = || {
            self.destinations().filter_map(|(destination, ..)| Some((destination, self.state(&destination)?)))
        };
        let doubtful: Vec<_> = states()
            .filter(|(_, state)| !matches!(state, State::Up))
            .map(|(destination, _)| destination)
            .collect();
        let takeover = Takeover {
            services: self.services().count(),
            servers: self.destinations().count(),
            down: states().filter(|(_, state)| state.is_down()).count(),
            asked: doubtful.len(),
        };
        (takeover, doubtful)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::{
        config::native,
        engine::Engine,
        health::{Sample, Source},
        pool::Presence,
    };

    #[test]
    fn those_that_are_not_well_for_sure_are_in_doubt() {
        let server = |last| format!("[[service.server]]\naddress = \"10.0.0.{last}\"\n");
        let servers = (1..=4).map(server).collect::<Vec<_>>().concat();
        let text = format!("[[service]]\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\n{servers}");
        let services = native::read(&text, "test.toml".as_ref()).expect("it is a configuration").services;
        let mut engine = Engine::new(&services, |_| Presence::In);
        let keys: Vec<_> = engine.destinations().map(|(key, ..)| key).collect();
        let now = Instant::now();
        // Up, suspect, down, and one of which nothing is known yet.
        for (key, results) in keys.iter().zip([&[true][..], &[true, false], &[true, false, false, false]]) {
            for success in results {
                let sample = Sample { check: Some(0), success: *success, source: Source::Baseline };
                engine.observe(key, sample, None, now);
            }
        }
        let (takeover, doubtful) = engine.takeover();
        assert_eq!((takeover.services, takeover.servers, takeover.down, takeover.asked), (1, 4, 1, 3));
        assert_eq!(doubtful, keys[1..]);
    }
}
