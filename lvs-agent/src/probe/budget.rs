//! How often suspicions may ask for probes. Pure: the time is an argument.

use std::{
    collections::HashMap,
    hash::Hash,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use thiserror::Error;

use crate::model::BurstSettings;

/// A token bucket for each server `S`, and one for all.
///
/// Each bucket holds the tokens of one second: in any time `t` it gives at most `rate * (t + 1 s)`, and it starts full.
///
/// What brings about a suspicion may be forged, but not by everybody in every way. So no kind of evidence `K` gets any
/// token while more than a third of a second's tokens were spent on suspicions of that kind that were refuted, of this
/// server or of all: the other kinds have the rest.
#[derive(Clone, Debug)]
pub struct Budget<S, K> {
    server_rate: NonZeroU32,
    total_rate: NonZeroU32,
    total: Bucket,
    servers: HashMap<S, Bucket>,
    /// What refuted suspicions have cost, by kind, of each server and of all.
    refuted: HashMap<(S, K), Bucket>,
    refuted_in_all: HashMap<K, Bucket>,
}

/// Why a suspicion may not be probed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Exhausted {
    /// This server has been probed often enough.
    #[error("the server's budget of probes is used up")]
    Server,
    /// All servers together have.
    #[error("the budget of probes for all servers is used up")]
    Total,
    /// Too many suspicions by this kind of evidence were refuted.
    #[error("this kind of evidence was refuted too often lately")]
    Refuted,
}

impl<S: Copy + Eq + Hash, K: Copy + Eq + Hash> Budget<S, K> {
    /// Full buckets with these rates.
    #[must_use]
    pub fn new(settings: &BurstSettings) -> Self {
        Self {
            server_rate: settings.server_rate,
            total_rate: settings.total_rate,
            total: Bucket::new(settings.total_rate),
            servers: HashMap::new(),
            refuted: HashMap::new(),
            refuted_in_all: HashMap::new(),
        }
    }

    /// Takes a token for a suspicion of `server` by a kind of evidence out of both buckets, or out of none. Time that
    /// goes back counts as standing still.
    pub fn take(&mut self, server: S, kind: K, now: Instant) -> Result<(), Exhausted> {
        let has_share = |bucket: Option<&Bucket>| bucket.is_none_or(|bucket| bucket.has_token(now));
        if !has_share(self.refuted.get(&(server, kind))) || !has_share(self.refuted_in_all.get(&kind)) {
            return Err(Exhausted::Refuted);
        }
        let bucket = self.servers.entry(server).or_insert_with(|| Bucket::new(self.server_rate));
        if !bucket.has_token(now) {
            return Err(Exhausted::Server);
        }
        if !self.total.has_token(now) {
            return Err(Exhausted::Total);
        }
        bucket.take(now);
        self.total.take(now);
        Ok(())
    }

    /// A suspicion that has taken a token was refuted.
    pub fn refuted(&mut self, server: S, kind: K, now: Instant) {
        let (own, all) = (share(self.server_rate), share(self.total_rate));
        self.refuted.entry((server, kind)).or_insert_with(|| Bucket::new(own)).take(now);
        self.refuted_in_all.entry(kind).or_insert_with(|| Bucket::new(all)).take(now);
    }

    /// Forgets the servers whose buckets are full again: they are as good as new. Worth calling now and then where
    /// servers come and go.
    pub fn forget_full(&mut self, now: Instant) {
        self.servers.retain(|_, bucket| !bucket.is_full(now));
        self.refuted.retain(|_, bucket| !bucket.is_full(now));
        self.refuted_in_all.retain(|_, bucket| !bucket.is_full(now));
    }
}

/// A third, at least one.
fn share(rate: NonZeroU32) -> NonZeroU32 {
    NonZeroU32::new(rate.get().div_ceil(3)).unwrap_or(NonZeroU32::MIN)
}

/// A token bucket that holds the tokens of one second, kept as the time when it will be full again.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// How long a token takes to come back, rounded up: never more than the rate.
    interval: Duration,
    /// `None`: it is full and has always been.
    full_at: Option<Instant>,
}

impl Bucket {
    fn new(rate: NonZeroU32) -> Self {
        let nanoseconds = 1_000_000_000_u64.div_ceil(rate.get().into());
        Self { interval: Duration::from_nanos(nanoseconds), full_at: None }
    }

    /// Whether there is a token: taking it must not put the time of being full more than a second off.
    fn has_token(&self, now: Instant) -> bool {
        let missing = self.full_at.map_or(Duration::ZERO, |full_at| full_at.saturating_duration_since(now));
        missing + self.interval <= Duration::from_secs(1)
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }

