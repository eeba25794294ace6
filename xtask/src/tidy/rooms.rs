//! Rooms, the folders of a crate's `src`: which may import which.

use super::Violation;
use super::modules::Modules;
use super::tree::Tree;

/// A crate's rooms.
struct Crate {
    /// Its `src`.
    source: &'static str,
    rooms: &'static [Room],
}

/// A room stands on a floor. It imports what its line names: rooms of lower floors, or of its own, if they
/// stand before it.
struct Room {
    name: &'static str,
    floor: u8,
    imports: &'static [&'static str],
}

const fn room(name: &'static str, floor: u8, imports: &'static [&'static str]) -> Room {
    Room { name, floor, imports }
}

const CRATES: &[Crate] =
    &[Crate { source: "lvs-agent/src", rooms: LVS_AGENT }, Crate { source: "tests/src", rooms: TESTS }];

/// Floor 0 are leaves: what any room with I/O may use. `backoff` and `keyed` are pure.
#[rustfmt::skip]
const LVS_AGENT: &[Room] = &[
    room("backoff", 0, &[]),
    room("clock", 0, &[]),
    room("file_lock", 0, &[]),
    room("file_watch", 0, &[]),
    room("file_work", 0, &[]),
    room("keyed", 0, &[]),
    room("netlink", 0, &[]),
    room("privileges", 0, &[]),
    room("process", 0, &["privileges"]),
    room("supervision", 0, &["backoff"]),

    room("model", 1, &[]),

    room("config", 2, &["model"]),
    room("control", 2, &["supervision", "model"]),
    room("ipvs", 2, &["clock", "netlink", "model"]),
    room("log", 2, &["model"]),
    room("service_manager", 2, &["clock", "supervision"]),
    room("network", 2, &["netlink", "supervision", "model"]),

    room("health", 3, &["backoff", "model"]),
    room("passive", 3, &["backoff", "keyed", "model"]),
    room("probe", 3, &["file_work", "keyed", "privileges", "process", "supervision", "model"]),
    room("pool", 3, &["model", "health"]),

    room("event", 4, &["clock", "keyed", "model", "config", "control", "ipvs", "health", "passive", "pool", "probe"]),
    room("engine", 4, &["backoff", "keyed", "model", "control", "ipvs", "health", "passive", "pool", "probe", "event"]),
    room("state_file", 4, &["file_lock", "model", "ipvs", "pool", "event"]),
    room("messages", 4, &["model", "control", "ipvs", "event", "engine", "state_file"]),

    room("notify", 5, &["file_work", "keyed", "process", "supervision", "model", "health", "pool", "probe", "event", "engine"]),
    room("reconcile", 5, &["backoff", "clock", "netlink", "supervision", "model", "control", "ipvs", "event", "engine", "state_file", "messages"]),
    room("telemetry", 5, &["clock", "keyed", "supervision", "model", "config", "control", "ipvs", "log", "health", "passive", "pool", "probe", "event", "engine"]),

    room("announce", 6, &["backoff", "file_work", "netlink", "supervision", "model", "control", "network", "health", "pool", "event", "engine", "messages", "telemetry"]),
    room("monitor", 6, &["clock", "keyed", "netlink", "model", "control", "ipvs", "network", "passive", "event", "engine", "messages", "telemetry"]),
    room("second_chance", 6, &["clock", "netlink", "supervision", "keyed", "model", "ipvs", "network", "passive", "event", "messages", "telemetry"]),
    room("admin", 6, &["clock", "netlink", "model", "control", "ipvs", "log", "pool", "probe", "event", "engine", "state_file", "messages", "reconcile", "telemetry"]),

    room("agent", 7, &[
        "file_lock", "file_watch", "file_work", "keyed", "netlink", "privileges", "process", "supervision", "model", "config", "control", "ipvs", "log", "network",
        "health", "passive", "pool", "probe", "event", "engine", "state_file", "messages", "notify", "reconcile", "telemetry", "announce", "monitor", "second_chance", "admin", "service_manager",
    ]),

    room("cli", 8, &["clock", "privileges", "supervision", "model", "config", "control", "ipvs", "log", "probe", "event", "engine", "telemetry", "announce", "admin", "agent"]),
];

/// Floor 0 is how programs talk to their users.
#[rustfmt::skip]
const TESTS: &[Room] = &[
    room("output", 0, &[]),

    room("packets", 1, &[]),
    room("lab", 1, &["output"]),
    room("simulation", 1, &["output"]),

    room("ldirectord", 2, &["lab"]),
    room("forged", 2, &["lab", "packets"]),
    room("testbed", 2, &["output", "lab"]),

    room("bench", 3, &["output", "lab", "testbed", "forged"]),
    room("demo", 3, &["output", "lab", "testbed"]),
];

const TABLE: &str = "xtask/src/tidy/rooms.rs";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    CRATES.iter().flat_map(|table| of_crate(tree, table)).collect()
}

