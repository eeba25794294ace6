//! What `/metrics` shows. Names follow Prometheus' rules: base units, `_total` for what only grows.

mod passive;
mod probes;
mod state;

use std::net::SocketAddr;

use anyhow::Context as _;
use lvs_common::Doubts;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, ExporterFuture, Matcher, PrometheusBuilder};

pub(crate) use self::{
    passive::Passive,
    probes::{ProbeKind, Probes},
    state::Standings,
};

use crate::{
    engine::Decisions,
    model::DestinationKey,
    passive::{Evidence, Suspicion},
};

/// From well below a millisecond to a second: what probes and edits take.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Opens the port and makes the recorder that all metrics go to. The future serves them.
pub(crate) fn start(address: SocketAddr) -> anyhow::Result<ExporterFuture> {
    let (recorder, serve) = with_buckets(PrometheusBuilder::new().with_http_listener(address))
        .and_then(PrometheusBuilder::build)
        .with_context(|| {
            format!(
                "can't serve metrics on {address}; is the port in use? Set `metrics` in `[agent]` to another \
                     address, or to \"off\""
            )
        })?;
    metrics::set_global_recorder(recorder).context("metrics are recorded already")?;
    describe();
    Ok(serve)
}

fn with_buckets(builder: PrometheusBuilder) -> Result<PrometheusBuilder, BuildError> {
    let mut builder = builder.set_buckets(&SECONDS)?;
    for name in passive::HISTOGRAMS {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), &passive::bounds())?;
    }
    Ok(builder)
}

fn describe() {
    describe_gauge!("lvs_server_up", "1 if the server is up (hard state), 0 if it is down, NaN if unknown");
    describe_gauge!(
        "lvs_server_weight",
        "Weight that the server shall have in the table; NaN if it shall not be there"
    );
    describe_gauge!("lvs_server_relapses", "How often the server went down soon after it had come back");
    describe_gauge!("lvs_server_held", "1 if people hold the server out, whatever its health");
    describe_gauge!("lvs_service_quorum", "1 if enough servers are healthy, 0 if not, NaN if unknown");
    describe_gauge!("lvs_service_alarm", "1 while the fast path holds servers in that look dead");
    describe_gauge!("lvs_service_backups", "Backup servers that shall be in the table");
    describe_counter!("lvs_suspicions_total", "Passive suspicions raised, by kind, layer and strength");
    describe_counter!("lvs_suspicions_cleared_total", "Passive suspicions that a probe has cleared");
    describe_counter!(
        "lvs_suspicions_reported_total",
        "Suspicions of an application that no check of the service could confirm"
    );
    describe_counter!(
        "lvs_overloaded_total",
        "Times that a living server was seen to take no new connections"
    );
    describe_counter!(
        "lvs_common_suspicions_total",
        "Suspicions not acted on because most of a service was suspected"
    );
    describe_counter!("lvs_probes_total", "Probes sent, by kind (baseline, confirm, ping) and outcome");
    describe_counter!("lvs_probes_withheld_total", "Suspicions that found the probe budget empty");
    describe_counter!("lvs_table_edits_total", "Edits of the kernel's table, by result");
    describe_histogram!("lvs_table_edit_seconds", Unit::Seconds, "Time the kernel took for an edit");
    describe_gauge!(
        "lvs_table_reachable",
        "1 if the kernel's table can be read, 0 if nothing can be done to it"
    );
    describe_counter!(
        "lvs_table_interferences_total",
        "Times that others changed one of the managed services, and it was or will be changed back"
    );
    describe_gauge!(
        "lvs_table_contended",
        "1 while others keep changing the service, so that it is changed back ever more rarely"
    );
    describe_counter!("lvs_mails_total", "Mails, by result");
    describe_counter!(
        "lvs_notifications_lost_total",
        "Notifications left out because too many were waiting, by kind"
    );
    describe_counter!(
        "lvs_passive_recording_dropped_total",
        "Entries left out of a recording because the disk was too slow"
    );
    describe_counter!("lvs_passive_stalls_total", "Times that the director itself had no time to look");
    describe_gauge!("lvs_passive_maps_bytes", Unit::Bytes, "Memory of the kernel side's maps");
    describe_counter!("lvs_passive_edges_lost_total", "Edges that found the ring buffer full");
    describe_counter!("lvs_passive_handshakes_lost_total", "Handshakes that could not be remembered");
    describe_counter!(
        "lvs_passive_unattributed_total",
        "Packets the kernel side could not or did not attribute, by reason"
    );
    passive::describe();
}

/// Shows what was not attributed.
pub(crate) fn publish_doubts(doubts: &Doubts) {
    let &Doubts {
        other_protocol,
        no_server,
        unknown_tunnel,
        fragment,
        malformed,
        vlan,
        extensions,
        edge_lost,
        handshake_lost,
        bad_server_id,
        spare: _,
    } = doubts;
    for (reason, value) in [
        ("other-protocol", other_protocol),
        ("no-server", no_server),
        ("unknown-tunnel", unknown_tunnel),
        ("fragment", fragment),
        ("malformed", malformed),
        ("vlan", vlan),
        ("extensions", extensions),
        ("bad-server-id", bad_server_id),
    ] {
        counter!("lvs_passive_unattributed_total", "reason" => reason).absolute(value);
    }
    counter!("lvs_passive_edges_lost_total").absolute(edge_lost);
    counter!("lvs_passive_handshakes_lost_total").absolute(handshake_lost);
}

/// Shows how much memory the kernel side's maps take.
#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
pub(crate) fn publish_maps(bytes: u64) {
    gauge!("lvs_passive_maps_bytes").set(bytes as f64);
}

fn labels(decisions: &Decisions, destination: &DestinationKey) -> [(&'static str, String); 2] {
    [("service", decisions.service_name(destination).to_owned()), ("server", destination.server.to_string())]
}

/// Counts a suspicion.
pub(crate) fn count_suspicion(suspicion: &Suspicion) {
    let labels = [
        ("kind", kind(&suspicion.evidence).to_owned()),
        ("layer", suspicion.layer.to_string()),
        ("strength", suspicion.strength.to_string()),
    ];
    counter!("lvs_suspicions_total", &labels).increment(1);
}

/// Counts a suspicion that was only reported.
pub(crate) fn count_reported(decisions: &Decisions, destination: &DestinationKey) {
    counter!("lvs_suspicions_reported_total", &labels(decisions, destination)).increment(1);
}

/// Counts that a server was seen to be overloaded.
pub(crate) fn count_overloaded(decisions: &Decisions, destination: &DestinationKey) {
    counter!("lvs_overloaded_total", &labels(decisions, destination)).increment(1);
}

fn kind(evidence: &Evidence) -> &'static str {
    match evidence {
        Evidence::Refused { .. } => "refused",
        Evidence::Unreachable { .. } => "unreachable",
        Evidence::NeighbourFailed => "neighbour-failed",
        Evidence::Silent { .. } => "silent",
        Evidence::SentAgain { .. } => "sent-again",
        Evidence::Outpaced { .. } => "outpaced",
        Evidence::Overloaded { .. } => "overloaded",
    }
}
