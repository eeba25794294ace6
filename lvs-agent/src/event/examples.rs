//! Examples of all events in all their forms, for the documents and tests.

use std::{net::SocketAddr, time::Duration};

use lvs_common::ServerId;

use super::{
    AnnounceWay, ChanceCause, ChanceResult, CommandRun, ConfigNotice, Consequence, ContradictionChange,
    ContradictionEnd, Event, GivenUp, HintFate, InstanceChange, LineFile, ListChange, MailResult, ProbeKind,
    ReloadCause, RoleReason, StateFileChange, Subject, SyncChange, Takeover, VipChange, WeightOccasion,
    Withdrawal,
};
use crate::{
    control::Reloaded,
    health::{Cause, State, Transition},
    ipvs::{DaemonRole, Edit, Sysctl, SysctlValue},
    model::{DestinationKey, DirectorRole, ForwardingMethod, Mode, Protocol, Role, ServiceKey, Weight},
    passive::{
        Comparison, Complaint, Evidence, Hint, Layer, Missing, Strength, Suspicion,
        blindness::{BlindnessChange, Counted, Way},
    },
    pool::{AdminAction, Drain, PoolEvent},
    probe::{
        Failure, FailureReason, Outcome, Success, Verdict,
        idle::{IdleChange, IdleEnd, IdleOff, IdleSign},
    },
};

/// At least one example of each event.
pub(crate) fn examples() -> Vec<Event> {
    [
        of_agent(),
        of_suspicions(),
        of_blindness(),
        of_idle_connections(),
        of_second_chances(),
        of_contradictions(),
        of_servers(),
        of_services(),
        of_table(),
        of_directors(),
        of_outside(),
        of_announcements(),
    ]
    .concat()
}

fn service() -> ServiceKey {
    let address = SocketAddr::from(([192, 0, 2, 80], 80));
    ServiceKey::Address { protocol: Protocol::Tcp, address }
}

fn destination() -> DestinationKey {
    DestinationKey { service: service(), server: SocketAddr::from(([10, 0, 0, 2], 8080)) }
}

fn subject() -> Subject {
    Subject { service: "web".into(), destination: destination() }
}

fn refused() -> Outcome {
    Err(Failure { reason: FailureReason::Refused, after: Duration::from_micros(250) })
}

fn answered() -> Success {
    Success { latency: Duration::from_micros(1250), connect: None, weight: None }
}

fn of_agent() -> Vec<Event> {
    let summary = Reloaded {
        table_changed: true,
        services_added: 1,
        services_removed: 0,
        servers_added: 2,
        servers_removed: 0,
        taken_over: vec!["checks of web".to_owned()],
        warnings: Vec::new(),
    };
    let error = "/etc/lvs-agent.toml:3:1: unknown key \"servise\"".to_owned();
    vec![
        Event::Ready { services: 2, mode: Mode::Manage },
        Event::Config(ConfigNotice::Warning {
            file: "/etc/lvs-agent.toml".into(),
            line: 12,
            column: 3,
            text: "timeout 2s is above the interval 1s".to_owned(),
        }),
        Event::Config(ConfigNotice::NeedsRestart { settings: vec!["`metrics` in `[agent]`"] }),
        Event::Config(ConfigNotice::EditsPending { reason: "the kernel's table is still being edited" }),
        Event::Config(ConfigNotice::Doubt { missing: 3, patience: Duration::from_secs(5) }),
        Event::Config(ConfigNotice::Doubt { missing: 0, patience: Duration::from_secs(5) }),
        Event::Config(ConfigNotice::NoLog {
            target: "/var/log/lvs.log".to_owned(),
            error: "Permission denied (os error 13)".to_owned(),
        }),
        Event::Reloaded { cause: ReloadCause::Hangup, summary },
        Event::ReloadFailed { cause: ReloadCause::FileChanged, error },
        Event::Services { services: [].into() },
        Event::Adopted { services: 2, servers: 6, administered: 1 },
        Event::Adopted { services: 0, servers: 0, administered: 0 },
        Event::AdoptedChange { change: ListChange { servers_added: 1, ..ListChange::default() } },
        Event::AfterFailure {
            reason: "the task controller has ended: it panicked: index out of bounds".to_owned(),
        },
        Event::Stopping,
        Event::Stopped,
        Event::Failed { error: "cannot listen on /run/lvs-agent/control".to_owned() },
    ]
}