fn of_crate(tree: &Tree, table: &Crate) -> Vec<Violation> {
    let modules = Modules::of(tree, table.source);
    let room = |name: &str| table.rooms.iter().find(|room| room.name == name);
    let mut violations = Vec::new();
    for (path, file) in modules.files() {
        if let Some(name) = path.first().filter(|name| room(name).is_none()) {
            let message =
                format!("the room {name} is in no table; give it a floor and its imports in {TABLE}");
            violations.push(Violation::new(&file.path, 1, message));
        }
    }
    for import in modules.imports() {
        let (Some(from), Some(to)) = (import.from.first(), import.path.first()) else { continue };
        // What the crate's root hands out is some room's.
        let home = modules.home(&import.path);
        let to = room(to).or_else(|| room(home.first()?));
        let (Some(from), Some(to)) = (room(from), to) else { continue };
        if from.name != to.name && !from.imports.contains(&to.name) {
            let why = if to.floor > from.floor {
                format!("which is {} above it", floors(to.floor - from.floor))
            } else {
                format!("which {TABLE} does not allow")
            };
            let message = format!(
                "{} imports {}, {why}; move what it needs down, or hand it in from above",
                from.name,
                import.path.join("::")
            );
            violations.push(Violation::new(&import.file.path, import.line, message));
        }
    }
    violations
}

fn floors(count: u8) -> String {
    if count == 1 { "a floor".to_owned() } else { format!("{count} floors") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::said;

    #[test]
    fn an_import_that_the_table_does_not_allow_is_found() {
        let files = [
            (
                "lvs-agent/src/health/mod.rs",
                "use crate::model::Weight;\nuse crate::{engine::{self, Engine}};",
            ),
            ("lvs-agent/src/pool/mod.rs", "fn f() -> super::probe::Outcome { g() }"),
        ];
        assert_eq!(
            said(check, &files),
            [
                "lvs-agent/src/health/mod.rs:2: health imports engine, which is a floor above it; \
                 move what it needs down, or hand it in from above",
                "lvs-agent/src/health/mod.rs:2: health imports engine::Engine, which is a floor above it; \
                 move what it needs down, or hand it in from above",
                "lvs-agent/src/pool/mod.rs:1: pool imports probe::Outcome, which xtask/src/tidy/rooms.rs does not allow; \
                 move what it needs down, or hand it in from above",
            ]
        );
    }

    #[test]
    fn what_the_root_hands_out_is_some_rooms() {
        let files = [
            ("tests/src/lib.rs", "pub mod output; pub use self::output::say;"),
            ("tests/src/output.rs", ""),
            ("tests/src/packets/mod.rs", "fn f() { crate::say() }"),
        ];
        let said = said(check, &files);
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("tests/src/packets/mod.rs:1: packets imports say, which "), "{said:?}");
    }

    #[test]
    fn a_room_that_is_in_no_table_is_found() {
        let files = [("lvs-agent/src/lib.rs", "mod attic;"), ("lvs-agent/src/attic.rs", "use crate::model;")];
        assert_eq!(
            said(check, &files),
            ["lvs-agent/src/attic.rs:1: the room attic is in no table; give it a floor and its imports in \
              xtask/src/tidy/rooms.rs"]
        );
    }

    #[test]
    fn what_the_table_allows_is_allowed_and_tests_may_import_anything() {
        let files = [
            ("lvs-agent/src/pool/mod.rs", "use crate::{health::State, model};\n#[cfg(test)]\nmod tests;"),
            ("lvs-agent/src/pool/tests.rs", "use crate::agent;"),
            ("lvs-agent/src/health/mod.rs", "#[cfg(test)]\nmod tests { use crate::engine; }"),
            ("tests/src/testbed/mod.rs", "use crate::lab::Director;"),
        ];
        assert_eq!(said(check, &files), Vec::<String>::new());
    }

    #[test]
    fn the_tables_have_one_direction() {
        for Crate { source, rooms } in CRATES {
            for (index, room) in rooms.iter().enumerate() {
                for name in room.imports {
                    let imported = rooms[..index].iter().find(|other| other.name == *name);
                    let floor = imported.map(|other| other.floor);
                    assert!(
                        floor.is_some_and(|floor| floor <= room.floor),
                        "{source}: {} → {name}",
                        room.name
                    );
                }
            }
        }
    }
}
