//! The metrics under `/metrics`. Names follow Prometheus' rules: base units, `_total` for counters.

mod announce;
mod events;
mod exposition;
mod passive;
mod probes;
mod process;
mod second_chance;
mod series;
mod server;
mod state;
mod table;

use std::net::SocketAddr;

use anyhow::Context as _;
use lvs_common::UnattributedCounters;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};

pub(crate) use self::{
    announce::{count_announce_failure, count_lost_lines, show_announced},
    events::EventCounters,
    passive::Passive,
    second_chance::{count_held_back, count_refused_late, count_retried, count_second_chance},
    server::MetricsServer,
    state::StateGauges,
};

use self::{
    exposition::Exposition,
    series::{Series, SeriesRecorder},
};
use crate::{
    engine::Engine,
    log::LostLines,
    model::{DestinationKey, Mode},
};

/// The buckets for edits, from well below a millisecond to a second.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The buckets for failovers, from the first evidence to the edit.
const FAILOVER_SECONDS: [f64; 13] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Opens the port and installs the recorder of all metrics.
pub(crate) fn start(address: SocketAddr, mode: Mode, lost_lines: LostLines) -> anyhow::Result<MetricsServer> {
    let (recorder, exposition) = recorder().context("the buckets of histograms")?;
    let server = MetricsServer::open(address, exposition, lost_lines).with_context(|| {
        format!(
            "can't serve metrics on {address}; is the port in use? Set `metrics` in `[agent]` to another \
             address, or to \"off\""
        )
    })?;
    metrics::set_global_recorder(recorder).context("metrics are recorded already")?;
    describe();
    gauge!("lvs_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
    gauge!("lvs_agent_info", "mode" => mode.to_string()).set(1);
    Ok(server)
}

/// What records all metrics, and what shows them.
fn recorder() -> Result<(SeriesRecorder, Exposition), BuildError> {
    let exporter = with_buckets(PrometheusBuilder::new())?.build_recorder();
    let series = Series::default();
    for name in passive::HISTOGRAMS {
        series.set_bounds(name, &passive::bounds());
    }
    let exposition = Exposition::new(&exporter, series.clone());
    Ok((SeriesRecorder { exporter, series }, exposition))
}

/// Sets the count of lines of the log that were lost.
fn refresh_log(lost_lines: &LostLines) {
    counter!("lvs_log_lines_lost_total").absolute(lost_lines.total());
}

fn with_buckets(builder: PrometheusBuilder) -> Result<PrometheusBuilder, BuildError> {
    let failover = Matcher::Full("lvs_failover_seconds".to_owned());
    builder.set_buckets(&SECONDS)?.set_buckets_for_metric(failover, &FAILOVER_SECONDS)
}

fn describe() {
    describe_state();
    describe_suspicions();
    describe_others();
    passive::describe();
    second_chance::describe();
    announce::describe();
}

/// The agent, its servers and services.
fn describe_state() {
    describe_gauge!("lvs_build_info", "1, with the version of the program");
    describe_gauge!("lvs_agent_info", "1, with the mode that the agent runs in");
    describe_gauge!(
        "lvs_config_last_reload_successful",
        "1 if the last reading of the configuration succeeded"
    );
    describe_gauge!(
        "lvs_config_last_reload_success_timestamp_seconds",
        Unit::Seconds,
        "When the configuration in force was read"
    );
    describe_gauge!(
        "lvs_server_info",
        "1, with the labels of node_exporter's node_ipvs_* series of the same server"
    );
    describe_gauge!(
        "lvs_server_state_since_timestamp_seconds",
        Unit::Seconds,
        "Since when the server is in its state"
    );
    describe_gauge!("lvs_check_success", "1 if the last result of the check was a success, 0 if a failure");
    describe_gauge!("lvs_check_timestamp_seconds", Unit::Seconds, "When the check had its last result");
    describe_histogram!("lvs_check_seconds", Unit::Seconds, "How long regular checks took, by kind of check");
    describe_histogram!(
        "lvs_failover_seconds",
        Unit::Seconds,
        "Time from the first evidence against a server that has failed to the edit that took it out"
    );
    describe_gauge!("lvs_server_up", "1 if the server is up (hard state), 0 if it is down");
    describe_gauge!("lvs_server_weight", "Desired weight of the server in the kernel's table");
    describe_gauge!("lvs_server_table_weight", "Weight of the server in the kernel's table as it is");
    describe_gauge!(
        "lvs_server_relapses",
        "Times that the server went down again soon after it had come back"
    );
    describe_gauge!(
        "lvs_server_admin_out",
        "1 while the server is out by a command, a maintenance file or an \
         administrator's weight 0, whatever its health"
    );
    describe_gauge!(
        "lvs_server_contradiction",
        "1 while the server's clients fail and its checks succeed, 0 otherwise"
    );
    describe_gauge!("lvs_server_held", "Deprecated, removed in the next version: use lvs_server_admin_out");
    describe_gauge!("lvs_service_quorum", "1 if enough servers are healthy, 0 if not");
    describe_gauge!(
        "lvs_service_alarm",
        "1 while servers that look dead are retained because too much of the service would be out"
    );
    describe_gauge!("lvs_service_backups", "Backup servers that should be in the table");
}

/// Suspicions and probes.
fn describe_suspicions() {
    describe_counter!("lvs_suspicions_total", "Passive suspicions raised, by kind, layer and strength");
    describe_counter!("lvs_hints_total", "Hints that a server may have failed, by kind, layer and result");
    describe_counter!("lvs_suspicions_cleared_total", "Passive suspicions that a probe has cleared");
    describe_counter!(
        "lvs_suspicions_reported_total",
        "Suspicions of an application that no check of the service could confirm"
    );
    describe_counter!(
        "lvs_overloaded_total",
        "Times that a server accepted no new connections while it answered established ones"
    );
    describe_counter!(
        "lvs_contradictions_total",
        "Times that a server's clients began to fail while its checks succeeded"
    );
    describe_counter!(
        "lvs_common_suspicions_total",
        "Suspicions without consequence because most of a service was suspected at once"
    );
    describe_counter!(
        "lvs_probes_total",
        "Probes sent, by kind (baseline, confirm, hint, return, ping) and outcome"
    );
    describe_counter!(
        "lvs_probes_withheld_total",
        "Suspicions not probed because the probe budget was exhausted"
    );
    describe_gauge!("lvs_idle_connections", "Idle connections that are established");
    describe_counter!(
        "lvs_idle_connection_ends_total",
        "Idle connections that have ended or could not be established, by how (fin, rst, refused, unanswered, closed)"
    );
}

/// The kernel's table, notifications, and the eBPF programs as a whole.
fn describe_others() {
    describe_counter!("lvs_table_edits_total", "Edits of the kernel's table, by result");
    describe_histogram!("lvs_table_edit_seconds", Unit::Seconds, "Time the kernel took for an edit");
    describe_gauge!("lvs_table_reachable", "1 if the kernel's table can be read and edited, 0 if not");
    describe_counter!(
        "lvs_table_interferences_total",
        "Times that others changed a managed service; each change is reverted"
    );
    describe_gauge!(
        "lvs_table_contended",
        "1 while others keep changing the service, so that it is repaired at growing intervals"
    );
    describe_gauge!("lvs_director_active", "1 if this director is active, 0 if it is standby");
    describe_gauge!(
        "lvs_sync_daemon",
        "1 if the kernel's synchronisation daemon runs as configured, 0 if not, by its role"
    );
    describe_counter!(
        "lvs_passive_stalls_total",
        "Times that the director was starved of CPU, so that a tick came at least 20 ms late"
    );
    describe_gauge!("lvs_passive_maps_bytes", Unit::Bytes, "Memory of the eBPF maps");
    describe_gauge!("lvs_passive_map_entries", "Entries of an eBPF map");
    describe_gauge!("lvs_passive_map_max_entries", "Entries that an eBPF map has room for");
    describe_counter!(
        "lvs_passive_edges_lost_total",
        "Urgent events of the eBPF programs that were lost because the ring buffer was full"
    );
    describe_counter!(
        "lvs_passive_handshakes_lost_total",
        "Handshakes not tracked because the eBPF map was full"
    );
    describe_counter!(
        "lvs_log_lines_lost_total",
        "Lines of the log that were lost because their target was too slow or gone"
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
    describe_counter!(
        "lvs_passive_unattributed_total",
        "Packets that the eBPF programs did not attribute to a server, by reason"
    );
}

/// Sets the counters of packets that were not attributed, and of what was lost.
pub(crate) fn publish_unattributed(counters: &UnattributedCounters) {
    let &UnattributedCounters {
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
    } = counters;
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

/// Sets how many entries a map has, and how many there is room for.
pub(crate) fn publish_map_fill(map: &'static str, entries: u32, capacity: u32) {
    gauge!("lvs_passive_map_entries", "map" => map).set(entries);
    gauge!("lvs_passive_map_max_entries", "map" => map).set(capacity);
}

/// Counts a tick that came late because the director was starved of CPU.
pub(crate) fn count_stall() {
    counter!("lvs_passive_stalls_total").increment(1);
}

/// Counts an entry that is missing in the recording.
pub(crate) fn count_dropped_records() {
    counter!("lvs_passive_recording_dropped_total").increment(1);
}

/// Sets the memory of the eBPF maps.
#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
pub(crate) fn publish_maps(bytes: u64) {
    gauge!("lvs_passive_maps_bytes").set(bytes as f64);
}

fn labels(engine: &Engine, destination: &DestinationKey) -> [(&'static str, String); 2] {
    [("service", engine.service_name(destination).to_string()), ("server", destination.server.to_string())]
}

#[cfg(test)]
mod tests;
