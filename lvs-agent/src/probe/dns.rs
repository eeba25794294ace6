//! DNS: a query, and whether the answer has a record that fits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question as Query, RCODE, ResourceRecord, TYPE,
    rdata::RData,
};

use super::{
    FailureReason, LocalFault, Phase, context::ProbeContext, datagram::Datagrams, outcome::Answer, random,
    session::Session,
};
use crate::model::{DnsCheck, DnsExpect, DnsType, Transport, dns_name};

/// Sends the query, and waits for the reply.
pub(super) async fn probe(context: &ProbeContext<'_>, check: &DnsCheck) -> Result<Answer, FailureReason> {
    let [high, low, ..] = random::number().to_be_bytes();
    let id = u16::from_be_bytes([high, low]);
    let query = query(check, id)?;
    match check.transport {
        Transport::Udp => {
            let socket = Datagrams::open(context)?;
            socket.send(&query).await?;
            match socket.receive(|reply| read(reply, check, id)).await? {
                Reply::Whole(evaluated) => evaluated.map(|()| Answer::default()),
                // As every resolver does (RFC 7766, 5).
                Reply::Truncated => over_tcp(context, check, &query, id).await.map_err(after_truncation),
            }
        }
        Transport::Tcp => over_tcp(context, check, &query, id).await,
    }
}

/// Sends the query over a connection, and waits for the reply.
async fn over_tcp(
    context: &ProbeContext<'_>,
    check: &DnsCheck,
    query: &[u8],
    id: u16,
) -> Result<Answer, FailureReason> {
    let mut session = Session::open(context, None).await?;
    let answer = Answer::connected(session.connect_time());
    let length = u16::try_from(query.len()).unwrap_or(u16::MAX).to_be_bytes();
    session.send([&length[..], query].concat(), Phase::Reply).await?;
    let length = session.exactly(2, Phase::Reply).await?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let reply = session.exactly(length, Phase::Reply).await?;
    let evaluated = read(&reply, check, id);
    match evaluated.map_err(|problem| FailureReason::Protocol(problem.into()))? {
        Reply::Whole(evaluated) => evaluated.map(|()| answer),
        Reply::Truncated => Err(FailureReason::wrong_answer("a truncated reply over TCP", "a whole one")),
    }
}

/// A failure over TCP, where the reply over UDP was truncated.
fn after_truncation(reason: FailureReason) -> FailureReason {
    match reason {
        FailureReason::Local(_) => reason,
        reason => FailureReason::Protocol(
            format!("the reply over UDP was truncated, and over TCP: {reason}").into(),
        ),
    }
}

/// A reply to the query.
#[derive(Debug)]
enum Reply {
    /// It is whole, or enough of it; whether it is as it should be.
    Whole(Result<(), FailureReason>),
    /// It is not, and doesn't have what is wanted.
    Truncated,
}

fn kind(record: DnsType) -> TYPE {
    match record {
        DnsType::A => TYPE::A,
        DnsType::Aaaa => TYPE::AAAA,
        DnsType::Ptr => TYPE::PTR,
        DnsType::Ns => TYPE::NS,
        DnsType::Cname => TYPE::CNAME,
        DnsType::Soa => TYPE::SOA,
        DnsType::Mx => TYPE::MX,
        DnsType::Txt => TYPE::TXT,
    }
}

/// The query as bytes. A fault in it can only be the check's.
fn query(check: &DnsCheck, id: u16) -> Result<Vec<u8>, FailureReason> {
    let fault = |error| LocalFault::new("make the query", &std::io::Error::other(error));
    let name = dns_name(&check.name, check.record);
    let name = Name::new(&name).map_err(fault)?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Query::new(name, QTYPE::TYPE(kind(check.record)), QCLASS::CLASS(CLASS::IN), false));
    Ok(packet.build_bytes_vec().map_err(fault)?)
}

