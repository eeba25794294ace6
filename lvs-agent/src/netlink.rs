//! What all netlink sockets have in common: the timeout and the error.

use std::time::Duration;

use nix::errno::Errno;

/// The default for how long the kernel may take to answer.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a netlink request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused the request.
    #[error("the kernel says: {reason}", reason = .0.desc())]
    Kernel(Errno),
    /// The kernel didn't answer in time.
    #[error("no answer from the kernel within {0:?}")]
    Timeout(Duration),
    /// What was to be read kept changing while it was read.
    #[error("the kernel's list kept changing while it was read; try again")]
    Unsteady,
    /// The socket itself failed, or the answer made no sense.
    #[error("netlink socket: {0}")]
    Socket(String),
}
