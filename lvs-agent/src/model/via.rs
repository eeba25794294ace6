//! From where a check is made, and how long each of its steps may take.

use std::{net::IpAddr, time::Duration};

/// From where a check is made, and how long each of its steps may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Via {
    /// The address that it comes from; `None`: as the routes say.
    pub source: Option<IpAddr>,
    /// The device that its packets leave and come by (`SO_BINDTODEVICE`); `None`: as the routes say.
    pub device: Option<DeviceName>,
    /// The firewall mark of its packets, for the routing policy; `None`: the agent's own.
    pub mark: Option<u32>,
    /// How long the connection may take; `None`: as long as the whole check.
    pub connect_timeout: Option<Duration>,
    /// How long each wait for an answer may take; `None`: as long as the whole check.
    pub read_timeout: Option<Duration>,
}

/// The name of a network device: 1 to 15 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceName {
    bytes: [u8; 15],
    length: u8,
}

impl DeviceName {
    /// The name, unless it is empty or too long to be one.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; 15];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        let length = u8::try_from(name.len()).ok().filter(|length| *length > 0)?;
        Some(Self { bytes, length })
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}
