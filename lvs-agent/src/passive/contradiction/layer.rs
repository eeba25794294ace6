//! One layer of one server: how long its clients have failed without exception, and which share fails lately.

use lvs_common::Sketch;

/// What was asked of a layer and what was answered, since the time before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) demands: u64,
    pub(super) answers: u64,
}

impl Exchange {
    pub(super) fn add(&mut self, other: Self) {
        self.demands += other.demands;
        self.answers += other.answers;
    }

    /// What came after `earlier`, without what is `own`.
    pub(super) fn since(self, earlier: Self, own: Self) -> Self {
        let rest = |now: u64, then: u64, own: u64| now.saturating_sub(then).saturating_sub(own);
        Self {
            demands: rest(self.demands, earlier.demands, own.demands),
            answers: rest(self.answers, earlier.answers, own.answers),
        }
    }

    /// Which share was answered, from 0 to 1; 0 where nothing was asked.
    pub(super) fn share(self) -> f64 {
        if self.demands == 0 { 0.0 } else { (real(self.answers) / real(self.demands)).min(1.0) }
    }
}

/// What is said of demands beside their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Details {
    /// SYNs that were sent again.
    pub(super) again: u64,
    /// SYN-ACKs.
    pub(super) syn_acks: u64,
    /// RSTs in answer to SYNs.
    pub(super) refused: u64,
    /// Handshakes completed.
    pub(super) handshakes: u64,
}

impl Details {
    fn add(&mut self, other: Self) {
        self.again += other.again;
        self.syn_acks += other.syn_acks;
        self.refused += other.refused;
        self.handshakes += other.handshakes;
    }
}

/// Demands without a single answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) since_ns: u64,
    /// What was asked, for the comparison with siblings.
    pub(super) own: Exchange,
    /// How much of it was surely the clients'.
    pub(super) attempts: u64,
    pub(super) details: Details,
    pub(super) networks: Sketch,
    /// What each of the server's services had exchanged when it began.
    pub(super) marks: Vec<Exchange>,
}

/// The share that is answered lately: sums that are forgotten exponentially.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Recent {
    pub(super) demands: f64,
    pub(super) answers: f64,
}

impl Recent {
    /// The time after which a third is left. Long enough that a pause of the application is a small part of it.
    const MEMORY_NS: u64 = 30_000_000_000;

    fn add(&mut self, exchange: Exchange, elapsed_ns: u64) {
        let kept = (-real(elapsed_ns) / real(Self::MEMORY_NS)).exp();
        self.demands = self.demands * kept + real(exchange.demands);
        self.answers = self.answers * kept + real(exchange.answers);
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { demands: self.demands + other.demands, answers: self.answers + other.answers }
    }

    /// Which share is answered, from 0 to 1.
    pub(super) fn share(self) -> f64 {
        if self.demands > 0.0 { (self.answers / self.demands).min(1.0) } else { 0.0 }
    }
}

/// A layer of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LayerRecord {
    pub(super) run: Option<Run>,
    pub(super) recent: Recent,
    /// All answers since the server is known.
    pub(super) answers: u64,
}

/// What one look at a layer has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) exchange: Exchange,
    /// How many demands of clients have had no answer since the last one, where that is counted apart.
    pub(super) waiting: Option<u64>,
    pub(super) details: Details,
    /// The networks that wait now.
    pub(super) networks: Sketch,
    pub(super) now_ns: u64,
    /// Since the look before.
    pub(super) elapsed_ns: u64,
}

impl LayerRecord {
    /// Takes in a look. `marks` gives what the server's services have exchanged so far, for a run that begins.
    pub(super) fn note(&mut self, look: &Look, marks: impl FnOnce() -> Vec<Exchange>) {
        let Look { exchange, waiting, details, networks, now_ns, elapsed_ns } = *look;
        self.recent.add(exchange, elapsed_ns);
        self.answers += exchange.answers;
        if exchange.answers > 0 {
            self.run = None;
            return;
        }
        if self.run.is_none() && exchange.demands == 0 {
            return;
        }
        let since_ns = now_ns.saturating_sub(elapsed_ns);
        let run = self.run.get_or_insert_with(|| Run {
            since_ns,
            own: Exchange::default(),
            attempts: 0,
            details: Details::default(),
            networks: Sketch::NONE,
            marks: marks(),
        });
        run.own.add(exchange);
        run.details.add(details);
        run.attempts = waiting.unwrap_or(run.own.demands);
        run.networks = union(run.networks, networks);
    }

    /// What came before says nothing any more.
    pub(super) fn restart(&mut self) {
        (self.run, self.recent) = (None, Recent::default());
    }
}

/// The networks of both.
fn union(one: Sketch, other: Sketch) -> Sketch {
    let (Sketch(one), Sketch(other)) = (one, other);
    Sketch(std::array::from_fn(|word| one[word] | other[word]))
}

#[expect(clippy::cast_precision_loss, reason = "counts and times of minutes are far below 2^52")]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}
