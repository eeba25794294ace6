use std::ops::Range;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn hint(server: u32, evidence: Evidence) -> Hint {
    Hint { id: ServerId(server), layer: Layer::Host, source: None, evidence }
}

fn neighbour(server: u32) -> Hint {
    hint(server, Evidence::NeighbourFailed)
}

fn doubted(server: u32, service: u16) -> Doubted {
    let [_, a, b, c] = server.to_be_bytes();
    let address = ([192, 0, 2, 1], service).into();
    let service = ServiceKey::Address { protocol: crate::model::Protocol::Tcp, address };
    Doubted { server: ([10, a, b, c], 80).into(), service }
}

fn budget(rate: u32) -> HintBudget {
    HintBudget::new(&BurstSettings { hint_rate: rate.try_into().unwrap(), ..BurstSettings::default() })
}

/// When hints are followed that come all the time and are all refuted.
fn followed(budget: &mut HintBudget, start: Instant, seconds: u32, packets: u32) -> Vec<Duration> {
    let mut followed = Vec::new();
    for tick in 0..seconds * 10 {
        let at = tick * SECOND / 10;
        if budget.take(&neighbour(1), doubted(1, 80), packets, start + at).is_ok() {
            budget.refuted(&neighbour(1), Some(doubted(1, 80)), 0, start + at);
            followed.push(at);
        }
    }
    followed
}

#[test]
fn hints_that_are_refuted_are_followed_ever_more_rarely() {
    let (mut budget, start) = (budget(100), Instant::now());
    let seconds: Vec<_> = followed(&mut budget, start, 300, 2).iter().map(Duration::as_secs).collect();
    assert_eq!(seconds[..7], [0, 1, 3, 7, 15, 31, 61], "{seconds:?}");
    assert!(seconds.len() <= 16, "{seconds:?}");
    // After a calm it is as at the beginning.
    let later = start + 300 * SECOND + 7 * FORGIVEN_AFTER;
    let seconds: Vec<_> = followed(&mut budget, later, 8, 2).iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [0, 1, 3, 7]);
}

#[test]
fn one_kind_of_evidence_does_not_mute_another() {
    let (mut budget, now) = (budget(100), Instant::now());
    budget.refuted(&neighbour(1), None, 0, now);
    assert_eq!(budget.take(&neighbour(1), doubted(1, 80), 2, now), Err(Exhausted::Refuted));
    let other = hint(1, Evidence::Unreachable { messages: 1 });
    assert_eq!(budget.take(&other, doubted(1, 80), 2, now), Ok(()));
    assert_eq!(budget.take(&neighbour(2), doubted(2, 80), 2, now), Ok(()), "nor another server");
}

#[test]
fn what_a_refuted_hint_took_beyond_its_probe_is_paid_for() {
    let (mut budget, now) = (budget(100), Instant::now());
    budget.take(&neighbour(1), doubted(1, 80), 2, now).unwrap();
    budget.refuted(&neighbour(1), Some(doubted(1, 80)), 5, now);
    let other = hint(1, Evidence::Unreachable { messages: 1 });
    assert_eq!(budget.take(&other, doubted(1, 80), 2, now + 2 * SECOND), Err(Exhausted::Server));
    assert_eq!(budget.take(&other, doubted(1, 80), 2, now + 3 * SECOND), Ok(()));
}

#[test]
fn a_service_under_attack_leaves_the_others_their_share() {
    let (mut budget, now) = (budget(80), Instant::now());
    let attacked =
        |budget: &mut HintBudget, server| budget.take(&neighbour(server), doubted(server, 1), 2, now).is_ok();
    let given = (0..1000).filter(|server| attacked(&mut budget, *server)).count();
    assert_eq!(given, 40, "half of all, while nobody else wants any");
    for service in 2..6 {
        let mut take = |server| budget.take(&neighbour(server), doubted(server, service), 2, now).is_ok();
        let given = (0..10).filter(|server| take(1000 + 10 * u32::from(service) + server)).count();
        assert_eq!(given, 10, "an eighth each");
    }
    assert_eq!(budget.take(&neighbour(9000), doubted(9000, 7), 2, now), Err(Exhausted::Total));
}

proptest! {
    /// Whatever hints come, refuted or not: within any ten seconds a server is sent a packet a second and what it
    /// may be sent at once, and all servers are asked no more often than the rate and one second's worth.
    #[test]
    fn never_more_than_the_rates(
        rate in 1_u32..20,
        hints in proptest::collection::vec((0_u32..4, 0_u32..3, 1_u32..6, any::<bool>(), 0_u64..400), 1..300),
    ) {
        let start = Instant::now();
        let (mut budget, mut now) = (budget(rate), start);
        let mut sent: Vec<(u32, u32, Instant)> = Vec::new();
        for (server, evidence, packets, is_refuted, wait) in hints {
            now += Duration::from_millis(wait);
            let evidence = match evidence {
                0 => Evidence::NeighbourFailed,
                1 => Evidence::Unreachable { messages: 1 },
                _ => Evidence::Refused { refusals: 1, within: Duration::ZERO },
            };
            let hint = hint(server, evidence);
            if budget.take(&hint, doubted(server, 80), packets, now).is_ok() {
                sent.push((server, packets, now));
                if is_refuted {
                    budget.refuted(&hint, Some(doubted(server, 80)), 0, now);
                }
            }
        }
        for (first, (server, _, from)) in sent.iter().enumerate() {
            let (mut own, mut all) = (0.0, 0.0);
            for (other, packets, at) in &sent[first..] {
                let seconds = (*at - *from).as_secs_f64();
                all += 1.0;
                if other == server {
                    own += f64::from(*packets);
                }
                prop_assert!(own <= SERVER_MOST + SERVER_RATE * seconds + 1e-6, "{own} packets in {seconds} s");
                prop_assert!(all <= f64::from(rate) * (1.0 + seconds) + 1e-6, "{all} hints in {seconds} s");
            }
        }
    }
}

