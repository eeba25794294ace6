//! The counters of the eBPF programs for each server.
//!
//! The kernel's counters restart at zero when an id is given to another server, those of `/metrics` never go back: each
//! reading adds the difference from the one before. The series of a server that leaves go with it.

use std::collections::{BTreeMap, HashMap};

use bytemuck::Zeroable as _;
use lvs_common::{Latencies, ServerCounters, ServerId, ServerState};
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use crate::{
    model::{DestinationKey, VirtualService},
    passive::{Target, Targets},
};

const HANDSHAKE: &str = "lvs_passive_handshake_seconds";
const RESPONSE: &str = "lvs_passive_response_seconds";

/// The metrics whose buckets are [`bounds`].
pub(super) const HISTOGRAMS: [&str; 2] = [HANDSHAKE, RESPONSE];

/// A counter of a server: its name, its description, and its value.
type Shown = (&'static str, &'static str, fn(&ServerCounters) -> u64);

const COUNTERS: [Shown; 19] = [
    ("lvs_passive_client_packets_total", "Packets from clients to the server", |c| c.packets_in),
    ("lvs_passive_client_bytes_total", "Bytes from clients to the server", |c| c.bytes_in),
    ("lvs_passive_server_packets_total", "Packets from the server (masquerade only)", |c| c.packets_out),
    ("lvs_passive_server_bytes_total", "Bytes from the server (masquerade only)", |c| c.bytes_out),
    ("lvs_passive_syn_total", "First SYNs from clients", |c| c.syn),
    ("lvs_passive_syn_again_total", "Retransmitted SYNs", |c| c.syn_again),
    ("lvs_passive_handshakes_total", "Handshakes completed", |c| c.handshakes),
    ("lvs_passive_syn_ack_total", "SYN-ACKs from the server (masquerade only)", |c| c.syn_ack),
    ("lvs_passive_refused_total", "RSTs in answer to SYNs (masquerade only)", |c| c.refused),
    (
        "lvs_passive_server_reset_total",
        "RSTs from the server on established connections (masquerade only)",
        |c| c.server_reset,
    ),
    ("lvs_passive_client_abort_total", "RSTs from clients on open handshakes", |c| c.client_abort),
    ("lvs_passive_client_reset_total", "RSTs from clients on established connections", |c| c.client_reset),
    ("lvs_passive_client_fin_total", "FINs from clients", |c| c.client_fin),
    ("lvs_passive_server_fin_total", "FINs from the server (masquerade only)", |c| c.server_fin),
    (
        "lvs_passive_unreachable_total",
        "ICMP messages that report the server or its port as unreachable",
        |c| c.unreachable,
    ),
    (
        "lvs_passive_unreachable_doubted_total",
        "Such ICMP messages that quote nothing that is open: forged, or of flows that aren't sampled",
        |c| c.unreachable_doubted,
    ),
    ("lvs_passive_requests_total", "Requests on sampled flows", |c| c.requests),
    ("lvs_passive_responses_total", "Responses on sampled flows", |c| c.responses),
    (
        "lvs_passive_sent_again_total",
        "Retransmitted data segments on sampled flows, without progress in between",
        |c| c.sent_again,
    ),
];

/// The upper bounds of the buckets, in seconds: each octave of [`Latencies`], from 131 µs to 4.3 s. The eBPF
/// programs count by the same bounds, so that no count is on the wrong side of one.
#[expect(clippy::cast_precision_loss, reason = "bounds are powers of two")]
pub(super) fn bounds() -> Vec<f64> {
    let octaves = (0..Latencies::BUCKETS).step_by(2);
    octaves.filter_map(Latencies::upper_bound_ns).map(|ns| ns as f64 / 1e9).collect()
}

pub(super) fn describe() {
    for (name, help, _) in COUNTERS {
        describe_counter!(name, help);
    }
    describe_gauge!(
        "lvs_passive_blind",
        "1 while the eBPF programs see nothing of what IPVS balances on a device in a direction"
    );
    describe_gauge!(
        "lvs_passive_in_front",
        "Programs and filters of others that come before the agent's on a device in a direction"
    );
    describe_histogram!(
        HANDSHAKE,
        Unit::Seconds,
        "Time from a SYN to the SYN-ACK, or to the client's ACK where the SYN-ACK is not seen"
    );
    describe_histogram!(
        RESPONSE,
        Unit::Seconds,
        "Time from a request on a sampled flow to the client's acknowledgement of the response"
    );
    describe_gauge!(
        "lvs_passive_waiting_client_networks",
        "Client networks (/24, /64) waiting since the server's last proof of life, by what they wait for"
    );
    describe_gauge!("lvs_passive_signal", "1 if the server has a passive signal, 0 if not, with the reason");
}

