//! The kernel's IPVS table, read and written by this program and by ipvsadm(8) in turn. Each test has a network
//! namespace, and so a table, of its own.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod random_edits;

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    future::Future,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lvs_agent::{
    ipvs::{
        Conflict, DaemonRole, Destination, Edit, IpvsClient, IpvsError, KernelWeight, SchedulerName, Service,
        ServiceEntry, ServiceFlags, Snapshot, Table, Timeouts, Wanted, WantedDestination, WantedService,
        Wish, difference,
    },
    service::{
        AddressFamily, DestinationKey, ForwardingMethod, Netmask, Persistence, Protocol, Scheduler,
        ServiceKey, Tunnel, TunnelFlags, Weight,
    },
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

// What tables look like in ipvsadm's words.

fn service_words(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { protocol: Protocol::Tcp, address } => format!("-t {address}"),
        ServiceKey::Address { protocol: Protocol::Udp, address } => format!("-u {address}"),
        ServiceKey::Address { protocol: Protocol::Sctp, address } => format!("--sctp-service {address}"),
        ServiceKey::Mark { mark, family: AddressFamily::V4 } => format!("-f {mark}"),
        ServiceKey::Mark { mark, family: AddressFamily::V6 } => format!("-f {mark} -6"),
    }
}

fn persistence_words(persistence: &Persistence) -> String {
    let seconds = persistence.timeout().as_secs();
    match persistence.netmask() {
        Netmask::V4(Ipv4Addr::BROADCAST) | Netmask::V6(128) => format!(" -p {seconds}"),
        Netmask::V4(mask) => format!(" -p {seconds} -M {mask}"),
        Netmask::V6(prefix) => format!(" -p {seconds} -M {prefix}"),
    }
}

fn flag_words(scheduler: &str, flags: ServiceFlags) -> String {
    let names = match scheduler {
        "sh" => ["sh-fallback", "sh-port"],
        "mh" => ["mh-fallback", "mh-port"],
        _ => ["flag-1", "flag-2"],
    };
    let each = [ServiceFlags::SCHEDULER_1, ServiceFlags::SCHEDULER_2];
    let set = names.iter().zip(each).filter(|(_, flag)| flags.bits() & flag.bits() != 0);
    let words: Vec<&str> = set.map(|(name, _)| *name).collect();
    let one_packet = if flags.bits() & ServiceFlags::ONE_PACKET.bits() == 0 { "" } else { " -o" };
    let scheduler = if words.is_empty() { String::new() } else { format!(" -b {}", words.join(",")) };
    format!("{one_packet}{scheduler}")
}

fn service_rule(service: &Service) -> String {
    let persistence = service.persistence.as_ref().map(persistence_words).unwrap_or_default();
    let engine =
        service.persistence_engine.as_ref().map(|engine| format!(" --pe {engine}")).unwrap_or_default();
    let flags = flag_words(service.scheduler.as_str(), service.flags);
    format!("-A {} -s {}{persistence}{engine}{flags}", service_words(&service.key), service.scheduler)
}

fn checksum_words(flags: TunnelFlags) -> &'static str {
    match flags {
        TunnelFlags::CHECKSUM => "--tun-csum",
        TunnelFlags::REMOTE_CHECKSUM => "--tun-remcsum",
        _ => "--tun-nocsum",
    }
}

fn method_words(destination: &Destination) -> (&'static str, String) {
    let tunnel = match destination.tunnel {
        Tunnel::Gue { port, flags } => format!(" --tun-type gue --tun-port {port} {}", checksum_words(flags)),
        Tunnel::Gre { flags } => format!(" --tun-type gre {}", checksum_words(flags)),
        Tunnel::Ipip | Tunnel::Other { .. } => " --tun-type ipip".to_owned(),
    };
    match destination.method {
        ForwardingMethod::Tunnel => ("-i", tunnel),
        ForwardingMethod::DirectRoute => ("-g", String::new()),
        _ => ("-m", String::new()),
    }
}

fn destination_rule(service: &ServiceKey, destination: &Destination) -> String {
    let (method, tunnel) = method_words(destination);
    let (server, weight) = (destination.server, destination.weight);
    format!("-a {} -r {server} {method} -w {weight}{tunnel}", service_words(service))
}

