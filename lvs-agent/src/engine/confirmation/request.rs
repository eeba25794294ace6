//! Who is asked what to settle a suspicion.

use std::{net::SocketAddr, sync::Arc};

use lvs_common::ServerId;

use crate::{
    model::{Check, CheckKind, DestinationKey, Protocol},
    passive::Layer,
    probe::{Patience, ProbeTarget},
};

/// One question, and the destinations that the answer is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbeRequest {
    /// Who is asked.
    pub(crate) target: ProbeTarget,
    /// What.
    pub(crate) question: Arc<CheckKind>,
    /// How long an answer is waited for.
    pub(crate) patience: Patience,
    pub(crate) purpose: Purpose,
    pub(crate) destinations: Arc<[DestinationKey]>,
}

/// What the answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To settle a suspicion, or a hint.
    Suspicion {
        /// Of which server.
        server: ServerId,
        /// What is suspected of having failed.
        layer: Layer,
    },
    /// To notice that a server that the fast path alone has taken out answers again.
    Return,
    /// To let such a server in again: its whole check, in place of the regular one.
    WholeCheck,
    /// In place of a regular ping, which can't know that the server's UDP port is closed.
    RegularCheck,
}

/// Requests in the making: each question is asked once, for all destinations that want to know.
#[derive(Debug, Default)]
pub(super) struct Requests(Vec<(ProbeRequest, Vec<DestinationKey>)>);

impl Requests {
    /// Asks `target` for `destination`.
    pub(super) fn add(
        &mut self,
        (target, question): (ProbeTarget, CheckKind),
        patience: Patience,
        purpose: Purpose,
        destination: DestinationKey,
    ) {
        let same = |(one, _): &&mut (ProbeRequest, _)| one.target == target && *one.question == question;
        if let Some((request, destinations)) = self.0.iter_mut().find(same) {
            request.patience = request.patience.max(patience);
            destinations.push(destination);
        } else {
            let (question, destinations) = (question.into(), Arc::default());
            let request = ProbeRequest { target, question, patience, purpose, destinations };
            self.0.push((request, vec![destination]));
        }
    }

    /// All of them.
    pub(super) fn finish(self) -> Vec<ProbeRequest> {
        let complete = |(request, destinations): (ProbeRequest, Vec<_>)| ProbeRequest {
            destinations: destinations.into(),
            ..request
        };
        self.0.into_iter().map(complete).collect()
    }
}

