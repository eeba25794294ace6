//! Devices, routes and neighbours against the running kernel, each test in a network namespace of its own.
//!
//! Needs root and ip(8). The namespaces have no names: each lives as long as the thread that made it, so nothing
//! is left behind whatever happens to a test.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    future::Future,
    io::Write,
    net::IpAddr,
    process::{Command, Stdio},
    sync::mpsc as channel,
    thread,
    time::Duration,
};

use lvs_agent::network::{
    Links, Mac, NeighbourChange, NeighbourState, NeighbourWatch, Neighbours, NetworkChanges, NetworkError,
    NextHop, RouteLookup, RouteQuery, RouteSnapshot, ServerNextHop, Surveyor, Topology,
};
use nix::sched::{CloneFlags, unshare};
use tokio::sync::mpsc;

/// For each answer of the kernel, and for what takes it some time. Far more than it needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` on a thread in a new network namespace.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let test = move || {
        enter_new_namespace();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(3 * PATIENCE, test()).await.expect("test hangs") });
    };
    if let Err(panic) = thread::spawn(test).join() {
        std::panic::resume_unwind(panic);
    }
}

fn enter_new_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root: they make network namespaces");
    ip("link set lo up");
}

/// Runs ip(8) in the calling thread's namespace.
fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip(8) is needed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs many commands of ip(8) at once.
fn ip_batch(lines: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A second namespace: another thread that is there and answers ARP for as long as this value lives.
struct Peer {
    commands: Option<channel::Sender<String>>,
    done: channel::Receiver<()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Peer {
    /// Moves the device into a new namespace and configures it there.
    fn with_device(device: &str, commands: &[&str]) -> Self {
        let (ready, namespace) = channel::channel();
        let (sender, receiver) = channel::channel::<String>();
        let (done, each) = channel::channel();
        let thread = thread::spawn(move || {
            enter_new_namespace();
            let thread = fs::read_link("/proc/thread-self").unwrap();
            ready.send(format!("/proc/{}/ns/net", thread.display())).unwrap();
            for command in receiver {
                ip(&command);
                done.send(()).unwrap();
            }
        });
        let namespace = namespace.recv_timeout(PATIENCE).unwrap();
        ip(&format!("link set {device} netns {namespace}"));
        let peer = Self { commands: Some(sender), done: each, thread: Some(thread) };
        for command in commands {
            peer.run(command);
        }
        peer
    }
}

impl Peer {
    /// Runs ip(8) in the peer's namespace.
    fn run(&self, command: &str) {
        self.commands.as_ref().unwrap().send(command.to_owned()).unwrap();
        self.done.recv_timeout(PATIENCE).unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || thread::panicking(), "the peer's thread panicked");
        }
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const MAC: Mac = [2, 0, 0, 0, 0, 7];

#[test]
fn devices_are_found_by_name_and_number() {
    in_namespace(|| async {
        ip("link add bridge7 address 02:00:00:00:00:07 type bridge");
        ip("link add va type veth peer name vb");
        ip("link set va up");
        let mut links = Links::connect(PATIENCE).await.unwrap();

        let names: Vec<_> = links.list().await.unwrap().into_iter().map(|link| link.name).collect();
        for name in ["lo", "bridge7", "va", "vb"] {
            assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
        }
        let bridge = links.by_name("bridge7").await.unwrap();
        assert_eq!((bridge.mac, bridge.kind.as_deref(), bridge.up), (Some(MAC), Some("bridge"), false));
        assert_eq!(links.by_index(bridge.index).await.unwrap(), bridge);
        let veth = links.by_name("va").await.unwrap();
        assert_eq!((veth.kind.as_deref(), veth.up, veth.carrier), (Some("veth"), true, false));
        ip("link set vb up");
        assert!(links.by_name("va").await.unwrap().carrier);
        assert_eq!(links.by_name("lo").await.unwrap().kind, None);
    });
}

#[test]
fn a_missing_device_is_told_with_those_that_are_there() {
    in_namespace(|| async {
        ip("link add va type veth peer name vb");
        let mut links = Links::connect(PATIENCE).await.unwrap();
        let text = links.by_name("eth0").await.unwrap_err().to_string();
        for part in ["\"eth0\"", "lo", "va", "vb"] {
            assert!(text.contains(part), "{part} in: {text}");
        }
        for index in [0, 7_777, u32::MAX] {
            assert_eq!(links.by_index(index).await, Err(NetworkError::NoDeviceIndex(index)));
        }
    });
}

/// Two devices and routes of every kind.
fn make_routes() {
    for command in [
        "link add one type veth peer name two",
        "link set one up",
        "link set two up",
        "address add 10.1.0.1/24 dev one",
        "address add 10.2.0.1/24 dev two",
        "address add 2001:db8:1::1/64 dev one nodad",
        "address add 2001:db8:2::1/64 dev two nodad",
        "route add 10.9.0.0/16 via 10.1.0.254",
        "route add 10.10.0.0/16 via inet6 fe80::7 dev one",
        "route add unreachable 10.8.0.0/24",
        "route add prohibit 10.8.1.0/24",
        "route add blackhole 10.8.2.0/24",
        "-6 route add 2001:db8:9::/48 via 2001:db8:1::fe",
        "-6 route add unreachable 2001:db8:8::/64",
        "-6 route add prohibit 2001:db8:8:1::/64",
        "-6 route add blackhole 2001:db8:8:2::/64",
        "rule add fwmark 7 table 100",
        "-6 rule add fwmark 7 table 100",
        "route add 10.9.0.0/16 via 10.2.0.254 table 100",
        "-6 route add 2001:db8:9::/48 via 2001:db8:2::fe table 100",
    ] {
        ip(command);
    }
}

#[test]
fn routes_lead_through_a_device_to_a_next_hop() {
    in_namespace(|| async {
        make_routes();
        let mut routes = RouteLookup::connect(PATIENCE).await.unwrap();
        let mut links = Links::connect(PATIENCE).await.unwrap();
        let two = Some(links.by_name("two").await.unwrap().index);
        let plain = RouteQuery::default();
        let marked = RouteQuery { mark: Some(7), ..plain };
        let bound = RouteQuery { device: two, ..plain };
        let gateway = |text| NextHop::Gateway(address(text));
        let cases = [
            ("10.1.0.7", plain, "one", NextHop::Direct),
            ("10.1.0.1", plain, "lo", NextHop::Local),
            ("10.9.0.1", plain, "one", gateway("10.1.0.254")),
            ("10.9.0.1", marked, "two", gateway("10.2.0.254")),
            ("10.10.0.1", plain, "one", gateway("fe80::7")),
            ("192.0.2.1", bound, "two", NextHop::Direct),
            ("2001:db8:1::7", plain, "one", NextHop::Direct),
            ("2001:db8:1::1", plain, "lo", NextHop::Local),
            ("2001:db8:9::1", plain, "one", gateway("2001:db8:1::fe")),
            ("2001:db8:9::1", marked, "two", gateway("2001:db8:2::fe")),
            ("2001:db8:2::7", bound, "two", NextHop::Direct),
        ];
        for (to, query, device, next_hop) in cases {
            let route =
                routes.lookup(address(to), query).await.unwrap_or_else(|error| panic!("{to}: {error}"));
            assert_eq!((route.device_name.as_str(), route.next_hop), (device, next_hop), "{to} {query:?}");
            assert_eq!(links.by_name(device).await.unwrap().index, route.device, "{to}");
            let neighbour = match next_hop {
                NextHop::Local => None,
                NextHop::Direct => Some(address(to)),
                NextHop::Gateway(gateway) => Some(gateway),
            };
            assert_eq!(route.neighbour(), neighbour, "{to}");
        }
    });
}

#[test]
fn an_address_without_a_route_is_named() {
    in_namespace(|| async {
        make_routes();
        let mut routes = RouteLookup::connect(PATIENCE).await.unwrap();
        let v4 = ["192.0.2.1", "10.8.0.1", "10.8.1.1", "10.8.2.1"];
        let v6 = ["2001:db8:7::1", "2001:db8:8::1", "2001:db8:8:1::1", "2001:db8:8:2::1"];
        for to in v4.into_iter().chain(v6) {
            let error = routes.lookup(address(to), RouteQuery::default()).await.unwrap_err();
            assert!(matches!(error, NetworkError::NoRoute { .. }), "{to}: {error:?}");
            assert!(error.to_string().contains(to), "{error}");
        }
        let error = routes.lookup(address("10.1.0.255"), RouteQuery::default()).await.unwrap_err();
        assert!(matches!(error, NetworkError::NotUnicast { kind: "broadcast", .. }), "{error:?}");
    });
}

/// Reads changes until one satisfies `wanted`.
async fn until(
    changes: &mut mpsc::Receiver<NeighbourChange>,
    wanted: impl Fn(&NeighbourChange) -> bool,
) -> NeighbourChange {
    let wait = async {
        loop {
            let change = changes.recv().await.expect("the watch ended");
            if wanted(&change) {
                return change;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("no such change of the neighbour table")
}

/// A device with a neighbour at its other end, which has `10.1.0.2` and `2001:db8:1::2`. Gives the device's index.
async fn make_neighbour() -> (Peer, u32) {
    ip("link add here type veth peer name there");
    // Else the device's own IPv6 address, without which the kernel asks for nobody, could only be used after a
    // second.
    fs::write("/proc/sys/net/ipv6/conf/here/accept_dad", "0").unwrap();
    for command in [
        "link set there address 02:00:00:00:00:07",
        "address add 10.1.0.1/24 dev here",
        "address add 2001:db8:1::1/64 dev here nodad",
        "link set here up",
        // How long the kernel waits before it asks again, so that a missing neighbour is given up soon.
        "ntable change name arp_cache dev here retrans 50",
        "ntable change name ndisc_cache dev here retrans 50",
    ] {
        ip(command);
    }
    let peer = Peer::with_device(
        "there",
        &[
            "address add 10.1.0.2/24 dev there",
            "address add 2001:db8:1::2/64 dev there nodad",
            "link set there up",
        ],
    );
    let mut links = Links::connect(PATIENCE).await.unwrap();
    (peer, links.by_name("here").await.unwrap().index)
}

#[test]
fn the_kernel_can_be_made_to_ask_for_a_neighbour() {
    in_namespace(|| async {
        let (_peer, device) = make_neighbour().await;
        let mut neighbours = Neighbours::connect(PATIENCE).await.unwrap();
        let (_watch, mut changes) = NeighbourWatch::start(PATIENCE).await.unwrap();
        for (text, answers) in
            [("10.1.0.2", true), ("2001:db8:1::2", true), ("10.1.0.9", false), ("2001:db8:1::9", false)]
        {
            let address = address(text);
            assert_eq!(neighbours.entry(device, address).await, Ok(None), "{text}");
            assert_eq!(neighbours.resolve(device, address).await, Ok(None), "{text}");
            let state = if answers { NeighbourState::Reachable } else { NeighbourState::Failed };
            let change = until(&mut changes, |one| one.address == address && one.state == state).await;
            assert_eq!((change.device, change.mac), (device, answers.then_some(MAC)), "{text}");
        }
        let known = neighbours.resolve(device, address("10.1.0.2")).await.unwrap();
        assert_eq!(known.and_then(|entry| entry.mac), Some(MAC), "what is known isn't asked for again");
    });
}

#[test]
fn a_failed_neighbour_is_asked_for_again() {
    in_namespace(|| async {
        let (_peer, device) = make_neighbour().await;
        let mut neighbours = Neighbours::connect(PATIENCE).await.unwrap();
        let (_watch, mut changes) = NeighbourWatch::start(PATIENCE).await.unwrap();
        let address = address("10.1.0.9");
        let failed = |one: &NeighbourChange| one.address == address && one.state == NeighbourState::Failed;
        for _ in 0..2 {
            assert_eq!(neighbours.resolve(device, address).await, Ok(None));
            until(&mut changes, failed).await;
        }
    });
}

#[test]
fn an_address_set_by_hand_outlives_being_asked_for() {
    in_namespace(|| async {
        let (_peer, device) = make_neighbour().await;
        ip("neigh add 10.1.0.3 lladdr 02:00:00:00:00:03 dev here nud permanent");
        let mut neighbours = Neighbours::connect(PATIENCE).await.unwrap();
        let wanted = NeighbourChange {
            device,
            address: address("10.1.0.3"),
            state: NeighbourState::Permanent,
            mac: Some([2, 0, 0, 0, 0, 3]),
        };
        assert_eq!(neighbours.resolve(device, wanted.address).await, Ok(Some(wanted)));
        assert_eq!(neighbours.entry(device, wanted.address).await, Ok(Some(wanted)));
        assert!(neighbours.dump().await.unwrap().contains(&wanted));
        let nowhere = neighbours.resolve(7_777, wanted.address).await;
        assert_eq!(nowhere, Err(NetworkError::NoDeviceIndex(7_777)));
    });
}

#[test]
fn the_watch_tells_what_is_there_and_what_changes() {
    in_namespace(|| async {
        ip("link add here type veth peer name there");
        ip("link set here up");
        ip("neigh add 10.1.0.3 lladdr 02:00:00:00:00:03 dev here nud permanent");
        let (watch, mut changes) = NeighbourWatch::start(PATIENCE).await.unwrap();
        let about = address("10.1.0.3");
        let first = until(&mut changes, |one| one.address == about).await;
        assert_eq!((first.state, first.mac), (NeighbourState::Permanent, Some([2, 0, 0, 0, 0, 3])));
        ip("neigh replace 10.1.0.3 lladdr 02:00:00:00:00:07 dev here nud permanent");
        let second = until(&mut changes, |one| one.address == about).await;
        assert_eq!((second.device, second.mac), (first.device, Some(MAC)));
        ip("neigh del 10.1.0.3 dev here");
        let last = until(&mut changes, |one| one.address == about && one.state == NeighbourState::Gone).await;
        assert_eq!(last.mac, None);
        drop(watch);
        while changes.recv().await.is_some() {}
    });
}

#[test]
fn what_an_overrun_has_lost_is_made_up_for() {
    const MANY: u32 = 6_000;
    in_namespace(|| async {
        ip("link add here type veth peer name there");
        ip("link set here up");
        let (_watch, mut changes) = NeighbourWatch::start(PATIENCE).await.unwrap();
        ip("neigh add 10.254.0.1 lladdr 02:00:00:00:00:07 dev here nud permanent");
        let (mut copy, mut told) = (HashMap::new(), 0);
        follow(&mut copy, until(&mut changes, |one| one.address == address("10.254.0.1")).await);
        let each = |verb: &str, end: &str, numbers: std::ops::Range<u32>| {
            let line = |number: u32| {
                let [_, b, c, d] = number.to_be_bytes();
                format!("neigh {verb} 10.{b}.{c}.{d} dev here {end}\n")
            };
            numbers.map(line).collect::<String>()
        };
        // The watch shares this thread: it reads nothing before all of it has happened.
        ip_batch(&each("add", "lladdr 02:00:00:00:00:03 nud permanent", 1..MANY));
        ip_batch(&each("replace", "lladdr 02:00:00:00:00:07 nud permanent", 1..MANY));
        ip_batch(&each("del", "", 1..MANY / 2));

        let mut neighbours = Neighbours::connect(PATIENCE).await.unwrap();
        let in_kernel = neighbours.dump().await.unwrap();
        let in_kernel: HashMap<_, _> = in_kernel.into_iter().map(|entry| (entry.address, entry)).collect();
        while copy != in_kernel {
            follow(&mut copy, until(&mut changes, |_| true).await);
            told += 1;
        }
        assert!(told < 2 * MANY, "nothing was lost in {told} changes: this tested nothing");

        // Nothing older may come after that: whatever does comes before this one.
        ip("neigh add 10.255.0.1 lladdr 02:00:00:00:00:07 dev here nud permanent");
        while !copy.contains_key(&address("10.255.0.1")) {
            follow(&mut copy, until(&mut changes, |_| true).await);
        }
        copy.remove(&address("10.255.0.1"));
        assert!(copy == in_kernel, "{} entries, {} in the kernel", copy.len(), in_kernel.len());
    });
}

fn follow(copy: &mut HashMap<IpAddr, NeighbourChange>, change: NeighbourChange) {
    match change.state {
        NeighbourState::Gone => copy.remove(&change.address),
        _ => copy.insert(change.address, change),
    };
}

/// Follows the network around a server until the snapshot is as wanted. Every snapshot but the first is taken after a
/// notification.
struct Follower {
    changes: NetworkChanges,
    surveyor: Surveyor,
    servers: Vec<IpAddr>,
}

impl Follower {
    async fn of(servers: &[&str]) -> Self {
        let changes = NetworkChanges::open().unwrap();
        let surveyor = Surveyor::connect(PATIENCE).await.unwrap();
        Self { changes, surveyor, servers: servers.iter().map(|server| address(server)).collect() }
    }

    async fn snapshot(&mut self) -> RouteSnapshot {
        self.surveyor.survey(self.servers.iter().copied()).await.unwrap()
    }

    async fn until(&mut self, wanted: impl Fn(&RouteSnapshot) -> bool) -> RouteSnapshot {
        let wait = async {
            loop {
                self.changes.next().await.unwrap();
                let snapshot = self.snapshot().await;
                if wanted(&snapshot) {
                    return snapshot;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("no such change of devices or routes")
    }
}

fn names(snapshot: &RouteSnapshot) -> Vec<(u32, &str)> {
    snapshot.devices.values().map(|device| (device.index, device.name.as_str())).collect()
}

#[test]
fn a_survey_says_where_packets_to_each_server_go() {
    in_namespace(|| async {
        make_routes();
        let servers = ["10.1.0.7", "10.1.0.1", "10.9.0.1", "10.8.0.1", "2001:db8:9::1", "192.0.2.1"];
        let mut follower = Follower::of(&servers).await;
        let snapshot = follower.snapshot().await;
        let one = snapshot.devices.values().find(|device| device.name == "one").unwrap().index;
        let through = |neighbour| ServerNextHop::Via { device: one, neighbour: address(neighbour) };
        assert_eq!(snapshot.servers[&address("10.1.0.7")], through("10.1.0.7"));
        assert_eq!(snapshot.servers[&address("10.1.0.1")], ServerNextHop::Local);
        assert_eq!(snapshot.servers[&address("10.9.0.1")], through("10.1.0.254"));
        assert_eq!(snapshot.servers[&address("2001:db8:9::1")], through("2001:db8:1::fe"));
        for nowhere in ["10.8.0.1", "192.0.2.1"] {
            let next_hop = &snapshot.servers[&address(nowhere)];
            assert!(
                matches!(next_hop, ServerNextHop::Unreachable(NetworkError::NoRoute { .. })),
                "{nowhere}: {next_hop:?}"
            );
        }
    });
}

#[test]
fn a_device_that_is_made_again_is_another_one() {
    in_namespace(|| async {
        let make = || {
            ip("link add here type veth peer name there");
            ip("address add 10.1.0.1/24 dev here");
            ip("link set here up");
        };
        make();
        let mut follower = Follower::of(&["10.1.0.2"]).await;
        let first = follower.snapshot().await;
        let (index, _) = *names(&first).iter().find(|(_, name)| *name == "here").unwrap();
        ip("link delete here");
        let without =
            follower.until(|snapshot| !names(snapshot).iter().any(|(_, name)| *name == "here")).await;
        assert!(without.watched(&[]).is_empty());
        assert!(matches!(without.servers[&address("10.1.0.2")], ServerNextHop::Unreachable(_)));
        make();
        let again = follower.until(|snapshot| !snapshot.watched(&[]).is_empty()).await;
        let watched: Vec<_> = again.watched(&[]).into_iter().collect();
        assert_eq!(watched.len(), 1);
        assert_eq!(watched[0].name, "here");
        assert_ne!(watched[0].index, index);
    });
}

#[test]
fn a_route_that_moves_is_followed_to_the_other_device() {
    in_namespace(|| async {
        make_routes();
        let servers = ["10.9.0.1", "2001:db8:9::1"];
        let mut follower = Follower::of(&servers).await;
        let watched = |snapshot: &RouteSnapshot| -> BTreeSet<String> {
            snapshot.watched(&[]).into_iter().map(|device| device.name).collect()
        };
        let set =
            |names: &[&str]| -> BTreeSet<String> { names.iter().map(|&name| name.to_owned()).collect() };
        assert_eq!(watched(&follower.snapshot().await), set(&["one"]));
        ip("route replace 10.9.0.0/16 via 10.2.0.254");
        follower.until(|snapshot| watched(snapshot) == set(&["one", "two"])).await;
        ip("-6 route add 2001:db8:9::1/128 via 2001:db8:2::fe");
        follower.until(|snapshot| watched(snapshot) == set(&["two"])).await;
        ip("rule add to 10.9.0.1 unreachable");
        follower
            .until(|snapshot| matches!(snapshot.servers[&address("10.9.0.1")], ServerNextHop::Unreachable(_)))
            .await;
        ip("address add 2001:db8:9::1/128 dev one nodad");
        follower.until(|snapshot| snapshot.servers[&address("2001:db8:9::1")] == ServerNextHop::Local).await;
    });
}

#[test]
fn a_storm_of_changes_is_still_a_change() {
    const MANY: u32 = 5_000;
    in_namespace(|| async {
        make_routes();
        let mut follower = Follower::of(&["10.9.0.1"]).await;
        let line = |number| format!("route add 10.100.{}.{}/32 dev one\n", number / 256, number % 256);
        let routes = (0..MANY).map(line).collect::<Vec<_>>().concat();
        // Nobody reads meanwhile: the socket's buffer runs over, and the last of these changes is lost.
        ip_batch(&format!("{routes}route replace 10.9.0.0/16 via 10.2.0.254\n"));
        let moved =
            follower.until(|snapshot| snapshot.watched(&[]).iter().any(|device| device.name == "two")).await;
        assert_eq!(moved.servers.len(), 1);
    });
}

#[test]
fn a_server_follows_its_neighbours_mac_address_and_failure() {
    in_namespace(|| async {
        let (peer, device) = make_neighbour().await;
        let server = address("10.1.0.2");
        let mut follower = Follower::of(&["10.1.0.2"]).await;
        let mut topology = Topology::default();
        let routes = topology.update_routes(follower.snapshot().await);
        assert_eq!(routes.iter().map(|route| route.failed).collect::<Vec<_>>(), [false]);
        let (_watch, mut changes) = NeighbourWatch::start(PATIENCE).await.unwrap();
        let mut neighbours = Neighbours::connect(PATIENCE).await.unwrap();
        neighbours.resolve(device, server).await.unwrap();
        until(&mut changes, |change| change.address == server && change.mac == Some(MAC)).await;
        peer.run("link set there address 02:00:00:00:00:08");
        ip("neigh flush dev here");
        neighbours.resolve(device, server).await.unwrap();
        let new = Some([2, 0, 0, 0, 0, 8]);
        until(&mut changes, |change| change.address == server && change.mac == new).await;
        peer.run("link set there arp off");
        ip("neigh flush dev here");
        neighbours.resolve(device, server).await.unwrap();
        let mut until_failed = async |topology: &mut Topology, failed: bool| {
            let wait = async {
                loop {
                    let change = changes.recv().await.expect("the watch ended");
                    if topology
                        .update_neighbour(&change)
                        .iter()
                        .any(|route| route.server == server && route.failed == failed)
                    {
                        return;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, wait).await.expect("no such change of the server's route");
        };
        until_failed(&mut topology, true).await;
        peer.run("link set there arp on");
        neighbours.resolve(device, server).await.unwrap();
        until_failed(&mut topology, false).await;
    });
}