/// Evaluates a reply; `Err`: it is no reply to this query, and is ignored unless nothing better comes.
fn read(reply: &[u8], check: &DnsCheck, id: u16) -> Result<Reply, &'static str> {
    let packet = match Packet::parse(reply) {
        Ok(packet) => packet,
        // It may end in the middle of a record.
        Err(_) if is_truncated(reply, id) => return Ok(Reply::Truncated),
        Err(_) => return Err("a reply that is no DNS"),
    };
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return Err("a reply to another query");
    }
    let name = dns_name(&check.name, check.record);
    if packet.questions.iter().any(|query| !query.qname.to_string().eq_ignore_ascii_case(&name)) {
        return Err("a reply to another query");
    }
    match evaluate(&packet, check) {
        Err(_) if packet.has_flags(PacketFlag::TRUNCATION) => Ok(Reply::Truncated),
        evaluated => Ok(Reply::Whole(evaluated)),
    }
}

/// Whether these bytes begin like a truncated reply to the query: its number, the flags QR and TC (RFC 1035, 4.1.1).
fn is_truncated(reply: &[u8], id: u16) -> bool {
    const HEADER: usize = 12;
    const RESPONSE_TRUNCATED: u8 = 0x82;
    reply.len() >= HEADER
        && reply.starts_with(&id.to_be_bytes())
        && reply[2] & RESPONSE_TRUNCATED == RESPONSE_TRUNCATED
}

/// A code of a reply by the name that resolvers use (RFC 1035, 4.1.1; RFC 2136, 2.2).
fn code_name(code: RCODE) -> &'static str {
    match code {
        RCODE::NoError => "NOERROR",
        RCODE::FormatError => "FORMERR",
        RCODE::ServerFailure => "SERVFAIL",
        RCODE::NameError => "NXDOMAIN",
        RCODE::NotImplemented => "NOTIMP",
        RCODE::Refused => "REFUSED",
        RCODE::YXDOMAIN => "YXDOMAIN",
        RCODE::YXRRSET => "YXRRSET",
        RCODE::NXRRSET => "NXRRSET",
        RCODE::NOTAUTH => "NOTAUTH",
        RCODE::NOTZONE => "NOTZONE",
        RCODE::BADVERS => "BADVERS",
        RCODE::Reserved => "an error without a name",
    }
}

fn evaluate(packet: &Packet<'_>, check: &DnsCheck) -> Result<(), FailureReason> {
    if packet.rcode() != RCODE::NoError {
        return Err(FailureReason::wrong_answer(code_name(packet.rcode()), "an answer without error"));
    }
    let records: Vec<String> =
        packet.answers.iter().filter_map(|record| shown(record, check.record)).collect();
    match &check.expect {
        None if records.is_empty() => Err(FailureReason::wrong_answer("no records", "a record of that type")),
        None => Ok(()),
        Some(expect) if records.iter().any(|record| is_as_expected(record, expect)) => Ok(()),
        Some(_) => Err(FailureReason::wrong_answer(records.join(" "), "the record that is expected")),
    }
}

fn is_as_expected(record: &str, expect: &DnsExpect) -> bool {
    match expect {
        DnsExpect::Is(expect) => is_same(record, expect),
        DnsExpect::Matches(pattern) => pattern.is_in(record.as_bytes()),
    }
}

/// Whether two records are the same: addresses by their value, names whatever their case.
fn is_same(record: &str, expect: &str) -> bool {
    match (record.parse::<IpAddr>(), expect.parse::<IpAddr>()) {
        (Ok(record), Ok(expect)) => record == expect,
        _ => record.eq_ignore_ascii_case(expect.trim_end_matches('.')),
    }
}

