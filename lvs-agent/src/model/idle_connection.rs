//! Whether an idle connection to each server is kept.

/// Whether an idle connection is kept to each server of a service: one TCP connection on which nothing is sent, and
/// whose end says at once that something has happened to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdleConnection {
    /// Never.
    Off,
    /// Where the check shows that the server's protocol lets a client be silent.
    #[default]
    Auto,
    /// Wherever clients come over TCP.
    On,
}
