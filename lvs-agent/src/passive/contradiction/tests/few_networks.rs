//! Fewer than three client networks.

use super::*;

fn of(network: u32, traffic: Traffic) -> Traffic {
    Traffic { networks: vec![network], ..traffic }
}

fn unanswered(network: u32) -> Traffic {
    of(network, connection(0, 1))
}

fn answered(network: u32) -> Traffic {
    of(network, served(0, 1))
}

fn lost(network: u32) -> Traffic {
    Traffic { syn_acks: 1, ..unanswered(network) }
}

/// Of another network than the first one.
fn other(look: u64) -> u32 {
    7 + u32::try_from(look % 11).unwrap()
}

/// Whose answers are witnesses of a single client network: those that siblings have given since, and that have arrived.
#[test]
fn few_client_networks_fail_where_siblings_answer_them_meanwhile() {
    let cases: [Case; 9] = [
        (
            "one network",
            2,
            Spread::Even,
            HALF,
            |server, look| if server == 0 { connection(look, 1) } else { served(look, 1) },
            &[(0, Missing::Handshake, 20, 23)],
        ),
        (
            "one bad network that stays with its server",
            3,
            Spread::Pinned,
            HALF,
            |server, look| if server == 0 { connection(look, 1) } else { served(look, 1) },
            &[],
        ),
        (
            "two networks",
            3,
            Spread::Even,
            HALF,
            |server, look| if server == 0 { connection(look, 2) } else { served(look, 2) },
            &[(0, Missing::Handshake, 20, 23)],
        ),
        (
            "one of two is answered by nobody",
            3,
            Spread::Even,
            HALF,
            |server, look| match (server, look % 2) {
                (0, 0) => unanswered(0),
                (0, _) => unanswered(100),
                _ => answered(0),
            },
            &[],
        ),
        (
            "answered until shortly after the silence began, not since",
            3,
            Spread::Even,
            HALF,
            |server, look| match server {
                0 => unanswered(0),
                _ if look < 40 => answered(0),
                _ => answered(other(look)),
            },
            &[],
        ),
        (
            "answered now and then",
            3,
            Spread::Even,
            HALF,
            |server, look| match server {
                0 => unanswered(0),
                _ if look % 100 == 0 => answered(0),
                _ => answered(other(look)),
            },
            &[(0, Missing::Handshake, 20, 23)],
        ),
        (
            "masquerade, and no answer at all",
            3,
            Spread::Even,
            WHOLE,
            |server, look| if server == 0 { connection(look, 1) } else { served(look, 1) },
            &[(0, Missing::SynAck, 20, 23)],
        ),
        (
            "masquerade, and answers that nobody takes",
            3,
            Spread::Even,
            WHOLE,
            |server, _| if server == 0 { lost(0) } else { answered(0) },
            &[(0, Missing::Handshake, 20, 23)],
        ),
        (
            "masquerade, and the siblings' answers are lost as well",
            3,
            Spread::Even,
            WHOLE,
            |server, look| match (server, look % 20) {
                (0, _) | (_, 0) => lost(0),
                _ => answered(other(look)),
            },
            &[],
        ),
    ];
    check(Protocol::Tcp, &cases);
}
