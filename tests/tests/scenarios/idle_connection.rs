//! A process ends, and no client is there to see it.

use std::time::Duration;

use anyhow::{Result, ensure};
use lvs_tests::{
    lab::{clock::Moment, layout::Method},
    say,
    testbed::{EDIT_LIMIT, RETURN_LIMIT, Setup, Testbed},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::expect_failover::ms;

/// From the end of the process to the kernel's table.
const OUT: Duration = Duration::from_millis(25);

/// Waits until each server has its idle connection. The status is as of now; metrics may be of a moment before.
fn wait_until_kept(testbed: &mut Testbed) -> Result<()> {
    testbed.wait("every server to have an idle connection", EDIT_LIMIT, |testbed| {
        let status = testbed.agent.ask(&["status", "--json"])?;
        let status: Value = serde_json::from_str(&status.stdout)?;
        let services = status["services"].as_array().into_iter().flatten();
        let mut servers = services.flat_map(|service| service["servers"].as_array().into_iter().flatten());
        Ok(servers.all(|server| server["idle_connection"] == "open"))
    })
}

/// How long after its process had this signal a server was out, in ms; the server is back afterwards.
fn out_after(testbed: &mut Testbed, server: usize, signal: Signal) -> Result<f64> {
    wait_until_kept(testbed)?;
    testbed.reset_healthy_since();
    let fault = Moment::now();
    testbed.lab.servers[server].signal(signal)?;
    testbed.wait_until_out(server)?;
    let seen = testbed.record(server, fault, Moment::now(), None)?;
    ensure!(seen.unexpected_changes().is_empty(), "{:?}", seen.unexpected_changes());
    let times = seen.milestones();
    let out = times.table.unwrap_or(f64::NAN);
    say(&format!(
        "{}, no clients, {signal}: suspected after {:.1} ms, out after {out:.1} ms",
        testbed.lab.network.layout,
        times.suspicion.unwrap_or(f64::NAN)
    ));
    testbed.lab.servers[server].restart()?;
    let address = testbed.lab.servers[server].address();
    testbed.wait(&format!("{address} to come back"), RETURN_LIMIT, |testbed| {
        Ok(testbed.watcher.table()?.is_in_everywhere(address))
    })?;
    Ok(out)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn without_any_client_a_process_that_ends_is_out_at_once() -> Result<()> {
    for method in Method::ALL {
        let mut testbed = Testbed::start(&Setup::new(method))?;
        testbed.load.stop()?;
        let ends = [(0, Signal::SIGKILL), (1, Signal::SIGTERM), (0, Signal::SIGKILL)];
        for (server, signal) in ends {
            let out = out_after(&mut testbed, server, signal)?;
            ensure!(out <= ms(OUT), "{method}, {signal}: out after {out:.1} ms\n{}", testbed.diagnosis());
        }
    }
    Ok(())
}