fn of_suspicions() -> Vec<Event> {
    let evidence = Evidence::Refused { refusals: 3, within: Duration::from_millis(9) };
    let suspicion = Suspicion {
        id: ServerId(1),
        strength: Strength::Strong,
        layer: Layer::Host,
        evidence: evidence.clone(),
    };
    let hung = Evidence::Silent {
        layer: Layer::Application,
        silence: Duration::from_millis(214),
        clients: 4,
        attempts: 9,
        usual: None,
    };
    let overloaded = Evidence::Overloaded {
        silence: Duration::from_millis(180),
        clients: 5,
        attempts: 12,
        answered: Duration::from_millis(2),
    };
    let hint = |fate| {
        let hint = Hint { id: ServerId(1), layer: Layer::Application, source: None, evidence: hung.clone() };
        Event::Hint { subjects: vec![subject()], hint, fate }
    };
    vec![
        hint(HintFate::Asked),
        hint(HintFate::InProgress),
        hint(HintFate::NothingToAsk),
        hint(HintFate::Withheld { reason: "such a hint was refuted lately".to_owned() }),
        Event::Suspicion { subjects: vec![subject()], suspicion },
        Event::Reported { subject: subject(), evidence: hung },
        Event::Overloaded { subject: subject(), evidence: overloaded },
        Event::Correlated { subjects: vec![subject()], evidence: Some(evidence) },
        Event::Correlated { subjects: vec![subject()], evidence: None },
        Event::Cleared { subjects: vec![subject()] },
        Event::ProbeWithheld { subjects: vec![subject()], reason: "no probe left".to_owned() },
    ]
}

fn of_blindness() -> Vec<Event> {
    let names = vec!["cil_from_netdev".to_owned()];
    let blind = |is_blind, seen| {
        let (device, counted) = ("eth1".to_owned(), Counted { kernel: 512, seen });
        BlindnessChange { device, way: Way::Out, is_blind, counted }
    };
    let in_front = |names| Event::InFront { device: "eth1".to_owned(), way: Way::Out, names };
    vec![
        in_front(names.clone()),
        Event::Blind { change: blind(true, 0), in_front: names },
        Event::Blind { change: blind(false, 520), in_front: Vec::new() },
        in_front(Vec::new()),
    ]
}

fn of_idle_connections() -> Vec<Event> {
    let (after, usual) = (Duration::from_millis(12_340), Some(Duration::from_mins(1)));
    let ended = |end, usual, sign| IdleChange::Ended { end, after, usual, sign };
    let changes = [
        IdleChange::Opened,
        ended(IdleEnd::Finished, usual, IdleSign::Hint),
        ended(IdleEnd::Reset, None, IdleSign::Hint),
        ended(IdleEnd::Closed, None, IdleSign::Nothing),
        IdleChange::Off(IdleOff::Cut { after: Duration::from_millis(250) }),
        IdleChange::On,
    ];
    let events = changes.map(|change| Event::IdleConnection { subjects: vec![subject()], change });
    events.into_iter().chain([Event::IdleLimit { wanted: 10_000, limit: 2560 }]).collect()
}

fn of_second_chances() -> Vec<Event> {
    let result = ChanceResult {
        cause: ChanceCause::Out,
        retried: 11,
        completed: 9,
        median: Some(Duration::from_millis(74)),
        longest: Some(Duration::from_millis(131)),
        given_up: vec![(GivenUp::Reset, 1), (GivenUp::Unanswered, 1)],
    };
    let cleared = ChanceResult {
        cause: ChanceCause::Cleared,
        retried: 2,
        completed: 2,
        given_up: vec![],
        ..result.clone()
    };
    let reason = "it is not TCP".to_owned();
    vec![
        Event::SecondChance { subject: subject(), result },
        Event::SecondChance { subject: subject(), result: cleared },
        Event::NoSecondChance { service: "dns".to_owned(), reason },
    ]
}

fn of_contradictions() -> Vec<Event> {
    let of =
        |change| Event::Contradiction { subject: subject(), method: ForwardingMethod::DirectRoute, change };
    let complaint = Complaint {
        missing: Missing::Handshake,
        attempts: 375,
        answered: 0,
        networks: 12,
        lasted: Duration::from_secs(10),
        siblings: Comparison::Answer(0.994),
    };
    let begun = |consequence| of(ContradictionChange::Begun { complaint: complaint.clone(), consequence });
    let retry_in = Duration::from_mins(1);
    let lasted = Duration::from_secs(312);
    vec![
        begun(Consequence::Excluded { retry_in }),
        begun(Consequence::Reported),
        begun(Consequence::Kept),
        of(ContradictionChange::Trial),
        of(ContradictionChange::Out { retry_in: retry_in * 2 }),
        of(ContradictionChange::Over { end: ContradictionEnd::Served, lasted }),
        of(ContradictionChange::Over { end: ContradictionEnd::Down, lasted }),
    ]
}

