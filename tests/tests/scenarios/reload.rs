//! The configuration is read again: what has changed is done, and nothing else.

use std::{fmt::Write as _, fs, net::SocketAddr, time::Duration};

use anyhow::Result;
use lvs_tests::{
    lab::{
        agent::{Agent, config::AgentConfig},
        clients::Transport,
        clock::Moment,
        director::{edit_table, prepare_ipvs, service_option, table::ChangeKind, table_watcher::changes},
        layout::{Layout, Method, PORT},
        network::Network,
        wait,
    },
    say,
    testbed::{Setup, Testbed},
};
use nix::sys::signal::Signal;

use crate::expect_failover::HEALTHY;

/// How long a reload may take to show in the table.
const LIMIT: Duration = Duration::from_secs(15);
/// How many services the large table has, and servers in each.
const LARGE: (u16, u8) = (2000, 10);

/// All changes of the table since everything was as it should be.
fn moves(testbed: &Testbed) -> Result<Vec<(SocketAddr, ChangeKind)>> {
    let all = changes(&testbed.history_since_healthy()?);
    Ok(all.into_iter().map(|change| (change.change.server, change.change.kind)).collect())
}

/// Whether the log has such an event.
fn has_event(agent: &Agent, event: &str) -> bool {
    agent.lines().iter().any(|line| line.contains(&format!("\"event\":\"{event}\"")))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_broken_configuration_changes_nothing_while_it_runs() -> Result<()> {
    let setup = Setup::new(Method::Masquerade);
    let mut testbed = Testbed::start(&setup)?;
    testbed.run_for(HEALTHY)?;
    testbed.reset_healthy_since();
    let good = setup.config.to_toml()?;
    let cases = [
        ("[agent\n".to_owned(), &["agent.toml:1:"][..]),
        (good.replace("fall = 3", "fal = 3"), &["agent.toml:", "fal"]),
        (good.replace("10.0.0.2:80", "10.0.0.1:80"), &["agent.toml:", "10.0.0.1"]),
    ];
    for (text, words) in cases {
        fs::write(testbed.agent.config_file(), text)?;
        let output = testbed.agent.command(&["reload"])?;
        assert_eq!(output.code, Some(2), "{output}");
        assert!(output.stderr.contains("the old configuration stays in force"), "{output}");
        assert!(words.iter().all(|word| output.stderr.contains(word)), "{output}");
    }
    fs::remove_file(testbed.agent.config_file())?;
    assert_eq!(testbed.agent.command(&["reload"])?.code, Some(2));
    testbed.agent.signal(Signal::SIGHUP)?;
    testbed.wait("SIGHUP to be refused", LIMIT, |testbed| {
        Ok(testbed.agent.lines().iter().any(|line| line.contains("reload-failed") && line.contains("SIGHUP")))
    })?;
    testbed.wait_until_serving()?;
    assert_eq!(moves(&testbed)?, [], "{}", testbed.diagnosis());
    fs::write(testbed.agent.config_file(), good)?;
    let output = testbed.agent.command(&["reload"])?;
    assert_eq!(
        (output.code, output.stdout.trim_end().ends_with("the table stays as it is")),
        (Some(0), true),
        "{output}"
    );
    assert_eq!(moves(&testbed)?, [], "{}", testbed.diagnosis());
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_reload_touches_only_what_has_changed() -> Result<()> {
    let setup = Setup::new(Method::Masquerade);
    let mut testbed = Testbed::start(&setup)?;
    let servers = testbed.lab.addresses();
    testbed.run_for(HEALTHY)?;

    // One weight, by command.
    let mut config = setup.config.clone();
    config.service[0].server[0].weight = 5;
    config.agent.autoreload = true;
    testbed.reset_healthy_since();
    fs::write(testbed.agent.config_file(), config.to_toml()?)?;
    let output = testbed.agent.command(&["reload"])?;
    assert_eq!(output.code, Some(0), "{output}");
    testbed.wait(
        "the weight",
        LIMIT,
        |testbed| Ok(testbed.watcher.table()?.weight(servers[0]) == Some(5)),
    )?;
    testbed.run_for(HEALTHY)?;
    assert_eq!(moves(&testbed)?, [(servers[0], ChangeKind::Weight(1, 5))], "{}", testbed.diagnosis());

    // A server goes, by a file that replaces the old one; autoreload was switched on just now.
    config.service[0].server.truncate(2);
    testbed.reset_healthy_since();
    let replacement = testbed.agent.config_file().with_extension("new");
    fs::write(&replacement, config.to_toml()?)?;
    fs::rename(&replacement, testbed.agent.config_file())?;
    testbed.wait("the server to go", LIMIT, |testbed| {
        Ok(testbed.watcher.table()?.weight(servers[2]).is_none())
    })?;
    let gone = Moment::now();
    testbed.run_for(HEALTHY)?;
    assert_eq!(moves(&testbed)?, [(servers[2], ChangeKind::Removed)], "{}", testbed.diagnosis());
    let label = format!("server=\"{}\"", servers[2]);
    let metrics = testbed.agent.metrics()?;
    let left: Vec<&str> =
        metrics.lines().filter(|line| line.contains(&label) && line.contains("service=\"web\"")).collect();
    assert!(left.is_empty() && !metrics.contains("NaN"), "its series have gone with it: {left:?}");
    let name = testbed.lab.servers[2].name.clone();
    assert_eq!(testbed.served_since(&name, gone), 0);

    // A service comes, with that server, by SIGHUP.
    let layout = &setup.layout;
    let mut second = AgentConfig::http(layout, &servers[2..]).service.remove(0);
    second.name = "second".to_owned();
    second.address = Some(layout.second_service().to_string());
    config.agent.autoreload = false;
    config.service.push(second);
    testbed.reset_healthy_since();
    fs::write(testbed.agent.config_file(), config.to_toml()?)?;
    testbed.agent.signal(Signal::SIGHUP)?;
    testbed.wait("the server to serve there", LIMIT, |testbed| {
        Ok(testbed.watcher.table()?.weight(servers[2]) == Some(1))
    })?;
    let watched = format!("server=\"{}\"", servers[2]);
    testbed.wait("its signal", LIMIT, |testbed| {
        let text = testbed.agent.metrics()?;
        let signal = text.lines().find(|line| {
            line.starts_with("lvs_passive_signal{")
                && line.contains(&watched)
                && line.contains("service=\"second\"")
                && line.ends_with(" 1")
        });
        Ok(signal.is_some())
    })?;
    let of_others: Vec<_> =
        moves(&testbed)?.into_iter().filter(|(server, _)| *server != servers[2]).collect();
    assert_eq!(of_others, [], "{}", testbed.diagnosis());

    // And goes again.
    config.service.pop();
    testbed.reset_healthy_since();
    fs::write(testbed.agent.config_file(), config.to_toml()?)?;
    assert_eq!(testbed.agent.command(&["reload"])?.code, Some(0));
    testbed.wait("the service to go", LIMIT, |testbed| Ok(testbed.watcher.table()?.services.len() == 1))?;
    assert!(!has_event(&testbed.agent, "reload-failed"), "{}", testbed.diagnosis());
    let harmed = testbed.load.count(|request| {
        // Connections of the server that went are cut off with it.
        request.is_harmed()
            && !(request.started <= gone && gone.since(request.started) < Duration::from_secs(2))
    });
    assert_eq!(harmed, 0, "{}", testbed.diagnosis());
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
    let output = agent.command(&["reload"])?;
    let answered = Moment::now();
    assert_eq!(output.code, Some(0), "{output}");
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
