//! Clients against probes: whether the clients of a server fail for so long, and so differently from its siblings'
//! clients, that it is the server or its path. Whether its probes are well is not known here: the engine compares.
//! Pure: no I/O, and the time is an argument.
//!
//! A server complains of nothing while it answers anybody on a layer. From the first demand on that nobody's was
//! answered after, a *run* counts: attempts, client networks, and what the siblings have answered meanwhile. A run is a
//! complaint once it can be neither chance, nor a flood, nor one bad client network:
//!
//! - Siblings that suffer alike (a flood, an outage of the clients' networks) lower what is expected of this server.
//! - Where fewer than three client networks fail, siblings must answer those very networks.
//! - Where no sibling can tell, more is wanted: more networks, more time, and clients that try again, which the senders
//!   of forged SYNs don't.
//!
//! Of established connections also a share that fails is a complaint: packets above some size may be dropped, and
//! others not. There the flows that wait say which client networks fail.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the record of each server, and when its clients have something to say |
//! | `layer.rs` | a layer's run and its latest share of answers |
//! | `groups.rs` | which servers are siblings, and how their clients are spread |
//! | `complaint.rs` | what clients say, in types and in words |

mod complaint;
mod groups;
mod layer;
#[cfg(test)]
mod tests;

use std::time::Duration;

use lvs_common::{Flow, Networks, ServerCounters, ServerId, ServerState};

pub use self::{
    complaint::{ClientReport, ClientsSay, Comparison, Complaint, Missing},
    groups::{SiblingGroup, Spread},
};
use self::{
    groups::Group,
    layer::{Details, Exchange, LayerRecord, Look, Recent, Run, is_within, real, union},
};
use super::visibility::Visibility;
use crate::model::Protocol;

/// Less is a restart or a moment of overload. The detector's suspicions and the regular checks have settled a failure
/// of the server by then.
const LASTING: Duration = Duration::from_secs(10);
/// The same where few client networks fail: twice as long, so that no rhythm of clients and scheduler explains it.
const LASTING_FEW: Duration = Duration::from_secs(20);
/// The same of a share that fails: as long as the share is remembered for.
const LASTING_SHARE: Duration = Duration::from_secs(30);
/// The same where no sibling can tell.
const LASTING_ALONE: Duration = Duration::from_mins(1);
/// So many answers are expected of the server, and so many of its siblings have come: that none comes by chance has a
/// probability of e^-20.
const ENOUGH: f64 = 20.0;
/// So many attempts where no sibling can tell.
const ENOUGH_ALONE: u64 = 50;
/// Fewer client networks may all be behind one broken path, as for the detector.
const NETWORKS: u32 = 3;
/// The same where no sibling can tell.
const NETWORKS_ALONE: u32 = 4;
/// Clients whose SYNs get no answer send each of them again after a second or three (RFC 6298; five times on Linux), a
/// flood of forged SYNs none. At least so many of a hundred first ones.
const AGAIN_PERCENT: u64 = 25;
/// The share of the siblings' answers that a server lacks, to be a complaint.
const LACKS: f64 = 0.3;
/// Siblings that answer less than this prove nothing of a client network.
const WELL: f64 = 0.9;
/// A request that is unanswered for so long will not be answered in time by most applications.
const OVERDUE_NS: u64 = 3_000_000_000;
/// After so many answers clients are served again, …
const SERVED: u64 = 5;
/// … which are at least this share of what the siblings' share lets expect.
const SERVED_SHARE: f64 = 0.8;
/// How often a complaint that goes on is said again, with its new numbers.
const REPEAT_NS: u64 = 10_000_000_000;
/// How often a record is judged.
const JUDGE_NS: u64 = 1_000_000_000;
/// For how long a network is remembered as one that has asked a server, twice.
const ASKED_NS: u64 = 10_000_000_000;
/// How many siblings are compared with at most.
const COMPARED: usize = 32;

