//! The kinds of tunnel.

/// What a tunnelled packet is wrapped in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// IP in IP: protocol 4 for an inner IPv4 packet, 41 for IPv6.
    #[default]
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// The UDP port on the server, never 0.
        port: u16,
        /// How its checksum is made.
        flags: TunnelFlags,
    },
    /// GRE, protocol 47.
    Gre {
        /// How its checksum is made.
        flags: TunnelFlags,
    },
    /// One that this program doesn't know: passed through as it is.
    Other {
        /// `IPVS_DEST_ATTR_TUN_TYPE`, neither of the above.
        kind: u8,
        /// `IPVS_DEST_ATTR_TUN_PORT`.
        port: u16,
        /// `IPVS_DEST_ATTR_TUN_FLAGS`.
        flags: TunnelFlags,
    },
}

/// How a tunnel's checksum is made (`IP_VS_TUNNEL_ENCAP_FLAG_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TunnelFlags(pub u16);

impl TunnelFlags {
    /// There is none (`--tun-nocsum`).
    pub const NO_CHECKSUM: Self = Self(0);
    /// Over the whole packet (`--tun-csum`).
    pub const CHECKSUM: Self = Self(1);
    /// Remote checksum offload, GUE only (`--tun-remcsum`).
    pub const REMOTE_CHECKSUM: Self = Self(2);
}
