//! A stand-in for ipvsadm where the kernel has no IPVS: a log of its calls, the table that follows from them, and the
//! answers that ipvsadm would print. It knows what ldirectord asks for.

mod command;
mod listing;

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use lvs_agent::ipvs::Table;

use self::command::Call;
pub use self::listing::rules;

/// The environment variable that names the call log.
pub const CALL_LOG_VARIABLE: &str = "LVS_LAB_CALL_LOG";

/// The file with all calls, one a line.
#[derive(Clone, Debug)]
pub struct CallLog {
    file: PathBuf,
}

impl CallLog {
    /// The call log in this file; without one nothing was called.
    #[must_use]
    pub fn at(file: &Path) -> Self {
        Self { file: file.to_owned() }
    }

    /// Every call so far, its words with a blank between.
    pub fn calls(&self) -> Result<Vec<String>> {
        let text = match fs::read_to_string(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| self.file.display().to_string())?,
        };
        // What is being written has no end of line yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Ok(whole.lines().map(str::to_owned).collect())
    }

    /// The table that these calls have led to. Those that were refused have changed nothing.
    pub fn table(&self) -> Result<Table> {
        let mut table = Table::default();
        for call in self.calls()? {
            execute(&mut table, &call).ok();
        }
        Ok(table)
    }

    /// Does what a call asks for, and gives what it prints; an error if ipvsadm or the kernel would refuse it.
    pub fn execute(&self, words: &[String]) -> Result<String> {
        let mut table = self.table()?;
        let call = words.join(" ");
        let mut file = OpenOptions::new().create(true).append(true).open(&self.file)?;
        file.write_all(format!("{call}\n").as_bytes())?;
        execute(&mut table, &call)
    }
}

fn execute(table: &mut Table, call: &str) -> Result<String> {
    match command::parse(call)? {
        Call::List { thresholds } => Ok(listing::print(table, thresholds)),
        Call::Edit(edit) => {
            table.apply(&edit)?;
            Ok(String::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(calls: &[&str]) -> (Table, Vec<bool>) {
        let mut table = Table::default();
        let done = calls.iter().map(|call| execute(&mut table, call).is_ok()).collect();
        (table, done)
    }

    #[test]
    fn calls_make_a_table() {
        let (table, done) = table(&[
            "-A -t 192.0.2.80:80 -s wrr -p 300 -M 255.255.255.0",
            "-a -t 192.0.2.80:80 -x 20 -y 10 -r 10.0.0.1:8080 -m -w 3",
            "-a -t 192.0.2.80:80 -r 10.0.0.2:8080 -g -w 1",
            "-a -t 192.0.2.80:80 -r 10.0.0.2:80 -i -w 1",
            "-e -t 192.0.2.80:80 -r 10.0.0.2:80 -i -w 0",
            "-A -f 7 -6 -s sh -b sh-port",
            "-a -f 7 -6 -r [fd00::1]:80 -m -w 1",
            "-A -u 192.0.2.80:53 -o -s nothing",
            "-d -f 7 -6 -r [fd00::1]:80",
            "-D -f 8",
            "-d -t 192.0.2.80:80 -r 10.0.0.2:8080",
            "-a -t 192.0.2.80:80 -y 10 -r 10.0.0.3:80 -m -w 1",
            "-a -t 192.0.2.80:80 -r 224.0.0.1:80 -m -w 1",
            "-a -f 7 -6 -r [fe80::1]:80 -m -w 1",
        ]);
        assert_eq!(done[..11], [true, true, true, false, true, true, true, false, true, false, false]);
        assert_eq!(done[11..], [false; 3], "the kernel refuses them");
        let listed = listing::print(&table, false);
        let expected = "\
            TCP  192.0.2.80:80 wrr persistent 300 mask 255.255.255.0\n  \
            -> 10.0.0.1:8080                Masq    3      0          0         \n  \
            -> 10.0.0.2:80                  Tunnel  0      0          0         \n\
            FWM  7 IPv6 sh (sh-port)\n";
        assert!(listed.ends_with(expected), "{listed}");
        let listed = listing::print(&table, true);
        assert!(listed.contains("-> 10.0.0.1:8080                20         10 "), "{listed}");
    }
}