fn of_servers() -> Vec<Event> {
    let probe = |kind, outcome: Outcome| {
        let verdict = Verdict::of(&outcome);
        Event::Probe { kind, subjects: vec![subject()], outcome, verdict }
    };
    let down = |cause| State::Down { cause, baseline: 0 };
    let transition = |from, to, outcome| Event::Transition {
        subject: subject(),
        transition: Transition { from, to },
        outcome,
        relapses: 2,
    };
    let weight = |to, reason: Option<&str>| Event::Weight {
        subject: subject(),
        role: Role::Server(1),
        from: Some(Weight(1)),
        to,
        occasion: WeightOccasion::Running,
        reason: reason.map(str::to_owned),
    };
    let damped = State::Damped { until: std::time::Instant::now() };
    vec![
        Event::CheckBlocked {
            subject: subject(),
            state: Some(State::Unknown { failures: 0 }),
            reason: "this director could not run the command: No such file or directory (os error 2)"
                .to_owned(),
        },
        Event::CheckUnblocked { service: "web".into() },
        probe(ProbeKind::Baseline { is_new_failure: true }, refused()),
        probe(ProbeKind::Baseline { is_new_failure: false }, Ok(answered())),
        probe(ProbeKind::Confirm { number: 1 }, refused()),
        probe(ProbeKind::Hint, Ok(answered())),
        probe(ProbeKind::Hint, refused()),
        probe(ProbeKind::Return, refused()),
        probe(ProbeKind::Ping, Ok(answered())),
        probe(ProbeKind::Port, Ok(answered())),
        transition(State::Suspect { baseline: 0, confirm: 2 }, down(Cause::Fast), refused()),
        transition(down(Cause::Fast), down(Cause::Baseline), refused()),
        transition(down(Cause::Baseline), damped, Ok(answered())),
        Event::Reason {
            subject: subject(),
            was: "status 503, wanted 200-399".to_owned(),
            outcome: refused(),
        },
        Event::Retained { subject: subject() },
        weight(Some(Weight(0)), Some("connection refused")),
        weight(None, None),
        Event::Admin { subject: subject(), action: AdminAction::Drain(Drain::Quiesce) },
        Event::Admin { subject: subject(), action: AdminAction::Maintenance(true) },
        Event::AdminRestored { subject: subject(), reason: "it is being drained" },
        Event::AdminForgotten { destination: destination() },
    ]
}

fn of_services() -> Vec<Event> {
    let changes = [
        PoolEvent::QuorumLost,
        PoolEvent::QuorumBack,
        PoolEvent::BackupsIn,
        PoolEvent::BackupsOut,
        PoolEvent::AlarmRaised,
        PoolEvent::AlarmOver,
    ];
    changes.map(|change| Event::Pool { service: "web".into(), key: service(), change }).to_vec()
}

fn of_table() -> Vec<Event> {
    let edit = Edit::DeleteDestination(destination());
    let differences = vec!["server 10.0.0.2:8080 has weight 5, not 1".to_owned()];
    vec![
        Event::Edit { edit: edit.clone(), took: Duration::from_micros(35) },
        Event::EditObserved { edit: edit.clone() },
        Event::EditFailed {
            edit,
            error: "the kernel says: Operation not permitted".to_owned(),
            again: Some(Duration::from_millis(100)),
        },
        Event::TableUnreachable { reason: "the ip_vs module is not loaded".to_owned() },
        Event::TableReachable,
        Event::Interference { service: service(), differences, repair_in: None },
        Event::Interferences { services: 12, missing: 2, edits: 30, later: 0 },
        Event::Contended { service: service() },
        Event::ContentionOver { service: service() },
        Event::Sysctl {
            sysctl: Sysctl::ExpireNodestConn,
            from: SysctlValue::One(0),
            to: SysctlValue::One(1),
        },
        Event::ConnectionRisk {
            risk:
                "web: a client's retried SYN stays with its dead server: net.ipv4.vs.expire_nodest_conn is 0"
                    .to_owned(),
        },
    ]
}

