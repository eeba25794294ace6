//! Oracle: the listener's answer to a TNS connect. Without a service it is pinged as `tnsping` does.

use std::net::SocketAddr;

use super::{FailureReason, Phase, context::ProbeContext, outcome::Answer, session::Session};
use crate::model::OracleCheck;

/// Kinds of packet.
const CONNECT: u8 = 1;
const ACCEPT: u8 = 2;
const REFUSE: u8 = 4;
const REDIRECT: u8 = 5;
const RESEND: u8 = 11;
/// Length, checksum, kind, flags, checksum of the header.
const HEADER: usize = 8;
/// Where the text of a connect begins: behind the header and fixed fields.
const TEXT_AT: u16 = 58;

/// Asks the listener.
pub(super) async fn probe(context: &ProbeContext<'_>, check: &OracleCheck) -> Result<Answer, FailureReason> {
    let mut session = Session::open(context, None).await?;
    let answer = Answer::connected(session.connect_time());
    session.send(connect(context.target.address, check), Phase::Reply).await?;
    let header = session.exactly(HEADER, Phase::Reply).await?;
    let length = usize::from(u16::from_be_bytes([header[0], header[1]]));
    let Some(length) = length.checked_sub(HEADER) else {
        return Err(FailureReason::Protocol("a packet that is no TNS".into()));
    };
    match header[4] {
        ACCEPT | REDIRECT | RESEND => Ok(answer),
        REFUSE => {
            let body = session.exactly(length, Phase::Reply).await?;
            // Two reasons and the length of the text come first.
            let text = body.get(4..).unwrap_or_default();
            // What pings is always refused, with no error.
            let is_pong = check.service.is_none() && memchr::memmem::find(text, b"(ERR=0)").is_some();
            if is_pong { Ok(answer) } else { Err(FailureReason::wrong_answer(text, "no refusal")) }
        }
        kind => Err(FailureReason::Protocol(format!("a packet of kind {kind}, which is no answer").into())),
    }
}

fn connect(address: SocketAddr, check: &OracleCheck) -> Vec<u8> {
    let data = match &check.service {
        Some(service) => format!("(SERVICE_NAME={service})(CID=(PROGRAM=lvs-agent)(HOST=)(USER=))"),
        None => "(COMMAND=ping)".to_owned(),
    };
    let place = format!("(ADDRESS=(PROTOCOL=TCP)(HOST={})(PORT={}))", address.ip(), address.port());
    let text = format!("(DESCRIPTION=(CONNECT_DATA={data}){place})");
    let text_length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    let fields = [
        TEXT_AT.saturating_add(text_length), // length
        0,                                   // no checksum
        u16::from(CONNECT) << 8,             // kind, flags
        0,                                   // no checksum of the header
        0x0139,                              // version 313 …
        0x012c,                              // … compatible with 300
        0,                                   // no options
        0x0800,                              // unit of the session: 2 KiB …
        0x7fff,                              // … and of the transport
        0x4f98,                              // what the transport can do
        0,                                   // turns
        0x0001,                              // the byte order
        text_length,
        TEXT_AT,
    ];
    let mut packet: Vec<u8> = fields.iter().flat_map(|field| field.to_be_bytes()).collect();
    // How much may be received, flags, and fields that are only for cross-references.
    packet.resize(usize::from(TEXT_AT), 0);
    packet.extend_from_slice(text.as_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::CheckKind,
        probe::testing::{self, LONG, Script, scripted},
    };

    fn check(service: Option<&str>) -> CheckKind {
        CheckKind::Oracle(OracleCheck { service: service.map(str::to_owned) })
    }

    fn packet(kind: u8, body: &str) -> Script {
        let length = u16::try_from(HEADER + body.len()).unwrap().to_be_bytes();
        Script::send([&length[..], &[0, 0, kind, 0, 0, 0], body.as_bytes()].concat())
    }

    #[tokio::test]
    async fn replies_pass_or_fail_the_check() {
        let pong = "\0\0\0\x2e(DESCRIPTION=(TMP=)(VSNNUM=318767104)(ERR=0)(ALIAS=LISTENER))";
        let unknown = "\0\0\0\x20(DESCRIPTION=(ERR=12514))";
        let refused = |text: &str| Err(FailureReason::wrong_answer(&text[4..], "no refusal"));
        let cases = [
            (None, packet(REFUSE, pong), Ok(())),
            (None, packet(ACCEPT, ""), Ok(())),
            (None, packet(REFUSE, unknown), refused(unknown)),
            (Some("db"), packet(ACCEPT, ""), Ok(())),
            (Some("db"), packet(RESEND, ""), Ok(())),
            (Some("db"), packet(REDIRECT, ""), Ok(())),
            (Some("db"), packet(REFUSE, unknown), refused(unknown)),
            (Some("db"), packet(REFUSE, pong), refused(pong)),
            (
                None,
                packet(9, ""),
                Err(FailureReason::Protocol("a packet of kind 9, which is no answer".into())),
            ),
            (None, Script::send([0; 8]), Err(FailureReason::Protocol("a packet that is no TNS".into()))),
        ];
        for (number, (service, answer, expected)) in cases.into_iter().enumerate() {
            let address = scripted(vec![Script::Bytes(60), answer]).await;
            assert_eq!(testing::probe(address, check(service), LONG).await, expected, "case {number}");
        }
    }

    #[tokio::test]
    async fn network_failures_have_their_reason() {
        testing::common_failures(&check(None), Phase::Reply, true).await;
    }

    #[test]
    fn a_connect_packet_is_complete() {
        let packet = connect("10.0.0.1:1521".parse().unwrap(), &OracleCheck { service: None });
        assert_eq!(usize::from(u16::from_be_bytes([packet[0], packet[1]])), packet.len());
        assert_eq!(u16::from_be_bytes([packet[26], packet[27]]), TEXT_AT);
        let text = String::from_utf8(packet[usize::from(TEXT_AT)..].to_vec()).unwrap();
        assert_eq!(
            text,
            "(DESCRIPTION=(CONNECT_DATA=(COMMAND=ping))(ADDRESS=(PROTOCOL=TCP)(HOST=10.0.0.1)(PORT=1521)))"
        );
    }
}
