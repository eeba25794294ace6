//! What was measured, as a table.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use serde::{Deserialize, Serialize};

use super::conditions::{Checker, Clients};
use crate::lab::{faults::Fault, layout::Method};

/// What came of the injections of one fault, under the same conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cell {
    pub(super) checker: Checker,
    pub(super) clients: Clients,
    pub(super) method: Method,
    pub(super) fault: Fault,
    /// From the fault to the kernel's table in ms, of each injection; `None`: never.
    pub(super) times: Vec<Option<f64>>,
    /// How many servers there were.
    pub(super) servers: u8,
    /// Of which revision of this repository the checker was, where it is the agent.
    pub(super) revision: Option<String>,
}

/// A checker's packets a second to all servers while all is well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cost {
    pub(super) checker: Checker,
    pub(super) clients: Clients,
    pub(super) method: Method,
    pub(super) packets: f64,
}

/// All that was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Measured {
    pub(super) cells: Vec<Cell>,
    pub(super) costs: Vec<Cost>,
}

/// How the measurement was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    pub(super) runs: u32,
    pub(super) servers: u8,
}

impl Cell {
    /// The median: of an even number of times the worse one, and never is worse than any. `None`: never.
    pub(super) fn median(&self) -> Option<f64> {
        let mut times = self.times.clone();
        times.sort_by(|one, other| one.unwrap_or(f64::INFINITY).total_cmp(&other.unwrap_or(f64::INFINITY)));
        times.get(times.len() / 2).copied().flatten()
    }

    /// `median (least–greatest)` in ms.
    fn text(&self) -> String {
        let Some(median) = self.median() else { return "never".to_owned() };
        let known = || self.times.iter().flatten().copied();
        let least = known().fold(f64::INFINITY, f64::min);
        let greatest = known().fold(0.0, f64::max);
        let missing = self.times.iter().filter(|time| time.is_none()).count();
        let never = if missing > 0 { format!(", {missing} × never") } else { String::new() };
        format!("{} ({}–{}{never})", ms(median), ms(least), ms(greatest))
    }
}

