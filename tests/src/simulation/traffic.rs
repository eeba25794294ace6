//! What clients and servers do.

use std::time::Duration;

use lvs_agent::passive::Visibility;

use super::{
    Arrivals, Disturbance, Fault,
    clients::Client,
    simulator::{Connection, Event, Exchange, Simulator},
};

const SECOND: u64 = 1_000_000_000;
/// Between director and servers, there and back, a SYN's answer included.
const LAN: Duration = Duration::from_micros(300);
/// How much that scatters: the logarithm's standard deviation.
const LAN_SIGMA: f64 = 0.4;
/// The same for the way to the clients.
const WAN_SIGMA: f64 = 0.1;
/// Linux's shortest time to a retransmission of data (`TCP_RTO_MIN`), in ns.
const RTO: u64 = SECOND / 5;
/// How often a client sends a SYN.
const TRIES: u8 = 4;
/// A listening socket's backlog.
const BACKLOG: u32 = 128;
/// How much more often clients come within a burst, and how much of the time is burst.
const BURST: (f64, f64) = (9.9, 0.1);

impl Simulator {
    pub(super) fn begin(&mut self) {
        self.after(0, Event::Connect(0));
        if matches!(self.scenario.arrivals, Arrivals::Bursts(_)) {
            self.after(0, Event::Burst);
        }
        if matches!(self.scenario.disturbance, Disturbance::Flood { .. } | Disturbance::Loss { .. }) {
            self.disturbed = true;
            self.after(0, Event::Turn);
        }
        let (flows, rate) = self.scenario.long_flows;
        for server in 0..self.servers.len() {
            for _ in 0..flows {
                let (client, rtt) = (self.client(), self.distance());
                let (tag, network) = (client.tag(), client.network());
                let now = self.now;
                self.servers[server].kernel.sample(tag, network, now);
                let server = u16::try_from(server).unwrap_or(0);
                let delay = self.exponential(rate);
                self.after(delay, Event::Request(Exchange { tag, rtt, server, network, long: true }));
            }
        }
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Connect(rates) if rates == self.rates => self.connect(),
            Event::Connect(_) => {}
            Event::Flood => self.flood(),
            Event::FloodAnswer(server, network, since) => {
                let now = self.now;
                let server = &mut self.servers[usize::from(server)];
                server.kernel.accepted(network, Some(since), now);
                server.kernel.replied(now);
            }
            Event::Turn => self.turn(),
            Event::Burst => self.burst(),
            Event::SynAgain(connection) => self.syn(connection),
            Event::SynAck(connection) => self.syn_ack(connection),
            Event::Refusal(connection) => {
                let now = self.now;
                if self.servers[usize::from(connection.server)].kernel.refused(now) {
                    self.edges.push(connection.server);
                }
            }
            Event::Established(connection) => self.established(connection),
            Event::Request(exchange) => self.request(exchange),
            Event::Response(exchange) => self.response(exchange),
            Event::RequestAgain(exchange, timeout) => self.request_again(exchange, timeout),
        }
    }

    /// The rate of new connections now.
    fn rate(&self) -> f64 {
        let rate = self.scenario.rate;
        match self.scenario.arrivals {
            Arrivals::Poisson | Arrivals::Regular => rate,
            Arrivals::Bursts(_) if self.in_burst => rate * BURST.0,
            Arrivals::Bursts(_) => rate * (1.0 - BURST.0 * BURST.1) / (1.0 - BURST.1),
            Arrivals::Diurnal(day) => {
                #[expect(clippy::cast_precision_loss, reason = "a time of day")]
                let phase = self.now as f64 / 1e9 / day.as_secs_f64();
                rate * (1.0 + 0.9 * (std::f64::consts::TAU * phase).sin())
            }
        }
    }

    fn burst(&mut self) {
        let Arrivals::Bursts(length) = self.scenario.arrivals else { return };
        self.in_burst = !self.in_burst;
        let mean = length.as_secs_f64() * if self.in_burst { 1.0 } else { 1.0 / BURST.1 - 1.0 };
        let delay = self.exponential(1.0 / mean);
        self.after(delay, Event::Burst);
        self.rates += 1;
        let delay = self.exponential(self.rate());
        self.after(delay, Event::Connect(self.rates));
    }

    fn turn(&mut self) {
        let (Disturbance::Flood { lasts, pause, .. } | Disturbance::Loss { lasts, pause, .. }) =
            self.scenario.disturbance
        else {
            return;
        };
        self.disturbed = !self.disturbed;
        let length = if self.disturbed { lasts } else { pause };
        let delay = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        self.after(delay, Event::Turn);
        if self.disturbed && matches!(self.scenario.disturbance, Disturbance::Flood { .. }) {
            self.after(0, Event::Flood);
        }
    }

    /// The share of packets that are lost on the clients' side.
    fn client_loss(&self) -> f64 {
        match self.scenario.disturbance {
            Disturbance::Loss { share, .. } if self.disturbed => share,
            _ => self.scenario.client_loss,
        }
    }

    /// Who connects next.
    fn client(&mut self) -> Client {
        let disturbance = self.scenario.disturbance;
        let network = match disturbance {
            Disturbance::BadNetwork(share) if self.happens(share) => 0,
            _ => self.rng.u32(1..=self.scenario.networks),
        };
        self.clients.connect(&mut self.rng, network, self.scenario.addresses)
    }

    fn distance(&mut self) -> u64 {
        let mut left = self.rng.f64();
        let distances = &self.scenario.distances;
        let reaches = |(share, _): &&(f64, Duration)| {
            left -= share;
            left < 0.0
        };
        let median = distances.iter().find(reaches).or(distances.last()).map_or(LAN, |(_, rtt)| *rtt);
        self.about(median, WAN_SIGMA)
    }

    fn next_server(&mut self) -> u16 {
        let count = self.servers.len();
        self.next_server =
            if self.scenario.round_robin { (self.next_server + 1) % count } else { self.rng.usize(..count) };
        u16::try_from(self.next_server).unwrap_or(0)
    }

    fn connect(&mut self) {
        let rate = self.rate();
        let delay = match self.scenario.arrivals {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive")]
            Arrivals::Regular => (1e9 / rate) as u64,
            _ => self.exponential(rate),
        };
        self.after(delay, Event::Connect(self.rates));
        let client = self.client();
        let connection = Connection {
            tag: client.tag(),
            since: self.now,
            rtt: self.distance(),
            server: self.next_server(),
            network: client.network(),
            tries: 0,
            answered: false,
        };
        self.syn(connection);
    }

    fn flood(&mut self) {
        let Disturbance::Flood { rate, .. } = self.scenario.disturbance else { return };
        if !self.disturbed {
            return;
        }
        let (now, server, network, tag) = (self.now, self.next_server(), self.rng.u32(..), self.rng.u64(..));
        let target = &mut self.servers[usize::from(server)];
        target.kernel.syn(network, tag, false, now);
        if self.scenario.visibility == Visibility::Both && !target.is_dead(now) {
            let delay = self.about(LAN, LAN_SIGMA);
            self.after(delay, Event::FloodAnswer(server, network, now));
        }
        let delay = self.exponential(rate);
        self.after(delay, Event::Flood);
    }

    /// A SYN passes the director.
    fn syn(&mut self, connection: Connection) {
        let now = self.now;
        let connection = Connection { tries: connection.tries + 1, ..connection };
        let server = &mut self.servers[usize::from(connection.server)];
        server.kernel.syn(connection.network, connection.tag, connection.tries > 1, now);
        let refuses = server.has(Fault::Killed, now);
        let full = server.has(Fault::Overloaded, now) || server.backlog >= BACKLOG;
        let bad = matches!(self.scenario.disturbance, Disturbance::BadNetwork(_)) && connection.network == 0;
        let lan = self.about(LAN, LAN_SIGMA);
        if refuses {
            if self.scenario.visibility == Visibility::Both {
                self.after(lan, Event::Refusal(connection));
            }
            return;
        }
        let lost = {
            let server_loss = self.scenario.server_loss;
            self.happens(server_loss)
        };
        if !lost && !full && !self.servers[usize::from(connection.server)].is_dead(now) {
            let client_loss = self.client_loss();
            let comes_back = !bad && !self.happens(client_loss) && !self.happens(client_loss);
            match self.scenario.visibility {
                Visibility::Both => self.after(lan, Event::SynAck(connection)),
                Visibility::ClientOnly if comes_back => {
                    self.after(lan + connection.rtt, Event::Established(connection));
                }
                Visibility::ClientOnly | Visibility::CountersOnly(_) => {}
            }
            if comes_back && self.scenario.visibility == Visibility::Both {
                let answered = Connection { answered: true, ..connection };
                self.after(lan + connection.rtt, Event::Established(answered));
            }
            if comes_back {
                return;
            }
        }
        if connection.tries < TRIES {
            let answered = connection.answered;
            let delay = SECOND << (connection.tries - 1).min(2);
            self.after(delay, Event::SynAgain(Connection { answered, ..connection }));
        }
    }

    fn syn_ack(&mut self, connection: Connection) {
        let now = self.now;
        let server = &mut self.servers[usize::from(connection.server)];
        let since = (connection.tries == 1).then_some(connection.since);
        server.kernel.accepted(connection.network, since, now);
        server.kernel.replied(now);
    }

    fn established(&mut self, connection: Connection) {
        let now = self.now;
        let server = &mut self.servers[usize::from(connection.server)];
        if !connection.answered {
            let since = (connection.tries == 1).then_some(connection.since);
            server.kernel.accepted(connection.network, since, now);
        }
        server.kernel.counters.handshakes += 1;
        if server.has(Fault::Hung, now) {
            server.backlog += 1;
        }
        // The others are not sampled: nothing that they do changes anything.
        if server.kernel.sample(connection.tag, connection.network, now) {
            let Connection { tag, rtt, server, network, .. } = connection;
            self.request(Exchange { tag, rtt, server, network, long: false });
        }
    }

    fn request(&mut self, exchange: Exchange) {
        let now = self.now;
        let server = &mut self.servers[usize::from(exchange.server)];
        if exchange.long {
            // A long-lived flow that was idle for too long may have lost its slot, and takes it again.
            server.kernel.sample(exchange.tag, exchange.network, now);
        }
        server.kernel.request(exchange.tag, now);
        if server.is_dead(now) {
            let reset = server.has(Fault::Killed, now);
            if !reset {
                let timeout = RTO + exchange.rtt;
                self.after(timeout, Event::RequestAgain(exchange, 2 * timeout));
            }
            return;
        }
        let hung = server.has(Fault::Hung, now);
        let slow = server.has(Fault::Slow, now);
        if self.scenario.visibility == Visibility::Both {
            self.servers[usize::from(exchange.server)].kernel.replied(now);
        }
        if hung {
            return;
        }
        let serving = self.scenario.serving;
        let long_poll = self.happens(serving.long_polls);
        let median = if long_poll { Duration::from_secs(25) } else { serving.median };
        let mut took = self.about(median, serving.sigma);
        if slow {
            took += SECOND / 2;
        }
        let loss = self.client_loss();
        if self.happens(loss) {
            took += RTO + 2 * exchange.rtt;
        }
        if self.happens(loss) && took > RTO {
            let timeout = RTO + exchange.rtt;
            self.after(timeout, Event::RequestAgain(exchange, 2 * timeout));
        }
        self.after(took + exchange.rtt, Event::Response(exchange));
    }

    fn response(&mut self, exchange: Exchange) {
        let now = self.now;
        let server = &mut self.servers[usize::from(exchange.server)];
        // A server that has died, or hung, meanwhile did not send it.
        let stopped = [Fault::Silent, Fault::Killed, Fault::Hung].iter().any(|&fault| {
            server.fault.is_some_and(|(kind, at)| kind == fault && now.saturating_sub(exchange.rtt) >= at)
        });
        if stopped {
            if server.has(Fault::Silent, now) {
                self.after(RTO, Event::RequestAgain(exchange, 2 * RTO));
            } else if server.has(Fault::Killed, now) && self.scenario.visibility == Visibility::Both {
                server.kernel.close(exchange.tag);
            }
            return;
        }
        server.kernel.response(exchange.tag, now);
        if exchange.long {
            let (_, rate) = self.scenario.long_flows;
            let delay = self.exponential(rate);
            self.after(delay, Event::Request(exchange));
        } else {
            server.kernel.close(exchange.tag);
        }
    }

    fn request_again(&mut self, exchange: Exchange, timeout: u64) {
        let now = self.now;
        let server = &mut self.servers[usize::from(exchange.server)];
        if !server.kernel.sent_again(exchange.tag, now) {
            return;
        }
        if server.is_dead(now) {
            self.after(timeout, Event::RequestAgain(exchange, 2 * timeout));
        } else if self.scenario.visibility == Visibility::Both {
            server.kernel.replied(now);
        }
    }
}