/// What is known of one server's clients.
#[derive(Clone, Debug)]
struct Record {
    visibility: Visibility,
    protocol: Protocol,
    /// Its groups, by index.
    groups: Vec<usize>,
    last: Option<Totals>,
    listener: LayerRecord,
    application: LayerRecord,
    /// The networks that were seen to ask it of late: in this span of time, and in the one before.
    asked: [Networks; 2],
    asked_from_ns: u64,
    judged_ns: u64,
    /// Since when a share of requests has failed, and what was exchanged since.
    lacking: Option<Lacking>,
    told: Told,
}

/// What was counted when a record was looked at last.
#[derive(Clone, Copy, Debug)]
struct Totals {
    at_ns: u64,
    packets_in: u64,
    syns: u64,
    again: u64,
    syn_acks: u64,
    refused: u64,
    handshakes: u64,
    /// Handshakes or datagrams whose answer took a known time.
    timed: u64,
    requests: u64,
    responses: u64,
    /// The last proof of life of the listening socket.
    alive_ns: u64,
}

/// A share of requests fails.
#[derive(Clone, Copy, Debug)]
struct Lacking {
    since_ns: u64,
    exchange: Exchange,
    /// The networks of flows whose requests are overdue.
    networks: Networks,
}

/// What was said of a server's clients last.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Nothing,
    Failing {
        at_ns: u64,
        missing: Missing,
        /// What was exchanged since the first answer after it.
        recovery: Exchange,
    },
    /// That they are served again, and nobody heard it.
    Recovered,
}

/// Watches the clients of all servers.
#[derive(Clone, Debug, Default)]
pub struct ClientWatch {
    /// Ids are small numbers that are reused, so that each is an index.
    records: Vec<Option<Record>>,
    groups: Vec<Group>,
}

impl ClientWatch {
    /// Sets which servers there are and which are siblings. Servers that stay keep what is known of their clients, but
    /// runs begin anew.
    pub fn set_groups(&mut self, groups: &[SiblingGroup]) {
        let mut old = std::mem::take(&mut self.records);
        self.groups = groups
            .iter()
            .map(|group| Group {
                spread: group.spread,
                members: group.ids(),
                listener: Exchange::default(),
                application: Exchange::default(),
            })
            .collect();
        for (index, group) in groups.iter().enumerate() {
            for (id, visibility) in &group.members {
                let slot = id.0 as usize;
                if self.records.len() <= slot {
                    self.records.resize(slot + 1, None);
                }
                let mut kept = || old.get_mut(slot).and_then(Option::take);
                let record = self.records[slot].get_or_insert_with(|| {
                    kept().map_or_else(|| Record::new(*visibility, group.protocol), Record::without_groups)
                });
                record.groups.push(index);
            }
        }
    }

    /// Forgets what is known of a server: its id is another's from now on.
    pub fn forget(&mut self, id: ServerId) {
        if let Some(record) = self.record_mut(id) {
            let groups = std::mem::take(&mut record.groups);
            *record = Record { groups, ..Record::new(record.visibility, record.protocol) };
        }
    }

    /// A server has gone down or come up: what its clients got before says nothing about what is to come.
    pub fn restart(&mut self, id: ServerId) {
        if let Some(record) = self.record_mut(id) {
            record.restart();
            record.told = Told::Nothing;
        }
    }

    /// What was said of a server was not heard: it is said again.
    pub fn unheard(&mut self, report: &ClientReport) {
        let Some(record) = self.record_mut(report.id) else { return };
        match (&report.say, &mut record.told) {
            (ClientsSay::Served, told) => *told = Told::Recovered,
            (ClientsSay::Failing(_), Told::Failing { at_ns, .. }) => *at_ns = 0,
            (ClientsSay::Failing(_), _) => {}
        }
    }

