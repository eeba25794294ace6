//! RADIUS (RFC 2865): an Access-Request with Message-Authenticator (RFC 3579, 3.2), and whether the answer is signed
//! with the shared secret.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};

use super::{FailureReason, context::ProbeContext, datagram::Datagrams, outcome::Answer, random};
use crate::model::RadiusCheck;

const ACCESS_REQUEST: u8 = 1;
const ACCESS_ACCEPT: u8 = 2;
const ACCESS_REJECT: u8 = 3;
const ACCESS_CHALLENGE: u8 = 11;
const USER_NAME: u8 = 1;
const USER_PASSWORD: u8 = 2;
const NAS_IDENTIFIER: u8 = 32;
const MESSAGE_AUTHENTICATOR: u8 = 80;
/// Code, identifier, length, authenticator.
const HEADER: usize = 20;
/// What the agent calls itself.
const IDENTIFIER: &[u8] = b"lvs-agent";
/// The longest value of an attribute.
pub(crate) const MAX_VALUE: usize = 253;

/// Asks whether the user may in.
pub(super) async fn probe(context: &ProbeContext<'_>, check: &RadiusCheck) -> Result<Answer, FailureReason> {
    let secret = check.secret.reveal().as_bytes();
    let [id, ..] = random::number().to_be_bytes();
    let mut authenticator = [0; 16];
    authenticator[..8].copy_from_slice(&random::number().to_be_bytes());
    authenticator[8..].copy_from_slice(&random::number().to_be_bytes());
    let request = request(check, id, authenticator);
    let socket = Datagrams::open(context)?;
    socket.send(&request).await?;
    let code = socket.receive(|reply| evaluate(reply, id, authenticator, secret)).await?;
    match code {
        ACCESS_ACCEPT => Ok(Answer::default()),
        ACCESS_REJECT | ACCESS_CHALLENGE if check.reject_is_alive => Ok(Answer::default()),
        ACCESS_REJECT => Err(FailureReason::wrong_answer("Access-Reject", "Access-Accept")),
        ACCESS_CHALLENGE => Err(FailureReason::wrong_answer("Access-Challenge", "Access-Accept")),
        other => Err(FailureReason::wrong_answer(format!("code {other}"), "Access-Accept")),
    }
}

/// The request. Lengths fit, as the values are bounded where they are read.
fn request(check: &RadiusCheck, id: u8, authenticator: [u8; 16]) -> Vec<u8> {
    let secret = check.secret.reveal().as_bytes();
    let mut packet = vec![ACCESS_REQUEST, id, 0, 0];
    packet.extend_from_slice(&authenticator);
    // First, so that a response can't be forged from a request with a chosen user name (CVE-2024-3596).
    attribute(&mut packet, MESSAGE_AUTHENTICATOR, &[0; 16]);
    attribute(&mut packet, USER_NAME, check.login.user.as_bytes());
    let hidden = hidden(check.login.password.reveal().as_bytes(), authenticator, secret);
    attribute(&mut packet, USER_PASSWORD, &hidden);
    attribute(&mut packet, NAS_IDENTIFIER, IDENTIFIER);
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    let signature = keyed(secret, &[&packet]);
    packet[HEADER + 2..HEADER + 18].copy_from_slice(&signature);
    packet
}

fn attribute(packet: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let value = &value[..value.len().min(MAX_VALUE)];
    packet.extend([kind, u8::try_from(value.len() + 2).unwrap_or(u8::MAX)]);
    packet.extend_from_slice(value);
}

/// A password as it is sent (RFC 2865, 5.2).
fn hidden(password: &[u8], authenticator: [u8; 16], secret: &[u8]) -> Vec<u8> {
    let mut padded = password[..password.len().min(RadiusCheck::MAX_PASSWORD)].to_vec();
    padded.resize(padded.len().max(1).next_multiple_of(16), 0);
    let mut previous = authenticator;
    for block in padded.chunks_exact_mut(16) {
        let key = digest(&[secret, &previous]);
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        previous.copy_from_slice(block);
    }
    padded
}

/// The code of a reply to this request, if it is signed.
fn evaluate(reply: &[u8], id: u8, authenticator: [u8; 16], secret: &[u8]) -> Result<u8, &'static str> {
    const NONE: &str = "a reply that is no RADIUS";
    let (&[code, its_id, high, low, ..], true) = (reply, reply.len() >= HEADER) else { return Err(NONE) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let reply = reply.get(..length).filter(|reply| reply.len() >= HEADER).ok_or(NONE)?;
    if its_id != id {
        return Err("a reply to another request");
    }
    let attributes = &reply[HEADER..];
    let signature = digest(&[&reply[..4], &authenticator, attributes, secret]);
    if signature[..] != reply[4..HEADER] {
        return Err("a reply that is not signed with the shared secret");
    }
    let at = message_authenticator(attributes).map_err(|()| NONE)?;
    if let Some(at) = at {
        let (before, rest) = attributes.split_at(at);
        let (signature, after) = rest.split_at(16);
        if keyed(secret, &[&reply[..4], &authenticator, before, &[0; 16], after]) != signature {
            return Err("a reply whose Message-Authenticator is wrong");
        }
    }
    Ok(code)
}

