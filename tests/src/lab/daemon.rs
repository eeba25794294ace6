//! A daemon that says one line to each who connects, and what it says can be changed.

use std::{
    io::Write as _,
    net::{Shutdown, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, anyhow};
use socket2::SockRef;

use super::namespace::Namespace;

/// A daemon at work. Dropping it ends it.
#[derive(Debug)]
pub struct Daemon {
    address: SocketAddr,
    listener: TcpListener,
    line: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Daemon {
    /// Listens at `address` in a namespace, and says `line`.
    pub fn start(namespace: &Namespace, address: SocketAddr, line: &str) -> Result<Self> {
        let listener = namespace
            .run(|| TcpListener::bind(address).with_context(|| format!("cannot listen at {address}")))?;
        let shared = listener.try_clone()?;
        let line = Arc::new(Mutex::new(line.to_owned()));
        let stop = Arc::new(AtomicBool::new(false));
        let (said, stopped) = (Arc::clone(&line), Arc::clone(&stop));
        let thread = namespace.thread("daemon", move || {
            for caller in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let line = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let mut caller = caller?;
                // A caller who is gone already is none of the daemon's business.
                caller.write_all(line.as_bytes()).unwrap_or_default();
            }
            Ok(())
        })?;
        Ok(Self { address, listener: shared, line, stop, thread: Some(thread) })
    }

    /// Says this from now on.
    pub fn say(&self, line: &str) {
        line.clone_into(&mut self.line.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Ends it: nobody listens any more when this returns.
    pub fn stop(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.stop.store(true, Ordering::Relaxed);
        // It waits for a caller, and learns so that none will come.
        SockRef::from(&self.listener).shutdown(Shutdown::Both)?;
        thread.join().map_err(|_panic| anyhow!("the daemon panicked"))?
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            crate::warn(&format!("the daemon at {} has failed: {error:#}", self.address));
        }
    }
}
