//! Packets that a director sends, counted by its packet filter.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};

use crate::lab::{clock::Moment, namespace::Namespace, process};

/// Counts since it was made, for as long as its namespace is there; one a namespace.
#[derive(Clone, Debug)]
pub struct PacketCounter {
    director: Namespace,
}

impl PacketCounter {
    /// Counts the packets that leave `director` and that `rule` fits, in the words of nft(8).
    pub fn start(director: &Namespace, rule: &str) -> Result<Self> {
        let script = format!(
            "table inet count {{ counter sent {{ }}; chain output {{ type filter hook output priority 0; \
             {rule} counter name sent; }}; }}\n"
        );
        process::run(director, &["nft", "-f", "-"], &script)?;
        Ok(Self { director: director.clone() })
    }

    /// How many so far.
    pub fn read(&self) -> Result<f64> {
        let text = process::run(&self.director, &["nft", "list", "counter", "inet", "count", "sent"], "")?;
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
