//! Servers that fail on purpose, for tests. All on loopback, on ports that the kernel chooses.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// A timeout that is never meant to be reached.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// A timeout that is meant to be reached.
pub(super) const SHORT: Duration = Duration::from_millis(100);

/// Loopback, on any port.
pub(super) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// An address on which nothing listens.
pub(super) fn closed_port() -> SocketAddr {
    std::net::TcpListener::bind(any_port()).unwrap().local_addr().unwrap()
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
