//! PostgreSQL's protocol, version 3: a login by password (plain, MD5, SCRAM-SHA-256), and a simple query.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    },
    message::frontend,
};

use super::{FailureReason, Phase, Session};
use crate::{
    model::{SqlCheck, Tls},
    probe::LocalFault,
};

/// How many messages may come before a row: more columns and notices than any check has.
const MAX_MESSAGES: usize = 1000;

/// Kinds of messages from the server.
const AUTHENTICATION: u8 = b'R';
const ERROR: u8 = b'E';
const READY: u8 = b'Z';
const ROW: u8 = b'D';

/// Asks for encryption, and begins it.
pub(super) async fn encrypted<'a>(mut session: Session<'a>, tls: &Tls) -> Result<Session<'a>, FailureReason> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    session.send(request, Phase::Tls).await?;
    let answer = session.exactly(1, Phase::Tls).await?;
    if answer[..] != *b"S" {
        return Err(FailureReason::wrong_answer(answer, "encryption"));
    }
    session.encrypted(tls).await
}

/// Logs in, and makes the query.
pub(super) async fn probe(mut session: Session<'_>, check: &SqlCheck) -> Result<(), FailureReason> {
    let user = check.login.user.as_str();
    let database = check.database.as_deref().unwrap_or(user);
    let parameters = [("user", user), ("database", database), ("application_name", "lvs-agent")];
    let mut startup = BytesMut::new();
    frontend::startup_message(parameters, &mut startup).map_err(|error| fault(&error))?;
    session.send(startup, Phase::Login).await?;
    log_in(&mut session, check).await?;
    until(&mut session, READY, Phase::Login).await?;
    if let Some(query) = &check.query {
        let mut message = BytesMut::new();
        frontend::query(query, &mut message).map_err(|error| fault(&error))?;
        session.send(message, Phase::Reply).await?;
        if until(&mut session, ROW, Phase::Reply).await? == READY {
            return Err(FailureReason::wrong_answer("no rows", "a row"));
        }
    }
    let mut goodbye = BytesMut::new();
    frontend::terminate(&mut goodbye);
    session.quit(goodbye).await;
    Ok(())
}

/// A text with a zero in it: a fault of the check's, not of the server's.
fn fault(error: &std::io::Error) -> FailureReason {
    LocalFault::new("make the message", error).into()
}

/// The next message: its kind, and its content.
async fn message(session: &mut Session<'_>, phase: Phase) -> Result<(u8, Bytes), FailureReason> {
    let mut head = session.exactly(5, phase).await?;
    let kind = head.get_u8();
    let length = usize::try_from(head.get_u32()).unwrap_or(usize::MAX);
    let Some(length) = length.checked_sub(4).filter(|_| kind.is_ascii_alphanumeric()) else {
        return Err(FailureReason::Protocol("a message that is none of PostgreSQL's".into()));
    };
    let content = session.exactly(length, phase).await?;
    if kind == ERROR {
        return Err(FailureReason::wrong_answer(words(&content), "no error"));
    }
    Ok((kind, content))
}

/// The server's words in an error: fields, each with a letter in front and a zero behind; `M` is the text.
fn words(fields: &[u8]) -> &[u8] {
    let mut fields = fields.split(|byte| *byte == 0);
    fields.find_map(|field| field.strip_prefix(b"M")).unwrap_or_default()
}

/// Skips messages to the first of this kind, or to the one that says that the server waits for the next query.
async fn until(session: &mut Session<'_>, kind: u8, phase: Phase) -> Result<u8, FailureReason> {
    for _ in 0..MAX_MESSAGES {
        let (next, _) = message(session, phase).await?;
        if next == kind || next == READY {
            return Ok(next);
        }
    }
    Err(FailureReason::Protocol(format!("more than {MAX_MESSAGES} messages before an answer").into()))
}

/// What the server asks for in an authentication, and the data with it.
async fn authentication(session: &mut Session<'_>) -> Result<(u32, Bytes), FailureReason> {
    let (kind, mut content) = message(session, Phase::Login).await?;
    if kind != AUTHENTICATION || content.len() < 4 {
        return Err(FailureReason::Protocol("no request for a password".into()));
    }
    let method = content.get_u32();
    Ok((method, content))
}

async fn log_in(session: &mut Session<'_>, check: &SqlCheck) -> Result<(), FailureReason> {
    let (user, password) = (&check.login.user, check.login.password.reveal());
    let (method, data) = authentication(session).await?;
    let mut answer = BytesMut::new();
    match (method, <[u8; 4]>::try_from(&data[..])) {
        (0, _) => return Ok(()),
        (3, _) if check.tls.is_none() && !check.login.unencrypted => {
            return Err(FailureReason::Protocol(
                "the server wants the password itself, which is only sent encrypted; write tls = \"starttls\", or \
                 password-unencrypted = true"
                    .into(),
            ));
        }
        (3, _) => {
            frontend::password_message(password.as_bytes(), &mut answer).map_err(|error| fault(&error))?;
        }
        (5, Ok(salt)) => {
            let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
            frontend::password_message(hash.as_bytes(), &mut answer).map_err(|error| fault(&error))?;
        }
        (10, _) if data.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) => {
            return scram(session, password).await;
        }
        _ => {
            return Err(FailureReason::Protocol(
                format!("login by method {method}, which is not known here").into(),
            ));
        }
    }
    session.send(answer, Phase::Login).await?;
    match authentication(session).await? {
        (0, _) => Ok(()),
        (method, _) => Err(FailureReason::Protocol(format!("another login, by method {method}").into())),
    }
}

