//! From where a check is made, by which way it reaches the server, and how long each of its steps may take.

use std::{net::IpAddr, time::Duration};

use super::{VipLane, defaults};

/// From where a check is made, by which way it reaches the server, and how long each of its steps may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Via {
    /// Whether the server or the VIP is asked; `None`: nothing was said, which is the server.
    pub path: Option<ProbePath>,
    /// Where the VIP is asked: what leads the probe to this server. It is assigned to a server at a time, once the
    /// configuration is whole.
    pub lane: Option<VipLane>,
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

impl Via {
    /// Whether the VIP is to be asked.
    #[must_use]
    pub fn wants_vip(&self) -> bool {
        self.path == Some(ProbePath::Vip)
    }

    /// The same to the server itself.
    #[must_use]
    pub fn directly(self) -> Self {
        Self { path: None, lane: None, ..self }
    }
}

/// Which address a check asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbePath {
    /// The real server's own.
    Server,
    /// The VIP, as clients do: IPVS forwards the probe to the server, and the server answers from the VIP.
    Vip,
}

/// The firewall marks of probes to the VIP: [`Self::COUNT`] of them from the first on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VipMarks {
    first: u32,
}

impl VipMarks {
    /// How many there are: one for each server that is asked at a VIP.
    pub const COUNT: u32 = 1 << 16;

    /// The marks from `first` on; `None` unless it is a multiple of [`Self::COUNT`] and not 0, so that one mask tells
    /// them from all others.
    #[must_use]
    pub fn new(first: u32) -> Option<Self> {
        (first != 0 && first.is_multiple_of(Self::COUNT)).then_some(Self { first })
    }

    /// The first of them.
    #[must_use]
    pub fn first(self) -> u32 {
        self.first
    }

    /// The last of them.
    #[must_use]
    pub fn last(self) -> u32 {
        self.first | (Self::COUNT - 1)
    }

    /// Whether a mark is one of them.
    #[must_use]
    pub fn contains(self, mark: u32) -> bool {
        mark & !(Self::COUNT - 1) == self.first
    }

    /// One of them.
    #[must_use]
    pub fn mark(self, number: u16) -> u32 {
        self.first | u32::from(number)
    }
}

impl Default for VipMarks {
    fn default() -> Self {
        Self { first: defaults::VIP_MARKS }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_marks_is_told_by_one_mask() {
        assert_eq!([0, 1, 0x1_0001].map(VipMarks::new), [None; 3]);
        let marks = VipMarks::default();
        assert_eq!(VipMarks::new(marks.first()), Some(marks));
        let cases = [marks.first(), marks.last(), marks.mark(7), marks.first() - 1, marks.last() + 1, 0];
        assert_eq!(cases.map(|mark| marks.contains(mark)), [true, true, true, false, false, false]);
        assert!(!marks.contains(lvs_common::PROBE_MARK));
    }
}