    /// Takes in a server's counters, summed over CPUs, and its signs of life; says what its clients say, if that is
    /// new. Call it about ten times a second. `flows` gives its sampled flows; it is called only where a share of its
    /// requests fails.
    pub fn learn<F: Iterator<Item = Flow>>(
        &mut self,
        id: ServerId,
        counters: &ServerCounters,
        state: &ServerState,
        flows: impl FnOnce() -> F,
        now_ns: u64,
    ) -> Option<ClientReport> {
        let record = self.records.get_mut(id.0 as usize)?.as_mut()?;
        let (listener, application) = record.looks(counters, state, now_ns)?;
        let (groups, indices) = (&mut self.groups, &record.groups);
        for index in indices {
            if let Some(group) = groups.get_mut(*index) {
                group.listener.add(listener.exchange);
                group.application.add(application.exchange);
            }
        }
        let marks = |of: fn(&Group) -> Exchange, own: Exchange| {
            // What the run begins with is counted in the groups already.
            let mark = |index: &usize| {
                groups.get(*index).map(of).unwrap_or_default().since(Exchange::default(), own)
            };
            indices.iter().map(mark).collect::<Vec<_>>()
        };
        record.listener.note(&listener, || marks(|group| group.listener, listener.exchange));
        record.application.note(&application, || marks(|group| group.application, application.exchange));
        record.note_asked(state, now_ns);
        record.note_recovery(&listener, &application);
        if now_ns.saturating_sub(record.judged_ns) < JUDGE_NS {
            return None;
        }
        record.judged_ns = now_ns;
        self.judge(id, flows, now_ns).map(|say| ClientReport { id, say })
    }

    fn judge<F: Iterator<Item = Flow>>(
        &mut self,
        id: ServerId,
        flows: impl FnOnce() -> F,
        now_ns: u64,
    ) -> Option<ClientsSay> {
        self.follow_share(id, flows, now_ns);
        let record = self.record(id)?;
        let complaint = self
            .listener_complaint(id, record, now_ns)
            .or_else(|| self.silence_complaint(id, record, now_ns))
            .or_else(|| self.share_complaint(id, record, now_ns));
        let is_served = complaint.is_none() && self.is_served(id, record);
        let record = self.record_mut(id)?;
        if let Some(complaint) = complaint {
            let is_new = match record.told {
                Told::Nothing | Told::Recovered => true,
                Told::Failing { at_ns, missing, .. } => {
                    missing != complaint.missing || now_ns.saturating_sub(at_ns) >= REPEAT_NS
                }
            };
            if is_new {
                let recovery = Exchange::default();
                record.told = Told::Failing { at_ns: now_ns, missing: complaint.missing, recovery };
            }
            return is_new.then_some(ClientsSay::Failing(complaint));
        }
        is_served.then(|| {
            record.told = Told::Nothing;
            ClientsSay::Served
        })
    }

    /// SYNs or datagrams that nobody got an answer to.
    fn listener_complaint(&self, id: ServerId, record: &Record, now_ns: u64) -> Option<Complaint> {
        let run = record.listener.run.as_ref()?;
        let (siblings, is_lasting) = self.compare(id, record, run, |group| group.listener, now_ns)?;
        let is_tcp = record.protocol == Protocol::Tcp;
        let missing = record.missing_at_listener(run);
        let speaks_alone = || match missing {
            // What answers no SYN at all is no living server under a flood.
            Missing::SynAck | Missing::Acceptance => true,
            _ if is_tcp => run.details.again * 100 >= run.attempts * AGAIN_PERCENT,
            // Some services never answer.
            _ => real(record.listener.answers) >= ENOUGH,
        };
        let can_tell = matches!(siblings, Comparison::Answer(_)) || speaks_alone();
        (is_lasting && can_tell).then(|| complaint(run, missing, siblings, now_ns))
    }

    /// Requests that nobody got a response to.
    fn silence_complaint(&self, id: ServerId, record: &Record, now_ns: u64) -> Option<Complaint> {
        let run = record.application.run.as_ref()?;
        let (siblings, is_lasting) = self.compare(id, record, run, |group| group.application, now_ns)?;
        // Some protocols never answer.
        let can_tell =
            matches!(siblings, Comparison::Answer(_)) || real(record.application.answers) >= ENOUGH;
        (is_lasting && can_tell).then(|| complaint(run, Missing::Response, siblings, now_ns))
    }

