//! Servers that no idle connection suits: each is soon left alone, is told of once, and stays in the table.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use lvs_tests::{
    lab::{
        Lab,
        clock::Moment,
        director::{prepare_ipvs, table_watcher::changes},
        layout::Method,
        process,
        servers::RealServer,
    },
    say,
    testbed::{Setup, Testbed},
};
use nix::sys::signal::Signal;
use socket2::{Domain, SockRef, Socket, Type};

/// Four connections that are tried, 1, 2 and 4 s apart and up to half as much more, and some patience with a slow
/// machine; or two failures of a check, the second after the first pause.
const OFF_LIMIT: Duration = Duration::from_mins(1);
/// How long it is watched after that: a try each few seconds would show.
const WATCHED: Duration = Duration::from_secs(20);
/// Connections beside the checks, one each second, until it is left alone: four that are kept, and the probes that
/// their ends bring about, at most three for each.
const TRIED: u32 = 16;
/// Checks that fall into a time beyond one for each second.
const MORE: u32 = 2;

/// What a server does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Closes it at once.
    Closes,
    /// Resets it at once.
    Resets,
    /// Speaks first.
    Greets,
    /// Serves it to its end before it takes another one, and lets no more than one wait.
    OneAtATime,
}

/// A server of that kind in place of a lab's. Dropping it ends it.
struct OddServer {
    taken: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl OddServer {
    /// Kills the lab's server and takes its place.
    fn in_place_of(server: &mut RealServer, manner: Manner) -> Result<Self> {
        server.signal(Signal::SIGKILL)?;
        let (taken, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (Arc::clone(&taken), Arc::clone(&stop));
        let address = server.address();
        let listener = server.namespace().run(|| Ok(listen(address, manner)?))?;
        let thread = server
            .namespace()
            .thread("odd server", move || Ok(serve(&listener, manner, &counted, &stopped)?))?;
        Ok(Self { taken, stop, thread: Some(thread) })
    }

    /// How many connections it has taken.
    fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_panic| anyhow!("an odd server panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for OddServer {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            say(&format!("an odd server has failed: {error:#}"));
        }
    }
}

fn listen(address: SocketAddr, manner: Manner) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(if manner == Manner::OneAtATime { 1 } else { 128 })?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn serve(listener: &TcpListener, manner: Manner, taken: &AtomicU32, stop: &AtomicBool) -> io::Result<()> {
    let mut kept = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            Err(error) => return Err(error),
        };
        taken.fetch_add(1, Ordering::Relaxed);
        match manner {
            Manner::Closes => drop(stream),
            Manner::Resets => SockRef::from(&stream).set_linger(Some(Duration::ZERO))?,
            Manner::Greets => {
                // A client that is gone already is its own matter.
                (&stream).write_all(b"220 at your service\r\n").unwrap_or_default();
                kept.push(stream);
            }
            Manner::OneAtATime => answer(&stream, stop).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Answers a request for a page, and waits for one until the other side ends the connection.
fn answer(mut stream: &TcpStream, stop: &AtomicBool) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    stream.set_nonblocking(false)?;
    let mut bytes = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                let page = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                return stream.write_all(page);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How often it was told that no idle connection is kept to a server.
fn told(testbed: &Testbed, server: SocketAddr) -> usize {
    let server = format!("\"server\":\"{server}\"");
    let is_told = |line: &&String| line.contains("\"event\":\"idle-off\"") && line.contains(&server);
    testbed.agent.lines().iter().filter(is_told).count()
}

fn seconds_since(begin: Moment) -> u32 {
    u32::try_from(Moment::now().since(begin).as_secs()).unwrap_or(u32::MAX)
}

fn is_left_alone(manner: Manner) -> Result<()> {
    let mut setup = Setup::new(Method::Masquerade);
    if manner != Manner::OneAtATime {
        setup.config = setup.config.check_by_connect();
    }
    let mut lab = Lab::build(&setup.layout)?;
    prepare_ipvs(&lab.network.director)?;
    let address = lab.servers[0].address();
    let mut odd = OddServer::in_place_of(&mut lab.servers[0], manner)?;
    let begin = Moment::now();
    let mut testbed = Testbed::in_lab_unserved(lab, &setup)?;
    testbed.load.stop()?;
    testbed.reset_healthy_since();
    testbed.wait("no idle connection to be kept any more", OFF_LIMIT, |testbed| {
        Ok(told(testbed, address) > 0)
    })?;
    // A check by `connect` ends before the server is told of a connection.
    let checks = |seconds| if manner == Manner::OneAtATime { seconds } else { 0 };
    let (until_told, within) = (odd.taken(), seconds_since(begin));
    ensure!(
        until_told <= checks(within) + MORE + TRIED,
        "{manner:?}: {until_told} connections in {within} s\n{}",
        testbed.diagnosis()
    );
    let begin = Moment::now();
    testbed.run_for(WATCHED)?;
    let (later, within) = (odd.taken() - until_told, seconds_since(begin));
    say(&format!(
        "{manner:?}: {until_told} connections until it was left alone, {later} in {within} s after that"
    ));
    ensure!(later <= checks(within) + MORE, "{manner:?}: {later} in {within} s\n{}", testbed.diagnosis());
    ensure!(later + MORE >= checks(within), "{manner:?}: it is no longer checked\n{}", testbed.diagnosis());
    ensure!(told(&testbed, address) == 1, "told {} times", told(&testbed, address));
    let seen = changes(&testbed.history_since_healthy()?);
    ensure!(seen.is_empty(), "{manner:?}: {seen:?}\n{}", testbed.diagnosis());
    odd.end()
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_closes_at_once_is_left_alone() -> Result<()> {
    is_left_alone(Manner::Closes)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_resets_at_once_is_left_alone() -> Result<()> {
    is_left_alone(Manner::Resets)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_speaks_first_is_left_alone() -> Result<()> {
    is_left_alone(Manner::Greets)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_of_one_connection_at_a_time_is_left_alone() -> Result<()> {
    is_left_alone(Manner::OneAtATime)
}

/// Every handshake is answered by the packet filter, whether or not anybody listens behind it.
const SYN_PROXY: &str = "\
    table ip proxy {
      chain early { type filter hook prerouting priority raw; tcp dport 80 tcp flags syn notrack; }
      chain input {
        type filter hook input priority filter;
        tcp dport 80 ct state { invalid, untracked } synproxy mss 1460 wscale 7 timestamp sack-perm;
        ct state invalid drop;
      }
    }
";

/// A check by `connect` sees the proxy alone. Its idle connection lives as long as the process behind it, and once that
/// is gone, each new one is cut.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_behind_a_syn_proxy_is_left_alone_once_its_process_is_gone() -> Result<()> {
    let mut setup = Setup::new(Method::Masquerade);
    setup.config = setup.config.check_by_connect();
    let mut testbed = Testbed::start(&setup)?;
    testbed.load.stop()?;
    let address = testbed.lab.servers[0].address();
    process::run(
        testbed.lab.servers[0].namespace(),
        &["sysctl", "-w", "net.netfilter.nf_conntrack_tcp_loose=0"],
        "",
    )?;
    process::run(testbed.lab.servers[0].namespace(), &["nft", "-f", "-"], SYN_PROXY)?;
    testbed.restart_agent()?;
    testbed.run_for(WATCHED)?;
    ensure!(told(&testbed, address) == 0, "while it lives\n{}", testbed.diagnosis());
    testbed.lab.servers[0].signal(Signal::SIGKILL)?;
    testbed.wait("no idle connection to be kept any more", OFF_LIMIT, |testbed| {
        Ok(told(testbed, address) > 0)
    })?;
    testbed.run_for(WATCHED)?;
    ensure!(told(&testbed, address) == 1, "told {} times", told(&testbed, address));
    Ok(())
}
