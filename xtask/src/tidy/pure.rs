//! Pure code: no clock, no task, no I/O, no log, no metrics. Facts and the time are arguments.

use super::Violation;
use super::paths::{paths, words};
use super::tree::Tree;

const TABLE: &str = "xtask/src/tidy/pure.rs";

/// What is pure: files, and folders with all that is in them.
const PURE: &[&str] = &[
    "lvs-agent/src/announce/fifo_line.rs",
    "lvs-agent/src/announce/file_name.rs",
    "lvs-agent/src/announce/judged.rs",
    "lvs-agent/src/announce/steady.rs",
    "lvs-agent/src/announce/track.rs",
    "lvs-agent/src/announce/vips.rs",
    "lvs-agent/src/backoff.rs",
    "lvs-agent/src/config/loss.rs",
    "lvs-agent/src/config/restart.rs",
    "lvs-agent/src/engine",
    "lvs-agent/src/event/timeline.rs",
    "lvs-agent/src/health",
    "lvs-agent/src/ipvs/daemons.rs",
    "lvs-agent/src/ipvs/difference.rs",
    "lvs-agent/src/ipvs/edit.rs",
    "lvs-agent/src/ipvs/overrides.rs",
    "lvs-agent/src/ipvs/table.rs",
    "lvs-agent/src/ipvs/wanted.rs",
    "lvs-agent/src/model",
    "lvs-agent/src/passive/blindness.rs",
    "lvs-agent/src/passive/contradiction",
    "lvs-agent/src/passive/detector",
    "lvs-agent/src/passive/targets.rs",
    "lvs-agent/src/pool",
    "lvs-agent/src/probe/budget.rs",
    "lvs-agent/src/probe/idle/change.rs",
    "lvs-agent/src/probe/idle/eligible.rs",
    "lvs-agent/src/probe/idle/policy.rs",
    "lvs-agent/src/probe/rhythm.rs",
    "lvs-agent/src/probe/schedule.rs",
    "lvs-agent/src/reconcile/adopted.rs",
    "lvs-agent/src/reconcile/backoff.rs",
    "lvs-agent/src/reconcile/contention.rs",
    "lvs-agent/src/reconcile/interference.rs",
    "lvs-agent/src/reconcile/planner.rs",
    "lvs-agent/src/reconcile/sync_daemons/planner.rs",
    "lvs-agent/src/second_chance/book.rs",
    "lvs-agent/src/second_chance/failover.rs",
    "lvs-agent/src/second_chance/limits.rs",
    "lvs-agent/src/second_chance/packet.rs",
    "lvs-agent/src/second_chance/servers.rs",
    "lvs-agent/src/second_chance/ways.rs",
    "lvs-agent/src/telemetry/page/view.rs",
];

/// What pure code must not name, and why.
const IMPURE: &[(&[&str], &str)] = &[
    (&["aya"], "loads and reads eBPF programs"),
    (&["crate", "clock"], "reads a clock"),
    (&["crate", "netlink"], "asks the kernel"),
    (&["crate", "privileges"], "asks the kernel"),
    (&["crate", "process"], "starts programs"),
    (&["libc"], "asks the kernel"),
    (&["log"], "logs"),
    (&["metrics"], "counts"),
    (&["neli"], "asks the kernel"),
    (&["nix"], "asks the kernel"),
    (&["socket2"], "opens sockets"),
    (&["std", "env"], "depends on where it runs"),
    (&["std", "fs"], "does I/O"),
    (&["std", "net", "TcpListener"], "opens sockets"),
    (&["std", "net", "TcpStream"], "opens sockets"),
    (&["std", "net", "UdpSocket"], "opens sockets"),
    (&["std", "os"], "does I/O"),
    (&["std", "process"], "starts programs"),
    (&["std", "thread"], "starts threads or waits"),
    (&["tokio"], "needs a runtime"),
    (&["tokio_util"], "needs a runtime"),
    (&["tracing"], "logs"),
];

/// Values of crates that do more.
const PURE_ALL_THE_SAME: &[&[&str]] = &[&["nix", "errno", "Errno"]];

/// Functions that read a clock, however their types are imported.
const CLOCKS: [[&str; 2]; 2] = [["Instant", "now"], ["SystemTime", "now"]];

