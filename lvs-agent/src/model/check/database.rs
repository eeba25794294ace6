//! Checks of databases.

use super::{Login, Tls};

/// A login, and a query if one is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SqlCheck {
    /// Which database's protocol.
    pub server: Database,
    /// User and password.
    pub login: Login,
    /// The database that is used; `None`: the server's choice.
    pub database: Option<String>,
    /// A query that must give at least one row; `None`: the login is enough.
    pub query: Option<String>,
    /// Whether the connection is encrypted, after the protocol's own request for it.
    pub tls: Option<Tls>,
}

/// Which database's protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Database {
    /// MySQL and MariaDB.
    Mysql,
    /// PostgreSQL.
    Postgresql,
}

/// Oracle: the listener's answer to a connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OracleCheck {
    /// The service that the listener must know; `None`: it is only pinged.
    pub service: Option<String>,
}
