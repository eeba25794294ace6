//! What the kernel counts, for the status: read when somebody asks, and shared by those who ask at about the same time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, task::spawn_blocking, time::timeout};

use crate::{
    ipvs::{CountedTable, TableReader},
    netlink::DEFAULT_TIMEOUT,
};

/// How old a reading may be if nothing has happened since: the kernel makes its estimates anew every two seconds.
const FRESH: Duration = Duration::from_millis(1900);
/// How long a status waits for it. The kernel takes some milliseconds for a thousand servers.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads the kernel's table with its counters. Clones share one reader.
#[derive(Clone, Default)]
pub(super) struct KernelCounters(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    reader: Option<TableReader>,
    last: Option<Reading>,
}

struct Reading {
    at: Instant,
    /// The number of the last event before it.
    event: u64,
    table: Arc<CountedTable>,
}

impl std::fmt::Debug for KernelCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KernelCounters")
    }
}

impl KernelCounters {
    /// The table as it is, where `event` is the number of the last event. The error is for people.
    pub(super) async fn read(&self, event: u64) -> Result<Arc<CountedTable>, String> {
        let read = async {
            let mut kept = self.0.clone().lock_owned().await;
            if let Some(last) = &kept.last
                && last.event == event
                && last.at.elapsed() < FRESH
            {
                return Ok(last.table.clone());
            }
            // The lock goes along: a kernel that takes longer than anybody waits is asked once at a time.
            let reading = spawn_blocking(move || kept.refresh(event)).await;
            reading.map_err(|error| error.to_string())?
        };
        let late = |_| Err(format!("the kernel took longer than {} s", PATIENCE.as_secs()));
        timeout(PATIENCE, read).await.unwrap_or_else(late)
    }
}

impl Kept {
    fn refresh(&mut self, event: u64) -> Result<Arc<CountedTable>, String> {
        let reader = self.reader.get_or_insert_with(|| TableReader::new(DEFAULT_TIMEOUT));
        let table = Arc::new(reader.counted_table().map_err(|error| error.to_string())?);
        self.last = Some(Reading { at: Instant::now(), event, table: table.clone() });
        Ok(table)
    }
}