    /// What the siblings show since a run began, and whether it has lasted and is broad enough for that. `None`: there
    /// is too little of it.
    fn compare(
        &self,
        id: ServerId,
        record: &Record,
        run: &Run,
        of: fn(&Group) -> Exchange,
        now_ns: u64,
    ) -> Option<(Comparison, bool)> {
        let lasted = Duration::from_nanos(now_ns.saturating_sub(run.since_ns));
        if lasted < LASTING || real(run.attempts) < ENOUGH {
            return None;
        }
        let with_marks = || record.groups.iter().zip(&run.marks);
        let others = with_marks().filter_map(|(index, mark)| {
            let group = self.groups.get(*index)?;
            Some((group, of(group).since(*mark, run.own)))
        });
        let best = others.max_by(|(_, one), (_, other)| one.share().total_cmp(&other.share()));
        let networks = run.networks.count();
        if let Some((group, siblings)) = best {
            let expected = real(run.attempts) * siblings.share();
            if real(siblings.answers) >= ENOUGH && expected >= ENOUGH {
                let is_lasting = if networks >= NETWORKS {
                    true
                } else {
                    lasted >= LASTING_FEW && self.is_witnessed(id, group, run.networks, siblings.share())
                };
                return Some((Comparison::Answer(siblings.share()), is_lasting));
            }
        }
        let had_clients = best.is_some_and(|(_, siblings)| real(siblings.demands) >= ENOUGH);
        let comparison = if had_clients { Comparison::Alike } else { Comparison::Alone };
        let is_lasting =
            lasted >= LASTING_ALONE && run.attempts >= ENOUGH_ALONE && networks >= NETWORKS_ALONE;
        Some((comparison, is_lasting))
    }

    /// Whether siblings, which answer this share, answer these very networks.
    fn is_witnessed(&self, id: ServerId, group: &Group, networks: Networks, share: f64) -> bool {
        if share < WELL || group.spread == Spread::Pinned || networks == Networks::NONE {
            return false;
        }
        let siblings = group.members.iter().filter(|&&one| one != id).filter_map(|one| self.record(*one));
        let well = siblings.filter(|one| one.listener.run.is_none());
        let asked = well.take(COMPARED).fold(Networks::NONE, |all, one| {
            let [now, before] = one.asked;
            union(all, union(now, before))
        });
        is_within(networks, asked)
    }

    /// The share of the siblings' requests that is answered lately; `None`: too few to tell.
    fn siblings_recent(&self, id: ServerId, record: &Record) -> Option<(usize, Recent)> {
        let of = |index: &usize| {
            let members = &self.groups.get(*index)?.members;
            let siblings = members.iter().filter(|&&one| one != id).take(COMPARED);
            let recents = siblings.filter_map(|one| Some(self.record(*one)?.application.recent));
            Some((*index, recents.fold(Recent::default(), Recent::plus)))
        };
        let recents = record.groups.iter().filter_map(of).filter(|(_, recent)| recent.answers >= ENOUGH);
        recents.max_by(|(_, one), (_, other)| one.share().total_cmp(&other.share()))
    }

    /// Follows for how long a share of a server's requests has failed that its siblings' don't.
    fn follow_share<F: Iterator<Item = Flow>>(
        &mut self,
        id: ServerId,
        flows: impl FnOnce() -> F,
        now_ns: u64,
    ) -> Option<()> {
        let record = self.record(id)?;
        let own = record.application.recent;
        let lacks = self.siblings_recent(id, record).is_some_and(|(_, siblings)| {
            let expected = own.demands * siblings.share();
            let lacking = expected - own.answers;
            // Forgotten exponentially, half as many as elsewhere are left.
            lacking >= LACKS * expected && lacking >= ENOUGH / 2.0
        });
        let record = self.record_mut(id)?;
        if !lacks {
            record.lacking = None;
            return None;
        }
        let new = Lacking { since_ns: now_ns, exchange: Exchange::default(), networks: Networks::NONE };
        let lacking = record.lacking.get_or_insert(new);
        for flow in flows() {
            if flow.request_ns != 0 && now_ns.saturating_sub(flow.request_ns) >= OVERDUE_NS {
                lacking.networks.add(flow.network);
            }
        }
        Some(())
    }

