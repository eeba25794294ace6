//! The protocol of MySQL and MariaDB: the handshake with the methods `mysql_native_password` and
//! `caching_sha2_password`, and a query. Numbers are as in MySQL's documentation of the client/server protocol.

use bytes::{Buf, Bytes};
use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::{FailureReason, Phase, Session};
use crate::model::SqlCheck;

/// What the client says that it can do.
const LONG_PASSWORD: u32 = 1;
const CONNECT_WITH_DATABASE: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
const TLS: u32 = 1 << 11;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;
/// utf8mb4, which all versions from 5.5.3 on know.
const CHARACTER_SET: u8 = 45;
const MAX_PACKET: u32 = 1 << 24;
/// First bytes of packets.
const OK: u8 = 0x00;
const MORE_DATA: u8 = 0x01;
const END: u8 = 0xfe;
const ERROR: u8 = 0xff;
/// What `caching_sha2_password` says: the password is known, or is to be sent whole.
const FAST_OK: u8 = 3;
const SEND_PASSWORD: u8 = 4;
const NATIVE: &[u8] = b"mysql_native_password";
const CACHING_SHA2: &[u8] = b"caching_sha2_password";
const CLEAR: &[u8] = b"mysql_clear_password";
/// How many packets an answer may have before its first row: more columns than any check has.
const MAX_PACKETS: usize = 1000;
/// How many messages a login may take.
const MAX_STEPS: usize = 5;

/// A conversation in packets, each with a number.
struct Packets<'a> {
    session: Session<'a>,
    number: u8,
    /// Whether what is sent is encrypted.
    is_private: bool,
}

impl Packets<'_> {
    async fn receive(&mut self, phase: Phase) -> Result<Bytes, FailureReason> {
        let head = self.session.exactly(4, phase).await?;
        let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
        if head[3] != self.number {
            return Err(FailureReason::Protocol("a packet out of turn".into()));
        }
        self.number = self.number.wrapping_add(1);
        let packet = self.session.exactly(length, phase).await?;
        match packet.first() {
            None => Err(FailureReason::Protocol("an empty packet".into())),
            Some(&ERROR) => Err(FailureReason::wrong_answer(words(&packet), "no error")),
            Some(_) => Ok(packet),
        }
    }

    async fn send(&mut self, content: &[u8], phase: Phase) -> Result<(), FailureReason> {
        let [a, b, c, _] = u32::try_from(content.len()).unwrap_or_default().to_le_bytes();
        let packet = [&[a, b, c, self.number], content].concat();
        self.number = self.number.wrapping_add(1);
        self.session.send(packet, phase).await
    }
}

/// The server's words in an error: behind the number of the error, and a state that some have.
fn words(packet: &[u8]) -> &[u8] {
    let rest = packet.get(3..).unwrap_or_default();
    if rest.first() == Some(&b'#') { rest.get(6..).unwrap_or_default() } else { rest }
}

/// Logs in, and makes the query.
pub(super) async fn probe(session: Session<'_>, check: &SqlCheck) -> Result<(), FailureReason> {
    let mut packets = Packets { session, number: 0, is_private: false };
    let greeting = packets.receive(Phase::Greeting).await?;
    let greeting = Greeting::read(&greeting)
        .ok_or_else(|| FailureReason::Protocol("a greeting that is none of MySQL's".into()))?;
    let mut packets = log_in(packets, check, greeting).await?;
    if let Some(query) = &check.query {
        packets.number = 0;
        packets.send(&[b"\x03", query.as_bytes()].concat(), Phase::Reply).await?;
        first_row(&mut packets).await?;
    }
    packets.session.quit([1, 0, 0, 0, 1]).await;
    Ok(())
}

/// What a server says first.
#[derive(Debug, PartialEq, Eq)]
struct Greeting {
    can: u32,
    salt: Vec<u8>,
    method: Vec<u8>,
}

