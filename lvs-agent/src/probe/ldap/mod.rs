//! LDAP (RFC 4511): a bind, and a search for one entry.

mod ber;

use bytes::Bytes;

use self::ber::Writer;
use super::{FailureReason, Phase, context::ProbeContext, outcome::Answer, session::Session};
use crate::model::{LdapCheck, TlsStart};

/// Tags of the messages (RFC 4511, 4.2 to 4.12): application class, constructed but for the unbind.
const BIND_REQUEST: u8 = 0x60;
const BIND_RESPONSE: u8 = 0x61;
const UNBIND_REQUEST: u8 = 0x42;
const SEARCH_REQUEST: u8 = 0x63;
const SEARCH_ENTRY: u8 = 0x64;
const SEARCH_DONE: u8 = 0x65;
const SEARCH_REFERENCE: u8 = 0x73;
const EXTENDED_REQUEST: u8 = 0x77;
const EXTENDED_RESPONSE: u8 = 0x78;
/// The name of the request for encryption (RFC 4511, 4.14).
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
/// The password in a bind, a filter "is there", and a name of an extended request: context-specific tags.
const SIMPLE: u8 = 0x80;
const PRESENT: u8 = 0x87;
const REQUEST_NAME: u8 = 0x80;
const SUCCESS: u32 = 0;
/// The longest message; an entry with pictures may be large.
const MAX_MESSAGE: usize = 128 << 10;

/// Binds, and searches for the entry if the check has a base.
pub(super) async fn probe(context: &ProbeContext<'_>, check: &LdapCheck) -> Result<Answer, FailureReason> {
    let mut session = Session::open(context, check.tls.as_ref()).await?;
    let answer = Answer::connected(session.connect_time());
    if let Some(tls) = check.tls.as_ref().filter(|tls| tls.start == TlsStart::StartTls) {
        let request = message(1, EXTENDED_REQUEST, |body| body.element(REQUEST_NAME, START_TLS));
        session.send(request, Phase::Tls).await?;
        let response = receive(&mut session, 1, Phase::Tls).await?;
        must_succeed(&response, EXTENDED_RESPONSE, "success of StartTLS")?;
        session = session.encrypted(tls).await?;
    }
    session.send(bind(check), Phase::Login).await?;
    let response = receive(&mut session, 2, Phase::Login).await?;
    must_succeed(&response, BIND_RESPONSE, "success of the bind")?;
    if let Some(base) = &check.base {
        search(&mut session, base, check).await?;
    }
    session.quit(message(4, UNBIND_REQUEST, |_| {})).await;
    Ok(answer)
}

fn bind(check: &LdapCheck) -> Vec<u8> {
    let (name, password) =
        check.login.as_ref().map_or(("", ""), |login| (login.user.as_str(), login.password.reveal()));
    message(2, BIND_REQUEST, |body| {
        body.integer(3);
        body.octets(name.as_bytes());
        body.element(SIMPLE, password.as_bytes());
    })
}

/// Looks for the entry `base` itself, whatever it is.
async fn search(session: &mut Session<'_>, base: &str, check: &LdapCheck) -> Result<(), FailureReason> {
    let request = message(3, SEARCH_REQUEST, |body| {
        body.octets(base.as_bytes());
        body.enumerated(0); // only the base
        body.enumerated(0); // no aliases
        body.integer(1); // one entry
        body.integer(0); // without a limit of time
        body.boolean(false); // values, too
        body.element(PRESENT, b"objectClass");
        body.sequence(|_| {}); // all attributes
    });
    session.send(request, Phase::Reply).await?;
    let mut found = false;
    let mut fits = check.expect.is_none();
    let mut searched = 0;
    loop {
        let response = receive(session, 3, Phase::Reply).await?;
        match response.tag {
            SEARCH_ENTRY => {
                found = true;
                searched += response.content.len();
                fits |= check.expect.as_ref().is_some_and(|expect| expect.is_in(&response.content));
            }
            SEARCH_REFERENCE => {}
            _ => {
                must_succeed(&response, SEARCH_DONE, "success of the search")?;
                return match (found, fits) {
                    (true, true) => Ok(()),
                    (true, false) => Err(FailureReason::TextNotFound { searched, cut: false }),
                    (false, _) => Err(FailureReason::wrong_answer("no entry", "the entry")),
                };
            }
        }
    }
}

