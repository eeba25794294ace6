//! Nothing fails: the agent must leave the table alone.

use std::time::Duration;

use anyhow::Result;
use lvs_tests::{
    clock::Moment,
    director::Method,
    requests::Summary,
    say,
    scene::{Scene, Setting},
    watch::changes,
};

/// Traffic without a fault. (`lvs-demo --healthy 60` does it for longer.)
const HEALTHY: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn healthy_traffic_changes_nothing() -> Result<()> {
    for method in [Method::Masquerade, Method::DirectRoute] {
        let mut scene = Scene::start(&Setting::new(method))?;
        scene.pass(HEALTHY)?;
        assert_eq!(changes(&scene.history_since_healthy()?), []);
        let edits = scene.agent.events().into_iter().filter(|event| event.at >= scene.healthy_since);
        assert_eq!(edits.filter(lvs_tests::agent_log::AgentEvent::is_edit).collect::<Vec<_>>(), []);

        let since = scene.healthy_since;
        let summary = Summary::between(&scene.load.stop()?, since, Moment::now());
        say(&format!("{method}: {summary}"));
        assert_eq!(summary.failed(), 0);
    }
    Ok(())
}
