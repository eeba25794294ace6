//! What all protocols have in common: how the network's and the director's own faults look, with real packets.

use std::{
    fs::File,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

use super::{
    testing::{LONG, SHORT, any_port, closed_port, is_in_namespace, silent_port},
    *,
};
use crate::model::{Check, CheckKind, DeviceName, HttpCheck, Pattern, TcpCheck, UdpCheck, Via};

fn http() -> CheckKind {
    CheckKind::Http(HttpCheck::get("/"))
}

/// Why asking `address` fails.
async fn failure(address: &str, kind: CheckKind, timeout: Duration) -> FailureReason {
    let target = ProbeTarget::at(address.parse().unwrap());
    let failure = Prober::new().probe(target, &kind, timeout).await.unwrap_err();
    failure.reason
}

#[tokio::test]
async fn a_success_has_a_latency_and_a_failure_a_duration() {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let target = ProbeTarget::at(listener.local_addr().unwrap());
    let success = Prober::new().probe(target, &CheckKind::Connect, LONG).await.unwrap();
    assert!(success.latency > Duration::ZERO && success.latency < LONG);
    let silent = silent_port().await;
    let target = ProbeTarget::at(silent.address);
    let failure = Prober::new().probe(target, &CheckKind::Connect, SHORT).await.unwrap_err();
    assert!(failure.after >= SHORT && failure.after < LONG, "{failure}");
}

#[test]
fn a_check_may_use_another_port() {
    let server = SocketAddr::from(([10, 0, 0, 1], 80));
    let mut check = Check::default();
    assert_eq!(ProbeTarget::of_check(server, &check).address, server);
    check.port = Some(8080);
    assert_eq!(ProbeTarget::of_check(server, &check).address, SocketAddr::from(([10, 0, 0, 1], 8080)));
    for asked in ["192.0.2.80", "2001:db8::80"] {
        let ip: IpAddr = asked.parse().unwrap();
        let check = Check { connect_to: Some(ip), ..Check::default() };
        assert_eq!(ProbeTarget::of_check(server, &check).address, SocketAddr::new(ip, server.port()));
        let check = Check { port: Some(8080), ..check };
        assert_eq!(ProbeTarget::of_check(server, &check).address, SocketAddr::new(ip, 8080));
        let ping = Check { kind: CheckKind::Ping, ..check };
        assert_eq!(ProbeTarget::of_check(server, &ping).address, SocketAddr::new(ip, 0));
    }
    let ping = Check { kind: CheckKind::Ping, ..Check::default() };
    assert_eq!(ProbeTarget::of_check(server, &ping).address, SocketAddr::from(([10, 0, 0, 1], 0)));
}

/// Asks over the network, and notes when each connection was begun and when that ended.
#[derive(Clone, Default)]
struct Timed {
    prober: Prober,
    connects: Arc<Mutex<Vec<(Instant, Instant)>>>,
}

impl Probe for Timed {
    async fn probe(&self, target: ProbeTarget, question: &CheckKind, timeout: Duration) -> Outcome {
        let started = Instant::now();
        let outcome = self.prober.probe(target, question, timeout).await;
        if *question == CheckKind::Connect {
            self.connects.lock().unwrap().push((started, Instant::now()));
        }
        outcome
    }
}

/// A burst of three with real sockets: what they came to, and from when to when they took.
async fn burst(address: SocketAddr) -> (Vec<Verdict>, Vec<(Instant, Instant)>) {
    let (reports, mut received) = mpsc::channel(3);
    let count = NonZeroU32::new(3).unwrap();
    let target = ProbeTarget::at(address);
    let ms = Duration::from_millis;
    let patience = Patience { usual: ms(10), probe: ms(100), burst: ms(120) };
    let rhythm = Rhythm::new(count, patience.usual, ms(20), patience);
    let burst = burst::Burst { target, question: CheckKind::Connect.into(), rhythm };
    let asker = Timed::default();
    burst::run(&asker, &burst, &reports).await;
    drop(reports);
    let mut verdicts = Vec::new();
    while let Some(probe) = received.recv().await {
        verdicts.push(Verdict::of(&probe.outcome));
    }
    let connects = asker.connects.lock().unwrap().clone();
    (verdicts, connects)
}

#[tokio::test]
async fn bursts_against_open_and_closed_ports() {
    let (verdicts, _) = burst(closed_port()).await;
    assert_eq!(verdicts, [Verdict::Dead; 3]);

    let silent = silent_port().await;
    let (verdicts, connects) = burst(silent.address).await;
    assert_eq!(verdicts, [Verdict::Dead; 3]);
    assert!(connects[1].0 < connects[0].1, "they don't wait for each other");

    let listener = TcpListener::bind(any_port()).await.unwrap();
    let (verdicts, _) = burst(listener.local_addr().unwrap()).await;
    assert_eq!(verdicts, [Verdict::Alive]);
}

#[tokio::test]
async fn silent_and_missing_hosts_have_their_failures() {
    let setup = "
        ip link set lo up
        ip link add v0 type veth peer name v1
        # Asks nobody before its own link-local address has passed duplicate address detection.
        sysctl -q net.ipv6.conf.v0.accept_dad=0
        ip link set v0 up
        ip link set v1 up
        ip address add 192.0.2.1/24 dev v0
        sysctl -q net.ipv4.neigh.v0.mcast_solicit=1 net.ipv4.neigh.v0.retrans_time_ms=50
        sysctl -q net.ipv4.icmp_echo_ignore_all=1
        ip route add unreachable 198.51.100.0/24
        ip route add prohibit 203.0.113.0/24
        ip address add fd00::1/64 dev v0 nodad
        sysctl -q net.ipv6.neigh.v0.mcast_solicit=1 net.ipv6.neigh.v0.retrans_time_ms=50
        ip route add unreachable fd01::/64
        ip route add prohibit fd02::/64
        ip route add blackhole 203.0.114.0/24
        ip route add throw 203.0.115.0/24
        ip rule add to 203.0.116.0/24 prohibit
        ip rule add to 203.0.117.0/24 blackhole
        ip route add blackhole fd03::/64
        ip route add throw fd04::/64
        ip -6 rule add to fd05::/64 prohibit
        ip -6 rule add to fd06::/64 blackhole
    ";
    if !is_in_namespace("probe::tests::silent_and_missing_hosts_have_their_failures", setup) {
        return;
    }
    let silent = failure("127.0.0.1:80", CheckKind::Ping, SHORT).await;
    assert_eq!(silent, FailureReason::TimedOut { phase: Phase::Reply });
    // No route, none by decree, nobody who answers ARP or neighbour discovery, forbidden. Of a missing neighbour the
    // kernel tells the raw socket by ICMP from the director's own address.
    let cases = [
        (["198.18.0.1:80", "[fd99::1]:80"], Unreachable::Network),
        (["198.51.100.1:80", "[fd01::1]:80"], Unreachable::Host),
        (["192.0.2.9:80", "[fd00::9]:80"], Unreachable::Host),
        (["203.0.113.1:80", "[fd02::1]:80"], Unreachable::ProhibitRoute),
        (["203.0.114.1:80", "[fd03::1]:80"], Unreachable::BlackholeRoute),
        (["203.0.115.1:80", "[fd04::1]:80"], Unreachable::Network),
        (["203.0.116.1:80", "[fd05::1]:80"], Unreachable::ProhibitRoute),
        (["203.0.117.1:80", "[fd06::1]:80"], Unreachable::BlackholeRoute),
    ];
    for (servers, reason) in cases {
        for server in servers {
            // Silence is no answer where the kernel has said something else.
            let datagram = CheckKind::Udp(UdpCheck { send: b"x".to_vec(), expect: None, reply: false });
            for check in [CheckKind::Ping, CheckKind::Connect, http(), datagram] {
                let found = failure(server, check.clone(), LONG).await;
                assert_eq!(found, FailureReason::Unreachable(reason), "{check:?} {server}");
            }
        }
    }
    // Where only the check's own way is closed, it says nothing about the server.
    let via = Via { source: Some("127.0.0.1".parse().unwrap()), ..Via::default() };
    let target = ProbeTarget { via, ..ProbeTarget::at("192.0.2.9:80".parse().unwrap()) };
    let outcome = Prober::new().probe(target, &CheckKind::Connect, LONG).await;
    assert_eq!(Verdict::of(&outcome), Verdict::Unknown, "{outcome:?}");
}

/// Each way in which a packet filter rejects, at the server and at this director.
#[tokio::test]
async fn rejected_packets_count_against_the_server() {
    if std::process::Command::new("nft").arg("--version").output().is_err() {
        println!("skipped, as it needs nft(8)");
        return;
    }
    // Ports 101 and on: what their packets are rejected with, over IPv4 and IPv6.
    let rejected = [
        (101, "icmp type port-unreachable", FailureReason::Refused),
        (102, "icmp type host-unreachable", FailureReason::Unreachable(Unreachable::Host)),
        (103, "icmp type net-unreachable", FailureReason::Unreachable(Unreachable::Network)),
        (104, "icmp type prot-unreachable", FailureReason::Unreachable(Unreachable::Protocol)),
        (105, "icmp type net-prohibited", FailureReason::Unreachable(Unreachable::Network)),
        (106, "icmp type host-prohibited", FailureReason::Unreachable(Unreachable::Host)),
        (107, "icmp type admin-prohibited", FailureReason::Unreachable(Unreachable::Host)),
        (108, "icmpv6 type port-unreachable", FailureReason::Refused),
        (109, "icmpv6 type no-route", FailureReason::Unreachable(Unreachable::Network)),
        (110, "icmpv6 type addr-unreachable", FailureReason::Unreachable(Unreachable::Host)),
        (111, "icmpv6 type admin-prohibited", FailureReason::Unreachable(Unreachable::Prohibited)),
        (112, "icmpv6 type policy-fail", FailureReason::Unreachable(Unreachable::Prohibited)),
        (113, "icmpv6 type reject-route", FailureReason::Unreachable(Unreachable::Prohibited)),
    ];
    let rules = rejected
        .iter()
        .map(|(port, with, _)| format!("nft add rule inet t input th dport {port} reject with {with}\n"));
    let setup = format!(
        "
        ip link set lo up
        nft add table inet t
        nft 'add chain inet t input {{ type filter hook input priority 0; }}'
        nft 'add chain inet t output {{ type filter hook output priority 0; }}'
        nft add rule inet t output udp dport 201 drop
        nft add rule inet t output ip daddr 127.0.0.2 icmp type echo-request drop
        nft add rule inet t input tcp dport 202 reject with tcp reset
        {}",
        rules.collect::<String>()
    );
    if !is_in_namespace("probe::tests::rejected_packets_count_against_the_server", &setup) {
        return;
    }
    let datagram = || CheckKind::Udp(UdpCheck { send: b"x".to_vec(), expect: None, reply: false });
    for (port, with, reason) in rejected {
        let host = if with.starts_with("icmpv6") { "[::1]" } else { "127.0.0.1" };
        for check in [CheckKind::Connect, http(), datagram()] {
            let found = failure(&format!("{host}:{port}"), check.clone(), LONG).await;
            assert_eq!(found, reason, "{check:?}, {with}");
        }
    }
    for host in ["127.0.0.1", "[::1]"] {
        assert_eq!(failure(&format!("{host}:202"), http(), LONG).await, FailureReason::Refused);
        let dropped = failure(&format!("{host}:201"), datagram(), LONG).await;
        assert_eq!(dropped, FailureReason::Unreachable(Unreachable::Filtered));
    }
    let dropped = failure("127.0.0.2:0", CheckKind::Ping, LONG).await;
    assert_eq!(dropped, FailureReason::Unreachable(Unreachable::Filtered));
}

#[tokio::test]
async fn a_director_out_of_ports_blames_no_server() {
    let setup = "
        ip link set lo up
        sysctl -q net.ipv4.ip_local_port_range='40000 40001'
    ";
    if !is_in_namespace("probe::tests::a_director_out_of_ports_blames_no_server", setup) {
        return;
    }
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 80)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut open = Vec::new();
    while let Ok(stream) = tokio::net::TcpStream::connect(address).await {
        open.push(stream);
        assert!(open.len() < 10);
    }
    for check in [CheckKind::Connect, http()] {
        let reason = failure("127.0.0.1:80", check, LONG).await;
        let FailureReason::Local(fault) = reason else { panic!("{reason}") };
        assert_eq!(fault.kind, std::io::ErrorKind::AddrNotAvailable, "{fault}");
    }
    let (verdicts, _) = burst(address).await;
    assert_eq!(verdicts, [Verdict::Unknown; 3]);
}

