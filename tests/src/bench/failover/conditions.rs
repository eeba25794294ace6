//! What is measured: which checker notices which fault, in which forwarding method, with which clients.

use std::fmt;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::lab::{clients::LoadPlan, faults::Fault, layout::Method};

/// The faults.
pub(super) const FAULTS: [Fault; 4] =
    [Fault::ProcessKilled, Fault::PortFiltered, Fault::LinkDown, Fault::ProcessHung];

/// New connections a second.
const RATES: [u32; 2] = [200, 8];

/// A health checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Checker {
    /// The agent, which asks for a page each second.
    Agent,
    /// The agent, which asks what keepalived asks: whether connections are taken.
    AgentConnects,
    /// keepalived, which asks whether connections are taken, at its shortest times.
    Keepalived,
    /// keepalived, which watches a BFD session with each server.
    KeepalivedBfd,
}

impl Checker {
    pub(super) const ALL: [Self; 4] =
        [Self::Agent, Self::AgentConnects, Self::Keepalived, Self::KeepalivedBfd];

    /// Whether it sees what clients do, so that it matters who they are.
    pub(super) fn sees_clients(self) -> bool {
        matches!(self, Self::Agent | Self::AgentConnects)
    }
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "lvs-agent, http",
            Self::AgentConnects => "lvs-agent, connect",
            Self::Keepalived => "keepalived, TCP_CHECK",
            Self::KeepalivedBfd => "keepalived, BFD_CHECK",
        })
    }
}

/// Who the clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Clients {
    /// From 32 networks.
    ManyNetworks { rate: u32 },
    /// 64 addresses of one network.
    OneNetwork { rate: u32 },
    /// One address, as of a proxy.
    OneAddress { rate: u32 },
    /// Nobody.
    None,
}

impl Clients {
    /// All of them, those with the most to see first.
    pub(super) fn all() -> Vec<Self> {
        let kinds: [fn(u32) -> Self; 3] = [
            |rate| Self::ManyNetworks { rate },
            |rate| Self::OneNetwork { rate },
            |rate| Self::OneAddress { rate },
        ];
        let at = |rate| kinds.map(|kind| kind(rate));
        RATES.into_iter().flat_map(at).chain([Self::None]).collect()
    }

    /// What they do; `None`: nothing.
    pub(super) fn plan(self) -> Option<LoadPlan> {
        /// Client numbers that are so far apart are in one network.
        const SAME_NETWORK: u32 = 256;
        let plan =
            |rate: u32, clients, step| Some(LoadPlan { clients, step, ..LoadPlan::paced(rate.into()) });
        match self {
            Self::ManyNetworks { rate } => plan(rate, 32, 1),
            Self::OneNetwork { rate } => plan(rate, 64, SAME_NETWORK),
            Self::OneAddress { rate } => plan(rate, 1, 1),
            Self::None => None,
        }
    }

    fn rate(self) -> Option<u32> {
        match self {
            Self::ManyNetworks { rate } | Self::OneNetwork { rate } | Self::OneAddress { rate } => Some(rate),
            Self::None => None,
        }
    }
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ManyNetworks { rate } => write!(f, "32 networks, {rate}/s"),
            Self::OneNetwork { rate } => write!(f, "one network, {rate}/s"),
            Self::OneAddress { rate } => write!(f, "one address, {rate}/s"),
            Self::None => f.write_str("no traffic"),
        }
    }
}

/// The words that choose a part of the conditions: those of one kind add up, those of different kinds narrow it down.
#[derive(Clone, Debug, Default)]
pub(super) struct Only(Vec<String>);

const FAULT_WORDS: [&str; 4] = ["killed", "filtered", "powered-off", "hung"];
const METHOD_WORDS: [&str; 3] = ["masquerade", "direct-route", "tunnel"];
const CHECKER_WORDS: [&str; 4] = ["agent", "agent-connect", "keepalived", "bfd"];
const CLIENT_WORDS: [&str; 4] = ["many", "one-network", "one-address", "none"];
const RATE_WORDS: [&str; 2] = ["200", "8"];

impl Only {
    /// An error names a word that means nothing, and those that do.
    pub(super) fn of(words: &[String]) -> Result<Self> {
        let known = [&FAULT_WORDS[..], &METHOD_WORDS, &CHECKER_WORDS, &CLIENT_WORDS, &RATE_WORDS].concat();
        if let Some(word) = words.iter().find(|word| !known.contains(&word.as_str())) {
            bail!("--only {word} means nothing; what does: {}", known.join(", "));
        }
        Ok(Self(words.to_vec()))
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        self.chosen(&FAULT_WORDS, FAULTS)
    }

