//! Values that the rest of the program speaks of: what an operator describes, in the words of LVS. No I/O, no decisions.

mod check;
pub mod defaults;
mod lvs;
mod notify;
mod policy;
mod service;
mod settings;
mod unlisted;
mod via;

pub use self::{
    check::{
        BodyDigest, Check, CommandConvention, CommandQuestion, Database, DnsQuestion, DnsType,
        GreetingProtocol, GreetingQuestion, HttpMethod, HttpPage, HttpQuestion, HttpVersion, LdapQuestion,
        Login, OracleQuestion, Pattern, PatternError, Question, RadiusQuestion, Secret, SipQuestion,
        SqlQuestion, StatusCodes, TcpQuestion, Tls, TlsStart, TlsVerify, Transport, UdpQuestion,
    },
    lvs::*,
    notify::{LogTarget, MailAbout, MailSettings, Notifications},
    policy::{Backup, CommandLine, FlapDamping, PoolPolicy, Quorum, StartPolicy},
    service::{Combine, FurtherChecks, OnFailure, RealServer, Role, SchedulerFlags, VirtualService},
    settings::{
        AgentSettings, BurstSettings, Config, ConnectionSettings, DetectorSettings, Foreign, Mode,
        NotManageable, OnExit, PassiveSettings,
    },
    unlisted::Unlisted,
    via::{DeviceName, Via},
};
