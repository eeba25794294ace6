//! What many checks cost: `cargo xtask bench checks`, on a machine that does nothing else.

use std::{
    fs,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use lvs_agent::{
    model::{Check, DestinationKey, Protocol, ServiceKey},
    probe::{
        BaselineCheck, CheckId, IdleConnections, IdleReport, ProbeTarget, Prober, Scheduler, Verdict,
        idle::{Condition, IdleChange, IdleWish, Unasked},
    },
};
use lvs_tests::say;
use nix::sys::{
    resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit},
    time::TimeValLike,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{check, http::nginx, server::free_port};

/// How long the checks run before it counts, and then while it does.
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(10);

/// Processor time of this process.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("it is ours");
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(microseconds.cast_unsigned())
}

/// A line of `/proc/self/status`, in KiB.
fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("it is there");
    let line = status.lines().find(|line| line.starts_with(name)).expect("it is there");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// What checks have cost, and how late they were.
struct Load {
    /// Of one core, from 0 to 1.
    share: f64,
    /// How long after they were due 99 of 100 checks had started.
    late: Duration,
    /// The most memory of the process so far, in MiB; its other tests' as well.
    memory: u64,
}

/// Runs `count` checks each second, of as many addresses on loopback, where the one of [`SILENT`]'s id asks
/// `silent`, if there is such a peer, who never answers.
async fn run(what: &str, count: u32, silent: Option<SocketAddr>, port: u16, check: &Check) -> Load {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("up to the most");
    let shared = Arc::new(check.clone());
    let silent_of = |id| silent.filter(|_| id == SILENT);
    let checks = (0..count).map(|id| {
        let [_, a, b, c] = id.to_be_bytes();
        let server = SocketAddr::from(([127, 1 + a, b, c.max(1)], port));
        let target = ProbeTarget::of_check(silent_of(id).unwrap_or(server), check);
        BaselineCheck { id: CheckId(id), target, check: shared.clone() }
    });
    let (sender, mut results) = mpsc::channel(1024);
    let shutdown = CancellationToken::new();
    let limit = Scheduler::DEFAULT_LIMIT;
    let scheduler = Scheduler::spawn(checks.collect(), Prober::new(), limit, sender, shutdown.clone());
    let begin = Instant::now();
    let mut before = None;
    let (mut latencies, mut lateness) = (Vec::new(), Vec::new());
    while begin.elapsed() < WARM_UP + MEASURED {
        let result = results.recv().await.expect("it runs");
        let expected = if silent_of(result.id.0).is_some() { Verdict::Dead } else { Verdict::Alive };
        assert_eq!(Verdict::of(&result.outcome), expected, "{:?}", result.outcome);
        if begin.elapsed() >= WARM_UP {
            before.get_or_insert_with(|| (cpu(), scheduler.counts(), Instant::now()));
            latencies.extend(result.outcome.ok().map(|success| success.latency));
            lateness.push(result.late);
        }
    }
    let (cpu_before, counts_before, since) = before.expect("it was measured");
    let took = since.elapsed().as_secs_f64();
    let share = cpu().saturating_sub(cpu_before).as_secs_f64() / took;
    let count = f64::from(u32::try_from(latencies.len()).expect("not so many"));
    let counts = scheduler.counts();
    latencies.sort_unstable();
    lateness.sort_unstable();
    let late = lateness[lateness.len() * 99 / 100];
    say(&format!(
        "{what}: {:.0} a second, {:.1} % of a core, {:.0} µs each, {} late by more than 10 ms, 99 % no later than \
         {late:?}, at most {:?}, 99 % answered within {:?}, {} MiB resident, {} MiB at most",
        count / took,
        100.0 * share,
        1e6 * share * took / count,
        counts.late - counts_before.late,
        lateness.last().expect("there are some"),
        latencies[latencies.len() * 99 / 100],
        memory("VmRSS") / 1024,
        memory("VmHWM") / 1024,
    ));
    shutdown.cancel();
    scheduler.stopped().await.expect("it ends");
    Load { share, late, memory: memory("VmHWM") / 1024 }
}

