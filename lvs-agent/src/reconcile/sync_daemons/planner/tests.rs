use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    ipvs::apply_daemon_edit,
    model::{SyncPorts, SyncRole},
};

/// A kernel whose daemons somebody else may change, and the planner that looks after them.
struct Kernel {
    planner: DaemonPlanner,
    daemons: Vec<Daemon>,
    device: Option<u32>,
    now: Instant,
}

impl Kernel {
    fn new(settings: Option<SyncSettings>) -> Self {
        let mut planner = DaemonPlanner::default();
        planner.want(settings);
        Self { planner, daemons: Vec::new(), device: Some(7), now: Instant::now() }
    }

    /// What the task does in each turn; returns the names of events, and whether edits were made.
    fn turn(&mut self) -> Vec<&'static str> {
        self.now += Duration::from_millis(700);
        let mut events = self.planner.observed(self.daemons.clone(), self.device, self.now);
        events.extend(self.planner.deaf());
        for role in DaemonRole::ALL {
            let found = self.planner.found(role);
            for edit in self.planner.edits(role, self.now) {
                let is_missing = self.device.is_none() && matches!(edit, DaemonEdit::Start(_));
                if is_missing || !apply_daemon_edit(&mut self.daemons, &edit) {
                    events.extend(self.planner.failed(role, "there is no interface".to_owned(), self.now));
                    break;
                }
                events.push(self.planner.made(&edit, &found, self.now));
            }
        }
        events.iter().map(Event::name).collect()
    }

    fn is_as_wanted(&self) -> bool {
        let wanted: Vec<_> = self.planner.wanted().map(|(daemon, _)| daemon).collect();
        wanted.len() == self.daemons.len()
            && wanted.iter().all(|wanted| {
                let running = self.daemons.iter().find(|one| one.role == wanted.role);
                running.is_some_and(|running| wanted.differences(running).is_empty())
            })
    }
}

fn on(interface: &str) -> SyncSettings {
    SyncSettings::on(interface)
}

#[test]
fn daemons_start_once_and_are_then_left_alone() {
    let mut kernel = Kernel::new(Some(on("eth1")));
    assert_eq!(kernel.turn(), ["sync-started", "sync-started"]);
    assert!(kernel.is_as_wanted());
    assert_eq!([kernel.turn(), kernel.turn()], [[""; 0], [""; 0]]);
}

#[test]
fn daemons_of_others_are_replaced_and_those_that_are_right_are_adopted() {
    let mut kernel = Kernel::new(Some(on("eth1")));
    let [master, backup] = [0, 1].map(|index| WantedDaemon::of(&on("eth1"))[index].to_daemon());
    kernel.daemons = vec![Daemon { sync_id: 9, ..master }, backup];
    assert_eq!(kernel.turn(), ["sync-found", "sync-stopped", "sync-started"]);
    assert!(kernel.is_as_wanted());
    assert_eq!(kernel.turn(), [""; 0]);
}

#[test]
fn without_settings_nothing_is_touched() {
    let mut kernel = Kernel::new(None);
    kernel.daemons = vec![WantedDaemon::of(&on("eth0"))[0].to_daemon()];
    let before = kernel.daemons.clone();
    assert_eq!((kernel.turn(), &kernel.daemons), (vec![], &before));
    assert!(kernel.planner.is_idle());
}

#[test]
fn a_reload_changes_daemons_and_one_without_settings_stops_only_its_own() {
    let mut kernel = Kernel::new(Some(on("eth1")));
    kernel.turn();
    kernel.planner.want(Some(SyncSettings { role: SyncRole::Backup, id: 3, ..on("eth1") }));
    assert_eq!(kernel.turn(), ["sync-stopped", "sync-stopped", "sync-started"]);
    assert!(kernel.is_as_wanted());
    let more = SyncSettings { role: SyncRole::Backup, id: 3, ..on("eth1") };
    let ports = SyncPorts::new(4);
    kernel
        .planner
        .want(Some(SyncSettings { sysctls: crate::model::SyncSysctls { ports, ..more.sysctls }, ..more }));
    assert_eq!(kernel.turn(), ["sync-stopped", "sync-started"], "another number of threads");
    assert_eq!(kernel.turn(), [""; 0]);
    let foreign = WantedDaemon::of(&on("eth0"))[0].to_daemon();
    kernel.daemons.push(foreign.clone());
    kernel.planner.want(None);
    assert_eq!((kernel.turn(), &kernel.daemons[..]), (vec!["sync-stopped"], &[foreign][..]));
    assert_eq!(kernel.turn(), [""; 0]);
    assert!(kernel.planner.is_idle());
}