fn rules(table: &Table, destination_rule: impl Fn(&ServiceKey, &Destination) -> String) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, entry) in &table.services {
        lines.push(service_rule(&entry.service));
        lines.extend(entry.destinations.values().map(|destination| destination_rule(key, destination)));
    }
    lines
}

/// What `ipvsadm -Ln --thresholds` says of the servers: `-> server upper lower`.
fn threshold_lines(table: &Table) -> Vec<String> {
    let destinations = table.services.values().flat_map(|entry| entry.destinations.values());
    sorted(
        destinations.map(|one| format!("-> {} {} {}", one.server, one.upper_threshold, one.lower_threshold)),
    )
}

fn ipvsadm_thresholds() -> Vec<String> {
    let text = ipvsadm("-L -n --thresholds");
    let servers =
        text.lines().filter(|line| line.trim_start().starts_with("->") && !line.contains("RemoteAddress"));
    sorted(servers.map(|line| line.split_whitespace().take(4).collect::<Vec<_>>().join(" ")))
}

// The tables of the matrix.

/// Every kind of service that there is.
fn keys() -> Vec<ServiceKey> {
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let vips = ["192.0.2.1:80", "[2001:db8::1]:80"].map(address);
    let addresses = vips.into_iter().flat_map(|address| {
        protocols.into_iter().map(move |protocol| ServiceKey::Address { protocol, address })
    });
    let families = [AddressFamily::V4, AddressFamily::V6];
    addresses.chain(families.map(|family| ServiceKey::Mark { mark: 7, family })).collect()
}

/// No persistence, for each address, for each network.
fn persistence(family: AddressFamily) -> [Option<Persistence>; 3] {
    let network = match family {
        AddressFamily::V4 => Netmask::V4(Ipv4Addr::new(255, 255, 255, 0)),
        AddressFamily::V6 => Netmask::V6(64),
    };
    [
        None,
        Some(Persistence::new(Duration::from_mins(6), Netmask::whole_address(family))),
        Some(Persistence::new(Duration::from_secs(10), network)),
    ]
}

/// Every method and encapsulation, with weights and thresholds that change from one to the next.
fn destinations(key: &ServiceKey) -> BTreeMap<SocketAddr, Destination> {
    use ForwardingMethod::{DirectRoute, Masquerade, Tunnel as InTunnel};
    let gue = |flags| Tunnel::Gue { port: 6080, flags };
    let gre = |flags| Tunnel::Gre { flags };
    let kinds = [
        (Masquerade, Tunnel::Ipip),
        (DirectRoute, Tunnel::Ipip),
        (InTunnel, Tunnel::Ipip),
        (InTunnel, gue(TunnelFlags::NO_CHECKSUM)),
        (InTunnel, gue(TunnelFlags::CHECKSUM)),
        (InTunnel, gue(TunnelFlags::REMOTE_CHECKSUM)),
        (InTunnel, gre(TunnelFlags::NO_CHECKSUM)),
        (InTunnel, gre(TunnelFlags::CHECKSUM)),
    ];
    // A server of the other IP version can be reached through a tunnel only.
    let across = kinds.into_iter().filter(|(method, _)| *method == InTunnel).map(|kind| (kind, true));
    let kinds = kinds.into_iter().map(|kind| (kind, false)).chain(across).enumerate();
    let each = kinds.map(|(number, ((method, tunnel), across))| {
        let (upper_threshold, lower_threshold) = [(0, 0), (100, 0), (100, 50)][number % 3];
        let weight = KernelWeight([0, 1, 65_535, 7][number % 4]);
        let server = server(key, method, across, number);
        (server, Destination { server, method, tunnel, weight, upper_threshold, lower_threshold })
    });
    each.collect()
}