/// A message with this number.
fn message(id: u8, tag: u8, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.sequence(|message| {
        message.integer(id);
        message.nested(tag, body);
    });
    writer.into_bytes()
}

/// An answer: the kind of the message, and its content.
struct Response {
    tag: u8,
    content: Bytes,
}

/// The next message, which must be the answer to the one with this number.
async fn receive(session: &mut Session<'_>, id: u8, phase: Phase) -> Result<Response, FailureReason> {
    let no_ldap = || FailureReason::Protocol("a message that is no LDAP".into());
    let head = session.exactly(2, phase).await?;
    if head[0] != ber::SEQUENCE {
        return Err(no_ldap());
    }
    let mut length = usize::from(head[1]);
    if length >= 0x80 {
        let count = length & 0x7f;
        if count == 0 || count > 4 {
            return Err(no_ldap());
        }
        let digits = session.exactly(count, phase).await?;
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
    }
    if length > MAX_MESSAGE {
        return Err(FailureReason::Protocol(format!("a message of {length} bytes").into()));
    }
    let message = session.exactly(length, phase).await?;
    let (number, rest) = ber::read(&message).ok_or_else(no_ldap)?;
    let (operation, _) = ber::read(rest).ok_or_else(no_ldap)?;
    if number.tag != ber::INTEGER || number.number() != Some(id.into()) {
        // 0 is the server's own notice, that it closes the connection (RFC 4511, 4.4.1).
        return Err(FailureReason::Protocol("a message that answers nothing".into()));
    }
    Ok(Response { tag: operation.tag, content: message.slice_ref(operation.content) })
}

/// Whether a response is of this kind and has the result "success".
fn must_succeed(response: &Response, tag: u8, wanted: &'static str) -> Result<(), FailureReason> {
    let no_result = || FailureReason::Protocol("a message without a result".into());
    if response.tag != tag {
        return Err(FailureReason::Protocol(format!("a message of kind {:#x}", response.tag).into()));
    }
    let (result, rest) = ber::read(&response.content).ok_or_else(no_result)?;
    let code = result.number().filter(|_| result.tag == ber::ENUMERATED).ok_or_else(no_result)?;
    if code == SUCCESS {
        return Ok(());
    }
    // Then come the name that was matched, and the server's words.
    let words =
        ber::read(rest).and_then(|(_, rest)| ber::read(rest)).map_or(&[][..], |(words, _)| words.content);
    let got = match result_name(code) {
        Some(name) => format!("{name} ({code}) {}", String::from_utf8_lossy(words)),
        None => format!("result {code} {}", String::from_utf8_lossy(words)),
    };
    Err(FailureReason::wrong_answer(got, wanted))
}

