//! Who may use the control socket.

use anyhow::Context as _;

use crate::{model::defaults::OPERATORS, privileges};

/// The number of the group of operators. The usual one needs not be there, nor does the agent need to be in it.
pub(super) fn operators(group: Option<&str>) -> anyhow::Result<Option<u32>> {
    match group.map(|name| (name, privileges::own_group(name))) {
        Some((_, Ok(number))) => Ok(Some(number)),
        None | Some((OPERATORS, Err(_))) => Ok(None),
        Some((_, Err(error))) => Err(error).context("`operators` in `[agent]`"),
    }
}
