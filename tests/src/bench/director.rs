//! Throughput of a director with the eBPF programs on its device, without them, and with programs that do nothing, in
//! turn.

use std::{
    fmt::Write as _,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lvs_agent::{
    model::{Mac, Protocol},
    passive::{OwnMarks, Programs, Signals, Sizes, WireKey},
};
use lvs_common::ServerId;

use crate::{
    bench::noop::NoopProgram,
    lab::{
        clients::Transport,
        director::{edit_table, prepare_ipvs, service_lines, service_option},
        layout::{Layout, Method, PORT},
        leftovers,
        network::{LAN, Network, WAN, ip},
        process,
    },
};

/// What must be left of the throughput.
const REQUIRED: f64 = 0.97;
/// How long anything may be silent before it counts as broken.
const PATIENCE: Duration = Duration::from_secs(30);
const MEBIBYTE: usize = 1 << 20;

/// What is measured
#[derive(Clone, Debug, clap::Args)]
pub struct ThroughputOptions {
    /// How often each load runs with the programs and without
    #[arg(long, default_value_t = 9)]
    pub rounds: usize,
    /// Length of the stream, in MiB
    #[arg(long, default_value_t = 32)]
    pub stream: usize,
    /// How many connections follow one another
    #[arg(long, default_value_t = 300)]
    pub connections: u32,
}

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Workload {
    /// One stream, whose segments pass the director in large buffers, as with segmentation and receive offload.
    Stream,
    /// The same with every segment a packet of its own.
    Packets,
    /// A connection after another, each with a byte there and one back.
    Connections,
}

impl Workload {
    const ALL: [Self; 3] = [Self::Stream, Self::Packets, Self::Connections];

    fn name(self) -> &'static str {
        match self {
            Self::Stream => "one stream, offloads on (MB/s)",
            Self::Packets => "one stream, offloads off (MB/s)",
            Self::Connections => "short connections (1/s)",
        }
    }
}

/// What hangs on the director's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attached {
    /// Nothing, and no qdisc for it either.
    Nothing,
    /// A program that does nothing: what being attached costs.
    Noop,
    /// The agent's programs.
    Agent,
}

impl Attached {
    const ALL: [Self; 3] = [Self::Nothing, Self::Noop, Self::Agent];
}

/// Throughput of one load, round by round.
#[derive(Default)]
struct Series {
    nothing: Vec<f64>,
    noop: Vec<f64>,
    agent: Vec<f64>,
}

impl Series {
    fn of(&mut self, attached: Attached) -> &mut Vec<f64> {
        match attached {
            Attached::Nothing => &mut self.nothing,
            Attached::Noop => &mut self.noop,
            Attached::Agent => &mut self.agent,
        }
    }
}

/// Measures all of it and prints the table; whether enough is left of every throughput.
pub fn compare(options: &ThroughputOptions) -> Result<bool> {
    let mut table = format!(
        "{} rounds, in each of them without programs, with empty ones and with the agent's, in changing order; medians, \
         lowest to highest\n\n\
         {:46} {:>24} {:>24} {:>24} {:>7} {:>15} {:>7} {:>8}\n",
        options.rounds, "load", "without", "empty", "agent", "ratio", "of each round", "empty", "to empty"
    );
    let mut enough = true;
    for method in [Method::Masquerade, Method::DirectRoute] {
        let mut bench = DirectorBench::start(method)?;
        for load in Workload::ALL {
            let series = bench.measure(load, options)?;
            enough &= ratio(&series.agent, &series.nothing) >= REQUIRED;
            writeln!(table, "{}", line(&format!("{method}, {}", load.name()), &series))?;
        }
        bench.end()?;
    }
    let verdict = if enough { "at least" } else { "not everywhere" };
    writeln!(table, "\nThe ratio of the medians, the agent's to none, is {verdict} {REQUIRED}.")?;
    write!(io::stdout(), "{table}")?;
    Ok(enough)
}

/// One load's line in the table.
fn line(name: &str, series: &Series) -> String {
    let Series { nothing, noop, agent } = series;
    let rounds: Vec<_> = agent.iter().zip(nothing).map(|(agent, nothing)| agent / nothing).collect();
    let (lowest, highest) = range(&rounds);
    format!(
        "{name:46} {:>24} {:>24} {:>24} {:7.3} {lowest:>8.3}-{highest:.3} {:>8.3} {:>8.3}",
        spread(nothing, 1),
        spread(noop, 1),
        spread(agent, 1),
        ratio(agent, nothing),
        ratio(noop, nothing),
        ratio(agent, noop),
    )
}

/// The ratio of two medians.
fn ratio(one: &[f64], other: &[f64]) -> f64 {
    median(one) / median(other)
}

/// A director between a client and a server, and the programs.
struct DirectorBench {
    network: Network,
    kernel: Programs,
    signals: Signals,
    noop: NoopProgram,
}

impl DirectorBench {
    fn start(method: Method) -> Result<Self> {
        leftovers::remove_of_dead_runs()?;
        let layout = Layout::new(method).servers(1);
        let network = Network::build(&layout)?;
        prepare_ipvs(&network.director)?;
        let server = SocketAddr::new(layout.server_address(0), PORT);
        let name = service_option(layout.service(), Transport::Tcp);
        edit_table(&network.director, &service_lines(&name, method, &[server]))?;
        let (mut kernel, signals) = Programs::load(Sizes::for_endpoints(1), OwnMarks::default(), 0)?;
        let key = match method {
            Method::DirectRoute => WireKey::link(Protocol::Tcp, layout.service(), mac(&network)?),
            _ => WireKey::address(Protocol::Tcp, server),
        };
        kernel.watch(&key, ServerId(0))?;
        serve(&network)?;
        Ok(Self { network, kernel, signals, noop: NoopProgram::load()? })
    }