/// The check of many that asks a silent peer.
const SILENT: u32 = 4711;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connects_a_second() {
    // The kernel answers; nothing is ever accepted.
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let check = measured("type = \"connect\"");
    let Load { share, late, memory } = run("connect", 10_000, None, port, &check).await;
    assert!(share < 0.5, "half of a core is what it may take");
    assert!(late <= Duration::from_millis(50), "{late:?}");
    assert!(memory <= 150, "{memory} MiB");
    let silent = Silent::start();
    let beside = run("connect, one of them hangs", 10_000, Some(silent.address), port, &check).await.late;
    assert!(beside <= Duration::from_millis(50), "{beside:?}, without a peer that hangs {late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_pages_a_second() {
    let (port, tls) = (free_port(), free_port());
    let Some(_server) = nginx(port, tls) else { return };
    let host = "host = \"www.example.org\"";
    let plain = measured(&format!("type = \"http\", {host}, text = \"hello\""));
    let share = run("http", 1000, None, port, &plain).await.share;
    assert!(share < 0.5, "half of a core is what it may take");
    let encrypted = measured(&format!("type = \"https\", {host}, text = \"hello\""));
    run("https", 200, None, tls, &encrypted).await;
}

/// Opens an idle connection to each of as many addresses on loopback, and then does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("up to the most");
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        let mut accepted = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            accepted.push(stream);
        }
    });
    let wishes = (0..IDLE).map(|number| {
        let [_, a, b, c] = number.to_be_bytes();
        let server = SocketAddr::from(([127, 1 + a, b, c.max(1)], port));
        let address = SocketAddr::from(([192, 0, 2, 80], u16::try_from(1 + number).expect("so few")));
        let service = ServiceKey::Address { protocol: Protocol::Tcp, address };
        IdleWish {
            destination: DestinationKey { service, server },
            target: ProbeTarget::at(server),
            unasked: Unasked::GiveUp,
            condition: Condition::Up,
        }
    });
    let (before, slab, began, used) = (memory("VmRSS"), slab(), Instant::now(), cpu());
    let (connections, handle, mut reports) = IdleConnections::new();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(connections.run(shutdown.clone()));
    handle.replace(wishes.collect());
    let mut servers = std::collections::HashSet::new();
    while servers.len() + DOUBLES < usize::try_from(IDLE).expect("so few") {
        match reports.recv().await.expect("it runs") {
            IdleReport::Server { destinations, change: IdleChange::Opened } => {
                servers.extend(destinations.iter().map(|one| one.server));
            }
            other => panic!("{other:?}"),
        }
    }
    let (opened, opening) = (began.elapsed(), cpu().saturating_sub(used));
    let (resident, kernel) = (memory("VmRSS").saturating_sub(before), slab_since(slab));
    let used = cpu();
    tokio::time::sleep(MEASURED).await;
    let idle = cpu().saturating_sub(used);
    let each = |kib: u64| f64::from(u32::try_from(kib).expect("not so much")) * 1024.0 / f64::from(IDLE);
    say(&format!(
        "{IDLE} idle connections: open after {opened:.1?} with {opening:.0?} of a core for both ends; {:.0} bytes each of \
         this process, {:.0} of the kernel's slabs for both ends; {idle:.1?} of a core in {MEASURED:?} of silence",
        each(resident),
        each(kernel),
    ));
    assert!(idle < MEASURED / 100, "{idle:?}: silence costs nothing");
    assert!(each(resident) <= 4096.0, "{resident} KiB");
    assert!(reports.is_empty(), "{:?}", reports.try_recv());
    shutdown.cancel();
    task.await.expect("it ends");
}

/// How many idle connections are measured; a few of their addresses are the same.
const IDLE: u32 = 10_000;
const DOUBLES: usize = 40;

/// The kernel's slabs, in KiB.
fn slab() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("it is there");
    let line = text.lines().find(|line| line.starts_with("Slab:")).expect("it is there");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

fn slab_since(before: u64) -> u64 {
    slab().saturating_sub(before)
}

/// A port whose queue of connections is full: SYNs to it are dropped.
struct Silent {
    address: SocketAddr,
    _listener: socket2::Socket,
    _waiting: Vec<std::net::TcpStream>,
}

impl Silent {
    fn start() -> Self {
        let listener =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        listener.listen(0).expect("it listens");
        let address =
            listener.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
        let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        let waiting = std::iter::from_fn(connect).take(16).collect();
        Self { address, _listener: listener, _waiting: waiting }
    }
}

/// A check each second.
fn measured(keys: &str) -> Check {
    Check { interval: Duration::from_secs(1), timeout: Duration::from_secs(1), ..check(keys) }
}
