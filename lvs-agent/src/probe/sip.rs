//! SIP OPTIONS (RFC 3261, 11): asks what the server can do; any final response shows that it is alive.

use std::net::SocketAddr;

use memchr::memmem;

use super::{
    FailureReason, Phase, context::ProbeContext, datagram::Datagrams, outcome::Answer, random,
    session::Session,
};
use crate::model::{SipCheck, Transport};

/// How many lines a response's head may have.
const MAX_LINES: usize = 100;
/// How many responses may come before the final one.
const MAX_PROVISIONAL: usize = 20;

/// Asks, and waits for the final response.
pub(super) async fn probe(context: &ProbeContext<'_>, check: &SipCheck) -> Result<Answer, FailureReason> {
    match check.transport {
        Transport::Udp => over_udp(context, check).await,
        Transport::Tcp => over_tcp(context, check).await,
    }
}

async fn over_udp(context: &ProbeContext<'_>, check: &SipCheck) -> Result<Answer, FailureReason> {
    let socket = Datagrams::open(context)?;
    let id = format!("{:016x}", random::number());
    socket.send(&request(context.target.address, socket.own_address()?, check, "UDP", &id)).await?;
    let line = socket.receive(|reply| {
        let (line, _) = reply.split_at(reply.iter().position(|byte| *byte == b'\r').unwrap_or(reply.len()));
        match status(line) {
            None => Err("a reply that is no SIP"),
            Some(_) if memmem::find(reply, id.as_bytes()).is_none() => Err("a reply to another request"),
            Some(100..=199) => Err("only a provisional response"),
            Some(_) => Ok(line.to_vec()),
        }
    });
    evaluate(&line.await?)?;
    Ok(Answer::default())
}

async fn over_tcp(context: &ProbeContext<'_>, check: &SipCheck) -> Result<Answer, FailureReason> {
    let mut session = Session::open(context, check.tls.as_ref()).await?;
    let answer = Answer::connected(session.connect_time());
    let id = format!("{:016x}", random::number());
    let transport = if check.tls.is_some() { "TLS" } else { "TCP" };
    let request = request(context.target.address, session.own_address()?, check, transport, &id);
    session.send(request, Phase::Reply).await?;
    for _ in 0..MAX_PROVISIONAL {
        let line = session.line(Phase::Reply).await?;
        if !matches!(status(&line), Some(100..=199)) {
            return evaluate(&line).map(|()| answer);
        }
        skip_head(&mut session).await?;
    }
    Err(FailureReason::Protocol("only provisional responses".into()))
}

/// Reads to the empty line. Provisional responses to OPTIONS have no body.
async fn skip_head(session: &mut Session<'_>) -> Result<(), FailureReason> {
    for _ in 0..MAX_LINES {
        if session.line(Phase::Reply).await?.is_empty() {
            return Ok(());
        }
    }
    Err(FailureReason::Protocol(format!("more than {MAX_LINES} lines").into()))
}

/// The status code of a status line.
fn status(line: &[u8]) -> Option<u16> {
    let code = line.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
    std::str::from_utf8(code).ok()?.parse().ok().filter(|code| (100..=699).contains(code))
}

fn evaluate(line: &[u8]) -> Result<(), FailureReason> {
    match status(line) {
        Some(200..=299) => Ok(()),
        _ => Err(FailureReason::wrong_answer(line, "SIP/2.0 200")),
    }
}

fn request(server: SocketAddr, local: SocketAddr, check: &SipCheck, transport: &str, id: &str) -> Vec<u8> {
    let uri = match &check.user {
        Some(user) => format!("sip:{user}@{server}"),
        None => format!("sip:{server}"),
    };
    let lines = [
        format!("OPTIONS {uri} SIP/2.0"),
        format!("Via: SIP/2.0/{transport} {local};branch=z9hG4bK{id};rport"),
        "Max-Forwards: 70".to_owned(),
        format!("From: <sip:lvs-agent@{local}>;tag={id}"),
        format!("To: <{uri}>"),
        format!("Call-ID: {id}"),
        "CSeq: 1 OPTIONS".to_owned(),
        format!("Contact: <sip:lvs-agent@{local}>"),
        "Accept: application/sdp".to_owned(),
        "Content-Length: 0".to_owned(),
        "\r\n".to_owned(),
    ];
    lines.join("\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::CheckKind,
        probe::testing::{self, LONG, SHORT, Script, closed_udp_port, scripted, udp_server},
    };

    fn check(transport: Transport) -> CheckKind {
        CheckKind::Sip(SipCheck { user: Some("u".to_owned()), transport, tls: None })
    }

    /// A response with the request's Call-ID.
    fn respond(status: &str, request: &[u8]) -> Vec<u8> {
        let request = String::from_utf8(request.to_vec()).unwrap();
        assert!(request.starts_with("OPTIONS sip:u@127.0.0.1:"), "{request}");
        let id = request.lines().find(|line| line.starts_with("Call-ID")).unwrap();
        format!("SIP/2.0 {status}\r\n{id}\r\n\r\n").into_bytes()
    }

    #[tokio::test]
    async fn replies_over_udp_pass_or_fail_the_check() {
        let ok = udp_server(|request| Some(respond("200 OK", request))).await;
        assert_eq!(testing::probe(ok, check(Transport::Udp), LONG).await, Ok(()));
        let busy = udp_server(|request| Some(respond("503 Busy", request))).await;
        let wrong = Err(FailureReason::wrong_answer("SIP/2.0 503 Busy", "SIP/2.0 200"));
        assert_eq!(testing::probe(busy, check(Transport::Udp), LONG).await, wrong);
        let other = udp_server(|_| Some(b"SIP/2.0 200 OK\r\nCall-ID: other\r\n\r\n".to_vec())).await;
        let result = testing::probe_ignored(other, &check(Transport::Udp)).await;
        assert_eq!(result, Err(FailureReason::Protocol("a reply to another request".into())));
        let garbage = udp_server(|_| Some(b"\0\x01".to_vec())).await;
        let result = testing::probe_ignored(garbage, &check(Transport::Udp)).await;
        assert_eq!(result, Err(FailureReason::Protocol("a reply that is no SIP".into())));
        let mute = udp_server(|_| None).await;
        let result = testing::probe(mute, check(Transport::Udp), SHORT).await;
        assert_eq!(result, Err(FailureReason::TimedOut { phase: Phase::Reply }));
        let result = testing::probe(closed_udp_port(), check(Transport::Udp), LONG).await;
        assert_eq!(result, Err(FailureReason::Refused));
    }

    #[tokio::test]
    async fn over_tcp_the_final_response_counts() {
        let trying = "SIP/2.0 100 Trying\r\nCSeq: 1 OPTIONS\r\n\r\n";
        for (last, expected) in [
            ("SIP/2.0 200 OK\r\n\r\n", Ok(())),
            ("SIP/2.0 404 No\r\n\r\n", Err(FailureReason::wrong_answer("SIP/2.0 404 No", "SIP/2.0 200"))),
        ] {
            let address =
                scripted(vec![Script::Wants("OPTIONS"), Script::send(trying), Script::send(last)]).await;
            assert_eq!(testing::probe(address, check(Transport::Tcp), LONG).await, expected);
        }
        testing::common_failures(&check(Transport::Tcp), Phase::Reply, true).await;
    }
}
