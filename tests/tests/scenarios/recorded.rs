//! What the detector is shown is written down, to be shown again to later versions of it (`traces/`).

use std::{env, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lvs_agent::passive::trace::{Record, Shown};
use lvs_tests::{
    fault::Fault,
    layout::Method,
    scene::{Scene, Setting},
};

use crate::failing::{AFTER, HEALTHY};

/// Few enough connections a second for a short recording.
const RATE: f64 = 60.0;

/// Where recordings go: to who asked for them, or nowhere.
fn place(name: &str) -> PathBuf {
    let out = env::var_os("LVS_OUT").map_or_else(env::temp_dir, PathBuf::from);
    out.join(format!("{name}-{}.trace", std::process::id()))
}

fn recorded(name: &str, method: Method, play: impl FnOnce(&mut Scene) -> Result<()>) -> Result<()> {
    let file = place(name);
    let mut setting = Setting::new(method).rate(RATE).distance(Duration::from_millis(1));
    setting.config = setting.config.record(&file);
    let mut scene = Scene::start(&setting)?;
    play(&mut scene)?;
    let servers = scene.lab.servers.len();
    // The agent writes what waits before it ends.
    scene.agent.stop()?;
    drop(scene);
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let records = text.lines().map(Record::parse).collect::<Result<Vec<_>, _>>()?;
    for server in 0..u32::try_from(servers)? {
        let of = |record: &&Record| record.id.0 == server;
        let states = records.iter().filter(of).filter(|record| matches!(record.shown, Shown::State(..)));
        ensure!(states.count() > 10, "server {server} was looked at");
    }
    if env::var_os("LVS_OUT").is_none() {
        fs::remove_file(&file)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn what_the_detector_is_shown_is_recorded() -> Result<()> {
    recorded("healthy", Method::ALL[0], |scene| scene.pass(HEALTHY))?;
    recorded("killed", Method::ALL[1], |scene| {
        scene.pass(HEALTHY)?;
        scene.failover(Fault::ProcessKilled, 0, AFTER)?;
        Ok(())
    })
}
