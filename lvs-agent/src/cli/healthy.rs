//! `lvs-agent healthy`: whether services are healthy, by exit code and within a moment.

use std::{io, process::ExitCode, time::Duration};

use super::{arguments::ControlArguments, arguments::unexpected, exit_code, status::print};
use crate::{
    control::{self, ControlError, HealthVerdict, Healthiness, Reply, Request, escaped_json},
    model::Share,
};

/// Which services must be healthy, and what that means.
#[derive(Debug, clap::Args)]
pub(super) struct HealthyArguments {
    /// Only this service must be healthy: its name, key or address; may be given several times. Without it: all.
    #[arg(long, value_name = "SERVICE")]
    service: Vec<String>,
    /// A service is healthy while this share of its weight is up, such as 0.5; without it while it has its quorum.
    #[arg(long, value_name = "SHARE")]
    min_share: Option<Share>,
    /// A service without its quorum counts as healthy, too, while its backups serve.
    #[arg(long)]
    backups: bool,
    /// How long the agent may take; after that it is taken to be stuck.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "1s")]
    timeout: Duration,
    #[command(flatten)]
    control: ControlArguments,
}

/// Asks, and says it in a line and by the exit code. Everything that isn't a plain yes is a failure.
pub(super) async fn healthy(arguments: &HealthyArguments) -> ExitCode {
    let failed = |error: &dyn std::fmt::Display, code| super::failed(error, code);
    match ask(arguments).await {
        Ok(Ok(Healthiness { verdict, text })) => {
            // The answer is the exit code, whether anybody reads the line or not.
            print(&(escaped_json(&text).into_owned() + "\n")).ok();
            ExitCode::from(code(verdict))
        }
        Ok(Err(error)) => failed(&error, exit_code::NO_AGENT),
        Err(error) if is_stuck(&error) => failed(&error, exit_code::STUCK),
        Err(error) => failed(&error, exit_code::NO_AGENT),
    }
}

async fn ask(arguments: &HealthyArguments) -> Result<anyhow::Result<Healthiness>, ControlError> {
    let HealthyArguments { service, min_share, backups, timeout, control } = arguments;
    let request = Request::Healthy { services: service.clone(), min_share: *min_share, backups: *backups };
    Ok(match control::ask_within(control.path(), &request, *timeout).await? {
        Reply::Healthy(healthiness) => Ok(healthiness),
        _ => Err(unexpected()),
    })
}

fn code(verdict: HealthVerdict) -> u8 {
    match verdict {
        HealthVerdict::Healthy => 0,
        HealthVerdict::Unhealthy => exit_code::UNHEALTHY,
        HealthVerdict::Unknown => exit_code::NOT_KNOWN,
        HealthVerdict::Stuck => exit_code::STUCK,
    }
}

/// Whether an agent is there that does nothing: it gives no answer, or takes no callers any more.
fn is_stuck(error: &ControlError) -> bool {
    match error {
        ControlError::Late { .. } => true,
        ControlError::Connect { error, .. } => error.kind() == io::ErrorKind::WouldBlock,
        _ => false,
    }
}