impl Greeting {
    fn read(mut packet: &[u8]) -> Option<Self> {
        if packet.first() != Some(&10) {
            return None;
        }
        packet.advance(1);
        zero_ended(&mut packet)?; // the version
        if packet.len() < 31 {
            return None;
        }
        packet.advance(4); // the connection's number
        let mut salt = packet.copy_to_bytes(8).to_vec();
        packet.advance(1);
        let low = packet.get_u16_le();
        packet.advance(3); // character set and status
        let can = u32::from(packet.get_u16_le()) << 16 | u32::from(low);
        packet.advance(11); // length of the salt, and nothing
        let rest = packet.split_off(..packet.len().min(12))?;
        salt.extend_from_slice(rest);
        let method = match packet.strip_prefix(b"\0") {
            Some(mut packet) if can & PLUGIN_AUTH != 0 => zero_ended(&mut packet).unwrap_or(packet).to_vec(),
            _ => NATIVE.to_vec(),
        };
        Some(Self { can, salt, method })
    }
}

/// The bytes before the next zero, which is skipped.
fn zero_ended<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (text, rest) = bytes.split_at(end);
    *bytes = &rest[1..];
    Some(text)
}

async fn log_in<'a>(
    mut packets: Packets<'a>,
    check: &SqlCheck,
    greeting: Greeting,
) -> Result<Packets<'a>, FailureReason> {
    let mut flags = LONG_PASSWORD | PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;
    if check.database.is_some() {
        flags |= CONNECT_WITH_DATABASE;
    }
    if let Some(tls) = &check.tls {
        if greeting.can & TLS == 0 {
            return Err(FailureReason::wrong_answer("no encryption", "encryption"));
        }
        flags |= TLS;
        packets.send(&head(flags), Phase::Tls).await?;
        let session = packets.session.encrypted(tls).await?;
        packets = Packets { session, is_private: true, ..packets };
    }
    let password = check.login.password.reveal().as_bytes();
    let (mut method, mut salt) = (greeting.method, greeting.salt);
    if scramble(&method, password, &salt).is_none() {
        // The server says later which one this user has.
        method = NATIVE.to_vec();
    }
    let proof = scramble(&method, password, &salt).unwrap_or_default();
    packets.send(&response(flags, check, &proof, &method), Phase::Login).await?;
    let sends_whole = packets.is_private || check.login.unencrypted;
    for _ in 0..MAX_STEPS {
        let packet = packets.receive(Phase::Login).await?;
        match (packet[0], packet.get(1)) {
            (OK, _) => return Ok(packets),
            (END, _) => {
                let mut rest = packet.get(1..).unwrap_or_default();
                method = zero_ended(&mut rest).unwrap_or(NATIVE).to_vec();
                salt = rest.strip_suffix(b"\0").unwrap_or(rest).to_vec();
                let proof = if method == CLEAR && sends_whole {
                    Some([password, b"\0"].concat())
                } else {
                    scramble(&method, password, &salt)
                };
                let unknown = || {
                    let name = String::from_utf8_lossy(method.get(..60).unwrap_or(&method));
                    FailureReason::Protocol(format!("login by {name:?}, which is not known here").into())
                };
                packets.send(&proof.ok_or_else(unknown)?, Phase::Login).await?;
            }
            (MORE_DATA, Some(&FAST_OK)) => {}
            (MORE_DATA, Some(&SEND_PASSWORD)) if sends_whole => {
                packets.send(&[password, b"\0"].concat(), Phase::Login).await?;
            }
            (MORE_DATA, Some(&SEND_PASSWORD)) => {
                return Err(FailureReason::Protocol(
                    "the server wants the password itself, which is only sent encrypted; write tls = \"starttls\", or \
                     password-unencrypted = true"
                        .into(),
                ));
            }
            _ => return Err(FailureReason::Protocol("no answer to a login".into())),
        }
    }
    Err(FailureReason::Protocol("a login without end".into()))
}

/// What a client says first: with encryption, all of what it says before that.
fn head(flags: u32) -> Vec<u8> {
    [&flags.to_le_bytes()[..], &MAX_PACKET.to_le_bytes(), &[CHARACTER_SET], &[0; 23]].concat()
}

