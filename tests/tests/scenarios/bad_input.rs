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
        process,
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

/// Rules that tell the agent's own packets from others are named once, in policy routing and in nftables; those that
/// treat them as everybody's are not.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn rules_about_the_probes_mark_are_named() -> Result<()> {
    let network = director()?;
    let director = &network.director;
    for rule in [
        "fwmark 0x1000/0x1000 priority 77",
        "fwmark 0x4000/0x4000 priority 78",
        "not fwmark 51820 priority 79",
    ] {
        let words: Vec<&str> =
            ["ip", "rule", "add"].into_iter().chain(rule.split(' ')).chain(["lookup", "main"]).collect();
        process::run(director, &words, "")?;
    }
    let nft = "add table ip shaping\n\
               add chain ip shaping out { type route hook output priority 0; }\n\
               add rule ip shaping out meta mark and 0x40 == 0x40 counter\n\
               add chain ip shaping other\n\
               add rule ip shaping other meta mark 0x4000 counter\n";
    process::run(director, &["nft", "-f", "-"], nft)?;
    for (mark, named) in [(0x1040, true), (0x20, false)] {
        let config = format!("[agent]\nprobe-mark = {mark}\n{}", good_config()?.replacen("[agent]\n", "", 1));
        let mut agent = Agent::start(director, &config)?;
        agent.wait_until_ready()?;
        let lines = agent.lines();
        let warnings: Vec<_> = lines.iter().filter(|line| line.contains("rules of this director")).collect();
        assert_eq!(warnings.len(), usize::from(named), "{mark:#x}: {}", agent.diagnosis());
        for line in warnings {
            for part in ["ip rule 77 to table 254 (0x1000/0x1000)", "nft ip shaping out (0x40/0x40)"] {
                assert!(line.contains(part), "{part}: {line}");
            }
            for part in ["ip rule 78", "ip rule 79", "shaping other"] {
                assert!(!line.contains(part), "{part}: {line}");
            }
        }
        agent.stop()?;
    }
    Ok(())
}
