//! Kept SYNs for tests.

use std::net::{IpAddr, SocketAddr};

use lvs_common::{KeptSyn, ServerId, mapped};

/// A SYN of this client's, which left the director to this address with a few options.
pub(super) fn kept(client: &str, to: &str) -> KeptSyn {
    let (client, to): (SocketAddr, SocketAddr) = (client.parse().unwrap(), to.parse().unwrap());
    let sequence = 0x0102_0304_u32;
    let mut tcp = [0; 64];
    tcp[..2].copy_from_slice(&client.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[12..16].copy_from_slice(&[0x60, 2, 0xfa, 0xf0]);
    tcp[20..24].copy_from_slice(&[2, 4, 5, 180]);
    KeptSyn {
        stored_ns: 1,
        since_ns: 1,
        ended_ns: 0,
        held_ns: 0,
        client: words(client.ip()),
        destination: words(to.ip()),
        server: ServerId(0),
        sequence,
        device: 2,
        reply_device: 0,
        mark: 0,
        retries: 0,
        flags: if client.is_ipv6() { KeptSyn::IPV6 } else { 0 },
        length: 24,
        zero: 0,
        tcp,
    }
}

fn words(address: IpAddr) -> [u32; 4] {
    bytemuck::cast(match address {
        IpAddr::V4(address) => mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    })
}