#[tokio::test]
async fn a_director_out_of_file_descriptors_blames_no_server() {
    let setup = "ip link set lo up; ulimit -n 64";
    if !is_in_namespace("probe::tests::a_director_out_of_file_descriptors_blames_no_server", setup) {
        return;
    }
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut open = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        open.push(file);
        assert!(open.len() < 100);
    }
    for check in [CheckKind::Ping, CheckKind::Connect, http()] {
        let reason = failure(&address, check.clone(), LONG).await;
        assert!(matches!(reason, FailureReason::Local(_)), "{check:?}: {reason}");
    }
    drop(open);
    let target = ProbeTarget::at(address.parse().unwrap());
    assert!(Prober::new().probe(target, &CheckKind::Connect, LONG).await.is_ok(), "it recovers");
}

/// A device that has gone, and one of the same name that was made later.
#[tokio::test]
async fn a_device_that_is_made_anew_is_used_again() {
    if !is_in_namespace("probe::tests::a_device_that_is_made_anew_is_used_again", "ip link set lo up") {
        return;
    }
    let ip = |arguments: &str| {
        let status = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}");
    };
    // What is sent there is lost behind the other end.
    let make = || {
        ip("link add d0 type veth peer name e0");
        ip("link set e0 up");
        ip("link set d0 up");
        ip("address add 192.0.2.1/24 dev d0");
        ip("neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev d0");
    };
    let prober = Prober::new();
    let via = Via { device: DeviceName::new("d0"), ..Via::default() };
    for check in [CheckKind::Ping, CheckKind::Connect] {
        make();
        let target = ProbeTarget { via, ..ProbeTarget::at("192.0.2.9:80".parse().unwrap()) };
        let ask = async || prober.probe(target, &check, SHORT).await.unwrap_err().reason;
        assert!(matches!(ask().await, FailureReason::TimedOut { .. }), "{check:?}");
        ip("link del d0");
        for _ in 0..2 {
            let reason = ask().await;
            assert!(matches!(reason, FailureReason::Local(_)), "{check:?}: {reason}");
        }
        make();
        let reason = ask().await;
        assert!(matches!(reason, FailureReason::TimedOut { .. }), "{check:?}: {reason}");
        ip("link del d0");
    }
}