/// The question that the signal has doubted, as far as `check` asks it too, and whom to ask; `None` where it doesn't.
///
/// Where clients come over TCP, a host is asked what [`CheckKind::confirming`] says; a connection only where there is a
/// port to connect to. Where they come by another protocol, what the check asks is all there is. An application is only
/// asked by a check of its own.
pub(super) fn question(
    layer: Layer,
    protocol: Protocol,
    server: SocketAddr,
    check: &Check,
) -> Option<(ProbeTarget, CheckKind)> {
    let own = &check.kind;
    let target = match own {
        // An agent's port says nothing about the port that clients come to.
        CheckKind::Agent(_) => ProbeTarget::by(server, check.via.directly()),
        _ => ProbeTarget::of_check(server, check),
    };
    let asked = match layer {
        Layer::Application => own.asks_application().then(|| own.clone()),
        Layer::Host if protocol != Protocol::Tcp || target.address.port() == 0 => Some(own.clone()),
        Layer::Host => Some(own.confirming()),
    };
    asked.map(|asked| (target, asked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        AgentCheck, CommandCheck, CommandConvention, DnsCheck, DnsType, GreetingCheck, GreetingProtocol,
        HttpCheck, Transport,
    };

    fn dns(transport: Transport) -> CheckKind {
        let name = "example.org".to_owned();
        CheckKind::Dns(DnsCheck { name, record: DnsType::A, transport, expect: None })
    }

    fn mail() -> CheckKind {
        let protocol = GreetingProtocol::Smtp;
        CheckKind::Greeting(GreetingCheck { protocol, tls: None, login: None, helo: None })
    }

    fn command() -> CheckKind {
        let argv = vec!["/bin/true".to_owned()];
        CheckKind::Command(CommandCheck { argv, convention: CommandConvention::default(), service: None })
    }

    #[test]
    fn what_is_doubted_is_asked_as_far_as_the_check_asks_it() {
        use CheckKind::{Connect, File, Off, On, Ping};
        use Layer::{Application, Host};
        use Protocol::{Sctp, Tcp, Udp};
        let page = || CheckKind::Http(HttpCheck::get("/"));
        let file = || File("/run/weight".into());
        let (udp, tcp) = (Transport::Udp, Transport::Tcp);
        let cases = [
            (Host, Tcp, Ping, Some(Ping)),
            (Host, Tcp, Connect, Some(Connect)),
            (Host, Tcp, page(), Some(Connect)),
            (Host, Tcp, mail(), Some(Connect)),
            (Host, Tcp, dns(tcp), Some(Connect)),
            (Host, Tcp, dns(udp), Some(dns(udp))),
            (Host, Tcp, command(), Some(Connect)),
            (Host, Tcp, file(), Some(Connect)),
            (Host, Tcp, On, Some(On)),
            (Host, Tcp, Off, Some(Off)),
            (Host, Udp, Ping, Some(Ping)),
            (Host, Udp, page(), Some(page())),
            (Host, Udp, dns(udp), Some(dns(udp))),
            (Host, Udp, command(), Some(command())),
            (Host, Sctp, Ping, Some(Ping)),
            (Application, Tcp, Ping, None),
            (Application, Tcp, Connect, None),
            (Application, Tcp, On, None),
            (Application, Tcp, Off, None),
            (Application, Tcp, file(), None),
            (Application, Tcp, page(), Some(page())),
            (Application, Tcp, mail(), Some(mail())),
            (Application, Tcp, command(), Some(command())),
            (Application, Udp, dns(udp), Some(dns(udp))),
        ];
        for (layer, protocol, question, expected) in cases {
            let check = Check { kind: question, ..Check::default() };
            let asked = super::question(layer, protocol, ([10, 0, 0, 1], 80).into(), &check);
            assert_eq!(asked.map(|(_, asked)| asked), expected, "{layer} {protocol} {:?}", check.kind);
        }
    }

    #[test]
    fn beside_an_agent_the_server_itself_is_asked_for_a_connection() {
        let kind = CheckKind::Agent(AgentCheck { send: Vec::new() });
        let check = Check { kind, port: Some(9000), ..Check::default() };
        let server = ([10, 0, 0, 1], 80).into();
        let asked = question(Layer::Host, Protocol::Tcp, server, &check);
        assert_eq!(asked, Some((ProbeTarget::at(server), CheckKind::Connect)));
        assert_eq!(question(Layer::Application, Protocol::Tcp, server, &check), None);
    }

    /// What the check asks elsewhere settles the suspicion: at its own address the server doesn't answer.
    #[test]
    fn a_check_of_another_address_is_asked_there() {
        let connect_to = "192.0.2.80".parse().ok();
        let check = Check { kind: CheckKind::Http(HttpCheck::get("/")), connect_to, ..Check::default() };
        let asked = |layer| question(layer, Protocol::Tcp, ([10, 0, 0, 1], 80).into(), &check);
        for layer in [Layer::Host, Layer::Application] {
            let target = asked(layer).expect("it is asked").0;
            assert_eq!(target, ProbeTarget::at(([192, 0, 2, 80], 80).into()), "{layer}");
        }
    }

    #[test]
    fn without_a_port_there_is_no_connection_to_ask_for() {
        for question in [command(), CheckKind::File("/run/weight".into()), CheckKind::Ping] {
            let check = Check { kind: question, ..Check::default() };
            let server = ([10, 0, 0, 1], 0).into();
            let asked = super::question(Layer::Host, Protocol::Tcp, server, &check);
            assert_eq!(asked.as_ref().map(|(_, question)| question), Some(&check.kind));
        }
    }
}
