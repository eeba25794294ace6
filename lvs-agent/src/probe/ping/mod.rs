//! ICMP echo: does the host answer?
//!
//! One raw socket for each IP version serves all targets, opened at the first ping; it needs `CAP_NET_RAW`. A task
//! reads it and wakes whoever waits for that answer. A reply counts if its source, identifier and sequence fit and it
//! brings back the 64 bits, not to be guessed, that the request carried.

mod filter;
mod packet;

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::UdpSocket,
    sync::{OnceCell, oneshot},
    time,
};
use tokio_util::task::AbortOnDropHandle;

use self::packet::{Echo, EchoAnswer};
use super::{
    FailureReason, LocalFault, Phase, ProbeTarget, Unreachable,
    connect::prepare,
    errno::{self, Call},
    outcome,
};
use crate::{
    model::{AddressFamily, Via},
    supervision::{self, caught},
};

/// What is done when a socket call fails here.
const DOING: &str = "ping";
/// How much of a packet is read, in bytes. ICMPv6 errors are at most 1280 bytes, ICMP errors 576.
const MAX_PACKET: usize = 2048;
/// Room in the kernel for the replies of some thousand servers, should the agent be delayed.
const RECEIVE_BUFFER: usize = 1 << 20;
/// How long the reader rests after an error, lest one that stays keeps a core busy.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Pings hosts, with a pair of sockets for each [`Via`]. Clones share the sockets; the last one closes them and ends
/// their tasks.
#[derive(Clone, Debug, Default)]
pub struct Pingers(Arc<Mutex<HashMap<Via, Pinger>>>);

impl Pingers {
    /// Sends one echo request to the target's host and waits for what comes of it.
    pub(super) async fn probe(
        &self,
        target: ProbeTarget,
        timeout: Duration,
    ) -> Result<outcome::Answer, FailureReason> {
        // The times are the caller's affair, and make no other socket.
        let via = Via { connect_timeout: None, read_timeout: None, ..target.via };
        let pinger = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(via).or_default().clone();
        let result = pinger.probe(&ProbeTarget { via, ..target }, timeout).await;
        if via.device.is_some() && matches!(result, Err(FailureReason::Local(_))) {
            // A socket is bound to the device's index: one of that name that was made anew has another.
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&via);
        }
        result.map(|()| outcome::Answer::default())
    }
}

/// Pings hosts from one place.
#[derive(Clone, Debug, Default)]
struct Pinger {
    v4: Arc<OnceCell<EchoSocket>>,
    v6: Arc<OnceCell<EchoSocket>>,
}

impl Pinger {
    async fn probe(&self, target: &ProbeTarget, timeout: Duration) -> Result<(), FailureReason> {
        let host = target.address.ip();
        let family = AddressFamily::from(host);
        let cell = match family {
            AddressFamily::V4 => &self.v4,
            AddressFamily::V6 => &self.v6,
        };
        let socket = cell
            .get_or_try_init(|| async { EchoSocket::open(family, target) })
            .await
            .map_err(|error| LocalFault::new("open a raw socket for pings (CAP_NET_RAW)", &error))?;
        let answer = time::timeout(timeout, socket.probe(host)).await;
        answer.unwrap_or(Err(FailureReason::TimedOut { phase: Phase::Reply }))
    }
}

/// A raw ICMP socket and the task that reads it.
#[derive(Debug)]
struct EchoSocket {
    family: AddressFamily,
    socket: Arc<UdpSocket>,
    identifier: u16,
    random: RandomState,
    count: AtomicU64,
    waiters: Arc<Waiters>,
    _reader: AbortOnDropHandle<()>,
}

