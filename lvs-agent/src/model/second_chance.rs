//! Whether connections that have just begun get a second chance when their server dies.

/// Whether the SYNs of handshakes that are still open are sent again when their server is taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecondChance {
    /// The client's own retry after a second decides.
    #[default]
    Off,
    /// They are sent again, and the RST that refuses a client is held back meanwhile.
    On,
}

impl SecondChance {
    /// Whether it is on.
    #[must_use]
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

impl From<bool> for SecondChance {
    fn from(is_on: bool) -> Self {
        if is_on { Self::On } else { Self::Off }
    }
}
