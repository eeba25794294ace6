//! Floods: of SYNs from addresses where nobody answers, and of anything else.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{
    clock::Moment,
    layout::{AddressPlan, Family, Layout, Method, forged_address},
    namespace::Namespace,
    process,
};

/// No flood lasts longer than this many packets.
const LIMIT: u32 = 2_000_000;
/// They are sent in small volleys: a thread sleeps no shorter.
const VOLLEY: Duration = Duration::from_millis(5);

/// A flood that goes on. Dropping it ends it.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Flood {
    /// Sends `rate` SYNs a second to the IPv4 lab's first service, each from another address.
    pub fn start(clients: &Namespace, rate: f64) -> Result<Self> {
        let forged = AddressPlan::of(Family::V4).forged;
        let silence = format!(
            "table ip flood {{ chain input {{ type filter hook input priority 0; ip daddr {forged} drop; }}; }}\n"
        );
        process::run(clients, &["nft", "-f", "-"], &silence)?;
        Self::of(clients, rate, syn)
    }

    /// Sends `rate` packets a second from a namespace: `packet` sends the one with this number.
    pub fn of(
        from: &Namespace,
        rate: f64,
        packet: impl Fn(u32) -> io::Result<()> + Send + 'static,
    ) -> Result<Self> {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = from.thread("flood", move || flood(rate, packet, &stopped, &counted))?;
        Ok(Self { stop, sent, thread: Some(thread) })
    }

    /// How many packets have been sent.
    #[must_use]
    pub fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub fn stop(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_panic| anyhow!("the flood panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            crate::warn(&format!("the flood has failed: {error:#}"));
        }
    }
}

/// Sends what is due since the start, again and again.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "far below the limit")]
fn flood(
    rate: f64,
    packet: impl Fn(u32) -> io::Result<()>,
    stop: &AtomicBool,
    sent: &AtomicU32,
) -> Result<()> {
    let start = Moment::now();
    while !stop.load(Ordering::Relaxed) {
        let due = (Moment::now().since(start).as_secs_f64() * rate) as u32;
        for number in sent.load(Ordering::Relaxed)..due.min(LIMIT) {
            packet(number).with_context(|| format!("cannot send packet number {number}"))?;
            sent.store(number + 1, Ordering::Relaxed);
        }
        thread::sleep(VOLLEY);
    }
    Ok(())
}

/// Begins a connection and forgets about it: a socket that is closed now sends nothing more.
fn syn(number: u32) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((forged_address(number), 0)).into())?;
    match socket.connect(&Layout::new(Method::Masquerade).service().into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
        _ => Ok(()),
    }
}