/// A hint of the connections of these networks.
fn of_clients(server: u32, source: HintSource) -> Hint {
    let evidence =
        Evidence::Waiting { layer: Layer::Host, waited: SECOND, connections: 2, clients: 1, longest: None };
    Hint { source: Some(source), ..hint(server, evidence) }
}

/// Lets hints of these clients come about all of these servers, 250 of each service, as long as any is followed.
fn exhaust(
    budget: &mut HintBudget,
    servers: u32,
    source: impl Fn(u32) -> HintSource,
    now: Instant,
) -> Vec<u32> {
    let take = |server: &u32| {
        let service = u16::try_from(1 + server / 250).unwrap();
        budget.take(&of_clients(*server, source(*server)), doubted(*server, service), 2, now).is_ok()
    };
    (0..servers).filter(take).collect()
}

/// A hint has asked these servers at that time.
fn played_with(budget: &mut HintBudget, servers: Range<u32>, at: Instant) {
    for server in servers {
        budget.servers.entry(doubted(server, 1).server).or_default().asked = Some(at);
    }
}

#[test]
fn one_client_network_leaves_the_others_their_hints_whatever_servers_it_plays_with() {
    let (mut budget, now) = (budget(80), Instant::now());
    let played = |_| HintSource::Network(7);
    assert_eq!(exhaust(&mut budget, 10_000, played, now).len(), 70, "all but an eighth");
    let of_network = of_clients(20_000, HintSource::Network(7));
    assert_eq!(budget.take(&of_network, doubted(20_000, 900), 2, now), Err(Exhausted::Source));
    for (server, source) in [(20_001, HintSource::Network(8)), (20_002, HintSource::Several)] {
        assert_eq!(budget.take(&of_clients(server, source), doubted(server, 900), 2, now), Ok(()));
    }
    assert_eq!(budget.take(&neighbour(20_003), doubted(20_003, 900), 2, now), Ok(()), "no client's");
}

#[test]
fn servers_that_are_played_with_leave_the_others_their_hints_whoever_is_forged() {
    let (mut budget, now) = (budget(80), Instant::now());
    let forged = |server: u32| match server % 3 {
        0 => HintSource::Several,
        _ => HintSource::Network(u8::try_from(server % 256).unwrap()),
    };
    played_with(&mut budget, 0..4_000, now);
    assert_eq!(exhaust(&mut budget, 4_000, forged, now + SECOND).len(), 60, "all but a quarter");
    for network in 0..8 {
        let server = 20_000 + u32::from(network);
        let hint = of_clients(server, HintSource::Network(network));
        let of = doubted(server, 900 + u16::from(network));
        assert_eq!(budget.take(&hint, of, 2, now + SECOND), Ok(()), "{network}");
    }
}

#[test]
fn what_is_counted_goes_with_the_servers() {
    let (mut budget, now) = (budget(80), Instant::now());
    exhaust(&mut budget, 1_000, |server| HintSource::Network(u8::try_from(server % 256).unwrap()), now);
    budget.forget_full(now + RESTED / 2);
    assert!(!budget.servers.is_empty(), "who was asked lately is known");
    budget.forget_full(now + 2 * RESTED);
    assert!(budget.servers.is_empty() && budget.services.is_empty());
}

proptest! {
    /// Whatever one client network does, at however many servers and services and when: a hint of others about a server
    /// that was left in peace is followed.
    #[test]
    fn one_client_network_never_withholds_the_hints_of_others(
        rate in 32_u32..200,
        played in proptest::collection::vec((0_u32..5_000, 0_u64..40, 1_usize..60, any::<bool>()), 1..120),
        other in prop_oneof![Just(None), Just(Some(HintSource::Several)), Just(Some(HintSource::Network(8)))],
    ) {
        let (mut budget, mut now) = (budget(rate), Instant::now());
        for (server, wait, servers, is_refuted) in played {
            now += Duration::from_millis(wait);
            for server in (server..).take(servers) {
                let of = doubted(server, u16::try_from(1 + server % 40).unwrap());
                let hint = of_clients(server, HintSource::Network(7));
                if budget.take(&hint, of, 2, now).is_ok() && is_refuted {
                    budget.refuted(&hint, Some(of), 0, now);
                }
            }
        }
        let hint = Hint { source: other, ..neighbour(100_000) };
        prop_assert_eq!(budget.take(&hint, doubted(100_000, 900), 2, now), Ok(()));
    }

    /// Whoever is forged, and however often: once the servers that are played with were all asked lately, a hint about
    /// another one is followed, of a client network whose name is forged as well.
    #[test]
    fn forged_networks_never_withhold_the_hints_of_servers_that_are_left_in_peace(
        rate in 32_u32..200,
        played in proptest::collection::vec((0_u32..300, any::<u8>(), 0_u64..20), 1..400),
        network in any::<u8>(),
    ) {
        let (mut budget, mut now) = (budget(rate), Instant::now());
        played_with(&mut budget, 0..300, now);
        for (server, network, wait) in played {
            now += Duration::from_millis(wait);
            let of = doubted(server, u16::try_from(1 + server % 20).unwrap());
            let _followed_or_not = budget.take(&of_clients(server, HintSource::Network(network)), of, 2, now).is_ok();
        }
        let hint = of_clients(100_000, HintSource::Network(network));
        prop_assert_eq!(budget.take(&hint, doubted(100_000, 900), 2, now), Ok(()));
    }
}
