//! One connection, as far as its answer and its end must know of each other.

use std::{cell::Cell, net::IpAddr, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long a connection may take for all, reading the answer included: Prometheus gives up after 10 s.
const WHOLE: Duration = Duration::from_secs(15);
/// How long a page's stream may last; then the browser opens another one.
const STREAM: Duration = Duration::from_hours(1);

/// A client's connection.
pub(super) struct Visit {
    pub(super) address: IpAddr,
    /// Whether its answer is a page's stream.
    pub(super) is_streaming: Cell<bool>,
    /// Cancelled if the page doesn't read its stream.
    pub(super) too_slow: CancellationToken,
}

impl Visit {
    pub(super) fn new(address: IpAddr) -> Self {
        Self { address, is_streaming: Cell::new(false), too_slow: CancellationToken::new() }
    }

    /// Returns when the connection has lasted for as long as it may.
    pub(super) async fn limit(&self) {
        let time = async {
            sleep(WHOLE).await;
            if self.is_streaming.get() {
                sleep(STREAM).await;
            }
        };
        tokio::select! {
            () = time => {}
            () = self.too_slow.cancelled() => {}
        }
    }
}