/// A function that stops a thread, on which a runtime may have put any number of tasks.
const SLEEP: [&str; 2] = ["thread", "sleep"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = sleeping(tree);
    for path in PURE {
        if !tree.paths.contains(*path) {
            violations.push(Violation::stale(TABLE, path));
        }
        for (file, rust) in tree.rust_under(path).filter(|(file, _)| !file.is_test()) {
            for named in paths(&rust.production) {
                if let Some(why) = impure(&named.segments) {
                    let message = format!(
                        "pure code names {}, which {why}; take what it gives as an argument, or return what is to be done",
                        named.segments.join("::")
                    );
                    violations.push(Violation::at(file, named.at, message));
                }
            }
            for (at, _) in
                words(&rust.production).filter(|&(at, word)| reads_clock(&rust.production, at, word))
            {
                let message = "pure code calls elapsed(), which reads a clock; take `now` as an argument";
                violations.push(Violation::at(file, at, message));
            }
        }
    }
    violations
}

/// Where the agent, pure or not, stops a thread.
fn sleeping(tree: &Tree) -> Vec<Violation> {
    let files = tree.rust_under("lvs-agent/src").filter(|(file, _)| !file.is_test());
    files
        .flat_map(|(file, rust)| {
            let sleeps = paths(&rust.production)
                .into_iter()
                .filter(|named| named.segments.ends_with(&SLEEP.map(str::to_owned)));
            sleeps.map(|named| {
                Violation::at(
                    file,
                    named.at,
                    "stops a thread; wait for what it waits for, or use tokio's timers",
                )
            })
        })
        .collect()
}

fn impure(path: &[String]) -> Option<&'static str> {
    let begins =
        |with: &[&str]| path.len() >= with.len() && path.iter().zip(with).all(|(one, other)| one == other);
    let is_clock = path.windows(2).any(|pair| CLOCKS.iter().any(|clock| pair == clock));
    if PURE_ALL_THE_SAME.iter().any(|prefix| begins(prefix)) {
        return None;
    }
    let named = IMPURE.iter().find(|(prefix, _)| begins(prefix)).map(|&(_, why)| why);
    named.or_else(|| is_clock.then_some("reads a clock"))
}

/// Whether it is a call of `elapsed` on a value.
fn reads_clock(code: &str, at: usize, word: &str) -> bool {
    word == "elapsed"
        && code.get(..at).is_some_and(|before| before.trim_end().ends_with('.'))
        && code.get(at + word.len()..).is_some_and(|after| after.starts_with("()"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::said;

    /// Without what is said of the files that aren't there.
    fn said_of(code: &str) -> Vec<String> {
        let said = said(check, &[("lvs-agent/src/pool/ramp.rs", code)]);
        said.into_iter().filter(|said| !said.starts_with(TABLE)).collect()
    }

    #[test]
    fn clocks_io_and_logs_are_found() {
        let said = said_of(
            "use std::{fs, time::Instant};\nuse tracing::info;\nfn f() { Instant::now(); start.elapsed(); }\n\
             async fn g() { tokio::time::sleep(x).await }",
        );
        let places: Vec<_> = said.iter().map(|said| said.split(',').next().unwrap_or_default()).collect();
        assert_eq!(
            places,
            [
                "lvs-agent/src/pool/ramp.rs:1: pure code names std::fs",
                "lvs-agent/src/pool/ramp.rs:2: pure code names tracing::info",
                "lvs-agent/src/pool/ramp.rs:3: pure code names Instant::now",
                "lvs-agent/src/pool/ramp.rs:4: pure code names tokio::time::sleep",
                "lvs-agent/src/pool/ramp.rs:3: pure code calls elapsed()",
            ]
        );
    }

    #[test]
    fn a_thread_that_sleeps_is_found_anywhere() {
        let code = "use std::thread;\nfn f() { thread::sleep(PAUSE) }\nasync fn g() { tokio::time::sleep(PAUSE).await }";
        let said = said(check, &[("lvs-agent/src/agent/mod.rs", code)]);
        let found: Vec<_> = said.into_iter().filter(|said| !said.starts_with(TABLE)).collect();
        assert_eq!(
            found,
            [
                "lvs-agent/src/agent/mod.rs:2: stops a thread; wait for what it waits for, or use tokio's timers"
            ]
        );
    }

    #[test]
    fn types_of_time_and_addresses_are_pure() {
        let code = "use std::{net::IpAddr, time::{Duration, Instant}};\n// Instant::now()\nfn f(now: Instant) {}\n\
                    #[cfg(test)]\nmod tests { fn g() { Instant::now(); } }\nfn h() -> nix::errno::Errno { nix::errno::Errno::EINVAL }";
        assert_eq!(said_of(code), Vec::<String>::new());
    }

    #[test]
    fn a_path_that_is_gone_is_named() {
        let said = said(check, &[]);
        assert_eq!(said.len(), PURE.len());
        let first = format!("xtask/src/tidy/pure.rs:1: there is no {}; ", PURE[0]);
        assert!(said[0].starts_with(&first), "{said:?}");
    }
}
