//! Which of several directors this one is: active, where the clients' traffic is, or standby.

use std::fmt;

/// What a director is at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DirectorRole {
    /// Clients reach the services here.
    Active,
    /// It stands ready: it checks and keeps its table, and tells nobody.
    Standby,
}

impl DirectorRole {
    /// Whether clients reach the services here.
    #[must_use]
    pub fn is_active(self) -> bool {
        self == Self::Active
    }
}

impl fmt::Display for DirectorRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Standby => "standby",
        })
    }
}

/// What the configuration says about the role; people's orders come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleSetting {
    /// Always the same.
    Fixed(DirectorRole),
    /// Standby while none of the services' addresses is this host's own.
    ByVip,
}

impl Default for RoleSetting {
    fn default() -> Self {
        Self::Fixed(DirectorRole::Active)
    }
}
