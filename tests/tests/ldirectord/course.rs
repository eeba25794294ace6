//! The table of both after a start, after failures, after the return, and after the end.

use std::{
    collections::BTreeSet,
    mem,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lvs_agent::{
    agent::{Asked, Rehearsal},
    config::{Config, Strictness},
    ipvs::{Destination, Table},
    probe::{Ask, ProbeTarget, Prober},
    service::ServiceKey,
};
use lvs_tests::ldirectord::{Oracle, fake_ipvsadm::rules};
use tokio::task::JoinSet;

use crate::world::World;

/// The most failures in a row that files ask for: so many rounds settle everything.
pub(crate) const MOST_FAILURES: u64 = 3;
/// Times of rounds only have to be different ones.
const ROUND: Duration = Duration::from_secs(1);

/// Which hosts are down at the start, after the failures, and after the return.
pub(crate) type Fates = [BTreeSet<u8>; 3];

/// Lets both run through the same fates, and compares their tables after each, and after the end; and how they have called
/// the commands of checks.
pub(crate) async fn compare(world: &mut World, oracle: &Oracle, text: &str, fates: &Fates) -> Result<()> {
    let mut ours = Ours::start(&world.counted(text))?;
    world.set_down(&fates[0])?;
    let mut theirs = world.start_theirs(oracle, text)?;
    for (fate, when) in fates.iter().zip(["start", "failure", "return"]) {
        world.set_down(fate)?;
        // The round in which the change came doesn't count.
        theirs.rounds(MOST_FAILURES + 1).await.with_context(|| format!("after the {when}"))?;
        for _ in 0..MOST_FAILURES {
            ours.round().await?;
        }
        same(ours.rehearsal.table(), &theirs.journal.table()?, when)?;
    }
    theirs.process.stop()?;
    ours.rehearsal.end()?;
    same(ours.rehearsal.table(), &theirs.journal.table()?, "end")?;
    assert_eq!(
        world.calls("ours")?,
        world.calls("theirs")?,
        "how ours (left) and theirs (right) call commands"
    );
    Ok(())
}

fn same(ours: &Table, theirs: &Table, when: &str) -> Result<()> {
    let (ours, theirs) = (rules(ours), rules(&with_ports(theirs)));
    let only = |one: &BTreeSet<String>, other| one.difference(other).cloned().collect::<Vec<_>>();
    let (more, less) = (only(&ours, &theirs), only(&theirs, &ours));
    ensure!(
        more.is_empty() && less.is_empty(),
        "after the {when} only ours has {more:#?}, only theirs {less:#?}"
    );
    Ok(())
}

/// The same where ldirectord leaves a masqueraded server without a port: the kernel sends its clients to the service's, which
/// the agent writes.
fn with_ports(table: &Table) -> Table {
    let mut table = table.clone();
    for (key, entry) in &mut table.services {
        let ServiceKey::Address { address, .. } = key else { continue };
        entry.destinations = mem::take(&mut entry.destinations)
            .into_iter()
            .map(|(mut server, destination)| {
                if server.port() == 0 {
                    server.set_port(address.port());
                }
                (server, Destination { server, ..destination })
            })
            .collect();
    }
    table
}

/// The agent's stages that decide, with answers that its own checks get.
pub(crate) struct Ours {
    pub(crate) rehearsal: Rehearsal,
    prober: Prober,
    now: Instant,
}

impl Ours {
    /// What ldirectord takes must be taken without a fault, even strictly.
    pub(crate) fn start(text: &str) -> Result<Self> {
        let config =
            Config::read_bytes(text.as_bytes(), Path::new("ldirectord.cf"), Strictness::Strict)?.config;
        let now = Instant::now();
        Ok(Self { rehearsal: Rehearsal::new(config, now)?, prober: Prober::new(), now })
    }

    /// Asks every server all that it is to be asked.
    pub(crate) async fn round(&mut self) -> Result<()> {
        self.now += ROUND;
        let mut answers = JoinSet::new();
        for Asked { destination, index, check } in self.rehearsal.asked() {
            let prober = self.prober.clone();
            answers.spawn(async move {
                let target = ProbeTarget::of_check(destination.server, &check);
                let outcome = prober.ask(target, &check.question, check.timeout).await;
                (destination, index, outcome.is_ok())
            });
        }
        for (destination, index, success) in answers.join_all().await {
            self.rehearsal.hear(&destination, index, success, self.now)?;
        }
        Ok(())
    }
}