fn response(flags: u32, check: &SqlCheck, proof: &[u8], method: &[u8]) -> Vec<u8> {
    let mut response = head(flags);
    response.extend_from_slice(check.login.user.as_bytes());
    // Proofs have at most 32 bytes.
    response.extend([0, u8::try_from(proof.len()).unwrap_or_default()]);
    response.extend_from_slice(proof);
    if let Some(database) = &check.database {
        response.extend_from_slice(database.as_bytes());
        response.push(0);
    }
    response.extend_from_slice(method);
    response.push(0);
    response
}

/// The proof that the client knows the password; `None` if the method isn't known here.
fn scramble(method: &[u8], password: &[u8], salt: &[u8]) -> Option<Vec<u8>> {
    let mask = |password: &[u8], key: &[u8]| password.iter().zip(key).map(|(a, b)| a ^ b).collect();
    match method {
        NATIVE | CACHING_SHA2 if password.is_empty() => Some(Vec::new()),
        NATIVE => {
            let once = Sha1::digest(password);
            let key = Sha1::new().chain_update(salt).chain_update(Sha1::digest(once)).finalize();
            Some(mask(&once, &key))
        }
        CACHING_SHA2 => {
            let once = Sha256::digest(password);
            let key = Sha256::new().chain_update(Sha256::digest(once)).chain_update(salt).finalize();
            Some(mask(&once, &key))
        }
        _ => None,
    }
}