impl Measured {
    /// Rows in the order in which they were measured: a checker with its clients.
    fn rows(&self) -> Vec<(Checker, Clients)> {
        let mut rows = Vec::new();
        for cell in &self.cells {
            let row = (cell.checker, cell.clients);
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        rows
    }

    pub(super) fn cell(&self, row: (Checker, Clients), method: Method, fault: Fault) -> Option<&Cell> {
        let fits = |cell: &&Cell| {
            (cell.checker, cell.clients) == row && cell.method == method && cell.fault == fault
        };
        self.cells.iter().find(fits)
    }

    fn faults(&self) -> Vec<Fault> {
        let of = |fault: &Fault| self.cells.iter().any(|cell| cell.fault == *fault);
        super::conditions::FAULTS.into_iter().filter(of).collect()
    }

    fn methods(&self) -> Vec<Method> {
        let of = |method: &Method| self.cells.iter().any(|cell| cell.method == *method);
        Method::ALL.into_iter().filter(of).collect()
    }

    /// A section for each fault: rows are checkers with their clients, columns forwarding methods.
    pub(super) fn tables(&self) -> String {
        let methods = self.methods();
        let mut text = String::new();
        for fault in self.faults() {
            // Writing to a string can't fail.
            writeln!(text, "## {}\n\n{}", title(fault), head(&methods)).unwrap_or_default();
            for row in self.rows() {
                let of = |method: &Method| {
                    self.cell(row, *method, fault).map_or_else(|| "–".to_owned(), Cell::text)
                };
                let cells: Vec<_> = methods.iter().map(of).collect();
                writeln!(text, "| {} | {} |", name(row), cells.join(" | ")).unwrap_or_default();
            }
            text.push('\n');
        }
        writeln!(text, "## Packets a second to all servers, all well\n\n{}", head(&methods))
            .unwrap_or_default();
        for row in self.rows() {
            let of = |method: &Method| {
                let mut costs = self.costs.iter();
                let cost = costs.find(|cost| (cost.checker, cost.clients) == row && cost.method == *method);
                cost.map_or_else(|| "–".to_owned(), |cost| format!("{:.0}", cost.packets))
            };
            let cells: Vec<_> = methods.iter().map(of).collect();
            writeln!(text, "| {} | {} |", name(row), cells.join(" | ")).unwrap_or_default();
        }
        text
    }

    /// The whole page.
    pub(super) fn page(&self) -> String {
        let (runs, servers) = (
            span(self.cells.iter().map(|cell| cell.times.len())),
            span(self.cells.iter().map(|cell| cell.servers)),
        );
        format!(
            "# Measurements: who notices what, how soon\n\n\
             Made by `cargo xtask bench failover`: do not edit.\n\n\
             From a fault of one of {servers} servers until the kernel's table gives it no new connections, in ms: median \
             (least–greatest)\nof {runs} injections at different phases. A VM with Linux 6.1, real IPVS and real TCP, \
             whose clock counts instructions;\nround robin, clients 1 ms away.\n\n\
             - **lvs-agent**: default settings, a check each second with a timeout of 1 s, by HTTP or by `connect`.\n\
             - **keepalived, TCP_CHECK**: at its shortest: `delay_loop 0.1`, `connect_timeout 0.1`, `retry 1` after \
             0.05 s.\n\
             - **keepalived, BFD_CHECK**: 10 ms × 5, with bird on each server.\n\n\
             Whom clients are does not matter to keepalived, which is measured with those of the first row. *never*: not \
             within 6 s.\n\n\
             ![Time from a fault until the server is out of the table, in the worst forwarding method, of lvs-agent \
             and\nkeepalived](../images/failover.svg)\n\n\
             - **Process hung**: the application is given the whole timeout of its check, so that a slow answer is no \
             failure.\n  Who asks for connections alone never sees it.\n\
             - **No traffic**: a killed process is seen by its end of the idle connection. All else waits for the regular \
             check,\n  which takes `fall` failures a second apart.\n\
             - **At 8 connections a second** a server has two of them a second: what is silent is seen with the next one \
             or two.\n\
             - **BFD** tells whether the host and the way to it live. It sees no process and no port.\n\n{}{}",
            self.tables(),
            self.revisions()
        )
    }

    /// Which revisions of the agent the rows are of.
    fn revisions(&self) -> String {
        let mut cells: BTreeMap<&str, usize> = BTreeMap::new();
        for revision in self.cells.iter().filter_map(|cell| cell.revision.as_deref()) {
            *cells.entry(revision).or_default() += 1;
        }
        let words: Vec<_> = cells.iter().map(|(revision, count)| format!("{revision} ({count})")).collect();
        if words.is_empty() {
            String::new()
        } else {
            format!("\nRevisions of the agent (cells): {}.\n", words.join(", "))
        }
    }
}

/// A number, or the least and the greatest of several.
fn span<T: Copy + Ord + fmt::Display>(numbers: impl Iterator<Item = T> + Clone) -> String {
    match (numbers.clone().min(), numbers.max()) {
        (Some(least), Some(most)) if least == most => least.to_string(),
        (Some(least), Some(most)) => format!("{least} to {most}"),
        _ => "no".to_owned(),
    }
}

/// A time in ms, to two or more digits.
pub(super) fn ms(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

fn head(methods: &[Method]) -> String {
    let names: Vec<_> = methods.iter().map(ToString::to_string).collect();
    format!("| checker, clients | {} |\n|---|{}", names.join(" | "), "---:|".repeat(methods.len()))
}

fn name((checker, clients): (Checker, Clients)) -> String {
    if checker.sees_clients() { format!("{checker}; {clients}") } else { checker.to_string() }
}

/// The fault as a heading.
pub(super) fn title(fault: Fault) -> &'static str {
    match fault {
        Fault::ProcessKilled => "Process killed",
        Fault::PortFiltered => "Port filtered",
        Fault::LinkDown => "Powered off",
        Fault::ProcessHung => "Process hung",
        _ => "Other",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::bench::failover) fn measured() -> Measured {
        let cell = |checker, clients, fault, times: &[Option<f64>]| Cell {
            checker,
            clients,
            method: Method::Masquerade,
            fault,
            times: times.to_vec(),
            servers: 4,
            revision: checker.sees_clients().then(|| "1234567".to_owned()),
        };
        let many = Clients::ManyNetworks { rate: 200 };
        let (killed, off) = (Fault::ProcessKilled, Fault::LinkDown);
        Measured {
            cells: vec![
                cell(Checker::Agent, many, killed, &[Some(20.4), Some(19.0), Some(31.0)]),
                cell(Checker::Agent, Clients::None, off, &[Some(2900.0), None, Some(2500.0)]),
                cell(Checker::KeepalivedBfd, many, killed, &[None, None, None]),
                cell(Checker::KeepalivedBfd, many, off, &[Some(50.0), Some(45.0), Some(52.0)]),
            ],
            costs: vec![Cost {
                checker: Checker::Agent,
                clients: many,
                method: Method::Masquerade,
                packets: 19.6,
            }],
        }
    }

    #[test]
    fn a_section_for_each_fault_has_a_row_for_each_checker_and_its_clients() {
        let text = measured().tables();
        let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
        let expected = [
            "## Process killed",
            "| checker, clients | masquerade |",
            "|---|---:|",
            "| lvs-agent, http; 32 networks, 200/s | 20 (19–31) |",
            "| lvs-agent, http; no traffic | – |",
            "| keepalived, BFD_CHECK | never |",
            "## Powered off",
            "| checker, clients | masquerade |",
            "|---|---:|",
            "| lvs-agent, http; 32 networks, 200/s | – |",
            "| lvs-agent, http; no traffic | 2900 (2500–2900, 1 × never) |",
            "| keepalived, BFD_CHECK | 50 (45–52) |",
            "## Packets a second to all servers, all well",
            "| checker, clients | masquerade |",
            "|---|---:|",
            "| lvs-agent, http; 32 networks, 200/s | 20 |",
            "| lvs-agent, http; no traffic | – |",
            "| keepalived, BFD_CHECK | – |",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn never_is_worse_than_any_time() {
        let cell = |times: &[Option<f64>]| Cell { times: times.to_vec(), ..measured().cells[0].clone() };
        for (times, median) in [
            (&[][..], None),
            (&[Some(3.0), Some(1.0), Some(2.0)], Some(2.0)),
            (&[Some(3.0), None], None),
            (&[None, Some(3.0), Some(5.0)], Some(5.0)),
        ] {
            assert_eq!(cell(times).median(), median, "{times:?}");
        }
    }
}
