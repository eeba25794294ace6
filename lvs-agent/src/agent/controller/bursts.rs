//! Confirming bursts: who is asked what when a server is suspected, and the tasks that ask.

use std::{net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use lvs_common::ServerId;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    model::{BurstSettings, Check, CheckKind, DestinationKey, Protocol, UdpCheck},
    passive::Layer,
    probe::{
        CheckId, Outcome, ProbeTarget, Prober,
        burst::{self, Burst, BurstProbe},
    },
};

/// One question that settles a suspicion, and the destinations that it settles it for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Who is asked.
    pub(crate) target: ProbeTarget,
    /// What.
    pub(crate) question: Arc<CheckKind>,
    /// How long each probe may take.
    pub(crate) timeout: Duration,
    /// What is suspected of having failed.
    pub(crate) layer: Layer,
    /// The destinations that the answer is about.
    pub(crate) destinations: Arc<[DestinationKey]>,
    /// Whether it is asked in place of a regular check, and about no suspicion.
    pub(crate) regular: bool,
}

impl Ask {
    /// Whether it asks if a UDP port is open, which `check` can't know.
    pub(crate) fn is_about_port(&self, check: &Check) -> bool {
        check.kind == CheckKind::Ping && matches!(*self.question, CheckKind::Udp(_))
    }
}

/// The question that the signal has doubted, as far as `check` asks it too, and whom to ask; `None` where it doesn't.
/// `closed` says that ICMP has called the port of the server unreachable.
///
/// Where clients come over TCP, a host is asked what [`CheckKind::confirming`] says; a connection only where there is a port
/// to connect to. Where they come by another protocol, what the check asks is all there is, but for a ping of a UDP server
/// whose port is `closed`: no ping knows of ports. An application is only asked by a check of its own.
pub(crate) fn question(
    layer: Layer,
    protocol: Protocol,
    server: SocketAddr,
    check: &Check,
    closed: bool,
) -> Option<(ProbeTarget, CheckKind)> {
    let (own, target) = (&check.kind, ProbeTarget::of_check(server, check));
    let asked = match layer {
        Layer::Application => own.asks_application().then(|| own.clone()),
        Layer::Host
            if closed && protocol == Protocol::Udp && *own == CheckKind::Ping && server.port() != 0 =>
        {
            return Some((ProbeTarget { address: server, ..target }, port_is_open()));
        }
        Layer::Host if protocol != Protocol::Tcp || target.address.port() == 0 => Some(own.clone()),
        Layer::Host => Some(own.confirming()),
    };
    asked.map(|asked| (target, asked))
}

/// An empty datagram that nobody need answer: only a closed port does, with ICMP.
///
/// A server may not expect one, so that it is only sent where ICMP has shown that nobody listens.
fn port_is_open() -> CheckKind {
    CheckKind::Udp(UdpCheck { send: Vec::new(), expect: None, reply: false })
}

/// What a burst reports.
#[derive(Debug)]
pub(crate) enum Report {
    /// One of its probes has ended.
    Probe {
        /// The server that was suspected.
        server: ServerId,
        /// What was asked.
        ask: Ask,
        /// Which probe for this suspicion, from 1.
        number: u32,
        /// What came of it.
        probe: BurstProbe,
    },
    /// It is over.
    Ended {
        /// The server that was suspected.
        server: ServerId,
        /// What was asked.
        ask: Ask,
        /// What the ping beside it has shown, if it came to anything.
        host: Option<Outcome>,
    },
}

/// The bursts for one layer of one server that are under way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Confirmation {
    /// How many bursts have not ended yet.
    pub(crate) running: u32,
    /// How many of their probes may still fail.
    pub(crate) in_flight: u32,
    /// How many probes were started in all.
    pub(crate) started: u32,
    /// A probe has succeeded.
    pub(crate) cleared: bool,
    /// A probe has failed.
    pub(crate) failed: bool,
    /// ICMP has called the server's port unreachable.
    pub(crate) closed: bool,
}