    pub(super) fn methods(&self) -> Vec<Method> {
        self.chosen(&METHOD_WORDS, Method::ALL)
    }

    pub(super) fn checkers(&self) -> Vec<Checker> {
        self.chosen(&CHECKER_WORDS, Checker::ALL)
    }

    pub(super) fn clients(&self) -> Vec<Clients> {
        let kinds = |clients: Clients| match clients {
            Clients::ManyNetworks { .. } => "many",
            Clients::OneNetwork { .. } => "one-network",
            Clients::OneAddress { .. } => "one-address",
            Clients::None => "none",
        };
        let is_chosen = |clients: &Clients| {
            let rate = clients.rate().map(|rate| rate.to_string());
            self.is_chosen(&CLIENT_WORDS, kinds(*clients))
                && rate.is_none_or(|rate| self.is_chosen(&RATE_WORDS, &rate))
        };
        Clients::all().into_iter().filter(is_chosen).collect()
    }

    /// The clients with which a checker is measured. For one that does not see them one kind is enough; with the second
    /// check the agent is measured only at both ends, as it looks at clients in the same way.
    pub(super) fn clients_of(&self, checker: Checker) -> Vec<Clients> {
        let all = Clients::all();
        match checker {
            Checker::Agent => self.clients(),
            Checker::AgentConnects => {
                let ends = [all[0], Clients::None];
                self.clients().into_iter().filter(|clients| ends.contains(clients)).collect()
            }
            Checker::Keepalived | Checker::KeepalivedBfd => vec![all[0]],
        }
    }

    fn chosen<T, const N: usize>(&self, words: &[&str; N], all: [T; N]) -> Vec<T> {
        let named = words.iter().zip(all).filter(|(word, _)| self.is_chosen(words, word));
        named.map(|(_, one)| one).collect()
    }

    /// Whether this word, one of its kind, is named, or none of its kind.
    fn is_chosen(&self, kind: &[&str], word: &str) -> bool {
        let named = |word: &str| self.0.iter().any(|named| named == word);
        named(word) || !kind.iter().any(|other| named(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(words: &[&str]) -> Result<Only> {
        Only::of(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn words_of_one_kind_add_up_and_those_of_others_narrow_down() {
        let all = only(&[]).unwrap();
        assert_eq!((all.faults().len(), all.methods().len(), all.checkers().len()), (4, 3, 4));
        assert_eq!(all.clients().len(), 7);
        let some = only(&["killed", "hung", "one-network", "none", "8", "bfd"]).unwrap();
        assert_eq!(some.faults(), [Fault::ProcessKilled, Fault::ProcessHung]);
        assert_eq!(some.checkers(), [Checker::KeepalivedBfd]);
        assert_eq!(some.clients(), [Clients::OneNetwork { rate: 8 }, Clients::None]);
        assert_eq!(all.clients_of(Checker::Agent).len(), 7);
        let ends = [Clients::ManyNetworks { rate: 200 }, Clients::None];
        assert_eq!(all.clients_of(Checker::AgentConnects), ends);
        assert_eq!(some.clients_of(Checker::AgentConnects), [Clients::None]);
        assert_eq!(some.clients_of(Checker::KeepalivedBfd), ends[..1]);
        assert!(only(&["hanged"]).unwrap_err().to_string().contains("hung"));
    }

    #[test]
    fn clients_are_from_as_many_networks_as_they_are_called_after() {
        use std::collections::BTreeSet;

        use crate::lab::layout::network_of;
        for (clients, networks, addresses) in [
            (Clients::ManyNetworks { rate: 8 }, 32, 32),
            (Clients::OneNetwork { rate: 8 }, 1, 64),
            (Clients::OneAddress { rate: 8 }, 1, 1),
        ] {
            let plan = clients.plan().unwrap();
            let all: BTreeSet<_> = plan.pairs().take(200).map(|(client, _)| client).collect();
            let of: BTreeSet<_> = all.iter().map(|client| network_of(*client)).collect();
            assert_eq!((of.len(), all.len()), (networks, addresses), "{clients}");
        }
    }
}