/// SCRAM (RFC 5802), in which the server proves that it knows the password, too.
async fn scram(session: &mut Session<'_>, password: &str) -> Result<(), FailureReason> {
    let wrong = |error: std::io::Error| FailureReason::Protocol(format!("login by SCRAM: {error}").into());
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let mut message = BytesMut::new();
    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut message)
        .map_err(|error| fault(&error))?;
    session.send(message, Phase::Login).await?;
    let (11, data) = authentication(session).await? else {
        return Err(FailureReason::Protocol("no challenge in a login by SCRAM".into()));
    };
    scram.update(&data).map_err(wrong)?;
    let mut message = BytesMut::new();
    frontend::sasl_response(scram.message(), &mut message).map_err(|error| fault(&error))?;
    session.send(message, Phase::Login).await?;
    let (12, data) = authentication(session).await? else {
        return Err(FailureReason::Protocol("no proof in a login by SCRAM".into()));
    };
    scram.finish(&data).map_err(wrong)?;
    match authentication(session).await? {
        (0, _) => Ok(()),
        (method, _) => Err(FailureReason::Protocol(format!("another login, by method {method}").into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{CheckKind, Database},
        probe::{
            database::testing::check as sql,
            testing::{self, LONG, Script, scripted},
        },
    };

    fn check(query: Option<&str>) -> CheckKind {
        sql(Database::Postgresql, None, query)
    }

    fn says(messages: &[(u8, &[u8])]) -> Script {
        let bytes = messages.iter().flat_map(|(kind, content)| {
            let length = u32::try_from(content.len() + 4).unwrap().to_be_bytes();
            [&[*kind][..], &length, content].concat()
        });
        Script::Send(bytes.collect())
    }

    const IN: &[(u8, &[u8])] = &[(b'R', &[0; 4]), (b'S', b"a\0b\0"), (b'Z', b"I")];

    #[tokio::test]
    async fn replies_pass_or_fail_the_check() {
        let wrong = |got: &str, wanted| Err(FailureReason::wrong_answer(got, wanted));
        let cases: Vec<(Option<&str>, Vec<Script>, _)> = vec![
            (None, vec![says(IN)], Ok(())),
            (None, vec![says(&[(b'E', b"SFATAL\0Mgo away\0\0")])], wrong("go away", "no error")),
            (
                None,
                vec![says(&[(b'R', &[0, 0, 0, 3])])],
                Err(FailureReason::Protocol(
                    "the server wants the password itself, which is only sent encrypted; write tls = \"starttls\", or \
                     password-unencrypted = true"
                        .into(),
                )),
            ),
            (None, vec![says(&[(b'R', &[0, 0, 0, 5, 1, 2, 3, 4])]), Script::Bytes(80), says(IN)], Ok(())),
            (
                None,
                vec![says(&[(b'R', &[0, 0, 0, 7])])],
                Err(FailureReason::Protocol("login by method 7, which is not known here".into())),
            ),
            (Some("q"), vec![says(IN), says(&[(b'T', b""), (b'D', b""), (b'Z', b"I")])], Ok(())),
            (
                Some("q"),
                vec![says(IN), says(&[(b'T', b""), (b'C', b"x\0"), (b'Z', b"I")])],
                wrong("no rows", "a row"),
            ),
            (Some("q"), vec![says(IN), says(&[(b'E', b"Mno table\0\0")])], wrong("no table", "no error")),
        ];
        for (number, (query, script, expected)) in cases.into_iter().enumerate() {
            assert_eq!(
                testing::probe(scripted(script).await, check(query), LONG).await,
                expected,
                "case {number}"
            );
        }
    }

    #[tokio::test]
    async fn the_password_itself_is_sent_unencrypted_only_where_that_is_allowed() {
        let CheckKind::Sql(mut allowed) = check(None) else { unreachable!() };
        allowed.login.unencrypted = true;
        // The start and the message with the password have 55 bytes.
        let script = vec![says(&[(b'R', &[0, 0, 0, 3])]), Script::Bytes(55), says(IN)];
        let address = scripted(script).await;
        assert_eq!(testing::probe(address, CheckKind::Sql(allowed), LONG).await, Ok(()));
    }

    #[tokio::test]
    async fn network_failures_have_their_reason() {
        testing::common_failures(&check(Some("SELECT 1")), Phase::Login, true).await;
    }
}
