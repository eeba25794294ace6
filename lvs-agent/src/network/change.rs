//! Notifications that devices, addresses, routes or rules have changed: not what. The reader looks up routes again,
//! which alone takes everything into account (rules, metrics, multipath, devices that are down).

use neli::{
    consts::{rtnl::Rtm, socket::NlFamily},
    err::SocketError,
    socket::asynchronous::NlSocketHandle,
    types::Buffer,
    utils::Groups,
};
use nix::errno::Errno;

use super::error::NetworkError;
use crate::netlink::NetlinkError;

/// Links, addresses, routes and rules of both IP versions: `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV4_RULE`,
/// `_IPV6_IFADDR`, `_IPV6_ROUTE` and `_IPV6_RULE` (`include/uapi/linux/rtnetlink.h`).
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];

/// `RTNLGRP_IPV4_IFADDR` and `_IPV6_IFADDR`.
const ADDRESSES: [u32; 2] = [5, 9];

/// Notifications of changes in the network namespace of the thread that opened it.
pub struct NetworkChanges {
    notifications: NlSocketHandle,
}

impl NetworkChanges {
    /// Listens from now on.
    pub fn open() -> Result<Self, NetworkError> {
        Self::of(&GROUPS)
    }

    /// The same for addresses alone, which change less often than routes.
    pub(super) fn of_addresses() -> Result<Self, NetworkError> {
        Self::of(&ADDRESSES)
    }

    fn of(groups: &[u32]) -> Result<Self, NetworkError> {
        let notifications = NlSocketHandle::connect(NlFamily::Route, None, Groups::new_groups(groups));
        Ok(Self { notifications: notifications.map_err(|error| failed(&error))? })
    }

    /// Waits for the next change. An overrun is one: what it has lost is in what is looked up afterwards. May be
    /// dropped while it waits; nothing is lost.
    ///
    /// After an error, open it anew and take it that something has changed.
    pub async fn next(&self) -> Result<(), NetworkError> {
        match self.notifications.recv::<Rtm, Buffer>().await {
            Ok(_) => Ok(()),
            Err(SocketError::Io(error)) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(()),
            Err(error) => Err(failed(&error)),
        }
    }
}

fn failed(error: &SocketError) -> NetworkError {
    let error = NetlinkError::Socket(error.to_string());
    NetworkError::Netlink { doing: "watch devices and routes".to_owned(), error }
}
