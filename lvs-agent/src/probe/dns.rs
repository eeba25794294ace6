//! DNS: a query, and whether the answer has a record that fits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question as Query, RCODE, ResourceRecord, TYPE,
    rdata::RData,
};

use super::{
    FailureReason, LocalFault, Phase, datagram::Datagrams, outcome::Answer, pace::Run, random, talk::Talk,
};
use crate::model::{DnsCheck, DnsType, Transport, dns_name as asked_name};

/// Asks for the name.
pub(super) async fn ask(run: &Run<'_>, question: &DnsCheck) -> Result<Answer, FailureReason> {
    let [high, low, ..] = random::number().to_be_bytes();
    let id = u16::from_be_bytes([high, low]);
    let query = query(question, id)?;
    match question.transport {
        Transport::Udp => {
            let socket = Datagrams::open(run)?;
            socket.send(&query).await?;
            socket.receive(|reply| read(reply, question, id)).await??;
            Ok(Answer::default())
        }
        Transport::Tcp => {
            let mut talk = Talk::open(run, None).await?;
            let answer = Answer::connected(talk.connect_time());
            let length = u16::try_from(query.len()).unwrap_or(u16::MAX).to_be_bytes();
            talk.send([&length[..], &query].concat(), Phase::Reply).await?;
            let length = talk.exactly(2, Phase::Reply).await?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let reply = talk.exactly(length, Phase::Reply).await?;
            let judged = read(&reply, question, id);
            judged.map_err(|problem| FailureReason::Protocol(problem.to_owned()))??;
            Ok(answer)
        }
    }
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

/// The query as bytes. A fault in it can only be in the question.
fn query(question: &DnsCheck, id: u16) -> Result<Vec<u8>, FailureReason> {
    let fault = |error| LocalFault::new("make the query", &std::io::Error::other(error));
    let name = asked_name(&question.name, question.record);
    let name = Name::new(&name).map_err(fault)?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Query::new(
        name,
        QTYPE::TYPE(kind(question.record)),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    Ok(packet.build_bytes_vec().map_err(fault)?)
}

/// Reads a reply. What is none is passed over, and told if nothing better comes.
fn read(reply: &[u8], question: &DnsCheck, id: u16) -> Result<Result<(), FailureReason>, &'static str> {
    let packet = Packet::parse(reply).map_err(|_| "a reply that is no DNS")?;
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return Err("a reply to another query");
    }
    let name = asked_name(&question.name, question.record);
    if packet.questions.iter().any(|query| !query.qname.to_string().eq_ignore_ascii_case(&name)) {
        return Err("a reply to another query");
    }
    Ok(judge(&packet, question))
}