/// Where the value of the Message-Authenticator is among the attributes.
fn message_authenticator(attributes: &[u8]) -> Result<Option<usize>, ()> {
    let mut at = 0;
    while at < attributes.len() {
        let &[kind, length, ..] = &attributes[at..] else { return Err(()) };
        let next = at + usize::from(length);
        if length < 2 || next > attributes.len() {
            return Err(());
        }
        if kind == MESSAGE_AUTHENTICATOR {
            return if length == 18 { Ok(Some(at + 2)) } else { Err(()) };
        }
        at = next;
    }
    Ok(None)
}

fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn keyed(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    // Any length of key will do; the library's error is for other kinds of MAC.
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(key) else { return [0; 16] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{CheckKind, Login, Secret},
        probe::testing::{self, LONG, closed_udp_port, udp_server},
    };

    const SECRET: &[u8] = b"xyzzy5461";

    fn check(reject_is_alive: bool) -> RadiusCheck {
        let login =
            Login { user: "nemo".to_owned(), password: Secret::new("arctangent"), unencrypted: false };
        RadiusCheck { login, secret: Secret::new("xyzzy5461"), reject_is_alive }
    }

    /// The password and the request's authenticator in RFC 2865, 7.1.
    #[test]
    fn the_password_is_hidden_as_in_the_rfc() {
        let authenticator =
            [0x0f, 0x40, 0x3f, 0x94, 0x73, 0x97, 0x80, 0x57, 0xbd, 0x83, 0xd5, 0xcb, 0x98, 0xf4, 0x22, 0x7a];
        let expected =
            [0x0d, 0xbe, 0x70, 0x8d, 0x93, 0xd4, 0x13, 0xce, 0x31, 0x96, 0xe4, 0x3f, 0x78, 0x2a, 0x0a, 0xee];
        assert_eq!(hidden(b"arctangent", authenticator, SECRET), expected);
        assert_eq!(hidden(&[b'x'; 17], authenticator, SECRET).len(), 32);
        assert_eq!(hidden(b"", authenticator, SECRET).len(), 16);
    }

    /// A signed reply to `request`.
    fn reply(code: u8, request: &[u8], secret: &[u8]) -> Vec<u8> {
        let mut reply = vec![code, request[1], 0, 38];
        reply.extend_from_slice(&request[4..20]);
        reply.extend_from_slice(&[MESSAGE_AUTHENTICATOR, 18]);
        reply.extend_from_slice(&[0; 16]);
        let signature = keyed(secret, &[&reply]);
        reply[22..].copy_from_slice(&signature);
        let signature = digest(&[&reply, secret]);
        reply[4..20].copy_from_slice(&signature);
        reply
    }

    #[tokio::test]
    async fn replies_pass_or_fail_the_check() {
        let wrong = |got: &str| Err(FailureReason::wrong_answer(got, "Access-Accept"));
        let cases = [
            (2, false, Ok(())),
            (3, false, wrong("Access-Reject")),
            (3, true, Ok(())),
            (11, false, wrong("Access-Challenge")),
        ];
        for (code, reject_is_alive, expected) in cases {
            let address = udp_server(move |request| Some(reply(code, request, SECRET))).await;
            let check = CheckKind::Radius(check(reject_is_alive));
            assert_eq!(testing::probe(address, check, LONG).await, expected, "{code}");
        }
    }

    #[tokio::test]
    async fn unsigned_replies_are_ignored() {
        type Answer = fn(&[u8]) -> Option<Vec<u8>>;
        let cases: [(Answer, &str); 5] = [
            (|request| Some(reply(2, request, b"other")), "not signed"),
            (
                |request| {
                    Some({
                        let mut reply = reply(2, request, SECRET);
                        reply[1] ^= 1;
                        reply
                    })
                },
                "another request",
            ),
            (|_| Some(vec![2; 30]), "no RADIUS"),
            (|_| Some(vec![]), "no RADIUS"),
            (|request| Some(request.to_vec()), "not signed"),
        ];
        for (answer, expected) in cases {
            let result =
                testing::probe_ignored(udp_server(answer).await, &CheckKind::Radius(check(false))).await;
            let Err(FailureReason::Protocol(problem)) = result else { panic!("{result:?}") };
            assert!(problem.contains(expected), "{problem}");
        }
        let result = testing::probe(closed_udp_port(), CheckKind::Radius(check(false)), LONG).await;
        assert_eq!(result, Err(FailureReason::Refused));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(reply in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            assert!(evaluate(&reply, 1, [0; 16], SECRET).is_err());
            message_authenticator(&reply).unwrap_or_default();
        }
    }
}
