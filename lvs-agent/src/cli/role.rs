//! `lvs-agent role`: whether this director is active or standby.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::ValueEnum;

use super::arguments::{ControlArguments, unexpected};
use crate::control::{self, Reply, Request, RoleOrder, RoleReply, escaped};

#[derive(Debug, clap::Args)]
pub(super) struct RoleArguments {
    /// What this director is to be from now on: `active`, `standby`, or `auto` for what the configuration says. Without
    /// it nothing changes.
    #[arg(value_enum, value_name = "active|standby|auto", hide_possible_values = true)]
    order: Option<Order>,
    #[command(flatten)]
    control: ControlArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    Active,
    Standby,
    Auto,
}

impl From<Order> for RoleOrder {
    fn from(order: Order) -> Self {
        match order {
            Order::Active => Self::Active,
            Order::Standby => Self::Standby,
            Order::Auto => Self::Auto,
        }
    }
}

/// Orders a role, if the arguments say so, and prints the one that holds.
pub(super) async fn role(arguments: &RoleArguments) -> anyhow::Result<ExitCode> {
    let request = Request::Role { order: arguments.order.map(RoleOrder::from) };
    let Reply::Role(RoleReply { status, not_kept }) =
        control::ask(arguments.control.path(), &request).await?
    else {
        return Err(unexpected());
    };
    writeln!(io::stdout(), "{}", escaped(&status.to_string())).context("writing to standard output")?;
    if let Some(reason) = not_kept {
        writeln!(
            io::stderr(),
            "lvs-agent: this is in effect, but not kept: {}; it is lost when the agent stops, unless it can be saved \
             until then",
            escaped(&reason)
        )
        .context("writing to standard error")?;
    }
    Ok(ExitCode::SUCCESS)
}
