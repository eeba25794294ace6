//! Debian's Prometheus scrapes the agent and Debian's `node_exporter`, and what both say of a server is joined.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lvs_tests::{
    lab::{
        Lab,
        agent::{
            Agent,
            config::{AgentConfig, METRICS},
            metric,
        },
        director::prepare_ipvs,
        layout::{Layout, Method},
        namespace::Namespace,
        process::Process,
        wait,
    },
    say,
};
use serde_json::Value;

/// Where they are unpacked.
const MONITORING: &str = "LVS_MONITORING";
const PROMETHEUS: &str = "127.0.0.1:9090";
const NODE_EXPORTER: &str = "127.0.0.1:9100";
/// Programs of many megabytes start in an emulated machine.
const LIMIT: Duration = Duration::from_mins(3);

/// The labels by which `node_exporter` names a server.
const SERVER: &str = "host, local_address, local_port, remote_address, remote_port, proto, local_mark";

fn program(name: &str) -> Result<PathBuf> {
    let root =
        env::var_os(MONITORING).with_context(|| format!("{MONITORING} is not set; use cargo xtask test"))?;
    Ok(PathBuf::from(root).join("usr/bin").join(name))
}

fn config(rules: &str) -> String {
    let job = |name: &str, target: &str| {
        format!(
            "  - job_name: {name}\n    static_configs: [{{ targets: [\"{target}\"], labels: {{ host: lb1 }} }}]\n"
        )
    };
    format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [\"{rules}\"]\nscrape_configs:\n{}{}",
        job("lvs-agent", METRICS),
        job("node", NODE_EXPORTER)
    )
}