#[test]
fn a_fault_is_told_once_and_tried_again_ever_more_rarely() {
    let mut kernel = Kernel::new(Some(SyncSettings { role: SyncRole::Master, ..on("eth9") }));
    kernel.device = None;
    let told: Vec<_> = (0..200).flat_map(|_| kernel.turn()).collect();
    assert_eq!(told, ["sync-failed"]);
    assert_eq!(kernel.planner.wanted().filter_map(|(_, fault)| fault).count(), 1);
    kernel.device = Some(3);
    let told: Vec<_> = (0..90).flat_map(|_| kernel.turn()).collect();
    assert_eq!(told, ["sync-started"], "a minute later at most");
    assert_eq!(kernel.planner.wanted().filter_map(|(_, fault)| fault).count(), 0);
}

#[test]
fn a_daemon_that_was_stopped_for_another_and_cannot_start_is_no_change_by_others() {
    let mut kernel = Kernel::new(Some(SyncSettings { role: SyncRole::Master, ..on("eth1") }));
    assert_eq!(kernel.turn(), ["sync-started"]);
    kernel.planner.want(Some(SyncSettings { role: SyncRole::Master, ..on("eth9") }));
    kernel.device = None;
    let told: Vec<_> = (0..20).flat_map(|_| kernel.turn()).collect();
    assert_eq!(told, ["sync-stopped", "sync-failed"]);
}

#[test]
fn daemons_on_a_device_that_was_made_anew_start_anew() {
    let mut kernel = Kernel::new(Some(on("eth1")));
    kernel.turn();
    kernel.device = None;
    assert_eq!(kernel.turn(), ["sync-failed", "sync-failed"], "they are cut off");
    assert_eq!(kernel.turn(), [""; 0]);
    kernel.device = Some(8);
    let told =
        ["sync-changed", "sync-changed", "sync-stopped", "sync-started", "sync-stopped", "sync-started"];
    assert_eq!(kernel.turn(), told);
    assert_eq!(kernel.turn(), [""; 0]);
}

#[test]
fn others_who_keep_stopping_a_daemon_are_answered_at_growing_intervals() {
    let mut kernel = Kernel::new(Some(SyncSettings { role: SyncRole::Master, ..on("eth1") }));
    let mut starts = 0;
    for _ in 0..200 {
        starts += kernel.turn().iter().filter(|name| **name == "sync-started").count();
        kernel.daemons.clear();
    }
    assert!((4..20).contains(&starts), "{starts} starts in 140 s");
}

proptest! {
    /// Whatever others do to the daemons, they are as wanted a while after the last of it.
    #[test]
    fn daemons_end_as_wanted(steps in vec((0_u8..6, 0_u8..4), 0..40), both in any::<bool>()) {
        let role = if both { SyncRole::Both } else { SyncRole::Backup };
        let mut kernel = Kernel::new(Some(SyncSettings { role, ..on("eth1") }));
        for (what, number) in steps {
            match what {
                0 => kernel.daemons.clear(),
                1 => kernel.daemons.truncate(1),
                2 => {
                    let other = SyncSettings { id: number, ..on("eth0") };
                    kernel.daemons = WantedDaemon::of(&other).iter().map(WantedDaemon::to_daemon).collect();
                }
                3 => kernel.device = (number > 0).then_some(number.into()),
                _ => {}
            }
            kernel.turn();
        }
        kernel.device = Some(7);
        for _ in 0..200 {
            kernel.turn();
        }
        prop_assert!(kernel.is_as_wanted(), "{:?}", kernel.daemons);
        prop_assert_eq!(kernel.turn(), Vec::<&str>::new());
    }
}
