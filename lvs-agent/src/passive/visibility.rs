//! How much of a server's traffic the director sees, and why a destination has no passive signal.

use std::{fmt, net::SocketAddr};

use crate::model::DestinationKey;

/// How much of the traffic between clients and one endpoint the director sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Visibility {
    /// What clients send and what the server answers: masquerade.
    Both,
    /// Only what clients send: direct route and tunnel.
    ClientOnly,
    /// Packets are counted, and nothing can be concluded from them; the reason in words.
    CountersOnly(&'static str),
}

/// Why a destination has no passive signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSignal {
    /// It is the director itself: its packets pass no device.
    Local,
    /// The cluster's cache bypass: packets go to their original destination.
    Bypass,
    /// It is in a tunnel of a kind that this version doesn't know, by the kernel's number.
    UnknownTunnel(u8),
    /// Its packets are counted, but nothing can be concluded from them; the reason in words.
    CountersOnly(&'static str),
    /// No route to it is known (yet).
    RouteUnknown,
    /// Its MAC address, or that of the router to it, is not known (yet).
    NeighbourUnknown,
    /// Another server of the same service has the same MAC address: their packets look alike.
    SameMac(SocketAddr),
    /// Another server's answers can't be told from this one's: they come from the same address, and without the mark or
    /// the port that would tell.
    SameAnswers(DestinationKey),
    /// The device that its packets leave through isn't watched; the reason in words.
    DeviceNotWatched(String),
    /// The eBPF maps are full: they were made for fewer servers.
    NoRoom,
}

impl fmt::Display for NoSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("it is the director itself, its packets pass no device"),
            Self::Bypass => f.write_str("packets that bypass the servers belong to no server"),
            Self::UnknownTunnel(kind) => {
                write!(f, "its tunnel type, the kernel's number {kind}, is not supported")
            }
            Self::CountersOnly(reason) => write!(f, "packets are counted, but {reason}"),
            Self::RouteUnknown => f.write_str("no route to it is known"),
            Self::NeighbourUnknown => {
                f.write_str("its MAC address, or its router's, is not in the neighbour table")
            }
            Self::SameMac(other) => {
                write!(f, "its packets look like those of {other}: both go to the same MAC address")
            }
            Self::SameAnswers(other) => {
                write!(f, "its answers look like those in {other}: same address, and answers carry no mark")
            }
            Self::DeviceNotWatched(reason) => f.write_str(reason),
            Self::NoRoom => f.write_str("the eBPF maps are full: restart the agent to make them larger"),
        }
    }
}