/// Starts bursts, each a task of its own, and ends them all when it is dropped.
pub(crate) struct Bursts {
    prober: Prober,
    settings: BurstSettings,
    reports: mpsc::Sender<Report>,
    tasks: JoinSet<()>,
}

impl Bursts {
    pub(crate) fn new(prober: Prober, settings: BurstSettings, reports: mpsc::Sender<Report>) -> Self {
        Self { prober, settings, reports, tasks: JoinSet::new() }
    }

    /// Asks `count` times, or until there is an answer; `before` probes were started for this suspicion already.
    pub(crate) fn start(&mut self, server: ServerId, ask: Ask, before: u32, count: NonZeroU32) {
        // Finished tasks are only kept until they are looked at.
        while self.tasks.try_join_next().is_some() {}
        let burst = Burst::new(
            CheckId(server.0),
            ask.target,
            ask.question.clone(),
            count,
            &self.settings,
            ask.timeout,
        );
        self.tasks.spawn(run(self.prober.clone(), burst, server, ask, before, self.reports.clone()));
    }
}

async fn run(
    prober: Prober,
    burst: Burst,
    server: ServerId,
    ask: Ask,
    before: u32,
    reports: mpsc::Sender<Report>,
) {
    // Room for all of them: the burst never waits for whoever reads.
    let (sender, mut ended) = mpsc::channel(burst.count.get() as usize);
    let asking = async {
        let verdict = burst::run(&prober, &burst, &sender).await;
        drop(sender);
        verdict
    };
    let forwarding = async {
        while let Some(probe) = ended.recv().await {
            let number = before + probe.index + 1;
            // Nobody listens any more only at shutdown.
            reports.send(Report::Probe { server, ask: ask.clone(), number, probe }).await.ok();
        }
    };
    let (verdict, ()) = tokio::join!(asking, forwarding);
    reports.send(Report::Ended { server, ask: ask.clone(), host: verdict.host }).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        CommandCheck, CommandConvention, DnsCheck, DnsType, GreetingCheck, GreetingProtocol, HttpCheck,
        Transport,
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
            let asked = |closed| {
                let asked = super::question(layer, protocol, ([10, 0, 0, 1], 80).into(), &check, closed)?;
                Some(asked.1)
            };
            assert_eq!(asked(false), expected, "{layer} {protocol} {:?}", check.kind);
            if (layer, protocol, &check.kind) != (Host, Udp, &Ping) {
                assert_eq!(asked(true), expected, "{layer} {protocol} {:?}, closed", check.kind);
            }
        }
    }

    #[test]
    fn a_ping_that_knows_of_no_port_gives_way_to_an_empty_datagram_where_icmp_says_that_the_port_is_closed() {
        let check = Check { kind: CheckKind::Ping, ..Check::default() };
        let ask = |port, closed| {
            let server = ([10, 0, 0, 1], port).into();
            question(Layer::Host, Protocol::Udp, server, &check, closed)
        };
        let target = |port| ProbeTarget { address: ([10, 0, 0, 1], port).into(), via: check.via };
        assert_eq!(ask(53, false), Some((target(0), CheckKind::Ping)));
        assert_eq!(ask(53, true), Some((target(53), port_is_open())));
        assert_eq!(ask(0, true), Some((target(0), CheckKind::Ping)), "no port to ask: a firewall mark");
    }

    #[test]
    fn without_a_port_there_is_no_connection_to_ask_for() {
        for question in [command(), CheckKind::File("/run/weight".into()), CheckKind::Ping] {
            let check = Check { kind: question, ..Check::default() };
            let server = ([10, 0, 0, 1], 0).into();
            let asked = super::question(Layer::Host, Protocol::Tcp, server, &check, false);
            assert_eq!(asked.as_ref().map(|(_, question)| question), Some(&check.kind));
        }
    }
}
