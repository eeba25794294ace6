//! The rest of pages whose verdict is known. It is read to its end, so that the server's connection isn't reset in the
//! middle, which servers log as an error of the client; and without holding up the verdict.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::{task::JoinSet, time};
use tokio_util::task::AbortOnDropHandle;

/// How much of a page is read though nothing depends on it. More would be a load, where a reset is none.
const MOST: u64 = 16 << 20;
/// How long that may take: [`MOST`] takes 1.3 s at 100 Mbit/s.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long the verdict waits for it: the rest of a small page is there already, or one round trip away.
const AT_ONCE: Duration = Duration::from_millis(20);
/// How many pages are read to their end behind the verdict at once: each keeps a connection, and a buffer in the kernel
/// of some hundred KiB. Pages beyond are cut off.
const MOST_AT_ONCE: usize = 64;

/// Pages that are read to their end. Clones share them; the end of the last one ends all.
#[derive(Clone, Debug, Default)]
pub(in crate::probe) struct Rests(Arc<Mutex<JoinSet<()>>>);

impl Rests {
    /// Reads the rest of a body that comes over a connection, of which `connection` is the task. It returns soon.
    pub(super) async fn read(&self, mut body: Incoming, connection: AbortOnDropHandle<()>) {
        if body.is_end_stream() || body.size_hint().lower() > MOST {
            return;
        }
        let mut left = MOST;
        if time::timeout(AT_ONCE, read(&mut body, &mut left)).await.is_ok() {
            return;
        }
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What went wrong with the others doesn't matter any more.
        while tasks.try_join_next().is_some() {}
        if tasks.len() < MOST_AT_ONCE {
            tasks.spawn(async move {
                let _connection = connection;
                if time::timeout(TIMEOUT, read(&mut body, &mut left)).await.is_err() {
                    tracing::trace!("the rest of a page took too long, and is cut off");
                }
            });
        }
    }
}

/// Reads until the end, or until nothing is `left` of what is read at most. A fault ends the page, too.
async fn read(body: &mut Incoming, left: &mut u64) {
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        *left = left.saturating_sub(length);
        if *left == 0 {
            return;
        }
    }
}
