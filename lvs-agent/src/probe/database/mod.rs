//! Databases: a login, and a query that must give a row.

mod mysql;
mod postgresql;

use super::{FailureReason, Phase, outcome::Answer, pace::Run, talk::Talk};
use crate::config::{Database, SqlQuestion};

/// Logs in, and makes the query if there is one.
pub(super) async fn ask(run: &Run<'_>, question: &SqlQuestion) -> Result<Answer, FailureReason> {
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
