//! What a pool does about its servers: backups, damping, slow start.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use lvs_tests::{
    lab::{
        agent::{log::EventKind, metric},
        clock::Moment,
        director::{table::ChangeKind, table_watcher::changes},
        faults::Fault,
        layout::Method,
    },
    say,
    testbed::{Scene, Setting},
};

use crate::failing::{BY_CHECK, HEALTHY};

/// How long a server is well, and then ill, where it comes and goes.
const SPELL: Duration = Duration::from_secs(2);
/// How often.
const SPELLS: usize = 8;

/// Whether new connections can go to a server, and whether it is in the table at all.
fn stands(scene: &Scene, server: usize) -> Result<(bool, bool)> {
    let (table, address) = (scene.watch.table()?, scene.lab.servers[server].address());
    Ok((!table.is_out(address), table.weight(address).is_some()))
}

/// The table's changes to one server.
fn changes_of(scene: &Scene, server: SocketAddr) -> Result<Vec<ChangeKind>> {
    let all = changes(&scene.history_since_healthy()?).into_iter();
    Ok(all.filter(|change| change.change.server == server).map(|change| change.change.kind).collect())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_sorry_server_takes_over_when_the_regular_checks_agree_that_all_are_dead() -> Result<()> {
    let mut setting = Setting::new(Method::Masquerade).on_failure("remove");
    setting.config = setting.config.backups(1);
    let mut scene = Scene::start(&setting)?;
    scene.pass(HEALTHY)?;
    assert_eq!(stands(&scene, 2)?, (false, false), "a backup is not in the table: {}", scene.diagnosis());
    let switch = scene.lab.network.switch.clone();
    let armed: Result<Vec<_>> =
        scene.lab.servers[..2].iter().map(|server| Fault::LinkDown.arm(&switch, server)).collect();
    for fault in armed? {
        fault.strike()?;
    }
    // Less than the regular checks take: the fast path leaves the last one in.
    scene.pass(Duration::from_secs(1))?;
    assert!(stands(&scene, 0)?.0 || stands(&scene, 1)?.0, "{}", scene.diagnosis());
    scene.wait("the backup to be alone", BY_CHECK, |scene| {
        Ok(stands(scene, 2)?.0 && !stands(scene, 0)?.1 && !stands(scene, 1)?.1)
    })?;
    let since = Moment::now();
    let name = scene.lab.servers[2].name.clone();
    scene.wait("the backup to serve", BY_CHECK, |scene| Ok(scene.served_since(&name, since) >= 3))?;
    for server in 0..2 {
        scene.heal(Fault::LinkDown, server)?;
    }
    (0..2).try_for_each(|server| scene.wait_until_back(server))?;
    assert_eq!(stands(&scene, 2)?, (false, false), "it is out again: {}", scene.diagnosis());
    let backup = scene.lab.servers[2].address();
    assert_eq!(changes_of(&scene, backup)?, [ChangeKind::Added(1), ChangeKind::Removed]);
    for seen in scene.history_since_healthy()? {
        let serving = scene.lab.servers.iter().filter(|server| !seen.table.is_out(server.address()));
        assert!(serving.count() > 0, "never without any: {}", scene.diagnosis());
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_that_comes_and_goes_is_kept_out() -> Result<()> {
    let mut scene = Scene::start(&Setting::new(Method::Masquerade))?;
    scene.pass(HEALTHY)?;
    scene.forget();
    let server = scene.lab.servers[0].address();
    let mut ill = false;
    for _ in 0..SPELLS {
        if ill {
            scene.heal(Fault::ProcessSick, 0)?;
        } else {
            Fault::ProcessSick.arm(&scene.lab.network.switch, &scene.lab.servers[0])?.strike()?;
        }
        ill = !ill;
        scene.pass(SPELL)?;
    }
    let moves = changes_of(&scene, server)?;
    let label = format!("server=\"{server}\"");
    let relapses = metric(&scene.agent.metrics()?, "lvs_server_relapses", &[&label]).unwrap_or(f64::NAN);
    say(&format!("{SPELLS} spells of {SPELL:?}: {} edits, {relapses} relapses", moves.len()));
    // Out, in, out: then it has to be well for longer than it is. Without damping it would be one edit a spell.
    assert!((1..=5).contains(&moves.len()), "{moves:?} {}", scene.diagnosis());
    assert!(
        !moves.is_empty() && moves.iter().all(|kind| matches!(kind, ChangeKind::Weight(..))),
        "{moves:?}"
    );
    assert!(relapses >= 1.0, "{relapses} relapses");
    let damped = scene.agent.events().iter().any(|event| matches!(event.kind, EventKind::Damped {}));
    assert!(damped, "it was not told: {}", scene.diagnosis());
    // Once it stays well it is let in.
    scene.wait_until_back(0)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn the_weight_of_a_server_that_comes_back_rises_slowly() -> Result<()> {
    let mut setting = Setting::new(Method::Masquerade);
    let service = &mut setting.config.service[0];
    service.slow_start = Some("4s".to_owned());
    service.scheduler = "wrr".to_owned();
    service.server.iter_mut().for_each(|server| server.weight = 10);
    let mut scene = Scene::start(&setting)?;
    let server = scene.lab.servers[0].address();
    scene.pass(HEALTHY)?;
    scene.forget();
    scene.strike(Fault::ProcessKilled, 0)?;
    scene.wait_until_out(0)?;
    scene.heal(Fault::ProcessKilled, 0)?;
    scene.wait("its whole weight", BY_CHECK, |scene| Ok(scene.watch.table()?.weight(server) == Some(10)))?;
    let history = changes(&scene.history_since_healthy()?);
    let mut moves = history.iter().filter(|change| change.change.server == server);
    let out = moves.next().map(|change| change.change.kind);
    assert_eq!(out, Some(ChangeKind::Weight(10, 0)));
    let rise: Vec<_> = moves.map(|change| (change.at, change.change.kind)).collect();
    let steps: Vec<_> = rise.iter().map(|(_, kind)| *kind).collect();
    let expected: Vec<_> = (0..10).map(|weight| ChangeKind::Weight(weight, weight + 1)).collect();
    assert_eq!(steps, expected);
    // The step to 2 is due at two tenths: from then to the last one are eight.
    let took = rise[9].0.since(rise[1].0).as_secs_f64();
    say(&format!("from weight 2 to 10 in {took:.2} s"));
    assert!((2.9..=3.6).contains(&took), "{took} s");
    Ok(())
}