/// A record of this type as text; `None` for one of another.
fn shown(record: &ResourceRecord<'_>, wanted: DnsType) -> Option<String> {
    match (wanted, &record.rdata) {
        (DnsType::A, RData::A(a)) => Some(Ipv4Addr::from(a.address).to_string()),
        (DnsType::Aaaa, RData::AAAA(aaaa)) => Some(Ipv6Addr::from(aaaa.address).to_string()),
        (DnsType::Ptr, RData::PTR(name)) => Some(name.0.to_string()),
        (DnsType::Ns, RData::NS(name)) => Some(name.0.to_string()),
        (DnsType::Cname, RData::CNAME(name)) => Some(name.0.to_string()),
        (DnsType::Soa, RData::SOA(soa)) => Some(soa.mname.to_string()),
        (DnsType::Mx, RData::MX(mx)) => Some(mx.exchange.to_string()),
        (DnsType::Txt, RData::TXT(text)) => String::try_from(text.clone()).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;
    use simple_dns::rdata;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{
        model::CheckKind,
        probe::testing::{self, LONG, SHORT, Script, closed_udp_port, scripted, udp_server},
    };

    fn check(record: DnsType, name: &str, expect: Option<&str>) -> DnsCheck {
        let expect = expect.map(|expect| DnsExpect::Is(expect.to_owned()));
        DnsCheck { name: name.to_owned(), record, transport: Transport::Udp, expect }
    }

    fn matching(pattern: &str) -> DnsCheck {
        let expect = Some(DnsExpect::Matches(crate::model::Pattern::new(pattern).unwrap()));
        DnsCheck { expect, ..check(DnsType::A, "www.example.org", None) }
    }

    /// A reply to `query` with these records, or this error.
    fn reply(query: &[u8], records: Vec<RData<'_>>, code: RCODE) -> Vec<u8> {
        let mut packet = Packet::parse(query).unwrap().into_reply();
        *packet.rcode_mut() = code;
        let name = packet.questions[0].qname.clone();
        for record in records {
            packet.answers.push(ResourceRecord::new(name.clone(), CLASS::IN, 60, record));
        }
        packet.build_bytes_vec().unwrap()
    }

    /// What a server makes of a query.
    type Answer = fn(&[u8]) -> Option<Vec<u8>>;

    fn address(ip: [u8; 4]) -> RData<'static> {
        RData::A(rdata::A { address: u32::from_be_bytes(ip) })
    }

    #[tokio::test]
    async fn records_pass_or_fail_the_check() {
        let server = udp_server(|query| {
            Some(reply(query, vec![address([192, 0, 2, 1]), address([192, 0, 2, 2])], RCODE::NoError))
        })
        .await;
        let wrong = |got: &str, wanted| Err(FailureReason::wrong_answer(got, wanted));
        let cases = [
            (check(DnsType::A, "www.example.org", None), Ok(())),
            (check(DnsType::A, "www.example.org.", Some("192.0.2.2")), Ok(())),
            (
                check(DnsType::A, "www.example.org", Some("192.0.2.3")),
                wrong("192.0.2.1 192.0.2.2", "the record that is expected"),
            ),
            (matching("^192\\.0\\.2\\.2$"), Ok(())),
            (matching("192.0.2."), Ok(())),
            (matching("^0"), wrong("192.0.2.1 192.0.2.2", "the record that is expected")),
            (check(DnsType::Aaaa, "www.example.org", None), wrong("no records", "a record of that type")),
        ];
        for (check, expected) in cases {
            assert_eq!(
                testing::probe(server, CheckKind::Dns(check.clone()), LONG).await,
                expected,
                "{check:?}"
            );
        }
        let codes: [(Answer, _); 3] = [
            (|query| Some(reply(query, vec![], RCODE::NameError)), "NXDOMAIN"),
            (|query| Some(reply(query, vec![], RCODE::ServerFailure)), "SERVFAIL"),
            (|query| Some(reply(query, vec![], RCODE::Refused)), "REFUSED"),
        ];
        for (answer, name) in codes {
            let server = udp_server(answer).await;
            let result = testing::probe(server, CheckKind::Dns(check(DnsType::A, "x", None)), LONG).await;
            assert_eq!(result, wrong(name, "an answer without error"));
        }
    }

    /// The same port over UDP, where each reply is truncated, and over TCP, where it is `whole` or nobody listens. The
    /// port over TCP is taken in any case.
    async fn truncating(records: &'static [[u8; 4]], cut: usize, whole: Option<[u8; 4]>) -> SocketAddr {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let truncated = move |query: &[u8]| {
            let records = records.iter().map(|ip| address(*ip)).collect();
            let mut reply = reply(query, records, RCODE::NoError);
            reply[2] |= 2;
            reply.truncate(reply.len() - cut);
            Some(reply)
        };
        let udp = loop {
            let udp = udp_server(truncated).await;
            if socket.bind(&udp.into()).is_ok() {
                break udp;
            }
        };
        if let Some(ip) = whole {
            socket.listen(8).unwrap();
            socket.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(socket.into()).unwrap();
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
                    stream.read_exact(&mut query).await.unwrap();
                    let reply = reply(&query, vec![address(ip)], RCODE::NoError);
                    stream.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
                    stream.write_all(&reply).await.unwrap();
                    stream.read_u8().await.unwrap_or_default();
                }
            });
        } else {
            Box::leak(Box::new(socket));
        }
        udp
    }

    #[tokio::test]
    async fn a_truncated_reply_is_asked_for_again_over_tcp() {
        let wanted = [192, 0, 2, 7];
        let check = CheckKind::Dns(check(DnsType::A, "www.example.org", Some("192.0.2.7")));
        // Without records, with others, cut in the middle of one; with the one that is wanted.
        for (records, cut) in [(&[][..], 0), (&[[192, 0, 2, 1]], 0), (&[[192, 0, 2, 1]], 3)] {
            let server = truncating(records, cut, Some(wanted)).await;
            assert_eq!(testing::probe(server, check.clone(), LONG).await, Ok(()), "{records:?} {cut}");
        }
        let enough = truncating(&[[192, 0, 2, 7]], 0, None).await;
        assert_eq!(testing::probe(enough, check.clone(), LONG).await, Ok(()));
        let said = "the reply over UDP was truncated, and over TCP: connection refused";
        let alone = truncating(&[], 0, None).await;
        let result = testing::probe(alone, check, LONG).await;
        assert_eq!(result, Err(FailureReason::Protocol(said.into())));
    }

    #[tokio::test]
    async fn replies_to_other_queries_are_ignored() {
        let cases: [(Answer, &str); 4] = [
            (|query| Some(query.to_vec()), "another query"),
            (
                |query| {
                    Some({
                        let mut reply = reply(query, vec![address([192, 0, 2, 1])], RCODE::NoError);
                        reply[0] ^= 1;
                        reply
                    })
                },
                "another query",
            ),
            (|_| Some(b"garbage".to_vec()), "no DNS"),
            (|_| Some(vec![]), "no DNS"),
        ];
        let check = CheckKind::Dns(check(DnsType::A, "www.example.org", None));
        for (answer, expected) in cases {
            let result = testing::probe_ignored(udp_server(answer).await, &check).await;
            let Err(FailureReason::Protocol(problem)) = result else { panic!("{result:?}") };
            assert!(problem.contains(expected), "{problem}");
        }
        assert_eq!(testing::probe(closed_udp_port(), check.clone(), LONG).await, Err(FailureReason::Refused));
        let mute = testing::probe(udp_server(|_| None).await, check, SHORT).await;
        assert_eq!(mute, Err(FailureReason::TimedOut { phase: Phase::Reply }));
    }

    #[tokio::test]
    async fn network_failures_have_their_reason_over_tcp() {
        let check = DnsCheck { transport: Transport::Tcp, ..check(DnsType::A, "x.example", None) };
        let check = CheckKind::Dns(check);
        testing::common_failures(&check, Phase::Reply, true).await;
        let empty = scripted(vec![Script::send([0, 0])]).await;
        let result = testing::probe(empty, check, LONG).await;
        assert_eq!(result, Err(FailureReason::Protocol("a reply that is no DNS".into())));
    }

    proptest! {
        /// Random bytes, and a real reply with some of its bytes changed.
        #[test]
        fn any_bytes_are_read(noise in proptest::collection::vec(any::<u8>(), 0..300), changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8)) {
            let check = check(DnsType::A, "www.example.org", None);
            read(&noise, &check, 7).map(drop).unwrap_or_default();
            let mut changed = reply(&query(&check, 7).unwrap(), vec![address([192, 0, 2, 1])], RCODE::NoError);
            for (at, byte) in changes {
                let at = at % changed.len();
                changed[at] = byte;
            }
            read(&changed, &check, 7).map(drop).unwrap_or_default();
        }
    }
}
