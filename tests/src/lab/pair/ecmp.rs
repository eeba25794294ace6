//! Two directors that both have the VIP: bird announces it, and a router, which is the clients' host, spreads
//! connections over whoever does.

use std::{collections::BTreeSet, fs, net::SocketAddr};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{
    super::{
        agent::Agent,
        bird::Bird,
        clock::Moment,
        director::{prepare_ipvs, table::Table},
        namespace::Namespace,
        network::{ip, set},
        process, wait,
    },
    DIRECT, NAMES, PairNetwork, SERVERS, START_LIMIT, established, recipe, start_agent, table,
};

/// The service.
pub const VIP: SocketAddr = DIRECT;
/// The recipe.
const ECMP: &str = "ecmp";

/// The network, the servers, the directors and the router. Dropping it ends all of it.
#[derive(Debug)]
pub struct EcmpPair {
    /// The directors, a first.
    pub directors: [EcmpDirector; 2],
    /// What they are in.
    pub network: PairNetwork,
    _router: Bird,
}

/// One of the two.
#[derive(Debug)]
pub struct EcmpDirector {
    /// Where it is.
    pub namespace: Namespace,
    /// Its agent.
    pub agent: Agent,
    /// Its routing daemon; `None` once it has no power.
    bird: Option<Bird>,
    /// Holds what its agent would have in `/run`.
    folder: TempDir,
}

impl EcmpPair {
    /// Builds the network and starts everything, but no clients. The router has a way to each director in the end.
    pub fn start() -> Result<Self> {
        let (network, [a, b]) = PairNetwork::build()?;
        set(&network.clients, &["net/ipv4/fib_multipath_hash_policy=1"])?;
        let router = Bird::with_config(&network.clients, &fs::read_to_string(recipe(ECMP, "router.conf"))?)?;
        let mut directors = [EcmpDirector::start(a)?, EcmpDirector::start(b)?];
        for director in &mut directors {
            director.agent.wait_until_ready()?;
        }
        let pair = Self { directors, network, _router: router };
        pair.wait_for_ways(&[0, 1])?;
        pair.wait_for_servers()?;
        Ok(pair)
    }

    /// Waits until the router sends clients to these directors and to no other.
    pub fn wait_for_ways(&self, expected: &[usize]) -> Result<()> {
        let expected: BTreeSet<usize> = expected.iter().copied().collect();
        wait::until_true(&format!("the router to have ways to {expected:?}"), START_LIMIT, || {
            Ok(self.ways()? == expected)
        })
        .with_context(|| self.directors.each_ref().map(|director| director.agent.diagnosis()).join("\n"))
    }

    /// Waits until all servers are in both tables: until then a connection may be with another server than the hash of
    /// all of them says.
    fn wait_for_servers(&self) -> Result<()> {
        let servers: Vec<SocketAddr> = (1..=SERVERS).map(|number| ([10, 0, 0, number], 80).into()).collect();
        wait::until_true("all servers to be in both tables", START_LIMIT, || {
            let mut are_in = true;
            for director in &self.directors {
                let table = director.table()?;
                are_in &= servers.iter().all(|server| table.weight(*server) == Some(1));
            }
            Ok(are_in)
        })
    }

    /// The directors that the router sends clients to.
    fn ways(&self) -> Result<BTreeSet<usize>> {
        let vip = VIP.ip().to_string();
        let route = process::run(&self.network.clients, &["ip", "route", "show", &vip], "")?;
        let is_in = |number: &usize| route.contains(&format!("via 198.51.100.1{} ", number + 1));
        Ok((0..NAMES.len()).filter(is_in).collect())
    }

    /// Cuts the power of a director: nothing leaves it from one moment on, which is returned, and its programs are
    /// gone.
    pub fn power_off(&mut self, number: usize) -> Result<Moment> {
        let at = self.network.unplug(number)?;
        let director = &mut self.directors[number];
        director.bird = None;
        director.agent.signal(Signal::SIGKILL)?;
        director.agent.wait_for_end()?;
        Ok(at)
    }
}

impl EcmpDirector {
    /// Starts bird and the agent with the recipe's files.
    fn start(namespace: Namespace) -> Result<Self> {
        prepare_ipvs(&namespace)?;
        let sysctls = fs::read_to_string(recipe(ECMP, "sysctl.conf"))?;
        let settings: Vec<String> = sysctls.lines().filter_map(sysctl).collect();
        set(&namespace, &settings.iter().map(String::as_str).collect::<Vec<_>>())?;
        ip(&namespace, &fs::read_to_string(recipe(ECMP, "addresses"))?)?;
        let folder = tempfile::Builder::new().prefix("lvs-lab-").tempdir()?;
        let agent = start_agent(&namespace, ECMP, folder.path())?;
        let bird = Bird::with_config(&namespace, &fs::read_to_string(recipe(ECMP, "bird.conf"))?)?;
        Ok(Self { namespace, agent, bird: Some(bird), folder })
    }

    /// Orders a role, or none (`auto`).
    pub fn order(&self, role: &str) -> Result<()> {
        let control = self.folder.path().join("control");
        let output = self.agent.command(&["role", role, "--control", &control.to_string_lossy()])?;
        anyhow::ensure!(output.code == Some(0), "{output}");
        Ok(())
    }

    /// The connections that its kernel has as established.
    pub fn established(&self) -> Result<Vec<SocketAddr>> {
        established(&self.namespace)
    }

    /// The kernel's table there.
    pub fn table(&self) -> Result<Table> {
        table(&self.namespace)
    }
}

/// `a/b=1` for a line `a.b = 1`; none for a comment.
fn sysctl(line: &str) -> Option<String> {
    let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
    Some(format!("{}={}", name.trim().replace('.', "/"), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_sysctls_are_paths() {
        assert_eq!(sysctl("net.ipv4.vs.sloppy_tcp = 1").as_deref(), Some("net/ipv4/vs/sloppy_tcp=1"));
        assert_eq!(sysctl("# a = b"), None);
        assert_eq!(sysctl(""), None);
    }
}