fn of_directors() -> Vec<Event> {
    let (master, backup) = (DaemonRole::Master, DaemonRole::Backup);
    let sync = |role, change| Event::SyncDaemon { role, change };
    let started = |instead_of: &str| SyncChange::Started {
        device: "eth1".to_owned(),
        id: 7,
        instead_of: instead_of.to_owned(),
    };
    let error =
        "can't start sync daemon backup on eth1 with id 7: there is no interface eth1, or it has no IPv4";
    let takeover = Takeover { services: 2, servers: 6, down: 1, asked: 2 };
    vec![
        sync(master, started("")),
        sync(master, started("its interface is eth0, not eth1")),
        sync(backup, SyncChange::Found),
        sync(master, SyncChange::Stopped),
        sync(
            backup,
            SyncChange::Changed { differences: vec!["it does not run".to_owned()], repair_in: None },
        ),
        sync(backup, SyncChange::Failed { error: error.to_owned(), again: Duration::from_millis(500) }),
        Event::Role { role: DirectorRole::Standby, reason: RoleReason::NoAddressHere, takeover: None },
        Event::Role {
            role: DirectorRole::Active,
            reason: RoleReason::AddressesHere(1),
            takeover: Some(takeover),
        },
    ]
}

fn of_outside() -> Vec<Event> {
    let state_file = |change| Event::StateFile { path: Some("/run/lvs-agent/state.json".into()), change };
    let mail = |result| Event::Mail {
        to: "ops@example.org".to_owned(),
        subject: "[web] Quiescent real server: 10.0.0.2:8080 (192.0.2.80:80) (Weight set to 0)".to_owned(),
        result,
    };
    let command = |result| Event::Command {
        about: "web".to_owned(),
        what: "the fallback command",
        command: "/usr/local/sbin/fallback start".to_owned(),
        result,
    };
    let line_file = |change| Event::LineFile { path: "/var/log/checks".into(), change };
    let instance = |change| Event::Instance { name: "/etc/other.cf".to_owned(), change };
    let error = || "No space left on device (os error 28)".to_owned();
    vec![
        state_file(StateFileChange::Fails { error: error() }),
        state_file(StateFileChange::Works),
        state_file(StateFileChange::Ignored {
            reason: "it is from before the machine was started".to_owned(),
        }),
        mail(MailResult::Sent),
        mail(MailResult::Failed { by: "mail.example.org:25".to_owned(), error: "connection refused".into() }),
        command(CommandRun::Done { took: Duration::from_micros(12_500) }),
        command(CommandRun::Failed { error: "exit status 1".to_owned() }),
        line_file(LineFile::Fails { error: error() }),
        line_file(LineFile::Works),
        Event::NotificationsLost { kind: "mail", count: 3 },
        Event::NotificationsLeft { left: 2 },
        instance(InstanceChange::Started),
        instance(InstanceChange::Ended { status: "exit status: 1".to_owned() }),
    ]
}

fn of_announcements() -> Vec<Event> {
    let fails = |way, what: &str, error: &str| {
        let change = LineFile::Fails { error: error.to_owned() };
        Event::Announcing { way, what: what.to_owned(), change }
    };
    let (track, full) = ("/run/lvs-agent/track", "No space left on device (os error 28)");
    let vip = |change| Event::Vip {
        address: std::net::Ipv4Addr::new(192, 0, 2, 80).into(),
        device: "lvs0".to_owned(),
        change,
    };
    vec![
        fails(AnnounceWay::TrackFiles, track, full),
        Event::Announcing { way: AnnounceWay::TrackFiles, what: track.to_owned(), change: LineFile::Works },
        fails(AnnounceWay::ReadyFiles, "/run/lvs-agent/ready", full),
        fails(AnnounceWay::Fifo, "/run/lvs-agent/notify", "nobody reads it, and it is full"),
        fails(AnnounceWay::Device, "lvs0", "it is switched off; switch it on: ip link set lvs0 up"),
        vip(VipChange::Announced),
        vip(VipChange::Withdrawn(Withdrawal::Unhealthy)),
        vip(VipChange::Withdrawn(Withdrawal::NotConfigured)),
        vip(VipChange::Withdrawn(Withdrawal::Leftover)),
        vip(VipChange::Withdrawn(Withdrawal::Stop)),
        vip(VipChange::Foreign),
    ]
}

#[test]
fn every_event_has_an_example() {
    use std::collections::BTreeSet;

    let variant =
        |text: &str| text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned();
    let shown: BTreeSet<String> = examples().iter().map(|event| variant(&format!("{event:?}"))).collect();
    let (_, after) = include_str!("mod.rs").split_once("pub(crate) enum Event {").expect("the enum");
    let (body, _) = after.split_once("\n}").expect("its end");
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let declared: BTreeSet<String> =
        lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase())).map(variant).collect();
    assert_eq!(shown, declared);
}
