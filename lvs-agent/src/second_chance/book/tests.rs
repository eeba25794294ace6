use std::collections::HashSet;

use lvs_common::chance;

use super::*;
use crate::{
    model::{Protocol, ServiceKey},
    second_chance::testing::kept,
};

const MS: u64 = 1_000_000;
/// No place.
const NOTHING: [usize; 0] = [];
/// When the tests begin.
const T0: u64 = 100_000 * MS;

#[derive(Default)]
struct Invented {
    places: BTreeMap<usize, KeptSyn>,
    announced: HashSet<usize>,
}

impl KeptTable for Invented {
    fn each(&self, since_ns: u64, f: &mut dyn FnMut(usize, &KeptBrief)) {
        self.places
            .iter()
            .filter(|(_, kept)| kept.stored_ns > since_ns)
            .for_each(|(place, kept)| f(*place, &KeptBrief::of(kept)));
    }

    fn get(&self, place: usize) -> Option<KeptSyn> {
        self.places.get(&place).copied()
    }

    fn is_announced(&self, place: usize) -> bool {
        self.announced.contains(&place)
    }
}

fn destination(server: u32) -> DestinationKey {
    let service = ServiceKey::Address { protocol: Protocol::Tcp, address: "192.0.2.80:80".parse().unwrap() };
    DestinationKey { service, server: format!("10.0.0.{}:80", server + 1).parse().unwrap() }
}

/// Servers 0 and 1 of a masqueraded service.
fn book(conntrack: bool) -> Book {
    let mut book = Book::default();
    let way = |server| {
        let to = To::Address("192.0.2.80:80".parse().unwrap());
        let (destination, others) = (destination(server), Vec::new());
        (ServerId(server), Way { destination, others, to, chance: chance::HOLD })
    };
    book.set_ways((0..2).map(way).collect(), conntrack);
    book
}

/// A SYN to a server, so many ms before the tests begin.
fn syn(server: u32, age: u64) -> KeptSyn {
    let at = T0 - age * MS;
    KeptSyn {
        server: ServerId(server),
        stored_ns: at,
        since_ns: at,
        ..kept("198.51.100.7:40000", "10.0.0.1:80")
    }
}

fn table(syns: impl IntoIterator<Item = KeptSyn>) -> Invented {
    let numbered = syns.into_iter().enumerate().map(|(number, mut kept)| {
        kept.tcp[..2].copy_from_slice(&u16::try_from(number).unwrap().to_be_bytes());
        (number, kept)
    });
    Invented { places: numbered.collect(), announced: HashSet::new() }
}

fn dies(book: &mut Book, server: u32, now_ns: u64) {
    book.take(&News::Down(destination(server)), now_ns);
    book.take(&News::Out(destination(server)), now_ns);
}

/// The places of SYNs that are sent again, and how many are refused.
fn look(book: &mut Book, table: &Invented, now_ns: u64) -> (Vec<usize>, usize) {
    let (actions, _) = book.look(table, now_ns);
    let retried = actions.iter().filter_map(|action| match action {
        Action::Retry { place, .. } => Some(*place),
        Action::Refuse { .. } => None,
    });
    let retried: Vec<_> = retried.collect();
    let refused = actions.len() - retried.len();
    (retried, refused)
}

/// Looks until all is known.
fn outcomes(book: &mut Book, table: &Invented) -> Vec<Outcome> {
    let mut all = Vec::new();
    while let Some(at) = book.next_look() {
        let (_, outcomes) = book.look(table, at.max(T0));
        all.extend(outcomes);
        assert!(at < T0 + 10_000 * MS, "it ends");
    }
    all
}

#[test]
fn only_open_handshakes_of_a_dead_server_that_is_out_are_begun_anew() {
    let cases = [
        ("open", syn(0, 50), true),
        ("another server's", syn(1, 50), false),
        ("unknown server's", syn(7, 50), false),
        ("the client has said more", KeptSyn { ended_ns: T0 - MS, ..syn(0, 50) }, false),
        ("the server has answered", KeptSyn { flags: KeptSyn::ANSWERED, ..syn(0, 50) }, false),
        ("the client has given up", KeptSyn { flags: KeptSyn::RESET, ..syn(0, 50) }, false),
        ("from the director itself", KeptSyn { device: 0, ..syn(0, 50) }, false),
        ("sent again often enough", KeptSyn { retries: KeptSyn::RETRIES, ..syn(0, 50) }, false),
        ("long ago", syn(0, 3500), false),
        ("held back", KeptSyn { held_ns: T0 - 10 * MS, ..syn(0, 50) }, true),
    ];
    for (name, kept, expected) in cases {
        let mut book = book(false);
        dies(&mut book, 0, T0);
        let retried = look(&mut book, &table([kept]), T0).0;
        assert_eq!(!retried.is_empty(), expected, "{name}");
    }
}

