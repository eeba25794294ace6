//! Servers that fail on purpose, for tests. All on loopback, on ports that the kernel chooses.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::{FailureReason, Phase, Probe, ProbeTarget, Prober};
use crate::model::{CheckKind, Tls, TlsStart, TlsVerify};

/// A timeout that is never meant to be reached.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// A timeout that is meant to be reached.
pub(super) const SHORT: Duration = Duration::from_millis(100);

/// Probes `address`; the reason if it failed.
pub(super) async fn probe(
    address: SocketAddr,
    kind: CheckKind,
    timeout: Duration,
) -> Result<(), FailureReason> {
    let outcome = Prober::new().probe(ProbeTarget::at(address), &kind, timeout).await;
    outcome.map(drop).map_err(|failure| failure.reason)
}

/// Probes `address` with a timeout that is meant to be reached, but not too early: a busy machine may use it up before
/// the server has done its part. As long as it fails for an `early` reason it is repeated with twice the time.
pub(super) async fn probe_patiently(
    address: SocketAddr,
    kind: &CheckKind,
    early: impl Fn(&FailureReason) -> bool,
) -> Result<(), FailureReason> {
    let mut timeout = SHORT;
    loop {
        let probing = tokio::time::timeout(timeout + LONG, probe(address, kind.clone(), timeout));
        match probing.await.expect("it ends at its timeout, and not long after it") {
            Err(reason) if early(&reason) && timeout < LONG => timeout *= 2,
            result => return result,
        }
    }
}

/// Probes a server that falls silent in `phase`. A timeout in another one was too early.
pub(super) async fn probe_silent(
    address: SocketAddr,
    kind: &CheckKind,
    phase: Phase,
) -> Result<(), FailureReason> {
    probe_patiently(
        address,
        kind,
        |reason| matches!(reason, FailureReason::TimedOut { phase: other } if *other != phase),
    )
    .await
}

/// Probes a server over UDP whose reply is ignored, which only shows at the timeout.
pub(super) async fn probe_ignored(address: SocketAddr, kind: &CheckKind) -> Result<(), FailureReason> {
    probe_patiently(address, kind, |reason| matches!(reason, FailureReason::TimedOut { .. })).await
}

/// Text without an end of line.
pub(super) const LONG_TEXT: &str = match std::str::from_utf8(&[b'x'; 4096]) {
    Ok(text) => text,
    Err(_) => "",
};

/// Loopback, on any port.
pub(super) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// An address on which nothing listens. It stays taken, so that no other test listens there, either.
pub(super) fn closed_port() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&any_port().into()).unwrap();
    Box::leak(Box::new(socket)).local_addr().unwrap().as_socket().unwrap()
}

/// A port that doesn't answer SYNs while this value lives.
pub(super) struct SilentPort {
    pub(super) address: SocketAddr,
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

/// A listener with a full accept queue: Linux leaves further SYNs unanswered.
pub(super) async fn silent_port() -> SilentPort {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&any_port().into()).unwrap();
    // A backlog of 0 has room for one.
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(connected) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        queued.push(connected.unwrap());
        assert!(queued.len() < 10, "the accept queue never fills");
    }
    SilentPort { address, _listener: listener, _queued: queued }
}

/// A server that does `serve` with each connection, until the test's runtime ends.
pub(super) async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Set where a test runs in a network namespace of its own.
const INSIDE: &str = "LVS_TEST_INSIDE_NAMESPACE";

/// Whether the test called `name` is in a network namespace of its own, which `setup` has prepared. If not, it is run
/// again in one, and must pass there. Without the right to make namespaces (that is, not as root) nothing is tested.
pub(super) fn is_in_namespace(name: &str, setup: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--"]).args(command);
        unshare
    };
    if !unshare(&["true"]).output().is_ok_and(|output| output.status.success()) {
        println!("{name}: skipped, as it needs root");
        return false;
    }
    let script = format!("set -e\n{setup}\nexec \"$@\"");
    let test = env::current_exe().unwrap();
    let mut command = unshare(&["sh", "-c", &script, "sh", test.to_str().unwrap(), "--exact", name]);
    let output = command.env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// A step of a scripted server.
