use bytemuck::{Pod, Zeroable};

/// What one CPU has counted for one server since the programs were loaded. Monotonic; sum over CPUs.
///
/// 128 bytes: two cache lines, never shared between CPUs.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServerCounters {
    /// Packets from clients to the server. With GSO one packet counts as many as its segments.
    pub packets_in: u64,
    /// Bytes from clients to the server, link-layer header included.
    pub bytes_in: u64,
    /// Packets from the server (masquerade only).
    pub packets_out: u64,
    /// Bytes from the server, link-layer header included (masquerade only).
    pub bytes_out: u64,
    /// First SYNs: handshakes that clients began.
    pub syn: u64,
    /// The same SYN again.
    pub syn_again: u64,
    /// Handshakes completed: the client's ACK that follows its SYN.
    pub handshakes: u64,
    /// SYN-ACKs from the server (masquerade only).
    pub syn_ack: u64,
    /// RSTs from the server in answer to a SYN: refused (masquerade only).
    pub refused: u64,
    /// RSTs from the server on an established connection (masquerade only).
    pub server_reset: u64,
    /// RSTs from clients on a handshake that was still open.
    pub client_abort: u64,
    /// RSTs from clients on an established connection.
    pub client_reset: u64,
    /// FINs from clients.
    pub client_fin: u64,
    /// FINs from the server (masquerade only).
    pub server_fin: u64,
    /// Sum of the times from the first unanswered SYN to the next proof of life, in ns.
    pub wait_sum_ns: u64,
    /// How many such waits ended.
    pub waits: u64,
}

impl ServerCounters {
    /// The sum of both, field by field.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let &Self {
            packets_in,
            bytes_in,
            packets_out,
            bytes_out,
            syn,
            syn_again,
            handshakes,
            syn_ack,
            refused,
            server_reset,
            client_abort,
            client_reset,
            client_fin,
            server_fin,
            wait_sum_ns,
            waits,
        } = other;
        Self {
            packets_in: self.packets_in.wrapping_add(packets_in),
            bytes_in: self.bytes_in.wrapping_add(bytes_in),
            packets_out: self.packets_out.wrapping_add(packets_out),
            bytes_out: self.bytes_out.wrapping_add(bytes_out),
            syn: self.syn.wrapping_add(syn),
            syn_again: self.syn_again.wrapping_add(syn_again),
            handshakes: self.handshakes.wrapping_add(handshakes),
            syn_ack: self.syn_ack.wrapping_add(syn_ack),
            refused: self.refused.wrapping_add(refused),
            server_reset: self.server_reset.wrapping_add(server_reset),
            client_abort: self.client_abort.wrapping_add(client_abort),
            client_reset: self.client_reset.wrapping_add(client_reset),
            client_fin: self.client_fin.wrapping_add(client_fin),
            server_fin: self.server_fin.wrapping_add(server_fin),
            wait_sum_ns: self.wait_sum_ns.wrapping_add(wait_sum_ns),
            waits: self.waits.wrapping_add(waits),
        }
    }
}

/// What one CPU could not or did not attribute to a server. Monotonic; sum over CPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Doubts {
    /// Packets that are no IPv4 TCP: ARP, IPv6, UDP, …
    pub other_protocol: u64,
    /// IPv4 TCP packets to or from none of the servers.
    pub no_server: u64,
    /// Fragments that are not the first: they carry no ports.
    pub fragment: u64,
    /// Packets shorter than their headers claim, or with headers that can't be (IPv4 header below 20 bytes, …).
    pub malformed: u64,
    /// Frames with a VLAN tag inside the packet, which is not looked into.
    pub vlan: u64,
    /// Edges that found the ring buffer full.
    pub edge_lost: u64,
    /// Handshakes that could not be stored.
    pub handshake_lost: u64,
    /// An id in a map that is outside the arrays: the agent's fault.
    pub bad_server_id: u64,
}

impl Doubts {
    /// The sum of both, field by field.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let &Self {
            other_protocol,
            no_server,
            fragment,
            malformed,
            vlan,
            edge_lost,
            handshake_lost,
            bad_server_id,
        } = other;
        Self {
            other_protocol: self.other_protocol.wrapping_add(other_protocol),
            no_server: self.no_server.wrapping_add(no_server),
            fragment: self.fragment.wrapping_add(fragment),
            malformed: self.malformed.wrapping_add(malformed),
            vlan: self.vlan.wrapping_add(vlan),
            edge_lost: self.edge_lost.wrapping_add(edge_lost),
            handshake_lost: self.handshake_lost.wrapping_add(handshake_lost),
            bad_server_id: self.bad_server_id.wrapping_add(bad_server_id),
        }
    }
}