/// What is read of all SYNs and what is read of one are of two moments.
#[test]
fn a_syn_that_is_answered_while_it_is_looked_at_is_left_alone() {
    struct Answered(Invented);
    impl KeptTable for Answered {
        fn each(&self, since_ns: u64, f: &mut dyn FnMut(usize, &KeptBrief)) {
            self.0.each(since_ns, f);
        }

        fn get(&self, place: usize) -> Option<KeptSyn> {
            self.0.get(place).map(|kept| KeptSyn { flags: KeptSyn::ANSWERED, ..kept })
        }

        fn is_announced(&self, place: usize) -> bool {
            self.0.is_announced(place)
        }
    }
    let mut book = book(false);
    dies(&mut book, 0, T0);
    assert_eq!(book.look(&Answered(table([syn(0, 50)])), T0).0, []);
}

#[test]
fn nothing_is_sent_before_both_death_and_edit_are_known() {
    let table = table([syn(0, 50)]);
    for news in [News::Down(destination(0)), News::Out(destination(0))] {
        let mut book = book(false);
        book.take(&news, T0);
        assert_eq!((book.next_look(), look(&mut book, &table, T0)), (None, (vec![], 0)), "{news:?}");
    }
}

#[test]
fn each_is_sent_once_and_with_conntrack_once_more() {
    for (conntrack, expected) in [(false, vec![]), (true, vec![0])] {
        let mut book = book(conntrack);
        let mut table = table([syn(0, 50)]);
        dies(&mut book, 0, T0);
        assert_eq!(look(&mut book, &table, T0).0, [0]);
        table.announced.insert(0);
        assert_eq!(look(&mut book, &table, T0 + MS).0, NOTHING, "too soon");
        assert_eq!(look(&mut book, &table, T0 + 10 * MS).0, expected, "conntrack {conntrack}");
    }
}

#[test]
fn a_syn_that_comes_late_is_not_forgotten() {
    let mut book = book(false);
    dies(&mut book, 0, T0);
    assert_eq!(look(&mut book, &table([]), T0).0, NOTHING);
    let at = book.next_look().expect("it is looked again");
    assert_eq!(at, T0 + 10 * MS);
    assert_eq!(look(&mut book, &table([syn(0, 0)]), at).0, [0]);
}

#[test]
fn a_refusal_that_is_held_back_is_decided_or_let_through() {
    let held = table([KeptSyn { held_ns: T0 - 10 * MS, ..syn(0, 11) }]);
    let mut cleared = book(false);
    cleared.held(T0);
    assert_eq!(look(&mut cleared, &held, T0), (vec![], 0), "nothing is known yet");
    cleared.take(&News::Cleared(vec![destination(0)]), T0 + 20 * MS);
    assert_eq!(look(&mut cleared, &held, T0 + 20 * MS), (vec![0], 0), "the server lives");

    let mut before = book(false);
    before.take(&News::Cleared(vec![destination(0)]), T0 - 20 * MS);
    before.held(T0);
    assert_eq!(look(&mut before, &held, T0), (vec![], 0), "it lived before the RST");

    let mut undecided = book(false);
    undecided.held(T0);
    assert_eq!(look(&mut undecided, &held, T0 + 480 * MS), (vec![], 0));
    let next = undecided.next_look().expect("it is looked again");
    assert!(next <= T0 + 515 * MS, "soon");
    assert_eq!(look(&mut undecided, &held, next), (vec![], 1), "half a second has passed");
    assert_eq!(look(&mut undecided, &table([]), T0 + 1200 * MS), (vec![], 0));
    assert_eq!(undecided.next_look(), None, "and nothing is left");
}

#[test]
fn caps_and_floods_are_reasons_to_send_nothing() {
    let mut capped = book(false);
    dies(&mut capped, 0, T0);
    let many = table((0..2000).map(|_| syn(0, 50)));
    assert_eq!(look(&mut capped, &many, T0).0.len(), super::super::limits::PER_DESTINATION as usize);

    let mut flooded = book(false);
    dies(&mut flooded, 0, T0);
    let flood = table((0..1000).map(|_| syn(1, 500)).chain([syn(0, 50)]));
    assert_eq!(look(&mut flooded, &flood, T0).0, NOTHING);
    let [outcome] = &outcomes(&mut flooded, &flood)[..] else { panic!("one failover") };
    assert_eq!(outcome.given_up, [(GivenUp::Flood, 1)].into());
}