impl EchoSocket {
    /// Opens the socket and starts its task.
    fn open(family: AddressFamily, target: &ProbeTarget) -> io::Result<Self> {
        let random = RandomState::new();
        // The low 16 bits of a hash with random keys.
        let identifier = u16::try_from(random.hash_one("identifier") & 0xffff).unwrap_or_default();
        let (domain, protocol) = match family {
            AddressFamily::V4 => (Domain::IPV4, Protocol::ICMPV4),
            AddressFamily::V6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
        match family {
            AddressFamily::V4 => socket.attach_filter(&filter::for_v4(identifier))?,
            AddressFamily::V6 => socket.attach_filter(&filter::for_v6(identifier))?,
        }
        prepare(&socket, target)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        // To send and to receive from an address is the same for raw and for UDP sockets, and this type has both.
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let waiters = Arc::new(Waiters::default());
        let reader = supervision::spawn(read_on(socket.clone(), waiters.clone()));
        let count = AtomicU64::new(0);
        Ok(Self { family, socket, identifier, random, count, waiters, _reader: reader })
    }

    /// Sends an echo request and waits for an answer, however long it takes.
    async fn probe(&self, host: IpAddr) -> Result<(), FailureReason> {
        let (waiting, answer) = self.register(host)?;
        let request = packet::request(self.family, waiting.key.echo, waiting.cookie);
        let server = SocketAddr::new(host, 0);
        let sent = self.socket.send_to(&request, server).await;
        sent.map_err(|error| errno::of_call(&error, (Call::Transfer, DOING), Phase::Reply, server))?;
        match answer.await {
            Ok(EchoResult::Reply) => Ok(()),
            Ok(EchoResult::Unreachable(what)) => Err(FailureReason::Unreachable(what)),
            Err(_) => {
                let error = io::Error::other("the task that reads the replies has ended");
                Err(LocalFault::new(DOING, &error).into())
            }
        }
    }

    /// Makes up a request that nobody is waiting for yet.
    fn register(&self, host: IpAddr) -> Result<(Waiting, oneshot::Receiver<EchoResult>), LocalFault> {
        // Only 65,536 requests to one host can wait at a time; few are ever in the way.
        for _ in 0..16 {
            let count = self.count.fetch_add(1, Ordering::Relaxed);
            let sequence = u16::try_from(count & 0xffff).unwrap_or_default();
            let key = Key { host, echo: Echo { identifier: self.identifier, sequence } };
            let cookie = self.random.hash_one(("cookie", count));
            if let Some(answer) = self.waiters.add(key, cookie) {
                return Ok((Waiting { key, cookie, waiters: self.waiters.clone() }, answer));
            }
        }
        Err(LocalFault::new(DOING, &io::Error::other("too many pings of this host are waiting")))
    }
}

/// Reads on after a panic: without replies all servers would seem dead.
async fn read_on(socket: Arc<UdpSocket>, waiters: Arc<Waiters>) {
    while caught(read(socket.clone(), waiters.clone())).await.is_err() {
        time::sleep(ERROR_PAUSE).await;
    }
}

/// Reads the socket for ever, and wakes the pings that are answered.
async fn read(socket: Arc<UdpSocket>, waiters: Arc<Waiters>) {
    let mut buffer = [0; MAX_PACKET];
    loop {
        let received = match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => match from.ip() {
                IpAddr::V4(from) => packet::parse_v4(&buffer[..length], from),
                IpAddr::V6(from) => packet::parse_v6(&buffer[..length], from),
            },
            Err(error) => {
                tracing::warn!(%error, "can't read the replies to pings; trying again");
                time::sleep(ERROR_PAUSE).await;
                None
            }
        };
        if let Some(received) = received {
            waiters.wake(received);
        }
    }
}

/// What identifies a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    host: IpAddr,
    echo: Echo,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EchoResult {
    Reply,
    Unreachable(Unreachable),
}

/// The pings under way, each with its waiting task.
#[derive(Debug, Default)]
struct Waiters(Mutex<HashMap<Key, Waiter>>);

#[derive(Debug)]
struct Waiter {
    cookie: u64,
    answer: oneshot::Sender<EchoResult>,
}

impl Waiters {
    /// The map. It is whole even after a panic: nothing is done in steps while it is locked.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Waiter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the answer to a request; `None` if someone does already.
    fn add(&self, key: Key, cookie: u64) -> Option<oneshot::Receiver<EchoResult>> {
        let (answer, receiver) = oneshot::channel();
        match self.lock().entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(Waiter { cookie, answer });
                Some(receiver)
            }
            Entry::Occupied(_) => None,
        }
    }

    /// Wakes the ping that this answers. A reply with another cookie is forged, or meant for another program.
    fn wake(&self, received: EchoAnswer) {
        let (key, cookie, answer) = match received {
            EchoAnswer::Reply { from, echo, cookie } => {
                (Key { host: from, echo }, Some(cookie), EchoResult::Reply)
            }
            EchoAnswer::Unreachable { to, echo, what } => {
                (Key { host: to, echo }, None, EchoResult::Unreachable(what))
            }
        };
        let mut waiters = self.lock();
        let Entry::Occupied(waiter) = waiters.entry(key) else { return };
        if cookie.is_none_or(|cookie| cookie == waiter.get().cookie) {
            let (key, waiter) = waiter.remove_entry();
            if waiter.answer.send(answer).is_err() {
                tracing::trace!(host = %key.host, "an answer to a ping came after the ping had ended");
            }
        }
    }
}