/// The name of a result (RFC 4511, appendix A.2).
fn result_name(code: u32) -> Option<&'static str> {
    let names = [
        (1, "operationsError"),
        (2, "protocolError"),
        (3, "timeLimitExceeded"),
        (4, "sizeLimitExceeded"),
        (5, "compareFalse"),
        (6, "compareTrue"),
        (7, "authMethodNotSupported"),
        (8, "strongerAuthRequired"),
        (10, "referral"),
        (11, "adminLimitExceeded"),
        (12, "unavailableCriticalExtension"),
        (13, "confidentialityRequired"),
        (14, "saslBindInProgress"),
        (16, "noSuchAttribute"),
        (17, "undefinedAttributeType"),
        (18, "inappropriateMatching"),
        (19, "constraintViolation"),
        (20, "attributeOrValueExists"),
        (21, "invalidAttributeSyntax"),
        (32, "noSuchObject"),
        (33, "aliasProblem"),
        (34, "invalidDNSyntax"),
        (36, "aliasDereferencingProblem"),
        (48, "inappropriateAuthentication"),
        (49, "invalidCredentials"),
        (50, "insufficientAccessRights"),
        (51, "busy"),
        (52, "unavailable"),
        (53, "unwillingToPerform"),
        (54, "loopDetect"),
        (64, "namingViolation"),
        (65, "objectClassViolation"),
        (66, "notAllowedOnNonLeaf"),
        (67, "notAllowedOnRDN"),
        (68, "entryAlreadyExists"),
        (69, "objectClassModsProhibited"),
        (71, "affectsMultipleDSAs"),
        (80, "other"),
    ];
    names.into_iter().find(|(known, _)| *known == code).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{CheckKind, Login, Pattern, Secret},
        probe::testing::{self, LONG, Script, scripted},
    };

    fn check(base: Option<&str>, expect: Option<&str>) -> CheckKind {
        CheckKind::Ldap(LdapCheck {
            login: Some(Login { user: "cn=a".to_owned(), password: Secret::new("p"), unencrypted: true }),
            base: base.map(str::to_owned),
            expect: expect.map(|expect| Pattern::new(expect).unwrap()),
            tls: None,
        })
    }

    /// A response with a result.
    fn result(id: u8, tag: u8, code: u8, words: &str) -> Script {
        Script::send(message(id, tag, |body| {
            body.enumerated(code);
            body.octets(b"");
            body.octets(words.as_bytes());
        }))
    }

    fn entry(value: &str) -> Script {
        Script::send(message(3, SEARCH_ENTRY, |body| {
            body.octets(b"dc=x");
            body.sequence(|attributes| attributes.octets(value.as_bytes()));
        }))
    }

    #[tokio::test]
    async fn results_pass_or_fail_the_check() {
        let bound = || vec![Script::Bytes(17), result(2, BIND_RESPONSE, 0, "")];
        let then = |more: Vec<Script>| [bound(), vec![Script::Bytes(37)], more].concat();
        let wrong = |got: &str, wanted| Err(FailureReason::wrong_answer(got, wanted));
        let protocol = |text: &str| Err(FailureReason::Protocol(text.into()));
        let none = check(None, None);
        let base = check(Some("dc=x"), None);
        let cases = [
            (none.clone(), bound(), Ok(())),
            (
                none.clone(),
                vec![result(2, BIND_RESPONSE, 49, "who?")],
                wrong("invalidCredentials (49) who?", "success of the bind"),
            ),
            (none.clone(), vec![result(2, BIND_RESPONSE, 99, "")], wrong("result 99", "success of the bind")),
            (none.clone(), vec![result(9, BIND_RESPONSE, 0, "")], protocol("a message that answers nothing")),
            (none.clone(), vec![result(2, SEARCH_DONE, 0, "")], protocol("a message of kind 0x65")),
            (
                none.clone(),
                vec![Script::send([0x30, 0x84, 0xff, 0xff, 0xff, 0xff])],
                protocol("a message of 4294967295 bytes"),
            ),
            (none.clone(), vec![Script::send([0x30, 0x80])], protocol("a message that is no LDAP")),
            (none, vec![Script::send([0x30, 2, 5, 0])], protocol("a message that is no LDAP")),
            (base.clone(), then(vec![entry("v"), result(3, SEARCH_DONE, 0, "")]), Ok(())),
            (base.clone(), then(vec![result(3, SEARCH_DONE, 0, "")]), wrong("no entry", "the entry")),
            (
                base,
                then(vec![result(3, SEARCH_DONE, 32, "")]),
                wrong("noSuchObject (32)", "success of the search"),
            ),
            (
                check(Some("dc=x"), Some("^.*v$")),
                then(vec![entry("v"), result(3, SEARCH_DONE, 0, "")]),
                Ok(()),
            ),
            (
                check(Some("dc=x"), Some("w")),
                then(vec![entry("v"), result(3, SEARCH_DONE, 0, "")]),
                Err(FailureReason::TextNotFound { searched: 11, cut: false }),
            ),
        ];
        for (number, (check, script, expected)) in cases.into_iter().enumerate() {
            assert_eq!(testing::probe(scripted(script).await, check, LONG).await, expected, "case {number}");
        }
    }

    #[tokio::test]
    async fn network_failures_have_their_reason() {
        testing::common_failures(&check(None, None), Phase::Login, true).await;
    }

    #[test]
    fn a_bind_is_encoded_as_in_the_rfc() {
        let CheckKind::Ldap(check) = check(None, None) else { unreachable!() };
        let expected = b"\x30\x11\x02\x01\x02\x60\x0c\x02\x01\x03\x04\x04cn=a\x80\x01p";
        assert_eq!(bind(&check), &expected[..]);
    }
}
