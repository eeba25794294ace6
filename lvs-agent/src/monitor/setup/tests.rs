//! The passive side with the real programs, in this kernel: each test in a network namespace of its own, with the
//! servers in another one. Needs root, ip(8), unshare(1), nsenter(1), and the eBPF programs inside the agent.

use std::{
    future::Future,
    io::ErrorKind,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use lvs_common::ServerId;
use nix::sched::{CloneFlags, unshare};
use tokio::{net::TcpStream, sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    config::native,
    control::{SignalStatus, Visibility},
    model::DestinationKey,
    passive::{Evidence, Layer, Observation, OwnMarks, Suspicion},
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` on a thread in a new network namespace; skipped where that or the programs can't be had.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let test = move || {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            return println!("skipped: it needs root");
        }
        if let Err(PassiveError::NotBuilt) =
            Programs::load(Sizes::for_endpoints(1), OwnMarks::default(), LOG_NOTHING)
        {
            return println!("skipped: built without LVS_EBPF_OBJECT");
        }
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(3 * PATIENCE, test()).await.expect("test hangs") });
    };
    if let Err(panic) = thread::spawn(test).join() {
        std::panic::resume_unwind(panic);
    }
}

fn run(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs ip(8) in the calling thread's namespace.
fn ip(arguments: &str) {
    run("ip", arguments);
}

/// A process in another namespace, where the servers' addresses are.
struct Servers(Child);

impl Servers {
    fn new() -> Self {
        // It says when it is in its namespace, and ends with its standard input.
        let script = "ip link set lo up && echo ready && cat";
        let mut child = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        Self(child)
    }

    /// Makes a pair of devices, `here` and the servers', with these servers' addresses at its other end.
    fn connect(&self, here: &str, network: &str, addresses: &[&str]) {
        let pid = self.0.id();
        ip(&format!("link add {here} type veth peer name to-{here}"));
        ip(&format!("link set to-{here} netns {pid}"));
        ip(&format!("address add {network} dev {here}"));
        ip(&format!("link set {here} up"));
        let inside = |command: &str| run("nsenter", &format!("--net=/proc/{pid}/ns/net ip {command}"));
        for address in addresses {
            inside(&format!("address add {address} dev to-{here}"));
        }
        inside(&format!("link set to-{here} up"));
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// A running passive side, and the ends of its channels to the controller.
struct Running {
    findings: mpsc::Receiver<Finding>,
    feedback: mpsc::Sender<DetectorFeedback>,
    targets: latest::Receiver<Arc<Targets>>,
    watched: latest::Sender<WatchedServices>,
    requests: mpsc::Sender<SignalRequest>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn config(servers: &[(&str, &str)]) -> Config {
    let server = |(address, method): &(&str, &str)| {
        format!("[[service.server]]\naddress = \"{address}\"\nforward = \"{method}\"\n")
    };
    let servers = servers.iter().map(server).collect::<Vec<_>>().concat();
    let text = format!(
        "[passive.detector]\nbackoff = \"1ms\"\nbackoff-max = \"1ms\"\n[[service]]\naddress = \
         \"192.0.2.1:80\"\n{servers}"
    );
    native::read(&text, "test.toml".as_ref()).expect("it is a configuration")
}

impl Running {
    async fn start(config: &Config) -> Self {
        let (watched, watched_rx) = latest::channel(WatchedServices::from(config.services.clone()));
        let (targets_tx, targets) = latest::channel(Arc::new(Targets::new([])));
        let (findings_tx, findings) = mpsc::channel(64);
        let (feedback, feedback_rx) = mpsc::channel(64);
        let wiring = Wiring {
            findings: findings_tx,
            clients: mpsc::channel(1).0,
            feedback: feedback_rx,
            targets: targets_tx,
            watched: watched_rx,
        };
        let side = set_up(config, wiring, Publisher::default()).await.unwrap();
        let (requests, shutdown) = (side.requests.clone(), CancellationToken::new());
        let task = tokio::spawn(side.run(shutdown.clone()));
        Self { findings, feedback, targets, watched, requests, shutdown, task }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task).await.expect("it doesn't stop").unwrap();
    }

    fn id(&self, server: SocketAddr) -> Option<ServerId> {
        let targets = self.targets.borrow();
        let found = targets.all().find(|target| target.destinations.iter().any(|one| one.server == server));
        found.map(|target| target.id)
    }

    /// Connects until the passive side has seen that the server refuses: its programs hang where the packets pass.
    async fn refused(&mut self, server: &str) {
        let server: SocketAddr = server.parse().unwrap();
        let seen = async {
            loop {
                match TcpStream::connect(server).await {
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                    // A device that is just being made.
                    Err(_) => continue,
                    Ok(_) => panic!("something listens at {server}"),
                }
                let wanted = self.id(server);
                while let Ok(Some(finding)) = timeout(Duration::from_millis(100), self.findings.recv()).await
                {
                    let Finding::Suspicion(Suspicion { id, evidence, .. }) = finding else { continue };
                    let cleared = DetectorFeedback::Observed(id, Observation::Cleared(Layer::Host));
                    self.feedback.send(cleared).await.unwrap();
                    if Some(id) == wanted && matches!(evidence, Evidence::Refused { .. }) {
                        return;
                    }
                }
            }
        };
        timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{server}: its refusals are not seen"));
    }

    async fn signals(&self) -> Vec<(SocketAddr, SignalStatus)> {
        let (sender, answer) = oneshot::channel();
        self.requests.send(sender).await.unwrap();
        let mut signals: Vec<(DestinationKey, SignalStatus)> = answer.await.unwrap().into_iter().collect();
        signals.sort_by_key(|(destination, _)| *destination);
        signals.into_iter().map(|(destination, signal)| (destination.server, signal)).collect()
    }

    /// Waits until the signals are as wanted.
    async fn until(&self, wanted: impl Fn(&[(SocketAddr, SignalStatus)]) -> bool) {
        let wait = async {
            while !wanted(&self.signals().await) {
                tokio::task::yield_now().await;
            }
        };
        let came = timeout(PATIENCE, wait).await.is_ok();
        assert!(came, "it stays at {:?}", self.signals().await);
    }
}

#[test]
fn a_device_that_is_made_again_and_a_route_that_moves_are_watched() {
    in_namespace(|| async {
        let servers = Servers::new();
        servers.connect("one", "10.1.0.1/24", &["10.1.0.2/24", "10.9.0.1/32"]);
        servers.connect("two", "10.2.0.1/24", &["10.2.0.2/24"]);
        ip("route add 10.9.0.1 via 10.1.0.2");
        let all = [("10.1.0.2:80", "masquerade"), ("10.9.0.1:80", "masquerade")];
        let mut running = Running::start(&config(&all)).await;
        running.refused("10.1.0.2:80").await;
        running.refused("10.9.0.1:80").await;

        ip("link delete one");
        servers.connect("one", "10.1.0.1/24", &["10.1.0.2/24"]);
        running.refused("10.1.0.2:80").await;

        // Its address went with the device that had it; any other device answers for it as well.
        servers.connect("three", "10.3.0.1/24", &["10.9.0.1/32"]);
        ip("route replace 10.9.0.1 via 10.2.0.2");
        running.refused("10.9.0.1:80").await;
        assert!(running.signals().await.iter().all(|(_, signal)| signal.seen == Visibility::Both));
        running.stop().await;
    });
}

#[test]
fn servers_come_and_go_while_it_runs() {
    in_namespace(|| async {
        let servers = Servers::new();
        servers.connect("one", "10.1.0.1/24", &["10.1.0.2/24", "10.1.0.3/24"]);
        servers.connect("two", "10.2.0.1/24", &["10.2.0.2/24"]);
        let mut running = Running::start(&config(&[("10.1.0.2:80", "masquerade")])).await;
        running.refused("10.1.0.2:80").await;
        let first = running.id("10.1.0.2:80".parse().unwrap());

        let more =
            [("10.1.0.3:80", "masquerade"), ("10.2.0.2:80", "masquerade"), ("10.1.0.2:80", "masquerade")];
        running.watched.send_replace(config(&more).services.into());
        running.refused("10.1.0.3:80").await;
        running.refused("10.2.0.2:80").await;
        running.refused("10.1.0.2:80").await;
        assert_eq!(running.id("10.1.0.2:80".parse().unwrap()), first, "who stays keeps the id");

        running.watched.send_replace(config(&[("10.2.0.2:80", "masquerade")]).services.into());
        running.until(|signals| signals.len() == 1).await;
        assert_eq!(running.id("10.1.0.2:80".parse().unwrap()), None);
        running.refused("10.2.0.2:80").await;
        let evidence = running.signals().await.pop().and_then(|(_, signal)| signal.evidence).unwrap();
        assert!(evidence.text.contains("refused"), "{evidence:?}");
        running.stop().await;
    });
}

#[test]
fn whoever_has_no_signal_is_named_with_the_reason() {
    in_namespace(|| async {
        let servers = Servers::new();
        servers.connect("one", "10.1.0.1/24", &["10.1.0.2/24"]);
        // How long the kernel waits before it asks again, so that a missing neighbour is given up soon.
        ip("ntable change name arp_cache dev one retrans 50");
        let all = [
            ("10.1.0.1:80", "masquerade"),
            ("10.1.0.2:80", "direct-route"),
            ("10.1.0.9:80", "direct-route"),
            ("203.0.113.9:80", "direct-route"),
        ];
        let mut running = Running::start(&config(&all)).await;
        let reason = |signals: &[(SocketAddr, SignalStatus)], index: usize, words: &str| {
            let signal = &signals[index].1;
            signal.seen == Visibility::None
                && signal.reason.as_deref().is_some_and(|text| text.contains(words))
        };
        running
            .until(|signals| {
                signals.len() == 4
                    && reason(signals, 0, "director itself")
                    && signals[1].1.seen == Visibility::ClientOnly
                    && reason(signals, 2, "MAC address")
                    && reason(signals, 3, "no route to 203.0.113.9")
            })
            .await;
        let failed = running.id("10.1.0.9:80".parse().unwrap());
        let wait = async {
            loop {
                let finding = running.findings.recv().await.expect("the watch ended");
                if let Finding::Suspicion(Suspicion { id, evidence: Evidence::NeighbourFailed, .. }) = finding
                {
                    return id;
                }
            }
        };
        assert_eq!(timeout(PATIENCE, wait).await.ok(), failed);

        ip("route add 203.0.113.9 via 10.1.0.2");
        running
            .until(|signals| signals[3].1.seen == Visibility::ClientOnly || reason(signals, 3, "same MAC"))
            .await;
        running.stop().await;
    });
}