/// The passive metrics of all servers.
#[derive(Default)]
pub(crate) struct Passive {
    servers: BTreeMap<ServerId, Server>,
    /// Whether each destination has a signal, and why not.
    signals: HashMap<DestinationKey, Signal>,
}

/// Whether a destination has a signal: the name of its service, the reason, and the gauge that shows it.
struct Signal {
    service: String,
    reason: &'static str,
    shown: Gauge,
}

/// The metrics of one server. Handles are looked up once.
struct Server {
    labels: Labels,
    last: ServerCounters,
    counters: Vec<Counter>,
    handshake: Histogram,
    response: Histogram,
    waiting: [Gauge; 2],
}

/// Names and values of a target's labels.
type Labels = [(&'static str, String); 4];

impl Passive {
    /// Replaces the list of servers.
    pub(crate) fn follow(&mut self, targets: &Targets, services: &[VirtualService]) {
        let mut old = std::mem::take(&mut self.servers);
        for target in targets.all() {
            let labels = labels(target, services);
            let server = match old.remove(&target.id) {
                Some(server) if server.labels == labels => server,
                Some(server) => Server::new(labels, &server.last),
                None => Server::new(labels, &ServerCounters::zeroed()),
            };
            self.servers.insert(target.id, server);
        }
    }

    /// The kernel's counters of this id restart at zero.
    pub(crate) fn reset(&mut self, id: ServerId) {
        self.servers.remove(&id);
    }

    /// Adds a reading of a server's counters, and sets how many client networks wait.
    pub(crate) fn counted(&mut self, id: ServerId, counters: &ServerCounters, state: &ServerState) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        for ((_, _, value), shown) in COUNTERS.iter().zip(&server.counters) {
            shown.increment(value(counters).wrapping_sub(value(&server.last)));
        }
        record(&server.handshake, &counters.handshake.since(&server.last.handshake));
        record(&server.response, &counters.response.since(&server.last.response));
        for (layer, shown) in [&state.listener, &state.application].into_iter().zip(&server.waiting) {
            shown.set(layer.networks.count());
        }
        server.last = *counters;
    }

    /// Sets which destinations have a signal, or why not, with the names of their services.
    pub(crate) fn signals<'a>(
        &mut self,
        reasons: impl IntoIterator<Item = (DestinationKey, &'a str, Option<&'static str>)>,
    ) {
        let mut before = std::mem::take(&mut self.signals);
        for (destination, service, reason) in reasons {
            let reason = reason.unwrap_or("");
            let known =
                before.remove(&destination).filter(|one| one.service == service && one.reason == reason);
            let signal = known.unwrap_or_else(|| Signal {
                service: service.to_owned(),
                reason,
                shown: signal(&destination, service, reason),
            });
            signal.shown.set(if reason.is_empty() { 1.0 } else { 0.0 });
            self.signals.insert(destination, signal);
        }
    }
}

impl Server {
    fn new(labels: Labels, last: &ServerCounters) -> Self {
        let waiting = |layer: &str| {
            let mut labels: Vec<(&str, String)> = labels.to_vec();
            labels.push(("for", layer.to_owned()));
            gauge!("lvs_passive_waiting_client_networks", &labels)
        };
        Self {
            last: *last,
            counters: COUNTERS.iter().map(|(name, ..)| counter!(*name, &labels)).collect(),
            handshake: histogram!(HANDSHAKE, &labels),
            response: histogram!(RESPONSE, &labels),
            waiting: [waiting("handshake"), waiting("response")],
            labels,
        }
    }
}

fn signal(destination: &DestinationKey, service: &str, reason: &'static str) -> Gauge {
    let labels = [
        ("service", service.to_owned()),
        ("server", destination.server.to_string()),
        ("reason", reason.to_owned()),
    ];
    gauge!("lvs_passive_signal", &labels)
}

/// Records each time as the middle of its bucket, as no more is known of it.
#[expect(clippy::cast_precision_loss, reason = "bounds are powers of two")]
fn record(histogram: &Histogram, new: &Latencies) {
    for (bucket, count) in new.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
        let lower = bucket.checked_sub(1).and_then(Latencies::upper_bound_ns).unwrap_or(0);
        let upper = Latencies::upper_bound_ns(bucket).unwrap_or(lower.saturating_mul(2));
        histogram.record_many((lower + (upper - lower) / 2) as f64 / 1e9, *count as usize);
    }
}

