//! The agent can't do what it is asked: one clear message, a failing exit code, the table as it was.

use std::net::TcpListener;

use anyhow::Result;
use lvs_tests::{
    lab::{
        agent::{
            Agent,
            config::{AgentConfig, METRICS},
        },
        clients::Transport,
        director::{edit_table, prepare_ipvs, service_lines, service_option, table_text},
        layout::{Layout, Method, PORT},
        network::Network,
    },
    say,
};
use nix::sys::signal::Signal;

/// A director with a table that an agent would have reason to change: a weight of its service, and another service.
fn director() -> Result<Network> {
    let layout = Layout::new(Method::Masquerade);
    let network = Network::build(&layout.servers(0))?;
    prepare_ipvs(&network.director)?;
    let servers = [1, 2].map(|number| (layout.server_address(number), PORT).into());
    let service = service_option(layout.service(), Transport::Tcp);
    let own = service_lines(&service, Method::Masquerade, &servers).replace("-w 1", "-w 7");
    let other = "-A -t 192.0.2.99:443 -s wlc\n-a -t 192.0.2.99:443 -r 10.0.0.9:443 -m -w 3\n";
    edit_table(&network.director, &format!("{own}{other}"))?;
    Ok(network)
}

fn good_config() -> Result<String> {
    let layout = Layout::new(Method::Masquerade);
    AgentConfig::http(&layout, &[0, 1, 2].map(|number| (layout.server_address(number), PORT).into()))
        .to_toml()
}

/// Starts the agent, which must end on its own with a message that has all of `words`, and without a trace.
fn assert_refused(network: &Network, config: &str, wrapper: &[&str], words: &[&str]) -> Result<()> {
    let before = table_text(&network.director)?;
    let mut agent = Agent::start_under(&network.director, config, wrapper)?;
    let status = agent.wait_for_end()?;
    let text = agent.lines().join("\n");
    say(&format!("{status}: {text}"));
    assert!(status.code().is_some_and(|code| code != 0), "{status}: {text}");
    for word in words {
        assert!(text.contains(word), "\"{word}\" is missing in: {text}");
    }
    assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{text}");
    assert_eq!(table_text(&network.director)?, before);
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_faulty_configuration_changes_nothing_and_names_the_place() -> Result<()> {
    let network = director()?;
    let good = good_config()?;
    let cases = [
        ("[agent\n".to_owned(), &["agent.toml"][..]),
        (good.replace("scheduler = \"rr\"", "scheduler = \"fast\""), &["agent.toml", "fast"]),
        (good.replace("10.0.0.2:80", "10.0.0.1:80"), &["agent.toml", "10.0.0.1"]),
        (good.replace("fall = 3", "fal = 3"), &["agent.toml", "fal"]),
        (String::new(), &["agent.toml", "service"]),
    ];
    for (config, words) in cases {
        assert_refused(&network, &config, &[], words)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn without_the_privileges_it_says_which_are_missing() -> Result<()> {
    let network = director()?;
    for (dropped, words) in [("-net_admin", "CAP_NET_ADMIN"), ("-all", "CAP_")] {
        let wrapper = ["setpriv", "--bounding-set", dropped, "--inh-caps", dropped];
        assert_refused(&network, &good_config()?, &wrapper, &[words])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_metrics_port_in_use_is_named() -> Result<()> {
    let network = director()?;
    let taken = network.director.run(|| Ok(TcpListener::bind(METRICS)?))?;
    assert_refused(&network, &good_config()?, &[], &[METRICS, "in use"])?;
    drop(taken);
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_device_that_is_not_there_is_named() -> Result<()> {
    let network = director()?;
    let config = format!("{}\n[passive]\ndevices = [\"nosuch0\"]\n", good_config()?);
    assert_refused(&network, &config, &[], &["nosuch0"])
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_second_signal_to_stop_is_harmless() -> Result<()> {
    let network = director()?;
    let mut agent = Agent::start(&network.director, &good_config()?)?;
    agent.wait_until_ready()?;
    agent.signal(Signal::SIGTERM)?;
    agent.signal(Signal::SIGTERM)?;
    agent.signal(Signal::SIGINT)?;
    let status = agent.wait_for_end()?;
    assert!(status.code().is_some(), "ended by a signal instead of on its own: {status}");
    assert!(!agent.lines().join("\n").contains("panicked"), "{}", agent.diagnosis());
    Ok(())
}
