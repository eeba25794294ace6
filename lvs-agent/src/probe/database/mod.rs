//! Databases: a login, and a query that must give a row.

mod mysql;
mod postgresql;

use super::{FailureReason, Phase, context::ProbeContext, outcome::Answer, session::Session};
use crate::model::{Database, SqlCheck};

/// Logs in, and makes the query if there is one.
pub(super) async fn probe(context: &ProbeContext<'_>, check: &SqlCheck) -> Result<Answer, FailureReason> {
    let mut session = Session::open(context, None).await?;
    let answer = Answer::connected(session.connect_time());
    match check.server {
        Database::Mysql => mysql::probe(session, check).await?,
        Database::Postgresql => {
            if let Some(tls) = &check.tls {
                session = postgresql::encrypted(session, tls).await?;
            }
            postgresql::probe(session, check).await?;
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod testing {
    use super::*;
    use crate::model::{CheckKind, Login, Secret};

    /// A login of user `u` by password `p`.
    pub(super) fn check(server: Database, database: Option<&str>, query: Option<&str>) -> CheckKind {
        CheckKind::Sql(SqlCheck {
            server,
            login: Login { user: "u".to_owned(), password: Secret::new("p"), unencrypted: false },
            database: database.map(str::to_owned),
            query: query.map(str::to_owned),
            tls: None,
        })
    }
}
