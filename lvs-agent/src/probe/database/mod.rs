//! Databases: a login, and a query that must give a row.

mod mysql;
mod postgresql;

use super::{FailureReason, Phase, outcome::Answer, pace::Run, talk::Talk};
use crate::model::{Database, SqlCheck};

/// Logs in, and makes the query if there is one.
pub(super) async fn ask(run: &Run<'_>, question: &SqlCheck) -> Result<Answer, FailureReason> {
    let mut talk = Talk::open(run, None).await?;
    let answer = Answer::connected(talk.connect_time());
    match question.server {
        Database::Mysql => mysql::ask(talk, question).await?,
        Database::Postgresql => {
            if let Some(tls) = &question.tls {
                talk = postgresql::encrypted(talk, tls).await?;
            }
            postgresql::ask(talk, question).await?;
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod testing {
    use super::*;
    use crate::model::{CheckKind, Login, Secret};

    /// A login of user `u` by password `p`.
    pub(super) fn question(server: Database, database: Option<&str>, query: Option<&str>) -> CheckKind {
        CheckKind::Sql(SqlCheck {
            server,
            login: Login { user: "u".to_owned(), password: Secret::new("p") },
            database: database.map(str::to_owned),
            query: query.map(str::to_owned),
            tls: None,
        })
    }
}