/// After thousands of checks there is nothing left: no connection waits in TIME-WAIT, on either side.
#[tokio::test]
async fn checks_leave_no_connections_behind() {
    if !is_in_namespace("probe::tests::checks_leave_no_connections_behind", "ip link set lo up") {
        return;
    }
    let served = testing::server(|mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut request = [0; 1024];
        if stream.read(&mut request).await.is_ok_and(|length| length > 0) {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap_or_default();
            // Waits for the check to close: whoever closes first is the one with TIME-WAIT.
            stream.read(&mut request).await.unwrap_or_default();
        }
    })
    .await;
    let mut checks = JoinSet::new();
    for check in [CheckKind::Connect, http()] {
        for _ in 0..200 {
            let check = check.clone();
            let target = ProbeTarget::at(served);
            checks.spawn(async move { Prober::new().probe(target, &check, LONG).await.map(drop) });
        }
    }
    for result in checks.join_all().await {
        assert_eq!(result, Ok(()));
    }
    let connections = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    // The state is in the fourth column; 06 is TIME-WAIT.
    let waiting = connections.lines().filter(|line| line.split_whitespace().nth(3) == Some("06")).count();
    assert_eq!(waiting, 0, "{connections}");
}

/// The address that a server sees.
#[tokio::test]
async fn a_check_uses_the_configured_source() {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let check = CheckKind::Tcp(TcpCheck { send: vec![], expect: None, tls: None });
    let via = Via { source: Some("127.0.0.9".parse().unwrap()), ..Via::default() };
    let target = ProbeTarget { via, ..ProbeTarget::at(listener.local_addr().unwrap()) };
    Prober::new().probe(target, &check, LONG).await.unwrap();
    assert_eq!(listener.accept().await.unwrap().1.ip(), via.source.unwrap());
    // An address that this director doesn't have says nothing about the server.
    let via = Via { source: Some("192.0.2.77".parse().unwrap()), ..Via::default() };
    for check in [CheckKind::Connect, check] {
        let outcome = Prober::new().probe(ProbeTarget { via, ..target }, &check, LONG).await;
        assert_eq!(Verdict::of(&outcome), Verdict::Unknown, "{outcome:?}");
    }
}