/// A server's address. Only masquerading changes ports: otherwise ipvsadm insists on the service's.
fn server(key: &ServiceKey, method: ForwardingMethod, across: bool, number: usize) -> SocketAddr {
    let port = match key {
        _ if method == ForwardingMethod::Masquerade => 8080,
        ServiceKey::Address { address, .. } => address.port(),
        ServiceKey::Mark { .. } => 0,
    };
    match (key.family(), across) {
        (AddressFamily::V4, false) | (AddressFamily::V6, true) => {
            address(&format!("10.0.0.{}:{port}", number + 1))
        }
        _ => address(&format!("[2001:db8:1::{:x}]:{port}", number + 1)),
    }
}

/// The schedulers that this kernel has. Some distributions build all but the newest.
fn schedulers() -> Vec<&'static str> {
    let has = |name: &&str| {
        let status = Command::new("modprobe").args(["-q", &format!("ip_vs_{name}")]).status();
        status.expect("modprobe(8) is needed").success()
    };
    let (available, missing): (Vec<_>, Vec<_>) = Scheduler::NAMES.into_iter().partition(has);
    assert!(missing.is_empty() || missing == ["twos"], "no modules for the schedulers {missing:?}");
    available
}

/// One table for each persistence; schedulers and flags change from one service to the next, none is left out.
fn tables() -> Vec<Table> {
    let flags = [
        ServiceFlags::NONE,
        ServiceFlags::SCHEDULER_1 | ServiceFlags::SCHEDULER_2,
        ServiceFlags::SCHEDULER_2,
        ServiceFlags::SCHEDULER_1,
    ];
    let available = schedulers();
    let mut schedulers = available.iter().cycle();
    let mut table = |which: usize| {
        let entry = |(number, key): (usize, ServiceKey)| {
            let udp = matches!(key, ServiceKey::Address { protocol: Protocol::Udp, .. });
            let persistence = persistence(key.family())[which];
            let one_packet = if udp && which == 0 { ServiceFlags::ONE_PACKET } else { ServiceFlags::NONE };
            let service = Service {
                key,
                scheduler: scheduler(schedulers.next().unwrap()),
                flags: flags[(number + which) % flags.len()] | one_packet,
                persistence,
                persistence_engine: (udp && persistence.is_some()).then(|| "sip".to_owned()),
            };
            (key, ServiceEntry { service, destinations: destinations(&key) })
        };
        Table { services: keys().into_iter().enumerate().map(entry).collect() }
    };
    let tables: Vec<Table> = (0..3).map(&mut table).collect();
    for name in &available {
        let mut services = tables.iter().flat_map(|table| table.services.values());
        assert!(services.any(|entry| entry.service.scheduler.as_str() == *name), "{name} is not tried");
    }
    tables
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

/// Makes the edits that lead from what is to what is wanted.
async fn reach(client: &mut IpvsClient, wanted: &Wanted) {
    let table = client.table().await.unwrap();
    apply(client, &difference(&table, wanted)).await;
}

#[test]
fn ipvsadm_reads_what_this_program_writes() {
    in_namespace(|| async {
        let mut client = connect().await;
        for table in tables() {
            apply(&mut client, &edits(&table)).await;
            assert_eq!(ipvsadm_rules(), sorted(rules(&table, destination_rule)));
            assert_eq!(ipvsadm_thresholds(), threshold_lines(&table));
            assert_eq!(client.table().await.unwrap(), table);
            ipvsadm("-C");
        }
    });
}

#[test]
fn this_program_reads_what_ipvsadm_writes() {
    let with_thresholds = |service: &ServiceKey, destination: &Destination| {
        let (upper, lower) = (destination.upper_threshold, destination.lower_threshold);
        format!("{} -x {upper} -y {lower}", destination_rule(service, destination))
    };
    in_namespace(move || async move {
        let mut client = connect().await;
        for table in tables() {
            ipvsadm_restore(&rules(&table, with_thresholds));
            assert_eq!(client.table().await.unwrap(), table);
            ipvsadm("-C");
        }
        assert_eq!(client.table().await.unwrap(), Table::default());
    });
}

/// What edits make of a table, in steps that are looked at one by one.
fn steps(from: &Table, to: &Table) -> Vec<Vec<Edit>> {
    let destinations = |table: &Table| -> Vec<(ServiceKey, Destination)> {
        let services = table.services.iter();
        services.flat_map(|(key, entry)| entry.destinations.values().map(|one| (*key, *one))).collect()
    };
    let each = |table: &Table, edit: fn(ServiceKey, Destination) -> Edit| -> Vec<Edit> {
        destinations(table).into_iter().map(|(service, one)| edit(service, one)).collect()
    };
    // Local and bypassing servers, of which ipvsadm can't make any, have the IP version of their service.
    let same_version = |edit: &Edit| {
        edit.server().is_some_and(|server| server.is_ipv4() == (edit.service().family() == AddressFamily::V4))
    };
    let with_method = |method| {
        let edits = destinations(to).into_iter().map(|(service, destination)| Edit::SetDestination {
            service,
            destination: Destination { method, ..destination },
        });
        edits.filter(same_version).collect()
    };
    let extremes = |service, destination| Edit::SetDestination {
        service,
        destination: Destination {
            method: ForwardingMethod::Tunnel,
            tunnel: Tunnel::Gue { port: 1, flags: TunnelFlags::CHECKSUM },
            weight: KernelWeight(i32::MAX),
            upper_threshold: i32::MAX.cast_unsigned(),
            lower_threshold: 1,
            ..destination
        },
    };
    let delete = |service, destination: Destination| {
        Edit::DeleteDestination(DestinationKey { service, server: destination.server })
    };
    vec![
        to.services.values().map(|entry| Edit::SetService(entry.service.clone())).collect(),
        each(from, extremes),
        with_method(ForwardingMethod::Local),
        with_method(ForwardingMethod::Bypass),
        each(from, |service, destination| Edit::SetDestination { service, destination }),
        each(from, delete),
        each(to, |service, destination| Edit::AddDestination { service, destination }),
        to.services.keys().skip(1).map(|key| Edit::DeleteService(*key)).collect(),
    ]
}

#[test]
fn every_kind_of_edit_changes_what_it_should_and_nothing_else() {
    in_namespace(|| async {
        let mut client = connect().await;
        let [first, second, third] = tables().try_into().unwrap();
        for (from, to) in [(&first, &second), (&second, &third), (&third, &first)] {
            let mut model = from.clone();
            apply(&mut client, &edits(from)).await;
            for step in steps(from, to) {
                apply(&mut client, &step).await;
                for edit in &step {
                    model.apply(edit).unwrap_or_else(|error| panic!("{edit}: {error}"));
                }
                assert_eq!(client.table().await.unwrap(), model, "after {} and the like", step[0]);
            }
            ipvsadm("-C");
        }
    });
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

/// Checks that an edit fails, and that the error says so in the expected words.
async fn refused(client: &mut IpvsClient, edit: Edit, is: fn(&IpvsError) -> bool, words: &[&str]) {
    let error = client.apply(&edit).await.expect_err("refused");
    let text = error.to_string();
    assert!(is(&error), "{edit}: {error:?}");
    for word in words {
        assert!(text.contains(word), "{edit}: {word:?} in: {text}");
    }
}

#[test]
fn refusals_say_what_is_wrong_and_where() {
    use IpvsError::{Conflict as Other, NoScheduler, NoSchedulerOrEngine, Refused};
    in_namespace(|| async {
        let mut client = connect().await;
        let client = &mut client;
        let service = web();
        let destination = plain_destination("10.0.0.1:80");
        let key = DestinationKey { service, server: destination.server };
        let add = || Edit::AddService(plain_service(web()));
        let set = || Edit::SetDestination { service, destination };
        let add_server = || Edit::AddDestination { service, destination };
        let missing = |error: &IpvsError| matches!(error, Other(Conflict::ServiceMissing(_)));
        let named = ["tcp 192.0.2.1:80"];
        for edit in [set(), add_server(), Edit::DeleteDestination(key), Edit::DeleteService(service)] {
            refused(client, edit, missing, &named).await;
        }
        refused(client, Edit::SetService(plain_service(web())), missing, &named).await;

        let unknown = Service { scheduler: scheduler("nosuch"), ..plain_service(web()) };
        let words = ["\"nosuch\"", "modprobe ip_vs_nosuch", "tcp 192.0.2.1:80"];
        refused(
            client,
            Edit::AddService(unknown.clone()),
            |error| matches!(error, NoScheduler { .. }),
            &words,
        )
        .await;
        let engine = Service { persistence_engine: Some("nosuch".to_owned()), ..plain_service(web()) };
        let is = |error: &IpvsError| matches!(error, NoSchedulerOrEngine { .. });
        refused(client, Edit::AddService(engine), is, &["ip_vs_pe_nosuch"]).await;

        client.apply(&add()).await.unwrap();
        refused(client, Edit::SetService(unknown), |error| matches!(error, NoScheduler { .. }), &words).await;
        refused(client, add(), |error| matches!(error, Other(Conflict::ServiceExists(_))), &named).await;
        let missing = |error: &IpvsError| matches!(error, Other(Conflict::DestinationMissing(_)));
        let named = ["tcp 192.0.2.1:80 -> 10.0.0.1:80"];
        for edit in [set(), Edit::DeleteDestination(key)] {
            refused(client, edit, missing, &named).await;
        }
        client.apply(&add_server()).await.unwrap();
        refused(client, add_server(), |error| matches!(error, Other(Conflict::DestinationExists(_))), &named)
            .await;

        let negative = Destination { weight: KernelWeight(-1), ..destination };
        let edit = Edit::SetDestination { service, destination: negative };
        refused(client, edit, |error| matches!(error, Refused { .. }), &["weight", "10.0.0.1:80"]).await;
        let across = plain_destination("[2001:db8::2]:80");
        let edit = Edit::AddDestination { service, destination: across };
        refused(client, edit, |error| matches!(error, Refused { .. }), &["IP version", "[2001:db8::2]:80"])
            .await;
        assert_eq!(
            ipvsadm_rules(),
            ["-A -t 192.0.2.1:80 -s rr", "-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 1"]
        );
    });
}

/// A managed service with these servers and weights.
fn wanted(servers: &[(&str, u16)]) -> Wanted {
    let mut service = WantedService::new(scheduler("wrr"));
    for (server, weight) in servers {
        let destination = WantedDestination::new(ForwardingMethod::Tunnel, Weight(*weight));
        service.destinations.insert(address(server), destination);
    }
    Wanted { services: BTreeMap::from([(web(), service)]), ..Wanted::default() }
}

#[test]
fn the_difference_leads_to_what_is_wanted_and_keeps_what_others_set() {
    in_namespace(|| async {
        let mut client = connect().await;
        ipvsadm_restore(
            &[
                "-A -u 192.0.2.9:53 -s sh -p 60 -b sh-port",
                "-a -u 192.0.2.9:53 -r 10.0.0.9:53 -g -w 0",
                "-A -t 192.0.2.1:80 -s rr -p 30 -M 255.255.0.0",
                "-a -t 192.0.2.1:80 -r 10.0.0.1:80 -i -w 1 -x 9 -y 3 --tun-type gue --tun-port 6080 --tun-csum",
                "-a -t 192.0.2.1:80 -r 10.0.0.7:80 -g -w 1",
            ]
            .map(str::to_owned),
        );
        let foreign = ServiceKey::Address { protocol: Protocol::Udp, address: address("192.0.2.9:53") };
        let untouched = client.table().await.unwrap().services[&foreign].clone();
        let plans = [
            wanted(&[("10.0.0.1:80", 1), ("10.0.0.2:80", 3)]),
            wanted(&[("10.0.0.1:80", 0), ("10.0.0.2:80", 3)]),
            wanted(&[("10.0.0.1:80", 5)]),
            wanted(&[("10.0.0.1:80", 0), ("[2001:db8::2]:80", 65_535)]),
        ];
        for plan in &plans {
            for edit in difference(&client.table().await.unwrap(), plan) {
                client.apply(&edit).await.unwrap_or_else(|error| panic!("{edit}: {error}"));
                assert!(client.table().await.unwrap().services[&web()].takes_connections(), "after: {edit}");
            }
            let table = client.table().await.unwrap();
            assert_eq!(difference(&table, plan), vec![]);
            assert_eq!(table.services[&foreign], untouched);
            let kept = table.services[&web()].destinations[&address("10.0.0.1:80")];
            let tunnel = Tunnel::Gue { port: 6080, flags: TunnelFlags::CHECKSUM };
            assert_eq!((kept.tunnel, kept.upper_threshold, kept.lower_threshold), (tunnel, 9, 3));
            let persistence = table.services[&web()].service.persistence;
            let netmask = Netmask::V4(Ipv4Addr::new(255, 255, 0, 0));
            assert_eq!(persistence, Some(Persistence::new(Duration::from_secs(30), netmask)));
        }
        let mut last = wanted(&[("10.0.0.1:80", 1)]);
        if let Some(service) = last.services.get_mut(&web()) {
            service.persistence = Wish::Set(None);
        }
        reach(&mut client, &last).await;
        assert_eq!(client.table().await.unwrap().services[&web()].service.persistence, None);
        let gone = Wanted { unwanted: [web()].into(), ..Wanted::default() };
        reach(&mut client, &gone).await;
        assert_eq!(client.table().await.unwrap().services.keys().collect::<Vec<_>>(), [&foreign]);
    });
}

#[test]
fn a_weight_that_this_program_never_sets_is_read_and_replaced() {
    in_namespace(|| async {
        let mut client = connect().await;
        ipvsadm("-A -t 192.0.2.1:80 -s rr");
        ipvsadm("-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 2147483647");
        let table = client.table().await.unwrap();
        let weight = table.services[&web()].destinations[&address("10.0.0.1:80")].weight;
        assert_eq!(weight, KernelWeight(i32::MAX));
        let own = wanted(&[("10.0.0.1:80", 1)]);
        reach(&mut client, &own).await;
        assert_eq!(difference(&client.table().await.unwrap(), &own), vec![]);
    });
}

fn numbered(number: u32) -> ServiceKey {
    ServiceKey::Mark { mark: number, family: AddressFamily::V4 }
}

#[test]
fn long_lists_are_read_whole() {
    const SERVICES: u32 = 120;
    const SERVERS: u32 = 500;
    in_namespace(|| async {
        let mut client = connect().await;
        let mut model = Table::default();
        for number in 1..=SERVICES {
            let edit = Edit::AddService(plain_service(numbered(number)));
            client.apply(&edit).await.unwrap();
            model.apply(&edit).unwrap();
        }
        for number in 1..=SERVERS {
            let [_, b, c, d] = number.to_be_bytes();
            let destination = plain_destination(&format!("10.{b}.{c}.{d}:80"));
            let edit = Edit::AddDestination { service: numbered(1), destination };
            client.apply(&edit).await.unwrap();
            model.apply(&edit).unwrap();
        }
        let started = Instant::now();
        assert_eq!(client.table().await.unwrap(), model);
        println!("{SERVICES} services and {SERVERS} servers read in {:?}", started.elapsed());
        println!("{}", time_of_edit(&mut client, numbered(1), "10.0.0.1:80").await);
        client.apply(&Edit::AddService(plain_service(web()))).await.unwrap();
        let destination = plain_destination("10.0.0.1:80");
        client.apply(&Edit::AddDestination { service: web(), destination }).await.unwrap();
        println!("{}", time_of_edit(&mut client, web(), "10.0.0.1:80").await);
    });
}

/// Says how long a change of weight takes. Not a condition: machines differ.
async fn time_of_edit(client: &mut IpvsClient, service: ServiceKey, server: &str) -> String {
    let mut times = Vec::new();
    for number in 0..101 {
        let destination = Destination { weight: KernelWeight(number % 2), ..plain_destination(server) };
        let started = Instant::now();
        client.apply(&Edit::SetDestination { service, destination }).await.unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    format!("set server {service} -> {server}: median {:?}, longest {:?}", times[50], times[100])
}

#[test]
fn a_list_that_changes_while_it_is_read_misses_nothing() {
    const STEADY: u32 = 200;
    const READINGS: u32 = 6;
    in_namespace(|| async {
        let mut client = connect().await;
        for number in 1..=STEADY {
            client.apply(&Edit::AddService(plain_service(numbered(number)))).await.unwrap();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let others = busy_neighbour(Arc::clone(&stop));
        let (mut read, mut unsteady) = (0, 0);
        while read < READINGS {
            match client.table().await {
                Ok(table) => {
                    let missing: Vec<_> = (1..=STEADY)
                        .filter(|number| !table.services.contains_key(&numbered(*number)))
                        .collect();
                    assert!(missing.is_empty(), "missing marks: {missing:?}");
                    read += 1;
                }
                Err(IpvsError::Unsteady(_)) => unsteady += 1,
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        let edits = others.join().unwrap();
        println!("{read} readings agreed with themselves, {unsteady} did not, during {edits} edits");
        assert!(edits > 0, "nothing changed meanwhile: this tested nothing");
    });
}

/// A second client, on a thread of its own, that adds and deletes services until it is told to stop: first without a
/// pause, then with longer and longer ones, so that a reader finds every pace. Gives the number of its edits.
fn busy_neighbour(stop: Arc<AtomicBool>) -> thread::JoinHandle<u32> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut client = connect().await;
            let mut edits = 0;
            while !stop.load(Ordering::Relaxed) {
                for number in 10_000..10_004 {
                    client.apply(&Edit::AddService(plain_service(numbered(number)))).await.unwrap();
                    edits += 1;
                }
                for number in 10_000..10_004 {
                    client.apply(&Edit::DeleteService(numbered(number))).await.unwrap();
                    edits += 1;
                }
                tokio::time::sleep(Duration::from_micros(u64::from(edits) * 50)).await;
            }
            edits
        })
    })
}

#[test]
fn version_timeouts_and_daemons_are_read() {
    in_namespace(|| async {
        let mut client = connect().await;
        let info = client.info().await.unwrap();
        let (major, minor, patch) = info.version;
        let said = format!("version {major}.{minor}.{patch} (size={})", info.connection_table_size);
        assert!(ipvsadm("-L -n").contains(&said), "{said}");

        let seconds = |number| Some(Duration::from_secs(number));
        ipvsadm("--set 111 22 33");
        let read = client.timeouts().await.unwrap();
        assert_eq!(read, Timeouts { tcp: seconds(111), tcp_fin: seconds(22), udp: seconds(33) });
        client.set_timeouts(&Timeouts { udp: seconds(44), ..Timeouts::default() }).await.unwrap();
        assert!(ipvsadm("-L --timeout").contains("111 22 44"), "{}", ipvsadm("-L --timeout"));

        assert_eq!(client.daemons().await.unwrap(), vec![]);
        run("ip", "address add 10.0.0.1/24 dev lo");
        run("ip", "link set lo multicast on");
        ipvsadm("--start-daemon backup --mcast-interface lo --syncid 5 --mcast-port 9999");
        let daemons = client.daemons().await.unwrap();
        ipvsadm("--stop-daemon backup");
        let [daemon] = daemons.as_slice() else { panic!("{daemons:?}") };
        assert_eq!((daemon.role, daemon.device.as_str()), (DaemonRole::Backup, "lo"));
        assert_eq!((daemon.sync_id, daemon.port), (5, 9999));
        assert_eq!(client.daemons().await.unwrap(), vec![]);
    });
}

#[test]
fn connections_are_counted() {
    in_namespace(|| async {
        let mut client = connect().await;
        run("ip", "address add 192.0.2.1/32 dev lo");
        ipvsadm("-A -t 192.0.2.1:80 -s rr");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:80").await.unwrap();
        ipvsadm("-a -t 192.0.2.1:80 -r 127.0.0.1:80 -m -w 1");
        let _connection = tokio::net::TcpStream::connect("192.0.2.1:80").await.unwrap();
        let _accepted = listener.accept().await.unwrap();
        let key = DestinationKey { service: web(), server: address("127.0.0.1:80") };
        let snapshot = counted(&mut client, key).await;
        let of_server = snapshot.statistics.destinations[&key];
        assert_eq!((of_server.active, of_server.inactive, of_server.persistent), (1, 0, 0));
        assert_eq!(of_server.traffic.connections, 1);
        assert!(of_server.traffic.packets_in >= 2, "SYN and ACK: {of_server:?}");
        assert!(of_server.traffic.bytes_in >= 80, "SYN and ACK: {of_server:?}");
        assert_eq!(snapshot.statistics.services[&web()].connections, 1);
        assert_eq!(snapshot.table, client.table().await.unwrap());
    });
}

/// Reads until a connection was counted for server and service: the kernel does its sums every two seconds only,
/// and not at once for both.
async fn counted(client: &mut IpvsClient, key: DestinationKey) -> Snapshot {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let snapshot = client.snapshot().await.unwrap();
        let statistics = &snapshot.statistics;
        let [of_server, of_service] =
            [statistics.destinations[&key].traffic, statistics.services[&key.service]];
        if (of_server.connections > 0 && of_service.connections > 0) || Instant::now() > deadline {
            return snapshot;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Says to the program that runs this test again that it is without privileges.
const WITHOUT: &str = "LVS_TEST_WITHOUT_NET_ADMIN";

#[test]
fn without_privileges_the_error_says_which_are_needed() {
    if env::var_os(WITHOUT).is_none() {
        // A test's name is its path within the crate.
        let (_crate, module) = module_path!().split_once("::").unwrap();
        let name = format!("{module}::without_privileges_the_error_says_which_are_needed");
        let output = Command::new("setpriv")
            .args(["--inh-caps", "-net_admin", "--bounding-set", "-net_admin"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(WITHOUT, "1")
            .output();
        let output = output.expect("setpriv(1) of util-linux is needed");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = connect().await;
        let says = |error: &dyn fmt::Display| error.to_string().contains("needs root or CAP_NET_ADMIN");
        let error = client.info().await.unwrap_err();
        assert!(says(&error), "{error}");
        let error = client.table().await.unwrap_err();
        assert!(says(&error), "{error}");
        let error = client.apply(&Edit::DeleteService(web())).await.unwrap_err();
        assert!(says(&error) && error.to_string().contains("192.0.2.1:80"), "{error}");
    });
}

/// What the kernel runs when it needs a module.
pub(crate) const LOADER: &str = "/proc/sys/kernel/modprobe";

/// The modules of IPVS that are loaded, `ip_vs` itself last.
fn ipvs_modules() -> Vec<String> {
    let modules = fs::read_to_string("/proc/modules").unwrap();
    let names = modules.lines().filter_map(|line| line.split(' ').next());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("ip_vs")).map(str::to_owned).collect();
    names.sort_by_key(|name| name == "ip_vs");
    names
}

/// Unloads all of IPVS. Takes as many tries as it needs: the kernel is slow to take the namespaces of earlier
/// tests apart, and a modprobe(8) may also fail where it could unload the module but not others that this one
/// needs.
pub(crate) fn unload_ipvs() {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let modules = ipvs_modules();
        if modules.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still in use: {modules:?}");
        for module in &modules {
            Command::new("modprobe").args(["-r", module]).status().expect("modprobe(8) is needed");
        }
    }
}

#[test]
#[ignore = "unloads ip_vs, which all other tests need: to be run alone"]
fn a_module_that_is_loaded_anew_is_found_again() {
    in_namespace(|| async {
        let mut client = connect().await;
        let add = Edit::AddService(plain_service(web()));
        client.apply(&add).await.unwrap();
        ipvsadm("-C");
        unload_ipvs();
        run("modprobe", "ip_vs");
        client.apply(&add).await.unwrap();
        assert_eq!(ipvsadm_rules(), ["-A -t 192.0.2.1:80 -s rr"]);

        // Newer kernels load the module by themselves as soon as its family is asked for.
        ipvsadm("-C");
        unload_ipvs();
        let loader = fs::read_to_string(LOADER).unwrap();
        fs::write(LOADER, "/nonexistent").unwrap();
        let errors = [
            client.info().await.err(),
            client.apply(&add).await.err(),
            IpvsClient::connect(PATIENCE).await.err(),
        ];
        fs::write(LOADER, loader.trim()).unwrap();
        for error in errors {
            assert!(matches!(error, Some(IpvsError::NoIpvs)), "{error:?}");
        }
        run("modprobe", "ip_vs");
        assert_eq!(client.table().await.unwrap(), Table::default());
    });
}
