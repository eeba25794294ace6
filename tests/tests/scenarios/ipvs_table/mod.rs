//! The kernel's IPVS table, read and written by this program and by ipvsadm(8) in turn. Each test has a network
//! namespace, and so a table, of its own.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod info;
mod long_lists;
mod matrix;
mod module;
mod random_edits;
mod reconcile;
mod refusals;
mod round_trip;
mod rules;

pub(crate) use self::module::{LOADER, unload_ipvs};

use std::{
    future::Future,
    io::Write as _,
    net::SocketAddr,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use lvs_agent::{
    ipvs::{Destination, Edit, IpvsClient, KernelWeight, SchedulerName, Service, ServiceFlags, Table},
    model::{ForwardingMethod, Protocol, ServiceKey, Tunnel},
};
use nix::sched::{CloneFlags, unshare};

/// For each answer of the kernel. Far more than it needs, even emulated.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a test may take.
const LIMIT: Duration = Duration::from_mins(5);

/// Runs `test` on a thread in a new network namespace.
pub(crate) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let test = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("needs root: makes a network namespace");
        run("ip", "link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(LIMIT, test()).await.expect("test hangs") });
    };
    if let Err(panic) = thread::spawn(test).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a program in the calling thread's namespace and gives what it prints.
fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn ipvsadm(arguments: &str) -> String {
    run("ipvsadm", arguments)
}

/// Has ipvsadm make a table from lines of rules.
fn ipvsadm_restore(rules: &[String]) {
    let mut child = Command::new("ipvsadm").arg("-R").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all((rules.join("\n") + "\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "ipvsadm -R of {rules:#?}");
}

/// The rules that ipvsadm saves, sorted.
fn ipvsadm_rules() -> Vec<String> {
    sorted(ipvsadm("-S -n").lines().map(|line| line.trim().to_owned()))
}

fn sorted(lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.into_iter().collect();
    lines.sort();
    lines
}

pub(crate) async fn connect() -> IpvsClient {
    IpvsClient::connect(PATIENCE).await.unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn scheduler(name: &str) -> SchedulerName {
    name.try_into().unwrap()
}

/// The edits that make a table out of nothing.
fn edits(table: &Table) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (key, entry) in &table.services {
        edits.push(Edit::AddService(entry.service.clone()));
        let destinations = entry.destinations.values();
        edits.extend(destinations.map(|one| Edit::AddDestination { service: *key, destination: *one }));
    }
    edits
}

async fn apply(client: &mut IpvsClient, edits: &[Edit]) {
    for edit in edits {
        client.apply(edit).await.unwrap_or_else(|error| panic!("{edit}: {error}"));
    }
}

fn web() -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, address: address("192.0.2.1:80") }
}

fn plain_service(key: ServiceKey) -> Service {
    Service {
        key,
        scheduler: scheduler("rr"),
        flags: ServiceFlags::NONE,
        persistence: None,
        persistence_engine: None,
    }
}

fn plain_destination(server: &str) -> Destination {
    Destination {
        server: address(server),
        method: ForwardingMethod::Masquerade,
        tunnel: Tunnel::Ipip,
        weight: KernelWeight(1),
        upper_threshold: 0,
        lower_threshold: 0,
    }
}