/// The limits of the steps, and the deadline of the whole, whichever comes first.
#[tokio::test]
async fn each_step_has_its_timeout_and_the_check_has_one() {
    let limited = |connect, read| Via {
        connect_timeout: Some(Duration::from_millis(connect)),
        read_timeout: Some(Duration::from_millis(read)),
        ..Via::default()
    };
    let check =
        CheckKind::Tcp(TcpCheck { send: vec![], expect: Some(Pattern::new("x").unwrap()), tls: None });
    let silent = silent_port().await;
    let mute = testing::scripted(vec![]).await;
    let drip = testing::scripted(vec![testing::Script::Flood("y", Duration::from_millis(5))]).await;
    let cases = [
        (silent.address, limited(30, 10_000), LONG, Phase::Connect, 30),
        (mute, limited(10_000, 40), LONG, Phase::Reply, 40),
        // No wait is longer than its limit, and yet the whole ends.
        (drip, limited(10_000, 5000), SHORT, Phase::Reply, 100),
    ];
    for (address, via, timeout, phase, least) in cases {
        let target = ProbeTarget { via, ..ProbeTarget::at(address) };
        let failure = Prober::new().probe(target, &check, timeout).await.unwrap_err();
        assert_eq!(failure.reason, FailureReason::TimedOut { phase });
        assert!(failure.after >= Duration::from_millis(least) && failure.after < LONG / 4, "{failure}");
    }
}

