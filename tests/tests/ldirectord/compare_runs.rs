//! The table of both after a start, after failures, after the return, and after the end.

use std::{
    collections::BTreeSet,
    mem,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lvs_agent::{
    config::Strictness,
    engine::{DryRun, PlannedCheck},
    ipvs::{Destination, Table},
    model::ServiceKey,
    probe::{Probe as _, ProbeTarget, Prober},
};
use lvs_tests::ldirectord::{LdirectordPackage, fake_ipvsadm::rules};
use tokio::task::JoinSet;

use crate::fixture::Fixture;

/// The most failures in a row that files ask for: so many rounds settle everything.
pub(crate) const MOST_FAILURES: u64 = 3;
/// Times of rounds only have to be different ones.
const ROUND: Duration = Duration::from_secs(1);

/// Which hosts are down at the start, after the failures, and after the return.
pub(crate) type Outages = [BTreeSet<u8>; 3];

/// The agent's file, if it is another one than ldirectord's.
pub(crate) struct Files<'t> {
    pub(crate) ldirectord: &'t str,
    /// What ldirectord refuses in it, the agent must take.
    pub(crate) sloppy: Option<&'t str>,
}

/// Lets agent and ldirectord run through the same outages, and compares their tables after each of them and after the
/// end, and how they have called the commands of checks.
pub(crate) async fn compare_runs(
    fixture: &mut Fixture,
    package: &LdirectordPackage,
    text: &str,
    outages: &Outages,
) -> Result<()> {
    compare_runs_of(fixture, package, &Files { ldirectord: text, sloppy: None }, outages).await
}

/// The same, where the agent may have a file of its own.
pub(crate) async fn compare_runs_of(
    fixture: &mut Fixture,
    package: &LdirectordPackage,
    files: &Files<'_>,
    outages: &Outages,
) -> Result<()> {
    let mut agent = match files.sloppy {
        Some(sloppy) => AgentRun::start_as(&fixture.counted(sloppy), Strictness::Lenient)?,
        None => AgentRun::start(&fixture.counted(files.ldirectord))?,
    };
    fixture.set_down(&outages[0])?;
    let mut ldirectord = fixture.start_ldirectord(package, files.ldirectord)?;
    for (outage, when) in outages.iter().zip(["start", "failure", "return"]) {
        fixture.set_down(outage)?;
        // The round in which the change came doesn't count.
        ldirectord.rounds(MOST_FAILURES + 1).await.with_context(|| format!("after the {when}"))?;
        for _ in 0..MOST_FAILURES {
            agent.round().await?;
        }
        same(agent.dry_run.table(), &ldirectord.call_log.table()?, when)?;
    }
    ldirectord.process.stop()?;
    agent.dry_run.end()?;
    same(agent.dry_run.table(), &ldirectord.call_log.table()?, "end")?;
    assert_eq!(
        fixture.calls("agent")?,
        fixture.calls("ldirectord")?,
        "how the agent (left) and ldirectord (right) call commands"
    );
    Ok(())
}

fn same(agent: &Table, ldirectord: &Table, when: &str) -> Result<()> {
    let (agent, ldirectord) = (rules(agent), rules(&with_ports(ldirectord)));
    let only = |one: &BTreeSet<String>, other| one.difference(other).cloned().collect::<Vec<_>>();
    let (more, less) = (only(&agent, &ldirectord), only(&ldirectord, &agent));
    ensure!(
        more.is_empty() && less.is_empty(),
        "after the {when} only the agent has {more:#?}, only ldirectord {less:#?}"
    );
    Ok(())
}

/// The same where ldirectord leaves a masqueraded server without a port: the kernel sends its clients to the service's,
/// which the agent writes.
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
pub(crate) struct AgentRun {
    pub(crate) dry_run: DryRun,
    prober: Prober,
    now: Instant,
}

impl AgentRun {
    /// What ldirectord takes must be taken without a fault, even strictly.
    pub(crate) fn start(text: &str) -> Result<Self> {
        Self::start_as(text, Strictness::Strict)
    }

    fn start_as(text: &str, strictness: Strictness) -> Result<Self> {
        let path = Path::new("ldirectord.cf");
        let config = lvs_agent::config::read_bytes(text.as_bytes(), path, strictness)?.config;
        let now = Instant::now();
        Ok(Self { dry_run: DryRun::new(config, now)?, prober: Prober::new(), now })
    }

    /// Asks every server all that it is to be asked.
    pub(crate) async fn round(&mut self) -> Result<()> {
        self.now += ROUND;
        let mut answers = JoinSet::new();
        for PlannedCheck { destination, index, check } in self.dry_run.checks() {
            let prober = self.prober.clone();
            answers.spawn(async move {
                let target = ProbeTarget::of_check(destination.server, &check);
                let outcome = prober.probe(target, &check.kind, check.timeout).await;
                (destination, index, outcome.is_ok())
            });
        }
        for (destination, index, success) in answers.join_all().await {
            self.dry_run.record(&destination, index, success, self.now)?;
        }
        Ok(())
    }
}
