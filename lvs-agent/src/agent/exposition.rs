//! What `/metrics` shows. Names follow Prometheus' rules: base units, `_total` for what only grows.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::Context as _;
use lvs_common::{Doubts, ServerCounters, ServerId};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{ExporterFuture, PrometheusBuilder};

use super::decisions::Decisions;
use crate::{
    config::VirtualService,
    passive::{Detector, Signals, Target, Targets},
    service::DestinationKey,
};

/// From well below a millisecond to a second: what probes and edits take.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Opens the port and makes the recorder that all metrics go to. The future serves them.
pub(super) fn start(address: SocketAddr) -> anyhow::Result<ExporterFuture> {
    let (recorder, serve) = PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets(&SECONDS)
        .and_then(PrometheusBuilder::build)
        .with_context(|| {
            format!(
                "can't serve metrics on {address}; is the port in use? Set `metrics` in `[agent]` to another address, \
                 or to \"off\""
            )
        })?;
    metrics::set_global_recorder(recorder).context("metrics are recorded already")?;
    describe();
    Ok(serve)
}

fn describe() {
    describe_gauge!("lvs_server_up", "1 if the server is up (hard state), 0 if it is down, NaN if unknown");
    describe_gauge!(
        "lvs_server_weight",
        "Weight that the server shall have in the table; absent if it shall not be there"
    );
    describe_counter!("lvs_suspicions_total", "Passive suspicions raised, by strength");
    describe_counter!("lvs_suspicions_cleared_total", "Passive suspicions that a probe has cleared");
    describe_counter!("lvs_probes_total", "Probes sent, by kind (baseline, confirm, ping) and outcome");
    describe_counter!("lvs_probes_withheld_total", "Suspicions that found the probe budget empty");
    describe_counter!("lvs_table_edits_total", "Edits of the kernel's table, by result");
    describe_histogram!("lvs_table_edit_seconds", Unit::Seconds, "Time the kernel took for an edit");
    for (name, help) in PASSIVE {
        describe_counter!(name, help);
    }
    describe_gauge!(
        "lvs_passive_usual_wait_seconds",
        Unit::Seconds,
        "Usual time from a first SYN to the next proof of life"
    );
    describe_counter!("lvs_passive_stalls_total", "Times that the director itself had no time to look");
    describe_counter!(
        "lvs_common_suspicions_total",
        "Suspicions not acted on because most of a service was suspected"
    );
    describe_gauge!("lvs_passive_waiting_syns", "SYNs sent since the last proof of life");
    describe_gauge!("lvs_passive_waiting_client_networks", "Client networks (/24) that sent them");
    describe_counter!(
        "lvs_passive_unattributed_total",
        "Packets the kernel side could not or did not attribute, by reason"
    );
}

/// The counters of a server, in the order of [`values`].
const PASSIVE: [(&str, &str); 18] = [
    ("lvs_passive_client_packets_total", "Packets from clients to the server"),
    ("lvs_passive_client_bytes_total", "Bytes from clients to the server"),
    ("lvs_passive_server_packets_total", "Packets from the server (masquerade only)"),
    ("lvs_passive_server_bytes_total", "Bytes from the server (masquerade only)"),
    ("lvs_passive_syn_total", "First SYNs from clients"),
    ("lvs_passive_syn_again_total", "SYNs sent again"),
    ("lvs_passive_handshakes_total", "Handshakes completed"),
    ("lvs_passive_syn_ack_total", "SYN-ACKs from the server (masquerade only)"),
    ("lvs_passive_refused_total", "RSTs in answer to SYNs (masquerade only)"),
    ("lvs_passive_server_reset_total", "RSTs from the server on established connections (masquerade only)"),
    ("lvs_passive_client_abort_total", "RSTs from clients on open handshakes"),
    ("lvs_passive_client_reset_total", "RSTs from clients on established connections"),
    ("lvs_passive_client_fin_total", "FINs from clients"),
    ("lvs_passive_server_fin_total", "FINs from the server (masquerade only)"),
    ("lvs_passive_unreachable_total", "ICMP messages that call the server or its port unreachable"),
    ("lvs_passive_requests_total", "Requests on sampled flows"),
    ("lvs_passive_responses_total", "Responses on sampled flows"),
    ("lvs_passive_sent_again_total", "Data segments sent again on sampled flows without progress in between"),
];

