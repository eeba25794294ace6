//! The stand-in for ipvsadm, as a program. `LVS_LAB_JOURNAL` names its journal.

use std::{env, io::Write as _, path::Path};

use anyhow::{Context as _, Result};
use lvs_tests::ldirectord::fake_ipvsadm::{JOURNAL_VARIABLE, Journal};

fn main() -> Result<()> {
    let file =
        env::var_os(JOURNAL_VARIABLE).with_context(|| format!("{JOURNAL_VARIABLE} names no journal"))?;
    let words: Vec<String> = env::args().skip(1).collect();
    let printed = Journal::at(Path::new(&file)).perform(&words)?;
    std::io::stdout().write_all(printed.as_bytes())?;
    Ok(())
}
