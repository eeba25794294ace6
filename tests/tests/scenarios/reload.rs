//! The configuration is read again: what has changed is done, and nothing else.

use std::{fmt::Write as _, fs, net::SocketAddr, time::Duration};

use anyhow::Result;
use lvs_tests::{
    lab::{
        agent::{Agent, config::AgentConfig, metric},
        clients::Transport,
        clock::Moment,
        director::{edit_table, prepare_ipvs, service_option, table::ChangeKind, table_watcher::changes},
        layout::{Layout, Method, PORT},
        network::Network,
        wait,
    },
    say,
    testbed::{Scene, Setting},
};
use nix::sys::signal::Signal;

use crate::failing::HEALTHY;

/// How long a reload may take to show in the table.
const LIMIT: Duration = Duration::from_secs(15);
/// How many services the large table has, and servers in each.
const LARGE: (u16, u8) = (2000, 10);

/// All changes of the table since everything was as it should be.
fn moves(scene: &Scene) -> Result<Vec<(SocketAddr, ChangeKind)>> {
    let all = changes(&scene.history_since_healthy()?);
    Ok(all.into_iter().map(|change| (change.change.server, change.change.kind)).collect())
}

/// Whether the log has such an event.
fn has_event(agent: &Agent, event: &str) -> bool {
    agent.lines().iter().any(|line| line.contains(&format!("\"event\":\"{event}\"")))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_broken_configuration_changes_nothing_while_it_runs() -> Result<()> {
    let setting = Setting::new(Method::Masquerade);
    let mut scene = Scene::start(&setting)?;
    scene.pass(HEALTHY)?;
    scene.forget();
    let good = setting.config.to_toml()?;
    let cases = [
        ("[agent\n".to_owned(), &["agent.toml:1:"][..]),
        (good.replace("fall = 3", "fal = 3"), &["agent.toml:", "fal"]),
        (good.replace("10.0.0.2:80", "10.0.0.1:80"), &["agent.toml:", "10.0.0.1"]),
    ];
    for (text, words) in cases {
        fs::write(scene.agent.config_file(), text)?;
        let told = scene.agent.command(&["reload"])?;
        assert_eq!(told.code, Some(2), "{told}");
        assert!(told.errors.contains("the old configuration stays in force"), "{told}");
        assert!(words.iter().all(|word| told.errors.contains(word)), "{told}");
    }
    fs::remove_file(scene.agent.config_file())?;
    assert_eq!(scene.agent.command(&["reload"])?.code, Some(2));
    scene.agent.signal(Signal::SIGHUP)?;
    scene.wait("SIGHUP to be refused", LIMIT, |scene| {
        Ok(scene.agent.lines().iter().any(|line| line.contains("reload-failed") && line.contains("SIGHUP")))
    })?;
    scene.wait_until_serving()?;
    assert_eq!(moves(&scene)?, [], "{}", scene.diagnosis());
    fs::write(scene.agent.config_file(), good)?;
    let told = scene.agent.command(&["reload"])?;
    assert_eq!(
        (told.code, told.text.trim_end().ends_with("the table stays as it is")),
        (Some(0), true),
        "{told}"
    );
    assert_eq!(moves(&scene)?, [], "{}", scene.diagnosis());
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_reload_touches_only_what_has_changed() -> Result<()> {
    let setting = Setting::new(Method::Masquerade);
    let mut scene = Scene::start(&setting)?;
    let servers = scene.lab.addresses();
    scene.pass(HEALTHY)?;

    // One weight, by command.
    let mut config = setting.config.clone();
    config.service[0].server[0].weight = 5;
    config.agent.autoreload = true;
    scene.forget();
    fs::write(scene.agent.config_file(), config.to_toml()?)?;
    let told = scene.agent.command(&["reload"])?;
    assert_eq!(told.code, Some(0), "{told}");
    scene.wait("the weight", LIMIT, |scene| Ok(scene.watch.table()?.weight(servers[0]) == Some(5)))?;
    scene.pass(HEALTHY)?;
    assert_eq!(moves(&scene)?, [(servers[0], ChangeKind::Weight(1, 5))], "{}", scene.diagnosis());

    // A server goes, by a file that replaces the old one; autoreload was switched on just now.
    config.service[0].server.truncate(2);
    scene.forget();
    let replacement = scene.agent.config_file().with_extension("new");
    fs::write(&replacement, config.to_toml()?)?;
    fs::rename(&replacement, scene.agent.config_file())?;
    scene.wait("the server to go", LIMIT, |scene| Ok(scene.watch.table()?.weight(servers[2]).is_none()))?;
    let gone = Moment::now();
    scene.pass(HEALTHY)?;
    assert_eq!(moves(&scene)?, [(servers[2], ChangeKind::Removed)], "{}", scene.diagnosis());
    let label = format!("server=\"{}\"", servers[2]);
    let up = metric(&scene.agent.metrics()?, "lvs_server_up", &[&label]);
    assert!(up.is_none_or(f64::is_nan), "{up:?}");
    let name = scene.lab.servers[2].name.clone();
    assert_eq!(scene.served_since(&name, gone), 0);

    // A service comes, with that server, by SIGHUP.
    let layout = &setting.layout;
    let mut second = AgentConfig::http(layout, &servers[2..]).service.remove(0);
    second.name = "second".to_owned();
    second.address = Some(layout.second_service().to_string());
    config.agent.autoreload = false;
    config.service.push(second);
    scene.forget();
    fs::write(scene.agent.config_file(), config.to_toml()?)?;
    scene.agent.signal(Signal::SIGHUP)?;
    scene.wait("the server to serve there", LIMIT, |scene| {
        Ok(scene.watch.table()?.weight(servers[2]) == Some(1))
    })?;
    let watched = format!("server=\"{}\"", servers[2]);
    scene.wait("its signal", LIMIT, |scene| {
        let text = scene.agent.metrics()?;
        let signal = text.lines().find(|line| {
            line.starts_with("lvs_passive_signal{")
                && line.contains(&watched)
                && line.contains("service=\"second\"")
                && line.ends_with(" 1")
        });
        Ok(signal.is_some())
    })?;
    let of_others: Vec<_> = moves(&scene)?.into_iter().filter(|(server, _)| *server != servers[2]).collect();
    assert_eq!(of_others, [], "{}", scene.diagnosis());

    // And goes again.
    config.service.pop();
    scene.forget();
    fs::write(scene.agent.config_file(), config.to_toml()?)?;
    assert_eq!(scene.agent.command(&["reload"])?.code, Some(0));
    scene.wait("the service to go", LIMIT, |scene| Ok(scene.watch.table()?.services.len() == 1))?;
    assert!(!has_event(&scene.agent, "reload-failed"), "{}", scene.diagnosis());
    let harmed = scene.load.count(|request| {
        // Connections of the server that went are cut off with it.
        request.is_harmed()
            && !(request.started <= gone && gone.since(request.started) < Duration::from_secs(2))
    });
    assert_eq!(harmed, 0, "{}", scene.diagnosis());
    Ok(())
}

/// The large configuration, in which the first server has this weight.
fn large_config(weight: u16) -> Result<String> {
    let mut text = String::from(
        "[agent]\nmetrics = \"off\"\n[passive]\nenabled = false\n[defaults]\nforward = \"masquerade\"\nscheduler = \"rr\"\n\
         check = { type = \"on\", interval = \"24h\" }\n",
    );
    for service in 0..LARGE.0 {
        writeln!(text, "[[service]]\naddress = \"{}\"", large_service(service))?;
        for server in 0..LARGE.1 {
            let weight = if (service, server) == (0, 0) { weight } else { 1 };
            writeln!(text, "[[service.server]]\naddress = \"{}\"\nweight = {weight}", large_server(server))?;
        }
    }
    Ok(text)
}

fn large_service(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    ([198, 18, high, low], PORT).into()
}

fn large_server(number: u8) -> SocketAddr {
    ([10, 0, 0, number + 1], PORT).into()
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn one_weight_of_a_large_table_is_one_edit_in_two_seconds() -> Result<()> {
    let network = Network::build(&Layout::new(Method::Masquerade).servers(0))?;
    prepare_ipvs(&network.director)?;
    let mut lines = String::new();
    for number in 0..LARGE.0 {
        let service = service_option(large_service(number), Transport::Tcp);
        writeln!(lines, "-A {service} -s rr")?;
        for server in 0..LARGE.1 {
            writeln!(lines, "-a {service} -r {} -m -w 1", large_server(server))?;
        }
    }
    edit_table(&network.director, &lines)?;
    let mut agent = Agent::start(&network.director, &large_config(1)?)?;
    agent.wait_until_ready()?;
    let edits = |agent: &Agent| {
        agent.events().into_iter().filter(lvs_tests::lab::agent::log::AgentEvent::is_edit).collect::<Vec<_>>()
    };
    assert_eq!(edits(&agent), [], "the table is as it was found");
    fs::write(agent.config_file(), large_config(7)?)?;
    let begun = Moment::now();
    let told = agent.command(&["reload"])?;
    let answered = Moment::now();
    assert_eq!(told.code, Some(0), "{told}");
    wait::until_true("the edit", LIMIT, || Ok(!edits(&agent).is_empty()))?;
    let made = edits(&agent);
    say(&format!(
        "reload of {} services: answered after {:.3} s, the edit after {:.3} s",
        LARGE.0,
        answered.since(begun).as_secs_f64(),
        made[0].at.since(begun).as_secs_f64()
    ));
    assert!(made[0].at.since(begun) < Duration::from_secs(2), "{made:?}");
    // A second one, of the same file: by its answer every edit of the first has been made.
    assert_eq!(agent.command(&["reload"])?.code, Some(0));
    assert_eq!(edits(&agent).len(), 1, "{}", agent.diagnosis());
    Ok(())
}