    /// A share of the requests that fails for long.
    fn share_complaint(&self, id: ServerId, record: &Record, now_ns: u64) -> Option<Complaint> {
        let Lacking { since_ns, exchange, networks } = record.lacking?;
        let lasted = Duration::from_nanos(now_ns.saturating_sub(since_ns));
        let (index, siblings) = self.siblings_recent(id, record)?;
        let group = self.groups.get(index)?;
        let is_broad =
            networks.count() >= NETWORKS || self.is_witnessed(id, group, networks, siblings.share());
        (lasted >= LASTING_SHARE && is_broad && real(exchange.demands) >= ENOUGH).then(|| Complaint {
            missing: Missing::Response,
            attempts: exchange.demands,
            answered: exchange.answers,
            networks: networks.count(),
            lasted,
            siblings: Comparison::Answer(siblings.share()),
        })
    }

    /// Whether clients that have failed are served again.
    fn is_served(&self, id: ServerId, record: &Record) -> bool {
        let (recovery, missing) = match record.told {
            Told::Failing { recovery, missing, .. } => (recovery, missing),
            Told::Nothing => return false,
            Told::Recovered => return true,
        };
        let layer = if missing == Missing::Response { &record.application } else { &record.listener };
        layer.run.is_none()
            && record.lacking.is_none()
            && recovery.answers >= SERVED
            && recovery.share() >= SERVED_SHARE * self.usual_share(id, record, missing)
    }

    /// The share that siblings answer, 1 where there is none to compare with.
    fn usual_share(&self, id: ServerId, record: &Record, missing: Missing) -> f64 {
        let of = |record: &Record| {
            if missing == Missing::Response { record.application.recent } else { record.listener.recent }
        };
        let groups = record.groups.iter().filter_map(|index| self.groups.get(*index));
        let siblings = groups.flat_map(|group| group.members.iter().take(COMPARED)).filter(|&&one| one != id);
        let recents = siblings.filter_map(|one| self.record(*one)).map(of);
        let recent = recents.fold(Recent::default(), Recent::plus);
        if recent.answers >= ENOUGH { recent.share() } else { 1.0 }
    }

    fn record(&self, id: ServerId) -> Option<&Record> {
        self.records.get(id.0 as usize)?.as_ref()
    }

    fn record_mut(&mut self, id: ServerId) -> Option<&mut Record> {
        self.records.get_mut(id.0 as usize)?.as_mut()
    }
}

fn complaint(run: &Run, missing: Missing, siblings: Comparison, now_ns: u64) -> Complaint {
    Complaint {
        missing,
        attempts: run.attempts,
        answered: 0,
        networks: run.networks.count(),
        lasted: Duration::from_nanos(now_ns.saturating_sub(run.since_ns)),
        siblings,
    }
}

impl Record {
    fn new(visibility: Visibility, protocol: Protocol) -> Self {
        Self {
            visibility,
            protocol,
            groups: Vec::new(),
            last: None,
            listener: LayerRecord::default(),
            application: LayerRecord::default(),
            asked: [Networks::NONE; 2],
            asked_from_ns: 0,
            judged_ns: 0,
            lacking: None,
            told: Told::Nothing,
        }
    }

    /// The same in other groups.
    fn without_groups(mut self) -> Self {
        self.groups.clear();
        self.restart();
        self
    }

    fn restart(&mut self) {
        self.listener.restart();
        self.application.restart();
        self.lacking = None;
    }