/// In a namespace with two ways to a network the mark chooses the one, and the device the other.
#[tokio::test]
async fn mark_and_device_choose_the_route() {
    let setup = "
        ip link set lo up
        for n in 0 1; do
            ip link add v$n type veth peer name w$n
            ip link set v$n up
            ip link set w$n up
            ip address add 198.51.100.$n/32 dev v$n
        done
        ip route add unreachable 203.0.113.0/24
        ip route add unreachable 203.0.113.0/24 table 7
        ip route add local 203.0.113.7 dev lo table 7
        ip rule add pref 1 fwmark 7 table 7
        ip rule del pref 0
        ip rule add pref 2 table local
    ";
    if !is_in_namespace("probe::tests::mark_and_device_choose_the_route", setup) {
        return;
    }
    let listener = TcpListener::bind("0.0.0.0:80").await.unwrap();
    let target = ProbeTarget::at("203.0.113.7:80".parse().unwrap());
    let check = CheckKind::Tcp(TcpCheck { send: vec![], expect: None, tls: None });
    let failure = Prober::new().probe(target, &check, LONG).await.unwrap_err();
    assert_eq!(failure.reason, FailureReason::Unreachable(Unreachable::Host));
    let marked = ProbeTarget { via: Via { mark: Some(7), ..Via::default() }, ..target };
    // The way there is open now; the way back is not marked, so the handshake stays open.
    let failure = Prober::new().probe(marked, &check, SHORT).await.map_err(|failure| failure.reason);
    assert_ne!(failure.map(drop), Err(FailureReason::Unreachable(Unreachable::Host)));
    let bound = |name| Via { device: DeviceName::new(name), ..Via::default() };
    let own = ProbeTarget::at(SocketAddr::from(([127, 0, 0, 1], 80)));
    let through_lo = ProbeTarget { via: bound("lo"), ..own };
    assert!(Prober::new().probe(through_lo, &check, LONG).await.is_ok());
    let nowhere = ProbeTarget { via: bound("nodev"), ..own };
    let outcome = Prober::new().probe(nowhere, &check, LONG).await;
    assert_eq!(Verdict::of(&outcome), Verdict::Unknown, "{outcome:?}");
    drop(listener);
}
