//! Packets of second chance: a kept SYN as the client had sent it, and the RST that the server had answered it with.
//! Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lvs_common::KeptSyn;

/// Linux's own initial hop limit; what the client's packet had left of its own isn't kept.
const HOPS: u8 = 64;
/// IANA's number.
const TCP: u8 = 6;
/// Where a TCP header has its checksum (RFC 9293, section 3.1).
const CHECKSUM: usize = 16;
/// RST and ACK.
const REFUSAL: u8 = 0x14;
/// The IPv4 header without options; a header of 5 words, version 4.
const IPV4: usize = 20;
/// Don't fragment.
const WHOLE: [u8; 2] = [0x40, 0];

/// The client of a kept SYN.
pub(super) fn client(kept: &KeptSyn) -> IpAddr {
    address(kept, &kept.client)
}

/// The address that it was sent to, as it left the director.
pub(super) fn destination(kept: &KeptSyn) -> IpAddr {
    address(kept, &kept.destination)
}

fn address(kept: &KeptSyn, words: &[u32; 4]) -> IpAddr {
    let bytes: [u8; 16] = bytemuck::cast(*words);
    let address = Ipv6Addr::from(bytes);
    match address.to_ipv4_mapped() {
        Some(address) if kept.flags & KeptSyn::IPV6 == 0 => address.into(),
        _ => address.into(),
    }
}

/// The SYN as an IP packet, to where the client had sent it; `None`: it is there as it left the director.
///
/// IPv4 options and IPv6 extension headers, the class of traffic and what was left of the hops are not those of the
/// original. `None` if what was kept is no SYN.
pub(super) fn syn(kept: &KeptSyn, to: Option<SocketAddr>) -> Option<Vec<u8>> {
    let mut header = kept.tcp.get(..usize::from(kept.length))?.to_vec();
    let is_whole = header.len() >= KeptSyn::SHORTEST && header.get(4..8)? == kept.sequence.to_be_bytes();
    let address = to.map_or_else(|| destination(kept), |to| to.ip());
    if let Some(to) = to.filter(|to| to.port() != 0) {
        header.get_mut(2..4)?.copy_from_slice(&to.port().to_be_bytes());
    }
    if is_whole { packet(client(kept), address, header) } else { None }
}

/// The RST with which its server had answered, as it came from there (RFC 9293, section 3.10.7.1).
pub(super) fn refusal(kept: &KeptSyn) -> Option<Vec<u8>> {
    let mut header = vec![0; KeptSyn::SHORTEST];
    header.get_mut(..2)?.copy_from_slice(kept.tcp.get(2..4)?);
    header.get_mut(2..4)?.copy_from_slice(kept.tcp.get(..2)?);
    header.get_mut(8..12)?.copy_from_slice(&kept.sequence.wrapping_add(1).to_be_bytes());
    *header.get_mut(12)? = 0x50;
    *header.get_mut(13)? = REFUSAL;
    packet(destination(kept), client(kept), header)
}

/// An Ethernet frame to the device of this address.
pub(super) fn frame(device: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] =
        if packet.first().is_some_and(|byte| byte >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] };
    [&device[..], &[0; 6], &ethertype, packet].concat()
}

