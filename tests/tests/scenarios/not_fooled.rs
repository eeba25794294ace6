//! Trouble that looks like failing servers and is none.

use std::time::Duration;

use anyhow::Result;
use lvs_tests::{
    director::Method,
    disturbance::Disturbance,
    fault::Fault,
    flood::Flood,
    network::ip,
    say,
    scene::{Scene, Setting},
    watch::changes,
};

/// How long each trouble lasts.
const TROUBLE: Duration = Duration::from_secs(8);
const METHODS: [Method; 2] = [Method::Masquerade, Method::DirectRoute];

/// No server is taken out, and the agent says that it asked instead: probes that were answered, no hard state.
fn assert_nobody_out(scene: &Scene) -> Result<()> {
    assert_eq!(changes(&scene.history_since_healthy()?), []);
    Ok(())
}

fn under(disturbance: Disturbance) -> Result<()> {
    for method in METHODS {
        let mut scene = Scene::start(&Setting::new(method))?;
        let disturbed = disturbance.begin(&scene.lab.network.clients)?;
        scene.pass(TROUBLE)?;
        drop(disturbed);
        assert_nobody_out(&scene)?;
        let harmed = scene.load.count(lvs_tests::requests::Request::is_harmed);
        say(&format!(
            "{method}, {disturbance:?}: {harmed} requests failed or were late, nobody was taken out"
        ));
        assert!(harmed > 0, "no trouble at all: {disturbance:?}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_client_network_that_hears_nothing_takes_nobody_out() -> Result<()> {
    under(Disturbance::BlackHole)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn loss_on_the_clients_side_takes_nobody_out() -> Result<()> {
    under(Disturbance::Loss(30))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_flood_of_syns_takes_nobody_out_but_a_killed_server_still_goes() -> Result<()> {
    for method in METHODS {
        let mut scene = Scene::start(&Setting::new(method).rate(50.0))?;
        let mut flood = Flood::start(&scene.lab.network.clients, 300.0)?;
        scene.pass(TROUBLE)?;
        assert_nobody_out(&scene)?;

        let (seen, _) = scene.failover(Fault::ProcessKilled, 0, Duration::from_secs(1))?;
        say(&format!("{method}: {} SYNs", flood.sent()));
        flood.stop()?;
        assert_eq!(seen.wrong_changes(), []);
        let out = seen.milestones().table.unwrap_or(f64::INFINITY);
        say(&format!("{method}: out {out:.0} ms after the fault"));
        assert!(out <= 2000.0, "out after {out:.0} ms");
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_director_cut_off_from_its_servers_does_not_take_them_all_out_at_once() -> Result<()> {
    for method in METHODS {
        let mut scene = Scene::start(&Setting::new(method))?;
        ip(&scene.lab.network.switch, "link set director down\n")?;
        // Less than three regular checks: only the fast path could have taken anybody out.
        scene.pass(Duration::from_millis(1500))?;
        ip(&scene.lab.network.switch, "link set director up\n")?;
        let fewest = scene.history_since_healthy()?.into_iter().map(|seen| {
            scene.lab.servers.iter().filter(|server| !seen.table.is_out(server.address())).count()
        });
        assert!(fewest.min() >= Some(2), "more than half of the servers were taken out");
        (0..scene.lab.servers.len()).try_for_each(|server| scene.wait_until_back(server))?;
    }
    Ok(())
}
