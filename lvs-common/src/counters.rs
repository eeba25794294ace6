use bytemuck::{Pod, Zeroable};

use crate::Latencies;

/// Makes the struct and the sum of two of them, so that no field is forgotten in either.
macro_rules! counters {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        pub struct $name {
            $($(#[$what])* pub $field: $type,)*
        }

        impl $name {
            /// The sum of both, field by field.
            #[must_use]
            pub fn plus(&self, other: &Self) -> Self {
                Self { $($field: sum::Plus::plus(&self.$field, &other.$field),)* }
            }
        }
    };
}

mod sum {
    use super::Latencies;

    pub(super) trait Plus {
        fn plus(&self, other: &Self) -> Self;
    }

    impl Plus for u64 {
        fn plus(&self, other: &Self) -> Self {
            self.wrapping_add(*other)
        }
    }

    impl<const N: usize> Plus for [u64; N] {
        fn plus(&self, other: &Self) -> Self {
            core::array::from_fn(|index| self[index].wrapping_add(other[index]))
        }
    }

    impl Plus for Latencies {
        fn plus(&self, other: &Self) -> Self {
            self.plus(other)
        }
    }
}

counters! {
    /// What one CPU has counted for one server since the programs were loaded. Monotonic; sum over CPUs.
    ///
    /// Whole cache lines, never shared between CPUs.
    #[repr(C, align(64))]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
    ServerCounters {
        /// Packets from clients to the server. With GSO one packet counts as many as its segments.
        packets_in: u64,
        /// Bytes from clients to the server, link-layer header included.
        bytes_in: u64,
        /// Packets from the server (masquerade only).
        packets_out: u64,
        /// Bytes from the server, link-layer header included (masquerade only).
        bytes_out: u64,
        /// First SYNs: handshakes that clients began.
        syn: u64,
        /// The same SYN again.
        syn_again: u64,
        /// Handshakes completed: the client's ACK that follows its SYN.
        handshakes: u64,
        /// SYN-ACKs from the server (masquerade only).
        syn_ack: u64,
        /// RSTs from the server in answer to a SYN: refused (masquerade only).
        refused: u64,
        /// RSTs from the server on an established connection (masquerade only).
        server_reset: u64,
        /// RSTs from clients on a handshake that was still open.
        client_abort: u64,
        /// RSTs from clients on an established connection.
        client_reset: u64,
        /// FINs from clients.
        client_fin: u64,
        /// FINs from the server (masquerade only).
        server_fin: u64,
        /// ICMP or ICMPv6 messages that call the server or its port unreachable, and quote a handshake, a datagram or
        /// a sampled flow that is open.
        unreachable: u64,
        /// Requests on sampled flows: data that a client sent while it waited for nothing.
        requests: u64,
        /// Responses on sampled flows: the first advance of the acknowledgement number after a request.
        responses: u64,
        /// Data segments sent again on sampled flows without progress in between.
        sent_again: u64,
        /// How long handshakes take: from the SYN to the SYN-ACK where it is seen, else to the client's ACK.
        handshake: Latencies,
        /// How long requests on sampled flows wait for their response, the client's way included.
        response: Latencies,
        /// Such messages that quote nothing that is open: about flows that aren't sampled, or forged. They are no
        /// evidence.
        unreachable_doubted: u64,
        /// Not used: the value fills whole cache lines.
        spare: [u64; 5],
    }
}

counters! {
    /// Packets that one CPU did not attribute to a server, by reason; and edges and handshakes that were lost.
    /// Monotonic; sum over CPUs.
    #[repr(C, align(64))]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
    UnattributedCounters {
        /// Packets that are neither IPv4 nor IPv6 (ARP, …), or at a server's address but of a protocol that IPVS
        /// doesn't balance; into the director also ICMP that calls nothing unreachable.
        other_protocol: u64,
        /// Packets to or from none of the servers. Most are recognised by their address alone.
        no_server: u64,
        /// Packets that end at a tunnelled server's address but carry nothing for a service, or in a form that isn't
        /// known. Not exact: an address that shares its interest byte with such a server's counts here too.
        unknown_tunnel: u64,
        /// Fragments that are not the first: they carry no ports.
        fragment: u64,
        /// Packets shorter than their headers claim, or with headers that can't be (IPv4 header below 20 bytes, …).
        malformed: u64,
        /// Frames with more VLAN tags inside the packet than are looked behind.
        vlan: u64,
        /// IPv6 packets with more extension headers than are looked behind.
        extensions: u64,
        /// Edges that found the ring buffer full.
        edge_lost: u64,
        /// Handshakes that could not be stored.
        handshake_lost: u64,
        /// An id in a map that is outside the arrays: the agent's fault.
        bad_server_id: u64,
        /// Not used: the value fills whole cache lines.
        spare: [u64; 6],
    }
}