/// An IP packet of a TCP header without data, with its checksum made anew.
fn packet(from: IpAddr, to: IpAddr, mut header: Vec<u8>) -> Option<Vec<u8>> {
    header.get_mut(CHECKSUM..CHECKSUM + 2)?.fill(0);
    let length = u16::try_from(header.len()).ok()?;
    let (from_bytes, to_bytes) = (octets(from), octets(to));
    let pseudo = [&from_bytes[..], &to_bytes, &[0, TCP], &length.to_be_bytes(), &header].concat();
    let sum = checksum(&pseudo).to_be_bytes();
    header.get_mut(CHECKSUM..CHECKSUM + 2)?.copy_from_slice(&sum);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Some([ipv4(from, to, length)?, header].concat()),
        (IpAddr::V6(_), IpAddr::V6(_)) => {
            let start = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[TCP, HOPS]].concat();
            Some([start, from_bytes, to_bytes, header].concat())
        }
        _ => None,
    }
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, payload: u16) -> Option<Vec<u8>> {
    let total = payload.checked_add(u16::try_from(IPV4).ok()?)?;
    let start = [&[0x45, 0][..], &total.to_be_bytes(), &[0, 0], &WHOLE, &[HOPS, TCP, 0, 0]].concat();
    let mut header = [start, from.octets().to_vec(), to.octets().to_vec()].concat();
    let sum = checksum(&header).to_be_bytes();
    header.get_mut(10..12)?.copy_from_slice(&sum);
    Some(header)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The Internet's checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default()))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "folded into 16 bits")]
    let folded = sum as u16;
    !folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::second_chance::testing::kept;

    /// The sum over a packet with its checksums in place is 0.
    fn is_whole(packet: &[u8]) -> bool {
        let (addresses, header) = match packet[0] >> 4 {
            4 => (packet[12..20].to_vec(), &packet[20..]),
            _ => (packet[8..40].to_vec(), &packet[40..]),
        };
        let length = u16::try_from(header.len()).unwrap().to_be_bytes();
        let pseudo = [&addresses[..], &[0, TCP], &length, header].concat();
        checksum(&pseudo) == 0 && (packet[0] >> 4 == 6 || checksum(&packet[..20]) == 0)
    }

    #[test]
    fn a_syn_goes_where_the_client_had_sent_it() {
        let vip: SocketAddr = "192.0.2.80:8080".parse().unwrap();
        let sent = kept("198.51.100.7:40000", "10.0.0.1:80");
        let packet = syn(&sent, Some(vip)).unwrap();
        assert!(is_whole(&packet));
        assert_eq!(packet[16..20], [192, 0, 2, 80]);
        assert_eq!((&packet[20..22], &packet[22..24]), (&sent.tcp[..2], &8080_u16.to_be_bytes()[..]));
        assert_eq!(packet[24..36], sent.tcp[4..16], "sequence, flags and window are the client's");
        assert_eq!(packet[38..], sent.tcp[18..usize::from(sent.length)], "and the options");
    }

    #[test]
    fn an_unchanged_destination_is_kept_in_either_version() {
        for (client, to) in
            [("198.51.100.7:40000", "192.0.2.80:80"), ("[2001:db8:7::7]:40000", "[2001:db8::80]:80")]
        {
            let sent = kept(client, to);
            let packet = syn(&sent, None).unwrap();
            assert!(is_whole(&packet), "{client}");
            let length = usize::from(sent.length);
            assert_eq!(packet[packet.len() - length + 18..], sent.tcp[18..length], "{client}");
        }
    }

    #[test]
    fn a_refusal_acknowledges_the_syn() {
        let sent = kept("198.51.100.7:40000", "10.0.0.1:80");
        let packet = refusal(&sent).unwrap();
        assert!(is_whole(&packet));
        assert_eq!((&packet[12..16], &packet[16..20]), (&[10, 0, 0, 1][..], &[198, 51, 100, 7][..]));
        assert_eq!((packet[33], &packet[28..32]), (REFUSAL, &(sent.sequence + 1).to_be_bytes()[..]));
    }

    #[test]
    fn what_does_not_fit_together_is_no_syn() {
        let torn = KeptSyn { sequence: 1, ..kept("198.51.100.7:40000", "10.0.0.1:80") };
        assert_eq!(syn(&torn, None), None);
        let short = KeptSyn { length: 8, ..kept("198.51.100.7:40000", "10.0.0.1:80") };
        assert_eq!(syn(&short, None), None);
        let mixed = kept("198.51.100.7:40000", "10.0.0.1:80");
        assert_eq!(syn(&mixed, Some("[2001:db8::1]:80".parse().unwrap())), None);
    }

    #[test]
    fn a_frame_says_what_is_in_it() {
        let packet = syn(&kept("[2001:db8:7::7]:1", "[2001:db8::80]:80"), None).unwrap();
        assert_eq!(frame([2; 6], &packet)[..14], [2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0x86, 0xdd]);
    }
}