fn judge(packet: &Packet<'_>, question: &DnsCheck) -> Result<(), FailureReason> {
    if packet.rcode() != RCODE::NoError {
        return Err(FailureReason::wrong_answer(format!("{:?}", packet.rcode()), "an answer without error"));
    }
    let records: Vec<String> =
        packet.answers.iter().filter_map(|record| shown(record, question.record)).collect();
    match &question.expect {
        None if records.is_empty() => Err(FailureReason::wrong_answer("no records", "a record of that type")),
        None => Ok(()),
        Some(expect) if records.iter().any(|record| is_same(record, expect)) => Ok(()),
        Some(_) => Err(FailureReason::wrong_answer(records.join(" "), "the record that is expected")),
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
    use proptest::prelude::*;
    use simple_dns::rdata;

    use super::*;
    use crate::{
        model::CheckKind,
        probe::testing::{self, LONG, SHORT, Script, closed_udp_port, scripted, udp_server},
    };

    fn question(record: DnsType, name: &str, expect: Option<&str>) -> DnsCheck {
        let expect = expect.map(str::to_owned);
        DnsCheck { name: name.to_owned(), record, transport: Transport::Udp, expect }
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

    fn address(ip: [u8; 4]) -> RData<'static> {
        RData::A(rdata::A { address: u32::from_be_bytes(ip) })
    }

    #[tokio::test]
    async fn records_are_judged() {
        let server = udp_server(|query| {
            Some(reply(query, vec![address([192, 0, 2, 1]), address([192, 0, 2, 2])], RCODE::NoError))
        })
        .await;
        let wrong = |got: &str, wanted| Err(FailureReason::wrong_answer(got, wanted));
        let cases = [
            (question(DnsType::A, "www.example.org", None), Ok(())),
            (question(DnsType::A, "www.example.org.", Some("192.0.2.2")), Ok(())),
            (
                question(DnsType::A, "www.example.org", Some("192.0.2.3")),
                wrong("192.0.2.1 192.0.2.2", "the record that is expected"),
            ),
            (question(DnsType::Aaaa, "www.example.org", None), wrong("no records", "a record of that type")),
        ];
        for (question, expected) in cases {
            assert_eq!(
                testing::ask(server, CheckKind::Dns(question.clone()), LONG).await,
                expected,
                "{question:?}"
            );
        }
        let missing = udp_server(|query| Some(reply(query, vec![], RCODE::NameError))).await;
        let result = testing::ask(missing, CheckKind::Dns(question(DnsType::A, "x", None)), LONG).await;
        assert_eq!(result, wrong("NameError", "an answer without error"));
    }

    #[tokio::test]
    async fn what_is_no_answer_is_not_heard() {
        type Answer = fn(&[u8]) -> Option<Vec<u8>>;
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
        let question = CheckKind::Dns(question(DnsType::A, "www.example.org", None));
        for (answer, expected) in cases {
            let result = testing::ask_unheard(udp_server(answer).await, &question).await;
            let Err(FailureReason::Protocol(problem)) = result else { panic!("{result:?}") };
            assert!(problem.contains(expected), "{problem}");
        }
        assert_eq!(
            testing::ask(closed_udp_port(), question.clone(), LONG).await,
            Err(FailureReason::Refused)
        );
        let mute = testing::ask(udp_server(|_| None).await, question, SHORT).await;
        assert_eq!(mute, Err(FailureReason::TimedOut { phase: Phase::Reply }));
    }

    #[tokio::test]
    async fn failures_that_all_have_over_tcp() {
        let question = DnsCheck { transport: Transport::Tcp, ..question(DnsType::A, "x.example", None) };
        let question = CheckKind::Dns(question);
        testing::common_failures(&question, Phase::Reply, true).await;
        let empty = scripted(vec![Script::send([0, 0])]).await;
        let result = testing::ask(empty, question, LONG).await;
        assert_eq!(result, Err(FailureReason::Protocol("a reply that is no DNS".to_owned())));
    }

    #[test]
    fn addresses_have_names() {
        let name = |text| asked_name(text, DnsType::Ptr).into_owned();
        assert_eq!(name("192.0.2.1"), "1.2.0.192.in-addr.arpa");
        let v6 = "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa";
        assert_eq!(name("4321:0:1:2:3:4:567:89ab"), v6, "the example in RFC 3596, 2.5");
        assert_eq!(name("1.2.0.192.in-addr.arpa."), "1.2.0.192.in-addr.arpa");
        assert_eq!(asked_name("192.0.2.1", DnsType::A), "192.0.2.1");
    }

    proptest! {
        /// Random bytes, and a real reply with some of its bytes changed.
        #[test]
        fn any_bytes_are_read(noise in proptest::collection::vec(any::<u8>(), 0..300), changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8)) {
            let question = question(DnsType::A, "www.example.org", None);
            read(&noise, &question, 7).map(drop).unwrap_or_default();
            let mut changed = reply(&query(&question, 7).unwrap(), vec![address([192, 0, 2, 1])], RCODE::NoError);
            for (at, byte) in changes {
                let at = at % changed.len();
                changed[at] = byte;
            }
            read(&changed, &question, 7).map(drop).unwrap_or_default();
        }
    }
}
