//! What was measured, as lines of JSON: one for each cell, so that a run that is cut off leaves what it has, and runs
//! of parts become one page.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{
    conditions::{Checker, Clients, FAULTS},
    report::{Cell, Cost, Measured},
};
use crate::lab::layout::Method;

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Cell(Cell),
    Cost(Cost),
}

/// The results of a run, written to a file as they come.
#[derive(Debug)]
pub(super) struct Results {
    measured: Measured,
    /// `None`: nowhere.
    file: Option<PathBuf>,
}

impl Results {
    /// None yet.
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { measured: Measured::default(), file }
    }

    /// All of them.
    pub(super) fn measured(&self) -> &Measured {
        &self.measured
    }

    /// Takes in a cell.
    pub(super) fn add_cell(&mut self, cell: Cell) -> Result<()> {
        self.write(&Line::Cell(cell.clone()))?;
        self.measured.put_cell(cell);
        Ok(())
    }

    /// Takes in a cost.
    pub(super) fn add_cost(&mut self, cost: Cost) -> Result<()> {
        self.write(&Line::Cost(cost.clone()))?;
        self.measured.put_cost(cost);
        Ok(())
    }

    fn write(&self, line: &Line) -> Result<()> {
        self.file.as_deref().map_or(Ok(()), |file| append(file, line))
    }
}

fn append(to: &Path, line: &Line) -> Result<()> {
    let text = serde_json::to_string(line)? + "\n";
    let mut file =
        OpenOptions::new().create(true).append(true).open(to).with_context(|| to.display().to_string())?;
    file.write_all(text.as_bytes()).with_context(|| to.display().to_string())
}

/// All that a file holds; nothing if there is none. A last line that was cut off is left out.
pub(super) fn read(from: &Path) -> Result<Measured> {
    let text = match fs::read_to_string(from) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text.with_context(|| from.display().to_string())?,
    };
    let mut measured = Measured::default();
    for (number, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| line.ends_with('\n')) {
        let line = serde_json::from_str(line)
            .with_context(|| format!("{}, line {}: no result", from.display(), number + 1))?;
        match line {
            Line::Cell(cell) => measured.put_cell(cell),
            Line::Cost(cost) => measured.put_cost(cost),
        }
    }
    Ok(measured)
}

/// Writes all of it, in the order of the page.
pub(super) fn write(measured: &Measured, to: &Path) -> Result<()> {
    let cells = measured.cells.iter().cloned().map(Line::Cell);
    let costs = measured.costs.iter().cloned().map(Line::Cost);
    let lines = cells.chain(costs).map(|line| Ok(serde_json::to_string(&line)? + "\n"));
    let text = lines.collect::<Result<String>>()?;
    fs::write(to, text).with_context(|| to.display().to_string())
}

impl Measured {
    /// Takes in what was measured elsewhere or later. It takes the place of what was known under the same conditions,
    /// unless that is of more injections.
    pub(super) fn merge(&mut self, newer: Self) {
        for cell in newer.cells {
            let known = self.cell((cell.checker, cell.clients), cell.method, cell.fault);
            if known.is_none_or(|known| known.times.len() <= cell.times.len()) {
                self.put_cell(cell);
            }
        }
        newer.costs.into_iter().for_each(|cost| self.put_cost(cost));
        self.sort();
    }

    fn put_cell(&mut self, cell: Cell) {
        let key = |cell: &Cell| (cell.checker, cell.clients, cell.method, cell.fault);
        self.cells.retain(|known| key(known) != key(&cell));
        self.cells.push(cell);
    }

    fn put_cost(&mut self, cost: Cost) {
        let key = |cost: &Cost| (cost.checker, cost.clients, cost.method);
        self.costs.retain(|known| key(known) != key(&cost));
        self.costs.push(cost);
    }

    /// In the order in which a whole run measures.
    fn sort(&mut self) {
        let clients = Clients::all();
        let place = |checker: Checker, of: Clients, method: Method| {
            (
                Checker::ALL.iter().position(|one| *one == checker),
                clients.iter().position(|one| *one == of),
                Method::ALL.iter().position(|one| *one == method),
            )
        };
        self.cells.sort_by_key(|cell| {
            let fault = FAULTS.iter().position(|one| *one == cell.fault);
            (place(cell.checker, cell.clients, cell.method), fault)
        });
        self.costs.sort_by_key(|cost| place(cost.checker, cost.clients, cost.method));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::failover::report::tests::measured;

    #[test]
    fn what_is_written_is_read_again_and_a_line_that_was_cut_off_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("results");
        assert!(read(&file).unwrap().cells.is_empty(), "no file");
        let measured = measured();
        let mut results = Results::new(Some(file.clone()));
        measured.cells.iter().for_each(|cell| results.add_cell(cell.clone()).unwrap());
        measured.costs.iter().for_each(|cost| results.add_cost(cost.clone()).unwrap());
        assert_eq!(*results.measured(), measured);
        let mut again = read(&file).unwrap();
        assert_eq!(again, measured);
        again.merge(Measured::default());
        write(&again, &file).unwrap();
        assert_eq!(read(&file).unwrap(), again);
        let cut = fs::read_to_string(&file).unwrap();
        fs::write(&file, &cut[..cut.len() - 5]).unwrap();
        assert_eq!(read(&file).unwrap().costs.len(), measured.costs.len() - 1);
        fs::write(&file, "{}\n").unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn a_later_result_takes_the_place_of_one_of_as_many_injections() {
        let mut all = measured();
        let (first, others) = (all.cells[0].clone(), all.cells.len());
        let with = |times: Vec<Option<f64>>| Measured {
            cells: vec![Cell { times, ..first.clone() }],
            costs: Vec::new(),
        };
        all.merge(with(vec![Some(1.0)]));
        assert_eq!(all.cells[0].times, first.times, "one injection says less than three");
        all.merge(with(vec![Some(1.0); 3]));
        assert_eq!((all.cells[0].median(), all.cells.len()), (Some(1.0), others));
    }
}