/// Takes the request out again when nobody waits any more.
struct Waiting {
    key: Key,
    cookie: u64,
    waiters: Arc<Waiters>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiters = self.waiters.lock();
        if waiters.get(&self.key).is_some_and(|waiter| waiter.cookie == self.cookie) {
            waiters.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::task::JoinSet;

    use super::*;
    use crate::probe::testing::LONG;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
    const ECHO: Echo = Echo { identifier: 1, sequence: 2 };

    #[tokio::test]
    async fn only_a_reply_with_the_right_cookie_counts() {
        let waiters = Waiters::default();
        let key = Key { host: HOST, echo: ECHO };
        let mut answer = waiters.add(key, 77).unwrap();
        assert!(waiters.add(key, 78).is_none(), "the same request again");
        let other_echoes = [Echo { identifier: 9, ..ECHO }, Echo { sequence: 9, ..ECHO }];
        waiters.wake(EchoAnswer::Reply { from: OTHER, echo: ECHO, cookie: 77 });
        waiters.wake(EchoAnswer::Reply { from: HOST, echo: ECHO, cookie: 76 });
        waiters.wake(EchoAnswer::Unreachable { to: OTHER, echo: ECHO, what: Unreachable::Host });
        for echo in other_echoes {
            waiters.wake(EchoAnswer::Reply { from: HOST, echo, cookie: 77 });
            waiters.wake(EchoAnswer::Unreachable { to: HOST, echo, what: Unreachable::Host });
        }
        assert!(answer.try_recv().is_err(), "nothing that fits");
        waiters.wake(EchoAnswer::Reply { from: HOST, echo: ECHO, cookie: 77 });
        assert_eq!(answer.await, Ok(EchoResult::Reply));
        assert!(waiters.lock().is_empty());

        let answer = waiters.add(key, 77).unwrap();
        waiters.wake(EchoAnswer::Unreachable { to: HOST, echo: ECHO, what: Unreachable::Host });
        assert_eq!(answer.await, Ok(EchoResult::Unreachable(Unreachable::Host)));
    }

    #[test]
    fn an_abandoned_ping_is_forgotten() {
        let waiters = Arc::new(Waiters::default());
        let key = Key { host: HOST, echo: ECHO };
        let _answer = waiters.add(key, 77).unwrap();
        drop(Waiting { key, cookie: 78, waiters: waiters.clone() });
        assert_eq!(waiters.lock().len(), 1, "another one's request");
        drop(Waiting { key, cookie: 77, waiters: waiters.clone() });
        assert!(waiters.lock().is_empty());
    }

    fn host(address: IpAddr) -> ProbeTarget {
        ProbeTarget::at(SocketAddr::new(address, 0))
    }

    /// Whether this test may open raw sockets. If not, a ping is a local fault and says nothing about the server.
    async fn has_permission() -> bool {
        match Pinger::default().probe(&host(Ipv4Addr::LOCALHOST.into()), LONG).await {
            Err(FailureReason::Local(fault)) => {
                assert_eq!(fault.kind, io::ErrorKind::PermissionDenied, "{fault}");
                false
            }
            other => {
                assert_eq!(other, Ok(()));
                true
            }
        }
    }

    #[tokio::test]
    async fn many_hosts_share_a_socket() {
        if !has_permission().await {
            return;
        }
        // All of 127.0.0.0/8 is this host.
        let pinger = Pinger::default();
        let mut pings = JoinSet::new();
        for number in 0..1000_u16 {
            let [high, low] = number.to_be_bytes();
            let pinger = pinger.clone();
            pings.spawn(
                async move { pinger.probe(&host(Ipv4Addr::new(127, 9, high, low).into()), LONG).await },
            );
        }
        assert_eq!(pings.join_all().await, vec![Ok(()); 1000]);
        assert_eq!(pinger.probe(&host(Ipv6Addr::LOCALHOST.into()), LONG).await, Ok(()));
        for cell in [pinger.v4, pinger.v6] {
            assert!(cell.get().unwrap().waiters.lock().is_empty());
        }
    }
}