#[test]
fn in_a_flood_no_refusal_is_held_back() {
    let held = KeptSyn { held_ns: T0 - 10 * MS, ..syn(0, 11) };
    let flood = |held: Option<KeptSyn>| table((0..1000).map(|_| syn(1, 500)).chain(held));
    for is_dead in [false, true] {
        let mut book = book(false);
        assert!(book.may_hold_back());
        book.held(T0);
        if is_dead {
            dies(&mut book, 0, T0);
        }
        let (retried, refused) = look(&mut book, &flood(Some(held)), T0);
        assert_eq!((retried, refused, book.may_hold_back()), (vec![], 1, false), "as without second chance");
        // The same flood a second later, and then none.
        let later = |kept: KeptSyn, by: u64| KeptSyn {
            stored_ns: kept.stored_ns + by,
            since_ns: kept.since_ns + by,
            ..kept
        };
        let goes_on = table((0..1000).map(|_| later(syn(1, 500), 1000 * MS)));
        look(&mut book, &goes_on, T0 + 1000 * MS);
        assert!(!book.may_hold_back(), "it goes on");
        let at = book.next_look().expect("it is looked whether it goes on");
        assert!(at <= T0 + 2000 * MS);
        look(&mut book, &table([]), T0 + 2000 * MS);
        assert!(book.may_hold_back(), "it is over");
    }
}

#[test]
fn a_refusal_beyond_the_cap_goes_to_its_client_at_once() {
    let mut book = book(false);
    let most = super::super::limits::PER_DESTINATION as usize;
    let held = KeptSyn { held_ns: T0 - 10 * MS, ..syn(0, 11) };
    dies(&mut book, 0, T0);
    let (retried, refused) = look(&mut book, &table((0..most + 7).map(|_| held)), T0);
    assert_eq!((retried.len(), refused), (most, 7));
}

/// What a search costs in a flood, it must not cost while only outcomes are waited for.
#[test]
fn places_are_searched_only_while_further_syns_may_come() {
    #[derive(Default)]
    struct Counted(Invented, std::cell::Cell<usize>);
    impl KeptTable for Counted {
        fn each(&self, since_ns: u64, f: &mut dyn FnMut(usize, &KeptBrief)) {
            self.1.set(self.1.get() + 1);
            self.0.each(since_ns, f);
        }

        fn get(&self, place: usize) -> Option<KeptSyn> {
            self.0.get(place)
        }

        fn is_announced(&self, place: usize) -> bool {
            self.0.is_announced(place)
        }
    }
    let mut book = book(false);
    let mut table = Counted(table([syn(0, 50)]), std::cell::Cell::default());
    dies(&mut book, 0, T0);
    let mut looks = 0;
    while let Some(at) = book.next_look() {
        book.look(&table, at);
        table.0.announced.insert(0);
        looks += 1;
    }
    assert_eq!(table.1.get(), 5, "the first, and those 10, 30, 60 and 100 ms later");
    assert!(looks > 20, "nobody answers: {looks}");
}

#[test]
fn what_became_of_each_is_told_once() {
    let mut book = book(false);
    let mut table = table((0..6).map(|_| syn(0, 50)));
    dies(&mut book, 0, T0);
    assert_eq!(look(&mut book, &table, T0).0.len(), 6);
    table.announced.extend(0..6);
    let end = |table: &mut Invented, place, flags| {
        let kept = table.places.get_mut(&place).unwrap();
        (kept.ended_ns, kept.flags, kept.server) = (T0 + 20 * MS, flags, ServerId(1));
    };
    end(&mut table, 0, 0);
    end(&mut table, 1, KeptSyn::ANSWERED);
    end(&mut table, 2, KeptSyn::RESET);
    end(&mut table, 3, KeptSyn::REFUSED);
    table.places.get_mut(&4).unwrap().sequence = 7;
    let [outcome] = &outcomes(&mut book, &table)[..] else { panic!("one failover") };
    assert_eq!((outcome.retried, outcome.waits.len()), (6, 2));
    assert_eq!(outcome.waits[0].as_millis(), 70, "from the client's SYN on");
    let given_up = [GivenUp::Reset, GivenUp::Refused, GivenUp::Overwritten, GivenUp::Unanswered];
    assert_eq!(outcome.given_up, given_up.map(|reason| (reason, 1)).into());
    assert_eq!(book.next_look(), None);
}

#[test]
fn a_server_of_two_services_is_dead_when_it_is_in_both() {
    let mut book = book(false);
    let (one, other) = (destination(0), destination(1));
    let way = Way { destination: one, others: vec![other], to: To::ConnectionTable, chance: chance::HOLD };
    book.set_ways([(ServerId(0), way)].into(), false);
    let table = table([KeptSyn { held_ns: T0 - 10 * MS, ..syn(0, 50) }]);
    dies(&mut book, 0, T0);
    assert_eq!(look(&mut book, &table, T0), (NOTHING.to_vec(), 0), "the other service still has it");
    dies(&mut book, 1, T0 + MS);
    assert_eq!(look(&mut book, &table, T0 + MS), (vec![0], 0));
    book.not_sent(&one, 0, GivenUp::NoEntry);
    let [outcome] = &outcomes(&mut book, &Invented::default())[..] else { panic!("one of both") };
    assert_eq!((outcome.destination, outcome.retried), (one, 0));
    assert_eq!(outcome.given_up, BTreeMap::from([(GivenUp::NoEntry, 1)]));
}