#[derive(Clone, Debug)]
pub(super) enum Script {
    /// Reads a line, whatever it is.
    Line,
    /// Reads a line that must begin like this.
    Wants(&'static str),
    /// Reads so many bytes.
    Bytes(usize),
    /// Sends this.
    Send(Vec<u8>),
    /// Sends this for ever, with a pause each time.
    Flood(&'static str, Duration),
    /// Closes its side.
    Close,
}

impl Script {
    pub(super) fn send(bytes: impl AsRef<[u8]>) -> Self {
        Self::Send(bytes.as_ref().to_vec())
    }
}

/// A server that does the same with each connection. At the end of the script it stays and is silent.
pub(super) async fn scripted(script: Vec<Script>) -> SocketAddr {
    server(move |stream| play(stream, script.clone())).await
}

/// Plays a script. Stops where the client has gone.
async fn play(stream: TcpStream, script: Vec<Script>) {
    let mut stream = BufReader::new(stream);
    for step in script {
        let done = match step {
            Script::Line => stream.read_until(b'\n', &mut Vec::new()).await.map(drop),
            Script::Wants(start) => {
                let mut line = String::new();
                let read = stream.read_line(&mut line).await.map(drop);
                assert!(line.starts_with(start), "{line:?} came, {start:?} should have");
                read
            }
            Script::Bytes(count) => stream.read_exact(&mut vec![0; count]).await.map(drop),
            Script::Send(bytes) => stream.write_all(&bytes).await,
            Script::Flood(text, pause) => loop {
                if let Err(error) = stream.write_all(text.as_bytes()).await {
                    break Err(error);
                }
                tokio::time::sleep(pause).await;
            },
            Script::Close => stream.shutdown().await,
        };
        if done.is_err() {
            return;
        }
    }
    // Until the client closes.
    while stream.read_u8().await.is_ok() {}
}

/// What every check over TCP fails with where there is nothing but a network: a closed port, a port that doesn't
/// answer, a server that never says anything (the `first` thing that is waited for), one that sends zeros byte by
/// byte, one that closes at once, and one that sends nonsense (which is refused at once if it is `evaluated`).
pub(super) async fn common_failures(kind: &CheckKind, first: Phase, evaluated: bool) {
    let timed_out = |phase| Err(FailureReason::TimedOut { phase });
    assert_eq!(probe(closed_port(), kind.clone(), LONG).await, Err(FailureReason::Refused));
    let silent = silent_port().await;
    assert_eq!(probe(silent.address, kind.clone(), SHORT).await, timed_out(Phase::Connect));

    let mute = scripted(vec![]).await;
    assert_eq!(probe_silent(mute, kind, first).await, timed_out(first), "a mute server");

    // One byte at a time never ends a line, and keeps every wait short: only the deadline ends it.
    let drip = scripted(vec![Script::Flood("\0", Duration::from_millis(2))]).await;
    let started = std::time::Instant::now();
    let result = probe(drip, kind.clone(), SHORT).await;
    assert!(started.elapsed() < LONG / 4, "{:?}", started.elapsed());
    assert!(
        matches!(
            result,
            Err(FailureReason::TimedOut { .. }
                | FailureReason::Protocol(_)
                | FailureReason::WrongAnswer { .. })
        ),
        "drip: {result:?}"
    );

    let closing = scripted(vec![Script::Close]).await;
    let result = probe(closing, kind.clone(), LONG).await;
    assert!(
        matches!(
            result,
            Err(FailureReason::Closed { .. } | FailureReason::Reset | FailureReason::TextNotFound { .. })
        ),
        "closed at once: {result:?}"
    );

    let garbage = scripted(vec![Script::send("\u{1}\u{7f}gar\r\nbage\r\n".repeat(8000))]).await;
    let result = probe(garbage, kind.clone(), LONG).await;
    assert!(
        matches!(
            result,
            Err(FailureReason::Protocol(_)
                | FailureReason::WrongAnswer { .. }
                | FailureReason::TextNotFound { .. })
        ) || !evaluated,
        "garbage: {result:?}"
    );
}

/// An address that no UDP socket is bound to.
pub(super) fn closed_udp_port() -> SocketAddr {
    std::net::UdpSocket::bind(any_port()).unwrap().local_addr().unwrap()
}

/// A server that answers each datagram with what `answer` makes of it, until the test's runtime ends.
pub(super) async fn udp_server(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind(any_port()).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            if let Some(reply) = answer(&buffer[..length]) {
                socket.send_to(&reply, from).await.unwrap();
            }
        }
    });
    address
}

/// TLS without verification of the server's certificate.
pub(super) fn any_tls(start: TlsStart) -> Tls {
    Tls { start, name: None, verify: TlsVerify::No, identity: None }
}
