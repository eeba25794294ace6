//! The way to the service manager: a datagram socket whose name stands in the environment.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use tokio::time::sleep;

/// A manager that reads its queue does so within milliseconds; while it is being replaced by a newer one, it takes
/// about a second.
const PAUSE: Duration = Duration::from_millis(100);
/// The tries for one message, with a [`PAUSE`] between two.
const TRIES: u32 = 50;

/// Whom the agent tells how it goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceManager {
    address: Option<SocketAddr>,
    watchdog: Option<Duration>,
}

/// Why there is no way to the service manager, though one is named.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoServiceManager {
    /// The name of the socket is of another kind.
    #[error(
        "NOTIFY_SOCKET={0:?} is neither an absolute path nor begins with @: the service manager is not notified"
    )]
    Kind(OsString),
    /// The name can't be a socket's.
    #[error("NOTIFY_SOCKET={name:?}: {error}: the service manager is not notified")]
    Name {
        /// The name.
        name: OsString,
        /// What is wrong with it.
        error: io::Error,
    },
}

impl ServiceManager {
    /// The one that has started this process, by its variables (`sd_notify(3)`, `sd_watchdog_enabled(3)`).
    pub(crate) fn of_environment() -> Result<Self, NoServiceManager> {
        Self::of(|name| env::var_os(name), std::process::id())
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>, process: u32) -> Result<Self, NoServiceManager> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        // The variables may be those of the process that has started this one.
        let is_ours = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(process.into());
        let watchdog = number("WATCHDOG_USEC").filter(|&period| is_ours && period > 0);
        Ok(Self { address: Some(address(&name)?), watchdog: watchdog.map(Duration::from_micros) })
    }

    /// One that listens at `address`.
    #[cfg(test)]
    pub(super) fn new(address: SocketAddr, watchdog: Option<Duration>) -> Self {
        Self { address: Some(address), watchdog }
    }

    /// Whether there is one.
    pub(super) fn listens(&self) -> bool {
        self.address.is_some()
    }

    /// For how long it may hear nothing before it ends the process.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Sends assignments, one a line. Waits for a manager that doesn't read, and gives up after some seconds.
    pub(super) async fn send(&self, message: &str) -> io::Result<()> {
        let Some(address) = &self.address else { return Ok(()) };
        // A socket for each message: it then reaches a manager that has been replaced meanwhile.
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let mut tries = 0;
        loop {
            tries += 1;
            match socket.send_to_addr(message.as_bytes(), address) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < TRIES => {
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The address that stands in `NOTIFY_SOCKET`: a path, or a name without a file that begins with `@`.
fn address(name: &OsStr) -> Result<SocketAddr, NoServiceManager> {
    let bytes = name.as_bytes();
    let address = match bytes.first() {
        Some(b'/') => SocketAddr::from_pathname(name),
        Some(b'@') => SocketAddr::from_abstract_name(&bytes[1..]),
        _ => return Err(NoServiceManager::Kind(name.to_owned())),
    };
    address.map_err(|error| NoServiceManager::Name { name: name.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<ServiceManager, NoServiceManager> {
        let value = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        ServiceManager::of(value, 7)
    }

    #[test]
    fn the_variables_are_read() {
        type Case = (&'static [(&'static str, &'static str)], bool, Option<Duration>);
        const PATH: (&str, &str) = ("NOTIFY_SOCKET", "/run/systemd/notify");
        let period = Some(Duration::from_secs(30));
        let cases: [Case; 9] = [
            (&[], false, None),
            (&[("NOTIFY_SOCKET", "")], false, None),
            (&[("WATCHDOG_USEC", "30000000")], false, None),
            (&[PATH], true, None),
            (&[("NOTIFY_SOCKET", "@name")], true, None),
            (&[PATH, ("WATCHDOG_USEC", "30000000")], true, period),
            (&[PATH, ("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "7")], true, period),
            (&[PATH, ("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "8")], true, None),
            (&[PATH, ("WATCHDOG_USEC", "0")], true, None),
        ];
        for (variables, listens, watchdog) in cases {
            let manager = of(variables).unwrap();
            assert_eq!((manager.listens(), manager.watchdog()), (listens, watchdog), "{variables:?}");
        }
    }

    #[test]
    fn a_name_that_is_no_sockets_is_told() {
        let long = "/".to_owned() + &"x".repeat(200);
        for name in ["vsock:2:1234", "run/notify", &long] {
            let error = of(&[("NOTIFY_SOCKET", name)]).unwrap_err().to_string();
            assert!(error.contains("not notified") && error.contains(name), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_that_does_not_read_is_not_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _unread = UnixDatagram::bind(&path).unwrap();
        let manager = of(&[("NOTIFY_SOCKET", path.to_str().unwrap())]).unwrap();
        let mut sent = 0;
        let error = loop {
            match manager.send("WATCHDOG=1").await {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            assert!(sent < 100_000, "its queue has an end");
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(sent > 0);
    }
}
