//! The stand-in for ipvsadm, as a program. `LVS_LAB_CALL_LOG` names its call log.

use std::{env, io::Write as _, path::Path};

use anyhow::{Context as _, Result};
use lvs_tests::ldirectord::fake_ipvsadm::{CALL_LOG_VARIABLE, CallLog};

fn main() -> Result<()> {
    let file =
        env::var_os(CALL_LOG_VARIABLE).with_context(|| format!("{CALL_LOG_VARIABLE} names no call log"))?;
    let words: Vec<String> = env::args().skip(1).collect();
    let printed = CallLog::at(Path::new(&file)).execute(&words)?;
    std::io::stdout().write_all(printed.as_bytes())?;
    Ok(())
}
