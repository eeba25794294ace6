//! UDP to and from masqueraded servers. Those seen only one way tell nothing.

use lvs_common::Handshake;

use crate::{client::Client, clock, handshake, maps::HANDSHAKES, signal::Signal};

/// A client, or the agent itself, has sent a datagram.
#[inline(never)]
pub(crate) fn sent(signal: &mut Signal, client: &Client, probe: bool) {
    let now = clock::exact();
    let key = &client.handshake(signal.id);
    let flags = if probe { Handshake::PROBE } else { 0 };
    if !probe {
        signal.wants_listener(client.origin(), now);
    }
    if let Some(open) = HANDSHAKES.get_ptr_mut(key) {
        // SAFETY: the entry is a plain value in a preallocated map; if it is reused meanwhile, one time is not counted.
        unsafe { (*open).flags = (*open).flags & !Handshake::REPORTED | Handshake::AGAIN | flags };
    } else {
        handshake::store(key, Handshake { since_ns: now, sequence: 0, flags });
    }
}

/// The server has sent a datagram: proof of life, unless the agent itself had asked.
#[inline(never)]
pub(crate) fn answered(signal: &mut Signal, client: &Client) {
    let key = client.handshake(signal.id);
    let open = handshake::lookup(&key);
    if open.is_some() {
        handshake::remove(&key);
    }
    match open {
        Some(open) if open.flags & Handshake::PROBE != 0 => return,
        Some(open) => handshake::listener_answered(signal, client, &open),
        None => {
            let now = clock::exact();
            signal.listener_answered(client.network(), now);
            signal.listener_alive(now);
        }
    }
    signal.replied(clock::coarse());
}
