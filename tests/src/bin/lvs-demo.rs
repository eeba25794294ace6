//! Shows the agent at work: a real IPVS director, clients and servers in network namespaces, and a server that fails.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use lvs_tests::{
    demo::{DemoOptions, demonstrate},
    lab::leftovers,
    warn,
};
use tokio::signal::unix::{SignalKind, signal};

/// Shows how the agent takes a failed real server out of the kernel's IPVS table, and lets it in again.
///
/// Needs root, a kernel with IPVS, and the programs ip, ipvsadm and modprobe; keepalived for two directors. All of it
/// happens in network namespaces of its own. The exit code is 0 only if exactly the failed server was taken out, and
/// nothing before it failed.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: DemoOptions,
}

fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    match run(options) {
        Ok(code) => code,
        Err(error) => {
            warn(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: DemoOptions) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            shown = tokio::task::spawn_blocking(move || demonstrate(&options)) => shown?.map(|()| ExitCode::SUCCESS),
            _ = interrupt.recv() => abandon(),
            _ = terminate.recv() => abandon(),
        }
    });
    // A demonstration that was interrupted is not waited for.
    runtime.shutdown_background();
    code
}

/// Ends everything in the lab's namespaces and removes them.
fn abandon() -> Result<ExitCode> {
    leftovers::remove_own()?;
    Ok(ExitCode::from(130))
}
