//! Why the network could not be asked, or what is wrong with it.

use std::net::IpAddr;

use nix::errno::Errno;

use crate::netlink::NetlinkError;

/// The network's configuration couldn't be read, or isn't as it would have to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// There is no device of that name.
    #[error("there is no device \"{name}\"; there are: {present}", present = .present.join(", "))]
    NoDevice {
        /// The name that was looked for.
        name: String,
        /// The devices that there are.
        present: Vec<String>,
    },
    /// No device is in the network of an address.
    #[error("no device of this director has an address in the network of {0}")]
    NoNetworkOf(IpAddr),
    /// There is no device of that index.
    #[error("there is no device with index {0} (any more)")]
    NoDeviceIndex(u32),
    /// No way leads to an address.
    #[error("no route to {address}: {reason}", reason = .errno.desc())]
    NoRoute {
        /// The address.
        address: IpAddr,
        /// Why not: `ENETUNREACH`, `EHOSTUNREACH`, or `EINVAL` or `EACCES` where a route forbids it.
        errno: Errno,
    },
    /// The route to an address is no way for packets to a single host.
    #[error("the route to {address} leads to no single host: its type is {kind}")]
    NotUnicast {
        /// The address.
        address: IpAddr,
        /// The route's type as `ip route` names it.
        kind: &'static str,
    },
    /// The kernel's answer lacks something that it should have.
    #[error("can't {doing}: the kernel's answer makes no sense")]
    Answer {
        /// What was being done.
        doing: String,
    },
    /// Talking to the kernel failed.
    #[error("can't {doing}: {error}{hint}", hint = hint(.error))]
    Netlink {
        /// What was being done.
        doing: String,
        /// What went wrong.
        error: NetlinkError,
    },
}

impl NetworkError {
    pub(super) fn netlink(doing: impl Into<String>) -> impl FnOnce(NetlinkError) -> Self {
        let doing = doing.into();
        move |error| Self::Netlink { doing, error }
    }

    pub(super) fn answer(doing: impl Into<String>) -> Self {
        Self::Answer { doing: doing.into() }
    }
}

fn hint(error: &NetlinkError) -> &'static str {
    match error {
        NetlinkError::Kernel(Errno::EPERM) => " (it needs root or CAP_NET_ADMIN)",
        _ => "",
    }
}