/// The labels of a target: its server, and the names of its services; a masqueraded server may have several.
fn labels(target: &Target, services: &[VirtualService]) -> Labels {
    let is_in = |service: &&VirtualService| {
        target.destinations.iter().any(|destination| destination.service == service.key)
    };
    let names: Vec<&str> = services.iter().filter(is_in).map(|service| service.name.as_str()).collect();
    let server = target.destinations.first().map_or_else(String::new, |first| first.server.to_string());
    [
        ("service", names.join(",")),
        ("server", server),
        ("method", target.method.to_string()),
        ("protocol", target.protocol().to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::native, telemetry::metrics::recorder};

    fn services(servers: &[&str]) -> Vec<VirtualService> {
        let table = |server: &&str| format!("[[service.server]]\naddress = \"{server}\"\n");
        let servers = servers.iter().map(table).collect::<Vec<_>>().concat();
        let text = format!(
            "[[service]]\nname = \"web\"\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\n{servers}"
        );
        native::read(&text, "test.toml".as_ref()).expect("it is a configuration").services
    }

    fn line(text: &str, start: &str) -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with(start))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    #[test]
    fn the_series_of_a_server_go_and_come_with_it() {
        let (recorder, handle) = recorder().unwrap();
        let shown = |server: &str| {
            line(
                &handle.render(),
                &format!(
                    "lvs_passive_syn_total{{service=\"web\",server=\"{server}\",method=\"masquerade\",protocol=\"tcp\"}}"
                ),
            )
        };
        metrics::with_local_recorder(&recorder, || {
            let state = ServerState::zeroed();
            let syns = |syn| ServerCounters { syn, ..ServerCounters::zeroed() };
            let mut passive = Passive::default();
            let two = services(&["10.0.0.1:80", "10.0.0.2:80"]);
            let mut targets = Targets::new(two.iter().flat_map(crate::passive::forwardings));
            passive.follow(&targets, &two);
            let ids: Vec<ServerId> = targets.all().map(|target| target.id).collect();
            passive.counted(ids[0], &syns(5), &state);
            passive.counted(ids[1], &syns(7), &state);
            passive.counted(ids[1], &syns(9), &state);
            assert_eq!((shown("10.0.0.1:80"), shown("10.0.0.2:80")), (Some(5.0), Some(9.0)));
            let fewer = services(&["10.0.0.1:80"]);
            targets.update(fewer.iter().flat_map(crate::passive::forwardings));
            passive.follow(&targets, &fewer);
            assert_eq!(shown("10.0.0.2:80"), None, "it is gone");
            assert!(!handle.render().contains("10.0.0.2:80"));
            targets.limit(2);
            targets.update(two.iter().flat_map(crate::passive::forwardings));
            passive.reset(ids[1]);
            passive.follow(&targets, &two);
            passive.counted(ids[0], &syns(6), &state);
            passive.counted(ids[1], &syns(1), &state);
            assert_eq!((shown("10.0.0.1:80"), shown("10.0.0.2:80")), (Some(6.0), Some(1.0)));
        });
    }

    #[test]
    fn latencies_are_on_the_right_side_of_every_bound() {
        let (recorder, handle) = recorder().unwrap();
        let mut new = Latencies::zeroed();
        for (bucket, count) in new.buckets.iter_mut().enumerate() {
            *count = u32::try_from(bucket + 1).unwrap();
        }
        let text = metrics::with_local_recorder(&recorder, || {
            let histogram = histogram!(HANDSHAKE, "server" => "10.0.0.1:80");
            record(&histogram, &new);
            handle.render()
        });
        for (bound, last) in bounds().into_iter().zip((0..).step_by(2)) {
            let below: u32 = new.buckets[..=last].iter().sum();
            let shown = line(&text, &format!("{HANDSHAKE}_bucket{{server=\"10.0.0.1:80\",le=\"{bound}\"}}"));
            assert_eq!(shown, Some(f64::from(below)), "{bound}: {text}");
        }
        assert_eq!(line(&text, &format!("{HANDSHAKE}_count")), Some(f64::from(32 * 33 / 2)));
    }

    #[test]
    fn a_signal_has_one_reason_at_a_time() {
        let (recorder, handle) = recorder().unwrap();
        let services = services(&["10.0.0.1:80"]);
        let destination = services[0].destinations().next().unwrap();
        let shown = |reason: &str| {
            let text = handle.render();
            line(
                &text,
                &format!("lvs_passive_signal{{service=\"web\",server=\"10.0.0.1:80\",reason=\"{reason}\"}}"),
            )
        };
        metrics::with_local_recorder(&recorder, || {
            let mut passive = Passive::default();
            passive.signals([(destination, "web", Some("no-neighbour"))]);
            assert_eq!(shown("no-neighbour"), Some(0.0));
            passive.signals([(destination, "web", None)]);
            assert_eq!(shown("no-neighbour"), None);
            assert_eq!(shown(""), Some(1.0));
            passive.signals([]);
            assert_eq!(shown(""), None, "it is no destination any more");
        });
    }
}
