//! Packets that a director sends, or a server gets, counted by the packet filter there.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};

use crate::lab::{
    clock::Moment,
    layout::{AddressPlan, Family},
    namespace::Namespace,
    process,
};

/// Counts since it was made, for as long as its namespace is there; one a namespace.
#[derive(Clone, Debug)]
pub struct PacketCounter {
    namespace: Namespace,
}

impl PacketCounter {
    /// Counts the packets that leave `director` and that `rule` fits, in the words of nft(8).
    pub fn start(director: &Namespace, rule: &str) -> Result<Self> {
        Self::at(director, "output", rule)
    }

    /// Counts the packets that the IPv4 lab's director itself sends to a server, as they arrive there: its probes and
    /// what belongs to its idle connection. No client's packets are among them, not even those in a tunnel.
    pub fn from_director(server: &Namespace) -> Result<Self> {
        let director = AddressPlan::of(Family::V4).director;
        Self::at(server, "input", &format!("ip saddr {director} meta l4proto {{ tcp, udp, icmp }}"))
    }

    fn at(namespace: &Namespace, hook: &str, rule: &str) -> Result<Self> {
        let script = format!(
            "table inet count {{ counter seen {{ }}; chain {hook} {{ type filter hook {hook} priority 0; \
             {rule} counter name seen; }}; }}\n"
        );
        process::run(namespace, &["nft", "-f", "-"], &script)?;
        Ok(Self { namespace: namespace.clone() })
    }

    /// How many so far.
    pub fn read(&self) -> Result<f64> {
        let text = process::run(&self.namespace, &["nft", "list", "counter", "inet", "count", "seen"], "")?;
        let number = text.split_whitespace().skip_while(|word| *word != "packets").nth(1);
        Ok(number.with_context(|| format!("no number of packets in: {text}"))?.parse()?)
    }

    /// How many a second from now on, over that time.
    pub fn per_second(&self, over: Duration) -> Result<f64> {
        let (before, since) = (self.read()?, Moment::now());
        thread::sleep(over);
        let (after, until) = (self.read()?, Moment::now());
        Ok((after - before) / until.since(since).as_secs_f64())
    }
}