/// Waits for the first row of an answer: behind the number of columns, their descriptions, and an end of those.
async fn first_row(packets: &mut Packets<'_>) -> Result<(), FailureReason> {
    let no_rows = || FailureReason::wrong_answer("no rows", "a row");
    if packets.receive(Phase::Reply).await?[0] == OK {
        return Err(no_rows());
    }
    let mut described = false;
    for _ in 0..MAX_PACKETS {
        let packet = packets.receive(Phase::Reply).await?;
        let is_end = packet[0] == END && packet.len() < 9;
        match (described, is_end) {
            (false, true) => described = true,
            (false, false) => {}
            (true, true) => return Err(no_rows()),
            (true, false) => return Ok(()),
        }
    }
    Err(FailureReason::Protocol(format!("more than {MAX_PACKETS} packets before a row").into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{CheckKind, Database},
        probe::{
            database::testing::check as sql,
            testing::{self, LONG, Script, scripted},
        },
    };

    fn check(query: Option<&str>) -> CheckKind {
        sql(Database::Mysql, Some("d"), query)
    }

    /// Packets from this number on.
    fn says(number: u8, contents: &[&[u8]]) -> Script {
        let packets = contents.iter().zip(number..).flat_map(|(content, number)| {
            let [a, b, c, _] = u32::try_from(content.len()).unwrap().to_le_bytes();
            [&[a, b, c, number], *content].concat()
        });
        Script::Send(packets.collect())
    }

    fn greeting(method: &str) -> Vec<u8> {
        let mut packet = b"\x0a8.0.0\0\x01\0\0\0saltsalt\0\xff\xff\x2d\x02\0\xff\xff\x15".to_vec();
        packet.extend_from_slice(&[0; 10]);
        packet.extend_from_slice(b"saltsaltsalt\0");
        packet.extend_from_slice(method.as_bytes());
        packet.push(0);
        packet
    }

    #[test]
    fn a_greeting_is_read() {
        let read = Greeting::read(&greeting("caching_sha2_password")).unwrap();
        assert_eq!((read.salt.len(), &read.method[..]), (20, CACHING_SHA2));
        let all = greeting("m");
        for length in 0..all.len() - 16 {
            assert_eq!(Greeting::read(&all[..length]), None, "{length} bytes");
        }
    }

    /// Both from values that MariaDB's and MySQL's own functions give: `SELECT SHA1(UNHEX(SHA1('secret')))` is what
    /// the server keeps, and from that and the proof it must come back to `SHA1('secret')`.
    #[test]
    fn password_proofs_verify() {
        let salt = b"saltsaltsaltsaltsalt";
        let proof = scramble(NATIVE, b"secret", salt).unwrap();
        let kept = Sha1::digest(Sha1::digest(b"secret"));
        let key = Sha1::new().chain_update(salt).chain_update(kept).finalize();
        let once: Vec<u8> = proof.iter().zip(key).map(|(a, b)| a ^ b).collect();
        assert_eq!(Sha1::digest(once), kept);
        let proof = scramble(CACHING_SHA2, b"secret", salt).unwrap();
        let kept = Sha256::digest(Sha256::digest(b"secret"));
        let key = Sha256::new().chain_update(kept).chain_update(salt).finalize();
        let once: Vec<u8> = proof.iter().zip(key).map(|(a, b)| a ^ b).collect();
        assert_eq!(Sha256::digest(once), kept);
        assert_eq!(scramble(NATIVE, b"", salt), Some(vec![]));
        assert_eq!(scramble(b"other", b"x", salt), None);
    }

    #[tokio::test]
    async fn replies_pass_or_fail_the_check() {
        let native = greeting("mysql_native_password");
        let caching = greeting("caching_sha2_password");
        let hello = || says(0, &[&native]);
        let ok: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
        let end: &[u8] = &[0xfe, 0, 0, 2, 0];
        let wrong = |got: &str, wanted| Err(FailureReason::wrong_answer(got, wanted));
        let protocol = |text: &str| Err(FailureReason::Protocol(text.into()));
        let wait = || Script::Bytes(60);
        let rows = |more: &[&[u8]]| {
            let all = [&[&b"\x01"[..], b"\x03def", end], more].concat();
            vec![hello(), wait(), says(2, &[ok]), says(1, &all)]
        };
        let cases = [
            (None, vec![hello(), wait(), says(2, &[ok])], Ok(())),
            (None, vec![says(0, &[b"\xff\x6a\x04Host is blocked"])], wrong("Host is blocked", "no error")),
            (
                None,
                vec![hello(), wait(), says(2, &[b"\xff\x15\x04#28000Access denied"])],
                wrong("Access denied", "no error"),
            ),
            (None, vec![hello(), wait(), says(3, &[ok])], protocol("a packet out of turn")),
            (None, vec![says(0, &[b"\x0a5.0\0"])], protocol("a greeting that is none of MySQL's")),
            (None, vec![says(0, &[&caching]), wait(), says(2, &[b"\x01\x03", ok])], Ok(())),
            (
                None,
                vec![says(0, &[&caching]), wait(), says(2, &[b"\x01\x04"])],
                protocol(
                    "the server wants the password itself, which is only sent encrypted; write tls = \"starttls\", or \
                     password-unencrypted = true",
                ),
            ),
            (
                None,
                vec![
                    hello(),
                    wait(),
                    says(2, &[b"\xfecaching_sha2_password\0saltsaltsaltsaltsalt\0"]),
                    Script::Bytes(36),
                    says(4, &[ok]),
                ],
                Ok(()),
            ),
            (
                None,
                vec![hello(), wait(), says(2, &[b"\xfemysql_clear_password\0"])],
                protocol("login by \"mysql_clear_password\", which is not known here"),
            ),
            (Some("q"), rows(&[b"\x011", end]), Ok(())),
            (Some("q"), rows(&[end]), wrong("no rows", "a row")),
            (Some("q"), vec![hello(), wait(), says(2, &[ok]), says(1, &[ok])], wrong("no rows", "a row")),
            (
                Some("q"),
                vec![hello(), wait(), says(2, &[ok]), says(1, &[b"\xff\x7a\x04#42S02No table"])],
                wrong("No table", "no error"),
            ),
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
    async fn network_failures_have_their_reason() {
        testing::common_failures(&check(Some("SELECT 1")), Phase::Greeting, true).await;
    }

    proptest! {
        #[test]
        fn any_greeting_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..90)) {
            Greeting::read(&[&[10], &bytes[..]].concat());
        }
    }
}
