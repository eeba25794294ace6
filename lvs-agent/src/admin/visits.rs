//! What visitors of the metrics' port are told: the same as who asks at the control socket.

use std::{sync::Arc, time::Duration};

use tokio::task::spawn_blocking;

use super::{
    AdminHandler, TIMEOUT, ask,
    events::{self, Query},
};
use crate::{
    control::{Events, Status},
    model::DestinationKey,
    telemetry::source::{Asked, StatusSource, TableWeight},
};

impl StatusSource for AdminHandler {
    fn table_weights(&self) -> Asked<'_, Vec<TableWeight>> {
        Box::pin(async {
            let found = ask(&self.weights, TIMEOUT).await?;
            let services = self.services.borrow().clone();
            let mut weights = Vec::new();
            for service in services.iter() {
                // A backup is in the table only while it is needed; then it is shown like any other.
                for destination in service.all_destinations() {
                    let destination = DestinationKey { service: service.key, server: destination.server };
                    let Some(weight) = found.get(&destination) else { continue };
                    weights.push(TableWeight {
                        service: service.name.clone(),
                        destination,
                        weight: weight.0,
                    });
                }
            }
            Ok(weights)
        })
    }

    fn status(&self, max_age: Duration) -> Asked<'_, Arc<Status>> {
        Box::pin(async move { Ok(self.shared_status(max_age).await?.status) })
    }

    fn events(&self, after: Option<(u64, u64)>, few: usize) -> Asked<'_, Events> {
        Box::pin(async move {
            let history = self.own.history.clone();
            let newest = history.newest();
            let known = after.filter(|(instance, _)| *instance == history.instance());
            if let Some((instance, next)) = known.filter(|(_, last)| *last == newest) {
                return Ok(Events { instance, next, ..Events::default() });
            }
            let few = u64::try_from(few).unwrap_or(u64::MAX);
            let first = known.map_or(0, |(_, last)| last).max(newest.saturating_sub(few));
            let query = Query { after: Some(first), ..Query::default() };
            spawn_blocking(move || events::answer(&history, &query)).await.map_err(|error| error.to_string())
        })
    }
}
