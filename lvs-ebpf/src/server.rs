//! Whose packet is it? Never a guess: an exact entry in a map, or nobody's.

use lvs_common::{DirectRouteKey, MasqueradeKey, ServerId};

use crate::{
    maps::{DIRECT_ROUTE, MASQUERADE},
    packet::Packet,
};

/// The server that a packet is sent to: by address and port where IPVS has rewritten them, else by MAC address and the
/// virtual address and port that direct route leaves in place.
#[inline(always)]
pub(crate) fn addressed_by(packet: &Packet) -> Option<ServerId> {
    if let Some(id) = masqueraded(packet.destination, packet.destination_port) {
        return Some(id);
    }
    let key = DirectRouteKey::new(packet.destination, packet.destination_port, packet.mac);
    // SAFETY: the value is a number that the agent writes once, before the entry is there for anyone to see.
    unsafe { DIRECT_ROUTE.get(key) }.copied()
}

/// The masqueraded server that a packet comes from.
#[inline(always)]
pub(crate) fn answering_in(packet: &Packet) -> Option<ServerId> {
    masqueraded(packet.source, packet.source_port)
}

#[inline(always)]
fn masqueraded(address: [u8; 4], port: [u8; 2]) -> Option<ServerId> {
    // SAFETY: as for direct route above.
    unsafe { MASQUERADE.get(MasqueradeKey::new(address, port)) }.copied()
}
