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
//! | `mod.rs` | when the clients of a server have something to say |
//! | `record.rs` | what is known of one server's clients, from one look to the next |
//! | `layer.rs` | a layer's run and its latest share of answers |
//! | `witnesses.rs` | whether siblings have answered the client networks that fail at a server |
//! | `groups.rs` | which servers are siblings, and how their clients are spread |
//! | `complaint.rs` | what clients say, in types and in words |

mod complaint;
mod groups;
mod layer;
mod record;
#[cfg(test)]
mod tests;
mod witnesses;

use std::time::Duration;

use lvs_common::{Flow, ServerCounters, ServerId, ServerState, Sketch};

pub use self::{
    complaint::{ClientReport, ClientsSay, Comparison, Complaint, Missing},
    groups::{SiblingGroup, Spread},
};
use self::{
    groups::Group,
    layer::{Exchange, Recent, Run, real},
    record::{Lacking, Record, Told},
    witnesses::{Witnesses, answered_after},
};
use crate::{
    model::Protocol,
    passive::{
        detector::{Layer, Readings},
        visibility::Visibility,
    },
};

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
    /// requests fails. `readings` are asked only where clients have failed for long.
    pub fn learn<F: Iterator<Item = Flow>>(
        &mut self,
        id: ServerId,
        counters: &ServerCounters,
        state: &ServerState,
        flows: impl FnOnce() -> F,
        readings: &impl Readings,
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
        record.note_recovery(&listener, &application);
        if now_ns.saturating_sub(record.judged_ns) < JUDGE_NS {
            return None;
        }
        record.judged_ns = now_ns;
        self.judge(id, flows, readings, now_ns).map(|say| ClientReport { id, say })
    }

    fn judge<F: Iterator<Item = Flow>>(
        &mut self,
        id: ServerId,
        flows: impl FnOnce() -> F,
        readings: &impl Readings,
        now_ns: u64,
    ) -> Option<ClientsSay> {
        self.follow_share(id, flows, now_ns);
        let record = self.record(id)?;
        let complaint = self
            .listener_complaint(id, record, readings, now_ns)
            .or_else(|| self.silence_complaint(id, record, readings, now_ns))
            .or_else(|| self.share_complaint(id, record, readings, now_ns));
        let is_served = if complaint.is_none() { self.is_served(id, record) } else { None };
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
        match (is_served?, &mut record.told) {
            (true, told) => {
                *told = Told::Nothing;
                return Some(ClientsSay::Served);
            }
            // The next ones may fare better.
            (false, Told::Failing { recovery, .. }) => *recovery = Exchange::default(),
            (false, _) => {}
        }
        None
    }

    /// SYNs or datagrams that nobody got an answer to.
    fn listener_complaint(
        &self,
        id: ServerId,
        record: &Record,
        readings: &impl Readings,
        now_ns: u64,
    ) -> Option<Complaint> {
        let run = record.listener.run.as_ref()?;
        let missing = record.missing_at_listener(run);
        let silence = Silence { id, record, run, missing, readings, now_ns };
        let is_tcp = record.protocol == Protocol::Tcp;
        let speaks_alone = || match missing {
            // What answers no SYN at all is no living server under a flood.
            Missing::SynAck | Missing::Acceptance => true,
            _ if is_tcp => run.details.again * 100 >= run.attempts * AGAIN_PERCENT,
            // Some services never answer.
            _ => real(record.listener.answers) >= ENOUGH,
        };
        self.complaint(&silence, |group| group.listener, speaks_alone)
    }

    /// Requests that nobody got a response to.
    fn silence_complaint(
        &self,
        id: ServerId,
        record: &Record,
        readings: &impl Readings,
        now_ns: u64,
    ) -> Option<Complaint> {
        let run = record.application.run.as_ref()?;
        let silence = Silence { id, record, run, missing: Missing::Response, readings, now_ns };
        // Some protocols never answer, others only at the beginning of a connection: where no sibling answers, half of
        // the requests must be the first ones of theirs.
        let speaks_alone =
            || real(record.application.answers) >= ENOUGH && run.details.handshakes * 2 >= run.attempts;
        self.complaint(&silence, |group| group.application, speaks_alone)
    }

    /// What is to be said of a run that lasts: siblings show that it is none of the clients' doing, or it speaks for
    /// itself.
    fn complaint<R: Readings>(
        &self,
        silence: &Silence<'_, R>,
        of: fn(&Group) -> Exchange,
        speaks_alone: impl FnOnce() -> bool,
    ) -> Option<Complaint> {
        let (networks, siblings, is_lasting) = self.compare(silence, of)?;
        let can_tell = matches!(siblings, Comparison::Answer(_)) || speaks_alone();
        (is_lasting && can_tell).then(|| silence.complaint(networks, siblings))
    }

    /// The networks of a run, what the siblings show since it began, and whether it has lasted and is broad enough for
    /// that. `None`: there is too little of it.
    fn compare<R: Readings>(
        &self,
        silence: &Silence<'_, R>,
        of: fn(&Group) -> Exchange,
    ) -> Option<(Sketch, Comparison, bool)> {
        let Silence { record, run, .. } = silence;
        let lasted = silence.lasted();
        if lasted < LASTING || real(run.attempts) < ENOUGH {
            return None;
        }
        let with_marks = || record.groups.iter().zip(&run.marks);
        let others = with_marks().filter_map(|(index, mark)| {
            let group = self.groups.get(*index)?;
            Some((group, of(group).since(*mark, run.own)))
        });
        let best = others.max_by(|(_, one), (_, other)| one.share().total_cmp(&other.share()));
        let networks = silence.networks();
        if let Some((group, siblings)) = best {
            let expected = real(run.attempts) * siblings.share();
            if real(siblings.answers) >= ENOUGH && expected >= ENOUGH {
                let is_lasting = networks.count() >= NETWORKS
                    || lasted >= LASTING_FEW
                        && siblings.share() >= WELL
                        && group.has_answered(silence.witnesses(), networks, silence.readings);
                return Some((networks, Comparison::Answer(siblings.share()), is_lasting));
            }
        }
        let had_clients = best.is_some_and(|(_, siblings)| real(siblings.demands) >= ENOUGH);
        let comparison = if had_clients { Comparison::Alike } else { Comparison::Alone };
        let is_lasting =
            lasted >= LASTING_ALONE && run.attempts >= ENOUGH_ALONE && networks.count() >= NETWORKS_ALONE;
        Some((networks, comparison, is_lasting))
    }

    /// The share of the siblings' requests that is answered lately; `None`: too few to tell.
    fn siblings_recent(&self, id: ServerId, record: &Record) -> Option<(usize, Recent)> {
        let of = |index: &usize| {
            let siblings = self.groups.get(*index)?.compared(id);
            let recents = siblings.filter_map(|one| Some(self.record(one)?.application.recent));
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
    ) {
        let Some(record) = self.record(id) else { return };
        let own = record.application.recent;
        // Forgotten exponentially, half as many as elsewhere are left.
        let is_enough = |lacking: f64| lacking >= ENOUGH / 2.0;
        // Most servers end here, without a look at their siblings.
        let lacks = is_enough(own.demands - own.answers)
            && self.siblings_recent(id, record).is_some_and(|(_, siblings)| {
                let expected = own.demands * siblings.share();
                let lacking = expected - own.answers;
                lacking >= LACKS * expected && is_enough(lacking)
            });
        let Some(record) = self.record_mut(id) else { return };
        if !lacks {
            record.lacking = None;
            return;
        }
        let new = Lacking { since_ns: now_ns, exchange: Exchange::default(), networks: Sketch::NONE };
        let lacking = record.lacking.get_or_insert(new);
        for flow in flows() {
            if flow.request_ns != 0 && now_ns.saturating_sub(flow.request_ns) >= OVERDUE_NS {
                lacking.networks.add(flow.network);
            }
        }
    }

    /// A share of the requests that fails for long.
    fn share_complaint(
        &self,
        id: ServerId,
        record: &Record,
        readings: &impl Readings,
        now_ns: u64,
    ) -> Option<Complaint> {
        let Lacking { since_ns, exchange, networks } = record.lacking?;
        let lasted = Duration::from_nanos(now_ns.saturating_sub(since_ns));
        let (index, siblings) = self.siblings_recent(id, record)?;
        let group = self.groups.get(index)?;
        let witnesses = Witnesses::since(id, Layer::Application, since_ns, now_ns);
        let is_broad = networks.count() >= NETWORKS
            || siblings.share() >= WELL && group.has_answered(witnesses, networks, readings);
        (lasted >= LASTING_SHARE && is_broad && real(exchange.demands) >= ENOUGH).then(|| Complaint {
            missing: Missing::Response,
            attempts: exchange.demands,
            answered: exchange.answers,
            networks: networks.count(),
            lasted,
            siblings: Comparison::Answer(siblings.share()),
        })
    }

    /// Whether clients that have failed are served again; `None`: too few of them have been answered to tell.
    fn is_served(&self, id: ServerId, record: &Record) -> Option<bool> {
        let (recovery, missing) = match record.told {
            Told::Failing { recovery, missing, .. } => (recovery, missing),
            Told::Nothing => return None,
            Told::Recovered => return Some(true),
        };
        let layer = if missing == Missing::Response { &record.application } else { &record.listener };
        let can_tell = layer.run.is_none() && record.lacking.is_none() && recovery.answers >= SERVED;
        can_tell.then(|| recovery.share() >= SERVED_SHARE * self.usual_share(id, record, missing))
    }

    /// The share that siblings answer, 1 where there is none to compare with.
    fn usual_share(&self, id: ServerId, record: &Record, missing: Missing) -> f64 {
        let of = |record: &Record| {
            if missing == Missing::Response { record.application.recent } else { record.listener.recent }
        };
        let groups = record.groups.iter().filter_map(|index| self.groups.get(*index));
        let siblings = groups.flat_map(|group| group.compared(id));
        let recents = siblings.filter_map(|one| self.record(one)).map(of);
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

/// A run of one server that is judged.
struct Silence<'a, R> {
    id: ServerId,
    record: &'a Record,
    run: &'a Run,
    missing: Missing,
    readings: &'a R,
    now_ns: u64,
}

impl<R: Readings> Silence<'_, R> {
    fn lasted(&self) -> Duration {
        Duration::from_nanos(self.now_ns.saturating_sub(self.run.since_ns))
    }

    /// Whether the server answers SYNs, and nobody takes the answers.
    fn is_of_answers_that_are_lost(&self) -> bool {
        (self.missing, self.record.visibility) == (Missing::Handshake, Visibility::Both)
    }

    /// The networks that fail.
    fn networks(&self) -> Sketch {
        let mut networks = self.run.networks;
        if self.is_of_answers_that_are_lost() {
            // Whom it has answered waits no more, as far as the listening socket knows.
            let answered = |network: &u8| {
                answered_after(self.readings, self.id, Layer::Host, *network, self.run.since_ns)
            };
            (0..=u8::MAX).filter(answered).for_each(|network| {
                networks.add(network.into());
            });
        }
        networks
    }

    /// What siblings must have answered to be witnesses.
    fn witnesses(&self) -> Witnesses {
        // A SYN-ACK that passes the director may be lost behind it; a response that a client acknowledges is not.
        let is_seen_from_clients = self.missing == Missing::Response || self.is_of_answers_that_are_lost();
        let layer = if is_seen_from_clients { Layer::Application } else { Layer::Host };
        Witnesses::since(self.id, layer, self.run.since_ns, self.now_ns)
    }

    fn complaint(&self, networks: Sketch, siblings: Comparison) -> Complaint {
        Complaint {
            missing: self.missing,
            attempts: self.run.attempts,
            answered: 0,
            networks: networks.count(),
            lasted: self.lasted(),
            siblings,
        }
    }
}