/// The samples that a query has now: labels and value of each.
fn query(director: &Namespace, query: &str) -> Result<Vec<(Value, f64)>> {
    let mut encoded = String::new();
    for byte in query.bytes() {
        write!(encoded, "%{byte:02x}")?;
    }
    let text = director.run(|| {
        let mut stream = TcpStream::connect(PROMETHEUS)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(stream, "GET /api/v1/query?query={encoded} HTTP/1.0\r\nHost: {PROMETHEUS}\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })?;
    let (_, body) = text.split_once("\r\n\r\n").context("an answer with a body")?;
    let answer: Value = serde_json::from_str(body).with_context(|| text.clone())?;
    ensure!(answer["status"] == "success", "{query}: {answer}");
    let samples = answer["data"]["result"].as_array().context("a vector")?.iter();
    samples
        .map(|sample| {
            let value = sample["value"][1].as_str().and_then(|value| value.parse().ok());
            Ok((sample["metric"].clone(), value.with_context(|| sample.to_string())?))
        })
        .collect()
}

/// Servers that come and go, again and again, leave neither series nor memory behind.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn servers_that_are_replaced_again_and_again_take_no_more_memory() -> Result<()> {
    const ROUNDS: u16 = 26;
    const SERVERS: u16 = 250;
    /// After these the allocator has what it needs, and the history as many events as it keeps: a server leaves three
    /// and more.
    const WARM: u16 = 16;
    const SOON: Duration = Duration::from_secs(10);
    let layout = Layout::new(Method::Masquerade);
    let lab = Lab::build(&layout)?;
    let director = &lab.network.director;
    prepare_ipvs(director)?;
    let config = |round: u16| {
        let mut text = format!(
            "[agent]\nmetrics = \"{METRICS}\"\n[[service]]\nname = \"round {round}\"\naddress = \"{}\"\n\
             forward = \"masquerade\"\ncheck = {{ type = \"connect\", interval = \"60s\", timeout = \"1s\" }}\n",
            layout.service()
        );
        for host in 1..=SERVERS {
            writeln!(text, "[[service.server]]\naddress = \"10.{}.0.{host}:80\"", 100 + round)?;
        }
        anyhow::Ok(text)
    };
    let mut agent = Agent::start(director, &config(0)?)?;
    agent.wait_until_ready()?;
    let mut resident = Vec::new();
    for round in 1..=ROUNDS {
        fs::write(agent.config_file(), config(round)?)?;
        let reloaded = agent.command(&["reload"])?;
        ensure!(reloaded.code == Some(0), "{reloaded}\n{}", agent.diagnosis());
        let of = |metrics: &str, round: u16| {
            metrics.lines().filter(|line| line.contains(&format!("10.{}.0.", 100 + round))).count()
        };
        // The passive side is told of the change a moment later.
        let metrics = wait::until("the series of the servers before to go", SOON, || {
            let metrics = agent.metrics()?;
            Ok((of(&metrics, round) >= usize::from(SERVERS) && of(&metrics, round - 1) == 0)
                .then_some(metrics))
        })?;
        resident.push(metric(&metrics, "process_resident_memory_bytes", &[]).context("its memory")?);
    }
    let (warm, end) = (resident[usize::from(WARM)], resident[usize::from(ROUNDS) - 1]);
    say(&format!("memory after {WARM} rounds {:.1} MB, after {ROUNDS} {:.1} MB", warm / 1e6, end / 1e6));
    ensure!(end < 1.15 * warm, "it grows: {resident:?}");
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn prometheus_scrapes_the_agent_and_joins_it_with_node_exporter() -> Result<()> {
    let layout = Layout::new(Method::Masquerade);
    let lab = Lab::build(&layout)?;
    let director = &lab.network.director;
    prepare_ipvs(director)?;
    let mut agent = Agent::start(director, &AgentConfig::http(&layout, &lab.addresses()).to_toml()?)?;
    agent.wait_until_ready()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("prometheus.yml");
    let rules =
        fs::canonicalize("contrib/mixin/generated").context("the mixin, from the repository's root")?;
    fs::write(&file, config(&format!("{}/*.yaml", rules.display())))?;
    let start = |name: &str, arguments: &[String]| {
        let mut command = Command::new(program(name)?);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Process::start(director, name, &mut command)
    };
    let _node = start(
        "prometheus-node-exporter",
        &[
            "--collector.disable-defaults".to_owned(),
            "--collector.ipvs".to_owned(),
            format!("--web.listen-address={NODE_EXPORTER}"),
        ],
    )?;
    let _prometheus = start(
        "prometheus",
        &[
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.path().display()),
            format!("--web.listen-address={PROMETHEUS}"),
        ],
    )?;
    let servers = lab.addresses().len();
    let has = |expression: &str, expected: usize| {
        wait::until_true(&format!("{expected} samples of {expression}"), LIMIT, || {
            Ok(query(director, expression).is_ok_and(|samples| samples.len() == expected))
        })
        .with_context(|| agent.diagnosis())
    };
    has("up == 1", 2)?;
    has("lvs_server_up == 1", servers)?;
    has("lvs_server_table_weight > 0", servers)?;
    // The query of docs/metrics.md, with weights: both sides have read them from the kernel.
    let joined =
        format!("node_ipvs_backend_weight * on ({SERVER}) group_left (service, server) lvs_server_info");
    has(&joined, servers)?;
    for (labels, weight) in query(director, &joined)? {
        let own =
            format!("lvs_server_table_weight{{server={}, service={}}}", labels["server"], labels["service"]);
        let found = query(director, &own)?;
        say(&format!("{own}: {found:?}; node_exporter: {weight}"));
        ensure!(found.len() == 1 && (found[0].1 - weight).abs() < f64::EPSILON, "{found:?}, not {weight}");
    }
    has("server:node_ipvs_backend_connections_active:sum", servers)?;
    has("service:lvs_servers_serving:count", 1)?;
    for metric in [
        "lvs_build_info",
        "lvs_agent_info",
        "lvs_config_last_reload_successful",
        "lvs_check_seconds_count",
        "process_resident_memory_bytes",
        "lvs_passive_map_entries{map=\"handshakes\"}",
        "lvs_passive_map_max_entries{map=\"servers\"}",
        "lvs_probes_withheld_total",
    ] {
        let found = query(director, metric)?;
        ensure!(!found.is_empty(), "Prometheus has no {metric}");
    }
    ensure!(
        query(director, "ALERTS{alertstate=\"firing\"}")?.is_empty(),
        "nothing is wrong, and an alert fires"
    );
    Ok(())
}
