//! A look at what surrounds the programs every few seconds: what IPVS has counted by itself, and whose programs or
//! filters come before theirs. In a task of its own, because the kernel may take its time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch as latest},
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    ipvs::TableReader,
    model::{AttachOrder, DestinationKey, TcxOrder},
    netlink::DEFAULT_TIMEOUT,
    network::{Device, Filters},
    passive::{
        self,
        blindness::{Packets, Way},
    },
};

/// How often it looks: the kernel renews its counts every two seconds (`net/netfilter/ipvs/ip_vs_est.c`).
const EVERY: Duration = Duration::from_secs(3);
/// The pause after a look is at least so many times as long as the look: a long table takes a twentieth of a processor.
const PAUSE_FACTOR: u32 = 20;

/// What one look has found.
#[derive(Debug, Default)]
pub(crate) struct HookReport {
    /// What IPVS has counted; `None`: its table can't be read.
    pub(super) counted: Option<BTreeMap<DestinationKey, Packets>>,
    /// Programs and filters of others that come first, by device; a device of which that is not known is missing.
    pub(super) in_front: BTreeMap<(String, Way), Vec<String>>,
}

/// Who looks.
pub(crate) struct HookWatch {
    /// The devices that are watched.
    pub(super) devices: latest::Receiver<Vec<Device>>,
    /// The kernel's numbers for the programs, if they are known.
    pub(super) programs: Option<[u32; 2]>,
    pub(super) order: AttachOrder,
    pub(super) found: mpsc::Sender<HookReport>,
}

impl HookWatch {
    /// Looks until `shutdown`.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut pause = Duration::ZERO;
        let mut reader = Some(TableReader::new(DEFAULT_TIMEOUT));
        let mut filters = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(pause) => {}
            }
            let started = Instant::now();
            let look = async {
                let counted = counted(&mut reader).await;
                HookReport { counted, in_front: self.in_front(&mut filters).await }
            };
            let report = tokio::select! {
                () = shutdown.cancelled() => return,
                report = look => report,
            };
            pause = EVERY.max(PAUSE_FACTOR * started.elapsed());
            // Where the last one still waits the monitor is busy, and the next comes soon.
            self.found.try_send(report).ok();
        }
    }

    async fn in_front(&self, filters: &mut Option<Filters>) -> BTreeMap<(String, Way), Vec<String>> {
        let devices = self.devices.borrow().clone();
        let mut all = BTreeMap::new();
        for device in devices {
            let found = if passive::uses_tcx() {
                self.on_tcx(device.name.clone()).await
            } else {
                self.on_clsact(filters, device.index).await
            };
            for (way, names) in Way::ALL.into_iter().zip(found.into_iter().flatten()) {
                all.insert((device.name.clone(), way), names);
            }
        }
        all
    }

    /// Programs that come first against the configured order.
    async fn on_tcx(&self, device: String) -> Option<[Vec<String>; 2]> {
        if self.order.tcx == TcxOrder::Last {
            return Some([Vec::new(), Vec::new()]);
        }
        let programs = self.programs?;
        let found = spawn_blocking(move || passive::in_front_on_tcx(&device, programs)).await.ok()??;
        let is_wanted = |name: &String| matches!(&self.order.tcx, TcxOrder::After(wanted) if wanted == name);
        Some(found.map(|names| names.into_iter().filter(|name| !is_wanted(name)).collect()))
    }

    async fn on_clsact(&self, filters: &mut Option<Filters>, device: u32) -> Option<[Vec<String>; 2]> {
        if filters.is_none() {
            *filters = Filters::connect(DEFAULT_TIMEOUT).await.ok();
        }
        let found = filters.as_mut()?.before(device, self.order.clsact_priority.get()).await;
        found.inspect_err(|error| debug!("{error:#}")).ok()
    }
}

/// What IPVS has counted. After a failure it is tried again with a new reader.
async fn counted(reader: &mut Option<TableReader>) -> Option<BTreeMap<DestinationKey, Packets>> {
    let mut own = reader.take().unwrap_or_else(|| TableReader::new(DEFAULT_TIMEOUT));
    let (own, table) = spawn_blocking(move || {
        let table = own.counted_table();
        (own, table)
    })
    .await
    .ok()?;
    *reader = Some(own);
    let statistics = table.inspect_err(|error| debug!("{error:#}")).ok()?.statistics;
    let packets = |traffic: crate::ipvs::Statistics| Packets {
        out: traffic.packets_in,
        into: Some(traffic.packets_out),
    };
    Some(statistics.destinations.into_iter().map(|(key, one)| (key, packets(one.traffic))).collect())
}