    /// Takes a token; one that isn't there is owed.
    fn take(&mut self, now: Instant) {
        self.full_at = Some(self.full_at.map_or(now, |full_at| full_at.max(now)) + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A kind of evidence.
    const KIND: char = 'k';

    fn budget(server_rate: u32, total_rate: u32) -> Budget<u32, char> {
        Budget::new(&BurstSettings {
            server_rate: server_rate.try_into().unwrap(),
            total_rate: total_rate.try_into().unwrap(),
            ..BurstSettings::default()
        })
    }

    #[test]
    fn a_second_of_tokens_and_then_the_rate() {
        let start = Instant::now();
        let mut budget = budget(5, 200);
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        for _ in 0..5 {
            assert_eq!(budget.take(1, KIND, at(0)), Ok(()));
        }
        assert_eq!(budget.take(1, KIND, at(0)), Err(Exhausted::Server));
        assert_eq!(budget.take(1, KIND, at(199)), Err(Exhausted::Server));
        assert_eq!(budget.take(2, KIND, at(199)), Ok(()), "another server has its own");
        assert_eq!(budget.take(1, KIND, at(200)), Ok(()));
        assert_eq!(budget.take(1, KIND, at(200)), Err(Exhausted::Server));
        // An hour of rest fills it, and no more.
        let given = (0..100).filter(|_| budget.take(1, KIND, at(3_600_000)).is_ok()).count();
        assert_eq!(given, 5);
    }

    #[test]
    fn a_kind_that_is_refuted_has_a_third_and_leaves_the_others_theirs() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        // Of one server, …
        let mut one = budget(6, 600);
        for _ in 0..2 {
            assert_eq!(one.take(1, KIND, at(0)), Ok(()));
            one.refuted(1, KIND, at(0));
        }
        assert_eq!(one.take(1, KIND, at(0)), Err(Exhausted::Refuted));
        assert_eq!(one.take(1, 'o', at(0)), Ok(()), "another kind has its own");
        assert_eq!(one.take(2, KIND, at(0)), Ok(()), "and so has another server");
        assert_eq!(one.take(1, KIND, at(500)), Ok(()), "half a second is one of two");
        // … and of all: what was under way when the first ones were refuted is owed.
        let mut all = budget(6, 50);
        for server in 0..50 {
            assert_eq!(all.take(server, KIND, at(0)), Ok(()), "none is refuted yet");
        }
        for server in 0..50 {
            all.refuted(server, KIND, at(1));
        }
        assert_eq!(all.take(99, 'o', at(20)), Ok(()), "the first token that comes back");
        assert_eq!(all.take(99, KIND, at(1_900)), Err(Exhausted::Refuted));
        assert_eq!(all.take(99, KIND, at(2_100)), Ok(()));
    }

    #[test]
    fn a_kind_that_is_confirmed_has_all() {
        let start = Instant::now();
        let mut budget = budget(6, 50);
        let given = (0..100).filter(|server| budget.take(*server, KIND, start).is_ok()).count();
        assert_eq!(given, 50);
    }

    #[test]
    fn the_total_costs_the_server_nothing() {
        let start = Instant::now();
        let mut budget = budget(1, 2);
        assert_eq!(budget.take(1, KIND, start), Ok(()));
        assert_eq!(budget.take(2, KIND, start), Ok(()));
        assert_eq!(budget.take(3, KIND, start), Err(Exhausted::Total));
        let later = start + Duration::from_millis(500);
        assert_eq!(budget.take(3, KIND, later), Ok(()), "its own token was not taken");
    }

    #[test]
    fn rates_that_are_no_part_of_a_second_are_not_exceeded() {
        for rate in [1, 3, 7, 1_000_000] {
            let mut budget = budget(rate, rate);
            let now = Instant::now();
            let given = (0..2 * rate).filter(|_| budget.take(0, KIND, now).is_ok()).count();
            assert!(given <= rate as usize && given + 1 >= rate as usize, "{given} for {rate}");
        }
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let start = Instant::now();
        let mut budget = budget(5, 200);
        budget.take(1, KIND, start).unwrap();
        budget.take(2, KIND, start + Duration::from_millis(100)).unwrap();
        budget.forget_full(start + Duration::from_millis(200));
        assert_eq!(budget.servers.keys().collect::<Vec<_>>(), [&2]);
    }

    proptest! {
        #[test]
        fn never_more_than_the_rates(
            server_rate in 1_u32..20,
            total_rate in 1_u32..40,
            asks in proptest::collection::vec((0_u32..4, 0_u64..200), 1..300),
        ) {
            let start = Instant::now();
            let (mut budget, mut now) = (budget(server_rate, total_rate), start);
            let mut given: Vec<(u32, Instant)> = Vec::new();
            for (server, wait) in asks {
                now += Duration::from_millis(wait);
                if budget.take(server, KIND, now).is_ok() {
                    given.push((server, now));
                }
            }
            // Between any two that were given: at most the rate times the time, and the second that a bucket holds.
            let most = |rate: u32, time: Duration| f64::from(rate) * (time.as_secs_f64() + 1.0) + 1e-6;
            for (first, (server, from)) in given.iter().enumerate() {
                let (mut total, mut own) = (0.0, 0.0);
                for (other, at) in &given[first..] {
                    total += 1.0;
                    own += if other == server { 1.0 } else { 0.0 };
                    prop_assert!(total <= most(total_rate, *at - *from));
                    prop_assert!(own <= most(server_rate, *at - *from));
                }
            }
        }

        #[test]
        fn who_asks_no_more_than_the_rate_is_never_refused(rate in 1_u32..1000, asks in 1_usize..500) {
            let mut budget = budget(rate, rate);
            let mut now = Instant::now();
            for _ in 0..asks {
                prop_assert_eq!(budget.take(0, KIND, now), Ok(()));
                now += Duration::from_nanos(1_000_000_000_u64.div_ceil(rate.into()));
            }
        }
    }
}