    /// Each round begins with another of the three.
    fn measure(&mut self, load: Workload, options: &ThroughputOptions) -> Result<Series> {
        self.set_offloads(load != Workload::Packets)?;
        // What comes first finds empty caches and no neighbours.
        self.run(load, options)?;
        let mut series = Series::default();
        for round in 0..options.rounds {
            for turn in 0..Attached::ALL.len() {
                let attached = Attached::ALL[(round + turn) % Attached::ALL.len()];
                self.attach(attached)?;
                let before = self.packets();
                series.of(attached).push(self.run(load, options)?);
                let have_seen = self.packets() > before;
                ensure!(have_seen == (attached == Attached::Agent), "the programs have seen: {have_seen}");
                self.detach(attached)?;
            }
        }
        Ok(series)
    }

    fn run(&self, load: Workload, options: &ThroughputOptions) -> Result<f64> {
        let service = self.network.layout.service();
        self.network.clients.run(|| match load {
            Workload::Stream | Workload::Packets => stream(service, options.stream * MEBIBYTE),
            Workload::Connections => connections(service, options.connections),
        })
    }

    /// Packets that count for the server.
    fn packets(&self) -> u64 {
        self.signals.counters(ServerId(0)).packets_in
    }

    fn attach(&mut self, attached: Attached) -> Result<()> {
        let Self { network, kernel, noop, .. } = self;
        network.director.run(|| match attached {
            Attached::Nothing => Ok(()),
            Attached::Noop => noop.attach(LAN),
            Attached::Agent => Ok(kernel.attach(LAN)?),
        })
    }

    /// Takes the qdisc away as well, where there is one: what the kernel does for it is part of the cost.
    fn detach(&mut self, attached: Attached) -> Result<()> {
        let Self { network, kernel, noop, .. } = self;
        let director = &network.director;
        director.run(|| match attached {
            Attached::Nothing => Ok(()),
            Attached::Noop => noop.detach(),
            Attached::Agent => Ok(kernel.detach(LAN)?),
        })?;
        let qdiscs = process::run(director, &["tc", "qdisc", "show", "dev", LAN], "")?;
        if qdiscs.contains("clsact") {
            process::run(director, &["tc", "qdisc", "del", "dev", LAN, "clsact"], "")?;
        }
        Ok(())
    }

    /// Whether the client hands segments over in large buffers.
    fn set_offloads(&self, on: bool) -> Result<()> {
        let most = if on { 65_535 } else { 1 };
        ip(&self.network.clients, &format!("link set {WAN} gso_max_segs {most}\n")).map(drop)
    }

    fn end(self) -> Result<()> {
        let service = service_option(self.network.layout.service(), Transport::Tcp);
        edit_table(&self.network.director, &format!("-D {service}\n"))
    }
}

/// The server's address on the link.
fn mac(network: &Network) -> Result<Mac> {
    let text = ip_show(network)?;
    let word = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
    let word = word.context("the server's device has no link-layer address")?;
    let bytes = word.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>()?;
    Mac::try_from(bytes).map_err(|bytes| anyhow::anyhow!("a link-layer address of {} bytes", bytes.len()))
}

fn ip_show(network: &Network) -> Result<String> {
    process::run(&network.servers[0], &["ip", "link", "show", "dev", LAN], "")
}

/// The real server, on a thread that ends with the process: reads to the end of a stream, then answers with a byte.
fn serve(network: &Network) -> Result<()> {
    let listener = network.servers[0].run(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?))?;
    thread::Builder::new().name("server".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            // A client's errors are its own matter; it will miss the answer.
            stream.and_then(read_to_end).ok();
        }
    })?;
    Ok(())
}

fn read_to_end(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = vec![0; MEBIBYTE];
    while stream.read(&mut bytes)? > 0 {}
    stream.write_all(b".")
}

/// Sends so many bytes; MB/s until the server has taken the last of them.
fn stream(service: SocketAddr, length: usize) -> Result<f64> {
    let bytes = vec![0; MEBIBYTE];
    let mut stream = connect(service)?;
    let started = Instant::now();
    for _ in 0..length / MEBIBYTE {
        stream.write_all(&bytes)?;
    }
    wait_for_answer(&mut stream)?;
    #[expect(clippy::cast_precision_loss, reason = "a few hundred million")]
    let megabytes = length as f64 / 1e6;
    Ok(megabytes / started.elapsed().as_secs_f64())
}

/// One connection after another; how many a second.
fn connections(service: SocketAddr, count: u32) -> Result<f64> {
    let started = Instant::now();
    for _ in 0..count {
        let mut stream = connect(service)?;
        stream.write_all(b"?")?;
        wait_for_answer(&mut stream)?;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

fn connect(service: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&service, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn wait_for_answer(stream: &mut TcpStream) -> Result<()> {
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0]).context("no answer from the server")
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn median(values: &[f64]) -> f64 {
    sorted(values).get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn range(values: &[f64]) -> (f64, f64) {
    let sorted = sorted(values);
    let or_none = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
    (or_none(sorted.first()), or_none(sorted.last()))
}

fn spread(values: &[f64], digits: usize) -> String {
    let (lowest, highest) = range(values);
    format!("{:.digits$} ({lowest:.digits$}-{highest:.digits$})", median(values))
}
