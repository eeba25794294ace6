//! Values that the rest of the program speaks of: what an operator describes, in the words of LVS. No I/O, no
//! decisions.

mod check;
pub mod defaults;
mod idle_connection;
mod lvs;
mod notify;
mod policy;
mod script_user;
mod server;
mod service;
mod settings;
mod unlisted;
mod via;

pub use self::{
    check::{
        AgentCheck, AgentOrder, AgentReport, BodyDigest, Check, CheckKind, CommandCheck, CommandConvention,
        Database, DnsCheck, DnsExpect, DnsType, GreetingCheck, GreetingProtocol, HttpAuthorization,
        HttpCheck, HttpHeader, HttpHeaders, HttpMethod, HttpPage, HttpVersion, LdapCheck, Login, OracleCheck,
        Pattern, PatternError, RadiusCheck, Reported, SYSTEM_AUTHORITIES, Secret, SipCheck, SqlCheck,
        StatusCodes, TcpCheck, Tls, TlsIdentity, TlsStart, TlsVerify, Transport, UdpCheck, dns_name,
        is_dns_name,
    },
    idle_connection::IdleConnection,
    lvs::*,
    notify::{
        LogTarget, MailAbout, MailRelay, MailSettings, Notifications, RelayLogin, RelayTls, RelayTlsStart,
    },
    policy::{CommandLine, FlapDamping, OnContradiction, PoolPolicy, Quorum, StartPolicy},
    script_user::ScriptUser,
    server::{Backup, Combine, FurtherChecks, RealServer},
    service::{OnExit, OnFailure, Role, SchedulerFlags, VirtualService},
    settings::{
        AgentSettings, BurstSettings, Config, ConnectionSettings, DetectorSettings, Foreign, Mode,
        NotManageable, PassiveSettings,
    },
    unlisted::Unlisted,
    via::{DeviceName, Via},
};
