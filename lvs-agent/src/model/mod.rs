//! Values that the rest of the program speaks of: what an operator describes, in the words of LVS. No I/O, no
//! decisions.

mod check;
pub mod defaults;
mod lvs;
mod notify;
mod policy;
mod server;
mod service;
mod settings;
mod unlisted;
mod via;

pub use self::{
    check::{
        BodyDigest, Check, CheckKind, CommandCheck, CommandConvention, Database, DnsCheck, DnsExpect,
        DnsType, GreetingCheck, GreetingProtocol, HttpCheck, HttpMethod, HttpPage, HttpVersion, LdapCheck,
        Login, OracleCheck, Pattern, PatternError, RadiusCheck, Secret, SipCheck, SqlCheck, StatusCodes,
        TcpCheck, Tls, TlsStart, TlsVerify, Transport, UdpCheck, dns_name, is_dns_name,
    },
    lvs::*,
    notify::{
        LogTarget, MailAbout, MailRelay, MailSettings, Notifications, RelayLogin, RelayTls, RelayTlsStart,
    },
    policy::{CommandLine, FlapDamping, PoolPolicy, Quorum, StartPolicy},
    server::{Backup, Combine, FurtherChecks, RealServer},
    service::{OnExit, OnFailure, Role, SchedulerFlags, VirtualService},
    settings::{
        AgentSettings, BurstSettings, Config, ConnectionSettings, DetectorSettings, Foreign, Mode,
        NotManageable, PassiveSettings,
    },
    unlisted::Unlisted,
    via::{DeviceName, Via},
};