fn values(counters: &ServerCounters) -> [u64; 18] {
    let &ServerCounters {
        packets_in,
        bytes_in,
        packets_out,
        bytes_out,
        syn,
        syn_again,
        handshakes,
        syn_ack,
        refused,
        server_reset,
        client_abort,
        client_reset,
        client_fin,
        server_fin,
        unreachable,
        requests,
        responses,
        sent_again,
        handshake: _,
        response: _,
        spare: _,
    } = counters;
    [
        packets_in,
        bytes_in,
        packets_out,
        bytes_out,
        syn,
        syn_again,
        handshakes,
        syn_ack,
        refused,
        server_reset,
        client_abort,
        client_reset,
        client_fin,
        server_fin,
        unreachable,
        requests,
        responses,
        sent_again,
    ]
}

/// What the passive side shows: labels are made once, values each time.
pub(super) struct Passive {
    labels: BTreeMap<ServerId, [(&'static str, String); 3]>,
}

impl Passive {
    pub(super) fn new(targets: &Targets, services: &[VirtualService]) -> Self {
        let labels = targets.all().iter().map(|target| (target.id, labels(target, services))).collect();
        Self { labels }
    }

    /// Puts the kernel side's counters where `/metrics` shows them.
    pub(super) fn publish(&self, signals: &Signals, detector: &Detector) {
        for (id, labels) in &self.labels {
            for ((name, _), value) in PASSIVE.iter().zip(values(&signals.counters(*id))) {
                counter!(*name, labels).absolute(value);
            }
            let state = signals.state(*id);
            gauge!("lvs_passive_waiting_syns", labels).set(state.listener.attempts);
            gauge!("lvs_passive_waiting_client_networks", labels).set(state.listener.networks.count_ones());
            if let Some(usual) = detector.usual_wait(*id) {
                gauge!("lvs_passive_usual_wait_seconds", labels).set(usual.as_secs_f64());
            }
        }
        publish_doubts(&signals.doubts());
    }
}

fn publish_doubts(doubts: &Doubts) {
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
        ("edge-lost", edge_lost),
        ("handshake-lost", handshake_lost),
        ("bad-server-id", bad_server_id),
    ] {
        counter!("lvs_passive_unattributed_total", "reason" => reason).absolute(value);
    }
}

/// A target by its server and the names of the services that it is in; a masqueraded server may be in several.
fn labels(target: &Target, services: &[VirtualService]) -> [(&'static str, String); 3] {
    let is_in = |service: &&VirtualService| target.destinations.iter().any(|one| one.service == service.key);
    let names: Vec<&str> = services.iter().filter(is_in).map(|service| service.name.as_str()).collect();
    let server = target.destinations.first().map_or_else(String::new, |first| first.server.to_string());
    [("service", names.join(",")), ("server", server), ("method", target.method.to_string())]
}

/// Shows how one destination stands.
pub(super) fn publish_destination(decisions: &Decisions, destination: &DestinationKey) {
    let labels = [
        ("service", decisions.service_name(destination).to_owned()),
        ("server", destination.server.to_string()),
    ];
    let up = match decisions.state(destination) {
        Some(state) if state.is_up() => 1.0,
        Some(state) if state.is_down() => 0.0,
        _ => f64::NAN,
    };
    gauge!("lvs_server_up", &labels).set(up);
    let weight = decisions.weight(destination).map_or(f64::NAN, |weight| weight.0.into());
    gauge!("lvs_server_weight", &labels).set(weight);
}
