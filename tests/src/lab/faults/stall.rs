//! A server that stops as a whole for a moment and goes on, as in a live migration or on an overcommitted hypervisor:
//! what is sent to it is held up, and its processes are frozen.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::lab::{clock::Moment, namespace::Namespace, process::ArmedScript, servers::RealServer};

/// A stall that waits for its moment, with all preparations done.
#[derive(Debug)]
pub struct Stall {
    begin: ArmedScript,
    end: ArmedScript,
    process: Pid,
    length: Duration,
}

impl Stall {
    /// Prepares a stall of this length of a server on `switch`.
    pub fn arm(switch: &Namespace, server: &RealServer, length: Duration) -> Result<Self> {
        let port = server.switch_port();
        let arm = |script: String| ArmedScript::arm(switch, &["tc", "-batch", "-"], script);
        let held = length.as_millis();
        Ok(Self {
            begin: arm(format!("qdisc replace dev {port} root netem delay {held}ms limit 100000\n"))?,
            // What is held up still comes late; what is sent from then on comes at once.
            end: arm(format!("qdisc change dev {port} root netem delay 0ms limit 100000\n"))?,
            process: server.pid(),
            length,
        })
    }

    /// Lets it happen, and gives the moments just before and just after.
    pub fn strike(self) -> Result<(Moment, Moment)> {
        let signal =
            |signal| kill(self.process, signal).with_context(|| format!("cannot send {signal} to a server"));
        signal(Signal::SIGSTOP)?;
        let (begin, _) = self.begin.fire()?;
        thread::sleep(self.length.saturating_sub(Moment::now().since(begin)));
        self.end.fire()?;
        signal(Signal::SIGCONT)?;
        Ok((begin, Moment::now()))
    }
}
