//! Siblings: servers of one service, which have the same clients. What is usual among them.

use std::collections::BTreeMap;

use lvs_common::ServerId;

/// How many siblings are compared with at most.
const COMPARED: usize = 32;

/// Which servers are siblings, and how many handshakes each service completes.
#[derive(Clone, Debug, Default)]
pub(super) struct Siblings {
    services: Vec<Service>,
    /// The services of each server.
    of: BTreeMap<ServerId, Vec<Membership>>,
}

#[derive(Clone, Debug)]
struct Service {
    members: Vec<ServerId>,
    /// Handshakes answered by all members.
    answers: u64,
}

#[derive(Clone, Copy, Debug)]
struct Membership {
    service: usize,
    /// The service's `answers` when this server last answered.
    mark: u64,
    /// The service's `answers` when it was last known that this server had nothing to answer.
    idle: u64,
    /// This server's answers, and those of all in the same time; forgotten exponentially.
    answered: f64,
    answered_by_all: f64,
}

/// Answers of a server's siblings while it was silent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outpaced {
    /// Handshakes that they completed.
    pub(super) answers: u64,
    /// The server's usual share of all, from 0 to 1.
    pub(super) share: f64,
    /// In which service, as a number for [`Siblings::members`].
    pub(super) service: usize,
}

impl Siblings {
    /// Each item is a service's servers. What was counted before is forgotten.
    pub(super) fn set(&mut self, services: impl IntoIterator<Item = Vec<ServerId>>) {
        self.services.clear();
        self.of.clear();
        for members in services {
            let service = self.services.len();
            for id in &members {
                let membership =
                    Membership { service, mark: 0, idle: 0, answered: 0.0, answered_by_all: 0.0 };
                self.of.entry(*id).or_default().push(membership);
            }
            self.services.push(Service { members, answers: 0 });
        }
    }

    /// A server has answered `answers` handshakes since the last time; 0: there was no demand.
    #[expect(clippy::cast_precision_loss, reason = "counts between two looks are far below 2^52")]
    pub(super) fn answered(&mut self, id: ServerId, answers: u64) {
        /// How many answers of the server's own are remembered.
        const MEMORY: f64 = 1_000.0;
        if answers == 0 {
            return self.restart(id);
        }
        for membership in self.of.get_mut(&id).into_iter().flatten() {
            let Some(service) = self.services.get_mut(membership.service) else { continue };
            service.answers += answers;
            let kept = (-(answers as f64) / MEMORY).exp();
            membership.answered = membership.answered * kept + answers as f64;
            membership.answered_by_all =
                membership.answered_by_all * kept + (service.answers - membership.mark) as f64;
            membership.mark = service.answers;
        }
    }

    /// Answers of a server's siblings up to now are no evidence against it.
    pub(super) fn restart(&mut self, id: ServerId) {
        for membership in self.of.get_mut(&id).into_iter().flatten() {
            let Some(service) = self.services.get(membership.service) else { continue };
            membership.idle = service.answers;
        }
    }

    /// Answers of the siblings of `id` since its last known answer, in the service where that is most evidence. Some of
    /// them may be older than that answer.
    #[expect(clippy::cast_precision_loss, reason = "answers within one silence are far below 2^52")]
    pub(super) fn outpaced(&self, id: ServerId) -> Option<Outpaced> {
        /// With fewer answers of its own a server's share is not known.
        const ENOUGH: f64 = 50.0;
        let one = |membership: &Membership| {
            let service = self.services.get(membership.service)?;
            let answers = service.answers.saturating_sub(membership.mark.max(membership.idle));
            (membership.answered >= ENOUGH && answers > 0).then(|| Outpaced {
                answers,
                share: (membership.answered / membership.answered_by_all).min(1.0),
                service: membership.service,
            })
        };
        let weight = |outpaced: &Outpaced| outpaced.answers as f64 * outpaced.share;
        self.of.get(&id)?.iter().filter_map(one).max_by(|a, b| weight(a).total_cmp(&weight(b)))
    }

    /// The servers of one service, as many as are compared with at most.
    pub(super) fn members(&self, service: usize) -> impl Iterator<Item = ServerId> {
        self.services
            .get(service)
            .into_iter()
            .flat_map(|service| service.members.iter().copied())
            .take(COMPARED)
    }

    /// The servers in the same services, as many as are compared with at most.
    pub(super) fn of(&self, id: ServerId) -> impl Iterator<Item = ServerId> {
        let memberships = self.of.get(&id).into_iter().flatten();
        memberships
            .filter_map(|membership| self.services.get(membership.service))
            .flat_map(|service| service.members.iter().copied())
            .filter(move |&sibling| sibling != id)
            .take(COMPARED)
    }
}

/// The median; of an even number of values the lower one, so that one sibling of two decides nothing by itself.
pub(super) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ServerId = ServerId(0);
    const B: ServerId = ServerId(1);

    #[test]
    fn answers_of_siblings_are_counted_since_a_servers_last_one() {
        let mut siblings = Siblings::default();
        siblings.set([vec![A, B]]);
        for _ in 0..100 {
            siblings.answered(A, 3);
            siblings.answered(B, 1);
        }
        siblings.answered(A, 30);
        let outpaced = siblings.outpaced(B).expect("A has answered since");
        assert_eq!(outpaced.answers, 30);
        assert!((outpaced.share - 0.25).abs() < 0.01, "{outpaced:?}");
        assert_eq!(siblings.outpaced(ServerId(7)), None);
        siblings.answered(B, 0);
        assert_eq!(siblings.outpaced(B), None, "there was no demand");
    }

    #[test]
    fn the_median_of_an_even_number_is_the_lower_one() {
        let cases: [(&[f64], Option<f64>); 4] =
            [(&[], None), (&[3.0], Some(3.0)), (&[9.0, 1.0], Some(1.0)), (&[9.0, 1.0, 4.0], Some(4.0))];
        for (values, expected) in cases {
            assert_eq!(median(values.iter().copied()), expected);
        }
    }
}
