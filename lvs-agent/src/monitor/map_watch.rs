//! A look at the fill of the eBPF maps now and then, in a task of its own: counting a full map takes its time.

use std::{sync::Arc, time::Duration};

use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{passive::OpenHandshakes, telemetry::metrics};

/// How often handshakes are counted. A full map takes 0.1 s of a processor: 1 in 300.
const EVERY: Duration = Duration::from_secs(30);

/// Who counts.
pub(crate) struct MapWatch {
    /// `None`: the map can't be read.
    pub(super) handshakes: Option<Arc<OpenHandshakes>>,
}

impl MapWatch {
    /// Counts until `shutdown`.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let Some(handshakes) = self.handshakes else { return };
        loop {
            let counting = handshakes.clone();
            let count = async {
                // It fails only where the runtime ends.
                let counted = spawn_blocking(move || counting.count()).await;
                if let Ok(count) = counted {
                    metrics::publish_map_fill("handshakes", count, handshakes.capacity());
                }
                sleep(EVERY).await;
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = count => {}
            }
        }
    }
}
