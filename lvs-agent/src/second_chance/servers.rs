//! Which destinations are dead and out of the kernel's table: only both together say that a SYN may go elsewhere. Pure.

use std::collections::HashSet;

use crate::{event::Event, ipvs::Edit, model::DestinationKey};

/// What second chance is told, of all events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Probes have confirmed that it is dead.
    Down(DestinationKey),
    /// It is well.
    Up(DestinationKey),
    /// The kernel has acknowledged that it gets no new connections.
    Out(DestinationKey),
    /// It gets new connections.
    In(DestinationKey),
    /// A probe has shown that they live.
    Cleared(Vec<DestinationKey>),
}

impl News {
    /// What an event says.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Transition { subject, transition, .. } if transition.to.is_hard_down() => {
                Some(Self::Down(subject.destination))
            }
            Event::Transition { subject, transition, .. } if transition.to.is_up() => {
                Some(Self::Up(subject.destination))
            }
            Event::Cleared { subjects } => {
                Some(Self::Cleared(subjects.iter().map(|subject| subject.destination).collect()))
            }
            Event::Edit { edit, .. } => Self::of_edit(edit),
            _ => None,
        }
    }

    /// The destination that it is about, if it is about one.
    pub(super) fn destination(&self) -> Option<DestinationKey> {
        match self {
            Self::Down(key) | Self::Up(key) | Self::Out(key) | Self::In(key) => Some(*key),
            Self::Cleared(_) => None,
        }
    }

    fn of_edit(edit: &Edit) -> Option<Self> {
        match edit {
            Edit::DeleteDestination(key) => Some(Self::Out(*key)),
            Edit::AddDestination { service, destination } | Edit::SetDestination { service, destination } => {
                let key = DestinationKey { service: *service, server: destination.server };
                let takes = destination.weight.takes_connections();
                Some(if takes { Self::In(key) } else { Self::Out(key) })
            }
            _ => None,
        }
    }
}

/// The destinations that are down, and those that are out of the table.
#[derive(Debug, Default)]
pub(super) struct Servers {
    down: HashSet<DestinationKey>,
    out: HashSet<DestinationKey>,
}

impl Servers {
    /// Takes news in; whether its destination is dead and out since now.
    pub(super) fn take(&mut self, news: &News) -> bool {
        match news {
            News::Down(key) => self.down.insert(*key) && self.is_dead(key),
            News::Out(key) => self.out.insert(*key) && self.is_dead(key),
            News::Up(key) => {
                self.down.remove(key);
                false
            }
            News::In(key) => {
                self.out.remove(key);
                false
            }
            News::Cleared(_) => false,
        }
    }

    /// Whether it is dead and out.
    fn is_dead(&self, key: &DestinationKey) -> bool {
        self.down.contains(key) && self.out.contains(key)
    }

    /// Whether all of these are.
    pub(super) fn are_dead<'k>(&self, mut keys: impl Iterator<Item = &'k DestinationKey>) -> bool {
        keys.all(|key| self.is_dead(key))
    }

    /// Whether it gets new connections, as far as is known.
    pub(super) fn is_in(&self, key: &DestinationKey) -> bool {
        !self.out.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, ServiceKey};

    #[test]
    fn death_and_edit_together_are_a_failover_in_whatever_order() {
        let service =
            ServiceKey::Address { protocol: Protocol::Tcp, address: "192.0.2.1:80".parse().unwrap() };
        let key = DestinationKey { service, server: "10.0.0.1:80".parse().unwrap() };
        let cases = [
            ("in order", vec![News::Down(key), News::Out(key)], 1),
            ("the edit first", vec![News::Out(key), News::Down(key)], 1),
            ("a drained server", vec![News::Out(key)], 0),
            ("no edit", vec![News::Down(key), News::Cleared(vec![key])], 0),
            ("told twice", vec![News::Down(key), News::Out(key), News::Out(key), News::Down(key)], 1),
            (
                "back and dead again",
                vec![
                    News::Down(key),
                    News::Out(key),
                    News::Up(key),
                    News::In(key),
                    News::Down(key),
                    News::Out(key),
                ],
                2,
            ),
        ];
        for (name, all, expected) in cases {
            let mut servers = Servers::default();
            assert_eq!(all.iter().filter(|news| servers.take(news)).count(), expected, "{name}");
        }
    }
}
