//! The numbers of the protocol (`include/uapi/linux/ip_vs.h`).

use neli::{
    consts::genl::{Cmd, NlAttrType},
    neli_enum,
};

/// Version of the family's protocol (`IPVS_GENL_VERSION`).
pub(crate) const VERSION: u8 = 1;

/// `IPVS_CMD_*`: the kind of a request or an answer.
#[neli_enum(serialized_type = "u8")]
pub(crate) enum Command {
    NewService = 1,
    SetService = 2,
    DelService = 3,
    GetService = 4,
    NewDest = 5,
    SetDest = 6,
    DelDest = 7,
    GetDest = 8,
    NewDaemon = 9,
    DelDaemon = 10,
    GetDaemon = 11,
    SetConfig = 12,
    GetConfig = 13,
    SetInfo = 14,
    GetInfo = 15,
    Zero = 16,
    Flush = 17,
}

impl Cmd for Command {}

/// `IPVS_CMD_ATTR_*`: the attributes of most messages.
#[neli_enum(serialized_type = "u16")]
pub(super) enum TopAttribute {
    Service = 1,
    Dest = 2,
    Daemon = 3,
    TimeoutTcp = 4,
    TimeoutTcpFin = 5,
    TimeoutUdp = 6,
}

impl NlAttrType for TopAttribute {}

/// `IPVS_INFO_ATTR_*`: the attributes of the answer to [`Command::GetInfo`].
#[neli_enum(serialized_type = "u16")]
pub(super) enum InfoAttribute {
    Version = 1,
    ConnTabSize = 2,
}

impl NlAttrType for InfoAttribute {}

/// `IPVS_SVC_ATTR_*`.
#[neli_enum(serialized_type = "u16")]
pub(super) enum ServiceAttribute {
    Af = 1,
    Protocol = 2,
    Addr = 3,
    Port = 4,
    Fwmark = 5,
    SchedName = 6,
    Flags = 7,
    Timeout = 8,
    Netmask = 9,
    Stats = 10,
    PeName = 11,
    Stats64 = 12,
}

impl NlAttrType for ServiceAttribute {}

/// `IPVS_DEST_ATTR_*`.
#[neli_enum(serialized_type = "u16")]
pub(super) enum DestinationAttribute {
    Addr = 1,
    Port = 2,
    FwdMethod = 3,
    Weight = 4,
    UThresh = 5,
    LThresh = 6,
    ActiveConns = 7,
    InactConns = 8,
    PersistConns = 9,
    Stats = 10,
    AddrFamily = 11,
    Stats64 = 12,
    TunType = 13,
    TunPort = 14,
    TunFlags = 15,
}

impl NlAttrType for DestinationAttribute {}

/// `IPVS_STATS_ATTR_*`.
#[neli_enum(serialized_type = "u16")]
pub(super) enum StatisticsAttribute {
    Conns = 1,
    Inpkts = 2,
    Outpkts = 3,
    Inbytes = 4,
    Outbytes = 5,
    Cps = 6,
    Inpps = 7,
    Outpps = 8,
    Inbps = 9,
    Outbps = 10,
    Pad = 11,
}

impl NlAttrType for StatisticsAttribute {}

/// `IPVS_DAEMON_ATTR_*`.
#[neli_enum(serialized_type = "u16")]
pub(super) enum DaemonAttribute {
    State = 1,
    McastIfn = 2,
    SyncId = 3,
    SyncMaxlen = 4,
    McastGroup = 5,
    McastGroup6 = 6,
    McastPort = 7,
    McastTtl = 8,
}

impl NlAttrType for DaemonAttribute {}

/// `AF_INET` on Linux.
pub(super) const AF_INET: u16 = 2;

/// `AF_INET6` on Linux.
pub(super) const AF_INET6: u16 = 10;

/// `IP_VS_SVC_F_PERSISTENT`.
pub(super) const FLAG_PERSISTENT: u32 = 0x01;
