//! `[director]`.

use super::{section::Section, value};
use crate::{
    config::diagnostics::FaultList,
    model::{DirectorRole, RoleSetting},
};

/// What is said about the role, by its name.
pub(super) const ROLE: [(&str, RoleSetting); 3] = [
    ("active", RoleSetting::Fixed(DirectorRole::Active)),
    ("standby", RoleSetting::Fixed(DirectorRole::Standby)),
    ("by-vip", RoleSetting::ByVip),
];

/// Reads the section.
pub(super) fn read(mut section: Section<'_>, faults: &mut FaultList) -> RoleSetting {
    let role = section.plain("role", faults, |value| value::word(value, &ROLE));
    section.finish(faults);
    role.unwrap_or_default()
}