    /// What was exchanged since the last time, on both layers; `None` the first time.
    fn looks(&mut self, counters: &ServerCounters, state: &ServerState, now_ns: u64) -> Option<(Look, Look)> {
        let now = Totals::of(counters, state, now_ns);
        let last = self.last.replace(now)?;
        let more = |of: fn(&Totals) -> u64| of(&now).saturating_sub(of(&last));
        let is_tcp = self.protocol == Protocol::Tcp;
        let exchange = if is_tcp {
            Exchange { demands: more(|totals| totals.syns), answers: more(|totals| totals.handshakes) }
        } else {
            // The answer to a client that has asked twice has no known time.
            let answers = more(|totals| totals.timed).max(u64::from(now.alive_ns > last.alive_ns));
            Exchange { demands: more(|totals| totals.packets_in), answers }
        };
        let details = Details {
            again: more(|totals| totals.again),
            syn_acks: more(|totals| totals.syn_acks),
            refused: more(|totals| totals.refused),
        };
        let listener = Look {
            exchange,
            // The agent's own probes are among the datagrams.
            waiting: (!is_tcp).then(|| state.listener.attempts.into()),
            details,
            networks: state.listener.networks,
            now_ns,
            elapsed_ns: more(|totals| totals.at_ns),
        };
        let application = Look {
            exchange: Exchange {
                demands: more(|totals| totals.requests),
                answers: more(|totals| totals.responses),
            },
            waiting: None,
            details: Details::default(),
            networks: state.application.networks,
            ..listener
        };
        Some((listener, application))
    }

    /// The networks that ask now are remembered for a while.
    fn note_asked(&mut self, state: &ServerState, now_ns: u64) {
        if now_ns.saturating_sub(self.asked_from_ns) >= ASKED_NS {
            self.asked = [Networks::NONE, self.asked[0]];
            self.asked_from_ns = now_ns;
        }
        let asks = union(state.listener.networks, state.application.networks);
        self.asked[0] = union(self.asked[0], asks);
    }

    /// What was exchanged since the first answer after a complaint. A new run begins it anew.
    fn note_recovery(&mut self, listener: &Look, application: &Look) {
        if let Some(lacking) = &mut self.lacking {
            lacking.exchange.add(application.exchange);
        }
        let Told::Failing { recovery, missing, .. } = &mut self.told else { return };
        let (look, layer) = if *missing == Missing::Response {
            (application, &self.application)
        } else {
            (listener, &self.listener)
        };
        let is_silent = layer
            .run
            .as_ref()
            .is_some_and(|run| Duration::from_nanos(look.now_ns.saturating_sub(run.since_ns)) >= LASTING / 2);
        if is_silent {
            *recovery = Exchange::default();
        } else if look.exchange.answers > 0 || *recovery != Exchange::default() {
            recovery.add(look.exchange);
        }
    }

    /// What clients lack who get no handshake.
    fn missing_at_listener(&self, run: &Run) -> Missing {
        let Details { syn_acks, refused, .. } = run.details;
        match (self.protocol, self.visibility) {
            (Protocol::Tcp, Visibility::Both) if syn_acks * 2 >= run.attempts => Missing::Handshake,
            (Protocol::Tcp, Visibility::Both) if refused * 2 >= run.attempts => Missing::Acceptance,
            (Protocol::Tcp, Visibility::Both) => Missing::SynAck,
            (Protocol::Tcp, _) => Missing::Handshake,
            _ => Missing::Datagram,
        }
    }
}

impl Totals {
    fn of(counters: &ServerCounters, state: &ServerState, at_ns: u64) -> Self {
        Self {
            at_ns,
            packets_in: counters.packets_in,
            syns: counters.syn,
            again: counters.syn_again,
            syn_acks: counters.syn_ack,
            refused: counters.refused,
            handshakes: counters.handshakes,
            timed: counters.handshake.total(),
            requests: counters.requests,
            responses: counters.responses,
            alive_ns: state.listener.progress_ns,
        }
    }
}
