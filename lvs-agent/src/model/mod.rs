//! Values that the rest of the program speaks of: what an operator describes, in the words of LVS. No I/O, no
//! decisions.

mod announce;
mod check;
pub mod defaults;
mod facility;
mod idle_connection;
mod lvs;
mod notify;
mod on_exit;
mod peer_text;
mod policy;
mod role;
mod script_user;
mod second_chance;
mod secrets;
mod server;
mod service;
mod settings;
mod share;
mod sync;
mod unlisted;
mod via;
mod vip_lane;
pub mod vip_lanes;

pub use self::{
    announce::{AnnounceSettings, TrackAtStop, TrackFiles, TrackValue, VipAnnouncement},
    check::{
        AgentCheck, AgentOrder, AgentReport, BodyDigest, Check, CheckKind, ClearSecret, CommandCheck,
        CommandConvention, Database, DnsCheck, DnsExpect, DnsType, GreetingCheck, GreetingProtocol,
        HttpAuthorization, HttpCheck, HttpHeader, HttpHeaders, HttpMethod, HttpPage, HttpVersion, LdapCheck,
        Login, OracleCheck, Pattern, PatternError, RadiusCheck, Reported, SYSTEM_AUTHORITIES, Secret,
        SipCheck, SqlCheck, StatusCodes, TcpCheck, Tls, TlsIdentity, TlsStart, TlsVerify, Transport,
        UdpCheck, dns_name, is_dns_name,
    },
    facility::Facility,
    idle_connection::IdleConnection,
    lvs::*,
    notify::{
        LogTarget, MailAbout, MailRelay, MailSettings, Notifications, RelayLogin, RelayTls, RelayTlsStart,
    },
    on_exit::OnExit,
    peer_text::{PeerText, is_shown},
    policy::{CommandLine, FlapDamping, OnContradiction, PoolPolicy, Quorum, StartPolicy},
    role::{DirectorRole, RoleSetting},
    script_user::ScriptUser,
    second_chance::SecondChance,
    server::{Backup, Combine, FurtherChecks, RealServer},
    service::{OnFailure, Role, SchedulerFlags, VirtualService},
    settings::{
        AgentSettings, AttachOrder, BurstSettings, Config, ConnectionSettings, DetectorSettings, Foreign,
        Mode, NotManageable, PassiveSettings, TcxOrder,
    },
    share::{NoShare, Share},
    sync::{SyncGroup, SyncLength, SyncPorts, SyncRole, SyncSettings, SyncSysctls},
    unlisted::Unlisted,
    via::{DeviceName, ProbePath, Via, VipMarks},
    vip_lane::{PortBlock, VipLane, needs_own_source},
};

/// A MAC address.
pub type Mac = [u8; 6];
