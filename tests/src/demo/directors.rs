//! The demonstration with two directors: the active one loses its power, and the other one takes over.

use std::{thread, time::Duration};

use anyhow::{Result, bail};

use super::print;
use crate::{
    lab::{director::table_text, pair::Pair},
    testbed::takeover::{Traffic, wait_for_role},
};

/// How long everything is watched after the takeover.
const AFTER: Duration = Duration::from_secs(3);

/// Shows it so often. An error if anything was not as it should be.
pub(super) fn demonstrate(runs: u32) -> Result<()> {
    let mut bad = 0;
    for number in 1..=runs {
        print(&format!(
            "\n== two directors with keepalived: the active one loses its power, run {number} of {runs}"
        ))?;
        bad += u32::from(!one_run()?);
    }
    if bad > 0 {
        bail!("{bad} of {runs} runs were not as they should be");
    }
    Ok(())
}

/// Whether all was as it should be.
fn one_run() -> Result<bool> {
    let mut pair = Pair::start()?;
    for (director, role) in pair.directors.iter().zip(["active", "standby"]) {
        wait_for_role(director, role)?;
        print(&format!("{}: agent ready, {role}", director.name))?;
    }
    let traffic = Traffic::start(&pair)?;
    print("clients at work: 100 new connections a second, and 50 that stay and that the standby knows")?;
    print(&format!("\nthe standby's table before:\n{}", table_text(&pair.directors[1].namespace)?))?;
    let loss = traffic.lose_director(&mut pair)?;
    thread::sleep(AFTER);
    let after = table_text(&pair.directors[1].namespace)?;
    let takeover = traffic.end(&pair, loss)?;
    print(&format!("{takeover}\n\nits table after:\n{after}"))?;
    let violations = takeover.violations();
    if violations.is_empty() {
        print("as it should be: the other director serves, without the dead server")?;
        return Ok(true);
    }
    print(&format!(
        "NOT as it should be:\n  {}\n{}",
        violations.join("\n  "),
        pair.directors[1].agent.diagnosis()
    ))?;
    Ok(false)
}
